"""Files that are read again: what is in use, what was, and how another process takes it over."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path

import pytest

from webhook.errors import BadConfig, ForestallError
from webhook.reloading import FileContents, Reloaded, follow_config

_times = count(1)


def parse(contents: FileContents) -> int:
    (text,) = contents
    if text == b"bug":
        raise ZeroDivisionError("a bug")
    try:
        return int(text)
    except ValueError:
        raise BadConfig(f"no number: {text.decode()}") from None


class Files:
    def __init__(self, folder: Path, keep: float = 60.0) -> None:
        self.path = folder / "file"
        self.refuse_to_read = False
        self.write("1")
        self.reloaded = self.reload(keep)

    def reload(self, keep: float = 60.0) -> Reloaded[int]:
        return Reloaded((self.path,), self.read, parse, keep=keep)

    def read(self) -> FileContents:
        if self.refuse_to_read:
            raise OSError(24, "Too many open files")
        return (self.path.read_bytes(),)

    def write(self, text: str) -> None:
        self.path.write_text(text)
        time = next(_times)
        os.utime(self.path, (time, time))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize(
    ("texts", "news", "value", "error", "earlier"),
    [
        pytest.param([], [], 1, "", [], id="as-it-began"),
        pytest.param(["2"], [True], 2, "", [1], id="changed"),
        pytest.param(["x"], [True], 1, "no number: x", [], id="refused"),
        pytest.param(["bug"], [True], 1, "ZeroDivisionError('a bug')", [], id="our-bug"),
        pytest.param(["x", "x"], [True, False], 1, "no number: x", [], id="the-same-refusal-is-no-news"),
        pytest.param(["2", "x"], [True, True], 2, "no number: x", [1], id="the-last-good-one-stays"),
        pytest.param(["x", "1"], [True, True], 1, "", [1], id="put-right"),
        pytest.param(["2", "3", "4", "5"], [True] * 4, 5, "", [4, 3, 2], id="few-are-remembered"),
    ],
)
def test_poll(files: Files, texts: list[str], news: list[bool], value: int, error: str, earlier: list[int]) -> None:
    for text, is_news in zip(texts, news, strict=True):
        files.write(text)
        assert files.reloaded.poll() is is_news
        assert files.reloaded.poll() is False
    assert (files.reloaded.value, files.reloaded.error, files.reloaded.earlier()) == (value, error, earlier)
    other = Files(files.path.parent).reloaded
    other.take(files.reloaded.state)
    assert (other.value, other.error, other.earlier()) == (value, error, earlier)


def test_what_could_not_be_read_is_read_again(files: Files) -> None:
    files.write("2")
    files.refuse_to_read = True
    assert [files.reloaded.poll(), files.reloaded.poll()] == [True, False]
    assert (files.reloaded.value, files.reloaded.error) == (1, "[Errno 24] Too many open files")
    files.refuse_to_read = False
    assert files.reloaded.poll()
    assert (files.reloaded.value, files.reloaded.error) == (2, "")


@pytest.mark.parametrize(("keep", "earlier"), [pytest.param(60.0, [1], id="long"), pytest.param(0.0, [], id="not")])
def test_how_long_values_are_remembered(tmp_path: Path, keep: float, earlier: list[int]) -> None:
    files = Files(tmp_path, keep)
    files.write("2")
    files.reloaded.poll()
    assert files.reloaded.earlier() == earlier


def test_they_are_forgotten_in_time(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write("2")
    files.reloaded.poll()
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert files.reloaded.earlier() == []


def test_what_cannot_be_taken_over_changes_nothing(files: Files) -> None:
    def refuse(_contents: FileContents) -> int:
        raise OSError(24, "Too many open files")

    files.write("2")
    files.reloaded.poll()
    other = Files(files.path.parent).reloaded
    files.write("3")
    other._parse = refuse
    files.reloaded.poll()
    state = other.state
    with pytest.raises(OSError, match="Too many"):
        other.take(files.reloaded.state)
    assert (other.value, other.state) == (1, state)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("mode: dney", r"config.yaml:1: mode: 'dney'", id="refused"),
        pytest.param(None, r"config.yaml: No such file", id="no-file"),
    ],
)
def test_a_configuration_to_begin_with_has_to_be_good(tmp_path: Path, text: str | None, error: str) -> None:
    file = tmp_path / "config.yaml"
    if text:
        file.write_text(text)
    with pytest.raises(ForestallError, match=error):
        follow_config(file)


def test_without_a_file_it_is_the_defaults() -> None:
    assert follow_config(None).value.mode == "deny"
