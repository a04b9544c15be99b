"""A value that is read from files, and read again when they change."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from webhook.errors import ForestallError

T = TypeVar("T")

_REMEMBERED = 3
"""Values that were replaced: one, and those of whoever corrects it at once."""


class Reloaded(Generic[T]):
    """The last good value of `read()`, which reads `paths`.

    Files are looked at, not subscribed to: a mounted Secret or ConfigMap changes by a swapped symlink above the file,
    and stat sees that on every file system. Reading for the first time raises what `read` raises; later a
    ForestallError leaves the last good value and is kept in `error`. `first` is how the first value is got, if not by
    `read`. A value that is replaced is remembered for `keep` seconds.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        first: Callable[[], T] | None = None,
        keep: float = 0.0,
    ) -> None:
        self._paths = paths
        self._read = read
        self._keep = keep
        self._seen = self._look()
        self.value = (first or read)()
        self.read_at = time.time()
        self.error: ForestallError | None = None
        self._replaced: deque[tuple[float, T]] = deque(maxlen=_REMEMBERED)

    def earlier(self) -> list[T]:
        """The values that were replaced within the last `keep` seconds, the newest first."""
        while self._replaced and self._replaced[0][0] <= time.monotonic() - self._keep:
            self._replaced.popleft()
        return [value for _, value in reversed(self._replaced)]

    def poll(self) -> bool:
        """Read again if the files have changed since last time; whether they had."""
        seen = self._look()
        if seen == self._seen:
            return False
        # Looked at before reading, so that a change while reading is seen by the next poll.
        self._seen = seen
        try:
            value = self._read()
        except ForestallError as error:
            self.error = error
        else:
            if self._keep:
                self._replaced.append((time.monotonic(), self.value))
            self.value = value
            self.error = None
            self.read_at = time.time()
        return True

    def _look(self) -> list[tuple[int, ...]]:
        return [_look(path) for path in self._paths]


def _look(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
