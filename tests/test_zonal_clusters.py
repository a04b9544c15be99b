"""What zonal-volumes says in clusters as people run them: their providers' labels, drivers and classes."""

from __future__ import annotations

from typing import Any

import pytest

from policies.zonal_volumes.policy import Params, examine
from tests.builders import container, custom, facts, request, workload
from tests.objects.test_storage import claim, expression, storage_class, term, topologies, volume
from webhook.objects.facts import ClusterFacts
from webhook.policy import Object, Violation

ZONE = "topology.kubernetes.io/zone"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"
OLD_REGION = "failure-domain.beta.kubernetes.io/region"
HOST = "kubernetes.io/hostname"
AZURE = "topology.disk.csi.azure.com/zone"
CINDER = "topology.cinder.csi.openstack.org/zone"
EBS = "topology.ebs.csi.aws.com/zone"
GKE = "topology.gke.io/zone"
HETZNER = "csi.hetzner.cloud/location"
OPENSHIFT = "topology.csi.vmware.com/openshift-zone"
SITE = "example.com/site"
TENCENT = "topology.com.tencent.cloud.csi.cbs/zone"
WAITS = {"volumeBindingMode": "WaitForFirstConsumer"}


def node(name: str, zone: str | None = None, /, **labels: str) -> Object:
    zoned = {} if zone is None else {ZONE: zone}
    metadata = {"name": name, "labels": {HOST: name, **zoned, **labels}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def labelled(key: str, *pairs: tuple[str | None, str | None]) -> list[Object]:
    """Nodes n0, n1, …: of each the zone label, and the label of that key."""
    return [
        node(f"n{index}", zone, **({} if value is None else {key: value})) for index, (zone, value) in enumerate(pairs)
    ]


def zoned(*zones: str | None) -> list[Object]:
    return [node(f"n{index}", zone) for index, zone in enumerate(zones)]


def default(provisioner: str, mode: str = "WaitForFirstConsumer", **fields: Any) -> Object:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
    return storage_class("default", provisioner, annotations=annotations, volumeBindingMode=mode, **fields)


def bound(*terms: Object, labels: Object | None = None, **spec: Any) -> list[Object]:
    """The volume that the Prometheus' claim is bound to."""
    return [volume("pv", *terms, labels=labels, **spec), claim("prometheus-main-db-prometheus-main-0", "x", "pv")]


def prometheus(claim_spec: Object | None = None, **spec: Any) -> Object:
    return custom("Prometheus", {"storage": {"volumeClaimTemplate": {"spec": claim_spec or {}}}, **spec})


def found(cluster: ClusterFacts, obj: Object | None = None, zones: tuple[str, ...] = ()) -> list[Violation]:
    return list(examine(request(obj or prometheus()), cluster, Params(zones=zones)))


DENIED, WARNED, UNKNOWN, NOTED, NOTHING = "denied", "warned", "cannot tell", "noted", ""
TWO, THREE = zoned("a", "b"), zoned("a", "b", "c")
AZURE_UNZONED = labelled(AZURE, ("0", ""), ("1", ""), ("2", ""))
AZURE_ZONED = labelled(AZURE, ("we-1", "we-1"), ("we-2", "we-2"), ("we-3", "we-3"))
AZURE_MIXED = labelled(AZURE, ("we-1", "we-1"), ("0", ""))
OPENSHIFT_NODES = labelled(OPENSHIFT, ("us-1a", "us-1a"), ("us-2a", "us-2a"))
TENCENT_NODES = labelled(TENCENT, ("160001", "ap-1"), ("160002", "ap-2"))
HETZNER_NODES = labelled(HETZNER, ("fsn1-dc14", "fsn1"), ("nbg1-dc3", "nbg1"))
NOVA_NODES = labelled(CINDER, ("z1", "nova"), ("z2", "nova"))
SITES = labelled(SITE, ("a", "x"), ("b", "x"), ("c", "y"))
FAULT_DOMAINS = [
    {"matchExpressions": [expression(OLD_REGION, "r"), expression(OLD_ZONE, domain)]} for domain in ("0", "1", "2")
]
CINDER_MADE = {"csi": {"driver": "cinder.csi.openstack.org"}}


def outcome(violation: Violation) -> str:
    if violation.is_unknown:
        return UNKNOWN
    return {"deny": DENIED, "warn": WARNED, "audit": NOTED}[violation.at_most]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([*THREE, default("ebs.csi.aws.com")], DENIED, id="eks"),
        pytest.param(
            [*THREE, default("ebs.csi.aws.com", allowedTopologies=topologies((EBS, ["a", "b", "c"])))],
            DENIED,
            id="eks-class-of-three-zones",
        ),
        pytest.param(
            [*THREE, default("ebs.csi.aws.com", allowedTopologies=topologies((EBS, ["a"])))],
            DENIED,
            id="eks-class-of-one-zone",
        ),
        pytest.param(
            [
                *labelled("eks.amazonaws.com/compute-type", ("a", "auto"), ("b", "auto")),
                default(
                    "ebs.csi.eks.amazonaws.com",
                    allowedTopologies=topologies(("eks.amazonaws.com/compute-type", ["auto"])),
                ),
            ],
            DENIED,
            id="eks-auto-mode",
        ),
        pytest.param(
            [*labelled(EBS, ("a", "a"), ("a", "a")), *bound(term(EBS, "a"))], NOTHING, id="eks-bound-in-the-only-zone"
        ),
        pytest.param([*AZURE_UNZONED, default("disk.csi.azure.com")], NOTHING, id="aks-without-zones"),
        pytest.param(
            [*zoned("0", "1", "2"), default("kubernetes.io/azure-disk")], NOTHING, id="aks-fault-domains-alone"
        ),
        pytest.param([*AZURE_UNZONED, *bound(term(AZURE, ""))], NOTHING, id="aks-without-zones-bound"),
        pytest.param(
            [*zoned("0", "1", "2"), *bound(*FAULT_DOMAINS, azureDisk={})], NOTHING, id="aks-in-tree-without-zones"
        ),
        pytest.param([*AZURE_ZONED, default("disk.csi.azure.com")], DENIED, id="aks-in-three-zones"),
        pytest.param([*AZURE_ZONED, *bound(term(AZURE, "we-1"))], DENIED, id="aks-bound-in-one-zone"),
        pytest.param(
            [*AZURE_ZONED, *bound(term(AZURE, "we-1", "we-2", "we-3", ""))], NOTHING, id="aks-bound-zone-redundant"
        ),
        pytest.param([*AZURE_MIXED, default("disk.csi.azure.com")], DENIED, id="aks-some-nodes-without-zones"),
        pytest.param([*AZURE_MIXED, *bound(term(AZURE, ""))], DENIED, id="aks-bound-to-nodes-without-zones"),
        pytest.param([*AZURE_ZONED, *bound(csi={"driver": "disk.csi.azure.com"})], UNKNOWN, id="aks-made-by-hand"),
        pytest.param(
            [
                *THREE,
                default(
                    "pd.csi.storage.gke.io",
                    parameters={"replication-type": "regional-pd"},
                    allowedTopologies=topologies((GKE, ["a", "b"])),
                ),
            ],
            WARNED,
            id="gke-two-of-three-zones",
        ),
        pytest.param(
            [*TWO, default("pd.csi.storage.gke.io", parameters={"replication-type": "regional-pd"})],
            NOTHING,
            id="gke-two-of-two-zones",
        ),
        pytest.param([*THREE, *bound(term(GKE, "a", "b"))], WARNED, id="gke-bound-in-two-of-three"),
        pytest.param([*TWO, *bound(labels={OLD_ZONE: "a__b"}, gcePersistentDisk={})], NOTHING, id="gke-by-the-label"),
        pytest.param([*THREE, *bound(labels={OLD_ZONE: "a"}, gcePersistentDisk={})], DENIED, id="gke-one-zone-by-it"),
        pytest.param([*THREE, *bound(csi={"driver": "pd.csi.storage.gke.io"})], UNKNOWN, id="gke-made-by-hand"),
        pytest.param(
            [*THREE, default("cinder.csi.openstack.org", parameters={"availability": "nova"})],
            UNKNOWN,
            id="cinder-of-a-zone-that-no-node-is-in",
        ),
        pytest.param(
            [*THREE, default("cinder.csi.openstack.org", parameters={"availability": "b"})], DENIED, id="cinder-of-one"
        ),
        pytest.param([*THREE, *bound(**CINDER_MADE)], UNKNOWN, id="cinder-without-affinity"),
        pytest.param([*NOVA_NODES, *bound(term(CINDER, "nova"), **CINDER_MADE)], NOTHING, id="cinder-all-in-nova"),
        pytest.param([*NOVA_NODES, default("cinder.csi.openstack.org")], NOTHING, id="cinder-class-all-in-nova"),
        pytest.param(
            [*NOVA_NODES, default("cinder.csi.openstack.org", parameters={"availability": "nova"})],
            NOTHING,
            id="cinder-class-of-nova",
        ),
        pytest.param([*THREE, *bound(term(CINDER, "nova"), **CINDER_MADE)], WARNED, id="cinder-reached-by-none"),
        pytest.param([*THREE, *bound(term(CINDER, "a"), **CINDER_MADE)], DENIED, id="cinder-by-the-zone-label"),
        pytest.param([*OPENSHIFT_NODES, *bound(term(OPENSHIFT, "us-1a"))], DENIED, id="openshift-on-vsphere"),
        pytest.param(
            [*OPENSHIFT_NODES, *bound(term(OPENSHIFT, "us-1a"), term(OPENSHIFT, "us-2a"))],
            NOTHING,
            id="openshift-on-vsphere-shared",
        ),
        pytest.param([*OPENSHIFT_NODES, default("csi.vsphere.vmware.com")], UNKNOWN, id="vsphere-class"),
        pytest.param(
            [*OPENSHIFT_NODES, *bound(csi={"driver": "csi.vsphere.vmware.com"})], UNKNOWN, id="vsphere-without-affinity"
        ),
        pytest.param(
            [*TWO, *bound({"matchExpressions": [expression(OLD_ZONE, "a"), expression(OLD_REGION, "r")]})],
            DENIED,
            id="vsphere-old-labels",
        ),
        pytest.param([*TENCENT_NODES, *bound(term(TENCENT, "ap-1"))], DENIED, id="tencent-bound"),
        pytest.param([*TENCENT_NODES, default("com.tencent.cloud.csi.cbs")], DENIED, id="tencent-class"),
        pytest.param([*HETZNER_NODES, default("csi.hetzner.cloud")], DENIED, id="hetzner-class"),
        pytest.param([*HETZNER_NODES, *bound(csi={"driver": "csi.hetzner.cloud"})], DENIED, id="hetzner-by-hand"),
        pytest.param(
            [*labelled(HETZNER, ("fsn1-dc14", "fsn1"), ("fsn1-dc8", "fsn1")), *bound(term(HETZNER, "fsn1"))],
            NOTHING,
            id="hetzner-two-data-centres-of-one-location",
        ),
        pytest.param(
            [*labelled(HETZNER, ("fsn1-dc14", "fsn1"), ("fsn1-dc8", "fsn1")), default("csi.hetzner.cloud")],
            WARNED,
            id="hetzner-class-in-one-location",
        ),
        pytest.param([*SITES, *bound(term(SITE, "x"), nfs={})], DENIED, id="nfs-of-one-site"),
        pytest.param([*SITES, *bound(term(SITE, "x", "y"), nfs={})], NOTHING, id="nfs-of-all-sites"),
        pytest.param([*SITES, *bound(term(SITE, "z"), nfs={})], WARNED, id="nfs-of-another-site"),
        pytest.param([*SITES, *bound(term(SITE, operator="Exists"), nfs={})], NOTHING, id="nfs-exists"),
        pytest.param(
            [*zoned(None, None), *bound(term(SITE, operator="DoesNotExist"), nfs={})], NOTHING, id="nfs-absent"
        ),
        pytest.param([*SITES, *bound(term(SITE, "y", operator="NotIn"), nfs={})], DENIED, id="nfs-not-in"),
        pytest.param(
            [*labelled("rack", (None, "1"), (None, "2"), (None, "3")), *bound(term("rack", "2", operator="Gt"))],
            DENIED,
            id="racks-above-two",
        ),
        pytest.param(
            [*labelled("rack", (None, "1"), (None, "2")), *bound(term("rack", "9", operator="Lt"))], NOTHING, id="racks"
        ),
        pytest.param([*SITES, *bound({"matchExpressions": []}, term(SITE, "x"), nfs={})], DENIED, id="an-empty-term"),
        pytest.param([*zoned("a", "a", "b"), *bound(term(HOST, "n0"), local={})], DENIED, id="local"),
        pytest.param([*zoned("a", "a", "a"), *bound(term(HOST, "n0"), local={})], DENIED, id="local-in-one-zone"),
        pytest.param([*zoned(None, None), *bound(term(HOST, "n0"), local={})], DENIED, id="local-without-zones"),
        pytest.param([*zoned(None), *bound(term(HOST, "n0"), local={})], NOTHING, id="local-on-the-only-node"),
        pytest.param([*zoned(None), *bound(term(HOST, "gone"), local={})], WARNED, id="local-of-a-node-that-is-gone"),
        pytest.param([*THREE, *bound(term(HOST, "n0", "n1"), local={})], WARNED, id="on-two-of-three-nodes"),
        pytest.param([*zoned(None, None), default("rancher.io/local-path")], DENIED, id="local-path"),
        pytest.param([*zoned(None), default("rancher.io/local-path")], WARNED, id="local-path-on-the-only-node"),
        pytest.param(
            [*THREE, default("cluster.local/local-path-provisioner")], DENIED, id="local-path-by-its-helm-chart"
        ),
        pytest.param([*THREE, default("kubernetes.io/no-provisioner")], DENIED, id="local-volumes-by-hand"),
        pytest.param(
            [
                *THREE,
                default(
                    "linstor.csi.linbit.com", parameters={"allowRemoteVolumeAccess": "false", "placementCount": "2"}
                ),
            ],
            WARNED,
            id="linstor-two-copies-of-three-nodes",
        ),
        pytest.param(
            [
                *THREE,
                default(
                    "linstor.csi.linbit.com", parameters={"allowRemoteVolumeAccess": "false", "placementCount": "3"}
                ),
            ],
            NOTHING,
            id="linstor-a-copy-on-every-node",
        ),
        pytest.param([*THREE, default("openebs.io/provisioner-iscsi", "Immediate")], NOTHING, id="cstor"),
        pytest.param([*THREE, default("org.democratic-csi.iscsi", "Immediate")], UNKNOWN, id="not-in-the-table"),
        pytest.param(
            [
                *THREE,
                default(
                    "everest-csi-provisioner",
                    parameters={"csi.storage.k8s.io/csi-driver-name": "sfsturbo.csi.everest.io"},
                ),
            ],
            NOTHING,
            id="huawei-file-system",
        ),
        pytest.param([*THREE, default("everest-csi-provisioner")], DENIED, id="huawei-disk"),
        pytest.param([*zoned(None, None), default("ebs.csi.aws.com")], UNKNOWN, id="no-zones"),
    ],
)
def test_clusters(objects: list[Object], expected: str) -> None:
    assert "".join(map(outcome, found(facts(*objects)))) == expected


