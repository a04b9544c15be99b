"""Fixtures: a command of the command line with files in a folder of its own, a scripted API server; what hypothesis
tries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from hypothesis import settings

from tests.command import Run, Write
from tests.fake_api import FakeApi
from webhook.cli import main
from webhook.cluster.client import Cluster
from webhook.policy import Object

# The same examples in every run, so that a failure is one of the change: what chance finds, "make fuzz" looks for.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _log() -> None:
    """Log to standard output, as before any command has set the log up in this process, or silenced it."""
    structlog.reset_defaults()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of objects (as JSON, which is YAML too) or text into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, *contents: Object | str) -> Path:
        texts = [content if isinstance(content, str) else json.dumps(content, indent=1) for content in contents]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n---\n".join(texts))
        return path

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command; its exit code, output and errors."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "FORESTALL_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> SimpleNamespace:
        code = main(arguments)
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """An API server without objects, which answers as it is told."""
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def cluster(api: FakeApi, tmp_path: Path) -> Cluster:
    """The cluster of that API server, with a token to show."""
    return Cluster.from_kubeconfig(api.kubeconfig(tmp_path, token="sesame"))
