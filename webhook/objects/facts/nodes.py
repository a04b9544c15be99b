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


class _Taint(WirePart):
    key: str = ""
    value: str | None = None
    effect: str | None = None


class _Spec(WirePart):
    taints: list[_Taint] | None = None


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
        taints=tuple(
            Taint(intern(taint.key), intern(taint.value or ""), intern(taint.effect or ""))
            for taint in spec.taints or ()
        ),
        memory=_memory(status.allocatable or {}),
    )


def _memory(allocatable: Mapping[str, Any]) -> int:
    memory = allocatable.get("memory")
    try:
        return 0 if memory is None else parse_memory(memory)
    except BadQuantity as error:
        raise BadQuantity(f"status.allocatable.memory: {error}") from error


NODES: FactKind[str, Node] = FactKind(group="", kind="Node", resource="nodes", wire=_Node, read=_read)
