"""The time that `forestall version` takes to answer."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from bench.figures import Figure, interleaved
from bench.programs import forestall


def measure() -> list[Figure]:
    found = interleaved(
        {
            "forestall": lambda: _milliseconds([*forestall(), "version"]),
            "python": lambda: _milliseconds([sys.executable, "-c", ""]),
        },
        rounds=15,
    )
    return [Figure("forestall version; an empty Python", found["forestall"], "ms", found["python"], ratio_at_most=15)]


def _milliseconds(command: list[str]) -> float:
    began = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (perf_counter() - began) * 1000
