"""How far an audit is, on standard error, while a person watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Bar:
    """A bar over the kinds of objects, with the number of objects so far; it leaves no trace, and shows nothing where
    standard error is no terminal."""

    def __init__(self, cluster: str) -> None:
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        # Rich takes FORCE_COLOR for a terminal, too: a build's log is not to be filled with bars.
        self._progress = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        self._label = f"{cluster}: " if cluster else ""
        self._task = self._progress.add_task(f"{self._label}reading facts", total=None)

    def show(self, done: float, kind: str, objects: int) -> None:
        """`done` is the part of the kinds that is behind us, from 0 to 1."""
        said = f"{self._label}{kind}, {objects:,} objects so far"
        self._progress.update(self._task, completed=done, total=1.0, description=said)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
