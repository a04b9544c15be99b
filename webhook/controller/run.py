"""`forestall controller`: one of its replicas leads, and keeps in the cluster what the configuration asks for."""

from __future__ import annotations

import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from webhook import log as logs
from webhook.cluster import Cluster
from webhook.config import Config
from webhook.controller.console import create_console
from webhook.controller.endpoints import Endpoint, Endpoints
from webhook.controller.gaps import Gaps
from webhook.controller.hooks import Hooks, hooks_off
from webhook.controller.lease import Election
from webhook.controller.limit_ranges import Limits
from webhook.controller.pages import serve_pages
from webhook.controller.probes import create_probes
from webhook.controller.rotation import Rotation
from webhook.errors import ForestallError
from webhook.installation import CONSOLE_PORT, CONTROLLER, NAMESPACE, PROBES_PORT
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.policy import FactKind
from webhook.reloading import Reloaded, follow_config
from webhook.watch import Watch

_WATCHED = (LIMIT_RANGES, NAMESPACES)
_TICK = 1.0
_EVERY = 5.0
"""Seconds between two runs of a part."""
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a part that goes on failing."""
_PROBE_ENDS = 2.0
"""Seconds that the end waits for a probe under way. If it writes later, it is refused where a new leader has
written."""
_STUCK = 300.0
"""Seconds for one round at most. Every call has a limit of its own, so that a longer round is a bug, and the controller
is restarted."""

log = structlog.get_logger()

leading = Gauge(
    "forestall_controller_leading",
    "1 on the controller that leads and writes to the cluster, 0 on those that stand by.",
)
errors = Counter(
    "forestall_controller_errors", "Times that a part of the controller ended in an error; it is tried again.", ["part"]
)
succeeded_at = Gauge(
    "forestall_controller_last_success_timestamp_seconds",
    "When a part of the controller last ended without an error, in seconds since 1970.",
    ["part"],
)
config_good = Gauge(
    "forestall_config_last_reload_successful",
    "0 while the configuration file holds what can't be used, so that the last good one stays in use.",
)
exemption_ends = Gauge(
    "forestall_exemption_expiry_timestamp_seconds",
    "When an exemption of the configuration ends, with the last day (UTC) on which it counts, in seconds since 1970.",
    ["exemption", "policy", "owner"],
)
facts_known = Gauge(
    "forestall_facts_known", "Whether the kind's objects are known: 0 where they can't be read.", ["kind"]
)
unreadable_objects = Gauge(
    "forestall_unreadable_objects",
    "Objects of the kind that are passed over because they can't be read.",
    ["kind"],
)


@dataclass(frozen=True)
class ControllerSettings:
    """The options of `forestall controller`; without a kubeconfig the cluster is the one that it runs in.

    `endpoints` are the servers, where the Service's EndpointSlices don't name them.
    """

    config: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = NAMESPACE
    metrics_port: int = PROBES_PORT
    console_port: int = CONSOLE_PORT
    endpoints: tuple[Endpoint, ...] = ()
    log_level: str = "info"


@dataclass
class Part:
    """One thing to keep; a part that fails holds up no other, and is tried again ever more rarely."""

    name: str
    reconcile: Callable[[Config, datetime], None]
    failures: int = 0
    due_at: float = field(default=0.0)

    def run(self, config: Config, clock: Callable[[], float]) -> None:
        if clock() < self.due_at:
            return
        try:
            self.reconcile(config, datetime.now(UTC))
        except Exception as error:
            self._failed(error)
        else:
            self.failures = 0
            succeeded_at.labels(self.name).set_to_current_time()
        pause = min(_LONGEST_PAUSE, _EVERY * 2.0 ** min(self.failures, 10))
        self.due_at = clock() + (pause if self.failures > 1 else _EVERY)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        errors.labels(self.name).inc()
        # An error that the cluster reported needs no traceback; any other one is a bug of Forestall's.
        detail = {} if isinstance(error, ForestallError) else {"exception": logs.describe(error)}
        log.error("failed", part=self.name, error=str(error), failures=self.failures, **detail)


class Controller:
    """The controller's loop: while it leads, every part that is due runs, and reads the cluster anew."""

    def __init__(
        self,
        config: Reloaded[Config],
        election: Election,
        make_parts: Callable[[], Sequence[Part]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._election = election
        self._make_parts = make_parts
        self._parts: Sequence[Part] = ()
        self._clock = clock
        self._round_at = clock()
        _show_exemptions(config.value)

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.round()
            logs.flush()
            stopping.wait(_TICK)

    def round(self) -> None:
        self._round_at = self._clock()
        if self._config.poll():
            self._reloaded()
        config_good.set(not self._config.error)
        if self._election.is_leading and not self._parts:
            self._lead()
        elif self._parts and not self._election.is_leading:
            self._stand_by()
        for part in self._parts:
            if self._election.is_leading:  # asked before each part: the one before may have taken long
                part.run(self._config.value, self._clock)

    def _lead(self) -> None:
        self._parts = self._make_parts()
        leading.set(1)
        for part in self._parts:
            errors.labels(part.name)  # Prometheus sees no increase in a series that begins at 1

    def _stand_by(self) -> None:
        """Drop the parts and their metrics: from now on the new leader's are the valid ones."""
        self._parts = ()
        leading.set(0)
        hooks_off.clear()
        succeeded_at.clear()

    def _reloaded(self) -> None:
        if self._config.error:
            log.error("configuration refused, the last good one stays", error=self._config.error)
            return
        log.info("configuration reloaded")
        _show_exemptions(self._config.value)
        for part in self._parts:
            part.due_at = 0.0

    @property
    def is_alive(self) -> bool:
        return self._clock() - self._round_at < _STUCK


def run(settings: ControllerSettings) -> int:
    """Take part until SIGTERM; returns the process's exit code.

    Raises BadConfig, FactsUnavailable or SystemRefused if it cannot begin.
    """
    logs.configure(settings.log_level)
    logs.forward_library_logs()
    config = follow_config(settings.config)
    cluster = Cluster.named(settings.kubeconfig, settings.context)
    election = Election(cluster, settings.namespace, CONTROLLER, f"{socket.gethostname()}_{uuid.uuid4()}")
    watch = Watch(cluster, _WATCHED)
    watch.start()
    _show_facts(watch)
    controller = Controller(config, election, lambda: _parts(cluster, watch, settings, config))
    stopping, stopped = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    # Two ports: a busy console, or a network policy for it, doesn't touch the probes.
    metrics_port = serve_pages(create_probes(lambda: controller.is_alive), settings.metrics_port, "metrics")
    console = create_console(lambda: config.value, lambda: election.is_leading, lambda: watch.unread)
    console_port = serve_pages(console, settings.console_port, "console")
    log.info("serving", metrics_port=metrics_port, console_port=console_port)
    electing = threading.Thread(target=election.run, args=[stopped], name="election", daemon=True)
    electing.start()
    gaps = Gaps(cluster, settings.namespace)
    arguments = (lambda: election.is_leading, stopping)
    probing = threading.Thread(target=gaps.run, args=arguments, name="probes", daemon=True)
    probing.start()
    try:
        controller.run(stopping)
    finally:
        probing.join(_PROBE_ENDS)
        # The Lease is given back last, when nothing more is written.
        stopped.set()
        electing.join()
    return 0


def _show_exemptions(config: Config) -> None:
    exemption_ends.clear()
    for index, exemption in enumerate(config.exemptions):
        labels = str(index), exemption.policy, exemption.owner
        exemption_ends.labels(*labels).set(exemption.ends.timestamp())


def _show_facts(watch: Watch) -> None:
    """Set the metrics by kind to read the watch whenever they are scraped."""
    for kind in _WATCHED:
        facts_known.labels(str(kind)).set_function(partial(_is_known, watch, kind))
        unreadable_objects.labels(str(kind)).set_function(partial(_count_unreadable, watch, kind))


def _is_known(watch: Watch, kind: FactKind[Any, Any]) -> float:
    return float(kind in watch.facts.known)


def _count_unreadable(watch: Watch, kind: FactKind[Any, Any]) -> float:
    return sum(reference.kind == kind for reference in watch.facts.unreadable)


def _parts(cluster: Cluster, watch: Watch, settings: ControllerSettings, config: Reloaded[Config]) -> list[Part]:
    """The parts of the controller, in the order in which a new installation needs them."""
    namespace = settings.namespace
    endpoints = Endpoints(cluster, namespace, settings.endpoints)
    return [
        Part("certificates", Rotation(cluster, namespace, endpoints.all).reconcile),
        Part("hooks", Hooks(cluster, namespace, endpoints, config.earlier).reconcile),
        Part("limitranges", Limits(cluster, namespace, watch).reconcile),
    ]
