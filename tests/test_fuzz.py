"""What fuzzing has found stays found, and the fuzzers themselves work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import FOUND, TARGETS, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_mutations_break_nothing(name: str) -> None:
    assert fuzz(name, seed=1, seconds=10, most=5 if name == "connections" else 100)[1] == []


@pytest.mark.parametrize("file", [pytest.param(file, id=file.name) for file in sorted(FOUND.glob("*/*"))])
def test_what_broke_something_once(file: Path) -> None:
    target = TARGETS[file.parent.name]
    with target.around():
        target.check(file.read_bytes())


def test_a_finding_is_kept_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(_data: bytes) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("tests.fuzz.__main__.FOUND", tmp_path)
    monkeypatch.setitem(TARGETS, "quantities", TARGETS["quantities"]._replace(check=check))
    tried, found = fuzz("quantities", seed=1, seconds=10, most=20)
    (file,) = (tmp_path / "quantities").iterdir()
    assert tried == 20
    assert [text.startswith("test_fuzz.py:") and text.endswith(f"ValueError: a bug: {file}") for text in found] == [
        True
    ]
