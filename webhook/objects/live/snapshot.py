"""What lives in a cluster, as one frozen value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any

from webhook.objects.live.nodes import LIVE_NODES
from webhook.objects.live.pods import LIVE_PODS, LivePod
from webhook.objects.live.workloads import LIVE_STATEFUL_SETS, LIVE_WORKLOADS, LiveWorkload
from webhook.policy import FactKind, FactRecord, RecordKey, Reference

_NONE: Mapping[Any, Any] = MappingProxyType({})
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Live:
    """What lives in a cluster.

    records  by kind; one that isn't among them was not seen, which is not the same as empty
    read_at  by kind, when its list was asked for, by the API server's clock
    now      when the last one was
    """

    records: Mapping[FactKind[Any, Any], Mapping[Any, Any]] = field(default_factory=dict)
    read_at: Mapping[FactKind[Any, Any], datetime] = field(default_factory=dict)
    now: datetime = _NEVER

    def of(self, kind: FactKind[RecordKey, FactRecord]) -> Mapping[RecordKey, FactRecord]:
        """The records of a kind, by its name, or its namespace and name."""
        return self.records.get(kind, _NONE)

    def sees(self, kind: FactKind[Any, Any]) -> bool:
        return kind in self.records

    def workloads(self) -> Iterator[LiveWorkload]:
        for kind in LIVE_WORKLOADS:
            yield from self.of(kind).values()

    def troubled(self) -> Iterator[LivePod]:
        """The pods that are not healthy."""
        return (pod for pod in self.of(LIVE_PODS).values() if not pod.is_healthy)

    @cached_property
    def pods_by_node(self) -> Mapping[str, list[LivePod]]:
        """The pods that run, or are about to, on each node that is there."""
        found: dict[str, list[LivePod]] = {name: [] for name in self.of(LIVE_NODES)}
        for pod in self.of(LIVE_PODS).values():
            if pod.node in found and not pod.is_over:
                found[pod.node].append(pod)
        return found

    def owner_of(self, pod: LivePod) -> Reference:
        """The object that a person made, for which the pod is there: the pod itself, if nobody's."""
        group, kind, name = pod.owner
        if not kind:
            return Reference("Pod", pod.namespace, pod.name)
        if (group, kind) == ("apps", "StatefulSet"):
            above = self.of(LIVE_STATEFUL_SETS).get((pod.namespace, name))
            if above is not None and above.owner.kind:  # an operator's: Prometheus, Alertmanager
                return Reference(above.owner.kind, pod.namespace, above.owner.name)
        return Reference(kind, pod.namespace, name)


NOTHING_LIVES = Live()
