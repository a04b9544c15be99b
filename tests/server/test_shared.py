"""One process reads, those forked from it use the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.test_reloading import Files
from webhook.reloading import FileContents
from webhook.server import shared as shared_module
from webhook.server.shared import Shared


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def as_worker(shared: Shared[int]) -> Shared[int]:
    """As it is in a process forked now: the same memory, all else its own."""
    worker = Shared("configuration", Files(shared.reloaded._paths[0].parent).reloaded)
    worker._memory, worker._header = shared._memory, shared._header
    worker.reloaded.take(shared.reloaded.state)
    return worker


def test_a_worker_follows_past_what_it_could_not_have_seen(files: Files) -> None:
    parent = Shared("configuration", files.reloaded)
    worker = as_worker(parent)
    for text in ("2", "3", "x"):
        files.write(text)
        parent.poll()
    assert worker.value == 1
    worker.follow()
    reloaded = worker.reloaded
    assert (reloaded.value, reloaded.earlier(), reloaded.error) == (3, [2, 1], "no number: x")
    assert reloaded.read_at == files.reloaded.read_at


def test_across_processes(files: Files) -> None:
    parent = Shared("configuration", files.reloaded)
    to_child, from_parent = os.pipe()
    if not (child := os.fork()):
        os.read(to_child, 1)  # until the file is read
        parent.follow()
        os._exit(parent.value)
    files.write("2")
    parent.poll()
    os.write(from_parent, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    os.close(to_child)
    os.close(from_parent)


def test_what_is_half_written_waits(files: Files) -> None:
    parent = Shared("configuration", files.reloaded)
    worker = as_worker(parent)
    files.write("2")
    parent.poll()
    size = os.fstat(parent._memory).st_size
    last = os.pread(parent._memory, 1, size - 1)
    os.pwrite(parent._memory, b"?", size - 1)
    worker.follow()
    assert worker.value == 1
    os.pwrite(parent._memory, last, size - 1)
    worker.follow()
    assert worker.value == 2


def test_what_cannot_be_taken_over_is_tried_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(shared_module.log, "warning", lambda event, **_: said.append(event), raising=False)
    parent = Shared("configuration", files.reloaded)
    worker = as_worker(parent)
    parse = worker.reloaded._parse

    def refuse(_contents: FileContents) -> int:
        raise OSError(24, "Too many open files")

    worker.reloaded._parse = refuse
    files.write("2")
    parent.poll()
    for _ in range(3):
        worker.follow()
    assert (worker.value, said) == (1, ["configuration not taken over yet, the last one stays"])
    worker.reloaded._parse = parse
    worker.follow()
    assert worker.value == 2
