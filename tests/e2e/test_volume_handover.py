"""volume-handover on a real control plane: a changed scale, and what a rollout or a lost node blocks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from policies.volume_handover.rollout import recreate_command
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import Guarded, Object, deployment
from tests.e2e.test_ratchet import make_old
from tests.loopback import eventually
from webhook.cli import main
from webhook.cluster.client import Cluster
from webhook.objects.owners import AUTOSCALER

ON = "policies: {volume-handover: {mode: deny}}"
RECREATE = {"strategy": {"type": "Recreate"}}
LATER = timedelta(minutes=20)
WEB = {"name": "web", "image": "nginx:1.27", "resources": {"limits": {"memory": "512Mi"}}}
MOUNTS = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
CREATING = {"state": {"waiting": {"reason": "ContainerCreating"}}, "ready": False, "restartCount": 0}


def claim(namespace: str, mode: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, **spec},
    }


def mounting(namespace: str, replicas: int = 1, **spec: Any) -> Object:
    """Deployment web, whose pods mount claim data; `spec` goes into its spec."""
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    obj = deployment("web", namespace, {**WEB, **MOUNTS}, replicas=replicas, volumes=volumes)
    obj["spec"] |= spec
    return obj


def scale(cluster: Guarded, namespace: str, replicas: int, *arguments: str) -> tuple[int, str]:
    done = cluster.try_kubectl("scale", "deployment/web", f"--replicas={replicas}", "-n", namespace, *arguments)
    return done.returncode, done.stderr


def test_a_scale_is_judged_by_its_deployment(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured(ON):
        cluster.apply(claim(namespace, "ReadWriteOncePod"), mounting(namespace, **RECREATE))
        code, said = scale(cluster, namespace, 2)
        assert code == 1
        assert "1 violation in Deployment " + namespace + "/web" in said
        assert "claim 'data' is ReadWriteOncePod, which one pod holds at a time, and 2 replicas mount it" in said
        assert cluster.get("deployment", "web", namespace)["spec"]["replicas"] == 1
        assert scale(cluster, namespace, 0) == (0, "")
        assert scale(cluster, namespace, 1) == (0, "")
        autoscaler = (f"--as={AUTOSCALER}", "--as-group=system:masters")
        assert scale(cluster, namespace, 2, *autoscaler) == (0, "")
        assert cluster.get("deployment", "web", namespace)["spec"]["replicas"] == 2
    # The API server doesn't even ask: an autoscaler is not refused while no server answers, either.
    asked = [line["user"] for line in cluster.server.log(subresource="scale", namespace=namespace)]
    assert asked == ["admin"] * 3


def test_a_scale_that_may_work_is_warned_of(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured(ON):
        cluster.apply(claim(namespace, "ReadWriteOnce"), mounting(namespace, **RECREATE))
        code, said = scale(cluster, namespace, 2)
    assert (code, "claim 'data' is ReadWriteOnce, which one node holds at a time" in said) == (0, True)


def test_a_scale_that_was_too_large_may_shrink_and_not_grow(cluster: Guarded, old_namespace: str) -> None:
    old = (claim(old_namespace, "ReadWriteOncePod", storageClassName=""), mounting(old_namespace, replicas=3))
    cluster.apply(*old)
    cluster.guard(old_namespace)
    with cluster.server.configured(ON):
        assert scale(cluster, old_namespace, 4)[0] == 1
        assert scale(cluster, old_namespace, 2) == (0, "")


def test_other_deployments_are_scaled_without_a_word(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    with cluster.server.configured(ON):
        assert scale(cluster, old_namespace, 2) == (0, "")


def test_what_a_server_side_apply_needs_before(cluster: Guarded, old_namespace: str) -> None:
    """As the message of a Deployment that is there says."""
    rolling = mounting(old_namespace)
    recreated = mounting(old_namespace, **RECREATE)
    cluster.apply(claim(old_namespace, "ReadWriteOnce", storageClassName=""))
    assert cluster.try_apply(rolling, arguments=("--server-side",)).returncode == 0
    refused = cluster.try_apply(recreated, arguments=("--server-side",))
    assert (refused.returncode, "spec.strategy.rollingUpdate: Forbidden" in refused.stderr) == (1, True)
    command = shlex.split(recreate_command(old_namespace, "web"))
    cluster.kubectl(*command[1:])
    assert cluster.try_apply(recreated, arguments=("--server-side",)).returncode == 0
    assert cluster.get("deployment", "web", old_namespace)["spec"]["strategy"] == {"type": "Recreate"}


# What is seen in a running cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster with Deployment web on claim data, StatefulSet db, and Deployment plain without a volume."""
    with control_plane(tmp_path_factory.mktemp("handed-over")) as plane:
        (plane.folder / "on.yaml").write_text(ON)
        plane.kubectl("create", "namespace", "shop")
        eventually(lambda: plane.try_kubectl("get", "serviceaccount", "default", "-n", "shop").returncode == 0)
        plain = deployment("plain", "shop", WEB, replicas=2)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "pv"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"},
                "claimRef": {"namespace": "shop", "name": "data"},
            },
        }
        db = {**deployment("db", "shop", WEB), "kind": "StatefulSet"}
        db["spec"] |= {"serviceName": "db"}
        bound = claim("shop", "ReadWriteOnce", storageClassName="", volumeName="pv")
        apply(plane, volume, bound, mounting("shop"), plain, db)
        rolled_out(plane)
        yield plane


