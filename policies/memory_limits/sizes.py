"""The size that a container is given: the one that is named for it, the one that it had, or the default that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from policies.memory_limits.no_default import limit_of_whole, why_no_default
from policies.memory_limits.params import Params
from policies.memory_limits.pod import Pod, meant_request
from webhook.objects.containers import Container
from webhook.objects.images import match_image
from webhook.objects.memory_volumes import written_by
from webhook.objects.quantities import Memory, format_memory, parse_memory
from webhook.objects.sizes import NO_MOST, Bound, Size, Wish, admitted, share


def sizes_of(pod: Pod, containers: Sequence[Container]) -> Mapping[str, Size | str]:
    """By container, the size that it is given, or why it can't be."""
    if not containers:
        return {}
    room = _room(pod, containers)
    return admitted(
        pod.workload, pod.ranges, {container.path: size_of(pod, container, room) for container in containers}
    )


def _room(pod: Pod, containers: Sequence[Container]) -> Bound | None:
    """What the pod's own resources leave each of the containers to request, as the API server adds them up."""
    workload = pod.workload
    whole = workload.amount("requests")
    whole = workload.amount("limits") if whole is None else whole
    if whole is None:
        return None
    requested = {container.path: pod.requested(container) for container in containers}
    taken = sum(
        # The API server copies a limit without a request into the request.
        requested.get(container.path) or container.amount("requests") or container.amount("limits") or 0
        for container in workload.containers
        if container.role != "init" and requested.get(container.path) != 0
    )
    left = share(whole - taken, sum(not amount for amount in requested.values()))
    return Bound(left, f"the pod's own resources leave each {format_memory(left)}")


def size_of(pod: Pod, container: Container, room: Bound | None) -> Size | str:
    """The size that the container is given by itself, or why it can't be; `room` is what its pod leaves to request."""
    named, bounds = named_size(container, pod.params), pod.bounds
    had = pod.limit_before(container)
    if named is None and had is None and (unsafe := why_no_default(pod, container)):
        return unsafe
    if pod.unread and bounds.default is None:
        wanted = format_memory(pod.params.default_limit)
        return f"set limits.memory to {wanted}, or to what is within {pod.unread}, which could not be read"
    given = bounds.default if container.memory("limits") is None else None
    pod_limit, pod_request = pod.workload.amount("limits"), pod.workload.amount("requests")
    if pod_limit is not None:
        bounds = bounds.within(Bound(pod_limit, f"the pod's own limit is {format_memory(pod_limit)}"))
    elif pod_request is not None and given is None and had is None:
        # A container's request has to fit into its share.
        path = pod.workload.memory_path("limits")
        return f"the pod has a request of its own: set {path} to {limit_of_whole(pod)}"
    if meant_request(container):
        request = Wish.fixed(meant_request(container), "its request")
    elif requested := pod.requested(container):
        request = Wish(requested, Bound(requested, f"the request {format_memory(requested)} that it had"))
    else:
        # Left out, the API server would copy the limit into it, and the pod would reserve all of that.
        request = Wish(bounds.default_request or pod.params.default_request, most=room or NO_MOST)
    size = bounds.fit(_wanted_limit(pod, container, named, given), request)
    return f"no limit fits, since {size}" if isinstance(size, str) else size


def _wanted_limit(pod: Pod, container: Container, named: Memory | None, given: Bound | None) -> Wish:
    """The limit that the container had comes back. Else it is the one that is named for it, or the default with room
    for the container's memory volumes beside it."""
    if (had := pod.limit_before(container)) is not None:
        amount = parse_memory(had)
        return Wish(max(amount, named or 0), Bound(amount, f"the limit {had} that it had"))
    volumes = sum(size or 0 for size in written_by(container, pod.workload, pod.memory_volumes).values())
    least = Bound(volumes, f"the {format_memory(volumes)} of its memory volumes")
    if named is not None:
        return Wish(named, least)
    default = given.amount if given else pod.params.default_limit
    return Wish(max(default, meant_request(container)) + volumes, least)


def named_size(container: Container, params: Params) -> Memory | None:
    """The limit that the parameters name for this very container or image; None if they name none."""
    for pattern, size in params.containers.items():
        if fnmatchcase(container.name, pattern):
            return size
    for pattern, size in params.images.items():
        if match_image(pattern, container.image):
            return size
    return None
