"""Durations as Prometheus, its configuration and its operator's resources write them."""

from __future__ import annotations

import re

_UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
"""Milliseconds of each unit, from the longest."""
# More digits than these are out of range in any unit, and Python refuses to read very many.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,18}}){unit})?" for unit in _UNITS), re.ASCII)
_LONGEST = (2**63 - 1) // 1_000_000
"""Milliseconds of Go's longest duration; Prometheus refuses a longer one."""

OPERATED_INTERVAL = 30_000
"""What the operator's CustomResourceDefinition fills in as a Prometheus' scrapeInterval."""


def parse_duration(text: object) -> int | None:
    """A duration in milliseconds, "1m30s" -> 90000; None for what Prometheus refuses.

    Source: github.com/prometheus/common model/time.go, ParseDuration: units from the longest, each once; 0 alone needs
    none.
    """
    if not isinstance(text, str) or not text:
        return None
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    amounts = zip(found.groups(), _UNITS.values(), strict=True)
    milliseconds = sum(int(amount) * unit for amount, unit in amounts if amount)
    return milliseconds if milliseconds <= _LONGEST else None


def format_duration(milliseconds: int) -> str:
    """The duration in the longest unit that divides it: 90000 -> "90s"."""
    unit = next(unit for unit in ("h", "m", "s", "ms") if not milliseconds % _UNITS[unit])
    return f"{milliseconds // _UNITS[unit]}{unit}"
