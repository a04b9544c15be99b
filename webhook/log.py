"""The server's log: one JSON object a line, on standard output, ours and gunicorn's alike."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import select
import stat
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from gunicorn.glogging import Logger

_TOGETHER = 0.01
"""Seconds that a line may wait for others."""

_KEPT_BYTES = 2**18
"""Bytes of log lines that a process keeps while nobody takes them."""

_LAST_SECONDS = 1.0
"""Seconds that the end of the process waits for somebody to take the last lines."""

_MESSAGE_LENGTH = 500
"""Characters of an exception's line that are logged: it may quote an object, which may be a Secret."""

# Nested objects are ours; what can't be encoded is shown rather than lost.
_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render(_logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    error = event.pop("exc_info", None)
    if error is True:  # log.exception: the error that is being handled
        error = sys.exception()
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return _encode({"time": datetime.now(UTC), "level": level, **event}) + b"\n"


class ViolationLine(msgspec.Struct, gc=False, omit_defaults=True):
    """What is logged of a violation: the field, by its path, and the value that was found there, where one was."""

    policy: str
    outcome: str
    field: str
    container: str = ""
    value: int | str | None = None


class ReviewLine(msgspec.Struct, gc=False):
    """What is logged of a review; never the object itself, which may be a Secret.

    violated, patched, exempted  ids of policies: those that are broken without an exemption, those whose violations are
                                 patched, and those that an exemption lets be broken
    violations                   every one of them, up to a number
    """

    time: datetime
    level: str
    event: str
    stage: str
    uid: str
    operation: str
    kind: str
    subresource: str
    namespace: str
    name: str
    user: str
    dry_run: bool
    allowed: bool
    violated: list[str]
    patched: list[str]
    exempted: list[str]
    violations: list[ViolationLine]
    milliseconds: float


class _Lines:
    """Writes whole lines, so that those of several workers don't mix, and never waits for whoever reads them.

    What happens on an event loop is written a moment later, together: a system call for each line costs a busy server
    more than most decisions. A line that warns is written at once, and with it all that came before. What nobody takes
    is kept up to a bound, beyond that dropped and counted; the log says how many lines when it is taken again.
    """

    def __init__(self, descriptor: Callable[[], int]) -> None:
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._is_due = False
        """Whether the event loop will write what waits."""
        self._writing = threading.Lock()
        self._unsaid = 0
        """Lines that were dropped, and that the log doesn't know of yet."""
        self.dropped = 0
        """Lines that were dropped, and are not counted elsewhere yet."""

    def info(self, line: bytes) -> None:
        self._keep(line)
        if self._is_due:
            return
        try:
            asyncio.get_running_loop().call_later(_TOGETHER, self.flush)
        except RuntimeError:  # no loop runs
            self.flush()
        else:
            self._is_due = True

    debug = info

    def warning(self, line: bytes) -> None:
        self._keep(line)
        self.flush()

    error = critical = msg = warning

    def flush(self) -> None:
        """Write what waits, as far as somebody takes it."""
        self._is_due = False
        if not self._writing.acquire(blocking=False):  # another thread does
            return
        try:
            is_taken = self._write()
        finally:
            self._writing.release()
        if is_taken and self._unsaid:
            unsaid, self._unsaid = self._unsaid, 0
            self.warning(_render(None, "warning", {"event": "log lines dropped: nobody took them", "lines": unsaid}))

    def _keep(self, line: bytes) -> None:
        if self._bytes + len(line) > _KEPT_BYTES:
            self._drop(1)
            return
        self._waiting.append(line)
        self._bytes += len(line)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unsaid += count

    def _write(self) -> bool:
        """Whether all of it was taken; what wasn't is the first to be written next time."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0  # other threads go on logging
        try:
            while waiting:
                count = _count_together(waiting)
                lines = b"".join(waiting[:count])
                rest = lines[os.write(self._descriptor(), lines) :]
                waiting[:count] = [rest] if rest else []
        except BlockingIOError:
            self._waiting[:0] = waiting
            self._bytes += sum(map(len, waiting))
            return False
        except OSError:  # a log that is full or closed must not cost the answer
            self._drop(len(waiting))
            return False
        return True

    def finish(self) -> None:
        """Write the last lines, and wait a moment for whoever reads them."""
        if self._waiting:
            with contextlib.suppress(OSError, ValueError):
                select.select([], [self._descriptor()], [], _LAST_SECONDS)
        self.flush()


def _count_together(lines: Sequence[bytes]) -> int:
    """How many of the lines, one at least, a pipe takes as a whole or not at all, whoever else writes to it."""
    size = 0
    for count, line in enumerate(lines):
        size += len(line)
        if count and size > select.PIPE_BUF:
            return count
    return len(lines)


def _stdout() -> int:
    return sys.stdout.fileno()


_lines = _Lines(_stdout)
atexit.register(_lines.finish)


def configure(level: str) -> None:
    """Set up the log of this process and of those forked from it."""
    with contextlib.suppress(OSError, ValueError):  # there may be no such file
        never_wait(_stdout())
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _lines,
        cache_logger_on_first_use=True,
    )


def silence() -> None:
    """Log nothing: a command tells the person what is wrong, and its output is for programs, too."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


def never_wait(descriptor: int) -> None:
    """Have writes to a pipe or socket that is full fail, in place of waiting; files never wait.

    A terminal is left alone: it is the shell's as well, which would then fail.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        os.set_blocking(descriptor, False)


def flush() -> None:
    """Write what waits; called every second, so that it is written once somebody takes it again."""
    _lines.flush()


def take_dropped() -> int:
    """How many lines of this process were dropped since this was last asked."""
    dropped, _lines.dropped = _lines.dropped, 0
    return dropped


def write_review(line: ReviewLine) -> None:
    """Log a review, past structlog, which takes longer for a line than most decisions do."""
    _lines.info(_encode(line) + b"\n")


def describe(error: BaseException) -> str:
    """The traceback's last eight frames, and of the messages, which may quote an object, the beginning."""
    return "".join(f"{line[:_MESSAGE_LENGTH].rstrip()}\n" for line in traceback.format_exception(error, limit=-8))


class _Forward(logging.Handler):
    """Hands a library's record to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields["exc_info"] = record.exc_info[1]
        structlog.get_logger().log(record.levelno, record.getMessage(), **fields)


class GunicornLogger(Logger):  # type: ignore[misc]
    """Gunicorn's messages in our log: it makes one of these itself, from its `logger_class` setting."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        forward_library_logs()
        for handler in list(self.error_log.handlers):
            self.error_log.removeHandler(handler)
        # The root logger's handler forwards.
        self.error_log.propagate = True

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if msg.startswith("Listening at") and args:
            # Gunicorn knows nothing of our TLS: the first of the listeners has it (workers.py).
            args = (str(args[0]).replace("http://", "https://", 1), *args[1:])
        super().info(msg, *args, **kwargs)


def forward_library_logs() -> None:
    """Send what libraries log from warnings up to our log."""
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)