def apply(plane: ControlPlane, *objects: Object) -> None:
    plane.kubectl("apply", "--server-side", "-f", "-", input="\n".join(map(json.dumps, objects)))


def rolled_out(plane: ControlPlane) -> None:
    for workload in ("deployment/web", "deployment/plain", "statefulset/db"):
        plane.kubectl("rollout", "status", workload, "-n", "shop", "--timeout=60s")


def listed(plane: ControlPlane, app: str) -> dict[str, Object]:
    """The workload's pods by name."""
    found = json.loads(plane.kubectl("get", "pods", "-n", "shop", "-l", f"app={app}", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod for pod in found}


def attach(plane: ControlPlane, node: str) -> None:
    """The volume is attached to this node, as the CSI attacher would write it."""
    spec = {"attacher": "ebs.csi.aws.com", "nodeName": node, "source": {"persistentVolumeName": "pv"}}
    top = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": f"csi-{node}"}}
    apply(plane, {**top, "spec": spec})
    status = json.dumps({"status": {"attached": True}})
    plane.kubectl("patch", "volumeattachment", f"csi-{node}", "--subresource=status", "--type=merge", "-p", status)


def scheduled(plane: ControlPlane, before: set[str]) -> Object:
    """The pod of web that was made since, once it has a node."""

    def found() -> list[Object]:
        pods = [pod for name, pod in listed(plane, "web").items() if name not in before]
        return [pod for pod in pods if pod["spec"].get("nodeName")]

    pods: list[Object] = eventually(found, "no pod in place of the old one")
    return pods[0]


def creating(plane: ControlPlane, pod: Object) -> None:
    """The pod waits for its volume, as its kubelet would write it."""
    container = {"name": "web", "image": "nginx:1.27", "imageID": "", **CREATING}
    conditions = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]
    status = {"status": {"phase": "Pending", "conditions": conditions, "containerStatuses": [container]}}
    name = pod["metadata"]["name"]
    plane.kubectl("patch", "pod", name, "-n", "shop", "--subresource=status", "-p", json.dumps(status))


