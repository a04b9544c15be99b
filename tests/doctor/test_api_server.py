"""The checks of the API server: its version, its clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.doctor.surveys import NOW, healthy, said


@pytest.mark.parametrize(
    ("minor", "status", "ending"),
    [
        ("28", "fail", ", without pods/resize (on from 1.33) and pod-level resources (on from 1.34)"),
        ("29", "ok", ", without pods/resize (on from 1.33) and pod-level resources (on from 1.34)"),
        ("33+", "ok", ", without pod-level resources (on from 1.34)"),
        ("36", "ok", ", with pods/resize and pod-level resources"),
        ("37", "warn", ", with pods/resize and pod-level resources"),
    ],
)
def test_api_server(minor: str, status: str, ending: str) -> None:
    version = {"major": "1", "minor": minor, "gitVersion": "v1.x"}
    assert said("api-server", healthy(version=version)) == [(status, f"v1.x{ending}")]


def test_a_version_that_says_nothing() -> None:
    assert said("api-server", healthy(version={})) == [("unknown", "cannot tell what an unknown version can do")]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, ("ok", "this machine's clock and the API server's agree")),
        (10.5, ("ok", "this machine's clock and the API server's agree")),
        (-9.5, ("ok", "this machine's clock and the API server's agree")),
        (20.5, ("warn", "this machine's clock is 20 s ahead of the API server's")),
        (-19.5, ("warn", "this machine's clock is 20 s behind the API server's")),
        (3600.5, ("fail", "this machine's clock is 3600 s ahead of the API server's")),
    ],
)
def test_clock(seconds: float, expected: tuple[str, str]) -> None:
    assert said("clock", healthy(api_time=NOW - timedelta(seconds=seconds))) == [expected]
