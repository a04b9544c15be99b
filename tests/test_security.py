"""What SECURITY.md says that somebody with every right in a namespace can't do, and that it names its tests."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
import yaml

from tests.builders import ROOT, TODAY, config, container, request, workload
from webhook.controller.registration import configurations
from webhook.engine import decide, undecided
from webhook.errors import TimeUp
from webhook.messages import denial, warnings
from webhook.objects.facts import NO_FACTS
from webhook.policy import Object
from webhook.scope import ALWAYS_EXCLUDED

DENYING = "mode: deny\npolicies: {memory-limits: {mode: deny}}\n"
EXEMPTED = """
overrides: [{match: {namespaces: [legacy]}, policies: {memory-limits: {mode: "off"}}}]
exemptions: [{policy: memory-limits, match: {namespaces: [legacy]}, owner: sre, reason: moving, until: 2099-01-01}]
"""
OWNED = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": True}


def disguised(kind: str = "Deployment", **metadata: Any) -> Object:
    obj = workload(kind)
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(disguised(), id="plain"),
        pytest.param(disguised(labels={"app.kubernetes.io/name": "forestall"}), id="our-label"),
        pytest.param(disguised(labels={"forestall.dev/probe": "nonce"}), id="the-probe-s-label"),
        pytest.param(disguised(labels={"forestall.dev/exempt": "true"}), id="an-invented-label"),
        pytest.param(disguised(labels={"kubernetes.io/metadata.name": "kube-system"}), id="a-namespace-s-label"),
        pytest.param(disguised(labels={"control-plane": "true"}), id="control-plane"),
        pytest.param(disguised(annotations={"forestall.dev/ignore": "memory-limits"}), id="annotation"),
        pytest.param(disguised(annotations={"admissions.enforcer/disabled": "true"}), id="another-s-annotation"),
        pytest.param(disguised("ReplicaSet", ownerReferences=[OWNED]), id="typed-owner-of-a-replica-set"),
        pytest.param(disguised("Pod", ownerReferences=[{**OWNED, "kind": "ReplicaSet"}]), id="typed-owner-of-a-pod"),
        pytest.param(disguised("Pod", ownerReferences=[{**OWNED, "kind": "Node", "apiVersion": "v1"}]), id="as-static"),
        pytest.param(
            disguised("Pod", annotations={"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file"}),
            id="mirror-pod",
        ),
        pytest.param(disguised(name="forestall"), id="our-name"),
        pytest.param(disguised(name="legacy"), id="name-of-an-exempted-namespace"),
        pytest.param(disguised(managedFields=[{"manager": "kube-controller-manager"}]), id="field-manager"),
    ],
)
def test_nobody_exempts_an_object(obj: Object) -> None:
    decision = decide(request(obj), NO_FACTS, config(DENYING + EXEMPTED), today=TODAY, stage="validate")
    assert not decision.allowed


def test_the_exemption_itself_works() -> None:
    """Or the table above would hold whatever it says."""
    obj = disguised(namespace="legacy")
    assert decide(request(obj), NO_FACTS, config(DENYING + EXEMPTED), today=TODAY, stage="validate").allowed


@pytest.mark.parametrize("groups", [("system:masters",), ("system:serviceaccounts:kube-system",), ("break-glass",)])
def test_groups_count_only_where_an_exemption_names_them(groups: tuple[str, ...]) -> None:
    decision = decide(
        request(disguised(), groups=groups), NO_FACTS, config(DENYING + EXEMPTED), today=TODAY, stage="validate"
    )
    assert not decision.allowed


def test_nothing_stays_unjudged_by_what_it_held_before() -> None:
    """The ratchet spares what was wrong already, not what is wrong anew."""
    before, now = workload("Deployment", container("old")), workload("Deployment", container("old"), container("new"))
    assert not decide(request(now, before), NO_FACTS, config(DENYING), today=TODAY, stage="validate").allowed


@pytest.mark.parametrize("text", ["", "excludeNamespaces: [sandbox, 'team-*']"])
def test_what_is_sent_depends_on_no_label_that_anybody_sets(text: str) -> None:
    for configuration in configurations(config(text), "LS0t", namespace="forestall-system"):
        (judging,) = (webhook for webhook in configuration["webhooks"] if not webhook["name"].startswith("probe."))
        assert judging["objectSelector"] == {}
        (selector,) = judging["namespaceSelector"]["matchExpressions"]
        assert (selector["key"], selector["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        assert set(selector["values"]) <= ALWAYS_EXCLUDED | {"sandbox"}
        for condition in judging["matchConditions"]:
            assert "labels[" not in condition["expression"]
            assert "namespaceObject" not in condition["expression"]


def test_the_probe_concerns_configmaps_of_our_own_namespace() -> None:
    for configuration in configurations(config(), "LS0t", namespace="forestall-system"):
        (probing,) = (webhook for webhook in configuration["webhooks"] if webhook["name"].startswith("probe."))
        (selector,) = probing["namespaceSelector"]["matchExpressions"]
        assert (selector["operator"], selector["values"]) == ("In", ["forestall-system"])
        assert [rule["resources"] for rule in probing["rules"]] == [["configmaps"]]
        assert probing["failurePolicy"] == "Ignore"


def test_with_the_enforce_preset_nothing_passes_that_was_not_decided() -> None:
    preset = yaml.safe_load((ROOT / "charts/forestall/presets/enforce.yaml").read_text())["config"]
    enforced = config(yaml.safe_dump(preset))
    assert enforced.webhooks.failure_policy == "Fail"
    decision = undecided(request(disguised()), enforced, "validate", TimeUp("the API server's timeout passed"))
    asked = {
        active.policy.id for active in enforced.policies.values() if active.policy.operations and active.mode != "off"
    }
    assert {verdict.policy for verdict in decision.verdicts if verdict.denies} == asked


# --- what names an owner, by who asks

OBSERVATORY = {"apiVersion": "obs.example.com/v1", "kind": "Observatory", "name": "obs", "uid": "1", "controller": True}
ROLLOUT = {**OBSERVATORY, "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
OPERATOR, RESIDENT = "system:serviceaccount:obs:operator", "system:serviceaccount:shop:operator"
NAMED = "controllers: [operator]\n"
SIZED = "policies: {memory-limits: {params: {containers: {web: 64Mi}}}}\n"
DENY = "policies: {memory-limits: {mode: deny}}\n"


def become(obj: Object, user: str, text: str) -> str:
    """What both stages make of the object: "passes" if nothing is changed or told, else the outcomes."""
    cfg = config(text)
    asked = request(obj, user=user)
    mutated = decide(asked, NO_FACTS, cfg, today=TODAY, stage="mutate")
    patched = msgspec.structs.replace(asked, object=mutated.object or obj)
    judged = decide(patched, NO_FACTS, cfg, today=TODAY, stage="validate")
    found = [*mutated.verdicts, *judged.verdicts]
    assert judged.allowed is not any(verdict.denies for verdict in found)
    return " ".join(verdict.outcome for verdict in found) or "passes"


@pytest.mark.parametrize(
    ("owner", "user", "warn", "patch", "deny"),
    [
        pytest.param(OBSERVATORY, "operator", "passes", "passes", "passes", id="named-in-controllers"),
        pytest.param(ROLLOUT, "operator", "passes", "passes", "passes", id="named-and-its-owner-judged"),
        pytest.param(ROLLOUT, OPERATOR, "passes", "passes", "passes", id="another-namespace-owner-judged"),
        pytest.param(OBSERVATORY, OPERATOR, "warned", "patched", "warned", id="another-namespace"),
        pytest.param(ROLLOUT, RESIDENT, "audited", "audited", "judged", id="the-same-namespace-owner-judged"),
        pytest.param(OBSERVATORY, RESIDENT, "warned", "patched", "judged", id="the-same-namespace"),
        pytest.param(ROLLOUT, "jane", "judged", "judged", "judged", id="a-person-owner-judged"),
        pytest.param(OBSERVATORY, "jane", "judged", "judged", "judged", id="a-person"),
        pytest.param(OWNED, OPERATOR, "judged", "judged", "judged", id="another-namespace-built-in-owner"),
        pytest.param(OWNED, RESIDENT, "judged", "judged", "judged", id="the-same-namespace-built-in-owner"),
    ],
)
def test_what_an_operator_makes(owner: Object, user: str, warn: str, patch: str, deny: str) -> None:
    """ "judged" as a person's is patched where the policy patches, and denied where it denies; nothing of an operator's
    is denied there, and none of it patched."""
    obj = disguised("StatefulSet", ownerReferences=[owner])
    for operator_made, expected in (("warn", warn), ("patch", patch), ("deny", deny)):
        text = f"{NAMED}operatorMade: {operator_made}\n"
        assert become(obj, user, text) == expected.replace("judged", "patched")
        assert become(obj, user, text + DENY) == expected.replace("patched", "warned").replace("judged", "denied")
        assert become(obj, user, text + SIZED) == "patched", "a size that is named is patched whoever asks"


@pytest.mark.parametrize("operator_made", ["warn", "patch", "deny"])
@pytest.mark.parametrize(
    ("owner", "user", "expected"),
    [
        (OBSERVATORY, "operator", "passes"),
        (ROLLOUT, OPERATOR, "passes"),
        (OBSERVATORY, OPERATOR, "warned"),
        (OWNED, OPERATOR, "denied"),
        (OWNED, RESIDENT, "denied"),
        (OBSERVATORY, "jane", "denied"),
    ],
)
def test_an_owned_replica_set_is_never_patched(owner: Object, user: str, expected: str, operator_made: str) -> None:
    """A controller would find that it no longer matches its template, and make another, and another."""
    obj = disguised("ReplicaSet", ownerReferences=[owner])
    for more in ("", SIZED):
        assert become(obj, user, f"{NAMED}operatorMade: {operator_made}\n{more}") == expected


KUBE_SYSTEM = "system:serviceaccount:kube-system:"


@pytest.mark.parametrize(
    ("version", "kind", "maker"),
    [
        ("apps/v1", "Deployment", f"{KUBE_SYSTEM}deployment-controller"),
        ("apps/v1", "ReplicaSet", f"{KUBE_SYSTEM}replicaset-controller"),
        ("apps/v1", "StatefulSet", f"{KUBE_SYSTEM}statefulset-controller"),
        ("apps/v1", "DaemonSet", f"{KUBE_SYSTEM}daemon-set-controller"),
        ("batch/v1", "Job", f"{KUBE_SYSTEM}job-controller"),
        ("batch/v1", "CronJob", f"{KUBE_SYSTEM}cronjob-controller"),
        ("v1", "ReplicationController", f"{KUBE_SYSTEM}replication-controller"),
        (
            "apps.openshift.io/v1",
            "DeploymentConfig",
            "system:serviceaccount:openshift-infra:deploymentconfig-controller",
        ),
        ("extensions/v1beta1", "ReplicaSet", f"{KUBE_SYSTEM}replicaset-controller"),
    ],
)
def test_a_built_in_owner_has_one_maker(version: str, kind: str, maker: str) -> None:
    obj = disguised("ReplicationController", ownerReferences=[{**OWNED, "apiVersion": version, "kind": kind}])
    assert become(obj, maker, DENY) == "passes"
    for other in ("jane", OPERATOR, RESIDENT, f"{KUBE_SYSTEM}namespace-controller"):
        assert become(obj, other, DENY) == "denied"


REMEDIES = "mend it there, by a LimitRange (label the namespace), by image or container, or exempt it"


@pytest.mark.parametrize(
    ("user", "text", "note"),
    [
        pytest.param(OPERATOR, "", f"made by Observatory obs: {REMEDIES}", id="warned"),
        pytest.param(
            RESIDENT,
            f"operatorMade: deny\n{DENY}",
            f"made by Observatory obs: {REMEDIES}; if {RESIDENT} is its operator, let it pass with controllers: "
            f"['{RESIDENT}']",
            id="denied",
        ),
        pytest.param(OPERATOR, "operatorMade: patch", "made by Observatory obs", id="patched"),
    ],
)
def test_who_made_it_is_told(user: str, text: str, note: str) -> None:
    asked = request(disguised("StatefulSet", ownerReferences=[OBSERVATORY]), user=user)
    decision = decide(asked, NO_FACTS, config(text), today=TODAY)
    assert [verdict.note for verdict in decision.verdicts] == [note]
    assert note in "".join(warnings(asked, decision, config())) or note in denial(asked, decision, config())


def test_the_enforce_preset_closes_what_a_service_account_of_the_namespace_can_do() -> None:
    preset = yaml.safe_load((ROOT / "charts/forestall/presets/enforce.yaml").read_text())["config"]
    obj = disguised("ReplicaSet", ownerReferences=[OBSERVATORY])
    assert become(obj, RESIDENT, yaml.safe_dump(preset)) == "denied"
    assert become(obj, RESIDENT, "") == "warned"


@pytest.mark.parametrize(("user", "allowed"), [(OPERATOR, True), ("jane", False)])
def test_no_operator_is_denied_for_want_of_a_decision(user: str, allowed: bool) -> None:
    asked = request(disguised("StatefulSet", ownerReferences=[OBSERVATORY]), user=user)
    cfg = config("policies: {memory-limits: {onError: deny}}")
    assert undecided(asked, cfg, "validate", TimeUp("the API server's timeout passed")).allowed is allowed


# --- SECURITY.md

PAGE = (ROOT / "SECURITY.md").read_text()
TEST = re.compile(r"(tests/[\w/]+\.py)::(?:\w+::)?(test_\w+)")


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(PAGE))))
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    assert re.search(rf"^ *def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("head", "count"), [pytest.param("| can't |", 11, id="can-t"), pytest.param("| service account |", 3, id="may")]
)
def test_every_claim_names_its_tests(head: str, count: int) -> None:
    claims = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    assert len(claims) >= count
    assert [claim for claim in claims if not TEST.search(claim)] == []
