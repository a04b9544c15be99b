"""Notifications: summaries of what is new and mended, and what is broken now, sent to a URL.

What is to be sent, and what was told already, is in a ConfigMap: a leader that dies loses nothing, and the next one
repeats nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import structlog

from webhook.auditor.delivery import SHORTEST_PAUSE, Delivery
from webhook.auditor.in_turn import in_turn
from webhook.auditor.kept import Kept
from webhook.auditor.notices import MOST_LINES, Notice, broken_name, broken_now, finding_line, summary
from webhook.auditor.pace import Pace, Troubles
from webhook.auditor.seen import News
from webhook.cluster.record import Record, Recorded
from webhook.config import Config
from webhook.errors import ForestallError
from webhook.installation import NOTIFIED
from webhook.observing.run import Observed
from webhook.sections import Exemption, Notifications

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

MOST_WAITING = 20
"""Notifications that wait for their receiver; beyond that the oldest is dropped."""
_GATHER = 60.0
"""Seconds for which changes are gathered before they are told."""
_CHANGES_EVERY = timedelta(minutes=10)
_BROKEN_EVERY = 10.0
"""Seconds between two notifications of what is broken at least."""
_OVER_AFTER = 300.0
"""Seconds for which nothing must have been broken any more until it counts as over."""
_MOST_BROKEN = 500
_OF_NAMESPACE = 100
"""Things of a namespace that are remembered as told, those that aren't broken any more until they count as over."""
_NAMESPACE_PACE = 12, 3600.0
"""Notifications about what is broken that one namespace may be the cause of, and in how many seconds."""
_SOON = (1, 14)
"""Days before an exemption's end on which it is told."""
_WRITE_EVERY = 60.0

log = structlog.get_logger()


class State(msgspec.Struct, omit_defaults=True):
    """What is remembered.

    day         the last day that was summed up
    told_at     when changes were last told
    added       policy -> new findings that no summary has told yet; `lines`, by namespace, name some of them
    broken      what is broken and was told, by its identity -> as a person names it
    exemptions  those whose end was told, and how early
    waiting     notifications that no receiver has taken yet
    """

    day: date | None = None
    told_at: datetime | None = None
    added: dict[str, int] = msgspec.field(default_factory=dict)
    lines: dict[str, list[str]] = msgspec.field(default_factory=dict)
    mended: int = 0
    broken: dict[str, str] = msgspec.field(default_factory=dict)
    exemptions: list[str] = msgspec.field(default_factory=list)
    waiting: list[Notice] = msgspec.field(default_factory=list)


