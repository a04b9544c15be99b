"""Which workloads are monitoring software, and where Prometheus' series are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import container, custom, request, workload
from webhook.objects.monitoring import is_agent, is_monitoring, is_monitoring_claim, series_containers
from webhook.objects.pods import Workload, read_workload
from webhook.policy import Object


def read(obj: Object) -> Workload:
    found = read_workload(request(obj))
    assert found is not None
    return found


def of_images(*images: str, **labels: str) -> Workload:
    obj = workload("Deployment", *(container(f"c{index}", image) for index, image in enumerate(images)))
    obj["spec"]["template"]["metadata"]["labels"] = labels
    return read(obj)


@pytest.mark.parametrize(
    "image",
    [
        "quay.io/prometheus/prometheus:v3.14.0",
        "prom/prometheus",
        "cgr.dev/chainguard/prometheus:latest",
        "public.ecr.aws/kubecost/prometheus:v2",
        "mirror.example.com:5000/prom/prometheus@sha256:" + "0" * 64,
        "rancher/mirrored-prometheus-prometheus:v2.45.0",
        "quay.io/prometheus/alertmanager",
        "prom/pushgateway:v1.4.3",
        "docker.io/grafana/grafana:12.3.1",
        "grafana/loki:2.6.1",
        "docker.io/grafana/tempo:2.9.0",
        "grafana/mimir",
        "thanosio/thanos:v0.19.0",
        "gcr.io/kubecost1/cost-model:prod-2.4.2",
        "gcr.io/kubecost1/frontend:prod-2.4.2",
        "gcr.io/kubecost1/server:prod-1.81.0",
        "ghcr.io/opencost/opencost:1.120.1",
        "jertel/elastalert2:2.31.0",
        "jertel/elastalert-docker:0.2.4",
        "victoriametrics/victoria-metrics",
        "jaegertracing/all-in-one:1.57",
        "grafana/promtail:3.0",
        "otel/opentelemetry-collector-contrib",
    ],
)
def test_images_of_monitoring_software(image: str) -> None:
    assert is_monitoring(of_images(image)) == f"image {image}"


@pytest.mark.parametrize(
    "image",
    [
        "nginx:1.27",
        "us-central1-docker.pkg.dev/google-samples/microservices-demo/frontend:v0.10.6",
        "gitlab/agent",
        "quay.io/prometheus/node-exporter",
        "quay.io/prometheus-operator/prometheus-operator:v0.93.1",
        "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1",
        "jimmidyson/configmap-reload:v0.8.0",
        "quay.io/kiwigrid/k8s-sidecar:2.5.0",
        "registry.k8s.io/prometheus-adapter/prometheus-adapter",
        "oliver006/redis_exporter",
        "example.com/my-prometheus",
        "example.com/prometheus-tools",
        "not an image",
        "",
    ],
)
def test_images_of_something_else(image: str) -> None:
    assert is_monitoring(of_images(image)) is None


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        pytest.param(["postgres:17", "fluent/fluent-bit:3.2"], {}, None, id="a-collector-beside-an-application"),
        pytest.param(["fluent/fluent-bit:3.2"], {}, "image fluent/fluent-bit:3.2", id="a-collector-alone"),
        pytest.param(
            ["jimmidyson/configmap-reload", "grafana/promtail"],
            {},
            "image grafana/promtail",
            id="collector-and-reloader",
        ),
        pytest.param(["postgres:17", "x/postgres-exporter"], {}, None, id="an-exporter-beside-a-database"),
        pytest.param(["postgres:17", "thanosio/thanos"], {}, "image thanosio/thanos", id="a-store-beside-something"),
        pytest.param(
            ["quay.io/prometheus/node-exporter"], {"app": "prometheus"}, None, id="a-label-makes-no-exporter-it"
        ),
        pytest.param(
            ["example.com/tsdb"],
            {"app.kubernetes.io/name": "prometheus"},
            "label app.kubernetes.io/name=prometheus",
            id="name",
        ),
        pytest.param(
            ["example.com/q"],
            {"app.kubernetes.io/name": "thanos-query"},
            "label app.kubernetes.io/name=thanos-query",
            id="thanos",
        ),
        pytest.param(
            ["example.com/x"], {"app.kubernetes.io/name": "prometheus-node-exporter"}, None, id="exporter-by-name"
        ),
        pytest.param(["example.com/x"], {"app.kubernetes.io/name": "prometheus-blackbox"}, None, id="no-substrings"),
        pytest.param(
            ["example.com/x"],
            {"app.kubernetes.io/component": "elastalert2"},
            "label app.kubernetes.io/component=elastalert2",
            id="component",
        ),
        pytest.param(
            ["example.com/x"], {"app": "prometheus", "component": "server"}, "label app=prometheus", id="older-labels"
        ),
        pytest.param(["example.com/x"], {"app": "prometheus", "component": "node-exporter"}, None, id="older-exporter"),
        pytest.param(
            ["example.com/x"], {"chart": "cost-analyzer-2.4.2"}, "label chart=cost-analyzer-2.4.2", id="chart"
        ),
        pytest.param(["example.com/x"], {"helm.sh/chart": "prometheus-adapter-4.1.0"}, None, id="another-chart"),
        pytest.param(["jupyterhub/k8s-hub"], {"app": "jupyterhub", "chart": "jupyterhub-4.4.0"}, None, id="jupyterhub"),
    ],
)
def test_containers_and_labels_together(images: list[str], labels: Object, expected: str | None) -> None:
    assert is_monitoring(of_images(*images, **labels)) == expected


def test_an_init_container_makes_no_workload_monitoring() -> None:
    obj = workload("Deployment", container(), initContainers=[container("wait", "prom/prometheus")])
    assert is_monitoring(read(obj)) is None
    assert series_containers(read(obj)) == []


def test_the_labels_of_the_object_itself_count() -> None:
    obj = workload("StatefulSet", container(image="example.com/tsdb"))
    obj["metadata"]["labels"] = {"helm.sh/chart": "loki-2.16.0"}
    assert is_monitoring(read(obj)) == "label helm.sh/chart=loki-2.16.0"


@pytest.mark.parametrize("kind", ["Prometheus", "PrometheusAgent", "Alertmanager", "ThanosRuler"])
def test_kinds(kind: str) -> None:
    assert is_monitoring(read(custom(kind, {}))) == f"kind {kind}"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"app.kubernetes.io/name": "prometheus"}, "label app.kubernetes.io/name=prometheus"),
        ({"app": "prometheus", "component": "server", "release": "kubecost"}, "label app=prometheus"),
        ({"app": "prometheus", "component": "node-exporter", "chart": "prometheus-15.18.0"}, None),
        ({"app": "minio-storage-claim"}, None),
        (None, None),
    ],
)
def test_claims(labels: Object | None, expected: str | None) -> None:
    assert is_monitoring_claim({"name": "data", "labels": labels}) == expected


def series(obj: Object) -> list[str]:
    return [each.name for each in series_containers(read(obj))]


def test_series_are_in_the_server_alone() -> None:
    obj = workload(
        "Deployment",
        container("reload", "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1"),
        container("server", "quay.io/prometheus/prometheus:v3.14.0"),
        container("sidecar", "thanosio/thanos:v0.19.0"),
        initContainers=[container("native", "prom/prometheus", restartPolicy="Always")],
    )
    assert series(obj) == ["native", "server"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"command": ["/bin/promtool", "check"]}, [], id="promtool"),
        pytest.param({"command": ["sh", "-c"], "args": ["promtool check rules /rules/*.yaml"]}, [], id="in-a-shell"),
        pytest.param({"command": ["/bin/prometheus", "--storage.tsdb.path=/promtool"]}, ["server"], id="a-path"),
        pytest.param({"args": ["promtool"]}, ["server"], id="an-argument"),
        pytest.param({"command": ["sh", "-c", "prometheus # promtool"]}, ["server"], id="a-comment"),
        pytest.param(
            {"command": ["sh", "-ec", "promtool check config x && exec /bin/prometheus"]}, ["server"], id="checks-first"
        ),
        pytest.param({"command": ["sh"], "args": None}, ["server"], id="a-shell-without-a-script"),
    ],
)
def test_promtool_holds_no_series(fields: dict[str, Any], expected: list[str]) -> None:
    assert series(workload("Job", container("server", "prom/prometheus", **fields))) == expected


OPERATED_SERVERS = [("Prometheus", ["prometheus"]), ("PrometheusAgent", ["prometheus"]), ("Alertmanager", [])]


@pytest.mark.parametrize(("kind", "expected"), [*OPERATED_SERVERS, ("ThanosRuler", [])])
def test_series_of_the_operators_resources(kind: str, expected: list[str]) -> None:
    spec = {"thanos": {}, "containers": [{"name": "oauth", "image": "oauth2-proxy"}], "image": "example.com/mine:1"}
    assert series(custom(kind, spec)) == expected


@pytest.mark.parametrize(("kind", "expected"), [*OPERATED_SERVERS, ("ThanosRuler", [])])
def test_series_of_what_is_added_to_them(kind: str, expected: list[str]) -> None:
    native = container("native", "prom/prometheus", restartPolicy="Always")
    obj = custom(kind, {"containers": [container("more", "prom/prometheus")], "initContainers": [native]})
    assert series(obj) == ["native", "more", *expected]


def test_the_server_s_name_alone_makes_no_server_of_what_is_added() -> None:
    assert series(custom("Alertmanager", {"containers": [container("prometheus", "busybox")]})) == []


def test_a_resource_that_is_amended_to_run_the_server() -> None:
    assert series(custom("Alertmanager", {"containers": [container("alertmanager", "prom/prometheus")]})) == [
        "alertmanager"
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"args": ["--config.file=/etc/prometheus.yml", "--agent"]}, True, id="flag"),
        pytest.param({"args": ["--web.page-title=x --agent"]}, False, id="within-an-argument"),
        pytest.param({"args": ["--agentx"]}, False, id="another-flag"),
        pytest.param({"command": ["sh", "-c", "exec prometheus --agent --config.file=x"]}, True, id="in-a-shell"),
        pytest.param({"command": ["/bin/sh", "-c"], "args": ["/bin/prometheus \\\n  --agent"]}, True, id="two-lines"),
        pytest.param({"command": ["sh", "-c", "echo --agent; prometheus --config.file=x"]}, False, id="of-another"),
        pytest.param({"command": ["sh", "-c", "prometheus --config.file=x # --agent"]}, False, id="in-a-comment"),
        pytest.param({"args": ["sh", "-c", "prometheus --agent"]}, False, id="no-shell-runs"),
        pytest.param({"args": ["--storage.agent.path=/data"]}, False, id="its-path"),
        pytest.param({"args": None}, False, id="null"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_agents(fields: dict[str, Any], expected: bool) -> None:
    found = read(workload("StatefulSet", container("prometheus", "prom/prometheus:v3.1.0", **fields)))
    assert is_agent(found, found.containers[0]) is expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (":v2.53.0", True),
        (":2", True),
        (":v2-distroless@sha256:" + "0" * 64, True),
        (":v3.0.0", False),
        (":v30.1", False),
        (":latest", False),
        (":2main", False),
        ("@sha256:" + "0" * 64, False),
        ("", False),
        (":", False),
    ],
)
@pytest.mark.parametrize(
    "args",
    [
        ["--enable-feature=agent"],
        ["--enable-feature=exemplar-storage,agent"],
        ["--enable-feature", "agent"],
    ],
)
def test_the_feature_agent_is_known_before_version_3(args: list[str], tag: str, expected: bool) -> None:
    found = read(workload("StatefulSet", container("prometheus", f"prom/prometheus{tag}", args=args)))
    assert is_agent(found, found.containers[0]) is expected


def test_another_feature_makes_no_agent() -> None:
    args = ["--enable-feature=exemplar-storage"]
    found = read(workload("StatefulSet", container("prometheus", "prom/prometheus:v2.53.0", args=args)))
    assert not is_agent(found, found.containers[0])


AGENT = [{"name": "agent"}]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        pytest.param("PrometheusAgent", {}, True, id="kind"),
        pytest.param("Prometheus", {}, False, id="the-other-kind"),
        pytest.param("Prometheus", {"additionalArgs": AGENT}, True, id="argument"),
        pytest.param(
            "Prometheus", {"additionalArgs": [{"name": "web.page-title", "value": "--agent"}]}, False, id="a-value"
        ),
        pytest.param("Prometheus", {"enableFeatures": ["agent"]}, False, id="feature-of-no-known-version"),
        pytest.param("Prometheus", {"enableFeatures": ["agent"], "version": "v3.1.0"}, False, id="feature-dropped"),
        pytest.param("Prometheus", {"enableFeatures": ["x", "agent"], "version": "v2.53.0"}, True, id="feature"),
        pytest.param(
            "Prometheus",
            {"enableFeatures": ["agent"], "version": "v2.53.0", "image": "prom/prometheus:v3.1.0"},
            False,
            id="the-image-counts",
        ),
        pytest.param(
            "Prometheus",
            {"image": "prom/prometheus:v2.53.0", "additionalArgs": [{"name": "enable-feature", "value": "agent"}]},
            True,
            id="feature-as-argument",
        ),
        pytest.param(
            "Prometheus",
            {"containers": [{"name": "prometheus", "args": ["--agent"]}]},
            True,
            id="amended",
        ),
        pytest.param(
            "Prometheus",
            {"additionalArgs": AGENT, "containers": [{"name": "prometheus", "args": ["--config.file=x"]}]},
            False,
            id="replaced",
        ),
        pytest.param(
            "Prometheus",
            {"additionalArgs": AGENT, "containers": [{"name": "prometheus", "image": "x"}]},
            True,
            id="not-replaced",
        ),
    ],
)
def test_agents_of_the_operator(kind: str, spec: Object, expected: bool) -> None:
    found = read(custom(kind, spec))
    assert is_agent(found, found.containers[0]) is expected


def test_what_is_added_to_an_agent_is_no_agent() -> None:
    found = read(custom("PrometheusAgent", {"containers": [container("more", "prom/prometheus")]}))
    assert [is_agent(found, each) for each in series_containers(found)] == [False, True]
