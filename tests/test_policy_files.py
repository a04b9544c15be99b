"""Every policy's folder: its page, and what its good/ and bad/ files say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.builders import ROOT, TODAY, config, facts_of, request
from webhook.config import Config
from webhook.engine import decide
from webhook.files.manifests import read_manifests
from webhook.loader import load_policies
from webhook.policy import Policy

LOADED = load_policies()
FOLDERS = {name: Path(str(loaded.folder)) for name, loaded in LOADED.items()}
FILES = [
    pytest.param(LOADED[name].policy, path, id=f"{folder.name}/{path.parent.name}/{path.name}")
    for name, folder in FOLDERS.items()
    for path in sorted(folder.glob("*/*.yaml"))
]


def said(path: Path, word: str) -> Iterator[str]:
    """What the file's leading comments say: "# violation: PATH", "# warning: PATH", "# params: {…}"."""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            return
        key, _, value = line.removeprefix("#").strip().partition(": ")
        if key == word:
            yield value


def alone(path: Path, policy: Policy) -> Config:
    """The policy with the file's parameters, denying whatever it may deny; all others are off."""
    others = "".join(f"  {name}: {{mode: 'off'}}\n" for name in LOADED if name != policy.id)
    params = next(said(path, "params"), "{}")
    return config(f"policies:\n{others}  {policy.id}: {{mode: deny, params: {params}}}\n")


@pytest.mark.parametrize(("policy", "path"), FILES)
def test_file(policy: Policy, path: Path) -> None:
    manifests, errors = read_manifests(path.read_bytes(), str(path))
    assert errors == []
    facts = facts_of(manifest.object for manifest in manifests)
    decisions = [
        decide(request(manifest.object), facts, alone(path, policy), today=TODAY, stage="check")
        for manifest in manifests
    ]
    # A note, such as that a pod binds itself to its volume's zone, is fine.
    found = [
        (verdict.violation.path, verdict.outcome, manifest.object["kind"])
        for manifest, decision in zip(manifests, decisions, strict=True)
        for verdict in decision.verdicts
        if verdict.violation.at_most != "audit"
    ]
    # The denial belongs to the workload that mounts a claim.
    is_claims = {path: kind == "PersistentVolumeClaim" for path, _, kind in found}
    warned = [path for path, outcome, _ in found if outcome == "warned" and not is_claims[path]]
    others = [(path, outcome) for path, outcome, _ in found if outcome != "warned" or is_claims[path]]
    assert ([path for path, _ in others], warned) == (list(said(path, "violation")), list(said(path, "warning")))
    assert bool(found) == (path.parent.name == "bad")
    for path_, outcome in others:
        assert outcome in (("patched", "warned") if is_claims[path_] else ("denied",))


@pytest.mark.parametrize("name", LOADED)
def test_every_policy_has_good_and_bad_files(name: str) -> None:
    assert list((FOLDERS[name] / "good").glob("*.yaml"))
    assert list((FOLDERS[name] / "bad").glob("*.yaml"))


@pytest.mark.parametrize("name", LOADED)
def test_the_page_names_every_parameter(name: str) -> None:
    page = (FOLDERS[name] / "README.md").read_text()
    for field in msgspec.structs.fields(LOADED[name].policy.params):
        assert f"| `{field.encode_name}` |" in page


def test_every_folder_is_a_policy() -> None:
    folders = {path.parent for path in (ROOT / "policies").glob("*/policy.py")}
    assert folders <= set(FOLDERS.values())
