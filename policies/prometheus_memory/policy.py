"""The container that holds Prometheus' series has the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from policies.prometheus_memory.floor import Floor, Params, find_series, floor_of
from policies.prometheus_memory.observed import observe
from webhook.errors import FactsUnavailable
from webhook.objects.containers import Container, ResourcePart
from webhook.objects.facts import LIMIT_RANGES, NODES, ClusterFacts, LimitRange
from webhook.objects.helm_values import resources_value
from webhook.objects.live import LIVE_PODS, LIVE_STATEFUL_SETS
from webhook.objects.nodes import largest_node
from webhook.objects.pods import Workload, read_workload
from webhook.objects.predecessors import predecessors
from webhook.objects.prometheus import is_agent
from webhook.objects.quantities import MAX_BYTES, format_memory
from webhook.objects.sizes import (
    Bound,
    Bounds,
    GivenMemory,
    Size,
    Wish,
    admitted,
    exceeds_itself,
    given_memory,
    unread_ranges,
)
from webhook.policy import AdmissionRequest, Brief, Policy, Set, Violation


class _Found(NamedTuple):
    """An amount that a container has, or None, and how it is told, as it was written."""

    amount: int | None
    words: str


class _Short(NamedTuple):
    """What is too small, as it was found, and the least that it has to be."""

    part: ResourcePart
    found: _Found
    least: int


class _Pod(NamedTuple):
    """A workload, its namespace's LimitRanges, what its containers have with them, and what they were before the
    change, both by path."""

    workload: Workload
    ranges: tuple[LimitRange, ...]
    given: Mapping[str, GivenMemory]
    before: Mapping[str, Container]


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    workload = read_workload(request)
    if workload is None:
        return
    series = [container for container in find_series(workload, params.workloads) if not is_agent(workload, container)]
    if not series:
        return
    floor, ranges = floor_of(params), facts.of(LIMIT_RANGES).get(workload.namespace, ())
    pod = _Pod(workload, ranges, given_memory(workload, ranges), predecessors(request))
    short = {container.path: parts for container in series if (parts := _short(pod, container, floor))}
    if unread := unread_ranges(workload.namespace, facts):
        _refuse_to_guess(pod, short, unread)
    containers = [container for container in series if container.path in short]
    sizes = _sizes(pod, containers, facts, params, floor)
    for container in containers:
        size = sizes[container.path]
        fix = None if isinstance(size, str) else size.sets(container, pod.before.get(container.path))
        # If only the nodes are unknown, the least size is likely to fit.
        advice = _least(container, short[container.path]) if size == _no_node(facts) else ()
        for lack in short[container.path]:
            wrong, remedy = _wrong(lack), _remedy(pod, container, lack, floor, size)
            yield Violation(
                container.memory_path(lack.part),
                container.name,
                f"Prometheus container {container.name!r} has {wrong}: {remedy}",
                value=_value(lack),
                fix=fix,
                advice=advice,
                brief=Brief(f"Prometheus has {wrong}", remedy),
                refused=exceeds_itself(container),
                hint=resources_value(workload.object, container, fix or advice),
            )


def _short(pod: _Pod, container: Container, floor: Floor) -> list[_Short]:
    parts = (
        _Short("requests", _found(pod, container, "requests"), floor.request),
        _Short("limits", _found(pod, container, "limits"), floor.limit),
    )
    return [lack for lack in parts if lack.found.amount is None or lack.found.amount < lack.least]


def _found(pod: _Pod, container: Container, part: ResourcePart) -> _Found:
    """The container's request, or else the pod's; of the container's limit and the pod's the lower one, which is the
    one that kills."""
    own, whole = pod.given[container.path], pod.given[""]
    if part == "requests":
        amount = whole.request if own.request is None else own.request
    else:
        amount = min((limit for limit in (own.limit, whole.limit) if limit), default=None)  # 0 means none
    return _Found(amount, "" if amount is None else _words(pod, container, part, amount))


def _words(pod: _Pod, container: Container, part: ResourcePart, amount: int) -> str:
    """The amount as it was written, and who gave it, if that is not the container."""
    written, limit = container.memory(part), container.memory("limits")
    if written is not None and container.amount(part) == amount:
        return str(written)
    if part == "requests" and limit is not None and container.amount("limits") == amount:
        return f"{limit}, which is its limit"
    if pod.workload.amount(part) == amount:
        return f"{pod.workload.memory(part)}, which is the pod's own"
    givers = [
        limit_range.name
        for limit_range in pod.ranges
        if limit_range.type == "Container"
        and amount == (limit_range.default if part == "limits" else limit_range.default_request)
    ]
    return f"{format_memory(amount)}{f', which LimitRange {givers[0]} gives it' if givers else ''}"


def _refuse_to_guess(pod: _Pod, short: Mapping[str, Sequence[_Short]], unread: str) -> None:
    """Raises FactsUnavailable where nothing is too small but what a LimitRange that wasn't read may give."""
    missing = [path for path, parts in short.items() if all(lack.found.amount is None for lack in parts)]
    if missing and len(missing) == len(short):
        name = next(container.name for container in pod.workload.containers if container.path == missing[0])
        raise FactsUnavailable(
            f"Prometheus container {name!r} lacks memory resources, and {unread}, which may give it some, could not be "
            "read"
        )


