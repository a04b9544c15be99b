"""Records by the namespaces that they concern, so that of thousands only those of one namespace are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic

from webhook.objects.facts import ClusterFacts
from webhook.policy import FactKind, FactRecord


class Grouped(Generic[FactRecord]):
    """The records of one kind, grouped once for as long as they are the same; `namespaces_of` is None for all."""

    def __init__(
        self, kind: FactKind[Any, FactRecord], namespaces_of: Callable[[FactRecord], Iterable[str] | None]
    ) -> None:
        self._kind, self._namespaces_of = kind, namespaces_of
        self._last: tuple[Mapping[Any, FactRecord], dict[str, list[FactRecord]], list[FactRecord]] = ({}, {}, [])

    def concerning(self, namespace: str, facts: ClusterFacts) -> Iterator[FactRecord]:
        """The records that concern the namespace."""
        _, by_namespace, everywhere = self._of(facts)
        yield from by_namespace.get(namespace, ())
        yield from everywhere

    def _of(
        self, facts: ClusterFacts
    ) -> tuple[Mapping[Any, FactRecord], dict[str, list[FactRecord]], list[FactRecord]]:
        records = facts.of(self._kind)
        last = self._last
        if last[0] is records:
            return last
        by_namespace: dict[str, list[FactRecord]] = {}
        everywhere: list[FactRecord] = []
        for record in records.values():
            namespaces = self._namespaces_of(record)
            if namespaces is None:
                everywhere.append(record)
            for namespace in namespaces or ():
                by_namespace.setdefault(namespace, []).append(record)
        self._last = last = records, by_namespace, everywhere
        return last
