"""The facts that policies know of a cluster, in one frozen value: the records by kind, and what could not be read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from webhook.objects.facts.decoding import read_fact
from webhook.policy import FactKind, FactRecord, FactReference, Object, RecordKey

_NONE: Mapping[Any, Any] = MappingProxyType({})


class Missing(NamedTuple):
    """Why the facts lack an object, in words that follow its name, and what to look up to know it."""

    why: str
    unseen: tuple[FactReference, ...] = ()


@dataclass(frozen=True)
class ClusterFacts:
    """What policies may know of the cluster, as of `read_at` (UTC).

    `known` holds the kinds that could be read: one that isn't in it was not seen, which is not the same as empty.
    `absent` holds objects that were looked up one by one and are provably not there, `unreadable` those that are there
    and can't be read, with the reason.
    """

    records: Mapping[FactKind[Any, Any], Mapping[Any, Any]] = field(default_factory=dict)
    known: frozenset[FactKind[Any, Any]] = frozenset()
    absent: frozenset[FactReference] = frozenset()
    unreadable: Mapping[FactReference, str] = field(default_factory=dict)
    read_at: datetime | None = None

    def of(self, kind: FactKind[RecordKey, FactRecord]) -> Mapping[RecordKey, FactRecord]:
        """The records of a kind, by what its declaration says is their key; the same mapping until they change."""
        return self.records.get(kind, _NONE)

    def knows_all(self, *kinds: FactKind[Any, Any]) -> bool:
        """Whether every object of these kinds is among the records: they could be listed, and each be read."""
        return self.known.issuperset(kinds) and not any(reference.kind in kinds for reference in self.unreadable)

    def unreadable_in(self, kind: FactKind[Any, Any], namespace: str) -> list[FactReference]:
        """The objects of a kind in a namespace that can't be read: what they hold is missing among the records."""
        return [
            reference
            for reference in self.unreadable
            if reference.kind == kind and reference.namespace in (namespace, "")  # "": a namespace that isn't known
        ]

    def missing(self, reference: FactReference) -> Missing:
        """Why these facts lack the record of an object, which may also be newer than they are."""
        if reference in self.absent:
            return Missing("which does not exist")
        if reference in self.unreadable:
            return Missing("which can't be read")
        is_known = reference.kind in self.known
        why = "which is not in the cluster" if is_known else f"unseen: {reference.kind.resource} could not be read"
        return Missing(why, (reference,))

    def joined(self, other: ClusterFacts) -> ClusterFacts:
        """These facts and those of another reading; of a kind that both know, the other's."""
        return ClusterFacts(
            {**self.records, **other.records},
            self.known | other.known,
            self.absent | other.absent,
            {**self.unreadable, **other.unreadable},
            self.read_at or other.read_at,
        )

    def without(self, kinds: Collection[FactKind[Any, Any]]) -> ClusterFacts:
        """These facts where nothing else is known of these kinds than the records that there are."""
        return replace(self, known=self.known.difference(kinds))

    def with_objects(self, objects: Iterable[Object], kinds: Iterable[FactKind[Any, Any]]) -> ClusterFacts:
        """These facts as they will be once `objects` are applied; objects of none of the kinds are passed over.

        Raises BadObject or BadQuantity for one that cannot be read.
        """
        kinds = tuple(kinds)
        return self.with_facts(found for obj in objects if (found := read_fact(obj, kinds)) is not None)

    def with_facts(
        self, facts: Iterable[tuple[FactReference, Any]], *, absent: Iterable[FactReference] = ()
    ) -> ClusterFacts:
        """These facts as they will be once the objects of which these are the records are applied."""
        changed: dict[FactKind[Any, Any], dict[Any, Any]] = {}
        there = set()
        for reference, fact in facts:
            kind = reference.kind
            there.add(reference)
            if kind not in changed:
                changed[kind] = dict(self.of(kind))
            put_fact(changed[kind], reference, kind.applied(fact, changed[kind].get(_key(reference))))
        not_there = self.absent.union(absent) - there
        if not changed and not_there == self.absent:
            return self
        odd = {reference: why for reference, why in self.unreadable.items() if reference not in there}
        return replace(self, records={**self.records, **changed}, absent=not_there, unreadable=odd)


NO_FACTS = ClusterFacts()


class Found(NamedTuple):
    """The result of looking up objects one by one: the records of those that exist, and those that provably don't."""

    facts: list[tuple[FactReference, Any]]
    absent: list[FactReference]


def facts_of(
    objects: Iterable[Object], kinds: Iterable[FactKind[Any, Any]], *, read_at: datetime | None = None
) -> ClusterFacts:
    """The facts that a dump of a cluster's objects of these kinds holds: what isn't in it isn't in the cluster.

    Of a kind that is looked up one by one it may be there all the same.

    Raises BadObject or BadQuantity for an object that cannot be read.
    """
    kinds = tuple(kinds)
    watched = frozenset(kind for kind in kinds if kind.is_watched)
    return ClusterFacts(known=watched, read_at=read_at).with_objects(objects, kinds)


def put_fact(records: MutableMapping[Any, Any], reference: FactReference, fact: Any) -> None:
    """Add a record to those of its kind, or replace it; None takes away what was there."""
    if fact is None:
        drop_fact(records, reference)
        return
    if reference.kind.key == "namespace":
        fact = (*_others(records, reference), *fact)
    records[_key(reference)] = fact


def drop_fact(records: MutableMapping[Any, Any], reference: FactReference) -> None:
    """Remove a record, if it is there, from those of its kind."""
    if reference.kind.key == "namespace" and (others := _others(records, reference)):
        records[_key(reference)] = others
    else:
        records.pop(_key(reference), None)


def _others(records: Mapping[Any, Any], reference: FactReference) -> tuple[Any, ...]:
    """The records of the namespace's other objects."""
    return tuple(record for record in records.get(reference.namespace, ()) if record.name != reference.name)


def _key(reference: FactReference) -> str | tuple[str, str]:
    match reference.kind.key:
        case "name":
            return reference.name
        case "namespace":
            return reference.namespace
        case _:
            return reference.namespace, reference.name
