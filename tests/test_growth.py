"""The work of every policy, and of its answer, is a small multiple of the review's size: inputs made to break that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import KINDS, TODAY, config, container, custom, facts_of, limit_range, request, sized, workload
from tests.growth import Call, assert_linear
from webhook.engine import decide
from webhook.objects.facts import ClusterFacts
from webhook.policy import Object, Stage
from webhook.server.review import render_review

STAGES: tuple[Stage, ...] = ("mutate", "validate")
ZONE = "topology.kubernetes.io/zone"
SETTINGS = """
policies:
  memory-limits: {{mode: {0}, params: {{images: {{"nginx*": 64Mi}}, containers: {{istio-proxy: 128Mi}}}}}}
  prometheus-memory: {{mode: {0}, params: {{largestNode: 64Gi}}}}
  zonal-volumes: {{mode: {0}, params: {{replacement: {{emptyDir: true}}}}}}
  metrics-durability: {{mode: {0}, params: {{remoteWrite: "https://example.com", emptyDirSize: 1Gi}}}}
exemptions:
  - {{policy: zonal-volumes, match: {{namespaces: ["*"], images: [none]}}, owner: a, reason: b, until: 2999-12-31}}
  - {{policy: memory-limits, match: {{namespaces: ["*"], images: [none]}}, owner: a, reason: b, until: 2999-12-31}}