@pytest.mark.parametrize(
    ("objects", "zones", "expected"),
    [
        pytest.param([*zoned("a"), default("ebs.csi.aws.com")], ("a",), NOTHING, id="class-in-the-only-zone"),
        pytest.param([*zoned("a"), default("ebs.csi.aws.com")], ("a", "b"), DENIED, id="class-in-zones-to-come"),
        pytest.param([*THREE, *bound(term(EBS, "a"))], ("a",), NOTHING, id="bound-in-the-only-zone"),
        pytest.param([*zoned("a"), *bound(term(EBS, "a"))], ("a", "b"), DENIED, id="bound-and-a-zone-to-come"),
        pytest.param([*zoned("a"), *bound(term(EBS, "a", "b"))], ("a", "b"), NOTHING, id="bound-in-both"),
        pytest.param([*THREE, *bound(term(EBS, "a"))], ("b",), WARNED, id="bound-elsewhere"),
        pytest.param([*bound(term(EBS, "a"))], ("a", "b"), DENIED, id="bound-without-nodes"),
        pytest.param([*bound(term(SITE, "x"))], ("a", "b"), UNKNOWN, id="bound-by-a-label-of-no-zone-without-nodes"),
        pytest.param([*SITES, *bound(term(SITE, "x"))], ("a", "b"), NOTHING, id="nodes-of-those-zones-alone"),
        pytest.param([*zoned("a", "a"), *bound(term(HOST, "n0"))], ("a",), DENIED, id="a-zone-has-other-nodes"),
        pytest.param([*zoned("a"), *bound(term(HOST, "n0"))], ("a", "b"), DENIED, id="a-node-and-a-zone-to-come"),
        pytest.param([*AZURE_UNZONED, default("disk.csi.azure.com")], ("0", "1", "2"), NOTHING, id="no-zones-at-all"),
        pytest.param(
            [*labelled(HETZNER, ("fsn1-dc14", "fsn1")), default("csi.hetzner.cloud")],
            ("fsn1-dc14", "nbg1-dc3"),
            DENIED,
            id="by-a-driver's-label-and-a-zone-to-come",
        ),
    ],
)
def test_zones_that_nodes_may_come_up_in(objects: list[Object], zones: tuple[str, ...], expected: str) -> None:
    assert "".join(map(outcome, found(facts(*objects), zones=zones))) == expected


