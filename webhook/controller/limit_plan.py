"""The plan for LimitRanges: which to create, replace and delete, by the configuration and those that exist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import NamedTuple

from webhook.cluster.unseen import Unreadable
from webhook.config import Config
from webhook.controller.contents import Contents, Objects
from webhook.controller.dangers import Danger, dangers
from webhook.errors import BadQuantity
from webhook.installation import LABELS
from webhook.objects.facts.limit_ranges import Amounts, Item, read_items
from webhook.objects.limitranger import memory_defaults, show_amount
from webhook.policy import Object
from webhook.scope import exclude_own_namespace, is_excluded
from webhook.sections import LimitRangeDefaults

_PARTS = ("default", "defaultRequest", "max", "min", "maxLimitRequestRatio")

NamespacedName = tuple[str, str]
"""Namespace and name."""


class Made(NamedTuple):
    """A LimitRange that the controller made: its UID, empty until it exists, and a digest of what it was made from."""

    uid: str
    digest: str


@dataclass(frozen=True, slots=True)
class Create:
    namespace: str
    limit_range: Object
    digest: str


@dataclass(frozen=True, slots=True)
class Replace:
    namespace: str
    limit_range: Object
    digest: str
    edited: str
    """What somebody changed in it by hand; empty if the configuration has changed."""


@dataclass(frozen=True, slots=True)
class Note:
    """A LimitRange of ours that is as the configuration wants it, which the record doesn't say: whoever replaced it
    ended before it was noted."""

    namespace: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Delete:
    namespace: str
    name: str
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A LimitRange that is not made or not changed, and why."""

    namespace: str
    name: str
    why: str
    dangers: tuple[Danger, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """A namespace that isn't decided in this pass: its workloads were read a moment ago, or aren't to be read yet."""

    namespace: str
    name: str


Action = Create | Replace | Note | Delete | Skip | Later


def plan(
    config: Config,
    own_namespace: str,
    namespaces: Iterable[Object],
    limit_ranges: Iterable[Object],
    made: Mapping[NamespacedName, Made],
    look: Callable[[str], Contents | None],
    odd: Mapping[str, Unreadable] = MappingProxyType({}),
) -> list[Action]:
    """The actions to take. `look` reads the workloads of a namespace that needs a decision; None from it means "not
    now".

    `odd` holds, by namespace, a LimitRange that can't be read: nothing is changed beside it.
    """
    present: dict[str, Objects] = {}
    for obj in limit_ranges:
        present.setdefault(obj["metadata"]["namespace"], []).append(obj)
    actions: list[Action] = []
    config = exclude_own_namespace(config, own_namespace)
    for namespace in namespaces:
        name = namespace["metadata"]["name"]
        if not _is_going(namespace):
            rules = [] if is_excluded(name, config) else list(_rules_for(namespace, config))
            if name in odd:
                actions += [Skip(name, rule.name, f"cannot tell what it would do: {odd[name]}") for rule in rules]
                continue
            there = sorted(present.get(name, ()), key=lambda obj: str(obj["metadata"]["name"]))
            actions += _Namespace(name, there, made, look).plan(rules)
    return actions


def _is_going(namespace: Object) -> bool:
    return bool(namespace["metadata"].get("deletionTimestamp"))


def _rules_for(namespace: Object, config: Config) -> Iterator[LimitRangeDefaults]:
    metadata = namespace["metadata"]
    labels = metadata.get("labels") or {}
    for rule in config.limit_ranges:
        selector = rule.namespace_selector
        if any(fnmatchcase(metadata["name"], glob) for glob in rule.namespaces) or (
            selector and all(labels.get(key) == value for key, value in selector.items())
        ):
            yield rule


def wanted(rule: LimitRangeDefaults, namespace: str) -> Object:
    """The LimitRange that a rule asks for."""
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": rule.name, "namespace": namespace, "labels": dict(LABELS)},
        "spec": {"limits": [rule.item]},
    }


def digest_of(limit_range: Object) -> str:
    """A digest of what a LimitRange asks for, which stays the same when the API server has stored it."""
    items = [
        (item.type, [sorted((key, f"{amount.normalize():f}") for key, amount in part.items()) for part in _parts(item)])
        for item in read_items(limit_range["spec"])
    ]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()[:8]


