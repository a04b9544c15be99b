"""What zonal-volumes advises, done on a real scheduler: the pod starts again after its node has been replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from policies.zonal_volumes.policy import Params, examine
from tests.builders import facts_of, request
from tests.cluster_fixture import ControlPlane, control_plane
from tests.loopback import eventually
from webhook.policy import Object

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
EBS, HETZNER = "topology.ebs.csi.aws.com/zone", "csi.hetzner.cloud/location"
OPENSHIFT, TENCENT = "topology.csi.vmware.com/openshift-zone", "topology.com.tencent.cloud.csi.cbs/zone"
SITE = "example.com/site"
ROOM = {"cpu": "16", "memory": "64Gi", "pods": "250"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("advice"), nodes=1) as plane:
        yield plane


class Room:
    """A namespace, and nodes that nothing else uses; its claims' volumes are made as a driver's provisioner would."""

    def __init__(self, plane: ControlPlane, name: str, key: str) -> None:
        self._plane, self.name, self._key = plane, name, key
        self._labels: dict[str, dict[str, str]] = {}
        plane.kubectl("create", "namespace", name)

    def apply(self, *objects: Object) -> None:
        self._plane.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, objects)))

    def get(self, resource: str) -> list[Object]:
        found = json.loads(self._plane.kubectl("get", resource, "-A", "-o", "json"))["items"]
        return [obj for obj in found if obj["metadata"].get("namespace") in (None, self.name)]

    def add_node(self, name: str, labels: dict[str, str]) -> None:
        name = f"{self.name}-{name}"
        self._labels[name] = {**labels, HOST: name, "room": self.name}
        status = {"allocatable": ROOM, "capacity": ROOM}
        metadata = {"name": name, "labels": self._labels[name]}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})

    def advice(self, obj: Object) -> str:
        """The policy's violations of the object, with the facts of this cluster."""
        known = facts_of([obj for kind in ("nodes", "pv", "pvc", "storageclasses") for obj in self.get(kind)])
        (violation,) = examine(request(obj), known, Params())
        return violation.message

    def started(self) -> Object:
        """The pod, once it runs on a node that is there."""
        return eventually(self._started, f"no pod of {self.name} runs")

    def _started(self) -> Object | None:
        self.provision()
        pods = [pod for pod in self.get("pods") if not pod["metadata"].get("deletionTimestamp")]
        running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        return next((pod for pod in running if pod["spec"]["nodeName"] in self._labels), None)

    def provision(self) -> None:
        """Make the volumes of claims whose pod has a node; those of the class "early" in zone c, whoever wants them."""
        for claim in self.get("pvc"):
            node = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
            zone = "c" if claim["spec"]["storageClassName"] == "early" else self._labels.get(node, {}).get(self._key)
            if zone and not claim["spec"].get("volumeName"):
                uid, name = claim["metadata"]["uid"], claim["metadata"]["name"]
                self.apply(volume(f"pv-{uid}", self.name, name, claim["spec"]["storageClassName"], {self._key: [zone]}))

    def replace_node(self, pod: Object, labels: dict[str, str] | None = None, *, same_name: bool = False) -> None:
        """Its node goes, and another comes: with other labels, if they are given."""
        old = pod["spec"]["nodeName"]
        kept = {key: value for key, value in self._labels.pop(old).items() if key not in (HOST, "room")}
        self._plane.kubectl("delete", "node", old)
        self.add_node(
            old.removeprefix(f"{self.name}-") if same_name else "replaced", kept if labels is None else labels
        )
        name = pod["metadata"]["name"]
        self._plane.kubectl("delete", "pod", name, "-n", self.name, "--force", "--grace-period=0")


@pytest.fixture
def make_room(plane: ControlPlane, request: pytest.FixtureRequest) -> Any:
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")[-40:].strip("-")
    return lambda key=ZONE: Room(plane, name, key)


def volume(name: str, namespace: str, claimed_by: str, class_name: str, reached: dict[str, list[str]]) -> Object:
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": values}]} for key, values in reached.items()
    ]
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if terms else {}
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "8Gi"},
        "storageClassName": class_name,
        "csi": {"driver": "csi.example.com", "volumeHandle": name},
        "claimRef": {"namespace": namespace, "name": claimed_by},
        **affinity,
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def claim_spec(class_name: str) -> Object:
    requests = {"requests": {"storage": "8Gi"}}
    return {"accessModes": ["ReadWriteOnce"], "storageClassName": class_name, "resources": requests}


