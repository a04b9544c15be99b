"""The container that holds Prometheus' series has the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from webhook.charts import helm_value
from webhook.facts import ClusterFacts
from webhook.monitoring import is_agent, series_containers
from webhook.nodes import largest_node
from webhook.pods import Container, Workload, read_workload
from webhook.policy import AdmissionRequest, Policy, Set, Violation
from webhook.quantities import Memory, format_memory

_MEBIBYTE = 2**20
_Part = Literal["requests", "limits"]


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    min_request: Annotated[Memory, Meta(description="The least request.")] = Memory.parse("4Gi")
    min_limit: Annotated[Memory, Meta(description="The least limit.")] = Memory.parse("6Gi")
    series: Annotated[int | None, Meta(description="Head series; the floors are then computed from them.")] = None
    largest_node: Annotated[Memory | None, Meta(description="Allocatable memory of the largest node there can be.")] = (
        None
    )

    def __post_init__(self) -> None:
        if self.series is not None and self.series < 1:
            raise ValueError(f"series {self.series} is not a positive number")
        if self.min_request > self.min_limit:
            raise ValueError(f"minRequest {self.min_request} is above minLimit {self.min_limit}")


class _Floor(msgspec.Struct, frozen=True):
    request: int
    limit: int
    reason: str


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    workload = read_workload(request)
    if workload is None:
        return
    for container in series_containers(workload):
        if not is_agent(workload, container):
            yield from _judge(workload, container, facts, params)


def _judge(workload: Workload, container: Container, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    floor = _floor(params)
    request = _first(container.amount("requests"), workload.memory("requests"))
    # 0 means none; of two limits the lower one kills.
    limit = min((each for each in (container.amount("limits"), workload.memory("limits")) if each), default=None)
    parts: tuple[tuple[_Part, int | None, int], ...] = (
        ("requests", request, floor.request),
        ("limits", limit, floor.limit),
    )
    short = [(part, found, least) for part, found, least in parts if found is None or found < least]
    if not short:
        return
    obstacle = _obstacle(workload, container, facts, params, floor)
    for part, found, least in short:
        yield Violation(
            container.memory_path(part),
            container.name,
            _message(container, part, found, least, floor.reason, obstacle),
            value=found,
            fix=None if obstacle else _fix(container, floor),
            hint=helm_value(workload.object, container.name, "resources"),
        )


def _first(*amounts: int | None) -> int | None:
    return next((amount for amount in amounts if amount is not None), None)


def _floor(params: Params) -> _Floor:
    """What is enough: the figures that ended the incident, or those that the number of series asks for.

    limit = 1.2 x (256 MiB + 8 KiB x series), request = limit / 1.5, the incident's ratio; both rounded up to MiB.
    Real series take 4.5 to 9 KiB each, so the need may be 44 % less or 13 % more; heavy queries come on top.
    """
    if params.series is None:
        return _Floor(params.min_request, params.min_limit, "")
    limit = -(-12 * (256 * _MEBIBYTE + 8 * 1024 * params.series) // (10 * _MEBIBYTE))
    request = -(-2 * limit // 3)
    reason = f" for {params.series} series (-44 % / +13 %, without heavy queries)"
    return _Floor(request * _MEBIBYTE, limit * _MEBIBYTE, reason)


def _message(
    container: Container,
    part: _Part,
    found: int | None,
    least: int,
    reason: str,
    obstacle: str,
) -> str:
    noun = part.removesuffix("s")
    wrong = f"has no memory {noun}" if not found else f"has memory {noun} {format_memory(found)}"
    advice = f"set {part}.memory to {format_memory(least)} or more"
    return f"Prometheus container {container.name!r} {wrong}: {advice}{reason}{obstacle}"


def _fix(container: Container, floor: _Floor) -> tuple[Set, ...]:
    """Both amounts, so that neither half alone can leave a limit below its request; what is enough is left alone."""
    request, limit = container.amount("requests"), container.amount("limits")
    new_request = max(request or 0, floor.request)
    new_limit = max(limit or 0, floor.limit, new_request)
    sets = []
    if new_limit != limit:
        sets.append(Set(container.memory_path("limits"), format_memory(new_limit)))
    if new_request != request:
        sets.append(Set(container.memory_path("requests"), format_memory(new_request)))
    return tuple(sets)


def _obstacle(workload: Workload, container: Container, facts: ClusterFacts, params: Params, floor: _Floor) -> str:
    """Why the floor can't simply be patched in; empty if it can."""
    request = max(container.amount("requests") or 0, floor.request)
    limit = max(container.amount("limits") or 0, floor.limit, request)
    if workload.memory("limits") is not None or workload.memory("requests") is not None:
        return "; the pod has memory resources of its own, which have to grow with it"
    for each in facts.limit_ranges.get(workload.namespace, ()):
        if each.max is not None and each.max < limit:
            return f"; LimitRange {each.name} of namespace {each.namespace} allows {format_memory(each.max)} at most"
    node = largest_node(workload, facts)
    largest = params.largest_node or (node.memory if node else 0)
    if not largest:
        return "; no node that could hold it is known"
    if largest < request:
        return f"; the largest node that it may use has {format_memory(largest)}, less than that request"
    return ""


POLICY = Policy(
    id="prometheus-memory",
    summary="The container that holds Prometheus' series has the memory that they need.",
    examine=examine,
    params=Params,
    incidents=("Kubecost incident 4: a Prometheus with 2Gi/3Gi was killed for three days and its billing data lost",),
    subresources=("resize",),
    facts=frozenset({"limitranges", "nodes"}),
    mode="deny",
)
