"""`forestall auditor`: one of its replicas leads, and keeps what an audit would find current."""

from __future__ import annotations

import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from webhook import log as logs
from webhook.auditor import metrics
from webhook.auditor.audit import Auditor
from webhook.auditor.breaker import GuardedCluster
from webhook.auditor.broken import Broken
from webhook.auditor.events import Events
from webhook.auditor.history import History
from webhook.auditor.kept import Kept
from webhook.auditor.notifications import Notifier
from webhook.auditor.reports import Reports
from webhook.auditor.seen import Seen
from webhook.auditor.status import Status
from webhook.cluster.client import Cluster
from webhook.config import Config
from webhook.controller.lease import Election
from webhook.controller.pages import serve_pages
from webhook.controller.parts import Loop, Part
from webhook.controller.probes import create_probes
from webhook.errors import FactsUnavailable
from webhook.installation import AUDITOR, AUDITOR_PORT, NAMESPACE, REPORT_RESULTS
from webhook.reloading import follow_config
from webhook.scope import exclude_own_namespace

_LOOK_EVERY = 15.0
"""Seconds between two looks at what lives."""
_LONG_LOOK, _LOOK_PAUSE = 2.0, 4.0
"""Seconds of a look above which the next one is made after so many times as long, at least."""
_URGENT = "notifications"
"""Who takes what is broken in the middle of an audit of everything as well, which may last for minutes."""

log = structlog.get_logger()


@dataclass(frozen=True)
class AuditorSettings:
    """The options of `forestall auditor`; without a kubeconfig the cluster is the one that it runs in.

    `report_results` is how many results a namespace's report has at most.
    """

    config: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = NAMESPACE
    metrics_port: int = AUDITOR_PORT
    report_results: int = REPORT_RESULTS
    log_level: str = "info"


class Taker(Protocol):
    """Whoever shows or tells of the findings, once everything has been audited: called every second or so, with the
    namespaces that have changed since it last took them without an error in `kept.changed`."""

    def take(self, kept: Kept, now: datetime) -> None: ...


