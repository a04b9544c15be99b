"""The docs agree with what they describe."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from charts.generate import CHART
from docs.generate import generated
from tests.builders import ROOT
from tests.served import post, review, served
from tests.test_readme import PAGES, blocks, relative
from webhook import __version__
from webhook.config import iter_expired, load_config
from webhook.config_schema import config_schema
from webhook.loader import load_policies
from webhook.scope import ALWAYS_EXCLUDED

DOCS = ROOT / "docs"
CONFIGURATION = DOCS / "configuration.md"
POLICIES = [loaded.policy for loaded in load_policies().values()]


def links(page: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())


LINKS = [(page, link) for page in PAGES for link in links(page)]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{relative(page)}: {link}" for page, link in LINKS])
def test_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_index_names_every_page() -> None:
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= set(links(DOCS / "README.md"))


GENERATED = generated()


@pytest.mark.parametrize("file", GENERATED, ids=relative)
def test_generated_file_is_current(file: Path) -> None:
    assert file.read_text() == GENERATED[file], "run make docs"


@pytest.mark.parametrize("page", ["README.md", "docs/README.md"])
def test_page_names_every_policy(page: str) -> None:
    """By hand or by the generator: whoever looks for a policy finds its page."""
    for folder in (ROOT / "policies").glob("*/policy.py"):
        assert f"policies/{folder.parent.name}/README.md)" in (ROOT / page).read_text()


def test_configuration_example_is_valid() -> None:
    text = blocks(CONFIGURATION, "yaml")[0]
    config = load_config(text.encode(), "docs/configuration.md")
    assert config.policies["memory-limits"].params.images == {"fluent/fluent-bit": 512 * 2**20 // 4}
    assert next(iter_expired(config, config.exemptions[0].until), None) is None


@pytest.mark.parametrize("text", blocks(CONFIGURATION, "yaml")[1:])
def test_further_examples_are_valid(text: str) -> None:
    load_config(text.encode(), "docs/configuration.md")


def fields(schema: Any) -> set[str]:
    """Every property that the schema names, policies' parameters aside."""
    found = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", ()))
        for name, value in schema.items():
            if name not in {policy.id for policy in POLICIES}:
                found |= fields(value)
    return found


def test_every_field_is_documented() -> None:
    # What a parameter holds is told where the parameter is: on the policy's page.
    pages = [CONFIGURATION, *(ROOT / "policies").glob("*/README.md")]
    text = "\n".join(page.read_text() for page in pages)
    assert {name for name in fields(config_schema()) if not re.search(rf"\b{name}\b", text)} == set()


def test_namespaces_that_are_left_alone_are_named() -> None:
    (section,) = re.findall(
        r"^## Which namespaces are left alone\n(.*?)^## ", CONFIGURATION.read_text(), re.MULTILINE | re.DOTALL
    )
    (first, own, _further) = re.findall(r"^\| (.*`.*) \| ", section, re.MULTILINE)
    assert set(re.findall(r"`(.+?)`", first + own)) == ALWAYS_EXCLUDED


COSTS = (DOCS / "costs.md").read_text()


def test_costs_are_those_of_the_chart() -> None:
    """Pods, CPU and memory: what each Deployment asks for, and all of it, as installed and by the enforce preset."""
    values, enforce = (yaml.safe_load((CHART / file).read_text()) for file in ("values.yaml", "presets/enforce.yaml"))
    parts = [(values[part]["replicas"], values[part]["resources"]) for part in ("server", "controller")]
    more = [
        (enforce.get(part, values[part]).get("replicas", values[part]["replicas"])) for part in ("server", "controller")
    ]
    audit = values["audit"]["resources"]
    of_audit = [pods * amount for pods, amount in zip([parts[1][0]] * 3, _amounts(audit), strict=True)]

    def together(pods: Iterable[int]) -> tuple[int, ...]:
        total, *amounts = _sum([(number, resources) for number, (_, resources) in zip(pods, parts, strict=True)])
        return total, *(amount + added for amount, added in zip(amounts, of_audit, strict=True))

    rows = [
        *((pods, *_amounts(resources)) for pods, resources in parts),
        (parts[1][0], *_amounts(audit)),
        together([pods for pods, _ in parts]),
        together(more),
    ]
    table = re.findall(r"\| (\d+) \| (\d+)m \| (\d+)Mi \| (\d+)Mi \|$", COSTS, re.MULTILINE)
    assert [tuple(map(int, row)) for row in table] == rows


