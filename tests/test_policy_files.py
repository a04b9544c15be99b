"""Every policy's folder: its page, and what its good/ and bad/ files say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.builders import ROOT, request
from webhook.facts import NO_FACTS
from webhook.loader import load_policies
from webhook.manifests import read_manifests
from webhook.policy import Policy
from webhook.typed_yaml import compose, convert

POLICIES = {name: loaded.policy for name, loaded in load_policies().items()}
FILES = sorted(path for path in (ROOT / "policies").glob("*/*/*.yaml"))


def policy_of(path: Path) -> Policy:
    return POLICIES[path.parts[-3].replace("_", "-")]


def said(path: Path, word: str) -> Iterator[str]:
    """What the file's leading comments say: "# violation: PATH", "# params: {…}"."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            return
        key, _, value = line.removeprefix("#").strip().partition(": ")
        if key == word:
            yield value


def params_of(path: Path, policy: Policy) -> object:
    text = next(said(path, "params"), "{}")
    node = compose(text.encode(), str(path))
    assert node is not None
    return convert(node, policy.params)


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_file(path: Path) -> None:
    policy = policy_of(path)
    manifests, errors = read_manifests(path.read_bytes(), str(path))
    assert errors == []
    facts = NO_FACTS.with_objects(manifest.object for manifest in manifests)
    found = [
        violation.path
        for manifest in manifests
        for violation in policy.examine(request(manifest.object), facts, params_of(path, policy))
    ]
    expected = list(said(path, "violation"))
    assert found == expected
    assert bool(expected) == (path.parent.name == "bad")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_has_good_and_bad_files_and_a_page(name: str) -> None:
    folder = ROOT / "policies" / name.replace("-", "_")
    assert list((folder / "good").glob("*.yaml"))
    assert list((folder / "bad").glob("*.yaml"))
    page = (folder / "README.md").read_text()
    assert page.startswith(f"# {name}\n")
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings[:3] == ["## The incident", "## What it checks", "## How to fix it"]
    assert {"## Parameters", "## Limits"} <= set(headings)


@pytest.mark.parametrize("name", POLICIES)
def test_the_page_names_every_parameter(name: str) -> None:
    page = (ROOT / "policies" / name.replace("-", "_") / "README.md").read_text()
    for field in msgspec.structs.fields(POLICIES[name].params):
        assert f"`{field.encode_name}`" in page


def test_every_folder_is_a_policy() -> None:
    folders = {path.name for path in (ROOT / "policies").iterdir() if (path / "policy.py").exists()}
    assert {name.replace("-", "_") for name in POLICIES} == folders
