"""Which volumes a workload has, and which claims its pods look for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import container, custom, facts, request, workload
from tests.objects.test_storage import ZONE, claim, shape, storage_class, term, volume
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.objects.pods import read_workload
from webhook.objects.volumes import StoredVolume, volumes_of
from webhook.policy import Object


def found(obj: Object, cluster: ClusterFacts = NO_FACTS) -> list[StoredVolume]:
    read = read_workload(request(obj))
    assert read is not None
    return list(volumes_of(read, cluster))


def rows(obj: Object, cluster: ClusterFacts = NO_FACTS) -> list[tuple[str, str, str]]:
    return [(volume.name, volume.route, volume.path) for volume in found(obj, cluster)]


def stateful_set(*templates: Object, spec: Object | None = None, **fields: Any) -> Object:
    obj = workload("StatefulSet", name="db", **fields)
    obj["spec"] |= {"volumeClaimTemplates": list(templates), **(spec or {})}
    return obj


def template(name: str = "data", storage_class: str | None = "fast") -> Object:
    return {"metadata": {"name": name}, "spec": {"storageClassName": storage_class}}


def owned(obj: Object, *owners: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": list(owners)}}


VOLUMES = "spec.template.spec.volumes"
MOUNT = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            workload(
                volumes=[{"name": "x", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]
            ),
            [("data", "claim", f"{VOLUMES}[1].persistentVolumeClaim.claimName")],
            id="claim",
        ),
        pytest.param(
            workload(volumes=[{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]),
            [("data", "ephemeral", f"{VOLUMES}[0].ephemeral.volumeClaimTemplate.spec.storageClassName")],
            id="ephemeral",
        ),
        pytest.param(
            stateful_set(template(), volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]),
            [("data", "template", "spec.volumeClaimTemplates[0].spec.storageClassName")],
            id="a-template-replaces-the-volume",
        ),
        pytest.param(
            workload("Deployment", container(**MOUNT), volumes=[{"name": "data", "hostPath": {"path": "/srv"}}]),
            [("data", "inline", f"{VOLUMES}[0].hostPath")],
            id="host-path",
        ),
        pytest.param(
            workload("DaemonSet", container(**MOUNT), volumes=[{"name": "data", "hostPath": {"path": "/srv"}}]),
            [],
            id="host-path-of-a-daemon-set",
        ),
        pytest.param(
            workload(
                "Deployment",
                container(volumeMounts=[{"name": "data", "mountPath": "/data", "readOnly": True}]),
                volumes=[{"name": "data", "hostPath": {"path": "/srv"}}],
            ),
            [],
            id="host-path-read-only",
        ),
        pytest.param(
            owned(
                workload("Pod", container(**MOUNT), volumes=[{"name": "data", "hostPath": {"path": "/srv"}}]),
                {"kind": "DaemonSet", "name": "x"},
            ),
            [("data", "inline", "spec.volumes[0].hostPath")],
            id="a-typed-owner-buys-nothing",
        ),
        pytest.param(
            custom(
                "Prometheus",
                {
                    "volumes": [{"name": "data", "hostPath": {"path": "/srv"}}],
                    "containers": [{"name": "prometheus"}],
                    **MOUNT,
                },
            ),
            [("data", "inline", "spec.volumes[0].hostPath")],
            id="host-path-of-an-amended-container",
        ),
        pytest.param(workload(volumes=None), [], id="null"),
        pytest.param(custom("Prometheus", {}), [], id="no-storage-is-an-empty-dir"),
        pytest.param(
            custom(
                "Prometheus",
                {"storage": {"emptyDir": {}, "ephemeral": {"volumeClaimTemplate": {}}, "volumeClaimTemplate": {}}},
            ),
            [],
            id="empty-dir-first",
        ),
        pytest.param(
            custom("Prometheus", {"storage": {"emptyDir": {}, "volumeClaimTemplate": {}}}), [], id="empty-dir"
        ),
        pytest.param(
            custom(
                "Prometheus",
                {"storage": {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}, "volumeClaimTemplate": {}}},
            ),
            [("prometheus-main-db", "ephemeral", "spec.storage.ephemeral.volumeClaimTemplate.spec.storageClassName")],
            id="then-ephemeral",
        ),
        pytest.param(
            custom("ThanosRuler", {"storage": {"volumeClaimTemplate": {"spec": {}}}}),
            [("thanos-ruler-main-data", "template", "spec.storage.volumeClaimTemplate.spec.storageClassName")],
            id="then-the-template",
        ),
        pytest.param(
            custom("Alertmanager", {"volumes": [{"name": "more", "persistentVolumeClaim": {"claimName": "c"}}]}),
            [("more", "claim", "spec.volumes[0].persistentVolumeClaim.claimName")],
            id="further-volumes",
        ),
    ],
)
def test_volumes_of(obj: Object, expected: list[tuple[str, str, str]]) -> None:
    assert rows(obj) == expected


@pytest.mark.parametrize(
    ("host_path", "is_storage"),
    [
        pytest.param({"path": "/etc/localtime"}, False, id="time-zone"),
        pytest.param({"path": "/etc/timezone", "type": "File"}, False, id="time-zone-as-a-file"),
        pytest.param({"path": "/usr/share/zoneinfo/"}, False, id="time-zones"),
        pytest.param({"path": "/etc/ssl/certs"}, False, id="certificates"),
        pytest.param({"path": "/etc/pki/ca-trust/extracted"}, False, id="red-hat's-certificates"),
        pytest.param({"path": "/opt/certs/ca.crt"}, False, id="a-certificate"),
        pytest.param({"path": "/opt/certs/tls.key", "type": ""}, False, id="a-key"),
        pytest.param({"path": "/var/run/docker.sock"}, False, id="socket"),
        pytest.param({"path": "/opt/agent/agent.sock"}, False, id="a-socket-elsewhere"),
        pytest.param({"path": "/opt/agent/api", "type": "Socket"}, False, id="a-socket-by-its-type"),
        pytest.param({"path": "/run/containerd", "type": "Directory"}, False, id="sockets"),
        pytest.param({"path": "/dev/kvm", "type": "CharDevice"}, False, id="device"),
        pytest.param({"path": "/proc"}, False, id="proc"),
        pytest.param({"path": "//sys/fs/../kernel"}, False, id="an-odd-path"),
        pytest.param({"path": "/var/lib/docker/containers"}, False, id="containers-logs"),
        pytest.param({"path": "/srv/license", "type": "File"}, False, id="a-file"),
        pytest.param({"path": "/srv/data.db", "type": "FileOrCreate"}, True, id="a-file-that-is-made"),
        pytest.param({"path": "/dev/sdb", "type": "BlockDevice"}, True, id="a-disk"),
        pytest.param({"path": "/var/log"}, True, id="logs-and-buffers"),
        pytest.param({"path": "/etcetera"}, True, id="a-name-that-begins-alike"),
        pytest.param({"path": "/etc/../srv"}, True, id="a-way-out"),
        pytest.param({"path": "/var/lib/prometheus", "type": "DirectoryOrCreate"}, True, id="data"),
        pytest.param({"path": "/tmp/x"}, True, id="temporary"),
        pytest.param({"path": "/"}, True, id="everything"),
    ],
)
def test_which_host_paths_may_hold_data(host_path: Object, is_storage: bool) -> None:
    obj = workload("Deployment", container(**MOUNT), volumes=[{"name": "data", "hostPath": host_path}])
    assert rows(obj) == ([("data", "inline", f"{VOLUMES}[0].hostPath")] if is_storage else [])


def names(obj: Object) -> list[str]:
    return [reference.name for volume in found(obj) for reference in volume.claims]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (stateful_set(template()), ["data-db-0"]),
        (stateful_set(template(), spec={"replicas": 2}), ["data-db-0", "data-db-1"]),
        (stateful_set(template(), spec={"replicas": 2, "ordinals": {"start": 5}}), ["data-db-5", "data-db-6"]),
        (stateful_set(template(), spec={"replicas": 0}), ["data-db-0"]),
        (custom("Prometheus", {"storage": {}}), ["prometheus-main-db-prometheus-main-0"]),
        (workload("Deployment"), []),
        (
            custom("Prometheus", {"storage": {"volumeClaimTemplate": {"spec": {}}}, "shards": 2}),
            ["prometheus-main-db-prometheus-main-0", "prometheus-main-db-prometheus-main-shard-1-0"],
        ),
        (
            custom("PrometheusAgent", {"storage": {"volumeClaimTemplate": {"metadata": {"name": "wal"}, "spec": {}}}}),
            ["wal-prom-agent-main-0"],
        ),
        (
            custom("Alertmanager", {"storage": {"volumeClaimTemplate": {"spec": {}}}, "replicas": 2}),
            ["alertmanager-main-db-alertmanager-main-0", "alertmanager-main-db-alertmanager-main-1"],
        ),
    ],
)
def test_the_claims_of_templates(obj: Object, expected: list[str]) -> None:
    assert names(obj) == expected


def test_a_clone_sets_claims_have_random_names() -> None:
    obj = stateful_set(template()) | {"apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet"}
    assert rows(obj) == [("data", "template", "spec.volumeClaimTemplates[0].spec.storageClassName")]
    assert names(obj) == []


def test_replicas_that_nobody_means_cost_little() -> None:
    assert len(names(stateful_set(template(), spec={"replicas": 2**31 - 1}))) == 1000
    assert len(names(custom("Prometheus", {"storage": {}, "shards": 2**31 - 1}))) == 1000
    many = [template(f"t{index}") for index in range(300)]
    assert len(names(stateful_set(*many, spec={"replicas": 2**31 - 1}))) == 900


def test_claims_that_are_not_looked_at_count_as_the_class_makes_them() -> None:
    existing = [claim(f"data-db-{ordinal}", bound="nfs") for ordinal in range(1000)]
    cluster = facts(storage_class(), volume("nfs", nfs={}), *existing)
    ties = [found(stateful_set(template(), spec={"replicas": count}), cluster)[0].ties for count in (1000, 1001)]
    assert [{tie.extent for tie in ty} for ty in ties] == [{"nothing"}, {"nothing", "group"}]


TO_NFS = " → volume nfs → nfs → not tied to a zone"
NEW = "template data → class fast → ebs.csi.aws.com → one zone"


@pytest.mark.parametrize(
    ("existing", "replicas", "expected"),
    [
        pytest.param([], 1, [(NEW, False, False)], id="none"),
        pytest.param([claim("data-db-0", bound="nfs")], 1, [(f"claim data-db-0{TO_NFS}", True, True)], id="wins"),
        pytest.param(
            [claim("data-db-0", bound="nfs")],
            2,
            [(f"claim data-db-0{TO_NFS}", True, True), (NEW, False, False)],
            id="one-of-two",
        ),
        pytest.param(
            [claim("data-db-0", bound="nfs"), claim("data-db-1", bound="pv")],
            2,
            [
                (f"claim data-db-0{TO_NFS}", True, True),
                ("claim data-db-1 → volume pv → node affinity → zone a", True, True),
            ],
            id="each-has-its-own",
        ),
        pytest.param([claim("data-db-7", bound="nfs")], 1, [(NEW, False, False)], id="another"),
        pytest.param(
            [claim("data-db-0", "fast")],
            1,
            [("claim data-db-0 → class fast → ebs.csi.aws.com → one zone", False, True)],
            id="not-bound-yet",
        ),
        pytest.param(
            [volume("kept", claimRef={"namespace": "shop", "name": "data-db-0"}, nfs={})],
            2,
            [("claim data-db-0 → volume kept → nfs → not tied to a zone", True, False), (NEW, False, False)],
            id="a-volume-that-is-kept-for-one",
        ),
    ],
)
def test_what_the_pods_of_a_template_get(
    existing: list[Object], replicas: int, expected: list[tuple[str, bool, bool]]
) -> None:
    cluster = facts(storage_class(), volume("nfs", nfs={}), volume("pv", term(ZONE, "a")), *existing)
    (only,) = found(stateful_set(template(), spec={"replicas": replicas}), cluster)
    assert [(str(tie), tie.is_made, tie.is_kept) for tie in only.ties] == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"volumeName": "pv"}, "volume pv → node affinity → zone a", id="volume-name"),
        pytest.param(
            {"selector": {"matchLabels": {"a": "b"}}},
            "a selector, which picks a volume made by hand, known once it is bound",
            id="selector",
        ),
    ],
)
def test_a_template_that_picks_its_volume(spec: Object, expected: str) -> None:
    cluster = facts(storage_class(), volume("pv", term(ZONE, "a")))
    picking = {"metadata": {"name": "data"}, "spec": {"storageClassName": "fast", **spec}}
    assert [str(tie) for tie in found(stateful_set(picking), cluster)[0].ties] == [f"template data → {expected}"]


def test_an_operators_existing_claim_wins() -> None:
    made = claim("prometheus-main-db-prometheus-main-0", bound="pv")
    cluster = facts(storage_class("fast", "nfs.csi.k8s.io"), volume("pv", term(ZONE, "a")), made)
    spec = {"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}
    (only,) = found(custom("Prometheus", spec), cluster)
    assert [shape(tie) for tie in only.ties] == [("nodes", "zone a")]
