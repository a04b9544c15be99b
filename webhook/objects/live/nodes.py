"""Nodes as they are now: whether they are ready, since when, and what memory they keep for the system."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from typing import Any

import msgspec

from webhook.objects.facts import Taint, Wire, WirePart
from webhook.objects.facts.decoding import read_texts, shared_texts
from webhook.objects.facts.nodes import WiredTaint, memory_of
from webhook.objects.live.conditions import Condition, WiredCondition, condition_of
from webhook.objects.live.top_level import LiveMetadata
from webhook.policy import FactKind, FactReference


class LiveNode(msgspec.Struct, frozen=True, gc=False):
    """A node; `capacity` and `allocatable` are bytes of memory, 0 where the node doesn't say."""

    name: str
    created: datetime | None
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    conditions: tuple[Condition, ...]
    capacity: int
    allocatable: int

    @property
    def ready(self) -> Condition | None:
        return condition_of(self.conditions, "Ready")

    @property
    def is_ready(self) -> bool:
        ready = self.ready
        return ready is not None and ready.status == "True"

    @property
    def takes_pods(self) -> bool:
        """Whether the node is ready, and not cordoned."""
        return self.is_ready and not any(taint.key == "node.kubernetes.io/unschedulable" for taint in self.taints)


class _Spec(WirePart):
    taints: list[WiredTaint] | None = None


class _Status(WirePart):
    capacity: dict[str, Any] | None = None
    allocatable: dict[str, Any] | None = None
    conditions: list[WiredCondition] | None = None


class _Node(Wire):
    metadata: LiveMetadata = msgspec.field(default_factory=LiveMetadata)
    spec: _Spec | None = None
    status: _Status | None = None


def _read(reference: FactReference, metadata: LiveMetadata, wired: _Node) -> LiveNode:
    spec, status = wired.spec or _Spec(), wired.status or _Status()
    return LiveNode(
        name=intern(reference.name),
        created=metadata.created_at,
        labels=shared_texts(tuple(read_texts(metadata.labels, "metadata.labels").items())),
        taints=tuple(taint.read() for taint in spec.taints or ()),
        conditions=tuple(condition.read() for condition in status.conditions or ()),
        capacity=memory_of(status.capacity, "status.capacity"),
        allocatable=memory_of(status.allocatable, "status.allocatable"),
    )


LIVE_NODES: FactKind[str, LiveNode] = FactKind(group="", kind="Node", resource="nodes", wire=_Node, read=_read)