def differences(limit_range: Object, wanted: Object) -> str:
    """How a LimitRange differs from the wanted one, amount by amount; empty if it doesn't in anything that counts."""
    have, want = read_items(limit_range.get("spec") or {}), read_items(wanted["spec"])
    found = [f"{len(have)} items, not 1"] if len(have) != len(want) else []
    for one, other in zip(have, want, strict=False):
        if one.type != other.type:
            found.append(f"type {one.type}, not {other.type}")
        for part, is_now, should in zip(_PARTS, _parts(one), _parts(other), strict=True):
            for resource in sorted({*is_now, *should}):
                if is_now.get(resource) != should.get(resource):
                    shown = [
                        "none" if amounts.get(resource) is None else show_amount(resource, amounts[resource])
                        for amounts in (is_now, should)
                    ]
                    found.append(f"{part}.{resource} {shown[0]}, not {shown[1]}")
    labels = limit_range["metadata"].get("labels") or {}
    found += [
        f"label {key} {labels.get(key)}, not {value}" for key, value in LABELS.items() if labels.get(key) != value
    ]
    return "; ".join(found)


def _parts(item: Item) -> Sequence[Amounts]:
    return item.default, item.default_request, item.max, item.min, item.max_ratio


def is_ours(obj: Object, made: Mapping[NamespacedName, Made]) -> bool:
    metadata = obj["metadata"]
    recorded = made.get((metadata["namespace"], metadata["name"]))
    if recorded is None:
        return False
    if recorded.uid:
        return recorded.uid == str(metadata["uid"])
    # The controller ended just as it was about to make this one: it is ours if it is exactly what would have been made.
    return (metadata.get("labels") or {}).items() >= LABELS.items() and digest_of(obj) == recorded.digest


@dataclass
class _Namespace:
    """One namespace, with the LimitRanges that are in it."""

    name: str
    present: Objects
    made: Mapping[NamespacedName, Made]
    look: Callable[[str], Contents | None]

    def plan(self, rules: Sequence[LimitRangeDefaults]) -> Iterator[Action]:
        keep: dict[str, str] = {}
        """Name of a LimitRange -> why it is not kept; empty for one that is."""
        given = next((why for obj in self.present if not self._is_ours(obj) and (why := _given_by(obj))), "")
        for rule in rules:
            target = wanted(rule, self.name)
            if keep.get(rule.name) == "":
                continue  # of two rules of one name, the first counts
            if given and _given_by(target):
                keep[rule.name] = given
                yield Skip(self.name, rule.name, given)
                continue
            keep[rule.name] = ""
            given = given or _given_by(target)
            yield from self._keep(rule, target)
        for obj in self.present:
            name = obj["metadata"]["name"]
            if self._is_ours(obj) and (why := keep.get(name, "no rule of limitRanges selects the namespace any more")):
                yield Delete(self.name, name, obj["metadata"]["uid"], why)

    def _is_ours(self, obj: Object) -> bool:
        return is_ours(obj, self.made)

    def _keep(self, rule: LimitRangeDefaults, target: Object) -> Iterator[Action]:
        there = next((obj for obj in self.present if obj["metadata"]["name"] == rule.name), None)
        digest = digest_of(target)
        if there is None:
            yield self._if_safe(rule, target, None, Create(self.name, target, digest))
        elif not self._is_ours(there):
            yield Skip(self.name, rule.name, "there is a LimitRange of this name that Forestall didn't make")
        elif edited := differences(there, target):
            labels = {**(there["metadata"].get("labels") or {}), **LABELS}
            restored = {**there, "metadata": {**there["metadata"], "labels": labels}, "spec": target["spec"]}
            restored = {"apiVersion": "v1", "kind": "LimitRange", **restored}
            if self.made[self.name, rule.name].digest == digest:
                yield Replace(self.name, restored, digest, edited)
            else:
                yield self._if_safe(rule, target, there, Replace(self.name, restored, digest, ""))
        elif self.made[self.name, rule.name].digest != digest:
            yield Note(self.name, rule.name, digest)

    def _if_safe(self, rule: LimitRangeDefaults, target: Object, there: Object | None, action: Action) -> Action:
        if rule.force:
            return action
        contents = self.look(self.name)
        if contents is None:
            return Later(self.name, rule.name)
        if contents.unseen:
            return Skip(self.name, rule.name, f"cannot tell whether pods could start: {contents.unseen}")
        others = [item for obj in self.present if obj is not there for item in read_items(obj["spec"])]
        before = [*others, *(read_items(there["spec"]) if there else ())]
        if found := dangers(contents, before, [*others, *read_items(target["spec"])]):
            return Skip(self.name, rule.name, "pods would be refused or killed at their next start", found)
        return action


def _given_by(obj: Object) -> str:
    """Why another LimitRange may not give containers a memory default beside this one; empty if it may."""
    name = obj["metadata"]["name"]
    try:
        defaults = memory_defaults(read_items(obj["spec"]))
    except BadQuantity:
        defaults = [Decimal(1)]  # a default whose amount can't be read counts: somebody has set one
    if defaults and not any(defaults):
        return f"LimitRange {name} gives a memory default of 0, which means none, and of two Kubernetes takes either"
    return f"LimitRange {name} already gives a memory default" if defaults else ""
