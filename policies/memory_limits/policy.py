"""Every container, init container and sidecar has a memory limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from webhook.errors import FactsUnavailable
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.helm_values import helm_value
from webhook.objects.images import match_image
from webhook.objects.pods import Container, Workload, mapping, read_workload
from webhook.objects.prometheus import is_agent, series_containers
from webhook.objects.quantities import Memory, format_memory, is_fraction_of_byte
from webhook.objects.sizes import NO_MOST, Bound, Bounds, Size, Wish, admitted, refused, share, unread_ranges
from webhook.policy import AdmissionRequest, Policy, Violation

_Sizes = dict[str, Memory]
_REQUEST = Memory.parse("256Mi")


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    default_limit: Annotated[Memory, Meta(description="For containers that no pattern names.")] = Memory.parse("512Mi")
    default_request: Annotated[Memory, Meta(description="Set with a limit if there is none.")] = _REQUEST
    images: Annotated[_Sizes, Meta(description="Image pattern -> limit; the first match counts.")] = msgspec.field(
        default_factory=dict
    )
    containers: Annotated[_Sizes, Meta(description="Container name pattern -> limit, before images.")] = msgspec.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        for name, size in {"defaultLimit": self.default_limit, **self.images, **self.containers}.items():
            if not size:
                raise ValueError(f"{name}: 0 is no limit: name an amount, such as 512Mi")
        # Where only the limit is named, and lower, the request that nobody named is lowered with it.
        if self.default_request > self.default_limit and self.default_request != _REQUEST:
            raise ValueError(f"defaultRequest {self.default_request} is above defaultLimit {self.default_limit}")


class _Pod(NamedTuple):
    """A workload, and what its namespace's LimitRanges are."""

    workload: Workload
    ranges: tuple[LimitRange, ...]
    bounds: Bounds
    unread: str
    """The LimitRanges among them that could not be read, in words."""
    params: Params


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    """Raises FactsUnavailable where an unseen LimitRange may be what gives a container its limit."""
    workload = read_workload(request)
    if workload is None:
        return
    path = f"{workload.spec_path}.resources"
    of_pod = mapping(workload.resources, "limits", path).get("memory")
    if of_pod is not None and (wrong := _why_none(of_pod, workload.memory("limits"))):
        yield _pod_limit(f"{path}.limits.memory", wrong, params)
        return
    unlimited = [
        each
        for each in workload.containers
        if (limit := each.memory("limits")) is None or _why_none(limit, each.amount("limits"))
    ]
    if not unlimited:
        return
    ranges = facts.of(LIMIT_RANGES).get(workload.namespace, ())
    unread = unread_ranges(workload.namespace, facts)
    yield from _judge(_Pod(workload, ranges, Bounds.of(ranges), unread, params), unlimited)


def _why_none(limit: Any, amount: int | None) -> str:
    """Why a limit that is written counts as none; empty if it counts."""
    if not amount:
        return f"{limit}, which means none"
    if is_fraction_of_byte(limit):
        meant = f" (was {str(limit)[:-1]}Mi meant?)" if str(limit).endswith("m") else ""
        return f"{limit}, a fraction of a byte{meant}"
    return ""


def _pod_limit(path: str, wrong: str, params: Params) -> Violation:
    # How the containers share it is nobody's to guess, and the API server refuses theirs if they are above it.
    advice = f"set {path} to {format_memory(params.default_limit)} or whatever the whole pod needs, or leave it out"
    return Violation(path, "", f"the pod has a memory limit of its own of {wrong}: {advice}")


def _judge(pod: _Pod, unlimited: Sequence[Container]) -> Iterator[Violation]:
    found = list(_complaints(pod, unlimited))
    sizes = _sizes(pod, [container for container, _, _ in found])
    for container, wrong, given in found:
        named, size = _named_size(container, pod.params), sizes[container.path]
        advice = size if isinstance(size, str) else f"set limits.memory to {format_memory(size.limit)}"
        if given is not None and isinstance(size, Size) and size.request != container.amount("requests"):
            advice += f" and requests.memory to {format_memory(size.request)}"
        yield Violation(
            container.memory_path("limits"),
            container.name,
            f"{wrong}: {advice}",
            value=given,
            fix=None if isinstance(size, str) else size.sets(container),
            fix_named=named is not None,
            hint=helm_value(pod.workload.object, container.name, "resources"),
        )


def _complaints(pod: _Pod, unlimited: Sequence[Container]) -> Iterator[tuple[Container, str, int | None]]:
    """The containers that have no limit, or one from a LimitRange that does harm; what is wrong, and that limit."""
    default = pod.bounds.default
    # The API server fills a default in when the pod is made, but never over a limit that is written.
    filled = {each.path for each in unlimited if default and each.memory("limits") is None}
    harm = _harm(pod, [each for each in unlimited if each.path in filled]) if default else {}
    for container in unlimited:
        limit = container.memory("limits")
        if container.path in filled:
            if wrong := harm.get(container.path):
                yield container, wrong, default and default.amount
        elif pod.workload.memory("limits") is None:
            if limit is None and pod.unread:
                raise FactsUnavailable(
                    f"container {container.name!r} has no memory limit, and {pod.unread}, which may give it one, could "
                    "not be read"
                )
            missing = (
                "no memory limit" if limit is None else f"memory limit {_why_none(limit, container.amount('limits'))}"
            )
            yield container, f"container {container.name!r} has {missing}", None


