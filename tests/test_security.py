"""What SECURITY.md says that somebody with every right in a namespace can't do."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.builders import ROOT, TODAY, config, container, request, workload
from webhook.controller.registration import configurations
from webhook.engine import decide, undecided
from webhook.errors import TimeUp
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
        (judging,) = (each for each in configuration["webhooks"] if not each["name"].startswith("probe."))
        assert judging["objectSelector"] == {}
        (selector,) = judging["namespaceSelector"]["matchExpressions"]
        assert (selector["key"], selector["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        assert set(selector["values"]) <= ALWAYS_EXCLUDED | {"sandbox"}
        for condition in judging["matchConditions"]:
            assert "labels[" not in condition["expression"]
            assert "namespaceObject" not in condition["expression"]


def test_the_probe_concerns_configmaps_of_our_own_namespace() -> None:
    for configuration in configurations(config(), "LS0t", namespace="forestall-system"):
        (probing,) = (each for each in configuration["webhooks"] if each["name"].startswith("probe."))
        (selector,) = probing["namespaceSelector"]["matchExpressions"]
        assert (selector["operator"], selector["values"]) == ("In", ["forestall-system"])
        assert [rule["resources"] for rule in probing["rules"]] == [["configmaps"]]
        assert probing["failurePolicy"] == "Ignore"


def test_with_the_enforce_preset_nothing_passes_that_was_not_decided() -> None:
    preset = yaml.safe_load((ROOT / "charts/forestall/presets/enforce.yaml").read_text())["config"]
    enforced = config(yaml.safe_dump(preset))
    assert enforced.webhooks.failure_policy == "Fail"
    decision = undecided(request(disguised()), enforced, "validate", TimeUp("the API server's timeout passed"))
    asked = {each.policy.id for each in enforced.policies.values() if each.policy.operations}
    assert {verdict.policy for verdict in decision.verdicts if verdict.denies} == asked
