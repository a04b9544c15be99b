"""Measures Forestall beside its yardsticks: `python bench/run.py [PART…]`, by default all parts.

A part whose programs or recordings are missing says so and is skipped. Exit code 1 if a bound is missed.
"""

# ruff: noqa: T201 - it prints tables
from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

# Run as a script, Python would look for modules beside this file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.figures import Figure, Skipped, table  # noqa: E402

PARTS = ("decide", "server", "apiserver", "memory", "check", "audit", "live", "startup")


def main(names: list[str]) -> int:
    if unknown := sorted(set(names) - set(PARTS)):
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    missed: list[str] = []
    for name in names or PARTS:
        missed += [f"{name}: {figure.what}" for figure in _run(name) if not figure.is_kept]
    for exceeded in missed:
        print(f"bound missed: {exceeded}", file=sys.stderr)
    return int(bool(missed))


def _run(name: str) -> list[Figure]:
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    began = time.monotonic()
    try:
        figures: list[Figure] = importlib.import_module(f"bench.{name}").measure()
    except Skipped as reason:
        print(f"{name}: skipped, {reason}\n")
        return []
    print(f"{name} ({time.monotonic() - began:.0f} s, {load} before it)\n\n{table(figures)}\n", flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
