"""Values that the parent process of a replica reads from files, and that all of its processes use.

If every worker read the files for itself, a good one that a bad one replaces within the second would be seen by some
and missed by others: one worker would audit while another denies, for as long as the bad file stays. So the parent
alone reads, and workers take the contents that it has accepted. A worker that is forked later has them from its birth.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Generic, TypeVar

import msgspec
import structlog

from webhook.reloading import Reloaded, State

T = TypeVar("T")

_HEADER = struct.Struct("=32sQ")
"""What stands before a message in memory: its SHA-256 and its length."""

log = structlog.get_logger()


class Shared(Generic[T]):
    """A value of files that the parent reads and workers follow, by memory without a name: keys are never on a disk."""

    def __init__(self, name: str, reloaded: Reloaded[T]) -> None:
        """Called in the parent, before it forks; `name` is what the log calls the files."""
        self.name = name
        self.reloaded = reloaded
        self._memory = os.memfd_create(name)
        self._header = b""
        """The header of the state that this process has last written or taken over."""
        self._written: State | None = None
        self._failure = ""
        self._write()

    @property
    def value(self) -> T:
        return self.reloaded.value

    def poll(self) -> bool:
        """In the parent: read the files if they have changed, and let workers know; whether anything is new."""
        is_new = self.reloaded.poll()
        if self.reloaded.state is not self._written:
            self._write()
        return is_new

    def follow(self) -> None:
        """In a worker: take over what the parent has accepted since last time."""
        header = os.pread(self._memory, _HEADER.size, 0)
        if header == self._header:
            return
        digest, length = _HEADER.unpack(header)
        message = os.pread(self._memory, length, _HEADER.size)
        # There is no lock: a state that is read half written doesn't fit its digest, and is read again at the next
        # poll.
        if hashlib.sha256(message).digest() != digest:
            return
        try:
            self.reloaded.take(msgspec.msgpack.decode(message, type=State))
        # The parent could read it: this worker lacks descriptors or memory, and tries again at the next poll.
        except Exception as error:
            if self._failure != (failure := repr(error)):
                log.warning(f"{self.name} not taken over yet, the last one stays", error=failure)
            self._failure = failure
        else:
            self._header, self._failure = header, ""

    def _write(self) -> None:
        state = self.reloaded.state
        message = msgspec.msgpack.encode(state)
        header = _HEADER.pack(hashlib.sha256(message).digest(), len(message))
        os.pwrite(self._memory, header + message, 0)
        self._header, self._written = header, state