def _harm(pod: _Pod, filled: Sequence[Container]) -> Mapping[str, str]:
    """By container, why pods will be refused with the default that it is given.

    The LimitRange's default is the remedy that the incident asks for, unless the API server then refuses the pod.
    """
    found = refused(pod.workload, pod.ranges)
    if not found or pod.bounds.default is None:
        return {}
    # Where the pod as a whole contradicts itself, no default is to blame.
    of_pod = None if "" in refused(pod.workload, ()) else found.get("")
    who = "this Pod" if pod.workload.kind == "Pod" else f"pods of this {pod.workload.kind}"
    default, pod_limit = pod.bounds.default, pod.workload.memory("limits")
    given = f"the default limit {format_memory(default.amount)} that {default.words} gives"
    harm = {}
    for container in filled:
        refusal = found.get(container.name) or of_pod
        if refusal is None:
            continue
        if (container.amount("requests") or 0) > default.amount:
            wrong = f"request {container.memory('requests')} is above {given}"
        elif pod_limit is not None and pod_limit < default.amount:
            wrong = f"the pod's own limit {format_memory(pod_limit)} is below {given}"
        else:
            wrong = f"with {given}, {refusal.wrong}"
        harm[container.path] = f"{who} will be refused: container {container.name!r}: {wrong}"
    return harm


def _sizes(pod: _Pod, containers: Sequence[Container]) -> Mapping[str, Size | str]:
    """By container, the size that it is given, or why it can't be."""
    if not containers:
        return {}
    with_series = {each.path for each in series_containers(pod.workload) if not is_agent(pod.workload, each)}
    room = _room(pod.workload, containers)
    sizes = {each.path: _size(pod, each, room, has_series=each.path in with_series) for each in containers}
    return admitted(pod.workload, pod.ranges, sizes)


def _room(workload: Workload, containers: Sequence[Container]) -> Bound | None:
    """What the pod's own resources leave each of the containers to request, as the API server adds them up."""
    whole = workload.memory("requests")
    whole = workload.memory("limits") if whole is None else whole
    if whole is None:
        return None
    sized = {each.path for each in containers if not _requested(each)}
    taken = sum(
        # A lone limit is copied into the request.
        each.amount("requests") or each.amount("limits") or 0
        for each in workload.containers
        if each.role != "init" and each.path not in sized
    )
    left = share(whole - taken, len(sized))
    return Bound(left, f"the pod's own resources leave each {format_memory(left)}")


def _size(pod: _Pod, container: Container, room: Bound | None, *, has_series: bool) -> Size | str:
    named, params, bounds = _named_size(container, pod.params), pod.params, pod.bounds
    if named is None and has_series:
        return (
            "set limits.memory to the size that prometheus-memory names, since no default is safe for a container that "
            "holds Prometheus' series"
        )
    if pod.unread and bounds.default is None:
        return f"set limits.memory, within {pod.unread}, which could not be read"
    given = bounds.default if container.memory("limits") is None else None
    pod_limit, pod_request = pod.workload.memory("limits"), pod.workload.memory("requests")
    if pod_limit is not None:
        bounds = bounds.within(Bound(pod_limit, f"the pod's own limit is {format_memory(pod_limit)}"))
    elif pod_request is not None and given is None:
        # What a container requests has to fit into that.
        whole = format_memory(max(pod_request, params.default_limit))
        return f"the pod has a request of its own: set {pod.workload.spec_path}.resources.limits.memory to {whole}"
    wanted = given.amount if given else params.default_limit
    if written := _requested(container):
        request = Wish.fixed(written, "its request")
    else:
        # Left out, the API server would copy the limit into it, and the pod would reserve all of that.
        request = Wish(bounds.default_request or params.default_request, most=room or NO_MOST)
    size = bounds.fit(Wish(wanted if named is None else named), request)
    return f"no limit fits, since {size}" if isinstance(size, str) else size


def _requested(container: Container) -> int:
    """What somebody asked for: not 0, which a LimitRange or a chart filled in, nor the slip of a fraction of a byte."""
    written = container.memory("requests")
    return 0 if written is None or is_fraction_of_byte(written) else container.amount("requests") or 0


def _named_size(container: Container, params: Params) -> Memory | None:
    for pattern, size in params.containers.items():
        if fnmatchcase(container.name, pattern):
            return size
    for pattern, size in params.images.items():
        if match_image(pattern, container.image):
            return size
    return None


POLICY = Policy(
    id="memory-limits",
    summary="Every container, init container and sidecar has a memory limit.",
    examine=examine,
    params=Params,
    incidents=("NU.nl 2019: ElastAlert pods without memory limits took node after node",),
    subresources=("resize",),
    facts=(LIMIT_RANGES,),
    names_sizes=lambda params: bool(params.images or params.containers),
    mode="patch",
    otherwise="deny",
)
