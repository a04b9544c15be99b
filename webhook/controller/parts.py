"""Things that a process keeps while it leads, each for itself: one that fails holds up no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge

from webhook import log as logs
from webhook.config import Config
from webhook.errors import ForestallError
from webhook.reloading import Reloaded

_RETRY = 5.0
_LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a part that goes on failing."""

_TICK = 1.0
_STUCK = 300.0
"""Seconds without a sign of life at most. Every call has a limit of its own, so that a longer silence is a bug, and the
process is restarted."""

log = structlog.get_logger()

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


class Leads(Protocol):
    """An election, as whoever takes part in it sees it."""

    @property
    def is_leading(self) -> bool: ...


@dataclass
class Part:
    """One thing to keep; a part that fails holds up no other, and is tried again ever more rarely."""

    name: str
    reconcile: Callable[[Config, datetime], None]
    every: float = 5.0
    """Seconds between two runs."""
    failures: int = 0
    due_at: float = field(default=0.0)

    def run(self, config: Config, clock: Callable[[], float]) -> None:
        """Run it, if it is due."""
        if clock() < self.due_at:
            return
        try:
            self.reconcile(config, datetime.now(UTC))
        except Exception as error:
            self._failed(error)
        else:
            self.failures = 0
            succeeded_at.labels(self.name).set_to_current_time()
        pause = min(_LONGEST_PAUSE, _RETRY * 2.0 ** min(self.failures, 10))
        self.due_at = clock() + (pause if self.failures > 1 else self.every)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        errors.labels(self.name).inc()
        log.error("failed", part=self.name, failures=self.failures, **error_fields(error))


def error_fields(error: Exception) -> dict[str, str]:
    """An error's fields in the log; one that the cluster reported needs no traceback, any other is Forestall's bug."""
    detail = {} if isinstance(error, ForestallError) else {"exception": logs.describe(error)}
    return {"error": str(error), **detail}


class Loop:
    """While this process leads, every part that is due runs, and reads the cluster anew.

    `leading` is the metric that says so; `stand_by` is called when another one leads, `follow` with a new
    configuration.
    """

    def __init__(
        self,
        config: Reloaded[Config],
        election: Leads,
        make_parts: Callable[[], Sequence[Part]],
        clock: Callable[[], float] = time.monotonic,
        *,
        leading: Gauge,
        stand_by: Callable[[], None],
        follow: Callable[[Config], None] = lambda _config: None,
    ) -> None:
        self._config = config
        self._election = election
        self._make_parts = make_parts
        self._parts: Sequence[Part] = ()
        self._clock = clock
        self._round_at = clock()
        self._leading = leading
        self._drop = stand_by
        self._follow = follow

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.round()
            logs.flush()
            stopping.wait(_TICK)

    def round(self) -> None:
        self.beat()
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
        self._leading.set(1)
        for part in self._parts:
            errors.labels(part.name)  # Prometheus sees no increase in a series that begins at 1

    def _stand_by(self) -> None:
        """Drop the parts and their metrics: from now on the new leader's are the valid ones."""
        self._parts = ()
        self._leading.set(0)
        self._drop()
        succeeded_at.clear()

    def _reloaded(self) -> None:
        if self._config.error:
            log.error("configuration refused, the last good one stays", error=self._config.error)
            return
        log.info("configuration reloaded")
        self._follow(self._config.value)
        for part in self._parts:
            part.due_at = 0.0

    def beat(self) -> None:
        """Count as alive: called at least by every round, and within one that may take long."""
        self._round_at = self._clock()

    @property
    def is_alive(self) -> bool:
        return self._clock() - self._round_at < _STUCK
