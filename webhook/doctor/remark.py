"""Remarks: the results of doctor's checks, each with a status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from webhook.errors import BadConfig, ForestallError
from webhook.objects import wording

Status = Literal["ok", "warn", "fail", "unknown"]
STATUSES: tuple[Status, ...] = ("ok", "unknown", "warn", "fail")
"""From best to worst."""


class Remark(NamedTuple):
    """Something that a check has to say: what it has seen, and what is to be done about it."""

    status: Status
    seen: str
    todo: str = ""


class Check(msgspec.Struct, frozen=True):
    """One remark under the name of its check, which may make several."""

    name: str
    status: Status
    seen: str
    todo: str


Remarks = Iterator[Remark]


def cannot_tell(error: ForestallError) -> Remark:
    advice = "see configuration" if isinstance(error, BadConfig) else "ask as somebody who may read that"
    return Remark("unknown", f"cannot tell: {error}", advice)


def or_ok(remarks: Remarks, text: str) -> Remarks:
    """The remarks, or, where there are none, that all is well."""
    remark = None
    for remark in remarks:
        yield remark
    if remark is None:
        yield Remark("ok", text)


def listed(texts: Iterable[str]) -> str:
    """The texts, sorted, of which six at most are shown; "nothing" for none."""
    return wording.listed(sorted(texts), 6) or "nothing"
