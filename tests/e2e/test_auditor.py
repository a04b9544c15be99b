"""`forestall auditor` with the chart's rights on a real control plane: within seconds it keeps what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.auditing import LIMITED, UNLIMITED, WITHIN, Auditor, apply, auditing, grant, make_namespace
from tests.e2e.guarded import deployment, has_helm
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from webhook.policy import Object


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        grant(running)
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("mode: audit\n")
    return file


def test_findings_follow_what_is_stored(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "shop")
    apply(plane, deployment("old", "shop", UNLIMITED), deployment("good", "shop", LIMITED))
    plane.kubectl("rollout", "status", "deployment/old", "-n", "shop", "--timeout=60s")
    one = {"memory-limits: patch": 1}
    with auditing(plane, config) as auditor:
        assert auditor.findings("shop") == one
        apply(plane, deployment("new", "shop", UNLIMITED))
        eventually(lambda: auditor.findings("shop") == {"memory-limits: patch": 2}, "not seen", WITHIN)
        apply(plane, deployment("new", "shop", LIMITED))
        eventually(lambda: auditor.findings("shop") == one, "not gone", WITHIN)
        plane.kubectl("delete", "deployment", "old", "-n", "shop")
        eventually(lambda: auditor.findings("shop") == {}, "not gone with its object", WITHIN)
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": "shop"}}
        apply(plane, {**bare, "spec": {"containers": [UNLIMITED]}})
        eventually(lambda: auditor.findings("shop") == one, "a bare pod is not seen", WITHIN)
        labels = {"app": "alone"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [UNLIMITED]}}
        alone = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "alone", "namespace": "shop"}}
        apply(plane, {**alone, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}})
        eventually(lambda: auditor.findings("shop") == {"memory-limits: patch": 2}, "a ReplicaSet is not seen", WITHIN)
        template["spec"] = {"containers": [LIMITED]}
        apply(plane, {**alone, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}})
        eventually(lambda: auditor.findings("shop") == one, "a ReplicaSet's finding stays", WITHIN)
        plane.kubectl("delete", "namespace", "shop")
        eventually(lambda: auditor.findings("shop") == {}, "not gone with the namespace", WITHIN)


def test_a_limit_range_and_a_label_are_followed(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "given")
    apply(plane, deployment("web", "given", UNLIMITED))
    item = {"type": "Container", "default": {"memory": "128Mi"}}
    metadata = {"name": "defaults", "namespace": "given"}
    with auditing(plane, config) as auditor:
        before = auditor.findings("given")
        apply(plane, {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [item]}})
        eventually(lambda: auditor.findings("given") == {}, "the LimitRange's default is not seen", WITHIN)
        plane.kubectl("delete", "limitrange", "defaults", "-n", "given")
        eventually(lambda: auditor.findings("given") == before, "the LimitRange is not gone", WITHIN)
    assert before == {"memory-limits: patch": 1}


def test_a_new_configuration_is_audited_by(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "followed")
    apply(plane, deployment("web", "followed", UNLIMITED))
    with auditing(plane, config) as auditor:
        assert auditor.findings("followed") == {"memory-limits: patch": 1}
        config.write_text("mode: audit\npolicies: {memory-limits: {mode: deny, otherwise: deny}}\n")
        eventually(lambda: auditor.findings("followed") == {"memory-limits: deny": 1}, "not followed", WITHIN)
        config.write_text("mode: audit\nexcludeNamespaces: [followed]\n")
        eventually(lambda: auditor.findings("followed") == {}, "an excluded namespace is judged", WITHIN)
        config.write_text("mode: adit\n")
        eventually(lambda: auditor.events("configuration refused, the last good one stays"), "not refused", WITHIN)
        assert auditor.findings("followed") == {}


def status(plane: ControlPlane) -> Object:
    """What the Lease tells of the audit."""
    lease = json.loads(plane.kubectl("get", "lease", "forestall-auditor", "-n", SYSTEM, "-o", "json"))
    told: Object = json.loads(lease["metadata"]["annotations"]["forestall.dev/audit"])
    return told


def test_of_two_one_leads_and_the_other_takes_over(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "taken")
    apply(plane, deployment("web", "taken", UNLIMITED))
    with auditing(plane, config, "one") as one:
        two = Auditor(plane, config, "two")
        try:
            eventually(lambda: two.metric("forestall_audit_leading") == 0, "it doesn't answer")
            assert (one.metric("forestall_audit_leading"), two.findings("taken")) == (1, {})
            one.kill()
            eventually(lambda: two.findings("taken") == {"memory-limits: patch": 1}, "nobody took over", 40)
            eventually(lambda: status(plane).get("findings"), "the Lease doesn't tell", WITHIN)
            assert (status(plane)["wholeAt"] > 0, status(plane).get("unread")) == (True, None)
        finally:
            two.stop()


def test_an_api_server_that_is_gone_for_a_while_costs_nothing(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "patient")
    apply(plane, deployment("old", "patient", UNLIMITED))
    with auditing(plane, config) as auditor:
        plane.stop_api_server()
        eventually(lambda: auditor.metric("forestall_audit_leading") == 0, "it leads without an API server")
        assert auditor.findings("patient") == {}
        plane.start_api_server()
        apply(plane, deployment("new", "patient", UNLIMITED))
        eventually(lambda: auditor.findings("patient") == {"memory-limits: patch": 2}, "it did not come back")
        assert auditor.metric("forestall_audit_unread_kinds") == 0


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_right_that_is_missing_costs_its_kind_alone(plane: ControlPlane, config: Path, verb: str) -> None:
    namespace = f"unseen-{verb}"
    make_namespace(plane, namespace)
    apply(plane, deployment("web", namespace, UNLIMITED))
    role = json.loads(plane.kubectl("get", "clusterrole", "forestall-controller", "-o", "json"))
    for rule in role["rules"]:
        if "deployments" in rule["resources"]:
            rule["verbs"] = [kept for kept in rule["verbs"] if kept != verb]
    plane.kubectl("replace", "-f", "-", input=json.dumps(role))
    try:
        with auditing(plane, config) as auditor:
            eventually(lambda: auditor.metric("forestall_audit_unread_kinds") > 0, "it is not told")
            refused = {line["resource"] for line in auditor.events(f"cannot {verb}")}
            assert "deployments.apps" in refused
            bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": namespace}}
            apply(plane, {**bare, "spec": {"containers": [UNLIMITED]}})
            seen = {"memory-limits: patch": 2 if verb == "watch" else 1}
            eventually(lambda: auditor.findings(namespace) == seen, "other kinds are not seen", WITHIN)
    finally:
        grant(plane)
