"""What people really run, judged whole: distributors' images, people's own names, what Kubernetes fills in."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.builders import TODAY, config, container, custom, facts, limit_range, request, sized, workload
from webhook.engine import decide
from webhook.policy import Object

ZONE = "topology.kubernetes.io/zone"
CLUSTER = [
    *(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, ZONE: f"eu-west-1{zone}"}},
            "status": {"allocatable": {"memory": "64Gi"}},
        }
        for name, zone in (("n0", "a"), ("n1", "b"), ("n2", "c"))
    ),
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "gp3"},
        "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": "WaitForFirstConsumer",
    },
]
DIGEST = "@sha256:" + "b" * 64


def deployed(
    name: str, image: str, size: tuple[Any, Any], labels: Object, *, host_paths: Object | None = None, **fields: Any
) -> Object:
    """A Deployment of one container: `size` is limit and request, `host_paths` by volume."""
    paths = host_paths or {}
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in paths]
    main = container(name, image, volumeMounts=mounts, **sized(*size), **fields)
    obj = workload(
        "Deployment", main, volumes=[{"name": volume, "hostPath": source} for volume, source in paths.items()]
    )
    obj["spec"]["template"]["metadata"]["labels"] = labels
    return obj


def stored(
    name: str,
    image: str,
    size: tuple[Any, Any],
    labels: Object,
    *,
    own: Object | None = None,
    volume: str = "data",
    **pod: Any,
) -> Object:
    """A StatefulSet of one container with a volume of class gp3; `own` are the labels of the object itself."""
    fields = {key: pod.pop(key) for key in ("args",) if key in pod}
    obj = workload("StatefulSet", container(name, image, **sized(*size), **fields), **pod)
    obj["metadata"]["labels"] = own or {}
    obj["spec"]["template"]["metadata"]["labels"] = labels
    claim = {"storageClassName": "gp3", "resources": {"requests": {"storage": "50Gi"}}}
    obj["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": volume}, "spec": claim}]
    return obj


SMALL, LARGE = ("3Gi", "2Gi"), ("8Gi", "8Gi")
PROMETHEUS = {"app": "prometheus"}
TSDB = ["--config.file=/etc/prometheus/p.yaml", "--storage.tsdb.path=/prometheus"]
AGENT = ["--config.file=/etc/p.yml", "--enable-feature=agent", "--storage.agent.path=/prometheus"]
ZONAL, UNDERSIZED = ("zonal-volumes", "denied"), ("prometheus-memory", "denied")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            stored("grafana-loki", "bitnami/grafana-loki:3.5.0", LARGE, {"app.kubernetes.io/name": "grafana-loki"}),
            {ZONAL: 1},
            id="bitnami's-loki",
        ),
        pytest.param(
            deployed("prometheus-server", "cgr.dev/acme.example/prometheus-fips:3.5", SMALL, PROMETHEUS),
            {UNDERSIZED: 2},
            id="chainguard's-fips",
        ),
        pytest.param(
            stored("prometheus", "quay.io/openshift/origin-prometheus:4.15", SMALL, {"app.kubernetes.io/name": "x"}),
            {ZONAL: 1, UNDERSIZED: 2},
            id="okd",
        ),
        pytest.param(
            stored("x", f"quay.io/openshift-release-dev/ocp-v4.0-art-dev{DIGEST}", SMALL, {}, args=TSDB),
            {ZONAL: 1, UNDERSIZED: 2},
            id="openshift's-payload-by-a-flag",
        ),
        pytest.param(
            stored("prometheus", f"quay.io/openshift-release-dev/ocp-v4.0-art-dev{DIGEST}", SMALL, PROMETHEUS),
            {ZONAL: 1, UNDERSIZED: 2},
            id="openshift's-payload-by-label-and-name",
        ),
        pytest.param(
            stored("elasticsearch", "docker.elastic.co/elasticsearch/elasticsearch:8.15.0", LARGE, {"app": "search"}),
            {},
            id="a-shop's-search",
        ),
        pytest.param(stored("tempo", "acme/tempo:1", LARGE, {"app": "tempo"}), {}, id="an-application-named-tempo"),
        pytest.param(
            stored("hub", "quay.io/jupyterhub/k8s-hub:4.0.0", LARGE, {"app": "jupyterhub", "component": "hub"}),
            {},
            id="jupyterhub",
        ),
        pytest.param(
            deployed(
                "prometheus-adapter",
                "registry.k8s.io/prometheus-adapter/prometheus-adapter:v0.12.0",
                ("180Mi", "180Mi"),
                {"app.kubernetes.io/name": "prometheus-adapter"},
                host_paths={"data": {"path": "/tmp/x"}},
            ),
            {},
            id="an-adapter",
        ),
        pytest.param(
            stored(
                "ingester",
                "grafana/mimir:2.16.0",
                LARGE,
                {"app.kubernetes.io/name": "mimir", "app.kubernetes.io/component": "ingester"},
                nodeSelector={ZONE: "eu-west-1a"},
            ),
            {("zonal-volumes", "audited"): 1},
            id="mimir-by-zones",
        ),
        pytest.param(
            deployed(
                "prometheus",
                "prom/prometheus:v3.5.0",
                LARGE,
                PROMETHEUS,
                host_paths={"localtime": {"path": "/etc/localtime"}, "tz": {"path": "/etc/timezone", "type": "File"}},
            ),
            {},
            id="time-zones",
        ),
        pytest.param(
            deployed(
                "prometheus", "prom/prometheus:v3.5.0", LARGE, PROMETHEUS, host_paths={"data": {"path": "/srv/data"}}
            ),
            {("zonal-volumes", "warned"): 1},
            id="data-of-one-node",
        ),
        pytest.param(
            deployed("prometheus", "prom/prometheus:v3.5.0", ("8Gi", None), PROMETHEUS), {}, id="a-limit-alone"
        ),
        pytest.param(
            workload("Pod", container("prometheus", "prom/prometheus:v3.5.0", **sized("8Gi", None))),
            {},
            id="a-limit-alone-in-a-pod",
        ),
        pytest.param(
            custom("Prometheus", {"resources": {"limits": {"memory": "8Gi"}}}), {}, id="a-limit-alone-in-a-resource"
        ),
        pytest.param(
            deployed("prometheus", f"registry.acme.example/prometheus{DIGEST}", ("512Mi", "512Mi"), {}, args=AGENT),
            {},
            id="an-agent-by-digest",
        ),
        pytest.param(
            deployed("prometheus", "registry.acme.example/prometheus:stable", ("512Mi", "512Mi"), {}, args=AGENT),
            {},
            id="an-agent-of-an-internal-tag",
        ),
        *(
            pytest.param(deployed("main", image, SMALL, {}), {UNDERSIZED: 2}, id=image)
            for image in (
                "gke.gcr.io/prometheus-engine/prometheus:v2.53.5-gmp.1-gke.2",
                "docker.io/bitnamilegacy/prometheus:3.4.1-debian-12-r0",
                "rancher/mirrored-prometheus-prometheus:v2.55.1",
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/quay/prometheus/prometheus:v3.5.0",
                "registry1.dso.mil/ironbank/opensource/prometheus/prometheus:v3.5.0",
                "registry.acme.example/quay.io_prometheus_prometheus:v3.5.0",
                "registry.redhat.io/openshift4/ose-prometheus-rhel9:v4.16",
            )
        ),
    ],
)
def test_verdicts(obj: Object, expected: dict[tuple[str, str], int]) -> None:
    decision = decide(request(obj), facts(*CLUSTER), config(), today=TODAY)
    assert Counter((verdict.policy, verdict.outcome) for verdict in decision.verdicts) == expected
    assert decision.allowed == ("denied" not in {outcome for _, outcome in expected})


def test_the_limit_range_of_the_namespace_gives_prometheus_its_memory() -> None:
    obj = deployed("prometheus", "prom/prometheus:v3.5.0", (None, None), PROMETHEUS)
    seen = facts(*CLUSTER, limit_range(default="8Gi", defaultRequest="8Gi"))
    assert decide(request(obj), seen, config(), today=TODAY).verdicts == ()


@pytest.mark.parametrize(
    ("obj", "message", "hint"),
    [
        pytest.param(
            deployed("prometheus-server", "cgr.dev/chainguard/prometheus:latest", ("8G", "4G"), {})
            | {
                "metadata": {"name": "x", "labels": {"app": "prometheus", "component": "server", "release": "kubecost"}}
            },
            "Prometheus container 'prometheus-server' has memory request 4G: set requests.memory to 4Gi or more",
            "prometheus.server.resources: {requests: {memory: 4Gi}}",
            id="as-it-was-written",
        ),
        pytest.param(
            stored(
                "vmsingle",
                "victoriametrics/victoria-metrics:v1.150.0",
                LARGE,
                {"app.kubernetes.io/name": "victoria-metrics-single"},
                own={"helm.sh/chart": "victoria-metrics-single-0.45.0", "app.kubernetes.io/instance": "vmsingle"},
                volume="server-volume",
            ),
            "volume 'server-volume' is tied to one zone, but its pods may run in 3 zones",
            'server.nodeSelector["topology.kubernetes.io/zone"]: eu-west-1a '
            "(the class: server.persistentVolume.storageClassName)",
            id="the-selector-of-its-pods",
        ),
        pytest.param(
            deployed("hub", "quay.io/jupyterhub/k8s-hub:4.0.0", (None, None), {"component": "hub"})
            | {
                "metadata": {
                    "name": "hub",
                    "labels": {"chart": "jupyterhub-4.0.0", "component": "hub", "release": "binder"},
                }
            },
            "container 'hub' has no memory limit: set limits.memory to 512Mi",
            "jupyterhub.hub.resources: {limits: {memory: 512Mi}, requests: {memory: 256Mi}}",
            id="the-hub-of-a-binder",
        ),
    ],
)
def test_messages_and_values(obj: Object, message: str, hint: str) -> None:
    obj["metadata"].setdefault("namespace", "shop")
    (found,) = decide(request(obj), facts(*CLUSTER), config(), today=TODAY).verdicts
    assert found.violation.message.startswith(message)
    assert found.violation.hint == hint
