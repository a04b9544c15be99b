"""What zonal-volumes advises in a situation: what fits it stands first, with what has to be set, deleted and typed."""

from __future__ import annotations

from typing import Any

import pytest

from policies.zonal_volumes.policy import Params, examine
from tests.builders import container, custom, facts, request, workload
from tests.test_zonal_volumes import ZONE, deployment, node, stateful_set, volume
from tests.test_zonal_volumes import claim as named_claim
from webhook.objects.facts import ClusterFacts
from webhook.policy import Object, Set

SELECTOR = f'nodeSelector["{ZONE}"]'
POD_SELECTOR = f"spec.template.spec.{SELECTOR}"
TEMPLATE = "spec.volumeClaimTemplates[0].spec.storageClassName"
NODES = [node("a1", "a"), node("b1", "b"), node("c1", "c")]


def storage_class(name: str, provisioner: str, mode: str = "WaitForFirstConsumer", **parameters: str) -> Object:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    return {**kind, "provisioner": provisioner, "volumeBindingMode": mode, "parameters": parameters}


GP3, EFS = storage_class("gp3", "ebs.csi.aws.com"), storage_class("efs", "efs.csi.aws.com")
EARLY = storage_class("early", "ebs.csi.aws.com", "Immediate")
ZRS = storage_class("zrs", "disk.csi.azure.com", skuName="Premium_ZRS")
REGIONAL = storage_class("regional", "pd.csi.storage.gke.io", **{"replication-type": "regional-pd"})


def cluster(*objects: Object) -> ClusterFacts:
    return facts(*NODES, GP3, EARLY, *objects)


def claim(name: str = "data", class_name: str = "gp3", bound: str | None = None) -> Object:
    return named_claim(class_name, name, bound)


def grafana(**metadata: Any) -> Object:
    mounted = container("grafana", "grafana/grafana:12.0.0", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    obj = workload("Deployment", mounted, name="grafana", volumes=deployment()["spec"]["template"]["spec"]["volumes"])
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


def advised(obj: Object, known: ClusterFacts, old: Object | None = None) -> tuple[str, list[Set], list[str]]:
    """The advice in words, and what the first of it sets and deletes."""
    (violation,) = examine(request(obj, old), known, Params())
    return violation.message.partition("): ")[2], list(violation.advice), list(violation.deletes)


PIN = f"pin the pods to one zone (nodeSelector {ZONE}: a)"
STAY = f"pin the pods to the volume's zone (nodeSelector {ZONE}: b)"
CLAIM = "persistentvolumeclaim/data"
COPY = "by a copy that is made while the pods are down"


@pytest.mark.parametrize(
    ("obj", "known", "words", "sets", "deletes"),
    [
        pytest.param(
            deployment(),
            cluster(ZRS, claim(bound="pv"), volume("b")),
            f"{STAY}, or move the data to a claim of class zrs, {COPY}",
            [Set(POD_SELECTOR, "b")],
            [],
            id="a-bound-claim-holds-data",
        ),
        pytest.param(
            deployment(),
            cluster(REGIONAL, claim(class_name="regional")),
            PIN,
            [Set(POD_SELECTOR, "a")],
            [],
            id="its-own-class-of-two-zones-is-no-remedy",
        ),
        pytest.param(
            deployment(),
            cluster(claim(bound="pv"), volume("b")),
            STAY,
            [Set(POD_SELECTOR, "b")],
            [],
            id="nowhere-to-move",
        ),
        pytest.param(
            deployment(),
            cluster(ZRS, claim()),
            f"give the claim class zrs, or {PIN}",
            [Set("spec.storageClassName", "zrs", CLAIM)],
            [CLAIM],
            id="an-unbound-claim-is-made-anew",
        ),
        pytest.param(
            deployment(),
            cluster(ZRS, claim(class_name="early")),
            f"{PIN} and use a class that binds WaitForFirstConsumer, or give the claim class zrs",
            [Set(POD_SELECTOR, "a")],
            [],
            id="what-binds-by-itself-is-not-deleted",
        ),
        pytest.param(deployment(), cluster(claim()), PIN, [Set(POD_SELECTOR, "a")], [], id="no-class-spans-zones"),
        pytest.param(
            deployment(), cluster(EFS, claim()), PIN, [Set(POD_SELECTOR, "a")], [], id="no-file-share-for-prometheus"
        ),
        pytest.param(
            grafana(),
            cluster(EFS, claim()),
            f"give the claim class efs, or {PIN}",
            [Set("spec.storageClassName", "efs", CLAIM)],
            [CLAIM],
            id="a-file-share-for-others",
        ),
        pytest.param(
            stateful_set(),
            cluster(ZRS),
            f"set storageClassName to class zrs, or {PIN}",
            [Set(TEMPLATE, "zrs")],
            [],
            id="a-template",
        ),
        pytest.param(
            stateful_set(),
            cluster(REGIONAL),
            f"set storageClassName to class regional, or {PIN}",
            [Set(TEMPLATE, "regional")],
            [],
            id="two-of-three-zones-are-better-than-one",
        ),
        pytest.param(
            stateful_set(replicas=2),
            cluster(ZRS, claim("data-prometheus-0"), claim("data-prometheus-1")),
            f"make the claim anew with class zrs, or {PIN}",
            [Set(TEMPLATE, "zrs")],
            ["persistentvolumeclaim/data-prometheus-0", "persistentvolumeclaim/data-prometheus-1"],
            id="a-template's-unbound-claims",
        ),
        pytest.param(
            stateful_set(replicas=2),
            cluster(
                claim("data-prometheus-0", bound="pv"),
                volume("b"),
                claim("data-prometheus-1", bound="pv-c"),
                volume("c", name="pv-c"),
            ),
            "its claims are in several places: make a workload for each, pinned to where its claim is",
            [],
            [],
            id="no-pin-keeps-pods-in-two-zones",
        ),
    ],
)
def test_what_fits_comes_first(
    obj: Object, known: ClusterFacts, words: str, sets: list[Set], deletes: list[str]
) -> None:
    assert advised(obj, known) == (words, sets, deletes)


def test_a_claim_that_pods_may_use_is_not_deleted_first() -> None:
    words, sets, deletes = advised(deployment(), cluster(ZRS, claim()), deployment())
    assert (words, sets, deletes) == (f"{PIN}, or give the claim class zrs", [Set(POD_SELECTOR, "a")], [])


@pytest.mark.parametrize(
    ("kind", "spec", "words", "sets"),
    [
        pytest.param(
            "PrometheusAgent",
            {},
            f"use an ephemeral volume, since an agent sends its series elsewhere, or {PIN}",
            [Set("spec.storage", {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}})],
            id="agent",
        ),
        pytest.param(
            "Prometheus",
            {"remoteWrite": [{"url": "https://metrics.example.com"}]},
            f"{PIN}, or use an ephemeral volume, if what has been sent elsewhere may be lost here",
            [Set(f"spec.{SELECTOR}", "a")],
            id="remote-write",
        ),
        pytest.param("Prometheus", {}, PIN, [Set(f"spec.{SELECTOR}", "a")], id="keeps-its-own"),
    ],
)
def test_an_ephemeral_volume_where_its_data_is_elsewhere(kind: str, spec: Object, words: str, sets: list[Set]) -> None:
    storage = {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}
    assert advised(custom(kind, {"storage": storage, **spec}), cluster()) == (words, sets, [])