EARLY = "its class binds Immediate"
LATE = "WaitForFirstConsumer"
POOL = [node("p1", "a", pool="metrics"), node("p2", "b"), node("p3", "c")]


@pytest.mark.parametrize(
    ("objects", "spec", "expected", "says"),
    [
        pytest.param([*THREE, default("ebs.csi.aws.com", "Immediate")], {}, DENIED, True, id="three-zones"),
        pytest.param([*THREE, default("ebs.csi.aws.com")], {}, DENIED, False, id="waits"),
        pytest.param(
            [*POOL, default("ebs.csi.aws.com", "Immediate")],
            {"nodeSelector": {"pool": "metrics"}},
            WARNED,
            True,
            id="a-pool-in-one-zone",
        ),
        pytest.param(
            [*POOL, default("ebs.csi.aws.com")], {"nodeSelector": {"pool": "metrics"}}, WARNED, False, id="pool-waits"
        ),
        pytest.param(
            [*THREE, default("ebs.csi.aws.com", "Immediate")], {"nodeSelector": {ZONE: "a"}}, WARNED, True, id="pinned"
        ),
        pytest.param(
            [*THREE, default("ebs.csi.aws.com")], {"nodeSelector": {ZONE: "a"}}, NOTED, False, id="pinned-and-waits"
        ),
        pytest.param(
            [*zoned("a", "a"), default("ebs.csi.aws.com", "Immediate")], {}, WARNED, False, id="there-is-one-zone"
        ),
        pytest.param([*THREE, default("nfs.csi.k8s.io", "Immediate")], {}, NOTHING, False, id="not-tied"),
        pytest.param(
            [*THREE, default("kubernetes.io/no-provisioner", "Immediate")],
            {"nodeSelector": {HOST: "n0"}},
            WARNED,
            True,
            id="local-volumes",
        ),
        pytest.param(
            [*THREE, default("ebs.csi.aws.com", "Immediate"), *bound(term(ZONE, "a"))],
            {"nodeSelector": {ZONE: "a"}},
            NOTED,
            False,
            id="bound-already",
        ),
    ],
)
def test_classes_that_bind_immediately(objects: list[Object], spec: Object, expected: str, says: bool) -> None:
    violations = found(facts(*objects), prometheus(**spec))
    assert "".join(map(outcome, violations)) == expected
    assert [(EARLY in violation.message, LATE in violation.message) for violation in violations] == [
        (says, says)
    ] * len(violations)


