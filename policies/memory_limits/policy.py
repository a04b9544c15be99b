"""Every container, init container and sidecar has a memory limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from policies.memory_limits.observed import observe
from webhook.errors import FactsUnavailable
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.helm_values import resources_value
from webhook.objects.images import match_image
from webhook.objects.limitranger import Refusal
from webhook.objects.live import LIVE_NODES, LIVE_PODS, LIVE_STATEFUL_SETS
from webhook.objects.memory_volumes import memory_volumes, size_limit_path, written_by
from webhook.objects.pods import Container, ResourcePart, Workload, read_workload
from webhook.objects.predecessors import predecessors
from webhook.objects.products import AGENTS, product_of
from webhook.objects.prometheus import LEAST_LIMIT, LEAST_REQUEST, holds_series, is_agent
from webhook.objects.quantities import Memory, format_memory, is_fraction_of_byte, parse_memory
from webhook.objects.sizes import (
    NO_MOST,
    Bound,
    Bounds,
    Size,
    Wish,
    admitted,
    exceeds_itself,
    refused,
    share,
    spell,
    unread_ranges,
)
from webhook.policy import AdmissionRequest, Brief, Policy, Set, Violation

_Sizes = dict[str, Memory]
_REQUEST = Memory.parse("256Mi")
# Some 10 KB for each series: https://grafana.com/docs/alloy/latest/set-up/deploy/
_AGENT = Size(2 * 2**30, 2**30)
_VOLUME = 2**30


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    default_limit: Annotated[Memory, Meta(description="The limit of containers that no pattern names.")] = Memory.parse(
        "512Mi"
    )
    default_request: Annotated[
        Memory, Meta(description="The request that is set beside a limit, if there is none.")
    ] = _REQUEST
    images: Annotated[_Sizes, Meta(description="Limits by pattern of images; the first match counts.")] = msgspec.field(
        default_factory=dict
    )
    containers: Annotated[_Sizes, Meta(description="Limits by pattern of container names, before `images`.")] = (
        msgspec.field(default_factory=dict)
    )

    def __post_init__(self) -> None:
        for name, size in {"defaultLimit": self.default_limit, **self.images, **self.containers}.items():
            if not size:
                raise ValueError(f"{name}: 0 is no limit: name an amount, such as 512Mi")
        # A configured limit below the default request lowers that request, too.
        if self.default_request > self.default_limit and self.default_request != _REQUEST:
            raise ValueError(f"defaultRequest {self.default_request} is above defaultLimit {self.default_limit}")


class _Pod(NamedTuple):
    """A workload, what its namespace's LimitRanges are, and what its containers were before the change, by path."""

    workload: Workload
    ranges: tuple[LimitRange, ...]
    bounds: Bounds
    unread: str
    """A sentence's subject that names the LimitRanges that could not be read; empty if all could."""
    params: Params
    before: Mapping[str, Container]
    memory_volumes: Mapping[str, int | None]

    def limit_before(self, container: Container) -> Any:
        """The limit that the container had before the change, as it was written; None for what counts as none."""
        before = self.before.get(container.path)
        return None if before is None or _why_none(before) else before.memory("limits")

    def requested(self, container: Container) -> int:
        """What somebody asked for, in bytes, now or before the change; 0 if nobody did."""
        if (requested := _requested(container)) or (before := self.before.get(container.path)) is None:
            return requested
        if before.memory("requests") is None and self.limit_before(container) is not None:
            return before.amount("limits") or 0  # the API server copies a limit without a request into the request
        return _requested(before)


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    """Raises FactsUnavailable where an unseen LimitRange may be what gives a container its limit."""
    workload = read_workload(request)
    if workload is None:
        return
    if wrong := _why_none(workload):
        yield _pod_limit(workload.memory_path("limits"), wrong, params)
        return
    unlimited = [
        container for container in workload.containers if container.memory("limits") is None or _why_none(container)
    ]
    trapped = (
        [container for container in workload.containers if exceeds_itself(container)] if request.old_object else []
    )
    ranges = facts.of(LIMIT_RANGES).get(workload.namespace, ())
    if not unlimited and not trapped and not ranges:
        return
    unread = unread_ranges(workload.namespace, facts)
    pod = _Pod(workload, ranges, Bounds.of(ranges), unread, params, predecessors(request), memory_volumes(workload))
    if unlimited and request.before and (lost := _lost_pod_limit(pod, unlimited, request.before)):
        yield lost
        return
    found = list(_judge(pod, unlimited))
    yield from found
    if ranges:
        yield from _refused_for_its_own(pod, unlimited, of_pod=not found)
    yield from _followed(pod, [container for container in trapped if container not in unlimited])


