"""One replica that watches a large cluster: its memory, and the time until it is ready."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import yaml

from bench.figures import Figure
from bench.inputs import ROOT, recordings, shared
from bench.programs import CertificateFiles, Served, program, recorded_creates, serving_forestall, wait_until_ready, wrk
from webhook.cluster.paths import fact_path
from webhook.loader import watched_kinds

_CLAIMS, _NODES, _SERVICES, _MONITORS = 10_000, 1_000, 5_000, 1_000
_LISTED = f"{_CLAIMS:,} claims and volumes, {_NODES:,} nodes, {_SERVICES:,} Services, {_MONITORS:,} monitors"

# The API server is a process of its own, so that the cost of listing doesn't slow down the replica.
_API = f"""
import sys
from pathlib import Path
from bench.inputs import large_cluster
from tests.fake_api import FakeApi
api = FakeApi()
api.objects.update(large_cluster({_CLAIMS}, {_NODES}, {_SERVICES}, {_MONITORS}))
print(api.kubeconfig(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


# The yardstick: the same lists, received and decoded whole by msgspec alone.
_PLAIN = """
import sys, urllib.request
import msgspec
for path in sys.argv[2:]:
    with urllib.request.urlopen(sys.argv[1] + path) as answer:
        msgspec.json.decode(answer.read())
"""


def measure() -> list[Figure]:
    program("wrk")
    with tempfile.TemporaryDirectory() as name, _api(Path(name)) as kubeconfig:
        folder = Path(name)
        plain = median(_read_plainly(kubeconfig) for _ in range(3))
        began = time.monotonic()
        with serving_forestall(folder, CertificateFiles.write(folder), f"--kubeconfig={kubeconfig}") as served:
            peak = _Peak(served)
            wait_until_ready(served)
            ready = time.monotonic() - began
            figures = [
                Figure(f"start to ready; msgspec decoding the same {_LISTED}", ready, "s", plain, ratio_at_most=4),
                _memory("memory once ready", served.proportional_bytes()),
            ]
            _burst(served)
            figures.append(_memory("after a burst of reviews", served.proportional_bytes()))
            figures.append(_memory("the most that was seen meanwhile", peak.stop()))
        return figures


@contextmanager
def _api(folder: Path) -> Iterator[str]:
    """A kubeconfig for an API server that holds the large cluster."""
    command = [sys.executable, "-c", _API, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as api:
        assert api.stdout  # noqa: S101 - a pipe, as asked for
        yield api.stdout.readline().strip()


def _read_plainly(kubeconfig: str) -> float:
    """Seconds that a Python process takes to list and decode what the replica lists, from its start to its end."""
    (cluster,) = yaml.safe_load(Path(kubeconfig).read_text())["clusters"]
    paths = [fact_path(kind) for kind in watched_kinds() if kind.on_servers]
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _PLAIN, cluster["cluster"]["server"], *paths], check=True)
    return time.monotonic() - began


def _memory(what: str, found: int) -> Figure:
    return Figure(what, found / 1e6, "MB", at_most=150)


def _burst(served: Served) -> None:
    script = shared("bench/review.lua")
    for path in ("/mutate?timeout=3s", "/validate?timeout=3s"):
        for name in ("people.jsonl", "charts.jsonl"):
            wrk(served.url(path), script, recorded_creates(path, recordings(name)), connections=16, seconds=3)


class _Peak:
    """The most memory that a replica has held, measured five times a second."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            self._most = max(self._most, self._served.proportional_bytes())

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self._most
