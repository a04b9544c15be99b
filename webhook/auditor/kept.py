"""The findings of a cluster's audit as they are now, by namespace: changed object by object, in bounded memory."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from webhook.auditor.severity import severity
from webhook.findings import Enforcement, Finding
from webhook.observing.run import Observed
from webhook.policy import Outcome, Reference

MOST_OF_OBJECT = 100
"""Findings of an object that are kept, the worst; all are counted. An object may have thousands of containers."""

Key = TypeVar("Key", str, tuple[str, str], tuple[str, ...])


class Counted(NamedTuple):
    """What findings are counted by. `enforcement` is what the policy would do about them if it were enforced."""

    policy: str
    outcome: Outcome
    enforcement: Enforcement
    namespace: str
    team: str


class _Entry(NamedTuple):
    """An object's findings: `body` holds the worst of them pickled, which takes a fifth of the memory."""

    team: str
    counts: tuple[tuple[Counted, int], ...]
    body: bytes


_Entries = dict[Reference, dict[str, _Entry]]
"""Object -> API group -> entry: a Reference doesn't tell apps' StatefulSet from another group's."""


class _Findings(Mapping[Reference, tuple[Finding, ...]]):
    """The findings of one namespace, by object; each look-up builds them anew."""

    def __init__(self, entries: Mapping[Reference, Mapping[str, _Entry]]) -> None:
        self._entries = entries

    def __getitem__(self, reference: Reference) -> tuple[Finding, ...]:
        by_group = self._entries[reference]
        return tuple(finding for group in sorted(by_group) for finding in _read(by_group[group]))

    def __iter__(self) -> Iterator[Reference]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _read(entry: _Entry) -> tuple[Finding, ...]:
    findings: tuple[Finding, ...] = pickle.loads(entry.body)  # noqa: S301 - `put` made it
    return findings


class _ByNamespace(Mapping[str, _Findings]):
    def __init__(self, namespaces: Mapping[str, _Entries]) -> None:
        self._namespaces = namespaces

    def __getitem__(self, namespace: str) -> _Findings:
        return _Findings(self._namespaces[namespace])

    def __iter__(self) -> Iterator[str]:
        return iter(self._namespaces)

    def __len__(self) -> int:
        return len(self._namespaces)


class Kept:
    """What the audit knows now. One thread changes it, and hands it to those who show it.

    by_namespace  namespace -> object -> findings, the worst 100 of an object, for namespaces and objects that have
                  any; objects that have no namespace are under ""
    changed       the namespaces whose findings are others than when `clear_changed` was called last
    counts        how many findings there are of each policy, outcome, namespace and team
    broken        what is broken now, the worst first
    whole_at      when the last audit of everything ended, in seconds since 1970; 0 before the first has
    """

    def __init__(self) -> None:
        self._namespaces: dict[str, _Entries] = {}
        self.changed: set[str] = set()
        self.by_namespace: Mapping[str, Mapping[Reference, tuple[Finding, ...]]] = _ByNamespace(self._namespaces)
        self.counts: Counter[Counted] = Counter()
        self.broken: Sequence[Observed] = ()
        self.whole_at = 0.0

    def clear_changed(self) -> None:
        """Count every namespace as unchanged; whoever has taken `changed` keeps what it holds."""
        self.changed = set()

    def teams(self, namespace: str) -> Mapping[Reference, str]:
        """Object -> team, of a namespace's objects with findings."""
        entries = self._namespaces.get(namespace, {})
        return {reference: next(iter(by_group.values())).team for reference, by_group in entries.items()}

    def count_by(self, key: Callable[[Counted], Key]) -> Counter[Key]:
        """How many findings there are by what `key` makes of that which they are counted by."""
        counts: Counter[Key] = Counter()
        for counted, count in self.counts.items():
            counts[key(counted)] += count
        return counts

    def counts_of(self, namespace: str) -> Counter[Counted]:
        """How many findings a namespace has."""
        counts: Counter[Counted] = Counter()
        for by_group in self._namespaces.get(namespace, {}).values():
            for entry in by_group.values():
                counts.update(dict(entry.counts))
        return counts

    def objects(self, namespace: str) -> list[tuple[Reference, str]]:
        """A namespace's objects with findings, and their API groups."""
        entries = self._namespaces.get(namespace, {})
        return [(reference, group) for reference, by_group in entries.items() for group in by_group]

    def put(self, reference: Reference, group: str, team: str, findings: Iterable[Finding]) -> None:
        """Take in what is found on an object of an API group now; where nothing is, the object is forgotten."""
        every = tuple(findings)
        if not every:
            self.drop(reference, group)
            return
        counted = Counter(
            Counted(finding.verdict.policy, finding.verdict.outcome, finding.enforcement, reference.namespace, team)
            for finding in every
        )
        found = tuple(sorted(every, key=severity)[:MOST_OF_OBJECT]) if len(every) > MOST_OF_OBJECT else every
        counts = tuple(counted.items())
        entry = _Entry(team, counts, pickle.dumps(found, pickle.HIGHEST_PROTOCOL))
        entries = self._namespaces.setdefault(reference.namespace, {})
        before = entries.get(reference, {}).get(group)
        # The same findings need not pickle to the same bytes.
        if before and before.counts == counts and _read(before) == found:
            return
        self._count(before, entry)
        entries.setdefault(reference, {})[group] = entry
        self.changed.add(reference.namespace)

    def drop(self, reference: Reference, group: str) -> None:
        """Forget an object: it is gone, or nothing is wrong with it."""
        entries = self._namespaces.get(reference.namespace, {})
        by_group = entries.get(reference, {})
        if group not in by_group:
            return
        self._count(by_group.pop(group), None)
        if not by_group:
            del entries[reference]
        if not entries:
            del self._namespaces[reference.namespace]
        self.changed.add(reference.namespace)

    def _count(self, before: _Entry | None, after: _Entry | None) -> None:
        self.counts.update(dict(after.counts) if after else {})
        for counted, count in before.counts if before else ():
            self.counts[counted] -= count
            if not self.counts[counted]:
                del self.counts[counted]


def most_first(counts: Mapping[Key, int]) -> list[Key]:
    """What was counted, that with the largest count first."""
    return sorted(counts, key=lambda key: (-counts[key], key))
