"""The memory that a namespace's LimitRanges allow a container, and whether the API server then takes the pod.

Sizes are computed here; limitranger.py, which follows the API server, says whether it takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, Self

import msgspec

from webhook.objects import limitranger
from webhook.objects.containers import Container, ResourcePart
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.facts.limit_ranges import Amounts, Item
from webhook.objects.limitranger import Refusal, refusals
from webhook.objects.pods import Workload
from webhook.objects.quantities import MAX_BYTES, format_memory
from webhook.policy import Set

_MEBIBYTE = 2**20
_PARTS: tuple[ResourcePart, ...] = ("limits", "requests")


class Bound(NamedTuple):
    """An amount in bytes, and what it is: as a lower one "its request 1Gi", as an upper one "its request is 1Gi".

    `moved` says how to move it, where that is a LimitRange's owner's to do: "raise the max of LimitRange x to".
    """

    amount: int
    words: str
    moved: str = ""


_NO_LEAST, NO_MOST = Bound(0, ""), Bound(MAX_BYTES, "")
_ANY_LIMIT = Bound(1, "any limit")


class Wish(NamedTuple):
    """An amount, and how far it may be moved to fit."""

    amount: int
    least: Bound = _NO_LEAST
    most: Bound = NO_MOST

    @classmethod
    def fixed(cls, amount: int, noun: str) -> Self:
        """A wish that may not be moved; the noun is what its amount is, such as "its request"."""
        shown = format_memory(amount)
        return cls(amount, Bound(amount, f"{noun} {shown}"), Bound(amount, f"{noun} is {shown}"))


class Size(NamedTuple):
    """A container's memory, in bytes; the limit is never below the request."""

    limit: int
    request: int

    def sets(self, container: Container, before: Container | None) -> tuple[Set, ...]:
        """The sets that give the container this size; an amount that it had before is written as it was."""
        amounts: Mapping[ResourcePart, int] = {"limits": self.limit, "requests": self.request}
        return tuple(
            Set(container.memory_path(part), spell(amount, part, before))
            for part, amount in amounts.items()
            if container.amount(part) != amount
        )


def spell(amount: int, part: ResourcePart, before: Container | None) -> str | int:
    """The amount as it was written before the change, if it is the same: 4G, not 3906250Ki."""
    written: str | int = format_memory(amount)
    if before and before.amount(part) == amount:
        written = before.memory(part)
    return written


