"""What people read."""

from __future__ import annotations

import pytest

from tests.builders import TODAY, config, container, request, sized, workload
from webhook.engine import decide, undecided
from webhook.errors import FactsUnavailable
from webhook.messages import audit_annotations, denial, object_name, warnings
from webhook.objects.facts import NO_FACTS
from webhook.policy import AdmissionRequest, Decision, Object, Set, Verdict, Violation
from webhook.scope import AnyStage

PROMETHEUS = workload("StatefulSet", container("prometheus", "prom/prometheus:v3", **sized("3Gi", "2Gi")), name="prom")


def decision(obj: Object, text: str = "", stage: AnyStage = "check") -> Decision:
    return decide(request(obj), NO_FACTS, config(text), today=TODAY, stage=stage)


def test_a_denial_says_what_where_what_to_set_and_why() -> None:
    text = "policies: {prometheus-memory: {params: {largestNode: 64Gi}}}"
    assert denial(request(PROMETHEUS), decision(PROMETHEUS, text, "validate")) == (
        """\
2 violations in StatefulSet shop/prom

prometheus-memory: Prometheus container 'prometheus' has memory request 2Gi: set requests.memory to 4Gi or more
  where spec.template.spec.containers[0].resources.requests.memory

prometheus-memory: Prometheus container 'prometheus' has memory limit 3Gi: set limits.memory to 6Gi or more
  where spec.template.spec.containers[0].resources.limits.memory
  set   spec.template.spec.containers[0].resources.limits.memory: 6Gi
  set   spec.template.spec.containers[0].resources.requests.memory: 4Gi
  why   Kubecost incident 4: a Prometheus with 2Gi/3Gi was killed for three days and its billing data lost \
(forestall explain prometheus-memory)"""
    )


def test_a_chart_s_value_is_named() -> None:
    labels = {
        "helm.sh/chart": "prometheus-29.27.0",
        "app.kubernetes.io/component": "server",
        "app.kubernetes.io/instance": "prometheus",
    }
    obj = workload("Deployment", container("prometheus-server", "prom/prometheus:v3", **sized("3Gi", "4Gi")))
    obj["metadata"]["labels"] = labels
    assert "  how   Helm value server.resources\n" in denial(request(obj), decision(obj, stage="validate"))


def test_a_patch_is_explained() -> None:
    assert warnings(decision(workload(), stage="mutate")) == [
        (
            "memory-limits: container 'web' has no memory limit: set limits.memory to 512Mi (patched: "
            "limits.memory=512Mi, requests.memory=256Mi in spec.template.spec.containers[0].resources)"
        )
    ]


def test_what_was_so_before_is_said_to_have_been() -> None:
    obj = workload()
    updated = decide(request(obj, obj), NO_FACTS, config(), today=TODAY, stage="validate")
    assert warnings(updated) == [
        (
            "memory-limits: container 'web' has no memory limit: set limits.memory to 512Mi "
            "(spec.template.spec.containers[0].resources.limits.memory); it was so before this change"
        )
    ]


def test_audit_says_nothing_and_records_everything() -> None:
    audited = decision(workload(), "mode: audit", "validate")
    assert warnings(audited) == []
    assert audit_annotations(audited) == {
        "audited": "memory-limits spec.template.spec.containers[0].resources.limits.memory"
    }


EXEMPT = "exemptions: [{policy: memory-limits, match: {namespaces: ['*']}, owner: a, reason: b, until: 2099-01-01}]"
UNSEEN = workload(
    "Deployment",
    container("web", **sized("1Gi", "1Gi")),
    volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
)


