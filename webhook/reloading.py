"""A value that is read from files, and read again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from webhook.config import Config, load_config, read_text
from webhook.errors import ForestallError
from webhook.installation import SETTLING

T = TypeVar("T")

FileContents = tuple[bytes, ...]
"""What the files held, in their order."""

_REMEMBERED = 3
"""Replaced values that are kept at most: more than one, since a change may be corrected at once."""


class Version(msgspec.Struct, frozen=True):
    """Contents that were accepted. `read_at` is seconds since 1970, `replaced_at` time.monotonic's."""

    number: int
    contents: FileContents
    read_at: float
    replaced_at: float | None = None


class State(msgspec.Struct, frozen=True):
    """All that one process must know to use what another has read: the version in use first, those before it, and what
    is wrong with newer contents, empty if nothing is."""

    versions: tuple[Version, ...]
    error: str = ""


class Reloaded(Generic[T]):
    """The last good value of some files: what `parse` makes of the contents that `read` returns.

    Files are looked at, not subscribed to: a mounted Secret or ConfigMap changes by a swapped symlink above the file,
    and stat sees that on every file system. The first reading raises what `read` and `parse` raise; later whatever they
    raise leaves the last good value in use, and `state.error` says it. `first` are contents to begin with in place of
    the files'. A value that was replaced is remembered for `keep` seconds.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], FileContents],
        parse: Callable[[FileContents], T],
        first: FileContents | None = None,
        keep: float = 0.0,
    ) -> None:
        self._paths = paths
        self._read = read
        self._parse = parse
        self._keep = keep
        self._seen = self._look()
        contents = read() if first is None else first
        self._values = {0: parse(contents)}
        self.value = self._values[0]
        self.state = State((Version(0, contents, time.time()),))

    @property
    def error(self) -> str:
        return self.state.error

    @property
    def read_at(self) -> float:
        return self.state.versions[0].read_at

    def earlier(self) -> list[T]:
        """The values that were replaced within the last `keep` seconds, the newest first."""
        replaced = self.state.versions[1:]
        if not replaced:
            return []
        oldest = time.monotonic() - self._keep
        return [self._values[old.number] for old in replaced if (old.replaced_at or 0) > oldest]

    def poll(self) -> bool:
        """Read again if the files have changed since last time; whether value or error are others now."""
        seen = self._look()
        if seen == self._seen:
            return False
        # Looked at before reading, so that a change while reading is seen by the next poll.
        try:
            contents = self._read()
        except (ForestallError, OSError) as error:  # read again by the next poll: it may be for a moment
            return self._refuse(str(error))
        self._seen = seen
        try:
            value = self._parse(contents)
        except ForestallError as error:
            return self._refuse(str(error))
        except Exception as error:  # our own failure: no reason to end, or to forget what worked
            return self._refuse(repr(error))
        current, *before = self.state.versions
        replaced = msgspec.structs.replace(current, replaced_at=time.monotonic())
        new = Version(current.number + 1, contents, time.time())
        self._values[new.number] = value
        self._use(State((new, *([replaced, *before] if self._keep else [])[:_REMEMBERED])))
        return True

    def take(self, state: State) -> None:
        """Use what another process has read; raises what `parse` raises, and then nothing has changed."""
        values = self._values
        self._values = values | {
            version.number: self._parse(version.contents) for version in state.versions if version.number not in values
        }
        self._use(state)

    def _use(self, state: State) -> None:
        self.state = state
        self._values = {version.number: self._values[version.number] for version in state.versions}
        self.value = self._values[state.versions[0].number]

    def _refuse(self, error: str) -> bool:
        is_new = error != self.state.error
        self.state = msgspec.structs.replace(self.state, error=error)
        return is_new

    def _look(self) -> list[tuple[int, ...]]:
        return [_look(path) for path in self._paths]


def follow_config(file: Path | None, adapt: Callable[[Config], Config] = lambda config: config) -> Reloaded[Config]:
    """The configuration in a file, for a process that goes on running, or the defaults; raises BadConfig at first.

    `adapt` makes of every configuration the one to use.
    """
    name = str(file or "the defaults")

    def parse(contents: FileContents) -> Config:
        return adapt(load_config(contents[0], name))

    if file is None:
        return Reloaded((), lambda: (b"",), parse)
    return Reloaded((file,), lambda: (read_text(name),), parse, keep=SETTLING)


def _look(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