@pytest.mark.parametrize(
    ("objects", "advice"),
    [
        pytest.param(
            [*AZURE_ZONED, *bound(term(AZURE, "we-1"))], f"the volume's zone (nodeSelector {ZONE}: we-1)", id="azure"
        ),
        pytest.param(
            [*AZURE_MIXED, default("disk.csi.azure.com")], f"one zone (nodeSelector {AZURE}: we-1)", id="azure-mixed"
        ),
        pytest.param(
            [*TENCENT_NODES, *bound(term(TENCENT, "ap-1"))],
            f"the volume's zone (nodeSelector {TENCENT}: ap-1)",
            id="tencent",
        ),
        pytest.param(
            [*HETZNER_NODES, default("csi.hetzner.cloud")], f"one zone (nodeSelector {HETZNER}: fsn1)", id="hc"
        ),
        pytest.param(
            [*HETZNER_NODES, *bound(csi={"driver": "csi.hetzner.cloud"})],
            f"the volume's zone (nodeSelector {HETZNER})",
            id="hetzner-somewhere",
        ),
        pytest.param(
            [*OPENSHIFT_NODES, *bound(term(OPENSHIFT, "us-1a"))],
            f"the volume's zone (nodeSelector {ZONE}: us-1a)",
            id="the-zone-label-where-it-says-the-same",
        ),
        pytest.param(
            [*labelled(OPENSHIFT, ("z", "us-1a"), ("z", "us-2a")), *bound(term(OPENSHIFT, "us-1a"))],
            f"the volume's zone (nodeSelector {OPENSHIFT}: us-1a)",
            id="the-driver's-where-it-doesn't",
        ),
        pytest.param(
            [node("o1", **{OLD_ZONE: "a"}), node("o2", **{OLD_ZONE: "b"}), default("ebs.csi.aws.com")],
            f"one zone (nodeSelector {OLD_ZONE}: a)",
            id="the-old-label-where-nodes-have-no-other",
        ),
        pytest.param(
            [*zoned("a", "a"), *bound(term(HOST, "n1"), local={})],
            f"the volume's node (nodeSelector {HOST}: n1)",
            id="local",
        ),
        pytest.param(
            [*labelled(SITE, ("a", "x"), ("a", "y")), *bound(term(SITE, "x"), nfs={})],
            f"the nodes that reach it (nodeSelector {SITE}: x)",
            id="a-label-of-one's-own",
        ),
        pytest.param(
            [*THREE, *bound(term(ZONE, "a", operator="NotIn"))],
            f"the volume's zone (nodeSelector {ZONE}: b)",
            id="not-in",
        ),
    ],
)
def test_the_label_that_pods_are_told_to_select(objects: list[Object], advice: str) -> None:
    (violation,) = found(facts(*objects))
    assert violation.message.endswith(f": pin the pods to {advice}")
    if violation.message.endswith(")") and ": " in advice:
        key, _, value = advice.partition("nodeSelector ")[2].removesuffix(")").partition(": ")
        pinned = found(facts(*objects), prometheus(nodeSelector={key: value}))
        assert [outcome(violation) for violation in pinned] in ([], [NOTED]), "the advice helps"


