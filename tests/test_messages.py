"""What people read."""

from __future__ import annotations

import pytest

from tests.builders import TODAY, config, container, request, sized, workload
from webhook.engine import decide, undecided
from webhook.errors import FactsUnavailable
from webhook.messages import audit_annotations, denial, object_name, told, warnings
from webhook.objects.facts import NO_FACTS
from webhook.policy import AdmissionRequest, Brief, Decision, Mode, Object, Outcome, Set, Verdict, Violation
from webhook.scope import AnyStage

CONTAINER = "Deployment web, container web"
PROMETHEUS = workload("StatefulSet", container("prometheus", "prom/prometheus:v3", **sized("3Gi", "2Gi")), name="prom")


def decision(obj: Object, text: str = "", stage: AnyStage = "check") -> Decision:
    return decide(request(obj), NO_FACTS, config(text), today=TODAY, stage=stage)


def warned(obj: Object, text: str = "", stage: AnyStage = "validate") -> list[str]:
    return warnings(request(obj), decision(obj, text, stage), config(text))


def texts_of(told: Decision, text: str = "") -> list[str]:
    """The warnings of Deployment web."""
    return warnings(request(workload()), told, config(text))


def test_a_denial_says_what_where_what_to_set_and_why() -> None:
    text = "policies: {prometheus-memory: {params: {largestNode: 64Gi}}}"
    assert denial(request(PROMETHEUS), decision(PROMETHEUS, text, "validate"), config()) == (
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
    assert "  how   Helm value server.resources: {limits: {memory: 6Gi}}\n" in denial(
        request(obj), decision(obj, stage="validate"), config()
    )


def test_a_patch_is_explained() -> None:
    assert warned(workload(), stage="mutate") == [
        f"{CONTAINER}: memory-limits: no memory limit: patched to limits.memory=512Mi, requests.memory=256Mi"
    ]


def test_what_was_so_before_is_said_to_have_been() -> None:
    obj = workload()
    updated = decide(request(obj, obj), NO_FACTS, config(), today=TODAY, stage="validate")
    assert warnings(request(obj), updated, config()) == [
        f"{CONTAINER}: memory-limits: no memory limit: set limits.memory to 512Mi; it was so before this change"
    ]


def test_audit_says_nothing_and_records_everything() -> None:
    audited = decision(workload(), "mode: audit", "validate")
    assert warnings(request(workload()), audited, config()) == []
    assert audit_annotations(audited) == {
        "audited": "memory-limits spec.template.spec.containers[0].resources.limits.memory (would be patched to 512Mi)"
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
    assert ([verdict.outcome for verdict in audited.verdicts], warnings(request(obj), audited, config())) == (
        [outcome],
        [],
    )
    assert list(audit_annotations(audited)) == [outcome]
    assert bool(warned(obj, f"mode: warn\n{for_all}")) == told_at_warn


@pytest.mark.parametrize("error", [RuntimeError("a bug"), FactsUnavailable("no answer")])
def test_audit_warns_of_no_failure(error: Exception) -> None:
    failed = undecided(request(workload()), config("mode: audit"), "validate", error)
    assert (bool(failed.verdicts), texts_of(failed)) == (True, [])
    told = undecided(request(workload()), config("mode: warn"), "validate", error)
    assert len(texts_of(told)) == len(told.verdicts) == len(failed.verdicts)


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
    assert texts_of(patched) == [f"Deployment web: memory-limits: wrong: patched to {text}"]


def test_a_patch_that_the_manifest_has_to_follow() -> None:
    obj = {**workload("StatefulSet"), "spec": {"volumeClaimTemplates": [{}]}}
    violation = Violation("spec", "data", "wrong", fix=Set("spec.volumeClaimTemplates", []))
    patched = Decision(allowed=True, verdicts=(Verdict("zonal-volumes", "patch", "patched", violation),))
    again = "applying it again fails until the manifest says the same"
    text = f"StatefulSet web: zonal-volumes: wrong: patched to spec.volumeClaimTemplates; {again}"
    assert warnings(request(obj), patched, config()) == [text]


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


BEGIN = "Deployment web: memory-limits: "


def test_warnings_have_no_newlines_and_are_cut() -> None:
    (text,) = texts_of(verdicts(1, "two\nlines " + "x" * 300))
    assert text == f"{BEGIN}0 two lines {'x' * 212}…"
    assert len(text) == 256


@pytest.mark.parametrize(
    ("wrong", "remedy", "hint", "shown"),
    [
        pytest.param("wrong", "mend it", "a.b: c", "wrong: mend it; would be denied; Helm value a.b; ask us", id="all"),
        pytest.param(
            "wrong", "mend it", 'a["b.c"]: d', "wrong: mend it; would be denied; Helm value a; ask us", id="in-brackets"
        ),
        pytest.param(
            "w" * 180, "mend it", "a" * 30, f"{'w' * 180}: mend it; would be denied; ask us", id="without-the-value"
        ),
        pytest.param(
            "w" * 300, "m" * 90, "a.b", f"{'w' * 107}…: {'m' * 90}; would be denied; ask us", id="without-the-evidence"
        ),
    ],
)
def test_a_remedy_stays_whole(wrong: str, remedy: str, hint: str, shown: str) -> None:
    violation = Violation("spec", "web", "", brief=Brief(wrong, remedy), hint=hint)
    told = Decision(allowed=True, verdicts=(Verdict("memory-limits", "warn", "warned", violation, enforced="deny"),))
    assert texts_of(told, "contact: ask us") == [f"{BEGIN}{shown}"]
    assert len(BEGIN + shown) <= 256


@pytest.mark.parametrize(
    ("text", "end"),
    [
        pytest.param("mode: warn", "would be patched to 512Mi", id="ceiling"),
        pytest.param("policies: {memory-limits: {mode: warn}}", "would be patched to 512Mi", id="policy"),
        pytest.param("mode: warn\npolicies: {memory-limits: {mode: deny}}", "would be denied", id="denied"),
        pytest.param(
            "mode: warn\npolicies: {memory-limits: {params: {containers: {web: 2Gi}}}}",
            "would be patched to 2Gi",
            id="its-size",
        ),
    ],
)
def test_what_enforcement_would_do(text: str, end: str) -> None:
    (told,) = warned(workload(), text)
    assert told.endswith(f"; {end}")


def test_names_are_shortened_in_the_middle() -> None:
    (text,) = warned(workload("Deployment", container("c" * 30 + "d" * 30), name="a" * 30 + "b" * 30), "mode: warn")
    assert text == (
        f"Deployment {'a' * 20}…{'b' * 19}, container {'c' * 20}…{'d' * 19}: memory-limits: no memory limit: "
        "set limits.memory to 512Mi; would be patched to 512Mi"
    )


@pytest.mark.parametrize(
    ("count", "length", "kept"),
    [(1, 300, 1), (7, 300, 7), (100, 300, 7), (15, 60, 15), (16, 60, 15), (500, 60, 15)],
)
def test_all_webhooks_of_a_request_share_the_api_s_budget(count: int, length: int, kept: int) -> None:
    texts = texts_of(verdicts(count, "x" * length))
    assert sum(map(len, texts)) <= 2048
    more = [f"Deployment web: and {count - kept} more warnings of Forestall"] if count > kept else []
    assert texts[kept:] == more


def test_the_worst_comes_first() -> None:
    def verdict(name: str, outcome: Outcome, enforced: Mode | None = None, note: str = "") -> Verdict:
        mode: Mode = "patch" if outcome == "patched" else "warn"
        return Verdict("memory-limits", mode, outcome, Violation("", "", name), note, enforced=enforced)

    every = [
        verdict("as before", "warned", note="it was so before this change"),
        verdict("mended", "patched"),
        verdict("only warned of", "warned"),
        verdict("undecided", "unknown"),
        verdict("to be patched", "warned", "patch"),
        verdict("to be denied", "warned", "deny"),
    ]
    texts = texts_of(Decision(allowed=True, verdicts=tuple(every)))
    shown = [text.removeprefix(BEGIN).partition(":")[0].partition(";")[0] for text in texts]
    assert shown == [verdict.violation.message for verdict in reversed(every)]


def test_the_same_warning_is_said_once() -> None:
    twice = verdicts(1, "the same").verdicts * 2
    assert len(texts_of(Decision(allowed=True, verdicts=twice))) == 1


def test_annotations_keep_within_bounds() -> None:
    (text,) = audit_annotations(verdicts(500, "", "spec.template.spec.containers[0]")).values()
    assert (len(text), text[-1]) == (1024, "…")


def test_a_denial_of_very_many_is_cut() -> None:
    many = tuple(
        Verdict("memory-limits", "deny", "denied", Violation(f"spec[{index}]", "web", "wrong")) for index in range(50)
    )
    text = denial(request(workload()), Decision(allowed=False, verdicts=many), config())
    assert text.startswith("50 violations in Deployment shop/web\n")
    assert text.endswith("\n\nand 30 more")


def test_whom_to_ask_and_where_to_read_on() -> None:
    cfg = config("{contact: 'Ask #platform', pages: 'https://wiki.example.com/forestall/'}")
    text = denial(request(PROMETHEUS), decision(PROMETHEUS, stage="validate"), cfg)
    assert text.endswith("lost (https://wiki.example.com/forestall/prometheus-memory)\n\nAsk #platform")


def denied(violation: Violation, obj: Object, old: Object | None = None) -> list[str]:
    """The lines of a denial that say what to do."""
    verdict = Verdict("zonal-volumes", "deny", "denied", violation)
    lines = denial(request(obj, old), Decision(allowed=False, verdicts=(verdict,)), config()).splitlines()
    return [line.strip() for line in lines if line.startswith(("  run ", "  set "))]


CLAIM = "persistentvolumeclaim/data"
STATEFUL_SET, JOB = workload("StatefulSet", name="db"), workload("Job", name="once")


@pytest.mark.parametrize(
    ("violation", "obj", "old", "lines"),
    [
        pytest.param(
            Violation("", "", "", advice=(Set("spec.storageClassName", "zrs", CLAIM),), deletes=(CLAIM,)),
            workload(),
            None,
            [f"run   kubectl delete {CLAIM} -n shop --ignore-not-found", f"set   {CLAIM} spec.storageClassName: zrs"],
            id="another-object",
        ),
        pytest.param(
            Violation("", "", "", advice=(Set("spec.volumeClaimTemplates[0].spec.storageClassName", "zrs"),)),
            STATEFUL_SET,
            STATEFUL_SET,
            [
                "run   kubectl delete statefulset/db -n shop --cascade=orphan",
                "set   spec.volumeClaimTemplates[0].spec.storageClassName: zrs",
            ],
            id="a-template-of-claims",
        ),
        pytest.param(
            Violation("", "", "", advice=(Set('spec.template.spec.nodeSelector["a.b/c"]', "x"),)),
            STATEFUL_SET,
            STATEFUL_SET,
            ['set   spec.template.spec.nodeSelector["a.b/c"]: x'],
            id="what-can-be-changed",
        ),
        pytest.param(
            Violation("", "", "", fix=Set("spec.template.spec.x", "z")),
            JOB,
            JOB,
            ["run   kubectl delete job/once -n shop", "set   spec.template.spec.x: z"],
            id="a-job",
        ),
        pytest.param(
            Violation("", "", "", fix=(Set("spec.a", ["x" * 200]), Set("spec.b", 1))),
            workload(),
            None,
            [],
            id="too-long",
        ),
        pytest.param(
            Violation("", "", "", fix=Set("spec.storage", {"emptyDir": {}})),
            workload(),
            None,
            ['set   spec.storage: {"emptyDir":{}}'],
            id="a-map",
        ),
    ],
)
def test_what_to_do_in_its_order(violation: Violation, obj: Object, old: Object | None, lines: list[str]) -> None:
    assert denied(violation, obj, old) == lines


def test_a_field_has_one_remedy() -> None:
    """A size that may be applied counts for more than one that is only advised."""
    fixed = Violation("spec.x", "web", "", fix=Set("spec.x", "12Gi"))
    advised = Violation("spec.x", "web", "", advice=(Set("spec.x", "6Gi"), Set("spec.y", "4Gi")))
    both = tuple(Verdict("memory-limits", "deny", "denied", violation) for violation in (advised, fixed))
    text = denial(request(workload()), Decision(allowed=False, verdicts=both), config())
    assert [line.strip() for line in text.splitlines() if line.startswith("  set")] == [
        "set   spec.y: 4Gi",
        "set   spec.x: 12Gi",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("mode: audit", "set limits.memory to 512Mi (would be patched to 512Mi)", id="audit"),
        pytest.param("mode: warn", "set limits.memory to 512Mi (would be patched to 512Mi)", id="warn"),
        pytest.param("policies: {memory-limits: {mode: deny}}", "set limits.memory to 512Mi", id="enforced"),
    ],
)
def test_what_enforcing_would_do_is_told_wherever_it_is_not_done(text: str, expected: str) -> None:
    (verdict,) = decision(workload(), text).verdicts
    assert told(verdict) == f"container 'web' has no memory limit: {expected}"


def test_a_long_name_in_what_is_wrong_is_shortened() -> None:
    name = "alertmanager-kube-prometheus-stack-alertmanager-db"
    violation = Violation("spec", name, "…", brief=Brief(f"volume '{name}' is tied to one zone", "pin the pods"))
    warned = Decision(allowed=True, verdicts=(Verdict("zonal-volumes", "warn", "warned", violation),))
    wrong = "volume 'alertmanager-kube-pr…ack-alertmanager-db' is tied to one zone"
    assert texts_of(warned) == [f"Deployment web: zonal-volumes: {wrong}: pin the pods"]
