"""How much Prometheus keeps, in bytes and in time, as its flags, its resource or its configuration say."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from policies.metrics_durability.pod import Pod
from policies.metrics_durability.stores import Kept
from webhook.objects.config_maps import mounted_file
from webhook.objects.config_text import inside, read_yaml
from webhook.objects.durations import parse_duration
from webhook.objects.prometheus import flag_value

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]?)i?B")
_POWERS = "KMGTPE"
_MOST_BYTES = 2**63 - 1
"""Of a size that Prometheus takes."""
_DEFAULT_TIME = "15d"
_OPERATORS_TIME = "24h"


class Retention(NamedTuple):
    """What a Prometheus keeps.

    size       bytes at most, None for any number; `size_told` is the same as it was written
    seconds    how long at most, 0 for ever; `time_told` is the same as it was written
    path       the field that says so
    """

    size: int | None
    size_told: str
    seconds: float
    time_told: str
    path: str


def retention_of(pod: Pod, kept: Kept) -> Retention:
    """The retention of a Prometheus. An amount that it can't read, it refuses to start with: here it counts as none."""
    if pod.workload.is_operated:
        spec = pod.workload.spec
        size, time, path = spec.get("retentionSize"), spec.get("retention"), f"{pod.workload.spec_path}.retentionSize"
        default = _OPERATORS_TIME
    else:
        container = kept.container
        size = flag_value(container, "storage.tsdb.retention.size")
        time = flag_value(container, "storage.tsdb.retention.time", "storage.tsdb.retention")
        path, default = f"{container.path}.args", _DEFAULT_TIME
        in_file = _in_file(pod, kept)
        size, time = inside(in_file, "size") or size, inside(in_file, "time") or time
    # With a size alone nothing is deleted for its age.
    size, time = str(size or ""), str(time or ("" if size else default))
    return Retention(read_size(size), size, read_time(time), time, path)


def _in_file(pod: Pod, kept: Kept) -> Any:
    """What the configuration says, which counts for more than the flags do."""
    path = flag_value(kept.container, "config.file")
    text = mounted_file(pod.workload, kept.container, path, pod.facts).text if path else None
    return inside(read_yaml(text), "storage", "tsdb", "retention") if text else None


def read_size(text: str) -> int | None:
    """A size as Prometheus writes it, whose units are powers of 1024 with and without an i; None for none, or 0."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    size = float(found[1]) * 1024 ** (_POWERS.index(found[2]) + 1 if found[2] else 0)
    return int(size) or None if size <= _MOST_BYTES else None


def read_time(text: str) -> float:
    """Seconds of a duration as Prometheus writes it: "15d", "1w3d"; 0 for what is none."""
    return (parse_duration(text) or 0) / 1000
