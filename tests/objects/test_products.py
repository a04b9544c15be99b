"""Which product an image is, by the names that its distributors write."""

from __future__ import annotations

import pytest

from webhook.objects.products import Product, product_of

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "image"),
    [
        # Upstream, and registries that keep its path.
        ("prometheus", "quay.io/prometheus/prometheus:v3.14.0"),
        ("prometheus", "prom/prometheus"),
        ("prometheus", "prom/prometheus-linux-arm64:v3.5.0"),
        ("prometheus", f"mirror.example.com:5000/prom/prometheus{DIGEST}"),
        ("prometheus", f"registry.example.com:5000/prometheus{DIGEST}"),
        ("prometheus", "mirror.example.com/quay.io/prometheus/prometheus:v3"),
        ("prometheus", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/quay/prometheus/prometheus:v3.5.0"),
        ("prometheus", "registry1.dso.mil/ironbank/opensource/prometheus/prometheus:v3.5.0"),
        ("prometheus", "mcr.microsoft.com/oss/v2/prometheus/prometheus:v3.5.0"),
        ("alertmanager", "quay.io/prometheus/alertmanager"),
        ("pushgateway", "prom/pushgateway:v1.4.3"),
        ("grafana", "docker.io/grafana/grafana:12.3.1"),
        ("grafana-enterprise", "grafana/grafana-enterprise"),
        ("loki", "grafana/loki:2.6.1"),
        ("loki", "registry1.dso.mil/ironbank/opensource/grafana/loki:3.5.0"),
        ("tempo", "docker.io/grafana/tempo:2.9.0"),
        ("mimir", "grafana/mimir"),
        ("thanos", "thanosio/thanos:v0.19.0"),
        ("thanos", "quay.io/thanos/thanos:v0.39"),
        ("cost-model", "gcr.io/kubecost1/cost-model:prod-2.4.2"),
        ("frontend", "gcr.io/kubecost1/frontend:prod-2.4.2"),
        ("server", "gcr.io/kubecost1/server:prod-1.81.0"),
        ("prometheus", "public.ecr.aws/kubecost/prometheus:v2"),
        ("opencost", "ghcr.io/opencost/opencost:1.120.1"),
        ("elastalert2", "jertel/elastalert2:2.31.0"),
        ("elastalert-docker", "jertel/elastalert-docker:0.2.4"),
        ("victoria-metrics", "victoriametrics/victoria-metrics"),
        ("vmstorage", "quay.io/victoriametrics/vmstorage:v1.130.0-cluster"),
        ("all-in-one", "jaegertracing/all-in-one:1.57"),
        # Mirrors that flatten the path.
        ("prometheus", "registry.example.com/quay.io_prometheus_prometheus:v3"),
        ("prometheus", "registry.example.com/quay.io__prometheus__prometheus:v3"),
        ("prometheus", "registry.example.com/quay.io-prometheus-prometheus:v3"),
        ("prometheus", "registry.example.com/quay-io-prometheus-prometheus:v3"),
        ("prometheus", "registry.example.com/quay.io--prometheus--prometheus:v3"),
        ("prometheus", "registry.example.com/docker-io-prom-prometheus:v3"),
        ("prometheus", "registry.example.com/team/prom_prometheus"),
        ("prometheus", "registry.example.com/prometheus-prometheus"),
        ("prometheus", "registry.example.com/dockerhub/prom-prometheus"),
        ("prometheus", "registry.example.com/quay.io_openshift_origin-prometheus"),
        ("prometheus", "registry.example.com/quay.io_acme_prometheus"),
        ("prometheus", "registry.example.com/gke-gcr-io-prometheus-engine-prometheus"),
        ("loki", "registry.example.com/docker.io_grafana_loki"),
        ("loki", "registry.example.com/docker.io-grafana/loki"),
        ("loki", "registry.example.com/cgr.dev_acme_loki"),
        ("thanos", "registry.example.com/quay-io-thanos-thanos"),
        ("cost-model", "registry.example.com/gcr.io_kubecost1_cost-model"),
        # Bitnami.
        ("loki", "docker.io/bitnami/grafana-loki:3.5.0-debian-12-r0"),
        ("mimir", "bitnamilegacy/grafana-mimir:2.16.0"),
        ("tempo", "bitnamisecure/grafana-tempo"),
        ("thanos", "public.ecr.aws/bitnami/thanos:0.39"),
        ("prometheus", "docker.io/bitnamilegacy/prometheus:3.4.1-debian-12-r0"),
        ("alertmanager", "bitnami/alertmanager"),
        ("vmselect", "bitnamilegacy/victoriametrics-vmselect:1.120.0"),
        ("prometheus", "registry.example.com/bitnami-prometheus"),
        ("thanos", "registry.example.com/docker.io-bitnami-thanos"),
        # Red Hat.
        ("prometheus", f"registry.redhat.io/openshift4/ose-prometheus-rhel9{DIGEST}"),
        ("prometheus", "registry.redhat.io/openshift4/ose-prometheus:v4.15"),
        ("prometheus", "registry.example.com/openshift4-ose-prometheus-rhel9"),
        ("prometheus", "quay.io/openshift/origin-prometheus:4.15"),
        ("prometheus", "registry.redhat.io/rhacm2/prometheus-rhel9"),
        ("prometheus", "registry.redhat.io/cluster-observability-operator/prometheus-rhel9"),
        ("alertmanager", "registry.redhat.io/openshift4/ose-prometheus-alertmanager-rhel9"),
        ("thanos", "quay.io/openshift/origin-thanos:4.15"),
        ("thanos", "registry.example.com/ose-thanos-rhel9"),
        ("loki", "registry.redhat.io/openshift-logging/logging-loki-rhel9:v6.2"),
        ("loki", "registry.example.com/openshift-logging-logging-loki-rhel9"),
        ("loki", "quay.io/openshift-logging/loki:v3.5.0"),
        ("tempo", "registry.redhat.io/rhosdt/tempo-rhel8"),
        ("jaeger-collector", "registry.redhat.io/rhosdt/jaeger-collector-rhel8"),
        ("kube-state-metrics", "registry.redhat.io/openshift4/ose-kube-state-metrics-rhel9"),
        ("grafana", "registry.redhat.io/rhceph/grafana-rhel9"),
        # Chainguard, Docker, Canonical, SUSE, Google.
        ("prometheus", "cgr.dev/chainguard/prometheus:latest"),
        ("prometheus", "cgr.dev/acme.example/prometheus-fips:3.5"),
        ("prometheus", "cgr.dev/acme.example/prometheus-iamguarded"),
        ("prometheus", "cgr.dev/acme.example/prometheus-iamguarded-fips"),
        ("prometheus", "cgr.dev/acme.example/prometheus-bitnami-fips"),
        ("pushgateway", "cgr.dev/chainguard/prometheus-pushgateway-bitnami"),
        ("alertmanager", "cgr.dev/acme.example/prometheus-alertmanager-fips"),
        ("loki", "cgr.dev/acme.example/loki"),
        ("tempo", "cgr.dev/acme.example/tempo-fips"),
        ("thanos", "registry.example.com/chainguard/thanos-fips"),
        ("loki", "registry.example.com/grafana-loki-iamguarded"),
        ("prometheus", "dhi.io/prometheus:3"),
        ("loki", "dhi.io/loki:3"),
        ("prometheus", "acme/dhi-prometheus:3"),
        ("loki", "ubuntu/loki:2"),
        ("loki", "dp.apps.rancher.io/containers/loki:3"),
        ("prometheus", "rancher/mirrored-prometheus-prometheus:v2.55.1"),
        ("prometheus", "rancher/hardened-prometheus:v3"),
        ("prometheus", "rancher/prom-prometheus:v2.18.2"),
        ("grafana", "rancher/mirrored-grafana-grafana:9.1.5"),
        ("grafana", "registry.example.com/rancher-grafana-grafana:7.1.5"),
        ("loki", "rancher/mirrored-grafana-loki:3"),
        ("alertmanager", "rancher/mirrored-prometheus-alertmanager"),
        ("thanos", "rancher/mirrored-thanos-thanos"),
        ("thanos", "rancher/mirrored-thanosio-thanos"),
        ("kube-state-metrics", "rancher/mirrored-kube-state-metrics-kube-state-metrics"),
        ("prometheus", "gke.gcr.io/prometheus-engine/prometheus:v2.53.5-gmp.1-gke.2"),
        ("prometheus", "gcr.io/gke-release/prometheus-engine/prometheus:v2.53.5-gmp.1-gke.2"),
    ],
)
def test_monitoring_by_its_distributors_names(name: str, image: str) -> None:
    assert product_of(image) == Product(name, "monitoring")


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("promtail", "grafana/promtail:3.0"),
        ("promtail", "registry.redhat.io/rhceph/rhceph-promtail-rhel9:v3.0.0"),
        ("alloy", "grafana/alloy:v1.11.0"),
        ("alloy", "cgr.dev/acme.example/grafana-alloy-iamguarded"),
        ("alloy", "registry.redhat.io/rhceph/alloy-rhel10:v9.1"),
        ("grafana-agent", "grafana/agent:v0.43"),
        ("grafana-agent", "registry.example.com/docker.io_grafana_agent"),
        ("vmagent", "victoriametrics/vmagent:v1.130.0"),
        ("fluent-bit", "cr.fluentbit.io/fluent/fluent-bit:4"),
        ("fluent-bit", "rancher/mirrored-fluent-fluent-bit:3"),
        ("fluentd", "registry.redhat.io/openshift-logging/fluentd-rhel9"),
        ("opentelemetry-collector-contrib", "otel/opentelemetry-collector-contrib"),
        ("opentelemetry-collector", "registry.redhat.io/rhosdt/opentelemetry-collector-rhel8"),
    ],
)
def test_collectors_by_their_distributors_names(name: str, image: str) -> None:
    assert product_of(image) == Product(name, "collector")


