"""What the processes of one replica tell each other: which workers live and are ready, and whether it is draining."""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Iterator

_SLOT = struct.Struct("=d?")
_SIZE = 16
"""Bytes from one slot to the next: aligned, so that a heartbeat is written in one go."""

_STALE = 5.0
"""Seconds without a heartbeat, which comes every second, after which a worker counts as stuck."""


class Readiness:
    """Memory shared with every process forked later: a slot for each worker, and whether the replica is draining.

    The worker that answers the probes has the last slot, which isn't read: a probe that is answered shows that it
    lives.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, _SIZE * (workers + 2))

    def drain(self) -> None:
        self._memory[0] = 1

    @property
    def is_draining(self) -> bool:
        return self._memory[0] == 1

    def beat(self, slot: int, *, ready: bool) -> None:
        """Write a worker's heartbeat, and whether it is ready. The time is the machine's monotonic clock, which other
        processes share."""
        _SLOT.pack_into(self._memory, _SIZE * (slot + 1), time.monotonic(), ready)

    def clear(self, slot: int) -> None:
        """The worker of this slot has died."""
        _SLOT.pack_into(self._memory, _SIZE * (slot + 1), 0.0, False)

    def is_alive(self) -> bool:
        """Whether any worker has written a heartbeat within _STALE seconds; a stuck one is replaced by the arbiter."""
        return any(age < _STALE for age, _ in self._slots())

    def missing(self, waits: Callable[[int], list[str]]) -> list[str]:
        """Why the replica is not ready; empty if it is. `waits` gives the reasons that the worker of a slot has written
        down."""
        if self.is_draining:
            return ["draining"]
        reasons = []
        for slot, (age, ready) in enumerate(self._slots()):
            if age >= _STALE:
                reasons.append(f"worker {slot} does not answer")
            elif not ready:
                reasons += waits(slot) or [f"worker {slot} starts"]
        return list(dict.fromkeys(reasons))  # workers wait for the same kinds: each reason stands once

    def _slots(self) -> Iterator[tuple[float, bool]]:
        """Every worker's seconds since its last heartbeat, and whether it was ready."""
        now = time.monotonic()
        for slot in range(self.workers):
            beaten, ready = _SLOT.unpack_from(self._memory, _SIZE * (slot + 1))
            yield (now - beaten if beaten else float("inf")), ready
