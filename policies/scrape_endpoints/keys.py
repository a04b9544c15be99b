"""The annotations that scrape configurations read by convention, prometheus.io/scrape and its kin.

Prometheus sees an annotation's key with an underscore for whatever is no letter or digit, so that prometheus.io/scrape,
prometheus.io.scrape and prometheus_io_scrape are one to it. The values and what they mean are those of the prometheus
chart's jobs (charts/prometheus/values.yaml).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

_PREFIX = "prometheus_io_"
_NO_LETTER = re.compile(r"[^a-zA-Z0-9_]")
SCRAPE, SLOW = "scrape", "scrape_slow"
KNOWN = (SCRAPE, SLOW, "port", "path", "scheme")
"""The annotations that the chart's jobs read of Services and pods, besides param_NAME."""
_MORE = ("probe", "param", "interval", "timeout", "job", "insecure_skip_verify", "scrape_interval", "scrape_timeout")
"""Others that are about: probe is the chart's own, the rest are read by jobs that people write."""


class Keys(msgspec.Struct, frozen=True, gc=False):
    """The prometheus.io/ annotations of one object that name a target: values as they are written, "" for none.

    Where several spellings of one are there, Prometheus takes either: the first counts.
    """

    scrape: str = ""
    slow: str = ""
    port: str = ""
    path: str = ""
    scheme: str = ""

    @property
    def is_scraped(self) -> bool:
        return "true" in (self.scrape, self.slow)


def port_of(value: str) -> int | None:
    """The port that an annotation's value names, "9102" -> 9102; None for anything else than 1 to 65535."""
    is_number = value.isascii() and value.isdecimal() and len(value) <= 5
    return int(value) if is_number and 1 <= int(value) <= 65535 else None


def seen_as(key: str) -> str:
    """How Prometheus calls the annotation: prometheus.io/scrape-slow -> "scrape_slow"; "" for another prefix."""
    name = _NO_LETTER.sub("_", key)
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""


def keys_of(annotations: Mapping[str, Any] | None) -> Keys | None:
    """The annotations that name a target; None if there are none."""
    found: dict[str, str] = {}
    for key, value in (annotations or {}).items():
        if key.startswith("prometheus") and (name := seen_as(key)) in KNOWN:
            found.setdefault("slow" if name == SLOW else name, str(value or ""))
    return Keys(**found) if found else None


def meant_by(key: str) -> str:
    """The annotation that a misspelt one stands for, "prometheus.io/scrape"; empty if it is spelt well, or is none."""
    if (name := seen_as(key)) in (*KNOWN, *_MORE) or name.startswith("param_"):
        return ""
    spelt = _NO_LETTER.sub("_", key).casefold()
    if "prom" not in spelt:
        return ""
    if name:  # the prefix is right: it may be somebody's own
        found = get_close_matches(name.casefold(), KNOWN, 1, 0.75)
    else:
        found = [
            known.removeprefix(_PREFIX)
            for known in get_close_matches(spelt, [f"{_PREFIX}{known}" for known in KNOWN], 1, 0.88)
        ]
    return f"prometheus.io/{found[0].replace('_', '-')}" if found else ""
