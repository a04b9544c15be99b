"""Every container, init container and sidecar has a memory limit."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from webhook.charts import helm_value
from webhook.facts import ClusterFacts, LimitRange
from webhook.images import match_image
from webhook.monitoring import is_agent, series_containers
from webhook.pods import Container, Workload, read_workload
from webhook.policy import AdmissionRequest, Policy, Set, Violation
from webhook.quantities import Memory, format_memory, is_fraction_of_byte

_Sizes = dict[str, Memory]


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    default_limit: Annotated[Memory, Meta(description="For containers that no pattern names.")] = Memory.parse("512Mi")
    default_request: Annotated[Memory, Meta(description="Set with a limit if there is none.")] = Memory.parse("256Mi")
    images: Annotated[_Sizes, Meta(description="Image pattern -> limit; the first match counts.")] = msgspec.field(
        default_factory=dict
    )
    containers: Annotated[_Sizes, Meta(description="Container name pattern -> limit, before images.")] = msgspec.field(
        default_factory=dict
    )


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    workload = read_workload(request)
    if workload is None:
        return
    unlimited = [each for each in workload.containers if each.memory("limits") is None or _why_missing(each)]
    if not unlimited:
        return
    ranges = facts.limit_ranges.get(workload.namespace, ())
    default = next((each for each in ranges if each.default is not None), None)
    bounds, has_pod_limit = _bounds(ranges), bool(workload.memory("limits"))
    with_series = {each.path for each in series_containers(workload) if not is_agent(workload, each)}
    for container in unlimited:
        # The API server fills a default in when the pod is made, but never over a limit that is written.
        if default is not None and container.memory("limits") is None:
            yield from _judge_default(workload, container, default)
        elif not has_pod_limit:
            yield _missing(workload, container, bounds, params, has_series=container.path in with_series)


def _why_missing(container: Container) -> str:
    """Why a limit that is written counts as none; empty if it counts."""
    limit = container.memory("limits")
    if not container.amount("limits"):
        return f"{limit}, which means none"
    if is_fraction_of_byte(limit):
        return f"{limit}, a fraction of a byte (was {str(limit).rstrip('mun')}Mi meant?)"
    return ""


def _judge_default(workload: Workload, container: Container, given: LimitRange) -> Iterator[Violation]:
    """The LimitRange's default is the remedy that the incident asks for, unless the API server then refuses the pod."""
    default = given.default or 0
    request, pod_limit = container.amount("requests"), workload.memory("limits")
    if request is not None and request > default:
        size, wrong = request, f"request {container.memory('requests')} is above"
    elif pod_limit is not None and pod_limit < default:
        size, wrong = pod_limit, f"the pod's own limit {format_memory(pod_limit)} is below"
    else:
        return
    who = "this Pod" if workload.kind == "Pod" else f"pods of this {workload.kind}"
    source = f"namespace {given.namespace}'s LimitRange {given.name} gives"
    advice = f"set limits.memory to {format_memory(size)}"
    path = container.memory_path("limits")
    yield Violation(
        path,
        container.name,
        f"{who} will be refused: container {container.name!r}: {wrong} the default limit {format_memory(default)} "
        f"that {source}: {advice}",
        value=default,
        fix=Set(path, format_memory(size)) if given.max is None or size <= given.max else None,
        hint=helm_value(workload.object, container.name, "resources"),
    )


def _missing(
    workload: Workload, container: Container, bounds: _Bounds, params: Params, *, has_series: bool
) -> Violation:
    wrong = "no memory limit" if container.memory("limits") is None else f"memory limit {_why_missing(container)}"
    named = _named_size(container, params)
    fix: tuple[Set, ...] = ()
    if named is None and has_series:
        advice = "a Prometheus' series are in it, so no default is safe: prometheus-memory says the size"
    elif (pod_request := workload.memory("requests")) is not None:
        # What a container requests has to fit into that, and the API server copies a lone limit into the request.
        size = max(pod_request, params.default_limit)
        field = f"{workload.spec_path}.resources.limits.memory"
        advice = f"the pod has a request of its own: set {field} to {format_memory(size)}"
    else:
        fix, advice = _sized(container, bounds, params.default_limit if named is None else named, params)
    return Violation(
        container.memory_path("limits"),
        container.name,
        f"container {container.name!r} has {wrong}: {advice}",
        fix=fix or None,
        fix_named=named is not None,
        hint=helm_value(workload.object, container.name, "resources"),
    )


def _named_size(container: Container, params: Params) -> Memory | None:
    for pattern, size in params.containers.items():
        if fnmatchcase(container.name, pattern):
            return size
    for pattern, size in params.images.items():
        if match_image(pattern, container.image):
            return size
    return None


class _Bounds(NamedTuple):
    """What the namespace's LimitRanges leave a container, in bytes; all of them are validated."""

    least: int
    most: int | None
    ratio: int | None
    default_request: int | None


def _bounds(ranges: tuple[LimitRange, ...]) -> _Bounds:
    ours = [each for each in ranges if each.type == "Container"]
    return _Bounds(
        least=max((each.min for each in ours if each.min is not None), default=0),
        # A container can't have more than its whole pod may, either.
        most=min((each.max for each in ranges if each.max is not None), default=None),
        ratio=min((int(each.max_ratio) for each in ours if each.max_ratio), default=None),
        default_request=next((each.default_request for each in ours if each.default_request is not None), None),
    )


def _sized(container: Container, bounds: _Bounds, size: int, params: Params) -> tuple[tuple[Set, ...], str]:
    """The fix that gives the container `size`, as near as the bounds allow, and the advice to do so."""
    request = container.amount("requests")
    limit = max(size, request or 0, bounds.least)
    if request is not None and bounds.ratio is not None:
        limit = min(limit, request * bounds.ratio)
    if bounds.most is not None:
        limit = min(limit, bounds.most)
    if limit < max(request or 0, bounds.least):
        needed = (
            f"its request {container.memory('requests')}" if request else f"the minimum {format_memory(bounds.least)}"
        )
        return (), f"no limit fits, since the LimitRange allows {format_memory(limit)} at most, below {needed}"
    sets: tuple[Set, ...] = (Set(container.memory_path("limits"), format_memory(limit)),)
    if request is None:
        # Left out, the API server would copy the limit into it, and the pod would reserve all of that.
        least = bounds.least if bounds.ratio is None else max(bounds.least, -(-limit // bounds.ratio))
        wanted = params.default_request if bounds.default_request is None else bounds.default_request
        request = min(max(wanted, least), limit)
        sets = (*sets, Set(container.memory_path("requests"), format_memory(request)))
    return sets, f"set limits.memory to {format_memory(limit)}"


POLICY = Policy(
    id="memory-limits",
    summary="Every container, init container and sidecar has a memory limit.",
    examine=examine,
    params=Params,
    incidents=("NU.nl 2019: ElastAlert pods without memory limits took node after node",),
    subresources=("resize",),
    facts=frozenset({"limitranges"}),
    mode="patch",
    otherwise="deny",
)
