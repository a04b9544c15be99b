"""The auditor's metrics: findings as they are now, and how old and how whole they are."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator

from prometheus_client import REGISTRY, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from webhook.auditing.breaker import Stopped
from webhook.auditing.kept import Kept
from webhook.findings import Enforcement

OWN_SERIES = 200
"""Pairs of namespace and team that have series of their own, those with most findings; the rest are "others"."""
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
broken = Gauge("forestall_audit_broken", "Things that are broken in the cluster now.", ["observer", "severity"])
stopped = Gauge(
    "forestall_audit_stopped",
    "Calls that the auditor doesn't make since the API server is busy: 0 none, 1 writes, 2 all.",
)


class Shown(Collector):
    """The findings by policy, by what enforcing it would do about them, and by namespace and team."""

    def __init__(self) -> None:
        self._findings: Counts[tuple[str, Enforcement, str, str]] = Counts()

    def show(self, kept: Kept) -> None:
        self._findings = bounded(kept)

    def hide(self) -> None:
        self._findings = Counts()

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "forestall_audit_findings",
            f"Findings on stored objects: `enforcement` is what the policy does about them where it is enforced (deny, "
            f"patch or nothing). Beyond {OWN_SERIES} pairs of namespace and team the rest are together, as others.",
            labels=["policy", "enforcement", "namespace", "team"],
        )
        for labels, count in sorted(self._findings.items()):
            family.add_metric(labels, count)
        yield family


def bounded(kept: Kept) -> Counts[tuple[str, Enforcement, str, str]]:
    """Policy, enforcement, namespace and team -> findings."""
    sizes: Counts[tuple[str, str]] = Counts()
    for counted, count in kept.counts.items():
        sizes[counted.namespace, counted.team] += count
    own = {pair for pair, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:OWN_SERIES]}
    found: Counts[tuple[str, Enforcement, str, str]] = Counts()
    for counted, count in kept.counts.items():
        pair = counted.namespace, counted.team
        found[counted.policy, counted.enforcement, *(pair if pair in own else _OTHERS)] += count
    return found


shown = Shown()
REGISTRY.register(shown)
