"""The server's log: one JSON object a line, on standard output, ours and gunicorn's alike."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from gunicorn.glogging import Logger

_TOGETHER = 0.01
"""Seconds that a line may wait for others."""

_MESSAGE_LENGTH = 500

LEVELS = ("debug", "info", "warning", "error")

# Nested objects are ours; what can't be encoded is shown rather than lost.
_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render(_logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    return _encode({"time": datetime.now(UTC), "level": level, **event}) + b"\n"


class ReviewLine(msgspec.Struct, gc=False):
    """What is logged of a review; never the object itself, which may be a Secret."""

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
    milliseconds: float


class _Lines:
    """Writes whole lines, so that those of several workers don't mix.

    What happens on an event loop is written a moment later, together: a system call for each line costs a busy server
    more than most decisions. A line that warns is written at once, and with it all that came before.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        atexit.register(self.flush)

    def info(self, line: bytes) -> None:
        self._waiting.append(line)
        if len(self._waiting) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(_TOGETHER, self.flush)
        except RuntimeError:  # no loop runs
            self.flush()

    debug = info

    def warning(self, line: bytes) -> None:
        self._waiting.append(line)
        self.flush()

    error = critical = msg = warning

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []  # in one step: other threads log, too
        lines = b"".join(waiting)
        # A log that nobody takes any more must not cost the answer.
        with contextlib.suppress(OSError):
            while lines:
                lines = lines[os.write(sys.stdout.fileno(), lines) :]


_lines = _Lines()


def configure(level: str) -> None:
    """Set up the log of this process and of those forked from it."""
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _lines,
        cache_logger_on_first_use=True,
    )


def write_review(line: ReviewLine) -> None:
    """Log a review, past structlog, which takes longer for a line than most decisions do."""
    _lines.info(_encode(line) + b"\n")


def describe(error: BaseException) -> str:
    """The traceback, without the frames between that nobody reads; of messages, which may quote an object, a part."""
    return "".join(f"{line[:_MESSAGE_LENGTH].rstrip()}\n" for line in traceback.format_exception(error, limit=-8))


class _Forward(logging.Handler):
    """Hands a library's record to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = describe(record.exc_info[1])
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


def forward_library_logs() -> None:
    """Send what libraries log from warnings up to our log."""
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)