@pytest.fixture
def audit(plane: ControlPlane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the policy sees broken, by the object's name, a while `later`."""
    now = Cluster.now

    def audit(later: timedelta = LATER) -> dict[str, Object]:
        monkeypatch.setattr(Cluster, "now", lambda cluster: now(cluster) + later)
        file: Path = plane.folder / "on.yaml"
        main(["audit", f"--kubeconfig={plane.kubeconfig}", f"--config={file}", "--output=json"])
        document = json.loads(capsys.readouterr().out)
        assert document["clusters"][0]["unseen"] == []
        seen = [one for one in document["observations"] if one["policy"] == "volume-handover"]
        return {f"{one['kind']} {one['name']}": one for one in seen}

    return audit


def test_a_healthy_rollout_has_none(plane: ControlPlane, audit: Any) -> None:
    (web,) = listed(plane, "web").values()
    attach(plane, web["spec"]["nodeName"])
    plane.kubectl("rollout", "restart", "deployment/plain", "statefulset/db", "-n", "shop")
    assert audit(timedelta()) == {}
    rolled_out(plane)
    assert (audit(timedelta()), audit()) == ({}, {})


def test_a_rollout_that_waits_for_itself(plane: ControlPlane, audit: Any) -> None:
    (name,) = listed(plane, "web")
    home = listed(plane, "web")[name]["spec"]["nodeName"]
    plane.kubectl("cordon", home)
    plane.stop_kubelets()
    try:
        plane.kubectl("rollout", "restart", "deployment/web", "-n", "shop")
        new = scheduled(plane, {name})
        creating(plane, new)
        assert audit(timedelta()) == {}
        (told,) = audit().values()
        assert told["severity"] == "error"
        assert told["message"] == (
            f"pod {new['metadata']['name']} waits for claim 'data', which one node holds at a time: pod {name}, of the "
            f"version before, has it on node {home}, and stays until the new one is ready: the rollout never ends"
        )
        # What it says to do, done: the old pod goes.
        plane.kubectl(*shlex.split(told["run"][0], comments=True)[1:])
        eventually(lambda: "deletionTimestamp" in listed(plane, "web")[name]["metadata"], "the old pod stays")
        assert audit(timedelta(minutes=5)) == {}
    finally:
        plane.start_kubelets()
        plane.kubectl("uncordon", home)
        plane.kubectl("delete", "volumeattachment", f"csi-{home}")
    rolled_out(plane)


def test_a_lost_node(plane: ControlPlane, audit: Any) -> None:
    (name,) = listed(plane, "web")
    home = listed(plane, "web")[name]["spec"]["nodeName"]
    attach(plane, home)
    # All that runs is on that node.
    others = [node for node in ("node-0", "node-1", "node-2") if node != home]
    plane.kubectl("cordon", *others)
    plane.kubectl("rollout", "restart", "deployment/plain", "statefulset/db", "-n", "shop")
    rolled_out(plane)
    plane.kubectl("uncordon", *others)
    assert audit() == {}
    plane.stop_kubelets()
    try:
        lose(plane, home)
        for pod in (name, "db-0"):
            plane.kubectl("delete", "pod", pod, "-n", "shop", "--wait=false")
        new = scheduled(plane, {name})
        creating(plane, new)
        eventually(lambda: set(audit()) == {"Deployment web", "StatefulSet db", "Deployment plain"}, "not all is told")
        told = audit()
    finally:
        plane.start_kubelets()
    lost = f"node {home}, not ready since "
    assert told["Deployment web"]["message"].startswith(
        f"pod {new['metadata']['name']} waits for claim 'data', which pod {name} holds on {lost}"
    )
    assert "; its volume pv is attached there: " in told["Deployment web"]["message"]
    assert told["StatefulSet db"]["message"].startswith(
        f"0 of 1 pods are ready, and pod db-0 should have gone, but is on {lost}"
    )
    assert told["Deployment plain"]["message"].startswith("0 of 2 pods are ready, and pods plain-")
    for one in told.values():
        assert one["run"][1].startswith(f"kubectl taint nodes {home} node.kubernetes.io/out-of-service=nodeshutdown:")


def lose(plane: ControlPlane, node: str) -> None:
    """The node is not heard of any more, and its pods are not ready: as the node controller would write it."""
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "stopped posting"}
    plane.kubectl(
        "patch", "node", node, "--subresource=status", "-p", json.dumps({"status": {"conditions": [unknown]}})
    )
    unready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    for app in ("web", "plain", "db"):
        for pod in listed(plane, app):
            plane.kubectl("patch", "pod", pod, "-n", "shop", "--subresource=status", "-p", unready)
