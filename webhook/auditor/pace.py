"""How often something may happen, and troubles of which each is told once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Pace:
    """At most `most` times in any `seconds`."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._times: deque[float] = deque(maxlen=most)
        self._seconds = seconds
        self._clock = clock

    def allows(self) -> bool:
        """Whether it may happen once more now; a yes counts as having happened."""
        now = self._clock()
        if len(self._times) == self._times.maxlen and now - self._times[0] < self._seconds:
            return False
        self._times.append(now)
        return True


class Troubles:
    """What is wrong now, by what it is about: a line of the log when it begins or changes, none while it goes on."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._known: dict[str, str] = {}

    def tell(self, about: str, error: object) -> None:
        if self._known.get(about) != str(error):
            log.warning(self._event, about=about, error=str(error))
        self._known[about] = str(error)

    def over(self, about: str) -> None:
        self._known.pop(about, None)

    def only(self, about: set[str]) -> None:
        """Forget what is about anything else."""
        self._known = {key: error for key, error in self._known.items() if key in about}