def _why_none(of: Container | Workload) -> str:
    """Why the limit that is written counts as none; empty if it counts, and where none is written."""
    limit = of.memory("limits")
    if limit is None:
        return ""
    if not of.amount("limits"):
        return f"{limit}, which means none"
    if is_fraction_of_byte(limit):
        meant = f" (was {str(limit)[:-1]}Mi meant?)" if str(limit).endswith("m") else ""
        return f"{limit}, a fraction of a byte{meant}"
    return ""


def _pod_limit(path: str, wrong: str, params: Params) -> Violation:
    # How the containers are to share it can't be known, and the API server refuses a container's limit above it.
    size = format_memory(params.default_limit)
    advice = f"set {path} to {size} or whatever the whole pod needs, or leave it out"
    wrong = f"the pod has a memory limit of its own of {wrong}"
    return Violation(path, "", f"{wrong}: {advice}", advice=(Set(path, size),), brief=Brief(wrong, f"set it to {size}"))


def _judge(pod: _Pod, unlimited: Sequence[Container]) -> Iterator[Violation]:
    found = list(_complaints(pod, unlimited))
    sizes = _sizes(pod, [container for container, _, _ in found])
    for container, wrong, given in found:
        named, size = _named_size(container, pod.params), sizes[container.path]
        before = pod.before.get(container.path)
        advice = size if isinstance(size, str) else f"set limits.memory to {spell(size.limit, 'limits', before)}"
        if given is not None and isinstance(size, Size) and size.request != container.amount("requests"):
            advice += f" and requests.memory to {format_memory(size.request)}"
        sets = _advised(pod, container) if isinstance(size, str) else size.sets(container, before)
        yield Violation(
            container.memory_path("limits"),
            container.name,
            f"{wrong}: {advice}",
            value=given,
            fix=None if isinstance(size, str) else sets,
            advice=sets if isinstance(size, str) else (),
            brief=Brief(
                wrong.removeprefix(f"container {container.name!r} has "), advice.partition(", since no default")[0]
            ),
            refused=exceeds_itself(container),
            fix_named=named is not None,
            hint=resources_value(pod.workload.object, container, sets),
        )


def _brief(container: Container, wrong: str, advice: str) -> Brief:
    return Brief(wrong.removeprefix(f"container {container.name!r} has "), advice.partition(", since no default")[0])


def _complaints(pod: _Pod, unlimited: Sequence[Container]) -> Iterator[tuple[Container, str, int | None]]:
    """The containers that have no limit, or one from a LimitRange that does harm; what is wrong, and that limit."""
    default = pod.bounds.default
    # The API server fills a default in when the pod is made, but never over a limit that is written.
    filled = {container.path for container in unlimited if default and container.memory("limits") is None}
    harm = _harm(pod, [container for container in unlimited if container.path in filled]) if default else {}
    for container in unlimited:
        limit = container.memory("limits")
        if container.path in filled:
            if wrong := harm.get(container.path):
                yield container, wrong, default and default.amount
        elif pod.workload.amount("limits") is None:
            if limit is None and pod.unread:
                raise FactsUnavailable(
                    f"container {container.name!r} has no memory limit, and {pod.unread}, which may give it one, could "
                    "not be read"
                )
            missing = "no memory limit" if limit is None else f"memory limit {_why_none(container)}"
            had = "" if (before := pod.limit_before(container)) is None else f", where it had {before}"
            yield container, f"container {container.name!r} has {missing}{had}", None


def _harm(pod: _Pod, filled: Sequence[Container]) -> Mapping[str, str]:
    """By container, why pods will be refused with the default that it is given.

    The LimitRange's default is the remedy that the incident asks for, unless the API server then refuses the pod.
    """
    found = refused(pod.workload, pod.ranges)
    if not found or pod.bounds.default is None:
        return {}
    # Where the pod's own amounts contradict each other, it is refused whatever the defaults are.
    of_pod = None if "" in refused(pod.workload, ()) else found.get("")
    who = _pods_of(pod.workload)
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


