"""The log never waits for whoever reads it: what nobody takes is kept up to a bound, then dropped and counted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from webhook import log as logs


class Reader:
    """The other end of the log's pipe; it reads when asked."""

    def __init__(self) -> None:
        self.end, self.stdout = os.pipe()
        os.set_blocking(self.end, False)

    def read(self) -> bytes:
        text = b""
        while True:
            try:
                part = os.read(self.end, 2**16)
            except BlockingIOError:
                return text
            text += part


def parse(text: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    logs.never_wait(reader.stdout)
    yield reader
    os.close(reader.end)
    os.close(reader.stdout)


@pytest.fixture
def lines(reader: Reader) -> logs._Lines:
    return logs._Lines(lambda: reader.stdout)


def line(number: int) -> bytes:
    return json.dumps({"event": "review", "number": number, "text": "x" * 300}).encode() + b"\n"


def test_what_waits_is_written_once_somebody_reads(lines: logs._Lines, reader: Reader) -> None:
    for number in range(400):  # more than a pipe holds
        lines.info(line(number))
    read = b""
    while new := reader.read():
        read += new
        lines.flush()
    assert [said["number"] for said in parse(read)] == list(range(400))
    assert lines.dropped == 0


def test_what_nobody_takes_is_dropped_and_told(lines: logs._Lines, reader: Reader) -> None:
    for number in range(2000):
        lines.warning(line(number))
    read = b""
    while new := reader.read():
        read += new
        lines.flush()
    *kept, last = parse(read)
    assert [said["number"] for said in kept] == list(range(len(kept)))
    assert len(kept) > 2**18 / 400
    assert (last["event"], last["lines"]) == ("log lines dropped: nobody took them", 2000 - len(kept))
    assert lines.dropped == 2000 - len(kept)
    lines.info(line(1))
    assert [said["number"] for said in parse(reader.read())] == [1]


def test_a_log_that_is_closed_costs_lines_alone() -> None:
    end, stdout = os.pipe()
    os.close(end)
    lines = logs._Lines(lambda: stdout)
    lines.warning(line(1))
    lines.warning(line(2))
    os.close(stdout)
    assert lines.dropped == 2


def fail() -> None:
    raise ValueError("s3cret" * 1000)


@pytest.mark.parametrize("is_named", [True, False], ids=["exc_info=error", "log.exception"])
def test_an_exception_is_told_with_its_last_frames_and_quotes_no_object(is_named: bool) -> None:
    try:
        fail()
    except ValueError as error:
        said = json.loads(logs._render(None, "error", {"event": "failed", "exc_info": error if is_named else True}))
    first, *_, last = said.pop("exception").splitlines()
    assert (first, last) == ("Traceback (most recent call last):", f"ValueError: {'s3cret' * 1000}"[:500])
    del said["time"]
    assert said == {"level": "error", "event": "failed"}