def _value(short: _Short) -> int | None:
    # No limit is the most that there can be: to lower it to 512Mi is worse, though 512Mi is more than none.
    return MAX_BYTES if short.part == "limits" and short.found.amount is None else short.found.amount


def _wrong(short: _Short) -> str:
    noun = short.part.removesuffix("s")
    return f"memory {noun} {short.found.words}" if short.found.amount else f"no memory {noun}"


def _least(container: Container, short: Sequence[_Short]) -> tuple[Set, ...]:
    return tuple(Set(container.memory_path(lack.part), format_memory(lack.least)) for lack in short)


def _remedy(pod: _Pod, container: Container, short: _Short, floor: Floor, size: Size | str) -> str:
    part, found, least = short
    if isinstance(size, str):
        return f"set {part}.memory to {format_memory(least)} or more{floor.reason}; {size}"
    enough = size.limit if part == "limits" else size.request
    back, before = "", pod.before.get(container.path)
    if before and enough == before.amount(part) and enough > least:
        back, enough = "" if found.amount else f"back to {before.memory(part)}, or ", least
    remedy = f"set {part}.memory {back}to {format_memory(enough)} or more{floor.reason}"
    # The container's request may be enough, but too low for a LimitRange's ratio to the new limit.
    if part == "limits" and size.request > (pod.given[container.path].request or 0) >= floor.request:
        remedy += f", and requests.memory to {format_memory(size.request)}"
    return remedy


def _sizes(
    pod: _Pod, containers: Sequence[Container], facts: ClusterFacts, params: Params, floor: Floor
) -> Mapping[str, Size | str]:
    """By container, the size that it is given, or what stands in the way."""
    if obstacle := _obstacle(pod.workload, facts):
        return dict.fromkeys((container.path for container in containers), obstacle)
    node = largest_node(pod.workload, facts)
    largest = params.largest_node or (node.memory if node else 0)
    if not largest:
        return dict.fromkeys((container.path for container in containers), _no_node(facts))
    most = Bound(largest, f"the largest node that it may use has {format_memory(largest)}")
    bounds = Bounds.of(pod.ranges)
    sizes = {container.path: _size(pod, container, bounds, most, floor) for container in containers}
    return admitted(pod.workload, pod.ranges, sizes)


def _no_node(facts: ClusterFacts) -> str:
    if NODES in facts.known:
        return "no node that it may use is known: parameter largestNode can say how large one can be"
    return "which node could hold it is not known: give --cluster, --facts or the policy's parameter largestNode"


def _obstacle(workload: Workload, facts: ClusterFacts) -> str:
    """Why no size can be set, whatever it is; empty if one can."""
    if workload.memory("limits") is not None or workload.memory("requests") is not None:
        return "the pod has memory resources of its own, which have to grow with it"
    unread = unread_ranges(workload.namespace, facts)
    return unread and f"{unread}, which may forbid it, could not be read"


def _size(pod: _Pod, container: Container, bounds: Bounds, most: Bound, floor: Floor) -> Size | str:
    """Both amounts, so that neither half alone can leave a limit below its request."""
    given, before = pod.given[container.path], pod.before.get(container.path)
    request = _enough(given.request, floor.request, before.amount("requests") if before else None)
    limit = _enough(given.limit, floor.limit, before.amount("limits") if before else None)
    return bounds.fit(
        Wish(limit, least=Bound(limit, f"the limit {format_memory(limit)}")),
        Wish(request, least=Bound(request, f"the request {format_memory(request)}"), most=most),
    )


def _enough(has: int | None, least: int, had: int | None) -> int:
    """The amount that a container has, if it is enough; else the least that is, and no less than it had before."""
    return has if has is not None and has >= least else max(least, had or 0)


POLICY = Policy(
    id="prometheus-memory",
    summary="The container that holds Prometheus' series has the memory that they need.",
    examine=examine,
    params=Params,
    incidents=("Kubecost incident 4: a Prometheus with 2Gi/3Gi was killed for three days and its billing data lost",),
    subresources=("resize",),
    facts=(LIMIT_RANGES, NODES),
    observe=observe,
    lives=(LIVE_PODS, LIVE_STATEFUL_SETS),
    mode="deny",
)
