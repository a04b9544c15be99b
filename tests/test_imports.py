"""Imports point one way, and each outside package has one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import ROOT

WEBHOOK = ROOT / "webhook"
# Name, as after "webhook.", -> its file.
MODULES = {
    ".".join(path.relative_to(WEBHOOK).with_suffix("").parts): path
    for path in sorted(WEBHOOK.rglob("*.py"))
    if path.stem != "__init__"
}
POLICY_FILES = sorted((ROOT / "policies").rglob("*.py"))

# Each module and package of webhook/ -> what of webhook/ it may import besides itself. Every one has a line.
FOUNDATION = {"errors", "policy", "log", "installation"}
DECIDING = FOUNDATION | {
    "objects",
    "files",
    "loader",
    "fixes",
    "sections",
    "config",
    "scope",
    "ratchet",
    "rulings",
    "engine",
    "findings",
    "messages",
}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "prepared": set(),
    "policy": set(),
    "log": set(),
    "installation": set(),
    "reloading": {"errors", "installation", "config"},
    "certs": {"errors"},
    "objects": {"errors", "policy"},
    "files": {"errors", "policy", "objects"},
    "fixes": {"errors", "policy"},
    "loader": {"errors", "policy"},
    "sections": {"errors", "policy", "objects", "files", "loader"},
    "config": {"errors", "policy", "objects", "files", "loader", "sections"},
    "config_schema": {"files", "loader", "objects", "sections", "config"},
    "scope": {"errors", "policy", "objects", "fixes", "sections", "config"},
    "ratchet": {"errors", "policy", "objects"},
    "rulings": {"policy", "objects", "fixes", "sections", "config", "scope", "ratchet"},
    "engine": {"errors", "policy", "objects", "fixes", "config", "scope", "ratchet", "rulings"},
    "findings": {"errors", "policy", "objects", "config"},
    "messages": {"errors", "policy", "objects", "fixes", "loader", "config"},
    "cluster": FOUNDATION | {"objects", "config"},
    "halves": set(),
    "check": DECIDING | {"halves", "cluster"},
    "formats": {"errors", "policy", "objects", "fixes", "loader", "findings", "messages", "check"},
    "server": DECIDING | {"certs", "cluster", "reloading"},
    "controller": DECIDING | {"certs", "cluster", "reloading"},
    "observing": DECIDING | {"formats", "cluster"},
    "audit": DECIDING | {"formats", "cluster", "observing"},
    "auditor": DECIDING | {"formats", "cluster", "reloading", "observing", "audit", "controller"},
    "doctor": DECIDING | {"formats", "certs", "cluster", "observing", "controller", "auditor"},
    "cli": DECIDING
    | {"check", "config_schema", "formats", "cluster", "server", "controller", "audit", "auditor", "doctor"},
}
# What policies may use: the policy types, and the readers of Kubernetes objects, none of which knows the engine.
READERS = {"errors", "policy", "objects"}
HOMES = {
    "flask": {"controller.console"},
    "kubernetes": {"cluster.client"},
    "cryptography": {"certs"},
    "jsonpatch": {"fixes"},
    "click": {"cli"},
    "jinja2": {"audit.html"},
    "rich": {"audit.progress"},
}


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    return {name.removeprefix("webhook.") for name in imported(path) if name.startswith("webhook.")} & MODULES.keys()


def layer(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", POLICY_FILES, ids=lambda path: path.parent.name)
def test_policies_import_only_types_and_readers(path: Path) -> None:
    assert {layer(module) for module in ours(path)} <= READERS


@pytest.mark.parametrize("module", MODULES)
def test_imports_stay_within_the_layers(module: str) -> None:
    # Anything that threads decode may be prepared.
    allowed = LAYERS[layer(module)] | {layer(module), "prepared"}
    assert {layer(name) for name in ours(MODULES[module])} <= allowed


def test_every_layer_is_there() -> None:
    assert {layer(module) for module in MODULES} == LAYERS.keys()


@pytest.mark.parametrize(("package", "homes"), HOMES.items())
def test_each_package_has_one_home(package: str, homes: set[str]) -> None:
    users = {
        module for module, path in MODULES.items() if any(name.split(".")[0] == package for name in imported(path))
    }
    assert {module for module in users if not {module, layer(module)} & homes} == set()


def test_nothing_imports_in_circles() -> None:
    edges = {module: ours(path) for module, path in MODULES.items()}
    done: set[str] = set()
    while ready := [module for module, needs in edges.items() if module not in done and needs <= done]:
        done.update(ready)
    assert done == set(MODULES), f"in circles: {set(MODULES) - done}"
