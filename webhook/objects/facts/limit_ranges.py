"""LimitRanges: the memory that a namespace's LimitRanges give containers, and what they bound it by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from webhook.errors import BadQuantity
from webhook.objects.facts.decoding import Metadata, Part, Wire
from webhook.objects.quantities import parse_memory, parse_quantity
from webhook.policy import FactKind, FactReference


class LimitRange(msgspec.Struct, frozen=True, gc=False):
    """The memory that one item of a LimitRange names, in bytes; None where it names none.

    `default` and `default_request` are those in force: the API fills them from `max`, `default` and `min`.
    """

    namespace: str
    name: str
    type: Literal["Container", "Pod"]
    default: int | None
    default_request: int | None
    min: int | None
    max: int | None
    max_ratio: float | None


class _Limits(Part):
    type: str | None = None
    default: dict[str, Any] | None = None
    default_request: dict[str, Any] | None = None
    min: dict[str, Any] | None = None
    max: dict[str, Any] | None = None
    max_limit_request_ratio: dict[str, Any] | None = None


class _Spec(Part):
    limits: list[_Limits] | None = None


class _LimitRange(Wire):
    spec: _Spec | None = None


def _read(reference: FactReference, _: Metadata, wired: _LimitRange) -> tuple[LimitRange, ...]:
    limits = wired.spec.limits if wired.spec else None
    return tuple(
        _read_limits(reference, item, f"spec.limits[{index}]")
        for index, item in enumerate(limits or ())
        if item.type in ("Container", "Pod")
    )


def _read_limits(reference: FactReference, item: _Limits, path: str) -> LimitRange:
    minimum, maximum = _memory(item.min, f"{path}.min"), _memory(item.max, f"{path}.max")
    default, request = _memory(item.default, f"{path}.default"), _memory(item.default_request, f"{path}.defaultRequest")
    if item.type == "Container":
        # The API does this defaulting itself when it stores a LimitRange (SetDefaults_LimitRangeItem); one that comes
        # from a chart has not been there yet.
        default = maximum if default is None else default
        request = next((value for value in (request, default, minimum) if value is not None), None)
    return LimitRange(
        namespace=reference.namespace,
        name=reference.name,
        type="Container" if item.type == "Container" else "Pod",
        default=default,
        default_request=request,
        min=minimum,
        max=maximum,
        max_ratio=_ratio(item.max_limit_request_ratio, f"{path}.maxLimitRequestRatio"),
    )


def _memory(amounts: Mapping[str, Any] | None, path: str) -> int | None:
    if not amounts or "memory" not in amounts:
        return None
    try:
        # Null is 0 to the API server; one that comes from a chart has not been there yet.
        return parse_memory(0 if amounts["memory"] is None else amounts["memory"])
    except BadQuantity as error:
        raise BadQuantity(f"{path}.memory: {error}") from error


def _ratio(amounts: Mapping[str, Any] | None, path: str) -> float | None:
    value = (amounts or {}).get("memory")
    try:
        ratio = None if value is None else float(parse_quantity(value))
    except BadQuantity as error:
        raise BadQuantity(f"{path}.memory: {error}") from error
    if ratio is not None and ratio < 1:
        raise BadQuantity(f"{path}.memory: {value} is below 1, which the API server refuses")
    return ratio


LIMIT_RANGES: FactKind[str, tuple[LimitRange, ...]] = FactKind(
    group="", kind="LimitRange", resource="limitranges", wire=_LimitRange, read=_read, key="namespace"
)