class Notifier:
    """Tells one receiver, for one leadership; `own` is Forestall's namespace."""

    def __init__(
        self,
        cluster: Cluster,
        own: str,
        config: Callable[[], Config],
        news: News,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._news = news
        self._clock = clock
        self._record: Record[State] = Record(cluster, own, NOTIFIED, "notified", State)
        self._where = f"ConfigMap {own}/{NOTIFIED}"
        self._recorded: Recorded[State] | None = None
        self._state = State()
        self._written = b""
        self._write_at = self._read_at = 0.0
        self._changed_at: float | None = None
        self._broken_at = -_BROKEN_EVERY
        self._gone: dict[str, float] = {}
        """Identity of what was broken -> since when it no longer is."""
        self._paces: dict[str, Pace] = {}
        """Namespace -> how often what is broken in it may be told."""
        self._delivery = Delivery(cluster, own, clock)
        self._troubles = Troubles("no notification")

    def take(self, kept: Kept, now: datetime) -> None:
        """Tell what is to be told; returns at once, whatever the receiver does."""
        config = self._config()
        if config.notifications is None:
            self._news.take()
            return
        if not self._read(now):
            return
        delivered = self._delivery.delivered()
        self._state.waiting = [notice for notice in self._state.waiting if notice.id not in delivered]
        urgent = bool(delivered)
        self._gather()
        urgent |= self._tell_broken(kept, now)
        urgent |= self._tell_summary(config, config.notifications, now)
        self._write(urgent=urgent)
        if self._state.waiting:
            self._delivery.send(self._state.waiting[0], config.notifications)

    def _read(self, now: datetime) -> bool:
        """Learn what is remembered; whether it is known. Without an answer it is asked again a little later."""
        if self._recorded is not None:
            return True
        if self._clock() < self._read_at:
            return False
        try:
            recorded = self._record.read()
        except ForestallError as error:
            self._troubles.tell(self._where, error)
            self._read_at = self._clock() + SHORTEST_PAUSE
            return False
        if recorded.lost:
            log.warning("what was notified is forgotten, and may be told again", error=recorded.lost)
        self._recorded, self._state = recorded, recorded.value
        self._written = b"" if recorded.object is None else msgspec.json.encode(self._state)
        self._state.day = self._state.day or now.date()
        self._troubles.over(self._where)
        return True

    def _gather(self) -> None:
        """Take in what is new and mended, for the next summary."""
        news = self._news.take()
        if news and self._changed_at is None:
            self._changed_at = self._clock()
        for policy, count in news.added.items():
            self._state.added[policy] = self._state.added.get(policy, 0) + count
        for finding in news.findings:
            _add_line(self._state.lines, finding.object.namespace, finding_line(finding))
        self._state.mended += news.mended

    def _tell_broken(self, kept: Kept, now: datetime) -> bool:
        """Have it told what has broken and what is over, as far as that may be told now; whether anything is."""
        told = self._state.broken
        first = islice(in_turn(kept.broken, lambda one: one.observation.reference.namespace), _MOST_BROKEN)
        broken = {_identity(observed): observed for observed in first}
        self._gone = {of: self._gone.get(of, self._clock()) for of in told if of not in broken}
        if self._clock() - self._broken_at < _BROKEN_EVERY:
            return False
        room = Counter(map(_namespace_of, told))
        began, over = [], [of for of, since in self._gone.items() if self._clock() - since >= _OVER_AFTER]
        for of in broken:
            if of not in told and room[_namespace_of(of)] < _OF_NAMESPACE:
                room[_namespace_of(of)] += 1
                began.append(of)
        may_be_told = {namespace for namespace in set(map(_namespace_of, (*began, *over))) if self._allows(namespace)}
        began, over = ([of for of in found if _namespace_of(of) in may_be_told] for found in (began, over))
        if not (began or over):
            return False
        self._wait(broken_now(now, [broken[of] for of in began], [told.pop(of) for of in over]))
        told |= {of: broken_name(broken[of]) for of in began}
        self._broken_at = self._clock()
        return True

    def _allows(self, namespace: str) -> bool:
        return self._paces.setdefault(namespace, Pace(*_NAMESPACE_PACE, self._clock)).allows()

    def _tell_summary(self, config: Config, notifications: Notifications, now: datetime) -> bool:
        """Have it told what is new and mended, and what ends soon, if it is time; whether that has to be remembered."""
        ending = dict(self._ending(config, now.date()))
        state, is_new_day = self._state, self._state.day != now.date()
        if not (is_new_day if notifications.when == "daily" else self._is_time(now) or ending):
            return False
        state.day = now.date()
        if not (state.added or state.mended or ending):
            return is_new_day
        self._wait(summary(now, state.added, _lines_in_turn(state.lines), state.mended, list(ending.values())))
        state.added, state.lines, state.mended = {}, {}, 0
        still = [of for of in state.exemptions if of.rpartition(" ")[0] in _identities(config)]
        state.exemptions = [*still, *ending]
        state.told_at, self._changed_at = now, None
        return True

    def _is_time(self, now: datetime) -> bool:
        """Whether changes have been gathered for long enough, and were last told long enough ago."""
        state = self._state
        if not (state.added or state.mended):
            return False
        is_gathered = self._changed_at is None or self._clock() - self._changed_at >= _GATHER
        return is_gathered and (state.told_at is None or now - state.told_at >= _CHANGES_EVERY)

    def _ending(self, config: Config, today: date) -> Iterator[tuple[str, Exemption]]:
        """The exemptions of whose end it is time to tell, by what will be remembered of that."""
        for of, exemption in _identities(config).items():
            left = (exemption.until - today).days
            days = next((days for days in _SOON if 0 <= left <= days), None)
            if days is not None and f"{of} {days}" not in self._state.exemptions:
                yield f"{of} {days}", exemption

    def _wait(self, notice: Notice) -> None:
        self._state.waiting.append(notice)
        if dropped := self._state.waiting[:-MOST_WAITING]:
            self._state.waiting = self._state.waiting[-MOST_WAITING:]
            log.warning("notifications dropped: nobody takes them", notifications=len(dropped))

    def _write(self, *, urgent: bool) -> None:
        """Remember the state, where it has changed: at once what is urgent, the rest once a minute."""
        assert self._recorded  # noqa: S101 - for types
        if self._clock() < self._write_at and not urgent:
            return
        state = msgspec.json.encode(self._state)
        if state == self._written:
            return
        self._write_at = self._clock() + _WRITE_EVERY
        try:
            self._recorded = self._record.overwrite(self._recorded, self._state)
        except ForestallError as error:
            self._troubles.tell(self._where, error)
            self._write_at = self._clock() + SHORTEST_PAUSE
        else:
            self._written = state
            self._troubles.over(self._where)


def _add_line(lines: dict[str, list[str]], namespace: str, line: str) -> None:
    """Add the line of a namespace; where there are enough, in place of one of the namespace that has most."""
    count = len(lines.get(namespace, ()))
    if sum(map(len, lines.values())) >= MOST_LINES:
        largest = max(lines.values(), key=len)
        if len(largest) <= count + 1:
            return
        largest.pop()
    lines.setdefault(namespace, []).append(line)


def _lines_in_turn(lines: Mapping[str, Sequence[str]]) -> list[str]:
    pairs = ((namespace, line) for namespace, of in lines.items() for line in of)
    return [line for _, line in in_turn(pairs, lambda pair: pair[0])]


def _namespace_of(identity: str) -> str:
    return identity.split("/")[2]


def _identity(observed: Observed) -> str:
    kind, namespace, name = observed.observation.reference
    return "/".join((observed.observer, kind, namespace, name, observed.observation.subject))


def _identities(config: Config) -> dict[str, Exemption]:
    """The exemptions by what tells them apart."""
    return {f"{one.policy} {one.owner} {one.until} {' '.join(one.match.namespaces)}": one for one in config.exemptions}