@pytest.mark.parametrize(
    ("objects", "where"),
    [
        pytest.param([*TENCENT_NODES, *bound(term(TENCENT, "ap-1"))], f"in 2 zones by {TENCENT}: ap-1, ap-2", id="own"),
        pytest.param([*zoned("a", "b", "b"), *bound(term(ZONE, "a"))], "in 2 zones: a, b", id="zones"),
        pytest.param([*zoned("a", "a"), *bound(term(HOST, "n1"))], "on 2 nodes: n0, n1", id="nodes"),
        pytest.param([*AZURE_MIXED, default("disk.csi.azure.com")], f'in 2 zones by {AZURE}: "", we-1', id="no-zone"),
        pytest.param(
            [*labelled(SITE, ("a", "x"), ("a", "y")), *bound(term(SITE, "x"))], f"where {SITE} is x, y", id="sites"
        ),
        pytest.param(
            [*labelled(SITE, ("a", "x"), ("b", None)), *bound(term(SITE, "x"))], "in 2 zones: a, b", id="not-on-all"
        ),
        pytest.param(
            [*labelled(SITE, ("a", "x"), ("a", None)), *bound(term(SITE, "x"))], "on 2 nodes: n0, n1", id="no-label"
        ),
        pytest.param(
            [*(node(f"m{index:02}") for index in range(12)), default("rancher.io/local-path")],
            "on 12 nodes: m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more",
            id="many",
        ),
    ],
)
def test_where_the_pods_may_run(objects: list[Object], where: str) -> None:
    (violation,) = found(facts(*objects))
    assert f", but its pods may run {where} (" in violation.message


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([*bound(term(EBS, "a"))], NOTED, id="its-zone"),
        pytest.param([*bound(term(EBS, "b"))], WARNED, id="another-zone"),
        pytest.param([*zoned("b"), *bound(term(EBS, "a"))], NOTED, id="its-zone-has-no-node-today"),
        pytest.param([default("ebs.csi.aws.com")], NOTED, id="class"),
        pytest.param([default("ebs.csi.aws.com", "Immediate")], WARNED, id="class-that-binds-immediately"),
        pytest.param([*bound(term(SITE, "x"))], NOTED, id="a-label-of-no-zone"),
        pytest.param([default("rancher.io/local-path")], WARNED, id="a-zone-has-many-nodes"),
    ],
)
def test_pods_pinned_to_a_zone_without_nodes(objects: list[Object], expected: str) -> None:
    assert [outcome(violation) for violation in found(facts(*objects), prometheus(nodeSelector={ZONE: "a"}))] == [
        expected
    ]