def claim(room: Room, class_name: str) -> Object:
    metadata = {"name": "data", "namespace": room.name}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim_spec(class_name)}


def storage_class(name: str, provisioner: str, mode: str = "WaitForFirstConsumer") -> Object:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    return {**kind, "provisioner": provisioner, "volumeBindingMode": mode}


CLAIMED: Object = {"persistentVolumeClaim": {"claimName": "data"}}


def prometheus(room: Room, source: Object = CLAIMED, **selector: str) -> Object:
    container = {
        "name": "prometheus",
        "image": "prom/prometheus:v3.5.0",
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    labels = {"app": "prometheus"}
    spec = {
        "nodeSelector": {"room": room.name, **selector},
        "containers": [container],
        "volumes": [{"name": "data", **source}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "prometheus", "namespace": room.name},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def told_label(message: str) -> dict[str, str]:
    """The label that a message says to put into the nodeSelector."""
    found = re.search(r"\(nodeSelector ([^ :]+): ([^ )]+)\)", message)
    assert found is not None, message
    return {found[1]: yaml.safe_load(found[2])}


THREE_ZONES = [{ZONE: "a", EBS: "a"}, {ZONE: "b", EBS: "b"}, {ZONE: "c", EBS: "c"}]


@pytest.mark.parametrize(
    ("nodes", "reached", "label"),
    [
        pytest.param(THREE_ZONES, {EBS: ["b"]}, {ZONE: "b"}, id="zone"),
        pytest.param(
            [{ZONE: "fsn1-dc14", HETZNER: "fsn1"}, {ZONE: "nbg1-dc3", HETZNER: "nbg1"}],
            {HETZNER: ["nbg1"]},
            {HETZNER: "nbg1"},
            id="location",
        ),
        pytest.param(
            [{ZONE: "160001", TENCENT: "ap-1"}, {ZONE: "160002", TENCENT: "ap-2"}],
            {TENCENT: ["ap-2"]},
            {TENCENT: "ap-2"},
            id="a-drivers-label",
        ),
        pytest.param(
            [{ZONE: "us-1a", OPENSHIFT: "us-1a"}, {ZONE: "us-2a", OPENSHIFT: "us-2a"}],
            {OPENSHIFT: ["us-2a"]},
            {ZONE: "us-2a"},
            id="openshift",
        ),
        pytest.param([{SITE: "x"}, {SITE: "y"}], {SITE: ["y"]}, {SITE: "y"}, id="site"),
    ],
)
def test_pods_pinned_to_their_volume(
    make_room: Any, nodes: list[dict[str, str]], reached: dict[str, list[str]], label: dict[str, str]
) -> None:
    room = make_room()
    for index, labels in enumerate(nodes):
        room.add_node(f"n{index}", labels)
    room.apply(volume(room.name, room.name, "data", "none", reached), claim(room, "none"))
    pin = told_label(room.advice(prometheus(room)))
    assert pin == label
    room.apply(prometheus(room, **pin))
    room.replace_node(room.started())
    assert room.started()["spec"]["nodeName"] == f"{room.name}-replaced"


def test_pods_pinned_to_their_volumes_node(make_room: Any) -> None:
    """It comes back under its name, with its disk."""
    room = make_room()
    for name in ("n0", "n1", "n2"):
        room.add_node(name, {ZONE: "a"})
    node = f"{room.name}-n1"
    room.apply(volume(room.name, room.name, "data", "none", {HOST: [node]}), claim(room, "none"))
    pin = told_label(room.advice(prometheus(room)))
    assert pin == {HOST: node}
    room.apply(prometheus(room, **pin))
    room.replace_node(room.started(), same_name=True)
    assert room.started()["spec"]["nodeName"] == node


@pytest.mark.parametrize(
    ("provisioner", "nodes", "label"),
    [
        pytest.param("ebs.csi.aws.com", THREE_ZONES, {ZONE: "a"}, id="zone"),
        pytest.param(
            "csi.hetzner.cloud",
            [{ZONE: "fsn1-dc14", HETZNER: "fsn1"}, {ZONE: "nbg1-dc3", HETZNER: "nbg1"}],
            {HETZNER: "fsn1"},
            id="location",
        ),
    ],
)
def test_pods_pinned_before_their_volume_is_made(
    make_room: Any, provisioner: str, nodes: list[dict[str, str]], label: dict[str, str]
) -> None:
    key = next(iter(label))
    room = make_room(key)
    for index, labels in enumerate(nodes):
        room.add_node(f"n{index}", labels)
    class_name = f"disks-{room.name}"
    room.apply(storage_class(class_name, provisioner), claim(room, class_name))
    pin = told_label(room.advice(prometheus(room)))
    assert pin == label
    room.apply(prometheus(room, **pin))
    room.replace_node(room.started())
    assert room.started()["spec"]["nodeName"] == f"{room.name}-replaced"


def test_a_class_whose_disks_span_zones(make_room: Any) -> None:
    room = make_room()
    room.add_node("n0", {ZONE: "a"})
    room.add_node("n1", {ZONE: "b"})
    room.apply(storage_class("zonal", "ebs.csi.aws.com"), claim(room, "zonal"))
    assert ": pin the pods to one zone (" in room.advice(prometheus(room))
    spanning = volume(room.name, room.name, "spanning", "spanning", {ZONE: ["a", "b"]})
    room.apply(spanning, {**claim(room, "spanning"), "metadata": {"name": "spanning", "namespace": room.name}})
    room.apply(prometheus(room, {"persistentVolumeClaim": {"claimName": "spanning"}}))
    pod = room.started()
    other = "b" if pod["spec"]["nodeName"].endswith("n0") else "a"
    room.replace_node(pod, {ZONE: other})
    room.started()


def test_a_class_whose_volumes_every_node_reaches(make_room: Any) -> None:
    room = make_room()
    room.add_node("n0", {})
    room.add_node("n1", {})
    room.apply(storage_class("local", "rancher.io/local-path"), claim(room, "local"))
    assert ": pin the pods to one node (" in room.advice(prometheus(room))
    shared = {**claim(room, "shared"), "metadata": {"name": "shared", "namespace": room.name}}
    room.apply(volume(room.name, room.name, "shared", "shared", {}), shared)
    room.apply(prometheus(room, {"persistentVolumeClaim": {"claimName": "shared"}}))
    room.replace_node(room.started())
    room.started()


def test_a_class_that_waits_for_the_pod(make_room: Any) -> None:
    """The cause: made before its pod has a node, the volume is where the pod's pool isn't."""
    room = make_room()
    room.add_node("n0", {ZONE: "a", "pool": "metrics"})
    room.add_node("n1", {ZONE: "c"})
    room.apply(storage_class("early", "ebs.csi.aws.com", "Immediate"), storage_class("late", "ebs.csi.aws.com"))
    room.apply(claim(room, "early"))
    pods = prometheus(room, pool="metrics")
    assert room.advice(pods).endswith(": use a class that binds WaitForFirstConsumer")
    room.apply(pods)
    eventually(lambda: (room.provision(), _is_refused(room))[1], "the volume is in another zone, and the pod starts")
    room.apply({**claim(room, "late"), "metadata": {"name": "late", "namespace": room.name}})
    room.apply(prometheus(room, {"persistentVolumeClaim": {"claimName": "late"}}, pool="metrics"))
    room.replace_node(room.started())
    room.started()


def _is_refused(room: Room) -> bool:
    conditions = [condition for pod in room.get("pods") for condition in pod["status"].get("conditions", [])]
    return any("PersistentVolume's node affinity" in condition.get("message", "") for condition in conditions)


def test_an_ephemeral_volume(make_room: Any) -> None:
    room = make_room()
    room.add_node("n0", {ZONE: "a"})
    room.add_node("n1", {ZONE: "c"})
    room.apply(storage_class("early", "ebs.csi.aws.com", "Immediate"), storage_class("late", "ebs.csi.aws.com"))
    early, late = ({"ephemeral": {"volumeClaimTemplate": {"spec": claim_spec(name)}}} for name in ("early", "late"))
    assert room.advice(prometheus(room, early)).endswith(": use a class that binds WaitForFirstConsumer")
    room.apply(prometheus(room, late))
    pod = room.started()
    room.replace_node(pod, {ZONE: "b"})
    room.started()


def test_an_empty_dir(make_room: Any) -> None:
    room = make_room()
    room.add_node("n0", {ZONE: "a"})
    room.apply(prometheus(room, {"emptyDir": {"sizeLimit": "8Gi"}}))
    room.replace_node(room.started(), {ZONE: "b"})
    assert room.started()["spec"]["nodeName"] == f"{room.name}-replaced"
