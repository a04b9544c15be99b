"""What volumes are tied to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import KINDS, facts, facts_of
from webhook.objects.facts import CLAIMS, NO_FACTS, STORAGE_CLASSES, VOLUMES
from webhook.objects.storage import Tie, tie_of_bound, tie_of_claim, tie_of_class
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


def shape(tie: Tie) -> tuple[str, str, int]:
    return tie.extent, ",".join(sorted(tie.zones)), tie.count


def topologies(*terms: tuple[str, list[str]]) -> list[Object]:
    return [{"matchLabelExpressions": [{"key": key, "values": values}]} for key, values in terms]


@pytest.mark.parametrize(
    ("provisioner", "parameters", "expected"),
    [
        ("ebs.csi.aws.com", {"type": "io2"}, ("zone", "", 1)),
        ("ebs.csi.eks.amazonaws.com", {}, ("zone", "", 1)),
        ("kubernetes.io/aws-ebs", {"zone": "us-east-1d"}, ("zone", "us-east-1d", 1)),
        ("efs.csi.aws.com", {}, ("nothing", "", 0)),
        ("pd.csi.storage.gke.io", {"type": "pd-ssd"}, ("zone", "", 1)),
        ("pd.csi.storage.gke.io", {"replication-type": "regional-pd"}, ("zones", "", 2)),
        ("pd.csi.storage.gke.io", {"Replication-Type": "Regional-PD"}, ("zones", "", 2)),
        ("pd.csi.storage.gke.io", {"type": "hyperdisk-balanced"}, ("zone", "", 1)),
        ("pd.csi.storage.gke.io", {"type": "hyperdisk-balanced-high-availability"}, ("zones", "", 2)),
        ("kubernetes.io/gce-pd", {"replication-type": "regional-pd"}, ("zones", "", 2)),
        ("filestore.csi.storage.gke.io", {"tier": "zonal"}, ("nothing", "", 0)),
        ("disk.csi.azure.com", {}, ("zone", "", 1)),
        ("disk.csi.azure.com", {"skuName": "Premium_LRS"}, ("zone", "", 1)),
        ("disk.csi.azure.com", {"skuName": "PremiumV2_LRS"}, ("zone", "", 1)),
        ("disk.csi.azure.com", {"skuName": "Premium_ZRS"}, ("nothing", "", 0)),
        ("disk.csi.azure.com", {"skuname": "StandardSSD_ZRS"}, ("nothing", "", 0)),
        ("kubernetes.io/azure-disk", {"storageAccountType": "StandardSSD_ZRS"}, ("nothing", "", 0)),
        ("file.csi.azure.com", {}, ("nothing", "", 0)),
        ("cinder.csi.openstack.org", {"availability": "az1"}, ("zone", "az1", 1)),
        ("csi.vsphere.vmware.com", {}, ("unknown", "", 0)),
        ("csi.hetzner.cloud", {}, ("zone", "", 1)),
        ("dobs.csi.digitalocean.com", {}, ("nothing", "", 0)),
        ("everest-csi-provisioner", {}, ("zone", "", 1)),
        ("kubernetes.io/no-provisioner", {}, ("node", "", 0)),
        ("rancher.io/local-path", {}, ("node", "", 0)),
        ("topolvm.io", {}, ("node", "", 0)),
        ("io.openebs.csi-mayastor", {"repl": "3"}, ("nothing", "", 0)),
        ("driver.longhorn.io", {"dataLocality": "best-effort"}, ("nothing", "", 0)),
        ("driver.longhorn.io", {"dataLocality": "strict-local"}, ("node", "", 0)),
        ("driver.longhorn.io", {"datalocality": "strict-local"}, ("nothing", "", 0)),
        ("rook-ceph.rbd.csi.ceph.com", {}, ("nothing", "", 0)),
        ("rook-ceph.rbd.csi.ceph.com", {"topologyConstrainedPools": "[]"}, ("zone", "", 1)),
        ("rook-ceph.cephfs.csi.ceph.com", {}, ("nothing", "", 0)),
        ("cluster.local/nfs-subdir-external-provisioner", {}, ("nothing", "", 0)),
        ("csi.example.com", {}, ("unknown", "", 0)),
    ],
)
def test_provisioners(provisioner: str, parameters: Object, expected: tuple[str, str, int]) -> None:
    cluster = facts(storage_class("fast", provisioner, parameters=parameters))
    assert shape(tie_of_class("fast", cluster)) == expected


@pytest.mark.parametrize(
    ("provisioner", "parameters", "allowed", "expected"),
    [
        pytest.param("nfs.csi.k8s.io", {}, [(ZONE, ["a"])], ("zone", "a", 1), id="one-zone-makes-any-class-zonal"),
        pytest.param("csi.example.com", {}, [(ZONE, ["a"])], ("zone", "a", 1), id="even-an-unknown-one"),
        pytest.param("ebs.csi.aws.com", {}, [(ZONE, ["a", "b"])], ("zone", "", 1), id="several-only-limit-the-choice"),
        pytest.param(
            "ebs.csi.aws.com", {}, [(ZONE, ["a"]), (ZONE, ["b"])], ("zone", "", 1), id="terms-are-alternatives"
        ),
        pytest.param("nfs.csi.k8s.io", {}, [(ZONE, ["a", "b"])], ("nothing", "", 0), id="several-don't-tie"),
        pytest.param(
            "pd.csi.storage.gke.io",
            {"replication-type": "regional-pd"},
            [("topology.gke.io/zone", ["a", "b"])],
            ("zones", "a,b", 2),
            id="the-zones-of-a-regional-disk",
        ),
        pytest.param(
            "pd.csi.storage.gke.io",
            {"replication-type": "regional-pd"},
            [("topology.gke.io/zone", ["a", "b", "c"])],
            ("zones", "", 2),
            id="two-of-three",
        ),
        pytest.param(
            "nfs.csi.k8s.io", {}, [("eks.amazonaws.com/compute-type", ["auto"])], ("nothing", "", 0), id="not-a-zone"
        ),
        pytest.param("nfs.csi.k8s.io", {}, [("kubernetes.io/hostname", ["n1"])], ("node", "", 0), id="a-node"),
    ],
)
def test_allowed_topologies(
    provisioner: str, parameters: Object, allowed: list[tuple[str, list[str]]], expected: tuple[str, str, int]
) -> None:
    made = storage_class("fast", provisioner, parameters=parameters, allowedTopologies=topologies(*allowed))
    assert shape(tie_of_class("fast", facts(made))) == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(volume("pv", term(ZONE, "a")), ("zone", "a", 1), id="affinity"),
        pytest.param(volume("pv", term("topology.ebs.csi.aws.com/zone", "a")), ("zone", "a", 1), id="a-driver's-key"),
        pytest.param(volume("pv", term(ZONE, "a"), term(ZONE, "b")), ("zones", "a,b", 2), id="terms-are-alternatives"),
        pytest.param(volume("pv", term("topology.gke.io/zone", "a", "b")), ("zones", "a,b", 2), id="regional"),
        pytest.param(
            volume("pv", term(ZONE, "a"), term("pool", "x"), csi={"driver": "nfs.csi.k8s.io"}),
            ("nothing", "", 0),
            id="an-alternative-without-a-zone",
        ),
        pytest.param(
            volume(
                "pv", {"matchExpressions": [expression(ZONE, "a", "b"), expression("topology.gke.io/zone", "b", "c")]}
            ),
            ("zone", "b", 1),
            id="expressions-must-all-hold",
        ),
        pytest.param(
            volume("pv", term("topology.disk.csi.azure.com/zone", "a", "b", "c", "")), ("zones", "a,b,c", 3), id="azure"
        ),
        pytest.param(
            volume("pv", term(ZONE, "a"), csi={"driver": "nfs.csi.k8s.io"}),
            ("zone", "a", 1),
            id="affinity-beats-the-driver",
        ),
        pytest.param(volume("pv", term("kubernetes.io/hostname", "n1"), local={}), ("node", "z1", 0), id="local"),
        pytest.param(volume("pv", term("topology.topolvm.io/node", "n1")), ("node", "z1", 0), id="topolvm"),
        pytest.param(volume("pv", term("kubernetes.io/hostname", "n1", "n2")), ("zones", "z1,z2", 2), id="two-nodes"),
        pytest.param(volume("pv", term("kubernetes.io/hostname", "x", "y")), ("unknown", "", 0), id="unseen-nodes"),
        pytest.param(volume("pv", labels={ZONE: "a"}), ("zone", "a", 1), id="label"),
        pytest.param(volume("pv", labels={ZONE: "a__b"}), ("zones", "a,b", 2), id="label-with-two-zones"),
        pytest.param(
            volume("pv", labels={"failure-domain.beta.kubernetes.io/zone": "a"}), ("zone", "a", 1), id="beta-label"
        ),
        pytest.param(volume(), ("zone", "", 1), id="made-by-hand"),
        pytest.param(
            volume("pv", term("topology.kubernetes.io/region", "r")), ("zone", "", 1), id="a-region-says-little"
        ),
        pytest.param(volume("pv", term(ZONE, "a", operator="NotIn")), ("zone", "", 1), id="not-in-says-little"),
        pytest.param(volume("pv", awsElasticBlockStore={}), ("zone", "", 1), id="in-tree-ebs"),
        pytest.param(volume("pv", gcePersistentDisk={}), ("zone", "", 1), id="in-tree-pd"),
        pytest.param(volume("pv", nfs={}), ("nothing", "", 0), id="nfs"),
        pytest.param(volume("pv", hostPath={}), ("node", "", 0), id="host-path"),
        pytest.param(volume("pv", csi={"driver": "csi.vsphere.vmware.com"}), ("nothing", "", 0), id="vsphere-untied"),
        pytest.param(volume("pv", flexVolume={}), ("unknown", "", 0), id="unknown-source"),
        pytest.param(
            volume("pv", csi={"driver": "disk.csi.azure.com", "volumeAttributes": {"skuName": "Premium_ZRS"}}),
            ("nothing", "", 0),
            id="attributes",
        ),
    ],
)
def test_volumes(made: Object, expected: tuple[str, str, int]) -> None:
    assert shape(tie_of_bound("pv", facts(made, node("n1", "z1"), node("n2", "z2")))) == expected


def test_a_location_is_a_zone_by_its_own_key() -> None:
    tie = tie_of_bound("pv", facts(volume("pv", term("csi.hetzner.cloud/location", "nbg1"))))
    assert (shape(tie), tie.key) == (("zone", "nbg1", 1), "csi.hetzner.cloud/location")


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
