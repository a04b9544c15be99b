"""Figures: the results of measurements, each beside its yardstick and its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Name = TypeVar("Name")


class Skipped(Exception):  # noqa: N818 - nothing has gone wrong
    """A program or file that the measurement needs is missing; the message says which."""


@dataclass(frozen=True)
class Figure:
    """One measured value, and the bounds that it has to keep; without a bound it is only printed."""

    what: str
    ours: float
    unit: str
    yardstick: float | None = None
    at_most: float | None = None
    """Of `ours`."""
    ratio_at_most: float | None = None
    ratio_at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value divided by its yardstick; None where there is none, or noise made it zero or less."""
        return self.ours / self.yardstick if self.yardstick and self.yardstick > 0 else None

    @property
    def bound(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}"
        if self.ratio_at_most is not None:
            return f"<= {self.ratio_at_most:g} x"
        return f">= {self.ratio_at_least:g} x" if self.ratio_at_least is not None else ""

    @property
    def is_kept(self) -> bool:
        most, least = self.ratio_at_most, self.ratio_at_least
        return (
            (self.at_most is None or self.ours <= self.at_most)
            and (most is None or (self.ratio is not None and self.ratio <= most))
            and (least is None or (self.ratio is not None and self.ratio >= least))
        )


_HEADINGS = ("", "ours", "yardstick", "ratio", "bound", "")


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table, which a terminal shows as well."""
    rows = [_HEADINGS, *(_cells(figure) for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"| {' | '.join('-' * max(width, 3) for width in widths)} |")
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    verdict = "" if not figure.bound else "ok" if figure.is_kept else "MISSED"
    return (
        figure.what,
        f"{_number(figure.ours)} {figure.unit}",
        f"{_number(figure.yardstick)} {figure.unit}" if figure.yardstick is not None else "",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        figure.bound,
        verdict,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interleaved(measures: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, float]:
    """The median of each measure. They are taken in turns, so that other load on the machine affects all of them."""
    found: dict[Name, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: median(values) for name, values in found.items()}
