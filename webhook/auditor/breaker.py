"""The auditor's calls to the API server, which stop while it has no time for them: nothing waits for an audit."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal

import structlog
import urllib3

from webhook.cluster.client import Call, Cluster
from webhook.errors import ClusterRefused, FactsUnavailable

Stopped = Literal["nothing", "writes", "everything"]

_BUSY = (429, 504)
_NEW_KIND = "storage is (re)initializing"
"""What the API server says, with 429, of a kind whose CustomResourceDefinition was made a moment ago."""
_SLOW = 2.0
"""Seconds that half of the last calls may take."""
_CALLS = 20
_SHORTEST_STOP, _LONGEST_STOP = 300.0, 3600.0
"""Seconds for which calls aren't made."""
_READS_GO_ON = 30.0
"""Seconds for which reads go on after writes have stopped: a starting API server is busy for some of them."""
_FORGOTTEN_AFTER = 3600.0
"""Seconds without a stop after which the next one is as short as the first."""

log = structlog.get_logger()


class Breaker:
    """Says which calls may be made, from what became of those before.

    An answer 429 or 504, or a median above 2 s over the last 20 calls, stops writes for five minutes. Where reads meet
    the same half a minute later, they stop as well. Each further stop is twice as long, up to an hour.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_CALLS)
        self._stage: Stopped = "nothing"
        self._length = 0.0
        self._since = 0.0
        self._until = 0.0
        self._why = ""

    @property
    def stopped(self) -> Stopped:
        """Which calls aren't made now."""
        return self._stage if self._clock() < self._until else "nothing"

    @property
    def why(self) -> str:
        """Which calls aren't made, until when, and why; empty if nothing is stopped."""
        stopped, left = self.stopped, self._until - self._clock()
        if stopped == "nothing":
            return ""
        until = datetime.now(UTC) + timedelta(seconds=left)
        calls = "writes nothing" if stopped == "writes" else "makes no calls"
        return f"the auditor {calls} until {until:%H:%M:%S} UTC: {self._why}"

    def ask(self, *, is_write: bool) -> None:
        """Raise FactsUnavailable for a call that may not be made now."""
        stopped = self.stopped
        if stopped == "everything" or (is_write and stopped == "writes"):
            raise FactsUnavailable(self.why)

    def took(self, seconds: float | None, status: int = 200) -> None:
        """Take in how a call ended; None for one whose time says nothing."""
        with self._lock:
            if status in _BUSY:
                self._stop(f"the API server answered {status}")
                return
            if seconds is not None:
                self._seconds.append(seconds)
            if len(self._seconds) == _CALLS and median(self._seconds) > _SLOW:
                self._stop(f"half of the last {_CALLS} calls took longer than {_SLOW:.0f} s")

    def _stop(self, why: str) -> None:
        now, stopped = self._clock(), self.stopped
        self._seconds.clear()
        if stopped == "nothing":
            is_forgotten = not self._length or now - self._until > _FORGOTTEN_AFTER
            self._length = _SHORTEST_STOP if is_forgotten else min(_LONGEST_STOP, 2 * self._length)
            self._stage, self._since = "writes", now
        elif stopped == "writes" and now - self._since > _READS_GO_ON:
            self._stage = "everything"
        else:
            return
        self._until, self._why = now + self._length, why
        log.warning("calls stopped", why=self.why)


class GuardedCluster(Cluster):
    """A cluster whose calls the breaker watches, and stops."""

    def __init__(self, load: Callable[..., None], source: str) -> None:
        super().__init__(load, source)
        self.breaker = Breaker()

    def open(self, call: Call) -> urllib3.BaseHTTPResponse:
        self.breaker.ask(is_write=call.method != "GET")
        begun = time.monotonic()
        try:
            response = super().open(call)
        except ClusterRefused as answer:
            if answer.message != _NEW_KIND:
                self.breaker.took(None, answer.status)
            raise
        except FactsUnavailable:
            # Of a server that isn't there an error is quick; that says nothing of how busy it is.
            if (seconds := time.monotonic() - begun) > _SLOW:
                self.breaker.took(seconds)
            raise
        self.breaker.took(None if "watch" in call.query else time.monotonic() - begun)
        return response