"""
PROMETHEUS = container("prometheus", "prom/prometheus:v3.1.0", **sized("1Gi"))


def _zone(key: str, *zones: str) -> Object:
    return {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": list(zones)}]}]}


def _disks(count: int) -> list[Object]:
    """Claims c0, c1, … bound to disks of one zone."""
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"d{number}"},
            "spec": {
                "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "x"},
                "nodeAffinity": {"required": _zone(ZONE, "zone-a")},
            },
        }
        for number in range(count)
    ]
    claims = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"c{number}", "namespace": "shop"},
            "spec": {"volumeName": f"d{number}"},
        }
        for number in range(count)
    ]
    return volumes + claims


CLUSTER = facts_of(
    [
        *(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": zone, "labels": {ZONE: zone}},
                "status": {"allocatable": {"memory": "64Gi"}},
            }
            for zone in ("zone-a", "zone-b")
        ),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "standard"},
            "provisioner": "ebs.csi.aws.com",
        },
    ]
)
DISKS = CLUSTER.with_objects(_disks(400), KINDS)
BOUNDED = CLUSTER.with_objects([limit_range(max="1Gi", default="10Mi", maxLimitRequestRatio="2")], KINDS)


def _claimed(count: int, **spec: Any) -> Object:
    volumes = [{"name": f"v{n}", "persistentVolumeClaim": {"claimName": f"c{n}"}} for n in range(count)]
    return workload("Deployment", PROMETHEUS, volumes=volumes, **spec)


def _stateful(templates: int, name: str = "web", replicas: int = 1) -> Object:
    obj = workload("StatefulSet", PROMETHEUS, name=name)
    given = [{"metadata": {"name": f"t{n}"}, "spec": {"storageClassName": "standard"}} for n in range(templates)]
    obj["spec"] |= {"volumeClaimTemplates": given, "replicas": replicas}
    return obj


def _in_memory(count: int) -> Object:
    mounts = [{"name": f"v{n}", "mountPath": f"/{n}"} for n in range(10)]
    volumes = [{"name": f"v{n}", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} for n in range(count)]
    return workload("Deployment", *[container(f"c{n}", volumeMounts=mounts) for n in range(count)], volumes=volumes)


def _stores(count: int) -> Object:
    """Prometheus servers, each with a volume and a configuration of its own."""
    configured = "--config.file=/c/prometheus.yml"
    servers = [
        container(
            f"c{n}",
            "prom/prometheus:v3.1.0",
            args=[configured, "--storage.tsdb.path=/d"],
            volumeMounts=[{"name": f"v{n}", "mountPath": "/d"}, {"name": f"m{n}", "mountPath": "/c"}],
        )
        for n in range(count)
    ]
    volumes = [
        volume
        for n in range(count)
        for volume in ({"name": f"v{n}", "emptyDir": {}}, {"name": f"m{n}", "configMap": {"name": f"m{n}"}})
    ]
    return workload("Deployment", *servers, volumes=volumes)


def _affinity(zones: list[str]) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _zone(ZONE, *zones)}}


def _operated(name: str, replicas: int) -> Object:
    template = {"spec": {"storageClassName": "standard"}}
    return custom("Prometheus", {"replicas": replicas, "storage": {"volumeClaimTemplate": template}}, name=name)


WORST: dict[str, tuple[Callable[[int], Object], ClusterFacts]] = {
    "containers": (lambda n: workload("Deployment", *[container(f"c{i}") for i in range(n)]), CLUSTER),
    "containers-of-one-name": (lambda n: workload("Deployment", *[container("c")] * n), CLUSTER),
    "prometheus-containers": (
        lambda n: workload("Deployment", *[{**PROMETHEUS, "name": f"c{i}"} for i in range(n)]),
        CLUSTER,
    ),
    "containers-in-a-bounded-namespace": (lambda n: workload("Pod", *[container(f"c{i}") for i in range(n)]), BOUNDED),
    "a-pod-s-own-limit": (
        lambda n: workload("Pod", *[container(f"c{i}") for i in range(n)], resources={"limits": {"memory": "1Gi"}}),
        BOUNDED,
    ),
    "memory-volumes": (_in_memory, CLUSTER),
    "containers-of-an-operator": (
        lambda n: custom("Prometheus", {"containers": [container(f"c{i}") for i in range(n)]}),
        CLUSTER,
    ),
    "arguments": (
        lambda n: workload("Deployment", {**PROMETHEUS, "args": [f"--web.x={i}" for i in range(n)]}),
        CLUSTER,
    ),
    "stores": (_stores, CLUSTER),
    "claims": (_claimed, CLUSTER),
    "bound-claims": (_claimed, DISKS),
    "claim-templates": (_stateful, CLUSTER),
    "name-of-many-replicas": (lambda n: _stateful(1, "x" * 1_000 * n, 20 * n), CLUSTER),
    "name-of-an-operator-s-many-replicas": (lambda n: _operated("x" * 1_000 * n, 20 * n), CLUSTER),
    "zones": (lambda n: _claimed(1, affinity=_affinity([f"z{i}" for i in range(n)])), DISKS),
    "zones-by-claims": (lambda n: _claimed(n, affinity=_affinity([f"z{i}" for i in range(n)])), DISKS),
    "a-long-zone-by-claims": (lambda n: _claimed(n, nodeSelector={ZONE: "z" * 100 * n}), DISKS),
    "long-zones-by-claims": (
        lambda n: _claimed(n, affinity=_affinity(["zone-b", *(f"{i}" * 100 for i in range(n))])),
        DISKS,
    ),
    "tolerations-by-claims": (
        lambda n: _claimed(n, tolerations=[{"key": f"k{i}", "operator": "Exists"} for i in range(n)]),
        DISKS,
    ),
}


@pytest.mark.parametrize(("mode", "is_update"), [("patch", False), ("deny", True)], ids=["patched", "ratcheted"])
@pytest.mark.parametrize("worst", WORST)
def test_work_is_a_small_multiple_of_the_review(worst: str, mode: str, is_update: bool) -> None:
    make_object, facts = WORST[worst]
    cfg = config(SETTINGS.format(mode))

    def make(size: int) -> Call:
        obj = make_object(size)
        old = json.loads(json.dumps(obj)) if is_update else None

        def judge() -> None:
            for stage in STAGES:
                req = request(obj, old)
                decision = decide(req, facts, cfg, today=TODAY, stage=stage)
                assert decision.failures == {}
                render_review(req, decision, stage, cfg)

        return judge

    make(1)()  # what is kept of configurations and facts
    assert_linear(make, 20)
