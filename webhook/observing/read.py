"""Reads what lives in a cluster, kind by kind and page by page; what can't be read costs itself alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from webhook.cluster.facts import list_kind
from webhook.cluster.lists import Reader
from webhook.cluster.unseen import Unseen, unreadable_facts
from webhook.errors import ClusterRefused, FactsUnavailable, ForestallError
from webhook.objects.live import Live
from webhook.policy import FactKind


class Clock(Reader, Protocol):
    """A cluster that can be read and says what time it is."""

    def now(self) -> datetime: ...


class LiveRead(NamedTuple):
    """What lives, and what of it could not be read."""

    live: Live
    unseen: Unseen


def read_live(cluster: Clock, kinds: Iterable[FactKind[Any, Any]], namespaces: Sequence[str] = ()) -> LiveRead:
    """The living objects of these kinds, in these namespaces or in all. A list that ends in the middle counts as not
    seen: with half of the pods the others would look lost.
    Raises ClusterRefused or FactsUnavailable if the cluster doesn't even say what time it is.
    """
    unseen = Unseen()
    records: dict[FactKind[Any, Any], Mapping[Any, Any]] = {}
    read_at = {}
    for kind in sorted(kinds, key=lambda kind: kind.full_resource):
        begun = cluster.now()
        found: dict[Any, Any] = {}
        is_whole = True
        for namespace in (kind.is_namespaced and namespaces) or ("",):
            try:
                listed = list_kind(cluster, kind, namespace)
            except (ClusterRefused, FactsUnavailable) as error:
                is_whole = False
                if not _is_absent(error):
                    unseen.note(kind.full_resource, error, namespace)
            else:
                found |= listed.records
                unseen.objects += unreadable_facts(listed.unreadable)
        if is_whole:
            records[kind], read_at[kind] = found, begun
    return LiveRead(Live(records, read_at, cluster.now()), unseen)


def _is_absent(error: ForestallError) -> bool:
    """Whether the cluster doesn't serve the kind."""
    return isinstance(error, ClusterRefused) and error.status == 404
