"""Lists in messages: of many things the first, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterable


def listed(texts: Iterable[str], most: int) -> str:
    """The texts in one line: "a, b and 3 more"."""
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{', '.join(texts[:most])}{more}"
