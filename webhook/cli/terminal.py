"""What is written to a terminal or a pipe: text, styles, notes on standard error, a progress bar."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from webhook.errors import SystemRefused

if TYPE_CHECKING:
    from webhook.formats import Style

_NARROW, _WIDE = 60, 120
_PATIENCE = 1.0
"""Seconds after which a progress bar is shown."""


def width() -> int:
    import shutil  # noqa: PLC0415

    return min(max(shutil.get_terminal_size((100, 24)).columns, _NARROW), _WIDE)


def style_of(stream: TextIO) -> Style:
    """Colours for a person at a terminal who doesn't mind them (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR") or not (os.environ.get("FORCE_COLOR") or stream.isatty()):
        return lambda text, _style: text

    def styled(text: str, style: str) -> str:
        return click.style(text, **({style: True} if style in ("bold", "dim") else {"fg": style}))

    return styled


def put(text: str, *, encoding: str | None = None) -> None:
    """Write the text to standard output. A pipe that is closed early (`| head`) is no error.

    Raises SystemRefused for any other failure, such as a full disk.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes standard output once more at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise SystemRefused(f"standard output: {error.strerror}") from error


class Bar:
    """A progress bar on a terminal's standard error, once the work takes longer than _PATIENCE."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.began = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def show(self, done: float) -> None:
        if self.bar is None and sys.stderr.isatty() and time.monotonic() - self.began > _PATIENCE:
            self.bar = click.progressbar(length=100, label=self.label, file=sys.stderr)
            self.bar.__enter__()
        if self.bar is not None:
            self.bar.update(int(done * 100) - self.bar.pos)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.render_finish()


def note(text: str) -> None:
    click.echo(f"{style_of(sys.stderr)('note', 'yellow')}: {text}", err=True)


def tell_bugs(bugs: Mapping[str, str]) -> None:
    for policy, text in bugs.items():
        click.echo(f"forestall: policy {policy} failed, which is our bug; please report it\n{text}", err=True)