@pytest.mark.parametrize(
    ("obj", "text", "outcome", "told_at_warn"),
    [
        pytest.param(workload(), "", "audited", True, id="violation"),
        pytest.param(workload(), EXEMPT, "exempted", False, id="exempted"),
        pytest.param(UNSEEN, "", "unknown", True, id="cannot-tell"),
    ],
)
def test_audit_warns_of_nothing(obj: Object, text: str, outcome: str, told_at_warn: bool) -> None:
    for_all = "policies: {zonal-volumes: {params: {workloads: all}}}\n" + text
    audited = decision(obj, f"mode: audit\n{for_all}", "validate")
    assert ([verdict.outcome for verdict in audited.verdicts], warnings(audited)) == ([outcome], [])
    assert list(audit_annotations(audited)) == [outcome]
    assert bool(warnings(decision(obj, f"mode: warn\n{for_all}", "validate"))) == told_at_warn


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FactsUnavailable("no answer")])
def test_audit_warns_of_no_failure(error: Exception) -> None:
    failed = undecided(request(workload()), config("mode: audit"), "validate", error)
    assert (bool(failed.verdicts), warnings(failed)) == (True, [])
    warned = undecided(request(workload()), config("mode: warn"), "validate", error)
    assert len(warnings(warned)) == len(warned.verdicts) == len(failed.verdicts)


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        pytest.param([Set("spec.replicas", 2)], "spec.replicas=2", id="one"),
        pytest.param([Set("spec.volumes", [{"name": "data"}])], "spec.volumes", id="one-without-a-short-value"),
        pytest.param(
            [Set("spec.a.x", "1"), Set("spec.a.y", "2")], "x=1, y=2 in spec.a", id="what-paths-share-is-said-once"
        ),
        pytest.param([Set("spec.a", "1"), Set("spec.b.c.d", "2")], "a=1, b.c.d=2 in spec", id="of-different-lengths"),
        pytest.param([Set("spec.a", "1"), Set("spec.a.b", "2")], "a=1, a.b=2 in spec", id="one-above-another"),
        pytest.param([Set("a.x", "1"), Set("b.x", "2")], "a.x=1, b.x=2", id="paths-that-share-no-beginning"),
    ],
)
def test_what_was_patched(sets: list[Set], text: str) -> None:
    violation = Violation("spec", "web", "wrong", fix=tuple(sets))
    patched = Decision(allowed=True, verdicts=(Verdict("memory-limits", "patch", "patched", violation),))
    assert warnings(patched) == [f"memory-limits: wrong (patched: {text})"]


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        pytest.param("web-1", {"name": "web", "generateName": "gen-"}, "web-1", id="of-the-request"),
        pytest.param("", {"name": "web", "generateName": "gen-"}, "web", id="of-the-object"),
        pytest.param("", {"generateName": "gen-"}, "gen-", id="what-only-has-a-generateName"),
        pytest.param("", {}, "", id="none"),
        pytest.param("", None, "", id="no-metadata"),
    ],
)
def test_object_name(name: str, metadata: Object | None, expected: str) -> None:
    asked = AdmissionRequest("CREATE", "", "v1", "Pod", "shop", name, {"metadata": metadata})
    assert object_name(asked) == expected


def verdicts(count: int, message: str, path: str = "spec") -> Decision:
    return Decision(
        allowed=True,
        verdicts=tuple(
            Verdict("memory-limits", "warn", "warned", Violation(path, "web", f"{index} {message}"))
            for index in range(count)
        ),
    )


def test_warnings_have_no_newlines_and_are_cut() -> None:
    (text,) = warnings(verdicts(1, "two\nlines " + "x" * 300))
    assert text == f"memory-limits: 0 two lines {'x' * 221}… (spec)"
    assert len(text) == 256


def test_a_long_path_leaves_the_first_120_characters_to_the_problem() -> None:
    (text,) = warnings(verdicts(1, "x" * 300, "y" * 300))
    assert text == f"memory-limits: 0 {'x' * 102}… ({'y' * 133}…"
    assert len(text) == 256


@pytest.mark.parametrize("count", [1, 15, 100, 500])
def test_all_warnings_together_keep_within_the_api_s_budget(count: int) -> None:
    texts = warnings(verdicts(count, "x" * 300))
    assert sum(map(len, texts)) <= 4096
    assert texts[-1].startswith("memory-limits: " if count <= 15 else "forestall: and ")


def test_the_same_warning_is_said_once() -> None:
    twice = verdicts(1, "the same").verdicts * 2
    assert len(warnings(Decision(allowed=True, verdicts=twice))) == 1


def test_annotations_keep_within_bounds() -> None:
    (text,) = audit_annotations(verdicts(500, "", "spec.template.spec.containers[0]")).values()
    assert (len(text), text[-1]) == (1024, "…")


def test_a_denial_of_very_many_is_cut() -> None:
    many = tuple(
        Verdict("memory-limits", "deny", "denied", Violation(f"spec[{index}]", "web", "wrong")) for index in range(50)
    )
    text = denial(request(workload()), Decision(allowed=False, verdicts=many))
    assert text.startswith("50 violations in Deployment shop/web\n")
    assert text.endswith("\n\nand 30 more")
