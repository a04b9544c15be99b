"""Every container, init container and sidecar has a memory limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policies.memory_limits.limit_ranges import harm_of_defaults, refused_for_their_own
from policies.memory_limits.no_default import advised
from policies.memory_limits.observed import observe
from policies.memory_limits.params import Params
from policies.memory_limits.pod import Pod, why_no_limit
from policies.memory_limits.sizes import named_size, sizes_of
from policies.memory_limits.updates import left_behind, lost_pod_limit
from webhook.errors import FactsUnavailable
from webhook.objects.containers import Container
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts
from webhook.objects.helm_values import resources_value
from webhook.objects.live import LIVE_NODES, LIVE_PODS, LIVE_STATEFUL_SETS
from webhook.objects.memory_volumes import memory_volumes
from webhook.objects.pods import read_workload
from webhook.objects.predecessors import predecessors
from webhook.objects.quantities import format_memory
from webhook.objects.sizes import Bounds, exceeds_itself, spell, unread_ranges
from webhook.policy import AdmissionRequest, Brief, Policy, Set, Violation


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    """Raises FactsUnavailable where an unseen LimitRange may be what gives a container its limit."""
    workload = read_workload(request)
    if workload is None:
        return
    if wrong := why_no_limit(workload):
        yield _pod_limit(workload.memory_path("limits"), wrong, params)
        return
    unlimited = [
        container for container in workload.containers if container.memory("limits") is None or why_no_limit(container)
    ]
    exceeding = (
        [container for container in workload.containers if exceeds_itself(container)] if request.old_object else []
    )
    ranges = facts.of(LIMIT_RANGES).get(workload.namespace, ())
    if not unlimited and not exceeding and not ranges:
        return
    unread = unread_ranges(workload.namespace, facts)
    pod = Pod(workload, ranges, Bounds.of(ranges), unread, params, predecessors(request), memory_volumes(workload))
    if unlimited and request.before and (lost := lost_pod_limit(pod, unlimited, request.before)):
        yield lost
        return
    found = list(_judge(pod, unlimited))
    yield from found
    if ranges:
        yield from refused_for_their_own(pod, unlimited, of_pod=not found)
    yield from left_behind(pod, [container for container in exceeding if container not in unlimited])


def _pod_limit(path: str, wrong: str, params: Params) -> Violation:
    # How the containers are to share it can't be known, and the API server refuses a container's limit above it.
    size = format_memory(params.default_limit)
    advice = f"set {path} to {size} or whatever the whole pod needs, or leave it out"
    wrong = f"the pod has a memory limit of its own of {wrong}"
    return Violation(path, "", f"{wrong}: {advice}", advice=(Set(path, size),), brief=Brief(wrong, f"set it to {size}"))


def _judge(pod: Pod, unlimited: Sequence[Container]) -> Iterator[Violation]:
    """The violations of containers that have no limit which counts, or a LimitRange's default that does harm."""
    complaints = list(_complaints(pod, unlimited))
    sizes = sizes_of(pod, [complaint.container for complaint in complaints])
    for container, wrong, given in complaints:
        size, before = sizes[container.path], pod.before.get(container.path)
        fix, advice = None, tuple[Set, ...]()
        if isinstance(size, str):
            remedy, advice = size, advised(pod, container)
        else:
            remedy, fix = f"set limits.memory to {spell(size.limit, 'limits', before)}", size.sets(container, before)
            if given is not None and size.request != container.amount("requests"):
                remedy += f" and requests.memory to {format_memory(size.request)}"
        yield Violation(
            container.memory_path("limits"),
            container.name,
            f"{wrong}: {remedy}",
            value=given,
            fix=fix,
            advice=advice,
            brief=Brief(
                wrong.removeprefix(f"container {container.name!r} has "), remedy.partition(", since no default")[0]
            ),
            refused=exceeds_itself(container),
            fix_named=named_size(container, pod.params) is not None,
            hint=resources_value(pod.workload.object, container, fix or advice),
        )


class _Complaint(NamedTuple):
    """What is wrong with a container's limit; `given` is the LimitRange's default that does harm, in bytes."""

    container: Container
    wrong: str
    given: int | None = None


def _complaints(pod: Pod, unlimited: Sequence[Container]) -> Iterator[_Complaint]:
    default = pod.bounds.default
    # The API server fills a default in when the pod is made, but never over a limit that is written.
    filled = {container.path for container in unlimited if default and container.memory("limits") is None}
    harm = harm_of_defaults(pod, [container for container in unlimited if container.path in filled]) if default else {}
    for container in unlimited:
        limit = container.memory("limits")
        if container.path in filled:
            if wrong := harm.get(container.path):
                yield _Complaint(container, wrong, default and default.amount)
        elif pod.workload.amount("limits") is None:
            if limit is None and pod.unread:
                raise FactsUnavailable(
                    f"container {container.name!r} has no memory limit, and {pod.unread}, which may give it one, could "
                    "not be read"
                )
            missing = "no memory limit" if limit is None else f"memory limit {why_no_limit(container)}"
            had = "" if (before := pod.limit_before(container)) is None else f", where it had {before}"
            yield _Complaint(container, f"container {container.name!r} has {missing}{had}")


POLICY = Policy(
    id="memory-limits",
    summary="Every container, init container and sidecar has a memory limit.",
    examine=examine,
    params=Params,
    incidents=("NU.nl 2019: ElastAlert pods without memory limits took node after node",),
    subresources=("resize",),
    facts=(LIMIT_RANGES,),
    observe=observe,
    lives=(LIVE_PODS, LIVE_NODES, LIVE_STATEFUL_SETS),
    elsewhere="by a LimitRange (label the namespace), by image or container",
    names_sizes=lambda params: bool(params.images or params.containers),
    mode="patch",
    otherwise="deny",
)
