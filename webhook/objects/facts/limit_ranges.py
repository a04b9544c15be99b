"""LimitRanges: the memory that a namespace's LimitRanges give containers, and what they bound it by."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal
from itertools import islice
from typing import Any

import msgspec

from webhook.errors import BadQuantity
from webhook.objects.facts.decoding import Metadata, Wire, WirePart
from webhook.objects.quantities import MAX_BYTES, parse_quantity
from webhook.policy import FactKind, FactReference
from webhook.prepared import prepare

_ALWAYS_READ = frozenset({"cpu", "memory", "ephemeral-storage", "storage"})
_MOST_OTHERS = 100
"""Other resources of which an item's amounts are kept, the first: there may be thousands, of hugepages and others."""

Amounts = Mapping[str, Decimal]
"""Resource -> amount."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """One item of a LimitRange, with what the API server fills in when it stores it (SetDefaults_LimitRangeItem)."""

    type: str
    default: Amounts
    default_request: Amounts
    min: Amounts
    max: Amounts
    max_ratio: Amounts


class LimitRange(msgspec.Struct, frozen=True, gc=False):
    """One item of a LimitRange, of type Container or Pod. Its properties are the memory in bytes; None where it names
    none.
    """

    namespace: str
    name: str
    item: Item

    @property
    def type(self) -> str:
        return self.item.type

    @property
    def default(self) -> int | None:
        return _bytes(self.item.default)

    @property
    def default_request(self) -> int | None:
        return _bytes(self.item.default_request)

    @property
    def min(self) -> int | None:
        return _bytes(self.item.min)

    @property
    def max(self) -> int | None:
        return _bytes(self.item.max)

    @property
    def max_ratio(self) -> Decimal | None:
        """The most that a limit may be, as a multiple of its request."""
        return self.item.max_ratio.get("memory")


def _bytes(amounts: Amounts) -> int | None:
    amount = amounts.get("memory")
    return None if amount is None else min(int(amount.to_integral_value(ROUND_UP)), MAX_BYTES)


class _Limits(WirePart):
    type: str | None = None
    default: dict[str, Any] | None = None
    default_request: dict[str, Any] | None = None
    min: dict[str, Any] | None = None
    max: dict[str, Any] | None = None
    max_limit_request_ratio: dict[str, Any] | None = None


class _Spec(WirePart):
    limits: list[_Limits] | None = None


prepare(_Spec)


class _LimitRange(Wire):
    spec: _Spec | None = None


def read_items(spec: Mapping[str, Any]) -> tuple[Item, ...]:
    """The items of a LimitRange's spec; raises BadQuantity, or msgspec.ValidationError for another shape."""
    return tuple(_read_item(item, f"limits[{index}]") for index, item in enumerate(_limits(spec)))


def _limits(spec: Mapping[str, Any]) -> list[_Limits]:
    return msgspec.convert(spec, _Spec).limits or []


def _read(reference: FactReference, _: Metadata, wired: _LimitRange) -> tuple[LimitRange, ...]:
    limits = wired.spec.limits if wired.spec else None
    return tuple(
        LimitRange(reference.namespace, reference.name, _checked(item, f"spec.limits[{index}]"))
        for index, item in enumerate(limits or ())
        if item.type in ("Container", "Pod")
    )


def _checked(written: _Limits, path: str) -> Item:
    item = _read_item(written, path)
    for resource, ratio in item.max_ratio.items():
        if ratio < 1:
            found = (written.max_limit_request_ratio or {})[resource]
            raise BadQuantity(
                f"{path}.maxLimitRequestRatio.{resource}: {found} is below 1, which the API server refuses"
            )
    return item


def _read_item(item: _Limits, path: str) -> Item:
    least, most = _amounts(item.min, f"{path}.min"), _amounts(item.max, f"{path}.max")
    default = _amounts(item.default, f"{path}.default")
    request = _amounts(item.default_request, f"{path}.defaultRequest")
    if item.type == "Container":
        # The API does this defaulting itself when it stores a LimitRange (SetDefaults_LimitRangeItem); one that comes
        # from a chart has not been there yet.
        default = {**most, **default}
        request = {**least, **default, **request}
    ratio = _amounts(item.max_limit_request_ratio, f"{path}.maxLimitRequestRatio", null=None)
    return Item(item.type or "", default, request, least, most, ratio)


def _known(amounts: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(amounts) <= _MOST_OTHERS:
        return amounts
    kept = _ALWAYS_READ.union(islice(amounts, _MOST_OTHERS))
    return {resource: amount for resource, amount in amounts.items() if resource in kept}


def _amounts(amounts: Mapping[str, Any] | None, path: str, *, null: int | None = 0) -> dict[str, Decimal]:
    """The amounts as numbers; one of null counts as `null` says, and is left out where that is None."""
    read = {}
    for resource, written in _known(amounts or {}).items():
        amount = null if written is None else written
        if amount is None:
            continue
        try:
            read[resource] = parse_quantity(amount)
        except BadQuantity as error:
            raise BadQuantity(f"{path}.{resource}: {error}") from error
    return read


LIMIT_RANGES: FactKind[str, tuple[LimitRange, ...]] = FactKind(
    group="", kind="LimitRange", resource="limitranges", wire=_LimitRange, read=_read, key="namespace"
)
