"""Nodes: a node's labels and taints, and the memory that it has for pods."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadQuantity
from webhook.objects.facts.decoding import Metadata, Wire, WirePart, read_texts
from webhook.objects.facts.zones import zone_of
from webhook.objects.quantities import parse_memory
from webhook.policy import FactKind, FactReference


class Taint(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: str
    effect: str


class Node(msgspec.Struct, frozen=True, gc=False):
    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    memory: int
    """Allocatable memory in bytes; 0 where the node doesn't say."""

    @property
    def zone(self) -> str:
        return zone_of(self.labels)


class WiredTaint(WirePart):
    """A taint as it arrives."""

    key: str = ""
    value: str | None = None
    effect: str | None = None

    def read(self) -> Taint:
        return Taint(intern(self.key), intern(self.value or ""), intern(self.effect or ""))


class _Spec(WirePart):
    taints: list[WiredTaint] | None = None


class _Status(WirePart):
    allocatable: dict[str, Any] | None = None


class _Node(Wire):
    spec: _Spec | None = None
    status: _Status | None = None


def _read(reference: FactReference, metadata: Metadata, wired: _Node) -> Node:
    spec, status = wired.spec or _Spec(), wired.status or _Status()
    return Node(
        name=reference.name,
        labels=read_texts(metadata.labels, "metadata.labels"),
        taints=tuple(taint.read() for taint in spec.taints or ()),
        memory=memory_of(status.allocatable, "status.allocatable"),
    )


def memory_of(amounts: Mapping[str, Any] | None, path: str) -> int:
    """The memory among the amounts that stand at a path, in bytes; 0 without one. Raises BadQuantity."""
    memory = (amounts or {}).get("memory")
    try:
        return 0 if memory is None else parse_memory(memory)
    except BadQuantity as error:
        raise BadQuantity(f"{path}.memory: {error}") from error


NODES: FactKind[str, Node] = FactKind(group="", kind="Node", resource="nodes", wire=_Node, read=_read)
