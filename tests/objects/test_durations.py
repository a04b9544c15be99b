"""Durations as Prometheus reads and writes them."""

from __future__ import annotations

import pytest

from webhook.objects.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1m30s", 90_000),
        ("0", 0),
        ("500ms", 500),
        ("1d", 86_400_000),
        ("30s1m", None),
        ("1.5m", None),
        ("", None),
        (30, None),
        ("292y", 9_208_512_000_000),
        ("293y", None),
        ("9" * 5000 + "s", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_durations(text: object, milliseconds: int | None) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(90_000, "90s"), (60_000, "1m"), (7_200_000, "2h"), (1_500, "1500ms"), (0, "0h")]
)
def test_told(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text