def test_volumes_share_a_pin() -> None:
    """A new one is made where the other one is, whatever zone would else come first."""
    obj = stateful_set()
    obj["spec"]["template"]["spec"]["volumes"] = deployment()["spec"]["template"]["spec"]["volumes"]
    obj["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = "new"
    found = list(examine(request(obj), cluster(claim(bound="pv"), volume("b")), Params()))
    assert [violation.advice for violation in found] == [(Set(POD_SELECTOR, "b"),)] * 2


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        pytest.param(
            cluster(claim()),
            f'nodeSelector["{ZONE}"]: a (the class: persistence.storageClassName)',
            id="pin, and where a better class would go",
        ),
        pytest.param(cluster(claim(bound="pv"), volume("b")), f'nodeSelector["{ZONE}"]: b', id="pin, class is stored"),
        pytest.param(cluster(ZRS, claim()), "persistence.storageClassName: zrs", id="class"),
    ],
)
def test_the_helm_value_comes_with_its_value(known: ClusterFacts, hint: str) -> None:
    labels = {"helm.sh/chart": "grafana-9.2.0", "app.kubernetes.io/instance": "grafana"}
    obj = grafana(labels=labels)
    pod = obj["spec"]["template"]["spec"]
    pod["volumes"] = [{**pod["volumes"][0], "name": "storage"}]
    (violation,) = examine(request(obj), known, Params())
    assert violation.hint == hint


def test_the_old_annotation_is_what_has_to_be_set() -> None:
    annotation = "volume.beta.kubernetes.io/storage-class"
    obj = stateful_set()
    obj["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"] = {annotation: "gp3"}
    _, sets, _ = advised(obj, cluster(ZRS))
    assert sets == [Set(f'spec.volumeClaimTemplates[0].metadata.annotations["{annotation}"]', "zrs")]


def test_of_a_claim_by_itself_the_helm_value_is_the_class() -> None:
    labels = {
        "helm.sh/chart": "grafana-9.2.0",
        "app.kubernetes.io/instance": "grafana",
        "app.kubernetes.io/name": "grafana",
    }
    stored = claim("grafana")
    obj = {**stored, "metadata": {**stored["metadata"], "labels": labels}}
    (violation,) = examine(request(obj), cluster(), Params())
    assert violation.hint == "persistence.storageClassName (the class)"
