"""Prometheus metrics, correct over several worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from webhook import __version__
from webhook.policy import AdmissionRequest, Decision

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from a tenth of a millisecond, which is an ordinary decision, to the API server's default timeout."""

_PARENT = "arbiter"


class Metrics:
    """What is counted and measured, in files that `directory` holds for every worker.

    `kinds` are the kinds that have a label of their own; all others share one, so that there are never many.
    """

    def __init__(self, directory: Path, kinds: Iterable[str], policies: Iterable[str]) -> None:
        self._directory = directory
        self._kinds = frozenset(kinds)
        self._process = _PARENT
        # How prometheus-client is told to share values. A worker that replaces a dead one takes over its place and its
        # files: nothing that was counted is lost, and there are never more files than places.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
        values.ValueClass = values.MultiProcessValue(lambda: self._process)  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()

        reviews = Counter(
            "forestall_reviews_total",
            "Reviews answered.",
            ["stage", "operation", "kind", "outcome"],
            registry=registry,
        )
        violations = Counter(
            "forestall_violations_total", "Violations found.", ["policy", "mode", "outcome"], registry=registry
        )
        errors = Counter(
            "forestall_policy_errors_total",
            "Times that a policy failed, and its onError decided.",
            ["policy"],
            registry=registry,
        )
        refusals = Counter(
            "forestall_refused_requests_total", "Requests that were no reviews.", ["code"], registry=registry
        )
        decisions = Histogram(
            "forestall_decision_seconds",
            "From the review, read, to the decision.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        requests = Histogram(
            "forestall_request_seconds",
            "From a request's headers to its answer.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        # Looking a label up by its names is most of what counting costs.
        self._reviews = cache(reviews.labels)
        self._violations = cache(violations.labels)
        self._errors = cache(errors.labels)
        self._refusals = cache(refusals.labels)
        self._decisions = cache(decisions.labels)
        self._requests = cache(requests.labels)

        self.facts_synced = self._gauge("forestall_facts_synced", "Whether every worker has read the cluster's facts.")
        self.facts_timestamp = self._gauge(
            "forestall_facts_timestamp_seconds", "As of when the cluster's facts are known; 0 while they are not."
        )
        self.certificate_expiry = self._gauge(
            "forestall_certificate_expiry_timestamp_seconds", "When the serving certificate ends."
        )
        self.certificate_reloaded = self._gauge(
            "forestall_certificate_last_reload_successful", "Whether the certificate in the files is the one in use."
        )
        self.config_reloaded = self._gauge(
            "forestall_config_last_reload_successful", "Whether the configuration in the file is the one in use."
        )
        self.config_timestamp = self._gauge(
            "forestall_config_last_reload_success_timestamp_seconds", "When the configuration in use was read."
        )
        # No alert can see a step from nothing to one.
        for policy in policies:
            self._errors(policy)

    def _gauge(self, name: str, text: str) -> Gauge:
        """The least of all living workers: the one that has not followed is what matters."""
        return Gauge(name, text, registry=self._registry, multiprocess_mode="livemin")

    def begin_worker(self, slot: int) -> None:
        """Called in a new worker process, before it measures anything."""
        self._process = str(slot)
        # The parent serves nothing: its zeros would be the least of all.
        mark_process_dead(_PARENT, str(self._directory))  # type: ignore[no-untyped-call]

    def end_worker(self, slot: int) -> None:
        """Called in the parent when a worker has died: what it counted stays, what it said of itself goes."""
        mark_process_dead(slot, str(self._directory))  # type: ignore[no-untyped-call]

    def count_review(
        self, request: AdmissionRequest, decision: Decision, stage: str, deciding: float, whole: float
    ) -> None:
        """Count one answered review and the seconds that it took."""
        kind = request.kind if request.kind in self._kinds else "other"
        self._reviews(stage, request.operation, kind, outcome_of(decision)).inc()
        for verdict in decision.verdicts:
            self._violations(verdict.policy, verdict.mode, verdict.outcome).inc()
        for policy in decision.failures:
            self._errors(policy).inc()
        self._decisions(stage).observe(deciding)
        self._requests(stage).observe(whole)

    def count_refusal(self, status: int) -> None:
        self._refusals(str(status)).inc()

    def exposition(self) -> bytes:
        """All workers' metrics, added up, in Prometheus' text format."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry) + _BUILD


_BUILD = f"""\
# HELP forestall_build_info Always 1; the version is a label.
# TYPE forestall_build_info gauge
forestall_build_info{{version="{__version__}"}} 1
""".encode()


def outcome_of(decision: Decision) -> str:
    """One word for a whole decision: the strongest thing that was done."""
    if not decision.allowed:
        return "denied"
    if decision.patch:
        return "patched"
    if any(verdict.outcome in ("warned", "unknown", "failed") for verdict in decision.verdicts):
        return "warned"
    return "allowed"
