"""The programs that are measured, and those that measure: each is started here, and ended here."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Skipped
from bench.inputs import ROOT, shared
from tests.loopback import free_ports
from webhook.certs import make_self_signed

_STARTING_SECONDS = 60.0


def program(name: str) -> str:
    """The path of a program; raises Skipped if it isn't installed."""
    found = shutil.which(name)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forestall-bench"


def build_echo() -> Path:
    """Build the yardstick for the server: the least that a webhook in Go does."""
    echo = _cache() / "echo"
    _cache().mkdir(parents=True, exist_ok=True)
    subprocess.run([program("go"), "build", "-o", echo, "."], cwd=shared("bench/echo"), check=True)
    return echo


_KUBE_LINTER = """module kube-linter

require golang.stackrox.io/kube-linter v0.8.3

// Not every module proxy knows it by its own name.
replace golang.stackrox.io/kube-linter => github.com/stackrox/kube-linter v0.8.3
"""


def build_kube_linter() -> Path:
    """Build the yardstick for `forestall check`, once, in some minutes."""
    built = _cache() / "kube-linter"
    if not built.exists():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "go.mod").write_text(_KUBE_LINTER)
            linter = "golang.stackrox.io/kube-linter/cmd/kube-linter"
            command = [program("go"), "build", "-mod=mod", "-o", str(built), linter]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Skipped(f"kube-linter can't be built: {done.stderr.splitlines()[-1]}")
    return built


def forestall() -> list[str]:
    """The command line of forestall: the installed script, or Python with the same entry point."""
    script = Path(sys.executable).with_name("forestall")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from webhook.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class CertificateFiles:
    """A self-signed serving certificate and its key, in files."""

    cert: Path
    key: Path

    @classmethod
    def write(cls, folder: Path, *names: str) -> CertificateFiles:
        self = cls(folder / "tls.crt", folder / "tls.key")
        chain, key = make_self_signed(("localhost", "127.0.0.1", *names))
        self.cert.write_bytes(chain)
        self.key.write_bytes(key)
        return self


@dataclass(frozen=True)
class Served:
    """A running server, of ours or a yardstick, and its ports."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int = 0

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def proportional_bytes(self) -> int:
        """Bytes of memory of the process and its descendants (PSS: a shared page is divided among its users)."""
        return sum(_proportional_bytes(pid) for pid in _family(self.process.pid))


@contextmanager
def serving_echo(folder: Path, certificate: CertificateFiles) -> Iterator[Served]:
    (port,) = free_ports(1)
    command = [str(build_echo()), f"127.0.0.1:{port}", str(certificate.cert), str(certificate.key)]
    with _running(command, folder / "echo.log") as process:
        served = Served(process, port)
        _wait(process, lambda: _accepts(port))
        yield served


@contextmanager
def serving_forestall(folder: Path, certificate: CertificateFiles, *arguments: str) -> Iterator[Served]:
    """A `forestall serve` that has just been started, with its log in a file; is_ready tells when it answers."""
    port, metrics_port = free_ports(2)
    command = [
        *forestall(),
        "serve",
        f"--tls-cert={certificate.cert}",
        f"--tls-key={certificate.key}",
        f"--port={port}",
        f"--metrics-port={metrics_port}",
        *arguments,
    ]
    with _running(command, folder / "forestall.log") as process:
        yield Served(process, port, metrics_port)


def wait_until_ready(served: Served) -> None:
    _wait(served.process, served.is_ready)


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    except BaseException as error:
        error.add_note(f"{log.name}: {log.read_text(errors='replace')[-1000:]}")
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while not is_there():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args!r} is not ready after {_STARTING_SECONDS:.0f} s")
        time.sleep(0.02)


def _accepts(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _family(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except FileNotFoundError:  # it has ended
        return []
    return [pid, *(descendant for child in children for descendant in _family(child))]


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@dataclass(frozen=True)
class WrkFigures:
    """The figures that wrk printed."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    non_2xx: float
    socket_errors: float


def wrk(url: str, script: Path, environment: Mapping[str, str], *, connections: int, seconds: float) -> WrkFigures:
    """Load the URL; raises RuntimeError if a single request failed."""
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    pairs = [line.split() for line in done.stdout.splitlines()]
    load = WrkFigures(
        **{pair[0]: float(pair[1]) for pair in pairs if pair and pair[0] in WrkFigures.__dataclass_fields__}
    )
    if load.non_2xx or load.socket_errors:
        raise RuntimeError(f"requests to {url} failed: {load}")
    return load


def recorded_creates(path: str, reviews: Path) -> dict[str, str]:
    """The environment with which review.lua sends every recorded CREATE in turn."""
    return {"REVIEWS": str(reviews), "MATCH": '"operation":"CREATE"', "REQUEST_PATH": path}


def write_list(file: Path, objects: list[dict[str, Any]]) -> Path:
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    return file