def _amounts(resources: Any) -> tuple[int, int, int]:
    """CPU in millicores and memory in Mi requested, and the memory limit in Mi."""
    requests, limit = resources["requests"], resources["limits"]["memory"]
    request, most = (int(text.removesuffix("Mi")) for text in (requests["memory"], limit))
    return int(requests["cpu"].removesuffix("m")), request, most


def _sum(parts: Iterable[tuple[int, Any]]) -> tuple[int, ...]:
    columns = zip(
        *((pods, *(pods * amount for amount in _amounts(resources))) for pods, resources in parts), strict=True
    )
    return tuple(map(sum, columns))


@pytest.mark.parametrize(
    ("row", "column"),
    [
        pytest.param("memory once ready", 1, id="memory"),
        pytest.param("memory after a burst of reviews", 1, id="memory-after-a-burst"),
        pytest.param("what Forestall adds to it; what an echo adds", 1, id="latency"),
        pytest.param("what it adds where two limits are patched in; what an echo adds", 1, id="latency-patched"),
    ],
)
def test_costs_are_those_that_were_measured(row: str, column: int) -> None:
    (line,) = [line for line in (DOCS / "performance.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    assert line.split(" | ")[column] in COSTS


def metrics_in(text: str) -> set[str]:
    cells = re.findall(r"^\| (`forestall_[^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(forestall_\w+)`", cell)}


SERVERS_METRICS, _, CONTROLLERS_METRICS = (DOCS / "metrics.md").read_text().partition("\nOf the controller:\n")


def test_metrics_are_documented(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        for path in ("/mutate", "/validate", "/nowhere"):
            server.ask(post(review(), path))
        served_names = set(re.findall(r"^# TYPE (\S+)", server.get("/metrics")[1], re.MULTILINE))
    assert metrics_in(SERVERS_METRICS) == served_names


def test_metrics_of_the_controller_are_documented() -> None:
    for program in ("controller", "auditor"):
        importlib.import_module(f"webhook.{program}.run")
    families = [family for family in REGISTRY.collect() if family.name.startswith("forestall_")]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert metrics_in(CONTROLLERS_METRICS) == names


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_there_is_one_form_of_upgrade(page: Path) -> None:
    """The values of the release, with what a new chart adds: --reuse-values lacks that, and no flag forgets them."""
    lines = re.split(r"(?<!\\)\n", page.read_text())
    commands = [text for text in lines if text.removeprefix("$ ").startswith("helm upgrade ") and "charts/" in text]
    assert [command for command in commands if "--reset-then-reuse-values" not in command] == []
    assert not re.search(r"(?<!then)(?<!not )--reuse-values", page.read_text())


def test_changelog_has_a_heading_for_every_version_and_none_twice() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = dict(re.findall(r"^## \[([^\]]+)\].*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    released = {file.stem.removeprefix("forestall-") for file in (ROOT / "tests/data/charts").glob("*.tgz")}
    assert set(releases) - {"Unreleased"} == released
    # The version under way has a heading once it is released.
    assert __version__ in released or f"What {__version__} brings." in releases["Unreleased"]
    for version, changes in releases.items():
        headings = re.findall(r"^### (.*)", changes, re.MULTILINE)
        assert headings == [name for name in ("Added", "Changed", "Fixed", "Removed") if name in headings], version
