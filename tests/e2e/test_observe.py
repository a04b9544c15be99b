"""`forestall audit` on a real control plane: what is broken is told, and what only passes by is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders import container, limit_range, sized, workload
from tests.cluster_fixture import ControlPlane, control_plane
from tests.loopback import eventually
from webhook.cli import main
from webhook.cluster.client import Cluster
from webhook.policy import Object

ZONE = "topology.kubernetes.io/zone"
WEB = container("web", **sized("512Mi", "256Mi"))
GRAFANA = container("grafana", "grafana/grafana:12.3.1", **sized("512Mi", "256Mi")) | {
    "volumeMounts": [{"name": "data", "mountPath": "/var/lib/grafana"}]
}
ROOM = {"cpu": "16", "memory": "62Gi", "pods": "250"}
SIGN = "it monitors (image grafana/grafana:12.3.1)"
DATA = "claim 'data-grafana-0' has its data on volume grafana, which only nodes in zone zone-a can use"
BRING = (
    "bring up a node there (zone zone-a), or, if the data may be lost, delete claim and pod, and both are made anew "
    "where there are nodes"
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("observed")) as plane:
        status = json.dumps({"status": {"allocatable": ROOM}})
        plane.kubectl("patch", "nodes", "node-0", "node-1", "node-2", "--subresource=status", "-p", status)
        for namespace in ("shop", "tight"):
            plane.kubectl("create", "namespace", namespace)
            account = ("get", "serviceaccount", "default", "-n", namespace)
            eventually(lambda account=account: plane.try_kubectl(*account).returncode == 0)
        apply(plane, *volume(), deployment("shop", WEB), grafana())
        plane.kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=60s")
        plane.kubectl("rollout", "status", "statefulset/grafana", "-n", "shop", "--timeout=60s")
        yield plane


def apply(plane: ControlPlane, *objects: Object) -> None:
    plane.kubectl("apply", "--server-side", "-f", "-", input="\n".join(map(json.dumps, objects)))


def deployment(namespace: str, *containers: Object) -> Object:
    obj = workload("Deployment", *containers)
    obj["metadata"]["namespace"] = namespace
    obj["spec"] |= {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}}
    return obj


def grafana() -> Object:
    """One pod, with its data in zone-a."""
    obj = workload("StatefulSet", GRAFANA, name="grafana")
    template = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    obj["spec"] |= {
        "replicas": 1,
        "serviceName": "grafana",
        "selector": {"matchLabels": {"app": "grafana"}},
        "volumeClaimTemplates": [template],
    }
    return obj


def volume() -> Iterator[Object]:
    terms = [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone-a"]}]}]
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "grafana"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"},
            "claimRef": {"namespace": "shop", "name": "data-grafana-0"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }


@pytest.fixture
def audit(plane: ControlPlane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is broken, a line each: who saw it, how bad it is, the object, the text; `later` has passed meanwhile."""
    now = Cluster.now

    def audit(later: timedelta = timedelta()) -> str:
        monkeypatch.setattr(Cluster, "now", lambda cluster: now(cluster) + later)
        main(["audit", f"--kubeconfig={plane.kubeconfig}", "--output=json"])
        document = json.loads(capsys.readouterr().out)
        assert document["clusters"][0]["unseen"] == []
        return "\n".join(
            f"{seen['policy']} {seen['severity']} {seen['kind']} {seen['name']}: {seen['message']}"
            for seen in document["observations"]
        )

    return audit


LATER = timedelta(minutes=20)


def patch_status(plane: ControlPlane, pod: str, status: Object) -> None:
    """Write a pod's status as its kubelet would."""
    plane.kubectl("patch", "pod", pod, "-n", "shop", "--subresource=status", "-p", json.dumps({"status": status}))


def pods(plane: ControlPlane, app: str) -> list[str]:
    return plane.kubectl("get", "pods", "-n", "shop", "-l", f"app={app}", "-o", "name").replace("pod/", "").split()


def test_a_healthy_cluster_has_none(audit: Any) -> None:
    assert (audit(), audit(LATER)) == ("", "")


def test_a_rollout_and_a_new_node_have_none(plane: ControlPlane, audit: Any) -> None:
    plane.kubectl("rollout", "restart", "deployment/web", "statefulset/grafana", "-n", "shop")
    starting = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "new", "labels": {ZONE: "zone-b"}, "annotations": {"kwok.x-k8s.io/node": "none"}},
        "status": {
            "capacity": {**ROOM, "memory": "64Gi"},
            "allocatable": ROOM,
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
        },
    }
    plane.kubectl("create", "-f", "-", input=json.dumps(starting))
    assert audit() == ""
    plane.kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=60s")
    plane.kubectl("rollout", "status", "statefulset/grafana", "-n", "shop", "--timeout=60s")
    assert audit() == ""
    plane.kubectl("delete", "node", "new")