@pytest.mark.parametrize(
    "image",
    [
        "quay.io/prometheus/node-exporter",
        "oliver006/redis_exporter",
        "quay.io/prometheuscommunity/postgres-exporter",
        "registry.redhat.io/openshift4/ose-prometheus-node-exporter-rhel9",
        "registry.example.com/quay.io_prometheus_node-exporter",
        "rancher/mirrored-prometheus-node-exporter",
        "cgr.dev/acme.example/prometheus-node-exporter-fips",
        "quay.io/prometheus-operator/prometheus-operator:v0.93.1",
        "rancher/coreos-prometheus-operator:v0.38.1",
        "rancher/mirrored-prometheus-operator-prometheus-operator",
        "cgr.dev/acme.example/prometheus-operator-fips",
        "quay.io/openshift/origin-prometheus-operator",
        "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1",
        "registry.example.com/quay.io_prometheus-operator_prometheus-config-reloader",
        "rancher/mirrored-prometheus-operator-prometheus-config-reloader",
        "jimmidyson/configmap-reload:v0.8.0",
        "quay.io/kiwigrid/k8s-sidecar:2.5.0",
        "rancher/mirrored-kiwigrid-k8s-sidecar:1.24.6",
        "rancher/appco-k8s-sidecar:2.1.2",
        "registry.k8s.io/prometheus-adapter/prometheus-adapter",
        "rancher/mirrored-prometheus-adapter-prometheus-adapter",
        "directxman12/k8s-prometheus-adapter-amd64",
        "registry.redhat.io/openshift4/ose-kube-rbac-proxy-rhel9",
        "quay.io/oauth2-proxy/oauth2-proxy",
    ],
)
def test_lookalikes(image: str) -> None:
    assert product_of(image) == Product("", "lookalike")


