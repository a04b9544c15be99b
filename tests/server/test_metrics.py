"""What a worker counts, and what happens when it can't be written down."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.builders import config, container, request, workload
from webhook.messages import warnings
from webhook.policy import ALLOWED, AdmissionRequest, Decision, Mode, Outcome, Verdict, Violation
from webhook.server import metrics as metrics_module
from webhook.server.metrics import Metrics, expected_violations, outcome_of, print_metrics


def test_what_cannot_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for level in ("warning", "info"):
        monkeypatch.setattr(metrics_module.log, level, lambda event, **more: said.append((event, more)), raising=False)
    metrics = Metrics(tmp_path, 0, set(), [])

    def refuse(_path: Path, _data: bytes) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", refuse)
        for status in (400, 404, 404):
            metrics.count_refusal(status)
            metrics.write()
    metrics.write()
    text = print_metrics(tmp_path, 1).decode()
    assert 'forestall_refused_requests_total{code="404"} 2.0' in text
    assert "forestall_unwritten_metrics_total 3.0" in text
    assert "forestall_dropped_log_lines_total 0.0" in text
    assert said == [
        ("metrics are not written", {"error": "[Errno 24] Too many open files"}),
        ("metrics are written again", {"failures": 3}),
    ]


def counted(directory: Path, name: str) -> dict[str, float]:
    """The series of a metric, by what stands between its braces."""
    lines = [line for line in print_metrics(directory, 1).decode().splitlines() if line.startswith(f"{name}{{")]
    return {labels: float(value) for labels, _, value in (line[len(name) + 1 :].partition("} ") for line in lines)}


def review(namespace: str = "shop", *, dry_run: bool = False) -> AdmissionRequest:
    return request(workload("Deployment", container()), namespace=namespace, dry_run=dry_run)


def verdict(mode: Mode, outcome: Outcome) -> Verdict:
    return Verdict("memory-limits", mode, outcome, Violation("spec", "web", "it is wrong"))


def judged(*verdicts: Verdict) -> Decision:
    return Decision(allowed=not any(verdict.denies for verdict in verdicts), verdicts=verdicts)


def test_counters_begin_at_0(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, {"Deployment"}, ["memory-limits"])
    metrics.expect(expected_violations(config("policies: {memory-limits: {mode: patch}}")))
    metrics.count_review(review(), ALLOWED, "mutate", 0.001, 0.001)
    metrics.write()
    of_shop = {labels: n for labels, n in counted(tmp_path, "forestall_violations_total").items() if "shop" in labels}
    assert {labels: n for labels, n in of_shop.items() if 'policy="memory-limits"' in labels} == {
        f'mode="{mode}",namespace="shop",outcome="{outcome}",policy="memory-limits"': 0
        for mode, outcome in (("deny", "denied"), ("patch", "patched"), ("warn", "warned"))
    }
    reviews = counted(tmp_path, "forestall_reviews_total")
    one = 'kind="Deployment",operation="CREATE",outcome="allowed",stage="mutate"'
    assert reviews[one] == 1
    assert len(reviews) == 2 * 2 * 2 * 3
    assert sum(reviews.values()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("mode: audit", {("audit", "audited")}, id="audit"),
        pytest.param("mode: warn", {("warn", "warned")}, id="warn"),
        pytest.param("policies: {memory-limits: {mode: deny}}", {("deny", "denied"), ("warn", "warned")}, id="deny"),
        pytest.param(
            "{mode: patch, policies: {memory-limits: {mode: patch}}}",
            {("patch", "patched"), ("warn", "warned")},
            id="nothing-is-denied",
        ),
        pytest.param("policies: {memory-limits: {mode: 'off'}}", set(), id="off"),
        pytest.param(
            "{policies: {memory-limits: {mode: 'off'}}, overrides: [{match: {namespaces: [a]}, policies: "
            "{memory-limits: {mode: audit}}}]}",
            {("audit", "audited")},
            id="overridden",
        ),
    ],
)
def test_expected_violations(text: str, expected: set[tuple[str, str]]) -> None:
    found = expected_violations(config(text))
    assert {(mode, outcome) for policy, mode, outcome in found if policy == "memory-limits"} == expected


def test_dry_runs_are_counted_aside(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, {"Deployment"}, [])
    metrics.count_review(review(dry_run=True), judged(verdict("deny", "denied")), "validate", 0.001, 0.001)
    metrics.write()
    assert sum(counted(tmp_path, "forestall_reviews_total").values()) == 0
    assert counted(tmp_path, "forestall_violations_total") == {}
    dry = {labels: n for labels, n in counted(tmp_path, "forestall_dry_run_reviews_total").items() if n}
    assert dry == {'outcome="denied",stage="validate"': 1}


def test_namespaces_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "_NAMESPACES", 2)
    metrics = Metrics(tmp_path, 0, set(), [])
    for namespace in ("a", "b", "c", "d", "a"):
        metrics.count_review(review(namespace), judged(verdict("warn", "warned")), "validate", 0.001, 0.001)
    metrics.write()
    # Its successor knows which were met.
    Metrics(tmp_path, 0, set(), []).count_review(
        review("e"), judged(verdict("warn", "warned")), "validate", 0.001, 0.001
    )
    found = counted(tmp_path, "forestall_violations_total")
    assert {labels.split('"')[3]: n for labels, n in found.items()} == {"a": 2, "b": 1, "(other)": 2}


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        pytest.param([verdict("warn", "warned")], "warned", id="printed"),
        pytest.param([verdict("warn", "unknown")], "warned", id="cannot-tell"),
        pytest.param([verdict("audit", "unknown")], "allowed", id="audit-prints-nothing"),
        pytest.param([verdict("audit", "failed")], "allowed", id="audit-prints-no-failure"),
        pytest.param([verdict("warn", "exempted")], "allowed", id="exempted"),
    ],
)
def test_outcome(verdicts: list[Verdict], outcome: str) -> None:
    assert outcome_of(judged(*verdicts)) == outcome
    assert bool(warnings(request(workload()), judged(*verdicts), config())) == (outcome == "warned")