def _refused_for_its_own(pod: _Pod, unlimited: Sequence[Container], *, of_pod: bool) -> Iterator[Violation]:
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
            f"{_pods_of(pod.workload)} will be refused by {names} of namespace {pod.workload.namespace}: {subject}: "
            f"{wrong}: {remedy}",
            advice=sets,
            brief=Brief(f"its pods will be refused by {names}: {wrong}", remedy),
            hint=resources_value(pod.workload.object, container, sets) if container else None,
        )


def _fitting(pod: _Pod, containers: Sequence[Container]) -> Mapping[str, Size | str]:
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


def _pods_of(workload: Workload) -> str:
    return "this Pod" if workload.kind == "Pod" else f"pods of this {workload.kind}"


def _sizes(pod: _Pod, containers: Sequence[Container]) -> Mapping[str, Size | str]:
    """By container, the size that it is given, or why it can't be."""
    if not containers:
        return {}
    room = _room(pod, containers)
    return admitted(pod.workload, pod.ranges, {container.path: _size(pod, container, room) for container in containers})


def _room(pod: _Pod, containers: Sequence[Container]) -> Bound | None:
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


def _size(pod: _Pod, container: Container, room: Bound | None) -> Size | str:
    named, bounds = _named_size(container, pod.params), pod.bounds
    had = pod.limit_before(container)
    if named is None and had is None and (unsafe := _why_no_default(pod, container)):
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
        return (
            f"the pod has a request of its own: set {pod.workload.spec_path}.resources.limits.memory to {_whole(pod)}"
        )
    if _requested(container):
        request = Wish.fixed(_requested(container), "its request")
    elif requested := pod.requested(container):
        request = Wish(requested, Bound(requested, f"the request {format_memory(requested)} that it had"))
    else:
        # Left out, the API server would copy the limit into it, and the pod would reserve all of that.
        request = Wish(bounds.default_request or pod.params.default_request, most=room or NO_MOST)
    size = bounds.fit(_wanted_limit(pod, container, named, given), request)
    return f"no limit fits, since {size}" if isinstance(size, str) else size


def _why_no_default(pod: _Pod, container: Container) -> str:
    """Why no limit that isn't meant for this very container is safe for it, and what to set; empty if one is."""
    is_server = holds_series(pod.workload, container)
    if (is_server or product_of(container.image).name in AGENTS) and is_agent(pod.workload, container):
        return (
            f"set limits.memory to {format_memory(_AGENT.limit)}, which some 200,000 series need, or to what it uses "
            "at its busiest, since no default is safe for an agent: it keeps what it can't send in a write-ahead log, "
            "and reads all of that when it starts"
        )
    if is_server:
        return (
            f"set limits.memory to {LEAST_LIMIT} or more, since no default is safe for a container that holds "
            "Prometheus' series"
        )
    if boundless := _boundless(pod, container):
        names = " and ".join(map(repr, boundless))
        return (
            f"set limits.memory to {format_memory(_with_volumes(pod, container).limit)} and the sizeLimit of volume "
            f"{names} to {format_memory(_VOLUME)}, or to what it needs, since no default is safe beside memory "
            "(emptyDir.medium) without a sizeLimit"
        )
    return ""


def _boundless(pod: _Pod, container: Container) -> list[str]:
    """The memory volumes that the container writes to and that have no size limit."""
    written = written_by(container, pod.workload, pod.memory_volumes)
    return [name for name, size in written.items() if size is None]


def _with_volumes(pod: _Pod, container: Container) -> Size:
    """What the container needs once its memory volumes are as large as is advised."""
    written = written_by(container, pod.workload, pod.memory_volumes)
    volumes = sum(_VOLUME if size is None else size for size in written.values())
    request = _requested(container) or pod.params.default_request
    return Size(max(pod.params.default_limit, request) + volumes, request)


def _advised(pod: _Pod, container: Container) -> tuple[Set, ...]:
    """The sets that a person may make where no size is safe enough to patch in."""
    workload = pod.workload
    if is_agent(workload, container):
        return _at_least(_AGENT, container)
    if holds_series(workload, container):
        return _at_least(Size(LEAST_LIMIT, LEAST_REQUEST), container)
    if (whole := _whole(pod)) and workload.amount("limits") is None:
        return (Set(f"{workload.spec_path}.resources.limits.memory", whole),)
    if boundless := _boundless(pod, container):
        volumes = [Set(size_limit_path(name, workload), format_memory(_VOLUME)) for name in boundless]
        return (*_at_least(_with_volumes(pod, container), container), *volumes)
    if pod.unread and pod.bounds.default is None:
        return _at_least(Size(pod.params.default_limit, pod.params.default_request), container)
    return ()


