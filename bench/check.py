"""`forestall check` on forty rendered charts, beside kube-linter on the same files; whole processes."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from bench.figures import Figure, Skipped, interleaved
from bench.inputs import ROOT, shared
from bench.programs import forestall, program

_ROUNDS = 9

# Parsing alone, in libyaml: as fast as kube-linter where both were measured on one machine (0.23 s).
_PARSE = """
import pathlib, sys, yaml
for file in sorted(pathlib.Path(sys.argv[1]).rglob("*.yaml")):
    for document in yaml.load_all(file.read_bytes(), yaml.CBaseLoader):
        pass
"""


def measure() -> list[Figure]:
    corpus = shared("corpus")
    measures = {
        "forestall": _seconds([*forestall(), "check", str(corpus)], found=(0, 1)),
        "libyaml": _seconds([sys.executable, "-c", _PARSE, str(corpus)]),
    }
    with contextlib.suppress(Skipped):
        measures["kube-linter"] = _seconds([program("kube-linter"), "lint", str(corpus)], found=(0, 1))
    found = interleaved(measures, _ROUNDS)
    figures = [Figure("the corpus; libyaml only parsing it", found["forestall"], "s", found["libyaml"])]
    if "kube-linter" in found:
        what = "the corpus; kube-linter lint"
        return [*figures, Figure(what, found["forestall"], "s", found["kube-linter"], ratio_at_most=1.5)]
    return [*figures, Figure("the corpus; no kube-linter to compare with", found["forestall"], "s")]


def _seconds(command: list[str], found: tuple[int, ...] = (0,)) -> Callable[[], float]:
    """`found` are the exit codes of a run that did its work."""

    def run() -> float:
        began = perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if done.returncode not in found:
            raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr[-500:]!r}")
        return perf_counter() - began

    return run
