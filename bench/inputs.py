"""The inputs of measurements: recorded reviews, the corpus, and objects of a cluster as its API server lists them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.figures import Skipped

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

_ZONES = ("zone-a", "zone-b", "zone-c")
# Every real object has these, and no policy reads them; their bytes have to be received all the same.
_MANAGED = [
    {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-02T03:04:05Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:example.com/a": {}}}, "f:spec": {"f:volumeName": {}}},
    }
]


def shared(path: str) -> Path:
    """A file or folder beside the repository; raises Skipped if it isn't there."""
    found = SHARED / path
    if not found.exists():
        raise Skipped(f"../shared/{path} is missing")
    return found


def recordings(name: str) -> Path:
    """A file of recorded reviews: the full recordings, or, where they are missing, the few in tests/data."""
    everything, ours = SHARED / "recordings" / name, ROOT / "tests/data/recordings" / name
    return ours if ours.exists() and not everything.exists() else shared(f"recordings/{name}")


def read_recordings(name: str) -> list[dict[str, Any]]:
    with recordings(name).open() as lines:
        return [json.loads(line) for line in lines]


def small_cluster() -> list[dict[str, Any]]:
    """Three nodes in three zones, a class of zonal disks, a namespace."""
    return [*(node(index) for index in range(3)), storage_class(), namespace("shop")]


def large_cluster(claims: int, nodes: int, services: int = 0, monitors: int = 0) -> dict[str, list[dict[str, Any]]]:
    """By plural, objects as large as real ones: as many volumes as claims, and a LimitRange in every namespace; of the
    monitors one in five is a PodMonitor, the others are ServiceMonitors, and two Prometheus take them."""
    namespaces = [f"team-{index}" for index in range(200)]
    return {
        "storageclasses": [storage_class()],
        "persistentvolumeclaims": [claim(index, namespaces[index % 200]) for index in range(claims)],
        "persistentvolumes": [volume(index, namespaces[index % 200]) for index in range(claims)],
        "nodes": [node(index) for index in range(nodes)],
        "namespaces": [namespace(name) for name in namespaces],
        "limitranges": [limit_range(name) for name in namespaces],
        "services": [service(index, namespaces[index % 200]) for index in range(services)],
        "servicemonitors": [monitor(index, namespaces[index % 200]) for index in range(monitors) if index % 5],
        "podmonitors": [monitor(index, namespaces[index % 200]) for index in range(0, monitors, 5)],
        "prometheuses": [prometheus(index) for index in range(2 if monitors else 0)],
    }


def _metadata(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "uid": f"00000000-0000-4000-8000-{abs(hash(name)) % 10**12:012}",
        "resourceVersion": "100",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "managedFields": _MANAGED,
        **more,
    }


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": _metadata("standard", annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
        "provisioner": "ebs.csi.aws.com",
        "parameters": {"type": "gp3"},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def claim(index: int, where: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": f"app-{index}", "app.kubernetes.io/instance": f"release-{index}"}
    notes = {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/storage-provisioner": "ebs.csi.aws.com"}
    size = {"storage": "8Gi"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(f"data-app-{index}-0", namespace=where, labels=labels, annotations=notes),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": size},
            "storageClassName": "standard",
            "volumeMode": "Filesystem",
            "volumeName": f"pvc-{index:036}",
        },
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": size},
    }


def volume(index: int, where: str) -> dict[str, Any]:
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [_ZONES[index % 3]]}
    identity = {"storage.kubernetes.io/csiProvisionerIdentity": "1767322445000-8081-ebs.csi.aws.com"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": _metadata(f"pvc-{index:036}", finalizers=["kubernetes.io/pv-protection"]),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "8Gi"},
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": where, "name": f"data-app-{index}-0"},
            "csi": {
                "driver": "ebs.csi.aws.com",
                "fsType": "ext4",
                "volumeHandle": f"vol-{index:017}",
                "volumeAttributes": identity,
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "standard",
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Bound"},
    }


def service(index: int, where: str) -> dict[str, Any]:
    name = f"app-{index}"
    labels = {
        "app.kubernetes.io/component": "server",
        "app.kubernetes.io/instance": f"release-{index}",
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": "1.4.2",
        "helm.sh/chart": "app-0.12.0",
    }
    notes = {"meta.helm.sh/release-name": f"release-{index}", "meta.helm.sh/release-namespace": where}
    if not index % 4:
        notes |= {"prometheus.io/scrape": "true", "prometheus.io/port": "9102"}
    selector = {key: labels[key] for key in ("app.kubernetes.io/instance", "app.kubernetes.io/name")}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, namespace=where, labels=labels, annotations=notes),
        "spec": {
            "clusterIP": f"10.96.{index // 250}.{index % 250}",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"},
                {"name": "metrics", "port": 9102, "protocol": "TCP", "targetPort": 9102},
            ],
            "selector": selector,
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def monitor(index: int, where: str) -> dict[str, Any]:
    """A PodMonitor or ServiceMonitor: what tells them apart is where they are listed."""
    name = f"app-{index}"
    selected = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": f"release-{index}"}
    endpoints = "endpoints" if index % 5 else "podMetricsEndpoints"
    return {
        "metadata": _metadata(name, namespace=where, labels={**selected, "release": "kube-prometheus-stack"}),
        "spec": {
            endpoints: [{"port": "metrics", "interval": "30s", "scrapeTimeout": "10s", "path": "/metrics"}],
            "namespaceSelector": {"matchNames": [where]},
            "selector": {"matchLabels": selected},
        },
    }


def prometheus(index: int) -> dict[str, Any]:
    selector = {"matchLabels": {"release": "kube-prometheus-stack"}}
    return {
        "metadata": _metadata(f"prometheus-{index}", namespace="team-0"),
        "spec": {
            "scrapeInterval": "30s",
            "serviceMonitorSelector": selector,
            "serviceMonitorNamespaceSelector": {},
            "podMonitorSelector": selector,
            "podMonitorNamespaceSelector": {},
        },
    }


def node(index: int) -> dict[str, Any]:
    name, zone = f"ip-10-0-{index // 250}-{index % 250}.example.internal", _ZONES[index % 3]
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "failure-domain.beta.kubernetes.io/region": "region-1",
        "failure-domain.beta.kubernetes.io/zone": zone,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "m6i.2xlarge",
        "topology.ebs.csi.aws.com/zone": zone,
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": zone,
    }
    room = {"cpu": "8", "ephemeral-storage": "100Gi", "memory": "32386052Ki", "pods": "58"}
    images = [
        {"names": [f"registry.example.com/team/app-{index}@sha256:{index:064}"], "sizeBytes": 123456789}
        for index in range(50)  # the most that a kubelet reports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": _metadata(name, labels=labels),
        "spec": {"podCIDR": f"10.{index // 250}.{index % 250}.0/24", "providerID": f"aws:///{zone}/i-{index:017}"},
        "status": {"allocatable": room, "capacity": room, "images": images, "conditions": []},
    }


def namespace(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": name, "team": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": _metadata(name, labels=labels)}


def limit_range(where: str) -> dict[str, Any]:
    limit = {"type": "Container", "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "256Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": _metadata("defaults", namespace=where),
        "spec": {"limits": [limit]},
    }
