"""Imports point one way, and each outside package has one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import ROOT

# Name, as after "webhook.", -> its file.
MODULES = {
    ".".join(path.relative_to(ROOT / "webhook").with_suffix("").parts): path
    for path in sorted((ROOT / "webhook").rglob("*.py"))
    if path.stem != "__init__"
}
POLICY_FILES = sorted((ROOT / "policies").glob("*/*.py"))

# What policies may use: the policy types, facts, and the readers of Kubernetes objects, none of which knows the engine.
READERS = {
    "charts", "errors", "facts", "images", "limit_ranges", "limitranger", "monitoring", "names", "nodes", "pods",
    "policy", "quantities", "storage", "volumes",
}  # fmt: skip
HOMES = {
    "flask": {"console"},
    "kubernetes": {"cluster"},
    "cryptography": {"certs"},
    "jsonpatch": {"fixes"},
    "click": {"cli"},
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


@pytest.mark.parametrize("path", POLICY_FILES, ids=lambda path: path.parent.name)
def test_policies_import_only_types_and_readers(path: Path) -> None:
    assert ours(path) <= READERS


@pytest.mark.parametrize("module", sorted(READERS))
def test_readers_import_only_readers(module: str) -> None:
    assert ours(MODULES[module]) <= READERS


@pytest.mark.parametrize("module", ["policy", "errors"])
def test_the_foundations_import_nothing_of_ours(module: str) -> None:
    assert ours(MODULES[module]) == set()


def test_the_engine_knows_no_shell() -> None:
    assert not ours(MODULES["engine"]) & {
        "cli",
        "server",
        "console",
        "cluster",
        "review",
        "check",
        "certs",
    }


@pytest.mark.parametrize(("package", "homes"), HOMES.items())
def test_each_package_has_one_home(package: str, homes: set[str]) -> None:
    users = {
        module for module, path in MODULES.items() if any(name.split(".")[0] == package for name in imported(path))
    }
    assert users <= homes


def test_nothing_imports_in_circles() -> None:
    edges = {module: ours(path) for module, path in MODULES.items()}
    done: set[str] = set()
    while ready := [module for module, needs in edges.items() if module not in done and needs <= done]:
        done.update(ready)
    assert done == set(MODULES), f"in circles: {set(MODULES) - done}"
