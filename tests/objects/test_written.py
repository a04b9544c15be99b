"""A stored object as it was written: without the fields that the cluster put into it."""

from __future__ import annotations

import copy

import pytest

from tests.builders import container, sized, workload
from webhook.objects.written import as_written
from webhook.policy import Object

TOLERATION = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
MOUNT = {"name": "kube-api-access-x7x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
VOLUME = {"name": "kube-api-access-x7x", "projected": {"sources": []}}
GIVEN = "LimitRanger plugin set: cpu, memory request for container web; memory limit for init container first"


def given(limit: str | None = None, request: str | None = None, name: str = "web") -> Object:
    return container(name, **sized(limit, request))


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        pytest.param({"nodeName": "n"}, {}, id="the-scheduler"),
        pytest.param(
            {"tolerations": [TOLERATION | {"tolerationSeconds": 300}, TOLERATION | {"tolerationSeconds": 30}]},
            {"tolerations": [TOLERATION | {"tolerationSeconds": 30}]},
            id="default-tolerations",
        ),
        pytest.param({"volumes": [{"name": "a"}, VOLUME]}, {"volumes": [{"name": "a"}]}, id="account-volume"),
        pytest.param(
            {"containers": [{"name": "web", "volumeMounts": [{"name": "a", "mountPath": "/a"}, MOUNT]}]},
            {"containers": [{"name": "web", "resources": {}, "volumeMounts": [{"name": "a", "mountPath": "/a"}]}]},
            id="its-mount",
        ),
    ],
)
def test_pods(stored: Object, written: Object) -> None:
    pod: Object = {"kind": "Pod", "spec": stored}
    before = copy.deepcopy(pod)
    assert as_written("", "Pod", pod)["spec"] == written
    assert pod == before


def test_amounts_of_a_limit_range() -> None:
    pod = workload(
        "Pod", given("1Gi", "1Gi"), given("1Gi", "1Gi", "other"), initContainers=[given("2Gi", name="first")]
    )
    pod["metadata"]["annotations"] = {"kubernetes.io/limit-ranger": GIVEN}
    spec = as_written("", "Pod", pod)["spec"]
    assert [container["resources"] for container in spec["containers"]] == [
        {"limits": {"memory": "1Gi"}},
        {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}},
    ]
    assert spec["initContainers"][0]["resources"] == {}


def test_a_template_is_somebodys() -> None:
    deployment = workload(nodeName="n", tolerations=[TOLERATION | {"tolerationSeconds": 300}])
    assert as_written("apps", "Deployment", deployment) is deployment


@pytest.mark.parametrize(
    ("annotations", "volume"),
    [
        pytest.param({"pv.kubernetes.io/bound-by-controller": "yes"}, None, id="bound-by-the-cluster"),
        pytest.param({"pv.kubernetes.io/bind-completed": "yes"}, "pv-1", id="named-by-somebody"),
    ],
)
def test_claims(annotations: Object, volume: str | None) -> None:
    claim: Object = {"metadata": {"annotations": annotations}, "spec": {"volumeName": "pv-1"}}
    assert as_written("", "PersistentVolumeClaim", claim)["spec"].get("volumeName") == volume
