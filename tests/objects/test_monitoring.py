"""Which workloads are monitoring software."""

from __future__ import annotations

import pytest

from tests.builders import container, custom, request, workload
from webhook.objects.monitoring import is_monitoring, is_monitoring_claim
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
        pytest.param(["acme/loki"], {}, None, id="a-word"),
        pytest.param(["acme/tempo"], {"app": "tempo"}, None, id="a-word-that-an-application-is-called"),
        pytest.param(["acme/x@sha256:" + "0" * 64], {"app": "loki"}, "label app=loki", id="a-word-by-an-older-label"),
        pytest.param(
            ["acme/loki"],
            {"app.kubernetes.io/name": "loki"},
            "label app.kubernetes.io/name=loki",
            id="a-word-by-its-label",
        ),
        pytest.param(["acme/loki"], {"app": "loki", "chart": "loki-2.16.0"}, "label chart=loki-2.16.0", id="its-chart"),
        pytest.param(
            ["docker.elastic.co/elasticsearch/elasticsearch:8.15.0"],
            {"app.kubernetes.io/part-of": "logging"},
            "label app.kubernetes.io/part-of=logging",
            id="a-part-of-logging",
        ),
        pytest.param(["postgres:17"], {"app.kubernetes.io/part-of": "logging"}, None, id="a-database-of-another-kind"),
        pytest.param(
            ["example.com/x"],
            {"app.kubernetes.io/part-of": "lokistack"},
            "label app.kubernetes.io/part-of=lokistack",
            id="a-part-of-openshift's-loki",
        ),
        pytest.param(
            ["quay.io/prometheus/blackbox-exporter", "quay.io/brancz/kube-rbac-proxy"],
            {"app.kubernetes.io/part-of": "kube-prometheus"},
            None,
            id="an-exporter-that-is-part-of-it",
        ),
        pytest.param(
            ["openshift/x"],
            {"app.kubernetes.io/name": "lokistack", "app.kubernetes.io/component": "ingester"},
            "label app.kubernetes.io/name=lokistack",
            id="openshift's-loki",
        ),
        pytest.param(
            ["example.com/x"],
            {"helm.sh/chart": "grafana-mimir-2.0.0"},
            "label helm.sh/chart=grafana-mimir-2.0.0",
            id="bitnami's-chart",
        ),
        pytest.param(
            ["example.com/x"],
            {"app.kubernetes.io/name": "grafana-tempo"},
            "label app.kubernetes.io/name=grafana-tempo",
            id="bitnami's-name",
        ),
        pytest.param(["docker.elastic.co/elasticsearch/elasticsearch:8.15.0"], {}, None, id="a-database"),
        pytest.param(["opensearchproject/opensearch:3"], {"app": "opensearch"}, None, id="a-database-by-its-label"),
        pytest.param(
            ["elasticsearch:7"],
            {"k8s-app": "elasticsearch-logging"},
            "label k8s-app=elasticsearch-logging",
            id="a-database-of-logs",
        ),
        pytest.param(["jupyterhub/k8s-hub"], {"app": "jupyterhub", "chart": "jupyterhub-4.4.0"}, None, id="jupyterhub"),
    ],
)
def test_containers_and_labels_together(images: list[str], labels: Object, expected: str | None) -> None:
    assert is_monitoring(of_images(*images, **labels)) == expected


def test_an_init_container_makes_no_workload_monitoring() -> None:
    obj = workload("Deployment", container(), initContainers=[container("wait", "prom/prometheus")])
    assert is_monitoring(read(obj)) is None


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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--storage.tsdb.path=/prometheus"], "argument --storage.tsdb.path"),
        (["store", "--objstore.config-file=/etc/bucket.yaml"], "argument --objstore.config-file"),
        (["-target=ingester", "-blocks-storage.tsdb.dir=/data"], "argument -blocks-storage.tsdb.dir"),
        (["-storageDataPath=/storage"], "argument -storageDataPath"),
        (["--storage.path=/data"], None),
        (["--note=--storage.tsdb.path"], None),
    ],
)
def test_a_flag_of_its_own_tells(words: list[str], expected: str | None) -> None:
    main = container("main", "example.com/payload@sha256:" + "b" * 64, args=words)
    assert is_monitoring(read(workload("StatefulSet", main))) == expected


def test_a_database_s_own_resource_is_none() -> None:
    obj = custom("Elasticsearch", {}) | {"apiVersion": "elasticsearch.k8s.elastic.co/v1"}
    assert read_workload(request(obj)) is None
