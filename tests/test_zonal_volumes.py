"""What zonal-volumes finds, says and fixes."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from policies.zonal_volumes.policy import Params, examine
from policies.zonal_volumes.replacement import Replacement
from tests.builders import (
    KINDS,
    SHARED,
    TODAY,
    config,
    container,
    custom,
    facts,
    facts_of,
    recordings,
    request,
    sized,
    workload,
)
from webhook.engine import decide
from webhook.files.manifests import read_manifests
from webhook.objects.facts import CLAIMS, NO_FACTS, STORAGE_CLASSES, ClusterFacts
from webhook.objects.workloads import Workloads
from webhook.policy import AdmissionRequest, FactReference, Object, Set, Violation

ZONE = "topology.kubernetes.io/zone"
IMAGE = "quay.io/prometheus/prometheus:v3.9.1"
CLAIM_PATH = "spec.template.spec.volumes[0].persistentVolumeClaim.claimName"
TEMPLATE_PATH = "spec.volumeClaimTemplates[0].spec.storageClassName"
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


def node(name: str, zone: str = "", **fields: Any) -> Object:
    labels = {ZONE: zone} if zone else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": fields}


def storage_class(name: str = "gp3", provisioner: str = "ebs.csi.aws.com", **fields: Any) -> Object:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    return {**kind, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer", **fields}


def claim(storage_class: str | None = "gp3", name: str = "data", bound: str | None = None, **metadata: Any) -> Object:
    metadata = {"name": name, "namespace": "shop", **metadata}
    spec = {"storageClassName": storage_class, "volumeName": bound}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def volume(*zones: str, name: str = "pv", key: str = ZONE) -> Object:
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": list(zones)}]}]
    spec = {"csi": {"driver": "ebs.csi.aws.com"}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


ONLY = "policies: {memory-limits: {mode: 'off'}, prometheus-memory: {mode: 'off'}}"
NODES = [node("a1", "a"), node("b1", "b"), node("c1", "c")]
REGIONAL = storage_class("regional", "pd.csi.storage.gke.io", parameters={"replication-type": "regional-pd"})
ZRS = storage_class("zrs", "disk.csi.azure.com", parameters={"skuName": "Premium_ZRS"})
CLUSTER = facts(*NODES, storage_class(), REGIONAL, ZRS, claim())


def deployment(source: Object | None = None, image: str = IMAGE, **spec: Any) -> Object:
    mounted = container("prometheus", image, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    return workload("Deployment", mounted, volumes=[{"name": "data", **source} if source else VOLUME], **spec)


def stateful_set(storage_class: str | None = "gp3", size: str | None = "50Gi", **spec: Any) -> Object:
    obj = workload("StatefulSet", container("prometheus", IMAGE, **sized("6Gi", "4Gi")), name="prometheus")
    resources = {"requests": {"storage": size}} if size else {}
    template = {"metadata": {"name": "data"}, "spec": {"storageClassName": storage_class, "resources": resources}}
    obj["spec"] |= {"volumeClaimTemplates": [template], **spec}
    return obj


def ephemeral(storage_class: str) -> Object:
    return {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": storage_class}}}}


def violations(obj: Object, cluster: ClusterFacts = CLUSTER, **params: Any) -> list[Violation]:
    return list(examine(request(obj), cluster, Params(**params)))


def affinity(*terms: dict[str, list[str]]) -> Object:
    selector = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": values} for key, values in term.items()]}
        for term in terms
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": selector}}}


def cluster(*objects: Object, nodes: Iterable[Object] = NODES) -> ClusterFacts:
    return facts(*nodes, storage_class(), REGIONAL, ZRS, *objects)


def without(key: str) -> Object:
    term = {"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def labelled(name: str, zone: str, labels: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {ZONE: zone, **labels}}}


LABELLED = cluster(
    claim(),
    nodes=[
        labelled("a1", "a", {"x.com/zone": "a", "dedicated/node": "y"}),
        labelled("b1", "b", {"x.com/zone": "dmz", "dedicated/node": "x"}),
        labelled("c1", "c", {"x.com/zone": "dmz", "dedicated/node": "x"}),
    ],
)
DENIED, WARNED, UNKNOWN, NOTED = ("deny", False), ("warn", False), ("warn", True), ("audit", False)


@pytest.mark.parametrize(
    ("obj", "known", "params", "expected"),
    [
        pytest.param(deployment(), CLUSTER, {}, DENIED, id="three-zones"),
        pytest.param(deployment(), cluster(claim("zrs")), {}, None, id="zone-redundant"),
        pytest.param(deployment(), cluster(claim("regional")), {}, WARNED, id="two-zone-disk-and-a-third-zone"),
        pytest.param(
            deployment(nodeSelector={}, affinity=affinity({ZONE: ["a", "b"]})),
            cluster(claim("regional")),
            {},
            None,
            id="two-zone-disk-and-two-zones",
        ),
        pytest.param(
            deployment(), cluster(claim(bound="pv"), volume("a", "b")), {}, WARNED, id="bound-in-two-of-three"
        ),
        pytest.param(deployment(), cluster(claim(bound="pv"), volume("a", "b", "c")), {}, None, id="bound-in-all"),
        pytest.param(deployment(), cluster(claim(bound="pv"), volume("a")), {}, DENIED, id="bound-in-one"),
        pytest.param(deployment({"emptyDir": {}}), CLUSTER, {}, None, id="empty-dir"),
        pytest.param(deployment(ephemeral("gp3")), CLUSTER, {}, None, id="ephemeral"),
        pytest.param(
            deployment(ephemeral("now")),
            cluster(storage_class("now", volumeBindingMode=None)),
            {},
            WARNED,
            id="ephemeral-at-once",
        ),
        pytest.param(
            deployment(ephemeral("now")),
            cluster(storage_class("now", "nfs.csi.k8s.io", volumeBindingMode=None)),
            {},
            None,
            id="ephemeral-at-once-anywhere",
        ),
        pytest.param(deployment(ephemeral("x")), CLUSTER, {}, UNKNOWN, id="ephemeral-of-an-unknown-class"),
        pytest.param(deployment({"hostPath": {"path": "/srv"}}), CLUSTER, {}, WARNED, id="host-path"),
        pytest.param(
            deployment({"awsElasticBlockStore": {"volumeID": "vol-1"}}), CLUSTER, {}, DENIED, id="a-disk-inline"
        ),
        pytest.param(deployment({"nfs": {"server": "x", "path": "/"}}), CLUSTER, {}, None, id="nfs-inline"),
        pytest.param(deployment(), cluster(claim(), nodes=[node("a1", "a")]), {}, WARNED, id="a-single-visible-zone"),
        pytest.param(
            deployment(), cluster(claim(), nodes=[node("a1", "a")]), {"zones": ("a",)}, None, id="a-single-zone"
        ),
        pytest.param(
            deployment(), cluster(claim(), nodes=[node("a1", "a")]), {"zones": ("a", "b")}, DENIED, id="zones-to-come"
        ),
        pytest.param(
            deployment(), facts(storage_class(), claim()), {"zones": ("a", "b")}, DENIED, id="zones-without-nodes"
        ),
        pytest.param(deployment(), facts(storage_class(), claim()), {}, UNKNOWN, id="no-nodes-read"),
        pytest.param(deployment(), cluster(claim(), nodes=[node("a1")]), {}, UNKNOWN, id="nodes-without-zones"),
        pytest.param(deployment(nodeSelector={"pool": "x"}), CLUSTER, {}, UNKNOWN, id="no-node-fits"),
        pytest.param(
            deployment(),
            cluster(claim(), nodes=[node("a1", "a"), node("b1", "b", taints=[{"key": "gpu", "effect": "NoSchedule"}])]),
            {},
            WARNED,
            id="the-other-zone-is-tainted",
        ),
        pytest.param(
            deployment(),
            cluster(claim(bound="pv"), volume("a"), nodes=[node("b1", "b")]),
            {},
            WARNED,
            id="the-volume-is-elsewhere",
        ),
        pytest.param(deployment(nodeSelector={ZONE: "a"}), CLUSTER, {}, NOTED, id="pinned"),
        pytest.param(
            deployment(nodeSelector={ZONE: "a"}), facts(storage_class(), claim()), {}, NOTED, id="pinned-unseen"
        ),
        pytest.param(
            deployment(affinity=affinity({ZONE: ["a"]})), CLUSTER, {"zones": ("a", "b")}, NOTED, id="pinned-by-affinity"
        ),
        pytest.param(deployment(nodeName="a1"), CLUSTER, {}, NOTED, id="pinned-to-a-node"),
        pytest.param(deployment(nodeSelector={"dedicated/node": "x"}), LABELLED, {}, DENIED, id="a-label-is-no-node"),
        pytest.param(deployment(nodeSelector={"x.com/zone": "dmz"}), LABELLED, {}, DENIED, id="a-label-is-no-zone"),
        pytest.param(deployment(nodeSelector={"x.com/zone": "a"}), LABELLED, {}, WARNED, id="a-label-of-one-zone"),
        pytest.param(
            deployment(affinity=without("evil/zone")), CLUSTER, {"zones": ("a", "b")}, DENIED, id="a-label-is-missing"
        ),
        pytest.param(
            deployment(affinity=affinity(*[{"x": ["y"]}] * 9000)), CLUSTER, {}, DENIED, id="affinity-without-end"
        ),
        pytest.param(
            deployment(), cluster(claim(bound="pv"), volume("a")), {"zones": ("b",)}, WARNED, id="the-zone-is-another"
        ),
        pytest.param(
            deployment(), cluster(claim(bound="pv"), volume("a")), {"zones": ("a",)}, None, id="the-zone-is-its-own"
        ),
        pytest.param(
            deployment(),
            cluster(claim(bound="pv"), volume("nbg1", key="csi.hetzner.cloud/location")),
            {"zones": ("nbg1-dc3",)},
            None,
            id="a-location-in-the-only-zone",
        ),
        pytest.param(
            deployment(nodeSelector={ZONE: "a"}),
            cluster(claim(bound="pv"), volume("b")),
            {},
            WARNED,
            id="pinned-elsewhere",
        ),
        pytest.param(deployment(nodeSelector={ZONE: "a"}), cluster(claim("zrs")), {}, None, id="pinned-but-not-tied"),
        pytest.param(deployment(), facts(*NODES), {}, UNKNOWN, id="no-claim"),
        pytest.param(deployment(), facts(*NODES, claim("x")), {}, UNKNOWN, id="no-class"),
        pytest.param(
            deployment(), cluster(claim("x"), storage_class("x", "csi.example.com")), {}, UNKNOWN, id="odd-provisioner"
        ),
        pytest.param(deployment(), NO_FACTS, {}, UNKNOWN, id="no-facts"),
        pytest.param(deployment(image="postgres:17"), CLUSTER, {}, None, id="not-monitoring"),
        pytest.param(deployment(image="postgres:17"), CLUSTER, {"workloads": "all"}, DENIED, id="all"),
        pytest.param(
            deployment(image="postgres:17"),
            CLUSTER,
            {"workloads": Workloads(images=("postgres",))},
            DENIED,
            id="own-image",
        ),
        pytest.param(
            deployment(image="postgres:17"),
            CLUSTER,
            {"workloads": Workloads(labels=({"app": "x"}, {"app": "web"}))},
            DENIED,
            id="own-labels",
        ),
        pytest.param(
            deployment(image="postgres:17"),
            CLUSTER,
            {"workloads": Workloads(labels=({"app": "x"},))},
            None,
            id="other-labels",
        ),
        pytest.param(
            deployment(), CLUSTER, {"workloads": Workloads(images=("postgres",))}, DENIED, id="own-ones-are-added"
        ),
        pytest.param(stateful_set(), CLUSTER, {}, DENIED, id="template"),
        pytest.param(stateful_set(), cluster(claim("zrs", "data-prometheus-0")), {}, None, id="an-existing-claim-wins"),
        pytest.param(
            custom("Prometheus", {"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}}),
            CLUSTER,
            {},
            DENIED,
            id="cr",
        ),
    ],
)
def test_outcomes(obj: Object, known: ClusterFacts, params: Any, expected: tuple[str, bool] | None) -> None:
    found = [(violation.at_most, violation.is_unknown) for violation in violations(obj, known, **params)]
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("obj", "known", "path", "message"),
    [
        (
            deployment(),
            CLUSTER,
            CLAIM_PATH,
            (
                "volume 'data' is tied to one zone, but its pods may run in 3 zones: a, b, c "
                "(claim data → class gp3 → ebs.csi.aws.com → one zone): give the claim class zrs, "
                f"or pin the pods to one zone (nodeSelector {ZONE}: a)"
            ),
        ),
        (
            deployment(),
            cluster(claim(bound="pv"), volume("a")),
            CLAIM_PATH,
            (
                "volume 'data' is tied to zone a, but its pods may run in 3 zones: a, b, c "
                "(claim data → volume pv → node affinity → zone a): pin the pods to the volume's zone "
                f"(nodeSelector {ZONE}: a), or move the data to a claim of class zrs, by a copy that is made while the "
                "pods are down"
            ),
        ),
        (
            deployment(),
            cluster(claim("regional")),
            CLAIM_PATH,
            (
                "volume 'data' is in 2 zones, but its pods may run in 3 zones: a, b, c (claim data → class regional → "
                "pd.csi.storage.gke.io → replication-type regional-pd → 2 zones): give the claim class zrs, or pin the "
                f"pods to one zone (nodeSelector {ZONE}: a)"
            ),
        ),
        (
            stateful_set(),
            cluster(nodes=[node("a1", "a")]),
            TEMPLATE_PATH,
            (
                "volume 'data' is tied to one zone, and only zone a is seen today (template data → class gp3 → "
                "ebs.csi.aws.com → one zone): set storageClassName to class regional, or pin the pods to one zone "
                f"(nodeSelector {ZONE}: a)"
            ),
        ),
        (
            deployment(),
            facts_of(NODES),
            CLAIM_PATH,
            "cannot tell whether volume 'data' is tied to a zone (claim data, which is not in the cluster)",
        ),
        (
            deployment(nodeSelector={ZONE: "a"}),
            CLUSTER,
            CLAIM_PATH,
            (
                "volume 'data' is tied to one zone, and its pods to zone a "
                "(claim data → class gp3 → ebs.csi.aws.com → one zone)"
            ),
        ),
    ],
)
def test_messages(obj: Object, known: ClusterFacts, path: str, message: str) -> None:
    assert [(violation.path, violation.subject, violation.message) for violation in violations(obj, known)] == [
        (path, "data", message)
    ]


def test_what_the_server_shall_look_up() -> None:
    assert violations(deployment(), facts(*NODES))[0].unseen == (FactReference(CLAIMS, "shop", "data"),)
    assert violations(deployment(), facts(*NODES, claim("x")))[0].unseen == (FactReference(STORAGE_CLASSES, "", "x"),)


def test_the_value_tells_another_chain() -> None:
    first, second = violations(deployment())[0], violations(deployment(), cluster(claim(bound="pv"), volume("a")))[0]
    assert first.value == "claim data → class gp3 → ebs.csi.aws.com → one zone"
    assert first.value != second.value


LABELS = {"labels": {"app.kubernetes.io/name": "prometheus"}}
TO_ZRS = Replacement(storage_class="zrs")
TO_EMPTY_DIR = Replacement(empty_dir=True)


def moving(**spec: Any) -> Object:
    obj = claim(**LABELS)
    return {**obj, "spec": {**obj["spec"], **spec}}


@pytest.mark.parametrize(
    ("obj", "params", "expected"),
    [
        pytest.param(claim(**LABELS), {}, ("patch", None), id="labelled"),
        pytest.param(
            claim(**LABELS), {"replacement": TO_ZRS}, ("patch", Set("spec.storageClassName", "zrs")), id="replaced"
        ),
        pytest.param(claim(None, **LABELS), {"replacement": TO_ZRS}, ("warn", None), id="no-default-class"),
        pytest.param(claim(**LABELS), {"replacement": Replacement("gp3")}, ("patch", None), id="the-same-class"),
        pytest.param(claim(**LABELS), {"replacement": Replacement("gp2")}, ("patch", None), id="a-zonal-replacement"),
        pytest.param(claim(**LABELS), {"replacement": TO_EMPTY_DIR}, ("patch", None), id="never-an-empty-dir"),
        pytest.param(claim(bound="pv", **LABELS), {"replacement": TO_ZRS}, ("patch", None), id="bound"),
        pytest.param(
            claim(**LABELS, annotations={"volume.beta.kubernetes.io/storage-class": "gp3"}),
            {"replacement": TO_ZRS},
            ("patch", None),
            id="the-old-annotation-would-win",
        ),
        pytest.param(claim("zrs", **LABELS), {}, None, id="spans-zones"),
        pytest.param(claim(), {}, None, id="not-labelled"),
        pytest.param(claim(), {"workloads": "all"}, ("patch", None), id="all"),
        pytest.param(
            claim(labels={"a": "b"}), {"workloads": Workloads(labels=({"a": "b"},))}, ("patch", None), id="own"
        ),
        pytest.param(
            claim(**LABELS, ownerReferences=[{"kind": "Pod", "controller": True}]),
            {"replacement": TO_ZRS},
            ("patch", Set("spec.storageClassName", "zrs")),
            id="a-typed-owner-buys-nothing",
        ),
        pytest.param(
            moving(dataSource={"kind": "VolumeSnapshot"}), {"replacement": TO_ZRS}, ("patch", None), id="data"
        ),
        pytest.param(moving(dataSourceRef={"kind": "X"}), {"replacement": TO_ZRS}, ("patch", None), id="data-by-ref"),
        pytest.param(moving(selector={"matchLabels": {}}), {"replacement": TO_ZRS}, ("warn", None), id="selector"),
        pytest.param(
            moving(dataSource=None, selector=None),
            {"replacement": TO_ZRS},
            ("patch", Set("spec.storageClassName", "zrs")),
            id="no-source",
        ),
    ],
)
def test_claims(obj: Object, params: Any, expected: tuple[str, Set | None] | None) -> None:
    known = cluster(storage_class("gp2"), volume("a"))
    found = [(violation.at_most, violation.fix) for violation in violations(obj, known, **params)]
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize("mode", ["patch", "deny"])
def test_a_claim_is_patched_whatever_the_mode_from_patch_up(mode: str) -> None:
    replaced = f"mode: {mode}\npolicies: {{zonal-volumes: {{params: {{replacement: {{storageClass: zrs}}}}}}}}"
    for stage in ("mutate", "check"):
        decision = decide(request(claim(**LABELS)), cluster(), config(replaced), today=TODAY, stage=stage)
        assert [(operation["path"], operation["value"]) for operation in decision.patch] == [
            ("/spec/storageClassName", "zrs")
        ], stage
        assert [verdict.outcome for verdict in decision.verdicts] == ["patched"]


def test_a_claim_is_judged_at_its_creation_alone() -> None:
    obj = claim(**LABELS)
    assert list(examine(request(obj, obj), CLUSTER, Params(replacement=TO_ZRS))) == []


@pytest.mark.parametrize(
    ("user", "count"),
    [
        ("system:serviceaccount:kube-system:statefulset-controller", 0),
        ("system:serviceaccount:kube-system:ephemeral-volume-controller", 0),
        ("system:kube-controller-manager", 0),
        ("system:serviceaccount:shop:statefulset-controller", 1),
        ("jane", 1),
    ],
)
def test_a_claim_that_kubernetes_makes_was_judged_at_its_template(user: str, count: int) -> None:
    assert len(list(examine(request(claim(**LABELS), user=user), CLUSTER, Params(replacement=TO_ZRS)))) == count


def references(*names: str) -> list[FactReference]:
    return [FactReference(CLAIMS, "shop", name) for name in names]


def absent(*names: str) -> ClusterFacts:
    return CLUSTER.with_facts([], absent=references(*names))


def from_template(**spec: Any) -> Object:
    obj = stateful_set()
    obj["spec"]["volumeClaimTemplates"][0]["spec"] |= spec
    return obj


EMPTY_DIR = (
    Set("spec.volumeClaimTemplates", []),
    Set("spec.template.spec.volumes", [{"name": "data", "emptyDir": {"sizeLimit": "50Gi"}}]),
)


@pytest.mark.parametrize(
    ("obj", "known", "replacement", "fix", "unseen"),
    [
        pytest.param(stateful_set(), CLUSTER, TO_ZRS, Set(TEMPLATE_PATH, "zrs"), [], id="class"),
        pytest.param(stateful_set(), CLUSTER, Replacement("gp3"), None, [], id="the-same-class"),
        pytest.param(
            stateful_set(),
            cluster(claim(name="data-prometheus-0", bound="pv"), volume("a")),
            TO_ZRS,
            None,
            [],
            id="an-existing-claim-keeps-its-class",
        ),
        pytest.param(stateful_set(), CLUSTER, TO_EMPTY_DIR, None, ["data-prometheus-0"], id="not-looked-up"),
        pytest.param(stateful_set(), absent("data-prometheus-0"), TO_EMPTY_DIR, EMPTY_DIR, [], id="empty-dir"),
        pytest.param(
            stateful_set(replicas=2),
            absent("data-prometheus-0"),
            TO_EMPTY_DIR,
            None,
            ["data-prometheus-1"],
            id="one-of-two",
        ),
        pytest.param(
            stateful_set(),
            absent("data-prometheus-0").with_objects([claim(name="data-prometheus-0")], KINDS),
            TO_EMPTY_DIR,
            None,
            [],
            id="it-exists",
        ),
        pytest.param(stateful_set(replicas=11), CLUSTER, TO_EMPTY_DIR, None, [], id="too-many-look-ups"),
        pytest.param(stateful_set(size=None), absent("data-prometheus-0"), TO_EMPTY_DIR, None, [], id="no-size"),
        pytest.param(
            stateful_set(size=None),
            absent("data-prometheus-0"),
            Replacement(empty_dir=True, size_limit="9Gi"),
            (EMPTY_DIR[0], Set("spec.template.spec.volumes", [{"name": "data", "emptyDir": {"sizeLimit": "9Gi"}}])),
            [],
            id="size-from-the-parameters",
        ),
        pytest.param(
            from_template(volumeMode="Block"), absent("data-prometheus-0"), TO_EMPTY_DIR, None, [], id="block"
        ),
        pytest.param(
            from_template(volumeMode="Filesystem"), absent("data-prometheus-0"), TO_EMPTY_DIR, EMPTY_DIR, [], id="files"
        ),
        pytest.param(
            from_template(volumeMode="Block"), CLUSTER, TO_ZRS, Set(TEMPLATE_PATH, "zrs"), [], id="block-class"
        ),
        pytest.param(
            from_template(dataSource={"name": "s"}), absent("data-prometheus-0"), TO_EMPTY_DIR, None, [], id="data"
        ),
        pytest.param(from_template(volumeName="pv"), cluster(volume("a")), TO_ZRS, None, [], id="a-volume-by-name"),
        pytest.param(deployment(), absent("data"), TO_EMPTY_DIR, None, [], id="never-a-volume-that-names-a-claim"),
        pytest.param(deployment(), CLUSTER, TO_ZRS, None, [], id="the-claim-is-patched-where-it-is-created"),
        pytest.param(
            custom("Prometheus", {"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}}),
            CLUSTER,
            TO_ZRS,
            Set("spec.storage.volumeClaimTemplate.spec.storageClassName", "zrs"),
            [],
            id="cr-class",
        ),
        pytest.param(
            custom("Prometheus", {"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}}),
            absent("prometheus-main-db-prometheus-main-0"),
            Replacement(empty_dir=True, size_limit="9Gi"),
            (Set("spec.storage", {"emptyDir": {"sizeLimit": "9Gi"}}),),
            [],
            id="cr-empty-dir",
        ),
    ],
)
def test_fixes(obj: Object, known: ClusterFacts, replacement: Replacement, fix: Any, unseen: list[str]) -> None:
    (violation,) = violations(obj, known, replacement=replacement)
    assert violation.fix == fix
    assert list(violation.unseen) == references(*unseen)


def test_nothing_is_fixed_after_creation() -> None:
    obj = stateful_set()
    found = list(examine(request(obj, obj), absent("data-prometheus-0"), Params(replacement=TO_ZRS)))
    assert [(violation.fix, violation.at_most) for violation in found] == [(None, "deny")]


@pytest.mark.parametrize(
    ("replacement", "wanted"),
    [
        ("zrs-2", "set storageClassName to class zrs-2, or pin"),
        ("gp3", "set storageClassName to class zrs, or pin"),
        ("gp2", "set storageClassName to class zrs, or pin"),
    ],
    ids=["replaced", "the-same-class", "a-zonal-one"],
)
def test_only_a_class_that_helps_is_advised(replacement: str, wanted: str) -> None:
    other = {**ZRS, "metadata": {"name": "zrs-2"}}
    known = facts(*NODES, storage_class(), storage_class("gp2"), ZRS, other)
    (violation,) = violations(stateful_set(), known, replacement=Replacement(replacement))
    assert f": {wanted}" in violation.message


@pytest.mark.parametrize(
    ("replacement", "known"),
    [("{storageClass: zrs}", CLUSTER), ("{emptyDir: true}", absent("data-prometheus-0", "wal-prometheus-0"))],
)
def test_the_patched_object_passes(replacement: str, known: ClusterFacts) -> None:
    obj = stateful_set()
    second = {**obj["spec"]["volumeClaimTemplates"][0], "metadata": {"name": "wal"}}
    obj["spec"]["volumeClaimTemplates"].append(second)
    mend = config(f"policies: {{zonal-volumes: {{mode: patch, params: {{replacement: {replacement}}}}}}}")
    decision = decide(request(obj), known, mend, today=TODAY)
    assert decision.allowed
    assert {verdict.outcome for verdict in decision.verdicts} == {"patched"}
    assert decision.object is not None
    again = decide(request(decision.object), known, mend, today=TODAY)
    assert (again.patch, again.verdicts) == ((), ())


@pytest.mark.parametrize("count", [8, 9, 12])
def test_all_templates_become_empty_dirs_at_once(count: int) -> None:
    """More of them than the engine has rounds."""
    obj = stateful_set()
    (template,) = obj["spec"]["volumeClaimTemplates"]
    names = [f"data-{number}" for number in range(count)]
    obj["spec"]["volumeClaimTemplates"] = [{**template, "metadata": {"name": name}} for name in names]
    mend = config("policies: {zonal-volumes: {mode: patch, params: {replacement: {emptyDir: true}}}}")
    decision = decide(request(obj), absent(*(f"{name}-prometheus-0" for name in names)), mend, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == ["patched"] * count
    assert [operation["path"] for operation in decision.patch] == [
        "/spec/volumeClaimTemplates",
        "/spec/template/spec/volumes",
    ]
    assert decision.patch[1]["value"] == [{"name": name, "emptyDir": {"sizeLimit": "50Gi"}} for name in names]


@pytest.mark.parametrize(
    ("old", "outcome"),
    [
        pytest.param("data", "warned", id="as-before"),
        pytest.param("other", "denied", id="another-claim"),
        pytest.param("zrs", "denied", id="it-was-fine"),
    ],
)
def test_the_ratchet(old: str, outcome: str) -> None:
    known = cluster(claim(), claim("zrs", "zrs"), claim(name="other", bound="pv"), volume("a"))
    before = deployment({"persistentVolumeClaim": {"claimName": old}})
    decision = decide(request(deployment(), before), known, config(ONLY), today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == [outcome]


@pytest.mark.parametrize(
    ("obj", "outcomes"),
    [
        pytest.param(deployment(), ["denied"], id="workload"),
        pytest.param(claim(**LABELS), ["warned"], id="claim"),
        pytest.param(deployment(nodeSelector={ZONE: "a"}), ["audited"], id="pinned"),
    ],
)
def test_what_becomes_of_it_by_default(obj: Object, outcomes: list[str]) -> None:
    decision = decide(request(obj), CLUSTER, config(ONLY), today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == outcomes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replacement: {}", "name either storageClass or emptyDir: true"),
        ("replacement: {storageClass: x, emptyDir: true}", "name either storageClass or emptyDir: true"),
        ("replacement: {storageClass: x, sizeLimit: 1Gi}", "sizeLimit belongs to emptyDir: true"),
        ("workloads: some", "'some' is not one of monitoring, all"),
    ],
)
def test_parameters_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        config(f"policies: {{zonal-volumes: {{params: {{{text}}}}}}}")


# --- real charts

THREE_ZONES = [
    *(node(name, f"us-east-1{name}") for name in "abc"),
    storage_class("gp2")
    | {"metadata": {"name": "gp2", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
    *(storage_class(name) for name in ("gp3", "standard", "fast", "thin-disk", "managedssd")),
]
NOT_MONITORING = ("jupyterhub/", "kubernetes-examples/")
CORPUS = SHARED / "corpus"


def judged(path: Path) -> set[tuple[str, str]]:
    """The claims and templates that are flagged in a chart, as pvc.tsv names them."""
    manifests, _ = read_manifests(path.read_bytes(), str(path))
    known = facts_of(THREE_ZONES).with_objects((manifest.object for manifest in manifests), KINDS)
    flagged = set()
    for manifest in manifests:
        obj = manifest.object
        for violation in examine(request(obj), known, Params()):
            if violation.at_most == "audit":
                continue
            assert not violation.is_unknown
            assert violation.at_most == ("patch" if obj["kind"] == "PersistentVolumeClaim" else "deny")
            chain = str(violation.value).split(" → ")[0]
            kind, _, name = chain.partition(" ")
            if kind == "template":
                flagged.add((f"{obj['kind']}/{obj['metadata']['name']}", name))
            else:
                flagged.add(("-", name if kind == "claim" else violation.subject))
    return flagged


@pytest.mark.skipif(not CORPUS.exists(), reason="needs ../shared/corpus")
def test_the_corpus() -> None:
    with (CORPUS / "pvc.tsv").open() as table:
        rows = [row for row in csv.DictReader(table, delimiter="\t") if not row["file"].startswith(NOT_MONITORING)]
    # The table calls an operator's template "storage"; the operator itself calls it prometheus-NAME-db.
    operated = ("Prometheus/", "Alertmanager/")
    expected = {(row["file"], row["owner"], "" if row["owner"].startswith(operated) else row["name"]) for row in rows}
    found = {
        (str(path.relative_to(CORPUS)), owner, "" if owner.startswith(operated) else name)
        for path in CORPUS.glob("*/*.yaml")
        for owner, name in judged(path)
    }
    assert found == expected


@pytest.mark.skipif(not (SHARED / "recordings").exists(), reason="needs ../shared/recordings")
def test_the_recorded_prometheus_on_a_bound_zonal_volume() -> None:
    scenario = "storage: prometheus on a bound zonal volume"
    reviews = [
        recording["review"]["request"] for recording in recordings("people.jsonl") if recording["scenario"] == scenario
    ]
    bound = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    bound |= next(review["object"] for review in reviews if review["kind"]["kind"] == "PersistentVolumeClaim")
    known = facts_of([*THREE_ZONES, volume("us-east-1a", name="pv-a"), bound])
    found = [
        (review["kind"]["kind"], violation.value)
        for review in reviews
        for violation in examine(_recorded(review), known, Params())
    ]
    chain = "claim prometheus-server → volume pv-a → node affinity → zone us-east-1a"
    workloads = [review["kind"]["kind"] for review in reviews if review["kind"]["kind"] != "PersistentVolumeClaim"]
    assert workloads
    assert found == [(kind, chain) for kind in workloads]


def _recorded(review: Object) -> AdmissionRequest:
    kind = review["kind"]
    return AdmissionRequest(
        review["operation"],
        kind["group"],
        kind["version"],
        kind["kind"],
        review["namespace"],
        review.get("name", ""),
        review["object"],
    )
