"""Conditions: what controllers say of an object in its status."""

from __future__ import annotations

from datetime import datetime
from sys import intern

import msgspec

from webhook.objects.facts import WirePart

_MOST_TEXT = 4000
"""Characters of a condition's message that are kept: whoever may write a status writes any text."""


class Condition(msgspec.Struct, frozen=True, gc=False):
    """What a controller says of an object: `status` is "True", "False" or "Unknown", and since when it is so."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None


def condition_of(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """The condition of this type, "Ready" for one; None if there is none."""
    return next((condition for condition in conditions if condition.type == type_), None)


class WiredCondition(WirePart):
    """A condition as it arrives; every object's look alike."""

    type: str = ""
    status: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None

    def read(self) -> Condition:
        return Condition(
            intern(self.type),
            intern(self.status or ""),
            intern(self.reason or ""),
            (self.message or "")[:_MOST_TEXT],
            self.last_transition_time,
        )
