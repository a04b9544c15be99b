"""Ties: the nodes or zones that a volume can be reached from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import KINDS, facts, facts_of
from webhook.objects.facts import CLAIMS, NO_FACTS, STORAGE_CLASSES, VOLUMES
from webhook.objects.storage import Tie, tie_of_bound, tie_of_claim, tie_of_class, tie_of_new
from webhook.policy import FactReference, Object

ZONE = "topology.kubernetes.io/zone"


def storage_class(name: str = "fast", provisioner: str = "ebs.csi.aws.com", **fields: Any) -> Object:
    metadata: Object = {"name": name, "annotations": fields.pop("annotations", None)}
    metadata["creationTimestamp"] = fields.pop("created", None)
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata,
        "provisioner": provisioner,
        **fields,
    }


def default_class(name: str, created: str, provisioner: str = "ebs.csi.aws.com", beta: str = "") -> Object:
    annotation = {f"storageclass.{beta}kubernetes.io/is-default-class": "true"}
    return storage_class(name, provisioner, annotations=annotation, created=created)


def volume(name: str = "pv", *terms: Object, labels: Object | None = None, **spec: Any) -> Object:
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": list(terms)}}} if terms else {}
    spec = spec or {"csi": {"driver": "ebs.csi.aws.com"}}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": {**spec, **affinity}}


def expression(key: str, *values: str, operator: str = "In") -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


def term(key: str, *values: str, operator: str = "In") -> Object:
    return {"matchExpressions": [expression(key, *values, operator=operator)]}


def claim(name: str = "data", storage_class: str | None = None, bound: str = "", **metadata: Any) -> Object:
    spec = {"storageClassName": storage_class, "volumeName": bound}
    metadata = {"name": name, "namespace": "shop", **metadata}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def node(name: str, zone: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {ZONE: zone}}}


def shape(tie: Tie) -> tuple[str, str]:
    return tie.extent, tie.says


def topologies(*terms: tuple[str, list[str]]) -> list[Object]:
    return [{"matchLabelExpressions": [{"key": key, "values": values}]} for key, values in terms]


GROUP, NODES, NOTHING, UNKNOWN = "group", "nodes", ("nothing", "not tied to a zone"), ("unknown", "something unknown")


@pytest.mark.parametrize(
    ("provisioner", "parameters", "allowed", "expected"),
    [
        pytest.param("nfs.csi.k8s.io", {}, [(ZONE, ["a"])], (NODES, "zone a"), id="one-zone-makes-any-class-zonal"),
        pytest.param("csi.example.com", {}, [(ZONE, ["a"])], (NODES, "zone a"), id="even-an-unknown-one"),
        pytest.param("ebs.csi.aws.com", {}, [(ZONE, ["a"])], (GROUP, "zone a"), id="one-zone-is-known-by-name"),
        pytest.param("ebs.csi.aws.com", {}, [(ZONE, ["a", "b"])], (GROUP, "one zone"), id="several-limit-the-choice"),
        pytest.param(
            "ebs.csi.aws.com", {}, [(ZONE, ["a"]), (ZONE, ["b"])], (GROUP, "one zone"), id="terms-are-alternatives"
        ),
        pytest.param("nfs.csi.k8s.io", {}, [(ZONE, ["a", "b"])], NOTHING, id="several-don't-tie"),
        pytest.param(
            "pd.csi.storage.gke.io",
            {"replication-type": "regional-pd"},
            [("topology.gke.io/zone", ["a", "b"])],
            (GROUP, "2 zones a, b"),
            id="the-zones-of-a-regional-disk",
        ),
        pytest.param(
            "pd.csi.storage.gke.io",
            {"replication-type": "regional-pd"},
            [("topology.gke.io/zone", ["a", "b", "c"])],
            (GROUP, "2 zones"),
            id="two-of-three",
        ),
        pytest.param("nfs.csi.k8s.io", {}, [("eks.amazonaws.com/compute-type", ["auto"])], NOTHING, id="not-a-zone"),
        pytest.param(
            "ebs.csi.aws.com",
            {},
            [("eks.amazonaws.com/compute-type", ["auto"])],
            (GROUP, "one zone"),
            id="not-a-zone-of-a-zonal-class",
        ),
        pytest.param("nfs.csi.k8s.io", {}, [("kubernetes.io/hostname", ["n1"])], (NODES, "node n1"), id="one-node"),
        pytest.param("rancher.io/local-path", {}, [(ZONE, ["a"])], (GROUP, "one node"), id="one-zone-of-a-local-class"),
        pytest.param(
            "csi.vsphere.vmware.com",
            {},
            [("topology.csi.vmware.com/openshift-zone", ["a"])],
            (NODES, "zone a"),
            id="a-driver's-own-label",
        ),
    ],
)
def test_allowed_topologies(
    provisioner: str, parameters: Object, allowed: list[tuple[str, list[str]]], expected: tuple[str, str]
) -> None:
    made = storage_class("fast", provisioner, parameters=parameters, allowedTopologies=topologies(*allowed))
    assert shape(tie_of_class("fast", facts(made))) == expected


ADMITTED = (NODES, "the nodes that its node affinity admits")
AZURE = {"driver": "disk.csi.azure.com"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(volume("pv", term(ZONE, "a")), (NODES, "zone a"), id="affinity"),
        pytest.param(volume("pv", term("topology.ebs.csi.aws.com/zone", "a")), (NODES, "zone a"), id="a-driver's-key"),
        pytest.param(
            volume("pv", term("csi.hetzner.cloud/location", "nbg1")), (NODES, "zone nbg1"), id="a-location-is-a-zone"
        ),
        pytest.param(
            volume("pv", term("topology.csi.vmware.com/openshift-zone", "a")), (NODES, "zone a"), id="openshift-vsphere"
        ),
        pytest.param(volume("pv", term("example.com/site", "x")), (NODES, "example.com/site x"), id="any-label"),
        pytest.param(volume("pv", term(ZONE, "a"), term(ZONE, "b")), (NODES, "2 zones a, b"), id="alternatives"),
        pytest.param(volume("pv", term("topology.gke.io/zone", "a", "b")), (NODES, "2 zones a, b"), id="regional"),
        pytest.param(
            volume("pv", {"matchExpressions": [expression(ZONE, "a"), expression("example.com/region", "r")]}),
            (NODES, "zone a"),
            id="a-zone-in-a-region",
        ),
        pytest.param(volume("pv", term(ZONE, "a"), term("pool", "x")), ADMITTED, id="alternatives-by-several-labels"),
        pytest.param(
            volume("pv", {"matchExpressions": [expression(ZONE, "a", "b"), expression("x", "b", "c")]}),
            ADMITTED,
            id="several-labels",
        ),
        pytest.param(volume("pv", term(ZONE, "a", operator="NotIn")), ADMITTED, id="not-in"),
        pytest.param(
            volume("pv", {"matchExpressions": [expression(ZONE, "a", "b"), expression(ZONE, "b", "c")]}),
            (NODES, "zone b"),
            id="expressions-must-all-hold",
        ),
        pytest.param(
            volume("pv", term("topology.disk.csi.azure.com/zone", "a", "b", "c", "")),
            (NODES, "3 zones a, b, c"),
            id="azure-zone-redundant",
        ),
        pytest.param(
            volume("pv", term("topology.disk.csi.azure.com/zone", "")), (NODES, 'zone ""'), id="azure-without-zones"
        ),
        pytest.param(
            volume("pv", term(ZONE, "a"), csi={"driver": "nfs.csi.k8s.io"}),
            (NODES, "zone a"),
            id="affinity-beats-the-driver",
        ),
        pytest.param(
            volume("pv", term("failure-domain.beta.kubernetes.io/zone", "a"), labels={ZONE: "a"}),
            (NODES, "zone a"),
            id="affinity-and-label-that-say-the-same",
        ),
        pytest.param(volume("pv", term("x", "y"), labels={ZONE: "a"}), ADMITTED, id="affinity-and-label"),
        pytest.param(volume("pv", term("kubernetes.io/hostname", "n1"), local={}), (NODES, "node n1"), id="local"),
        pytest.param(volume("pv", term("topology.topolvm.io/node", "n1")), (NODES, "node n1"), id="topolvm"),
        pytest.param(
            volume("pv", term("kubernetes.io/hostname", "n1", "n2")), (NODES, "2 nodes n1, n2"), id="two-nodes"
        ),
        pytest.param(volume("pv", labels={ZONE: "a"}), (NODES, "zone a"), id="label"),
        pytest.param(volume("pv", labels={ZONE: "a__b"}), (NODES, "2 zones a, b"), id="label-with-two-zones"),
        pytest.param(
            volume("pv", labels={"failure-domain.beta.kubernetes.io/zone": "a"}), (NODES, "zone a"), id="beta-label"
        ),
        pytest.param(volume(), (GROUP, "one zone"), id="ebs-made-by-hand"),
        pytest.param(volume("pv", csi={"driver": "csi.hetzner.cloud"}), (GROUP, "one zone"), id="hetzner-by-hand"),
        pytest.param(volume("pv", awsElasticBlockStore={}), (GROUP, "one zone"), id="in-tree-ebs"),
        pytest.param(volume("pv", gcePersistentDisk={}), UNKNOWN, id="in-tree-pd"),
        pytest.param(volume("pv", azureDisk={}), UNKNOWN, id="in-tree-azure-disk"),
        pytest.param(volume("pv", cinder={}), UNKNOWN, id="in-tree-cinder"),
        pytest.param(volume("pv", vsphereVolume={}), UNKNOWN, id="in-tree-vsphere"),
        pytest.param(volume("pv", nfs={}), NOTHING, id="nfs"),
        pytest.param(volume("pv", hostPath={}), (GROUP, "one node"), id="host-path"),
        pytest.param(volume("pv", csi={"driver": "csi.vsphere.vmware.com"}), UNKNOWN, id="vsphere-without-affinity"),
        pytest.param(volume("pv", csi={"driver": "cinder.csi.openstack.org"}), UNKNOWN, id="cinder-without-affinity"),
        pytest.param(volume("pv", csi={"driver": "pd.csi.storage.gke.io"}), UNKNOWN, id="pd-made-by-hand"),
        pytest.param(
            volume("pv", csi={"driver": "diskplugin.csi.alibabacloud.com"}), UNKNOWN, id="alibaba-made-by-hand"
        ),
        pytest.param(volume("pv", csi=AZURE), UNKNOWN, id="azure-made-by-hand"),
        pytest.param(
            volume("pv", csi={**AZURE, "volumeAttributes": {"fsType": "ext4"}}), UNKNOWN, id="azure-without-sku"
        ),
        pytest.param(
            volume("pv", csi={**AZURE, "volumeAttributes": {"skuName": "Premium_ZRS"}}), NOTHING, id="azure-zrs"
        ),
        pytest.param(
            volume("pv", csi={**AZURE, "volumeAttributes": {"skuName": "Premium_LRS"}}),
            (GROUP, "one zone"),
            id="azure-lrs",
        ),
        pytest.param(volume("pv", flexVolume={}), UNKNOWN, id="unknown-source"),
    ],
)
def test_volumes(made: Object, expected: tuple[str, str]) -> None:
    tie = tie_of_bound("pv", facts(made, node("n1", "z1"), node("n2", "z2")))
    assert (shape(tie), tie.is_made) == (expected, True)


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        pytest.param({ZONE: "a"}, 1, id="no-node-says-its-region"),
        pytest.param({ZONE: "a", "topology.kubernetes.io/region": "r"}, 2, id="one-does"),
        pytest.param({"failure-domain.beta.kubernetes.io/region": "r"}, 2, id="by-the-old-label"),
    ],
)
def test_a_region_counts_where_nodes_have_any(labels: Object, count: int) -> None:
    known = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
    made = volume(
        "pv", {"matchExpressions": [expression(ZONE, "a"), expression("failure-domain.beta.kubernetes.io/region", "r")]}
    )
    assert len(tie_of_bound("pv", facts(known, made)).terms[0]) == count


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        pytest.param([default_class("a", "2024-01-01T00:00:00Z")], "default class a", id="one"),
        pytest.param(
            [default_class("a", "2024-01-01T00:00:00Z", beta="beta.")], "default class a", id="beta-annotation"
        ),
        pytest.param(
            [default_class("a", "2024-01-01T00:00:00Z"), default_class("b", "2025-01-01T00:00:00Z")],
            "default class b",
            id="the-newest-wins",
        ),
        pytest.param(
            [default_class("b", "2025-01-01T00:00:00Z"), default_class("a", "2025-01-01T00:00:00Z")],
            "default class a",
            id="then-the-name",
        ),
        pytest.param(
            [default_class("a", "2025-01-01T00:00:00Z"), default_class("b", "")], "default class b", id="from-a-file"
        ),
    ],
)
def test_the_default_class(classes: list[Object], expected: str) -> None:
    assert tie_of_class(None, facts(*classes)).chain[0] == expected


SEEN = facts_of([])
CLAIM = FactReference(CLAIMS, "shop", "data")


@pytest.mark.parametrize(
    ("tie", "text", "unseen"),
    [
        pytest.param(
            tie_of_class(None, NO_FACTS),
            "the default class, unseen: storageclasses could not be read",
            (),
            id="no-classes",
        ),
        pytest.param(tie_of_class(None, SEEN), "the default class, of which there is none", (), id="no-default"),
        pytest.param(
            tie_of_class("x", SEEN),
            "class x, which is not in the cluster",
            (FactReference(STORAGE_CLASSES, "", "x"),),
            id="no-such-class",
        ),
        pytest.param(
            tie_of_class("", SEEN),
            "no class, a volume made by hand, known once it is bound",
            (),
            id="no-class-on-purpose",
        ),
        pytest.param(
            tie_of_claim("shop", "data", NO_FACTS),
            "claim data, unseen: persistentvolumeclaims could not be read",
            (CLAIM,),
            id="claims-unread",
        ),
        pytest.param(
            tie_of_claim("shop", "data", SEEN), "claim data, which is not in the cluster", (CLAIM,), id="no-such-claim"
        ),
        pytest.param(
            tie_of_claim("shop", "data", SEEN.with_facts([], absent=[CLAIM])),
            "claim data, which does not exist",
            (),
            id="looked-up",
        ),
        pytest.param(
            tie_of_claim("shop", "data", SEEN.with_objects([claim(bound="pv")], KINDS)),
            "claim data → volume pv, which is not in the cluster",
            (FactReference(VOLUMES, "", "pv"),),
            id="no-such-volume",
        ),
    ],
)
def test_what_cannot_be_told(tie: Tie, text: str, unseen: tuple[FactReference, ...]) -> None:
    assert (tie.extent, str(tie), tie.unseen) == ("unknown", text, unseen)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (claim(storage_class="fast"), "claim data → class fast → ebs.csi.aws.com → one zone"),
        (claim(bound="pv", storage_class="fast"), "claim data → volume pv → node affinity → zone a"),
        (claim(), "claim data → default class late → pd.csi.storage.gke.io → one zone"),
        (
            claim(storage_class="fast", annotations={"volume.beta.kubernetes.io/storage-class": "late"}),
            "claim data → class late → pd.csi.storage.gke.io → one zone",
        ),
    ],
)
def test_the_chain_of_a_claim(made: Object, expected: str) -> None:
    cluster = facts(
        storage_class(), default_class("late", "", "pd.csi.storage.gke.io"), volume("pv", term(ZONE, "a")), made
    )
    assert str(tie_of_claim("shop", "data", cluster)) == expected


KEPT = {"claimRef": {"namespace": "shop", "name": "data"}, "nfs": {}}


@pytest.mark.parametrize(
    ("spec", "volumes", "expected"),
    [
        pytest.param({"selector": {"matchLabels": {"a": "b"}}}, [], "a selector, which picks", id="selector"),
        pytest.param({"selector": {}}, [], "a selector, which picks", id="an-empty-selector-is-one"),
        pytest.param({"selector": None}, [], "class fast → ebs.csi.aws.com → one zone", id="null-is-none"),
        pytest.param({"volumeName": "pv"}, [volume()], "volume pv → ebs.csi.aws.com → one zone", id="volume-name"),
        pytest.param(
            {"volumeName": "pv"}, [], "volume pv, which is not in the cluster", id="a-volume-that-isn't-there"
        ),
        pytest.param({}, [volume("pv", **KEPT)], "volume pv → nfs → not tied to a zone", id="kept-for-it"),
        pytest.param(
            {"selector": {}}, [volume("pv", **KEPT)], "volume pv → nfs → not tied to a zone", id="kept-whatever-it-asks"
        ),
        pytest.param(
            {},
            [volume("pv", nfs={}, claimRef={"namespace": "other", "name": "data"})],
            "class fast → ebs.csi.aws.com → one zone",
            id="kept-for-another-namespace",
        ),
        pytest.param({"storageClassName": ""}, [volume("pv", **KEPT)], "volume pv → nfs → not tied", id="no-class"),
    ],
)
def test_what_a_claim_asks_for(spec: Object, volumes: list[Object], expected: str) -> None:
    spec = {"storageClassName": "fast", **spec}
    cluster = facts_of([storage_class(volumeBindingMode="WaitForFirstConsumer"), *volumes])
    assert str(tie_of_new("shop", "data", {}, spec, cluster)).startswith(expected)
    asked = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"}}
    with_claim = cluster.with_objects([{**asked, "spec": spec}], KINDS)
    assert str(tie_of_claim("shop", "data", with_claim)).startswith(f"claim data → {expected}")


def test_nobody_knows_a_volume_for_a_claim_without_a_name() -> None:
    cluster = facts_of([storage_class(), volume("pv", **KEPT)])
    assert str(tie_of_new("shop", "", {}, {"storageClassName": "fast"}, cluster)).startswith("class fast")
