"""The container that holds Prometheus' series has the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from webhook.objects.facts import ClusterFacts
from webhook.objects.helm_values import helm_value
from webhook.objects.nodes import largest_node
from webhook.objects.pods import Container, Workload, read_workload
from webhook.objects.prometheus import is_agent, series_containers
from webhook.objects.quantities import MAX_BYTES, Memory, format_memory
from webhook.objects.sizes import Bound, Bounds, Size, Wish, admitted, are_unreadable
from webhook.policy import AdmissionRequest, Policy, Violation

_MEBIBYTE = 2**20
_Part = Literal["requests", "limits"]
_Short = tuple[_Part, int | None, int]
"""What is too small, as it was found, and the least that it has to be."""


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
    floor = _floor(params)
    series = [each for each in series_containers(workload) if not is_agent(workload, each)]
    short = {each.path: parts for each in series if (parts := _short(workload, each, floor))}
    if not short:
        return
    containers = [each for each in series if each.path in short]
    sizes = _sizes(workload, containers, facts, params, floor)
    for container in containers:
        size = sizes[container.path]
        for each in short[container.path]:
            part, found, _ = each
            yield Violation(
                container.memory_path(part),
                container.name,
                _message(container, each, floor, size),
                # No limit is the most that there can be: to lower it to 512Mi is worse, though 512Mi is more than none.
                value=MAX_BYTES if part == "limits" and found is None else found,
                fix=None if isinstance(size, str) else size.sets(container),
                hint=helm_value(workload.object, container.name, "resources"),
            )


def _short(workload: Workload, container: Container, floor: _Floor) -> list[_Short]:
    request = _first(container.amount("requests"), workload.memory("requests"))
    # 0 means none; of two limits the lower one kills.
    limit = min((each for each in (container.amount("limits"), workload.memory("limits")) if each), default=None)
    parts: tuple[_Short, ...] = (("requests", request, floor.request), ("limits", limit, floor.limit))
    return [(part, found, least) for part, found, least in parts if found is None or found < least]


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


def _message(container: Container, short: _Short, floor: _Floor, size: Size | str) -> str:
    part, found, least = short
    noun = part.removesuffix("s")
    wrong = f"has no memory {noun}" if not found else f"has memory {noun} {format_memory(found)}"
    if isinstance(size, str):
        advice = f"set {part}.memory to {format_memory(least)} or more{floor.reason}; {size}"
    else:
        enough = size.limit if part == "limits" else size.request
        advice = f"set {part}.memory to {format_memory(enough)} or more{floor.reason}"
        # What is enough by itself may be too little for a LimitRange's ratio.
        if part == "limits" and size.request > (container.amount("requests") or 0) >= floor.request:
            advice += f", and requests.memory to {format_memory(size.request)}"
    return f"Prometheus container {container.name!r} {wrong}: {advice}"


def _sizes(
    workload: Workload, containers: Sequence[Container], facts: ClusterFacts, params: Params, floor: _Floor
) -> Mapping[str, Size | str]:
    """By container, the size that it is given, or what stands in the way."""
    ranges = facts.limit_ranges.get(workload.namespace, ())
    if obstacle := _obstacle(workload, facts):
        return dict.fromkeys((each.path for each in containers), obstacle)
    node = largest_node(workload, facts)
    largest = params.largest_node or (node.memory if node else 0)
    if not largest:
        return dict.fromkeys((each.path for each in containers), _no_node(facts))
    most = Bound(largest, f"the largest node that it may use has {format_memory(largest)}")
    bounds = Bounds.of(ranges)
    return admitted(workload, ranges, {each.path: _size(each, bounds, most, floor) for each in containers})


def _no_node(facts: ClusterFacts) -> str:
    if "nodes" in facts.known:
        return "no node that it may use is known: parameter largestNode can say how large one can be"
    return "which node could hold it is not known: give --cluster, --facts or the policy's parameter largestNode"


def _obstacle(workload: Workload, facts: ClusterFacts) -> str:
    """Why no size can be set, whatever it is; empty if one can."""
    if workload.memory("limits") is not None or workload.memory("requests") is not None:
        return "the pod has memory resources of its own, which have to grow with it"
    if are_unreadable(facts):
        return f"the LimitRanges of namespace {workload.namespace}, which may forbid it, could not be read"
    return ""


def _size(container: Container, bounds: Bounds, most: Bound, floor: _Floor) -> Size | str:
    """Both amounts, so that neither half alone can leave a limit below its request; what is enough is left alone."""
    request = max(container.amount("requests") or 0, floor.request)
    limit = max(container.amount("limits") or 0, floor.limit)
    return bounds.fit(
        Wish(limit, least=Bound(limit, f"the limit {format_memory(limit)}")),
        Wish(request, least=Bound(request, f"the request {format_memory(request)}"), most=most),
    )


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