def test_an_oom_killed_container(plane: ControlPlane, audit: Any) -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    pod = pods(plane, "web")[0]
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}"}}
    container = {"name": "web", "image": "nginx:1.27", "imageID": "", "ready": True, "restartCount": 2}
    running = {"state": {"running": {"startedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}"}}, "lastState": last}
    patch_status(plane, pod, {"containerStatuses": [container | running]})
    assert audit() == (
        f"memory-limits warning Deployment web: container 'web' was OOM-killed at its limit 512Mi, last in "
        f"pod {pod} at {at:%Y-%m-%d %H:%M:%S} UTC, 2 restarts: raise limits.memory above 512Mi"
    )
    plane.kubectl("delete", "pod", pod, "-n", "shop", "--force", "--grace-period=0")
    plane.kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=60s")


def test_a_crash_loop(plane: ControlPlane, audit: Any) -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    ended = {"reason": "Error", "exitCode": 1, "finishedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
    container = {"name": "grafana", "image": "grafana/grafana:12.3.1", "imageID": "", "ready": False, "restartCount": 7}
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    unready = [
        {"type": type_, "status": "False", "reason": "ContainersNotReady"} for type_ in ("Ready", "ContainersReady")
    ]
    patch_status(plane, "grafana-0", {"containerStatuses": [container | waiting], "conditions": unready})
    ready = ("get", "statefulset", "grafana", "-n", "shop", "-o", "jsonpath={.status.readyReplicas}")
    eventually(lambda: plane.kubectl(*ready) in ("", "0"))
    assert audit() == (
        f"monitoring-down error StatefulSet grafana: none of 1 pods is ready, and {SIGN}: container 'grafana' is in "
        f"CrashLoopBackOff after 7 restarts, it ended last at {at:%Y-%m-%d %H:%M:%S} UTC (Error)"
    )
    plane.kubectl("delete", "pod", "grafana-0", "-n", "shop", "--force", "--grace-period=0")
    plane.kubectl("rollout", "status", "statefulset/grafana", "-n", "shop", "--timeout=60s")


def test_a_pod_that_a_limit_range_refuses(plane: ControlPlane, audit: Any) -> None:
    apply(plane, limit_range(namespace="tight", max="256Mi"), deployment("tight", WEB))
    failed = 'jsonpath={.status.conditions[?(@.type=="ReplicaFailure")].status}'
    eventually(lambda: plane.kubectl("get", "deployment", "web", "-n", "tight", "-o", failed) == "True")
    assert audit() == (
        "namespace-defaults error Deployment web: 0 of 2 pods are there, as LimitRange defaults refuses more: "
        "container 'web': limits.memory 512Mi is above the maximum 256Mi: set "
        "spec.template.spec.containers[0].resources.limits.memory to 256Mi or less"
    )
    plane.kubectl("delete", "deployment", "web", "-n", "tight")
    assert audit() == ""


def test_a_zone_whose_nodes_are_deleted(plane: ControlPlane, audit: Any) -> None:
    """First the claim is told of, which its pod hasn't noticed; then the pod that takes its place."""
    plane.kubectl("cordon", "node-0")
    for pod in pods(plane, "web"):
        plane.kubectl("delete", "pod", pod, "-n", "shop", "--force", "--grace-period=0")
    plane.kubectl("rollout", "status", "deployment/web", "-n", "shop", "--timeout=60s")
    assert audit() == ""
    plane.kubectl("delete", "node", "node-0")
    assert audit() == (
        f"zonal-volumes warning StatefulSet grafana: {DATA}, and no such node is left; pod grafana-0 mounts it, "
        f"and is Pending once it is made anew: {BRING}"
    )
    plane.kubectl("delete", "pod", "grafana-0", "-n", "shop", "--force", "--grace-period=0")
    scheduled = 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].status}'
    eventually(lambda: plane.try_kubectl("get", "pod", "grafana-0", "-n", "shop", "-o", scheduled).stdout == "False")
    assert "zonal-volumes" not in audit()
    down, pending = audit(LATER).splitlines()
    said = "2 node(s) didn't match PersistentVolume's node affinity"
    assert pending == (
        f"zonal-volumes error StatefulSet grafana: pod grafana-0 is Pending: {DATA}, and the nodes that the pod may "
        f'use are in zone zone-b, zone-c (the scheduler: "{said}"): {BRING}'
    )
    assert down.startswith(f"monitoring-down error StatefulSet grafana: none of 1 pods is ready, and {SIGN}: pod ")