class _Ratio(NamedTuple):
    """A bound on a limit: the multiple of its request that it may be."""

    times: Fraction
    name: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the LimitRanges of a namespace ask of each container, all of them together.

    default          the limit that they give a container without one, and who gives it; one of 0 gives none
    default_request  the same for the request
    """

    least: Bound = _NO_LEAST
    most: Bound = NO_MOST
    ratio: _Ratio | None = None
    default: Bound | None = None
    default_request: int | None = None

    @classmethod
    def of(cls, ranges: Sequence[LimitRange]) -> Self:
        if not ranges:
            return cls()
        # Only those of type Container give anything, or bound a container from below. A container can't have more than
        # its whole pod may, though, and where each keeps to a ratio their sum does.
        ours = [limit_range for limit_range in ranges if limit_range.type == "Container"]
        minima = [_least_of(limit_range, limit_range.min) for limit_range in ours if limit_range.min]
        maxima = [_most_of(limit_range, limit_range.max) for limit_range in ranges if limit_range.max is not None]
        # Through text, since a float can't hold 1.1 exactly.
        ratios = [
            _Ratio(Fraction(str(limit_range.max_ratio)), _called(limit_range))
            for limit_range in ranges
            if limit_range.max_ratio
        ]
        # Of several the API server takes either: the first stands for them, but one of 0 may be the one.
        defaults = [
            Bound(limit_range.default, f"namespace {limit_range.namespace}'s {_called(limit_range)}")
            for limit_range in ours
            if limit_range.default is not None
        ]
        requests = [limit_range.default_request for limit_range in ours if limit_range.default_request is not None]
        return cls(
            max(minima, default=_NO_LEAST),
            min(maxima, default=NO_MOST),
            min(ratios, default=None),
            defaults[0] if defaults and all(default.amount for default in defaults) else None,
            requests[0] if requests and requests[0] else None,
        )

    def within(self, most: Bound) -> Self:
        """These bounds with one upper bound more."""
        return replace(self, most=min(self.most, most))

    def fit(self, limit: Wish, request: Wish) -> Size | str:
        """The amounts nearest to those wished that the bounds allow, the limit's wish first; or why there are none."""
        least_request, most_request = max(request.least, self.least), min(request.most, limit.most, self.most)
        least_limit, most_limit = max(limit.least, least_request, _ANY_LIMIT), min(limit.most, self.most)
        # The limit is fitted first: what allows the limit allows the request.
        pairs = [(least_limit, most_limit), (least_request, most_request)]
        if self.ratio:
            most_limit = min(most_limit, _times(self.ratio, most_request))
            pairs.append((least_limit, most_limit))
        for least, most in pairs:
            if most.amount < least.amount:
                return _contradiction(least, most)
        size = min(max(limit.amount, least_limit.amount), most_limit.amount)
        needed = _up_to_mebibytes(-(-size // self.ratio.times)) if self.ratio else 0
        wanted = max(request.amount, least_request.amount, needed)
        return Size(size, min(wanted, most_request.amount, size))


def _contradiction(least: Bound, most: Bound) -> str:
    """Why no amount is between the two bounds, and what a LimitRange would have to say."""
    ways = [(most.moved, least.amount), (least.moved, most.amount)] if least != _ANY_LIMIT else []
    moved = " or ".join(f"{way} {format_memory(amount)}" for way, amount in ways if way)
    return f"{most.words}, below {least.words}" + (f": {moved}" if moved else "")


def _least_of(limit_range: LimitRange, amount: int) -> Bound:
    named = _called(limit_range)
    return Bound(amount, f"the minimum {format_memory(amount)} of {named}", f"lower the min of {named} to")


def _most_of(limit_range: LimitRange, amount: int) -> Bound:
    named = _called(limit_range)
    return Bound(amount, f"{named} allows {format_memory(amount)} at most", f"raise the max of {named} to")


def _called(limit_range: LimitRange) -> str:
    return f"LimitRange {limit_range.name}"


def _times(ratio: _Ratio, request: Bound) -> Bound:
    most = int(request.amount * ratio.times)
    words = f"{ratio.name} allows {format_memory(most)} at most, {float(ratio.times):g} times the request"
    moved = f"raise the maxLimitRequestRatio of {ratio.name} for a limit of"
    return Bound(most, f"{words}, where {request.words}", moved)


def _up_to_mebibytes(amount: int) -> int:
    return amount if amount < _MEBIBYTE else -(-amount // _MEBIBYTE) * _MEBIBYTE


def share(room: int, count: int) -> int:
    """An equal share of `room` for each of `count`, in whole MiB where it is at least one."""
    part = max(room, 0) // max(count, 1)
    return part if part < _MEBIBYTE else part - part % _MEBIBYTE


def exceeds_itself(container: Container) -> bool:
    """Whether its request is above the limit that is written beside it, which the API server refuses."""
    limit = container.amount("limits")
    return limit is not None and (container.amount("requests") or 0) > limit


def unread_ranges(namespace: str, facts: ClusterFacts) -> str:
    """Which of a namespace's LimitRanges a cluster may have and we could not read; empty if all that it has is known.

    None seen is not the same as none there.
    """
    if facts.read_at is not None and LIMIT_RANGES not in facts.known:
        return f"the LimitRanges of namespace {namespace}"
    return " and ".join(map(str, facts.unreadable_in(LIMIT_RANGES, namespace)))


class GivenMemory(NamedTuple):
    """A container's memory as its pods have it, or the pod's own, in bytes; None where there is none."""

    request: int | None
    limit: int | None


def given_memory(workload: Workload, ranges: tuple[LimitRange, ...]) -> Mapping[str, GivenMemory]:
    """What the API server makes of the memory that is written: by container's path, the pod's own under ""."""
    found = limitranger.given(_memory_alone(workload, {}), _items(ranges))
    return {
        path: GivenMemory(_bytes(container.requests), _bytes(container.limits)) for path, container in found.items()
    }


def _bytes(amounts: Amounts) -> int | None:
    amount = amounts.get("memory")
    return None if amount is None else int(amount)


def refused(
    workload: Workload, ranges: tuple[LimitRange, ...], sizes: Mapping[str, Size] | None = None
) -> Mapping[str, Sequence[Refusal]]:
    """Why the API server would refuse the memory of this workload's pods, once the containers at these paths have
    these sizes: by container's name, the whole pod's under ""."""
    found = [
        refusal
        for refusal in refusals(_memory_alone(workload, sizes or {}), _items(ranges))
        if refusal.resource == "memory"
    ]
    by_container: dict[str, list[Refusal]] = {}
    for refusal in found:
        by_container.setdefault(refusal.container, []).append(refusal)
    return by_container


def admitted(
    workload: Workload, ranges: tuple[LimitRange, ...], sizes: Mapping[str, Size | str]
) -> Mapping[str, Size | str]:
    """These sizes, by container's path; in place of one that makes the API server refuse the pod, the reason."""
    fitting = {path: size for path, size in sizes.items() if isinstance(size, Size)}
    if not fitting or not (ranges or workload.resources):
        return sizes
    found = refused(workload, ranges, fitting)
    reasons = {
        container.path: f"with limit {format_memory(size.limit)} and request {format_memory(size.request)} the pod "
        f"would be refused: {refusals[0]}"
        for container in workload.containers
        if (size := fitting.get(container.path)) and (refusals := found.get(container.name) or found.get(""))
    }
    return {**sizes, **reasons}


def _items(ranges: tuple[LimitRange, ...]) -> tuple[Item, ...]:
    return tuple(limit_range.item for limit_range in ranges)


def _memory_alone(workload: Workload, sizes: Mapping[str, Size]) -> Workload:
    containers = tuple(
        msgspec.structs.replace(container, resources=_resources(container, sizes.get(container.path)))
        for container in workload.containers
    )
    parts = {part: _memory_of(workload.memory(part)) for part in _PARTS}
    return msgspec.structs.replace(workload, containers=containers, spec={"resources": parts})


def _resources(container: Container, size: Size | None) -> dict[str, Any]:
    """The resources with the new amounts. Others stay as written, since the API server compares fractions of a byte,
    too."""
    if size is None:
        return {part: _memory_of(container.memory(part)) for part in _PARTS}
    amounts: Mapping[ResourcePart, int] = {"limits": size.limit, "requests": size.request}
    return {part: {"memory": spell(amount, part, container)} for part, amount in amounts.items()}


def _memory_of(written: Any) -> dict[str, Any]:
    return {} if written is None else {"memory": written}