def test_a_node_is_not_pinned_by_its_zone() -> None:
    """A zone has other nodes, which a volume of one node isn't on."""
    cluster = facts(*zoned("a", "a", "b"), default("rancher.io/local-path"))
    assert [outcome(violation) for violation in found(cluster, prometheus(nodeSelector={ZONE: "a"}))] == [DENIED]
    assert [outcome(violation) for violation in found(cluster, prometheus(nodeSelector={HOST: "n0"}))] == [NOTED]


def test_the_worst_of_a_template_s_claims_counts() -> None:
    made = [
        claim("prometheus-main-db-prometheus-main-0", "x", "nfs"),
        claim("prometheus-main-db-prometheus-main-1", "x", "odd"),
        claim("prometheus-main-db-prometheus-main-2", "x", "disk"),
    ]
    volumes = [volume("nfs", nfs={}), volume("odd", flexVolume={}), volume("disk", term(ZONE, "b"))]
    outcomes = [
        [outcome(violation) for violation in found(facts(*THREE, *made, *volumes), prometheus(replicas=count))]
        for count in (1, 2, 3)
    ]
    assert outcomes == [[], [UNKNOWN], [DENIED]]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"selector": {"matchLabels": {"a": "b"}}}, UNKNOWN, id="selector"),
        pytest.param({"volumeName": "pv"}, DENIED, id="volume-name"),
        pytest.param({}, NOTHING, id="its-class"),
    ],
)
def test_templates_that_pick_their_volume(spec: Object, expected: str) -> None:
    cluster = facts(*THREE, volume("pv", term(ZONE, "a")), default("nfs.csi.k8s.io"))
    assert "".join(map(outcome, found(cluster, prometheus(spec)))) == expected
    obj = workload("StatefulSet", container("prometheus", "prom/prometheus:v3.5.0"), name="db")
    obj["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": spec}]
    assert "".join(map(outcome, found(cluster, obj))) == expected


def test_a_volume_that_is_kept_for_a_claim() -> None:
    kept = volume("pv", term(ZONE, "a"), nfs={}, claimRef={"namespace": "shop", "name": "data"})
    pods = workload(
        "Deployment",
        container("prometheus", "prom/prometheus:v3.5.0"),
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )
    cluster = facts(*THREE, kept, claim("data", "default"), default("nfs.csi.k8s.io"))
    assert [outcome(violation) for violation in found(cluster, pods)] == [DENIED]