@pytest.mark.parametrize(
    "image",
    [
        "nginx:1.27",
        "us-central1-docker.pkg.dev/google-samples/microservices-demo/frontend:v0.10.6",
        "example.com/my-prometheus",
        "example.com/my_prometheus",
        "example.com/quay.io_acme_my-prometheus",
        "example.com/prometheus-tools",
        "example.com/fips-prometheus-tools",
        "example.com/loki",
        "example.com/acme/tempo:1",
        "example.com/acme/tempo-fips",
        "example.com/mirrored/tempo",
        "example.com/acme/mimir",
        "example.com/acme/alloy",
        "example.com/acme/agent",
        "example.com/acme/thanos",
        "example.com/acme/grafana-tools/loki",
        "gitlab/agent",
        "rancher/agent",
        "rancher/server",
        "cgr.dev/acme.example/server",
        "example.com/acme/cost-model",
        "example.com/docker.io_acme_agent",
        "docker.elastic.co/elasticsearch/elasticsearch:8.15.0",
        "opensearchproject/opensearch:3",
        "quay.io/openshift-release-dev/ocp-v4.0-art-dev" + DIGEST,
        "grafana/loki-canary-extras",
        "not an image",
        "",
    ],
)
def test_something_else(image: str) -> None:
    assert product_of(image) == Product("", "other")
