"""Prometheus and its data, and namespaces with LimitRanges, on a cluster of three zones."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.builders import SHARED
from tests.e2e.followed import denials, follow, key_of
from tests.e2e.guarded import Guarded, Object, claim, deployment, memory_of, volume
from tests.e2e.texts import PIN, small_limit, small_request, told, zonal
from tests.loopback import eventually

needs_crds = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the Prometheus operator's CRDs beside the checkout")
ENOUGH = {"requests": {"memory": "4Gi"}, "limits": {"memory": "6Gi"}}
TOO_LITTLE = {"requests": {"memory": "2Gi"}, "limits": {"memory": "3Gi"}}
DRY_RUN = ("--dry-run=server",)
AGAIN = "; applying it again fails until the manifest says the same"
TOLD_TOO_LITTLE = [small_request("2Gi"), small_limit("3Gi")]


def prometheus(namespace: str, resources: Object = ENOUGH, claim_name: str = "", **spec: Any) -> Object:
    container = {"name": "prometheus", "image": "prom/prometheus:v3.1.0", "resources": resources}
    if claim_name:
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}]
    return deployment("prometheus", namespace, container, **spec)


def prometheus_resource(namespace: str, **spec: Any) -> Object:
    metadata = {"name": "main", "namespace": namespace}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata, "spec": spec}


def with_template(obj: Object, namespace: str) -> Object:
    """The Deployment as a StatefulSet that keeps its data on claims of its own, of a class that is tied to a zone."""
    template = {"metadata": {"name": "data"}, "spec": claim("data", namespace)["spec"]}
    return obj | {"kind": "StatefulSet", "spec": obj["spec"] | {"volumeClaimTemplates": [template]}}


class TestPrometheusMemory:
    def test_too_little(self, cluster: Guarded, namespace: str) -> None:
        done = cluster.try_apply(prometheus(namespace, TOO_LITTLE))
        assert (done.returncode, told(done.stderr)) == (1, TOLD_TOO_LITTLE)

    def test_enough(self, cluster: Guarded, namespace: str) -> None:
        assert cluster.apply(prometheus(namespace)) == ""
        cluster.running(namespace)

    def test_an_agent_is_left_alone(self, cluster: Guarded, namespace: str) -> None:
        agent = prometheus(namespace, TOO_LITTLE)
        agent["spec"]["template"]["spec"]["containers"][0]["args"] = ["--agent"]
        assert cluster.apply(agent) == ""
        cluster.running(namespace)

    @needs_crds
    def test_custom_resource(self, cluster: Guarded, namespace: str) -> None:
        done = cluster.try_apply(prometheus_resource(namespace, resources=TOO_LITTLE))
        assert (done.returncode, told(done.stderr)) == (1, TOLD_TOO_LITTLE)
        assert cluster.apply(prometheus_resource(namespace, resources=ENOUGH)) == ""

    def test_as_a_patch(self, cluster: Guarded, namespace: str) -> None:
        with cluster.server.configured("policies: {prometheus-memory: {mode: patch}}"):
            assert ": patched to limits.memory=6Gi, requests.memory=4Gi" in cluster.apply(
                prometheus(namespace, TOO_LITTLE)
            )
        assert [memory_of(pod) for pod in cluster.running(namespace)] == [("4Gi", "6Gi")]


WARNED = "Warning: Deployment prometheus: zonal-volumes: "


class TestZonalVolumes:
    def bound(self, cluster: Guarded, namespace: str, zones: list[str], class_name: str = "ebs") -> None:
        cluster.apply(volume(namespace, namespace, "data", zones, class_name), claim("data", namespace, class_name))
        eventually(lambda: cluster.get("pvc", "data", namespace)["status"].get("phase") == "Bound", "it doesn't bind")

    def test_a_volume_of_one_zone(self, cluster: Guarded, namespace: str) -> None:
        self.bound(cluster, namespace, ["zone-a"])
        done = cluster.try_apply(prometheus(namespace, claim_name="data"))
        chain = f"claim data → volume {namespace} → node affinity → zone zone-a"
        advice = "pin the pods to the volume's zone (nodeSelector topology.kubernetes.io/zone: zone-a)"
        assert (done.returncode, told(done.stderr)) == (1, [zonal("zone zone-a", chain, advice)])

    def test_pinned_to_the_volume_s_zone(self, cluster: Guarded, namespace: str) -> None:
        self.bound(cluster, namespace, ["zone-b"])
        pinned = prometheus(namespace, claim_name="data", nodeSelector={"topology.kubernetes.io/zone": "zone-b"})
        assert cluster.apply(pinned) == ""
        cluster.running(namespace)

    def test_a_disk_in_every_zone(self, cluster: Guarded, namespace: str) -> None:
        self.bound(cluster, namespace, ["zone-a", "zone-b", "zone-c"])
        assert cluster.apply(prometheus(namespace, claim_name="data")) == ""
        cluster.running(namespace)

    def test_a_disk_in_two_of_three_zones(self, cluster: Guarded, namespace: str) -> None:
        self.bound(cluster, namespace, ["zone-a", "zone-b"])
        warning = cluster.apply(prometheus(namespace, claim_name="data"))
        assert warning.startswith(f"{WARNED}volume 'data' is in 2 zones zone-a, zone-b, but its pods may run in 3")
        cluster.running(namespace)

    def test_an_unbound_claim_of_a_zonal_class(self, cluster: Guarded, namespace: str) -> None:
        cluster.apply(claim("data", namespace))
        done = cluster.try_apply(prometheus(namespace, claim_name="data"))
        chain = "claim data → class ebs → ebs.csi.aws.com → one zone"
        assert (done.returncode, told(done.stderr)) == (1, [zonal("one zone", chain, PIN)])

    def test_a_regional_class(self, cluster: Guarded, namespace: str) -> None:
        cluster.apply(claim("data", namespace, "ebs-regional"))
        assert cluster.apply(prometheus(namespace, claim_name="data")) == ""

    def test_a_claim_that_is_not_there(self, cluster: Guarded, namespace: str) -> None:
        warning = cluster.apply(prometheus(namespace, claim_name="lost"))
        assert warning.startswith(f"{WARNED}cannot tell whether volume 'data' is tied to a zone (claim lost")

    def test_a_claim_made_in_the_same_breath(self, cluster: Guarded, namespace: str) -> None:
        """Ten times, since the snapshot may hold the claim by chance."""
        for index in range(10):
            done = cluster.try_apply(
                claim(f"data-{index}", namespace), prometheus(namespace, claim_name=f"data-{index}")
            )
            assert (done.returncode, len(told(done.stderr))) == (1, 1)
            assert "→ class ebs → ebs.csi.aws.com → one zone" in done.stderr

    def test_templates(self, cluster: Guarded, namespace: str) -> None:
        stateful = with_template(prometheus(namespace), namespace)
        done = cluster.try_apply(stateful)
        chain = "template data → class ebs → ebs.csi.aws.com → one zone"
        assert (done.returncode, told(done.stderr)) == (1, [zonal("one zone", chain, PIN)])

    @needs_crds
    def test_custom_resource(self, cluster: Guarded, namespace: str) -> None:
        storage = {"volumeClaimTemplate": {"spec": claim("data", namespace)["spec"]}}
        done = cluster.try_apply(prometheus_resource(namespace, resources=ENOUGH, storage=storage))
        assert done.returncode == 1
        assert "→ class ebs → ebs.csi.aws.com → one zone" in done.stderr

    def test_what_is_no_monitoring_may(self, cluster: Guarded, namespace: str) -> None:
        cluster.apply(claim("data", namespace))
        web = {"name": "web", "image": "nginx:1.27", "resources": ENOUGH}
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        assert cluster.apply(deployment("web", namespace, web, volumes=volumes)) == ""

    def test_a_replacement_is_put_into_templates_and_claims(self, cluster: Guarded, namespace: str) -> None:
        stateful = with_template(prometheus(namespace), namespace)
        labelled = claim("history", namespace, labels={"app.kubernetes.io/name": "prometheus"})
        replacement = "params: {replacement: {storageClass: ebs-regional}}"
        with cluster.server.configured(f"policies: {{zonal-volumes: {{mode: patch, otherwise: deny, {replacement}}}}}"):
            warnings = cluster.apply(stateful, labelled).splitlines()
            again = cluster.try_apply(stateful, labelled)
        assert [line.rpartition(": patched to ")[2] for line in warnings] == [
            f"spec.volumeClaimTemplates[0].spec.storageClassName=ebs-regional{AGAIN}",
            f"spec.storageClassName=ebs-regional{AGAIN}",
        ]
        assert again.returncode == 1
        assert "updates to statefulset spec for fields other than" in again.stderr
        assert "spec is immutable after creation" in again.stderr
        for name in ("history", "data-prometheus-0"):
            eventually(lambda name=name: cluster.try_kubectl("get", "pvc", name, "-n", namespace).returncode == 0)
            assert cluster.get("pvc", name, namespace)["spec"]["storageClassName"] == "ebs-regional"

    def test_an_empty_dir_instead_of_a_new_claim(self, cluster: Guarded, namespace: str) -> None:
        stateful = with_template(prometheus(namespace), namespace)
        replacement = "params: {replacement: {emptyDir: true}}"
        with cluster.server.configured(f"policies: {{zonal-volumes: {{mode: patch, {replacement}}}}}"):
            warning = cluster.apply(stateful)
            again = cluster.try_apply(stateful)
        assert warning.endswith(f": patched to volumeClaimTemplates, template.spec.volumes in spec{AGAIN}\n")
        assert (again.returncode, "updates to statefulset spec for fields other than" in again.stderr) == (1, True)
        mended = copy.deepcopy(stateful)
        del mended["spec"]["volumeClaimTemplates"]
        mended["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {"sizeLimit": "8Gi"}}]
        assert cluster.apply(mended) == ""
        (pod,) = cluster.running(namespace)
        volumes = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "data"]
        assert volumes == [{"name": "data", "emptyDir": {"sizeLimit": "8Gi"}}]
        assert json.loads(cluster.kubectl("get", "pvc", "-n", namespace, "-o", "json"))["items"] == []

    def test_a_template_that_names_no_class(self, cluster: Guarded, namespace: str) -> None:
        """kubectl sends the list as a whole, and so without the class that it was given."""
        stateful = with_template(prometheus(namespace), namespace)
        del stateful["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"]
        cluster.kubectl("annotate", "storageclass", "ebs", "storageclass.kubernetes.io/is-default-class=true")
        replacement = "params: {replacement: {storageClass: ebs-regional}}"
        try:
            with cluster.server.configured(f"policies: {{zonal-volumes: {{mode: patch, {replacement}}}}}"):
                warning = cluster.apply(stateful)
                again = cluster.try_apply(stateful)
        finally:
            cluster.kubectl("annotate", "storageclass", "ebs", "storageclass.kubernetes.io/is-default-class-")
        assert warning.endswith(f"storageClassName=ebs-regional{AGAIN}\n")
        assert (again.returncode, "updates to statefulset spec for fields other than" in again.stderr) == (1, True)

    def test_never_an_empty_dir_where_data_may_be(self, cluster: Guarded, namespace: str) -> None:
        """A reinstallation is a CREATE too: the claim of the old one is reused."""
        cluster.apply(claim("data-prometheus-0", namespace))
        stateful = with_template(prometheus(namespace), namespace)
        replacement = "params: {replacement: {emptyDir: true}}"
        with cluster.server.configured(f"policies: {{zonal-volumes: {{mode: patch, {replacement}}}}}"):
            done = cluster.try_apply(stateful)
        assert (done.returncode, len(told(done.stderr))) == (1, 1)


class TestLimitRange:
    @pytest.fixture
    def ranged(self, cluster: Guarded, namespace: str) -> str:
        """A namespace whose LimitRange Forestall has seen."""
        limits = [{"type": "Container", "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "128Mi"}}]
        metadata = {"name": "defaults", "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})
        probe = json.dumps(deployment("probe", namespace, {"name": "web", "image": "nginx"}))
        dry_run = ("apply", "--dry-run=server", "-f", "-")
        eventually(lambda: cluster.try_kubectl(*dry_run, input=probe).stderr == "", "the LimitRange is not seen")
        return namespace

    def test_a_limit_above_its_maximum_is_mended_by_what_is_said(self, cluster: Guarded, namespace: str) -> None:
        limits = [{"type": "Container", "max": {"memory": "1Gi"}, "maxLimitRequestRatio": {"memory": "2"}}]
        metadata = {"name": "tight", "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})
        for name, resources in (
            ("limit", {"limits": {"memory": "2Gi"}}),
            ("both", {"limits": {"memory": "4Gi"}, "requests": {"memory": "256Mi"}}),
        ):
            web = deployment(name, namespace, {"name": "web", "image": "nginx:1.27", "resources": resources})
            denied = eventually(lambda web=web: denials(cluster.try_apply(web, arguments=DRY_RUN).stderr))
            assert cluster.apply(*follow(denied[key_of(web)], {key_of(web): web}, cluster.kubectl)) == ""
            cluster.running(namespace, selector=f"app={name}")

    def test_its_default_is_the_remedy(self, cluster: Guarded, ranged: str) -> None:
        assert cluster.apply(deployment("web", ranged, {"name": "web", "image": "nginx:1.27"})) == ""
        assert memory_of(cluster.get("deployment", "web", ranged)) == (None, None)
        assert [memory_of(pod) for pod in cluster.running(ranged)] == [("128Mi", "512Mi")]

    def test_a_request_above_its_default(self, cluster: Guarded, ranged: str) -> None:
        large = {"name": "web", "image": "nginx:1.27", "resources": {"requests": {"memory": "1Gi"}}}
        warning = cluster.apply(deployment("web", ranged, large))
        wrong = "pods of this Deployment will be refused: container 'web': request 1Gi is above the default limit 512Mi"
        assert warning.startswith(f"Warning: Deployment web, container web: memory-limits: {wrong} that ")
        assert warning.endswith(": patched to limits.memory=1Gi\n")
        assert [memory_of(pod) for pod in cluster.running(ranged)] == [("1Gi", "1Gi")]
        with cluster.server.configured("policies: {memory-limits: {mode: deny}}"):
            done = cluster.try_apply(deployment("other", ranged, large))
        assert (done.returncode, len(told(done.stderr))) == (1, 1)