def _at_least(size: Size, container: Container) -> tuple[Set, ...]:
    """This size, but no limit below the request that the container has."""
    requested = _requested(container)
    limit = max(size.limit, requested)
    return Size(limit, requested or min(size.request, limit)).sets(container, None)


def _whole(pod: _Pod) -> str:
    """The limit of a pod that has a request of its own; empty if it has none."""
    request = pod.workload.amount("requests")
    return "" if request is None else format_memory(max(request, pod.params.default_limit))


def _wanted_limit(pod: _Pod, container: Container, named: Memory | None, given: Bound | None) -> Wish:
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
    return Wish(max(default, _requested(container)) + volumes, least)


def _requested(container: Container) -> int:
    """The request in bytes that a person meant: 0 for one of 0, which a LimitRange or a chart filled in, and for a
    fraction of a byte, which is a slip."""
    written = container.memory("requests")
    return 0 if written is None or is_fraction_of_byte(written) else container.amount("requests") or 0


def _lost_pod_limit(pod: _Pod, unlimited: Sequence[Container], request: AdmissionRequest) -> Violation | None:
    """The pod's own limit that vanished since this earlier request, where it was all that its containers had."""
    before = read_workload(request)
    if before is None or _why_none(before) or (had := before.amount("limits")) is None:
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


def _why_refused(pod: _Pod, amounts: Mapping[ResourcePart, int]) -> Refusal | None:
    """Why the API server would refuse the pod with these amounts of its own."""
    resources = dict(pod.workload.resources)
    for part, amount in amounts.items():
        resources[part] = {**(resources.get(part) or {}), "memory": amount}
    workload = msgspec.structs.replace(pod.workload, spec={**pod.workload.spec, "resources": resources})
    return next((refusal for found in refused(workload, pod.ranges).values() for refusal in found), None)


def _followed(pod: _Pod, containers: Sequence[Container]) -> Iterator[Violation]:
    """Of a request above its limit, the one that our default gave and nobody has touched since: it follows the other.

    It stands in no manifest, and whoever sets the other can't know of it.
    """
    new = pod._replace(before={})
    for container in containers:
        before = pod.before.get(container.path)
        given = _size(new, _without(container, "limits", "requests"), None) if before else ""
        if before is None or isinstance(given, str):
            continue
        is_kept = {part: container.amount(part) == before.amount(part) for part in ("limits", "requests")}
        if is_kept["requests"] and not is_kept["limits"] and container.amount("requests") == given.request:
            yield _follower(container, "requests", container.memory("limits"))
        elif is_kept["limits"] and not is_kept["requests"] and container.amount("limits") == given.limit:
            size = _sizes(new, [_without(container, "limits")])[container.path]
            if isinstance(size, Size):
                yield _follower(container, "limits", format_memory(size.limit))


def _without(container: Container, *parts: ResourcePart) -> Container:
    resources = {part: amounts for part, amounts in container.resources.items() if part not in parts}
    return msgspec.structs.replace(container, resources=resources)


def _follower(container: Container, part: ResourcePart, amount: str | int) -> Violation:
    requested, limit = container.memory("requests"), container.memory("limits")
    if part == "requests":
        wrong = f"request {requested}, which is the default's, above its limit {limit}"
    else:
        wrong = f"limit {limit}, which is the default's, below its request {requested}"
    path = container.memory_path(part)
    brief = Brief(f"memory {wrong}", f"set {part}.memory to {amount}")
    message = f"container {container.name!r} has {brief.wrong}: {brief.remedy}"
    return Violation(path, container.name, message, fix=Set(path, amount), brief=brief)


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
    observe=observe,
    lives=(LIVE_PODS, LIVE_NODES, LIVE_STATEFUL_SETS),
    elsewhere="by a LimitRange (label the namespace), by image or container",
    names_sizes=lambda params: bool(params.images or params.containers),
    mode="patch",
    otherwise="deny",
)
