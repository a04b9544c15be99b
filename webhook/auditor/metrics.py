"""The auditor's metrics: findings as they are now, and how old and how whole they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from prometheus_client import REGISTRY, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from webhook.auditor.breaker import Breaker, Stopped
from webhook.auditor.in_turn import in_turn
from webhook.auditor.kept import Counted, Kept, most_first
from webhook.auditor.status import Status

OWN_SERIES = 200
"""Pairs of namespace and team that have series of their own: each namespace's team with most findings, then its second,
and so on; the rest are "others"."""
_OTHERS = ("others", "others")
STOPPED: tuple[Stopped, ...] = ("nothing", "writes", "everything")

leading = Gauge(
    "forestall_audit_leading",
    "1 on the auditor that leads: its metrics tell of the cluster, those of auditors that stand by don't.",
)
whole_at = Gauge(
    "forestall_audit_last_whole_timestamp_seconds",
    "When the last audit of everything ended, in seconds since 1970; 0 before the first has.",
)
whole_seconds = Gauge("forestall_audit_whole_duration_seconds", "Seconds that the last audit of everything took.")
objects = Gauge("forestall_audit_objects", "Stored objects of the kinds that are judged.")
unreadable = Gauge("forestall_audit_unreadable_objects", "Stored objects that aren't judged, as they can't be read.")
unread_kinds = Gauge(
    "forestall_audit_unread_kinds", "Kinds whose objects can't be listed or watched now: what is known of them is old."
)
stopped = Gauge(
    "forestall_audit_stopped",
    "Calls that the auditor doesn't make since the API server is busy: 0 none, 1 writes, 2 all.",
)


class _Shown(Collector):
    """The findings, and what is broken, as one value each: a scrape never sees half of them."""

    def __init__(self) -> None:
        self.findings: Mapping[tuple[str, ...], int] = {}
        self.broken: Mapping[tuple[str, ...], int] = {}

    def collect(self) -> Iterator[Metric]:
        yield _family(
            "forestall_audit_findings",
            "Findings on stored objects; `enforcement` is what their policy does about them where it is enforced: "
            f"deny, patch or nothing. Beyond {OWN_SERIES} pairs of namespace and team the rest are one, as others.",
            ["policy", "enforcement", "namespace", "team"],
            self.findings,
        )
        yield _family(
            "forestall_audit_broken",
            "Things that are broken in the cluster now, by the policy or other observer that sees them.",
            ["observer", "severity"],
            self.broken,
        )


def _family(name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in sorted(values.items()):
        family.add_metric(of, value)
    return family


def bounded(kept: Kept) -> Counter[tuple[str, ...]]:
    """Policy, enforcement, namespace and team -> findings."""
    pairs = most_first(kept.count_by(lambda of: (of.namespace, of.team)))
    own = set(islice(in_turn(pairs, lambda pair: pair[0]), OWN_SERIES))

    def labels(of: Counted) -> tuple[str, ...]:
        pair = of.namespace, of.team
        return of.policy, of.enforcement, *(pair if pair in own else _OTHERS)

    return kept.count_by(labels)


_shown = _Shown()
REGISTRY.register(_shown)


def watch_breaker(breaker: Breaker) -> None:
    """Tell of this breaker whenever the metrics are read."""
    stopped.set_function(lambda: STOPPED.index(breaker.stopped))


def show(kept: Kept, status: Status, seconds: float) -> None:
    """Tell of the audit as it is now; `seconds` is how long the last one of everything took."""
    _shown.findings = bounded(kept)
    whole_at.set(kept.whole_at)
    whole_seconds.set(seconds)
    objects.set(status.objects)
    unreadable.set(status.unreadable)
    unread_kinds.set(len(status.unread))
    _shown.broken = Counter((found.observer, found.observation.severity) for found in kept.broken)


def hide() -> None:
    """Tell nothing more: from now on the new leader's metrics are the valid ones."""
    _shown.findings, _shown.broken = {}, {}
    for gauge in (whole_at, whole_seconds, objects, unreadable, unread_kinds):
        gauge.set(0)