class Leader:
    """What an auditor does while it leads.

    kept    the findings, from the beginning of its leadership
    status  how the audit stands, for other threads
    beat    called while something is at work that may take long
    """

    def __init__(self, cluster: GuardedCluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._config: Config | None = None
        self._auditor: Auditor | None = None
        self._broken: Broken | None = None
        self._urgent: Sequence[Part] = ()
        """What doesn't wait for the end of an audit of everything: to look at what lives, and to tell of it."""
        self._reports: Reports | None = None
        self._pending: dict[str, set[str]] = {}
        """Who takes the findings -> the namespaces that have changed since they last did."""
        self._look_at = 0.0
        """When to look again at what lives."""
        self.kept = Kept()
        self.status = Status()
        self.beat: Callable[[], None] = lambda: None

    def annotations(self) -> dict[str, str]:
        """What the Lease tells of the audit."""
        return self.status.annotation()

    def begin(self, takers: Mapping[str, Taker]) -> list[Part]:
        """Begin to lead, with nothing known; returns what is to be done."""
        self.kept = Kept()
        self._pending = {name: set() for name in takers}
        self._reports = next((taker for taker in takers.values() if isinstance(taker, Reports)), None)
        look = Part("broken", self._look, every=_LOOK_EVERY)
        hand_on = {name: Part(name, partial(self._hand_on, name, taker), every=1.0) for name, taker in takers.items()}
        self._urgent = [look, *(part for name, part in hand_on.items() if name == _URGENT)]
        return [
            Part("audit", self._audit, every=1.0),
            look,
            *hand_on.values(),
            Part("show", self._show, every=1.0),
        ]

    def end(self) -> None:
        """Stop, and show nothing more: another one leads."""
        self.stop()
        self.status = Status()
        metrics.hide()

    def stop(self) -> None:
        for running in (self._auditor, self._broken):
            if running is not None:
                running.stop()
        self._auditor = self._broken = None

    def _audit(self, config: Config, now: datetime) -> None:
        if config is not self._config or self._auditor is None or self._broken is None:
            self.stop()
            self._config = config
            self._auditor = Auditor(self._cluster, config, self.kept, self._while_auditing)
            self._broken = Broken(self._cluster, config, self._namespace)
        self.kept.clear_changed()
        try:
            self._auditor.reconcile(now)
        finally:
            for name in self._pending:
                self._pending[name] |= self.kept.changed

    def _while_auditing(self) -> None:
        """Do what is urgent in the middle of an audit, which goes on counting what changes in it."""
        self.beat()
        assert self._config  # noqa: S101 - for types
        changed = self.kept.changed
        for part in self._urgent:
            part.run(self._config, time.monotonic)
        self.kept.changed = changed

    def _look(self, _config: Config, _now: datetime) -> None:
        began = time.monotonic()
        if self._cluster.breaker.stopped == "everything" or began < self._look_at:
            return
        if self._auditor and self._broken and self._broken.is_listed:
            try:
                self.kept.broken = self._broken.look(self._auditor.inventory.facts)
            finally:
                # Where there is so much to look at that it takes long, most of the time is the audit's all the same.
                ended = time.monotonic()
                if ended - began > _LONG_LOOK:
                    self._look_at = ended + _LOOK_PAUSE * (ended - began)

    def _hand_on(self, name: str, taker: Taker, _config: Config, now: datetime) -> None:
        if not self.kept.whole_at:
            return
        self.kept.changed = self._pending[name]
        try:
            taker.take(self.kept, now)
        except FactsUnavailable:
            if self._cluster.breaker.stopped == "nothing":
                raise
            return  # the breaker has told why; what has changed is handed on again
        self._pending[name] = set()

    def _show(self, _config: Config, _now: datetime) -> None:
        if (auditor := self._auditor) is None:
            return
        self.status = Status(
            whole_at=int(self.kept.whole_at),
            objects=auditor.inventory.count,
            findings=self.kept.counts.total(),
            unreadable=len(auditor.inventory.unreadable),
            broken=len(self.kept.broken),
            stopped=self._cluster.breaker.why,
            unread=dict(auditor.troubles),
            reports=self._reports.kind if self._reports else "",
        )
        metrics.show(self.kept, self.status, auditor.whole_seconds)


def _takers(cluster: Cluster, config: Callable[[], Config], settings: AuditorSettings) -> dict[str, Taker]:
    """Who shows and tells of the findings, in the order in which they need each other."""
    own = settings.namespace
    seen = Seen(cluster, own)
    return {
        "seen": seen,
        "reports": Reports(cluster, own, seen, settings.report_results),
        "history": History(cluster, own),
        "events": Events(cluster, config, seen.since_start),
        "notifications": Notifier(cluster, own, config, seen.since_record),
    }


def run(settings: AuditorSettings) -> int:
    """Take part until SIGTERM; returns the process's exit code.

    Raises BadConfig, FactsUnavailable or SystemRefused if it cannot begin.
    """
    logs.configure(settings.log_level)
    logs.forward_library_logs()
    config = follow_config(settings.config, lambda given: exclude_own_namespace(given, settings.namespace))
    cluster = GuardedCluster.named(settings.kubeconfig, settings.context)
    metrics.watch_breaker(cluster.breaker)
    leader = Leader(cluster, settings.namespace)
    # The Lease is renewed by calls that the breaker doesn't stop.
    calls = Cluster.named(settings.kubeconfig, settings.context)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    election = Election(calls, settings.namespace, AUDITOR, identity, annotations=leader.annotations)
    loop = Loop(
        config,
        election,
        lambda: leader.begin(_takers(cluster, lambda: config.value, settings)),
        leading=metrics.leading,
        stand_by=leader.end,
    )
    leader.beat = loop.beat
    stopping, stopped = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    port = serve_pages(create_probes(lambda: loop.is_alive), settings.metrics_port, "metrics")
    log.info("serving", metrics_port=port)
    electing = threading.Thread(target=election.run, args=[stopped], name="election", daemon=True)
    electing.start()
    try:
        loop.run(stopping)
    finally:
        leader.stop()
        # The Lease is given back last, when nothing more is written.
        stopped.set()
        electing.join()
    return 0
