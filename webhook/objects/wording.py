"""How messages write many things in one line, what is long, and a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime


def listed(texts: Iterable[str], most: int) -> str:
    """The first of the texts, and how many more there are: "a, b and 3 more"."""
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{', '.join(texts[:most])}{more}"


def utc(moment: datetime) -> str:
    """The time to the second: "2026-11-27 11:00:00 UTC"."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def shortened(text: str, most: int) -> str:
    """The text with at most so many characters: of a longer one the middle goes, since names differ at their end, and a
    message says there what is wrong."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}…{text[-half:]}"
