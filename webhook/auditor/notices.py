"""What notifications say, as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import msgspec

from webhook.findings import Finding
from webhook.formats import counted
from webhook.messages import cut, told
from webhook.observing.run import Observed
from webhook.observing.words import json_observation
from webhook.sections import Exemption

SCHEMA = "forestall.dev/notification/v1"
MOST_LINES = 20
"""New findings, and things that are broken, that a notification names; beyond that it counts them."""
_LINE = 300
"""Characters of a line at most."""

Kind = Literal["summary", "broken", "test"]


class Notice(msgspec.Struct, frozen=True, rename="camel"):
    """One notification. By its `id` a receiver recognises one that is sent again since the answer was lost."""

    id: str
    kind: Kind
    time: datetime
    text: str
    new: int = 0
    mended: int = 0
    by_policy: dict[str, int] = msgspec.field(default_factory=dict)
    findings: tuple[str, ...] = ()
    exemptions: tuple[dict[str, str], ...] = ()
    broken: tuple[dict[str, Any], ...] = ()
    recovered: tuple[str, ...] = ()


def finding_line(finding: Finding) -> str:
    """A new finding in one line: the object, the container, and what is wrong."""
    container = f", container {finding.container}" if finding.container else ""
    return _line(f"{finding.object}{container}: {finding.verdict.policy}: {told(finding.verdict)}")


def summary(
    now: datetime, added: Mapping[str, int], lines: Sequence[str], mended: int, ending: Sequence[Exemption]
) -> Notice:
    """What is new and mended since the last one, and which exemptions end soon. `lines` are the new ones, or some."""
    new = sum(added.values())
    by_policy = ", ".join(f"{policy} {count}" for policy, count in sorted(added.items()))
    text = [f"Forestall: {counted(new, 'new finding')}{f' ({by_policy})' if new else ''}, {mended} mended"]
    text += _bullets(lines, new)
    text += [
        f"Exemption from {one.policy} ends on {one.until} (owner {_line(one.owner)}): {_line(one.reason)}"
        for one in ending
    ]
    return Notice(
        *_head("summary", now, text),
        new=new,
        mended=mended,
        by_policy=dict(sorted(added.items())),
        findings=tuple(lines),
        exemptions=tuple(
            {"policy": one.policy, "owner": one.owner, "until": one.until.isoformat(), "reason": one.reason}
            for one in ending
        ),
    )


def broken_now(now: datetime, began: Sequence[Observed], recovered: Sequence[str]) -> Notice:
    """What has been broken for long enough to be told, and what is over."""
    text = []
    if began:
        text.append(f"Forestall: {counted(len(began), 'thing')} broken now")
        text += _bullets([broken_line(one) for one in began[:MOST_LINES]], len(began))
    if recovered:
        text.append(f"Forestall: {len(recovered)} no longer broken")
        text += _bullets(recovered[:MOST_LINES], len(recovered))
    return Notice(
        *_head("broken", now, text),
        broken=tuple(json_observation(one) for one in began[:MOST_LINES]),
        recovered=tuple(recovered[:MOST_LINES]),
    )


def test_notice(now: datetime) -> Notice:
    return Notice(*_head("test", now, ["Forestall: a test notification, sent by `forestall notify --test`"]))


def broken_line(observed: Observed) -> str:
    """What is broken, and what to do first."""
    observation = observed.observation
    run = f"; run {observation.run[0]}" if observation.run else ""
    since = f" since {observation.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if observation.since else ""
    return f"{_line(f'{broken_name(observed)}{since}: {observation.message}')}{_line(run)}"


def broken_name(observed: Observed) -> str:
    """The object that is broken, and who says so."""
    return f"{observed.observation.reference}: {observed.observer}"


def _bullets(lines: Iterable[str], count: int) -> list[str]:
    """The lines of a list; of `count` things that it is about the others are counted."""
    shown = [f"- {line}" for line in lines]
    return [*shown, f"- and {count - len(shown)} more"] if count > len(shown) else shown


def _line(text: str) -> str:
    """The text in one line, cut to 300 characters."""
    return cut(" ".join(text.split()), _LINE)


def _head(kind: Kind, now: datetime, text: Sequence[str]) -> tuple[str, Kind, datetime, str]:
    return uuid4().hex, kind, now, "\n".join(text)
