"""Finds the policies: one folder each under policies/, and packages that name themselves by an entry point.

An entry point in the group "forestall.policies" names a package of the same shape: a `policy` module with POLICY in
it, and a README.md beside it. A package that isn't of that shape keeps everything from loading: a server without a
policy that somebody counts on would admit what that one refuses, and say nothing.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

import policies
from webhook.errors import BadConfig
from webhook.policy import FACT_KEYS, MODES, OPERATIONS, OTHERWISE, SUBRESOURCES, FactKind, GroupKind, Policy

ENTRY_POINTS = "forestall.policies"
HEADINGS = ("The incident", "What it checks", "How to fix it", "Parameters", "Limits")
"""The sections that every policy's README.md has, in this order; others may stand between and behind them."""

_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class LoadedPolicy(NamedTuple):
    policy: Policy
    folder: Traversable
    """Holds README.md, good/ and bad/."""

    @property
    def page(self) -> str:
        """README.md in Markdown; a link into the repository is its words alone, since here it would lead nowhere."""
        page = self.folder.joinpath("README.md").read_text(encoding="utf-8")
        return re.sub(r"\[([^\]]+)\]\((?!https?://)[^)\s]*\)", r"\1", page)


@cache
def load_policies() -> Mapping[str, LoadedPolicy]:
    """Every policy by its id, sorted.

    Raises BadConfig, one line that names the package, for the first that can't be used or has another's id.
    """
    loaded: dict[str, LoadedPolicy] = {}
    kinds: dict[FactKind[Any, Any], tuple[FactKind[Any, Any], str]] = {}
    living: dict[FactKind[Any, Any], tuple[FactKind[Any, Any], str]] = {}
    for name in _packages():
        found = load_policy(name)
        policy = found.policy
        if policy.id in loaded:
            raise _refused(name, f"another policy is called {policy.id!r} as well")
        for field, declared, seen in (("facts", policy.facts, kinds), ("lives", policy.lives, living)):
            for kind in declared:
                first, of = seen.setdefault(kind, (kind, name))
                if first is not kind:
                    wrong = f"{field}: {kind.full_resource} is declared in {of} already: import it from there"
                    raise _refused(name, wrong)
        loaded[policy.id] = found
    return MappingProxyType(dict(sorted(loaded.items())))


@cache
def fact_kinds() -> tuple[FactKind[Any, Any], ...]:
    """The kinds of cluster objects that the policies read, each once, sorted by what kubectl calls them."""
    kinds = {kind for loaded in load_policies().values() for kind in loaded.policy.facts}
    return tuple(sorted(kinds, key=lambda kind: kind.full_resource))


def watched_kinds() -> tuple[FactKind[Any, Any], ...]:
    """Those of fact_kinds() whose objects are listed and watched; the others' are looked up one by one."""
    return tuple(kind for kind in fact_kinds() if kind.is_watched)


def load_policy(package: str) -> LoadedPolicy:
    """The policy of a package; raises BadConfig, one line that names the package, if it can't be used."""
    try:
        folder = files(import_module(package))
        policy = getattr(import_module(f"{package}.policy"), "POLICY", None)
    except Exception as error:  # another's module may raise anything while it is imported
        raise _refused(package, f"it can't be imported: {_one_line(error)}") from error
    if not isinstance(policy, Policy):
        raise _refused(package, "its module policy has no POLICY that is a webhook.policy.Policy")
    try:
        wrong = next(_wrong_with(policy, package, folder), "")
    except Exception as error:
        raise _refused(package, f"its declaration can't be read: {_one_line(error)}") from error
    if wrong:
        raise _refused(package, wrong)
    return LoadedPolicy(policy, folder)


def _packages() -> Iterator[str]:
    for module in pkgutil.iter_modules(policies.__path__):
        if module.ispkg:
            yield f"{policies.__name__}.{module.name}"
    yield from sorted(map(_package_of, entry_points(group=ENTRY_POINTS)))


def _package_of(entry_point: EntryPoint) -> str:
    return entry_point.value.partition(":")[0].strip()


