"""Whether Prometheus' volume holds what its retention keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from policies.metrics_durability.places import Place
from policies.metrics_durability.retention import Retention
from policies.metrics_durability.stores import Kept
from webhook.objects.helm_values import Value, helm_value
from webhook.objects.pods import Workload
from webhook.objects.quantities import Memory, format_memory
from webhook.policy import Brief, Mode, Set, Violation

_GIBIBYTE = 2**30
_DAY = 86400
_USABLE = 0.8
"""The part of its volume that a Prometheus may fill: the write-ahead log and compaction need room besides.

Source: Prometheus docs/storage.md, "80-85% of your allocated disk space".
"""
_FULL = 0.85


class _Need(NamedTuple):
    """Bytes that are kept, how they are told, and the strongest mode for a volume that holds less."""

    amount: int
    told: str
    at_most: Mode


def volume_for(amount: int) -> Memory:
    """The size of a volume that holds that many bytes, in whole GiB."""
    return Memory(-(-int(amount / _USABLE) // _GIBIBYTE) * _GIBIBYTE)


def too_little(
    workload: Workload, kept: Kept, place: Place, retention: Retention, per_day: int | None
) -> Iterator[Violation]:
    """What is wrong if the volume, whose size is known, is full before the retention deletes anything."""
    size, need = place.size or 0, _need(retention, place.size or 0, per_day)
    if need is None or need.amount <= size * _FULL:
        return
    holds = f"its volume holds {format_memory(size)}"
    end = "its pod is evicted" if place.lifetime == "emptyDir" else "Prometheus stops when it is full"
    most, enough = _as_prometheus(int(size * _USABLE)), volume_for(need.amount)
    remedy = f"give it {enough}, or set {_SETTING[place.is_operated]} to {most}"
    what = _SIZES.get(place.lifetime)
    value = helm_value(workload.object, kept.container.name, what) if what else None
    is_resizable = place.size_path.endswith(("sizeLimit", "requests.storage"))
    yield Violation(
        retention.path,
        kept.container.name,
        f"Prometheus container {kept.container.name!r} keeps {need.told}, and {holds}: {end}: {remedy}",
        value=size - need.amount,
        advice=(Set(place.size_path, str(enough)),) if is_resizable else (),
        brief=Brief(f"Prometheus keeps {need.told}, and {holds}", remedy),
        hint=f"{value}: {enough}" if value else None,
        at_most=need.at_most,
    )


_SIZES: Mapping[str, Value] = {"emptyDir": "sizeLimit", "kept": "size", "memory": "sizeLimit"}
_SETTING = {True: "retentionSize", False: "--storage.tsdb.retention.size"}


def _need(retention: Retention, size: int, per_day: int | None) -> _Need | None:
    if retention.size is not None:
        # Where it's only tight, the write-ahead log may still be small enough.
        mode: Mode = "deny" if retention.size > size else "warn"
        return _Need(retention.size, f"up to {retention.size_told}", mode)
    if per_day is None or not retention.seconds:
        return None
    amount = int(per_day * retention.seconds / _DAY)
    told = f"{retention.time_told} of {format_memory(per_day)} a day, {format_memory(_rounded(amount))} in all"
    return _Need(amount, told, "warn")


def _rounded(amount: int) -> int:
    return -(-amount // 2**20) * 2**20


def _as_prometheus(amount: int) -> str:
    """A size as Prometheus takes it, rounded down: its GB are GiB."""
    return f"{amount // _GIBIBYTE}GB" if amount >= 4 * _GIBIBYTE else f"{amount // 2**20}MB"
