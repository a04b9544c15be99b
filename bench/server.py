"""The server over TLS with keep-alive, beside a bare echo in Go: recorded creates, driven by wrk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, interleaved
from bench.inputs import recordings, shared, small_cluster
from bench.programs import (
    CertificateFiles,
    Served,
    program,
    recorded_creates,
    serving_echo,
    serving_forestall,
    wait_until_ready,
    write_list,
    wrk,
)

_PATHS = ("/validate?timeout=3s", "/mutate?timeout=3s")


def measure() -> list[Figure]:
    program("wrk")
    with tempfile.TemporaryDirectory() as folder, _both(Path(folder)) as (forestall, echo):
        return [*_throughput(forestall, echo), *_latency(forestall, echo)]


@contextmanager
def _both(folder: Path) -> Iterator[tuple[Served, Served]]:
    certificate = CertificateFiles.write(folder)
    facts = write_list(folder / "facts.json", small_cluster())
    with (
        serving_echo(folder, certificate) as echo,
        serving_forestall(folder, certificate, f"--facts={facts}") as forestall,
    ):
        wait_until_ready(forestall)
        yield forestall, echo


def _throughput(forestall: Served, echo: Served) -> list[Figure]:
    def requests_per_second(served: Served, path: str) -> Callable[[], float]:
        environment = recorded_creates(path, recordings("people.jsonl"))
        script = shared("bench/review.lua")
        return lambda: wrk(served.url(path), script, environment, connections=8, seconds=2).requests_per_second

    found = interleaved(
        {
            "echo": requests_per_second(echo, _PATHS[0]),
            **{path: requests_per_second(forestall, path) for path in _PATHS},
        },
        rounds=3,
    )
    return [
        Figure(f"throughput, 8 connections, {path}", found[path], "/s", found["echo"], ratio_at_least=0.5)
        for path in _PATHS
    ]


def _latency(forestall: Served, echo: Served) -> list[Figure]:
    def p99(served: Served, path: str) -> Callable[[], float]:
        environment = recorded_creates(path, recordings("people.jsonl"))
        environment["REVIEW_LUA"] = str(shared("bench/review.lua"))
        script = Path(__file__).with_name("paced.lua")
        return lambda: wrk(served.url(path), script, environment, connections=4, seconds=3).p99_ms

    found = interleaved(
        {"echo": p99(echo, _PATHS[0]), **{path: p99(forestall, path) for path in _PATHS}},
        rounds=5,
    )
    return [
        Figure(f"p99 at 200 requests/s, {path}", found[path], "ms", found["echo"], ratio_at_most=3) for path in _PATHS
    ]
