"""Finds the policies: one folder each under policies/, and packages that name themselves by an entry point.

An entry point in the group "forestall.policies" names a package of the same shape: a `policy` module with POLICY in
it, and a README.md beside it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import policies
from webhook.errors import BadConfig
from webhook.policy import FactKind, Policy

ENTRY_POINTS = "forestall.policies"


class LoadedPolicy(NamedTuple):
    policy: Policy
    folder: Traversable
    """Holds README.md, good/ and bad/."""


@cache
def load_policies() -> Mapping[str, LoadedPolicy]:
    """Every policy by its id, sorted; raises BadConfig if two share an id."""
    loaded: dict[str, LoadedPolicy] = {}
    for package in _packages():
        policy: Policy = import_module(f"{package.__name__}.policy").POLICY
        if policy.id in loaded:
            raise BadConfig(f"two policies are called {policy.id!r}; one of them is in {package.__name__}")
        loaded[policy.id] = LoadedPolicy(policy, files(package))
    return MappingProxyType(dict(sorted(loaded.items())))


@cache
def fact_kinds() -> tuple[FactKind[Any, Any], ...]:
    """The kinds of cluster objects that the policies read, each once, sorted by what kubectl calls them."""
    kinds = {kind for loaded in load_policies().values() for kind in loaded.policy.facts}
    return tuple(sorted(kinds, key=lambda kind: kind.full_resource))


def _packages() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(policies.__path__):
        if module.ispkg:
            yield import_module(f"{policies.__name__}.{module.name}")
    for entry_point in entry_points(group=ENTRY_POINTS):
        yield entry_point.load()
