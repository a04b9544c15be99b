"""Asks a real scheduler which nodes reach a volume, and writes tests/data/volume_affinity.json.

    KUBEBUILDER_ASSETS=... python -m tests.oracle.volume_affinity > tests/data/volume_affinity.json

For each volume and each node a pod is made that mounts the volume and may only use that node: it is scheduled, or the
scheduler says why not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster_fixture import ControlPlane, control_plane

Object = dict[str, Any]

ZONE, OLD_ZONE = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
HOST = "kubernetes.io/hostname"
AZURE = "topology.disk.csi.azure.com/zone"
NODES: dict[str, dict[str, str]] = {
    "n0": {ZONE: "a", OLD_ZONE: "a", REGION: "r", AZURE: "", "rack": "1", "site": "x"},
    "n1": {ZONE: "b", OLD_ZONE: "b", REGION: "r", AZURE: "", "rack": "12", "site": "y"},
    "n2": {ZONE: "c", OLD_ZONE: "c", REGION: "s", AZURE: "c", "rack": "many"},
    "n3": {},
}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def term(*expressions: Object) -> Object:
    return {"matchExpressions": list(expressions)}


VOLUMES: dict[str, Object] = {
    "in": {"terms": [term(expression(ZONE, "In", "a"))]},
    "in-two": {"terms": [term(expression(ZONE, "In", "a", "c"))]},
    "in-nothing-known": {"terms": [term(expression(ZONE, "In", "z"))]},
    "in-empty": {"terms": [term(expression(AZURE, "In", ""))]},
    "in-empty-or-real": {"terms": [term(expression(AZURE, "In", "", "c"))]},
    "not-in": {"terms": [term(expression("site", "NotIn", "x"))]},
    "exists": {"terms": [term(expression("site", "Exists"))]},
    "does-not-exist": {"terms": [term(expression("site", "DoesNotExist"))]},
    "gt": {"terms": [term(expression("rack", "Gt", "5"))]},
    "lt": {"terms": [term(expression("rack", "Lt", "5"))]},
    "host": {"terms": [term(expression(HOST, "In", "n1"))]},
    "all-must-hold": {"terms": [term(expression(REGION, "In", "r"), expression("site", "NotIn", "x"))]},
    "one-term-is-enough": {"terms": [term(expression("site", "In", "x")), term(expression(ZONE, "In", "c"))]},
    "same-key-twice": {"terms": [term(expression(ZONE, "In", "a", "b"), expression(ZONE, "In", "b", "c"))]},
    "an-empty-term-beside": {"terms": [term(), term(expression(ZONE, "In", "b"))]},
    "zone-label": {"labels": {ZONE: "a"}},
    "zone-label-of-two": {"labels": {ZONE: "a__b"}},
    "old-zone-label": {"labels": {OLD_ZONE: "b"}},
    "affinity-and-label": {"terms": [term(expression("site", "Exists"))], "labels": {ZONE: "a"}},
    "neither": {},
}


def ask(plane: ControlPlane) -> list[Object]:
    plane.kubectl("apply", "-f", "-", input="\n".join(json.dumps(_node(name)) for name in NODES))
    plane.kubectl("apply", "-f", "-", input="\n".join(json.dumps(obj) for name in VOLUMES for obj in _volume(name)))
    pods = [(volume, node) for volume in VOLUMES for node in NODES]
    plane.kubectl("apply", "-f", "-", input="\n".join(json.dumps(_pod(*pod)) for pod in pods))
    answers = _answers(plane, len(pods))
    return [
        {**VOLUMES[volume], "id": volume, "reached": [node for node in NODES if answers[f"{volume}-{node}"]]}
        for volume in VOLUMES
    ]


def _answers(plane: ControlPlane, count: int) -> dict[str, bool]:
    for _ in range(300):
        found = json.loads(plane.kubectl("get", "pods", "-o", "json"))["items"]
        answers = {pod["metadata"]["name"]: _is_scheduled(pod) for pod in found}
        known = {name: answer for name, answer in answers.items() if answer is not None}
        if len(known) == count:
            return known
        time.sleep(0.2)
    raise TimeoutError(f"no answer for {sorted(name for name, answer in answers.items() if answer is None)}")


def _is_scheduled(pod: Object) -> bool | None:
    if pod["spec"].get("nodeName"):
        return True
    conditions = pod["status"].get("conditions") or []
    message = next(
        (condition.get("message", "") for condition in conditions if condition["type"] == "PodScheduled"), ""
    )
    says_no = "volume's node affinity" in message or "available volume zone" in message
    says_no = says_no or "PersistentVolume's node affinity" in message
    return False if says_no else None


def _node(name: str) -> Object:
    room = {"cpu": "16", "memory": "64Gi", "pods": "250"}
    metadata = {"name": name, "labels": {**NODES[name], HOST: name}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"allocatable": room, "capacity": room}}


def _volume(name: str) -> list[Object]:
    asked = VOLUMES[name]
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": asked["terms"]}}} if "terms" in asked else {}
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": "none"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": asked.get("labels", {})},
        "spec": {
            **shared,
            "capacity": {"storage": "1Gi"},
            "csi": {"driver": "csi.example.com", "volumeHandle": name},
            "claimRef": {"namespace": "default", "name": name},
            **affinity,
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**shared, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [volume, claim]


def _pod(volume: str, node: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{volume}-{node}", "namespace": "default"},
        "spec": {
            "nodeSelector": {HOST: node},
            "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": volume}}],
        },
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder), nodes=1) as plane:
        plane.kubectl("delete", "nodes", "--all")
        answers = ask(plane)
        version = json.loads(plane.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    lines = ",\n  ".join(map(json.dumps, answers))
    nodes = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(labels)}" for name, labels in NODES.items())
    sys.stdout.write(
        f'{{\n "scheduler": "{version}",\n "nodes": {{\n  {nodes}\n }},\n "volumes": [\n  {lines}\n ]\n}}\n'
    )


if __name__ == "__main__":
    main()