# `policy` is Any: a package of somebody else's may have declared it without a type checker.


def _wrong_with(policy: Any, package: str, folder: Traversable) -> Iterator[str]:
    yield from _wrong_with_declaration(policy, package.rpartition(".")[2])
    yield from _wrong_with_params(policy.params)
    yield from _wrong_with_permits(policy)
    yield from _wrong_with_page(policy.id, folder.joinpath("README.md"))


def _wrong_with_declaration(policy: Any, folder: str) -> Iterator[str]:
    if not isinstance(policy.id, str) or not _ID.fullmatch(policy.id):
        yield f"id {policy.id!r} is not words in lower case, joined by dashes"
    elif policy.id != folder.replace("_", "-"):
        yield f"id {policy.id!r} is not the folder's name, {folder.replace('_', '-')!r}"
    if not callable(policy.examine):
        yield f"examine is {policy.examine!r}, not a function"
    yield from _unknown("operations", policy.operations, OPERATIONS)
    yield from _unknown("subresources", policy.subresources, tuple(SUBRESOURCES))
    yield from _unknown("mode", (policy.mode,), MODES)
    yield from _unknown("otherwise", (policy.otherwise,), OTHERWISE)
    for field in ("kinds", "unasked"):
        for kind in getattr(policy, field):
            if not isinstance(kind, GroupKind):
                yield f"{field}: {kind!r} is no GroupKind"
    yield from _wrong_kinds("facts", policy.facts, "webhook.objects.facts")
    if policy.observe is not None and not callable(policy.observe):
        yield f"observe is {policy.observe!r}, not a function"
    if policy.observe is None and policy.lives:
        yield "lives: only observe reads living objects, and there is none"
    yield from _wrong_kinds("lives", policy.lives, "webhook.objects.live")


def _wrong_kinds(field: str, kinds: tuple[Any, ...], home: str) -> Iterator[str]:
    for kind in kinds:
        if not isinstance(kind, FactKind):
            yield f"{field}: {kind!r} is no kind of fact: name a FactKind, such as those of {home}"
        elif kind.key not in FACT_KEYS:
            yield f"{field}: {kind.full_resource}: key {kind.key!r} is not one of {', '.join(FACT_KEYS)}"


def _unknown(field: str, values: tuple[str, ...], known: tuple[str, ...]) -> Iterator[str]:
    for value in values:
        if value not in known:
            yield f"{field}: {value!r} is not one of {', '.join(known)}"


def _wrong_with_params(params: Any) -> Iterator[str]:
    if not isinstance(params, type) or not issubclass(params, msgspec.Struct):
        yield f"params is {params!r}, not a msgspec.Struct"
        return
    for field in msgspec.structs.fields(params):
        if field.required:
            yield f"params: {field.encode_name} has no default"
    if not params.__struct_config__.frozen:
        yield "params is not frozen: a policy must not change what it was given"


def _wrong_with_permits(policy: Any) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(policy.params)}
    for kind in policy.facts:
        if not kind.is_watched and (kind.allowed_by not in fields or fields[kind.allowed_by].default is not False):
            allowed = f"which allows {kind.full_resource} to be looked up"
            yield f"params: {kind.allowed_by}, {allowed}, is not a bool that is false by default"


def _wrong_with_page(policy_id: str, page: Traversable) -> Iterator[str]:
    if not page.is_file():
        yield "it has no README.md"
        return
    lines = page.read_text(encoding="utf-8").splitlines()
    if lines[:1] != [f"# {policy_id}"]:
        yield f"README.md doesn't begin with '# {policy_id}'"
    found = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    for heading in HEADINGS:
        if heading not in found:
            yield f"README.md has no heading '## {heading}'"
    if [heading for heading in found if heading in HEADINGS] != list(HEADINGS):
        yield f"README.md has its headings in another order than {', '.join(HEADINGS)}"


def _refused(package: str, wrong: str) -> BadConfig:
    return BadConfig(f"policy package {package}: {wrong}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
