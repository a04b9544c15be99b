"""How many findings there were day by day, as the auditor keeps it in a ConfigMap."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import msgspec

from webhook.errors import one_line
from webhook.objects.wire import UNDECODABLE
from webhook.policy import Object

KEY = "history"
DAYS = 90
"""Days whose totals are kept."""
MOST_BYTES = 512 * 1024
"""Bytes of the history as the ConfigMap holds it, compressed and in base64, at most."""
REST = "*"
"""What stands for the namespaces that have no counts of their own."""
_MOST_INFLATED = 16 * 1024 * 1024
_VERSION = 1

Counts = Mapping[tuple[str, str], int]
"""(policy or namespace, outcome) -> how many findings."""


class Day(NamedTuple):
    """The counts of a day, by policy and outcome, and by namespace and outcome; there may be none by namespace."""

    day: date
    policies: Counts
    namespaces: Counts

    @property
    def to_do(self) -> int:
        """Findings that no exemption covers."""
        return to_do(self.policies)

    @property
    def outcomes(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, outcome), count in self.policies.items():
            found[outcome] += count
        return found


def to_do(policies: Counts) -> int:
    return sum(count for (_, outcome), count in policies.items() if outcome != "exempted")


class _Change(msgspec.Struct, omit_defaults=True):
    """What a day's counts have in which they differ from those of the day before; 0 for what is no more."""

    day: date
    policies: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    namespaces: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)


class _Stored(msgspec.Struct):
    version: int
    days: list[_Change]


class Read(NamedTuple):
    """The days of a ConfigMap, the oldest first. `lost` says why it can't be read, and is empty if it can."""

    days: list[Day]
    lost: str = ""


def read_history(obj: Object | None) -> Read:
    """What the ConfigMap tells, None where there is none."""
    text = ((obj or {}).get("binaryData") or {}).get(KEY)
    if text is None:
        return Read([])
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(base64.b64decode(text, validate=True), _MOST_INFLATED)
        stored = msgspec.json.decode(body, type=_Stored)
    except (binascii.Error, zlib.error, *UNDECODABLE) as error:
        return Read([], one_line(error))
    if stored.version != _VERSION:
        return Read([], f"it is of version {stored.version}, not {_VERSION}")
    return Read(list(_unfold(stored.days)))


def write_history(days: Sequence[Day]) -> str:
    """The last 90 days as the ConfigMap holds them: where there is no room, the oldest lose their namespaces."""
    kept = list(days[-DAYS:])
    for without in range(len(kept) + 1):
        if without:
            kept[without - 1] = kept[without - 1]._replace(namespaces={})
        stored = _Stored(_VERSION, list(_fold(kept)))
        text = base64.b64encode(zlib.compress(msgspec.json.encode(stored, order="sorted"), 9)).decode()
        if len(text) <= MOST_BYTES:
            return text
    return text


def _fold(days: Sequence[Day]) -> Iterator[_Change]:
    before = Day(date.min, {}, {})
    for day in days:
        policies = _differing(before.policies, day.policies)
        yield _Change(day.day, policies, _differing(before.namespaces, day.namespaces))
        before = day


def _differing(before: Counts, after: Counts) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for of, outcome in before.keys() | after.keys():
        count = after.get((of, outcome), 0)
        if count != before.get((of, outcome), 0):
            found.setdefault(of, {})[outcome] = count
    return found


def _unfold(changes: Sequence[_Change]) -> Iterator[Day]:
    day = Day(date.min, {}, {})
    for change in changes:
        day = Day(change.day, _applied(day.policies, change.policies), _applied(day.namespaces, change.namespaces))
        yield day


def _applied(before: Counts, changes: Mapping[str, Mapping[str, int]]) -> Counts:
    changed = {(of, outcome): count for of, counts in changes.items() for outcome, count in counts.items()}
    return {key: count for key, count in {**before, **changed}.items() if count}
