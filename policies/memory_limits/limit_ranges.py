"""Pods that the namespace's LimitRanges refuse, for a default that they fill in or for what the pod asks itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from policies.memory_limits.pod import Pod, pods_of
from webhook.objects.containers import Container
from webhook.objects.helm_values import resources_value
from webhook.objects.quantities import format_memory
from webhook.objects.sizes import Size, Wish, admitted, refused
from webhook.policy import Brief, Set, Violation


def harm_of_defaults(pod: Pod, filled: Sequence[Container]) -> Mapping[str, str]:
    """By container, why pods will be refused with the default that it is given.

    The LimitRange's default is the remedy that the incident asks for, unless the API server then refuses the pod.
    """
    found = refused(pod.workload, pod.ranges)
    if not found or pod.bounds.default is None:
        return {}
    # Where the pod's own amounts contradict each other, it is refused whatever the defaults are.
    of_pod = None if "" in refused(pod.workload, ()) else found.get("")
    who = pods_of(pod.workload)
    default, pod_limit = pod.bounds.default, pod.workload.amount("limits")
    given = f"the default limit {format_memory(default.amount)} that {default.words} gives"
    harm = {}
    for container in filled:
        refusals = found.get(container.name) or of_pod
        if refusals is None:
            continue
        if (container.amount("requests") or 0) > default.amount:
            wrong = f"request {container.memory('requests')} is above {given}"
        elif pod_limit is not None and pod_limit < default.amount:
            wrong = f"the pod's own limit {format_memory(pod_limit)} is below {given}"
        else:
            wrong = f"with {given}, {refusals[0].wrong}"
        harm[container.path] = f"{who} will be refused: container {container.name!r}: {wrong}"
    return harm


def refused_for_their_own(pod: Pod, unlimited: Sequence[Container], *, of_pod: bool) -> Iterator[Violation]:
    """What the namespace's LimitRanges refuse although nothing is missing; `of_pod`: the pod as a whole, too.

    Only pods are held against a LimitRange: whoever applies a Deployment is not told that it will have none. What the
    API server refuses without any LimitRange is left to it.
    """
    contradicted = refused(pod.workload, ())
    if "" in contradicted:
        return
    spared = {*contradicted, *(container.name for container in unlimited), *([] if of_pod else [""])}
    found = {name: why for name, why in refused(pod.workload, pod.ranges).items() if name not in spared}
    # One without a name is refused by the API server, and its excess would be taken for the pod's.
    containers = {container.name: container for container in pod.workload.containers if container.name}
    if [*found] == [""] and len(containers) == 1:
        # With a single container the pod's excess is that container's.
        found = dict.fromkeys(containers, found[""])
    sizes = _fitting(pod, [containers[name] for name in found if name])
    names = " and ".join(dict.fromkeys(f"LimitRange {limit_range.name}" for limit_range in pod.ranges))
    for name, refusals in found.items():
        subject = f"container {name!r}" if name else "the pod"
        wrong = "; ".join(refusal.wrong for refusal in refusals)
        sets: tuple[Set, ...] = ()
        if not (container := containers.get(name)):
            remedy = "; ".join(refusal.remedy for refusal in refusals)
        elif isinstance(size := sizes[container.path], str):
            remedy = f"no amounts fit, since {size}"
        else:
            sets = _resized(container, size)
            above = f"{container.resources_path}."
            remedy = f"set {' and '.join(f'{fix.path.removeprefix(above)} to {fix.value}' for fix in sets)}"
        yield Violation(
            sets[0].path if sets else refusals[0].path,
            name,
            f"{pods_of(pod.workload)} will be refused by {names} of namespace {pod.workload.namespace}: {subject}: "
            f"{wrong}: {remedy}",
            advice=sets,
            brief=Brief(f"its pods will be refused by {names}: {wrong}", remedy),
            hint=resources_value(pod.workload.object, container, sets) if container else None,
        )


def _fitting(pod: Pod, containers: Sequence[Container]) -> Mapping[str, Size | str]:
    """By container's path, what is nearest to what it has and within the LimitRanges, or why nothing is."""
    sizes: dict[str, Size | str] = {}
    for container in containers:
        limit, request = container.amount("limits") or 0, container.amount("requests")
        sizes[container.path] = pod.bounds.fit(Wish(limit), Wish(limit if request is None else request))
    return admitted(pod.workload, pod.ranges, sizes)


def _resized(container: Container, size: Size) -> tuple[Set, ...]:
    """The sets that give the container this size; a request that isn't written follows the limit by itself."""
    follows = container.memory("requests") is None and size.request == size.limit
    sets = size.sets(container, None)
    return tuple(fix for fix in sets if not (follows and fix.path == container.memory_path("requests")))
