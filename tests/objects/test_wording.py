"""How messages write many things in one line, and a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from webhook.objects.wording import listed, shortened, utc


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        pytest.param([], "", id="none"),
        pytest.param(["a"], "a", id="one"),
        pytest.param(["a", "b"], "a, b", id="as-many-as-may-be"),
        pytest.param(["a", "b", "c", "d"], "a, b and 2 more", id="more"),
    ],
)
def test_listed(texts: list[str], line: str) -> None:
    assert listed(texts, 2) == line


def test_a_time_of_another_zone_is_told_in_utc() -> None:
    moment = datetime(2026, 11, 27, 1, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert utc(moment) == "2026-11-26 23:00:00 UTC"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("abcdefg", "abcdefg", id="as-long-as-it-may-be"),
        pytest.param("abcdefgh", "abc…fgh", id="its-middle-goes"),
        pytest.param("", "", id="empty"),
    ],
)
def test_shortened(text: str, line: str) -> None:
    assert shortened(text, 7) == line
