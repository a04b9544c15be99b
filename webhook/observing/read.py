"""Reads what lives in a cluster, kind by kind and page by page; what can't be read costs itself alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from webhook.cluster.lists import Reader, read_bodies
from webhook.cluster.paths import fact_path
from webhook.cluster.unseen import Unreadable, Unseen, unreadable
from webhook.errors import UNREADABLE, ClusterRefused, FactsUnavailable, ForestallError
from webhook.objects.facts import decode_fact
from webhook.objects.live import Live
from webhook.objects.wire import UNDECODABLE
from webhook.policy import FactKind


class Clock(Reader, Protocol):
    """A cluster that can be read and says what time it is."""

    def now(self) -> datetime: ...


@dataclass
class LiveRead:
    """What lives, and what of it could not be read."""

    live: Live
    unseen: Unseen = field(default_factory=Unseen)


def read_live(cluster: Clock, kinds: Iterable[FactKind[Any, Any]], namespaces: Sequence[str] = ()) -> LiveRead:
    """The living objects of these kinds, in these namespaces or in all. A list that ends in the middle counts as not
    seen: with half of the pods the others would look lost.
    Raises ClusterRefused or FactsUnavailable if the cluster doesn't even say what time it is.
    """
    read = LiveRead(Live())
    records: dict[FactKind[Any, Any], Mapping[Any, Any]] = {}
    read_at = {}
    for kind in sorted(kinds, key=lambda kind: kind.full_resource):
        begun = cluster.now()
        found: dict[Any, Any] = {}
        is_whole = True
        for namespace in (kind.is_namespaced and namespaces) or ("",):
            try:
                found |= _list(cluster, kind, namespace, read.unseen.objects)
            except (ClusterRefused, FactsUnavailable) as error:
                is_whole = False
                if not _is_absent(error):
                    read.unseen.note(kind.full_resource, error, namespace)
        if is_whole:
            records[kind], read_at[kind] = found, begun
    read.live = Live(records, read_at, cluster.now())
    return read


def _list(cluster: Reader, kind: FactKind[Any, Any], namespace: str, odd: list[Unreadable]) -> dict[Any, Any]:
    records = {}
    for body in read_bodies(cluster, fact_path(kind, namespace)):
        try:
            reference, record = decode_fact(kind, body)
        except (*UNREADABLE, *UNDECODABLE) as error:
            odd.append(unreadable(kind.kind, body, error))
        else:
            records[(reference.namespace, reference.name) if kind.is_namespaced else reference.name] = record
    return records


def _is_absent(error: ForestallError) -> bool:
    """Whether the cluster doesn't serve the kind."""
    return isinstance(error, ClusterRefused) and error.status == 404
