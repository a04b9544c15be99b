"""`forestall check` on forty rendered charts, beside kube-linter on the same files; whole processes."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from bench.figures import Figure, interleaved
from bench.inputs import ROOT, shared
from bench.programs import build_kube_linter, forestall

_ROUNDS = 9

# Parsing alone, in libyaml.
_PARSE = """
import pathlib, sys, yaml
for file in sorted(pathlib.Path(sys.argv[1]).rglob("*.yaml")):
    for document in yaml.load_all(file.read_bytes(), yaml.CBaseLoader):
        pass
"""


def measure() -> list[Figure]:
    corpus = shared("corpus")
    found = interleaved(
        {
            "forestall": _seconds([*forestall(), "check", str(corpus)], found=(0, 1)),
            "libyaml": _seconds([sys.executable, "-c", _PARSE, str(corpus)]),
            "kube-linter": _seconds([str(build_kube_linter()), "lint", str(corpus)], found=(0, 1)),
        },
        _ROUNDS,
    )
    ours = found["forestall"]
    return [
        Figure("the corpus; libyaml only parsing it", ours, "s", found["libyaml"], ratio_at_most=2),
        Figure("the corpus; kube-linter lint", ours, "s", found["kube-linter"], ratio_at_most=1.5),
    ]


def _seconds(command: list[str], found: tuple[int, ...] = (0,)) -> Callable[[], float]:
    """Seconds that the command takes; an exit code that isn't in `found` raises."""

    def run() -> float:
        began = perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode not in found:
            raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr[-500:]!r}")
        return perf_counter() - began

    return run
