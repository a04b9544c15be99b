"""What an update may not do to memory: a pod's own limit vanishes, or one amount passes the other that a patch gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from policies.memory_limits.pod import Pod, why_no_limit
from policies.memory_limits.sizes import size_of, sizes_of
from webhook.objects.containers import Container, ResourcePart
from webhook.objects.limitranger import Refusal
from webhook.objects.pods import read_workload
from webhook.objects.quantities import format_memory
from webhook.objects.sizes import Size, refused
from webhook.policy import AdmissionRequest, Brief, Set, Violation


def lost_pod_limit(pod: Pod, unlimited: Sequence[Container], request: AdmissionRequest) -> Violation | None:
    """The pod's own limit that vanished since this earlier request, where it was all that its containers had."""
    before = read_workload(request)
    if before is None or why_no_limit(before) or (had := before.amount("limits")) is None:
        return None
    if pod.bounds.default or pod.unread or pod.workload.amount("limits") is not None:
        return None
    amounts: dict[ResourcePart, int] = {"limits": max(had, pod.workload.amount("requests") or 0)}
    if pod.workload.amount("requests") is None and (requested := before.amount("requests")) is not None:
        amounts["requests"] = requested
    refusal = _why_refused(pod, amounts)
    path, limit = pod.workload.memory_path("limits"), format_memory(amounts["limits"])
    advice = f"with that again the pod would be refused: {refusal}" if refusal else f"set {path} to {limit}"
    return Violation(
        path,
        "",
        f"the pod has no memory limit of its own, where it had {before.memory('limits')}, and container "
        f"{unlimited[0].name!r} has none: {advice}",
        fix=None
        if refusal
        else tuple(Set(pod.workload.memory_path(part), format_memory(amount)) for part, amount in amounts.items()),
    )


def _why_refused(pod: Pod, amounts: Mapping[ResourcePart, int]) -> Refusal | None:
    """Why the API server would refuse the pod with these amounts of its own."""
    resources = dict(pod.workload.resources)
    for part, amount in amounts.items():
        resources[part] = {**(resources.get(part) or {}), "memory": amount}
    workload = msgspec.structs.replace(pod.workload, spec={**pod.workload.spec, "resources": resources})
    return next((refusal for found in refused(workload, pod.ranges).values() for refusal in found), None)


def left_behind(pod: Pod, containers: Sequence[Container]) -> Iterator[Violation]:
    """Of each container's request and limit, where the request is above the limit, the one that our default gave and
    that nobody has touched since: it follows the other.

    It stands in no manifest, and whoever sets the other can't know of it.
    """
    new = pod._replace(before={})
    for container in containers:
        before = pod.before.get(container.path)
        given = size_of(new, _without(container, "limits", "requests"), None) if before else ""
        if before is None or isinstance(given, str):
            continue
        is_kept = {part: container.amount(part) == before.amount(part) for part in ("limits", "requests")}
        if is_kept["requests"] and not is_kept["limits"] and container.amount("requests") == given.request:
            yield _left_behind(container, "requests", container.memory("limits"))
        elif is_kept["limits"] and not is_kept["requests"] and container.amount("limits") == given.limit:
            size = sizes_of(new, [_without(container, "limits")])[container.path]
            if isinstance(size, Size):
                yield _left_behind(container, "limits", format_memory(size.limit))


def _without(container: Container, *parts: ResourcePart) -> Container:
    resources = {part: amounts for part, amounts in container.resources.items() if part not in parts}
    return msgspec.structs.replace(container, resources=resources)


def _left_behind(container: Container, part: ResourcePart, amount: str | int) -> Violation:
    requested, limit = container.memory("requests"), container.memory("limits")
    if part == "requests":
        wrong = f"request {requested}, which is the default's, above its limit {limit}"
    else:
        wrong = f"limit {limit}, which is the default's, below its request {requested}"
    path = container.memory_path(part)
    brief = Brief(f"memory {wrong}", f"set {part}.memory to {amount}")
    message = f"container {container.name!r} has {brief.wrong}: {brief.remedy}"
    return Violation(path, container.name, message, fix=Set(path, amount), brief=brief)
