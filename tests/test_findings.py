"""Findings: what was met on which object, where, and whether an update that changes nothing would be spared."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.builders import TODAY, config, container, request, sized, workload
from webhook.engine import decide, undecided
from webhook.errors import FactsUnavailable
from webhook.findings import IN_CLUSTER, Finding, JudgedObject, Place, findings_of, object_of
from webhook.objects.facts import NO_FACTS
from webhook.policy import AdmissionRequest, Object, Verdict, Violation

BARE = workload("Deployment", container("web"), container("log", **sized("1Gi")))
LIMIT = "spec.template.spec.containers[0].resources.limits.memory"
EXEMPT = "exemptions: [{policy: memory-limits, match: {namespaces: ['*']}, owner: a, reason: b, until: 2099-01-01}]"


def met(asked: AdmissionRequest, text: str = "") -> list[Finding]:
    decision = decide(asked, NO_FACTS, config(text), today=TODAY)
    return findings_of(asked, decision, config(text))


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            BARE,
            JudgedObject(IN_CLUSTER, "apps/v1", "Deployment", "shop", "web", containers=2, is_workload=True),
            id="workload",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
            JudgedObject(IN_CLUSTER, "v1", "Namespace", "", "shop"),
            id="cluster-scoped",
        ),
        pytest.param(
            {**BARE, "spec": "text"}, JudgedObject(IN_CLUSTER, "apps/v1", "Deployment", "shop", "web"), id="unreadable"
        ),
    ],
)
def test_object(obj: Object, expected: JudgedObject) -> None:
    assert object_of(request(obj)) == expected
    assert str(expected) == f"{expected.kind} {'shop/' if expected.namespace else ''}{expected.name}"


def test_a_finding_names_container_and_place() -> None:
    asked = request(BARE)
    decision = decide(asked, NO_FACTS, config("mode: deny"), today=TODAY)
    judged = object_of(asked, Place("web.yaml", 3))
    (finding,) = findings_of(asked, decision, config(""), judged, lambda path: Place("web.yaml", len(path)))
    assert finding == Finding(judged, decision.verdicts[0], Place("web.yaml", len(LIMIT)), "web", ratcheted=True)
    assert (str(finding.place), str(IN_CLUSTER)) == (f"web.yaml:{len(LIMIT)}", "in the cluster")


@pytest.mark.parametrize(
    ("text", "ratcheted"),
    [
        pytest.param("policies: {memory-limits: {mode: deny}}", True, id="denied"),
        pytest.param("policies: {memory-limits: {mode: deny}}\nratchet: false", False, id="denied-without-the-ratchet"),
        pytest.param("policies: {memory-limits: {mode: patch}}", True, id="patched"),
        pytest.param("policies: {memory-limits: {mode: patch}}\npatchExisting: true", False, id="patched-although-old"),
        pytest.param("policies: {memory-limits: {mode: deny}}\npatchExisting: true", True, id="denied-is-not-patched"),
    ],
)
def test_ratcheted_is_what_an_unchanged_update_is_spared(text: str, ratcheted: bool) -> None:
    (finding,) = met(request(BARE), text)
    unchanged = decide(request(BARE, BARE), NO_FACTS, config(text), today=TODAY)
    assert finding.ratcheted == ratcheted
    assert (unchanged.allowed and not unchanged.patch) == ratcheted


def test_nothing_spares_what_could_not_be_decided() -> None:
    asked, cfg = request(BARE), config("policies: {memory-limits: {onError: deny}}")
    decision = undecided(asked, cfg, "check", FactsUnavailable("cannot read limitranges"))
    assert {finding.ratcheted for finding in findings_of(asked, decision, cfg)} == {False}


@pytest.mark.parametrize(
    ("text", "needs_action"),
    [
        pytest.param("", True, id="denied"),
        pytest.param("mode: audit", True, id="audited-at-any-mode"),
        pytest.param(EXEMPT, False, id="exempted"),
    ],
)
def test_needs_action(text: str, needs_action: bool) -> None:
    assert [finding.needs_action for finding in met(request(BARE), text)] == [needs_action]


def test_what_is_only_noted_needs_no_action() -> None:
    noted = Verdict("zonal-volumes", "audit", "audited", Violation("spec", "data", "bound", at_most="audit"))
    finding = Finding(object_of(request(BARE)), noted)
    assert not finding.needs_action
    louder = msgspec.structs.replace(noted, violation=msgspec.structs.replace(noted.violation, at_most="warn"))
    assert replace(finding, verdict=louder).needs_action
