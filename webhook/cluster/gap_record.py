"""The record of gaps, times in which the API server's calls didn't reach us, as ConfigMap forestall-state keeps it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from webhook.cluster.record import Recorded, read_value
from webhook.policy import Object, Stage

EVERY = timedelta(seconds=10)
"""How often the controller probes."""
KEY = "gaps"
_AROUND = EVERY + timedelta(seconds=2)
"""The time before and after a gap in which calls may have been lost as well; objects' times are whole seconds."""

Reason = Literal["no answer", "hooks off", "undecided"]


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """From the first probe that `stages` didn't answer to the first that they did.

    Where the reason is "undecided", they answered: from the first to the last review that passed because its object
    could not be read.

    `refused`: the validating webhook failed closed, so that what it judges was refused and not let through.
    """

    stages: tuple[Stage, ...]
    began: datetime
    reason: Reason
    ended: datetime | None = None
    refused: bool = False

    def includes(self, at: datetime) -> bool:
        """Whether a write at this time may have been let through unchecked in this gap."""
        return self.began - _AROUND <= at and (self.ended is None or at <= self.ended + _AROUND)

    def __str__(self) -> str:
        ended = f"{self.ended:%Y-%m-%d %H:%M:%S} UTC" if self.ended else "now"
        return f"{self.began:%Y-%m-%d %H:%M:%S} to {ended}: {' and '.join(self.stages)}, {self.reason}"


class GapRecord(msgspec.Struct, frozen=True):
    """The gaps, oldest first, and how many are no longer among them; the last may be open."""

    gaps: tuple[Gap, ...] = ()
    forgotten: int = 0
    lost: bool = False
    """Whether an earlier record is lost, because an edit made it unreadable."""

    @property
    def open(self) -> Gap | None:
        return self.gaps[-1] if self.gaps and self.gaps[-1].ended is None else None


def read_record(obj: Object | None) -> GapRecord:
    """What ConfigMap forestall-state says of gaps."""
    return record_of(read_value(obj, KEY, GapRecord))


def record_of(kept: Recorded[GapRecord]) -> GapRecord:
    return GapRecord(lost=True) if kept.lost else kept.value
