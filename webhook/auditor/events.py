"""Events about new findings, on the objects that they are about, where `kubectl describe` shows them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, NamedTuple

from webhook.auditor.in_turn import InTurn
from webhook.auditor.kept import Kept
from webhook.auditor.pace import Pace, Troubles
from webhook.auditor.seen import News
from webhook.cluster.paths import path_of
from webhook.config import Config
from webhook.controller.events import event, send
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.findings import Finding
from webhook.messages import headline
from webhook.policy import Object, Reference

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

REPORTER = "forestall.dev/auditor"
REASON = "PolicyViolation"
_PER_MINUTE = 30
_MOST_WAITING = 300
"""Objects that wait for their Event; beyond that the oldest get none, those of the namespace with most of them."""
_MOST_TOLD = 20_000
"""Objects that are remembered as told of today; beyond that the oldest may be told of again."""
_PAUSE = 5.0
"""Seconds without an Event after the API server had trouble with one."""


class _About(NamedTuple):
    """An object, in the version in which it was judged, and the policy that it breaks."""

    api_version: str
    reference: Reference
    policy: str


def _about(finding: Finding) -> _About:
    return _About(finding.object.api_version, finding.object.reference, finding.verdict.policy)


class Events:
    """One Event a day for an object and the policy that it breaks, for those that are `news`.

    None tells of what a new leader finds: it was told of before, or it is old.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: Callable[[], Config],
        news: News,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._news = news
        self._clock = clock
        self._pace = Pace(_PER_MINUTE, 60.0, clock)
        self._troubles = Troubles("no event")
        self._waiting: InTurn[_About] = InTurn(_MOST_WAITING)
        self._told: dict[_About, None] = {}
        self._day = date.min
        self._pause_until = 0.0

    def take(self, kept: Kept, now: datetime) -> None:
        """Write the Events that are due, as far as pace and API server allow; the others wait."""
        if self._day != now.date():
            self._day = now.date()
            self._told = dict.fromkeys(self._waiting)
        for finding in self._news.take().findings:
            about = _about(finding)
            if about not in self._told:
                self._tell(about)
        while self._waiting and self._clock() >= self._pause_until and self._pace.allows():
            about = self._waiting.pop()
            try:
                self._write(about, kept, now)
            except (ClusterRefused, FactsUnavailable) as error:
                self._troubles.tell("events", error)
                if not (isinstance(error, ClusterRefused) and error.is_of_one_object):
                    # It waits behind the others: it may be this object alone that there is no answer to.
                    self._waiting.add(about.reference.namespace, about)
                    self._pause_until = self._clock() + _PAUSE
                    return
            else:
                self._troubles.over("events")

    def _tell(self, about: _About) -> None:
        self._waiting.add(about.reference.namespace, about)
        self._told[about] = None
        if len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]

    def _write(self, about: _About, kept: Kept, now: datetime) -> None:
        on_object = kept.by_namespace.get(about.reference.namespace, {}).get(about.reference, ())
        found = [finding for finding in on_object if _about(finding) == about and finding.needs_action]
        # What is mended meanwhile, or gone, needs none.
        if found and (regarding := self._read(about)):
            note = _note(found)
            made = event(regarding, REASON, note, now, action="Auditing", kind="Warning", reporter=REPORTER)
            send(self._cluster, made)

    def _read(self, about: _About) -> Object | None:
        """The object, whose UID kubectl looks for; None if it is gone, or no longer judged."""
        group, _, version = about.api_version.rpartition("/")
        known = self._config().judged.get((group, about.reference.kind))
        if known is None:
            return None
        _, namespace, name = about.reference
        stored = self._cluster.get(path_of(known.kind, version, namespace, name))
        return stored and {**stored, "apiVersion": about.api_version, "kind": about.reference.kind}


def _note(found: list[Finding]) -> str:
    """What is wrong, each message once, with the containers that it is about."""
    lines: dict[str, list[str]] = {}
    for finding in found:
        lines.setdefault(headline(finding.verdict), []).append(finding.container or "")
    return "\n".join(f"{line}{_where(containers)}" for line, containers in lines.items())


def _where(containers: list[str]) -> str:
    named = [name for name in Counter(containers) if name]
    if not named:
        return ""
    return f" [container{'s' if len(named) > 1 else ''} {', '.join(named)}]"
