"""Which containers hold Prometheus' time series, and which are agents."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import container, custom, request, workload
from webhook.objects.pods import Workload, read_workload
from webhook.objects.prometheus import is_agent, series_containers
from webhook.policy import Object


def read(obj: Object) -> Workload:
    found = read_workload(request(obj))
    assert found is not None
    return found


def series(obj: Object) -> list[str]:
    return [container.name for container in series_containers(read(obj))]


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


PAYLOAD = "quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:" + "b" * 64
TSDB = {"args": ["--config.file=/etc/prometheus/p.yaml", "--storage.tsdb.path=/prometheus"]}


@pytest.mark.parametrize(
    ("name", "image", "labels", "fields", "is_series"),
    [
        pytest.param("x", PAYLOAD, {}, TSDB, True, id="its-own-flag"),
        pytest.param("x", PAYLOAD, {}, {"args": ["--storage.tsdb.retention.time=15d"]}, True, id="another-of-them"),
        pytest.param("x", PAYLOAD, {}, {"command": ["sh", "-c", "a --storage.tsdb.path=/x"]}, True, id="in-a-script"),
        pytest.param("x", PAYLOAD, {}, {"args": ["--tsdb.path=/prometheus"]}, False, id="the-flag-of-thanos"),
        pytest.param("x", PAYLOAD, {}, {"args": ["-blocks-storage.tsdb.dir=/x"]}, False, id="the-flag-of-mimir"),
        pytest.param("x", PAYLOAD, {}, {"args": ["--note=--storage.tsdb.path"]}, False, id="a-value"),
        pytest.param("prometheus", PAYLOAD, {"app.kubernetes.io/name": "prometheus"}, {}, True, id="label-and-name"),
        pytest.param("prometheus-server", PAYLOAD, {"app": "prometheus"}, {}, True, id="older-label-and-name"),
        pytest.param("prometheus", PAYLOAD, {"k8s-app": "prometheus"}, {}, True, id="oldest-label-and-name"),
        pytest.param("prometheus", PAYLOAD, {"app": "prometheus-server"}, {}, True, id="the-label-of-a-tutorial"),
        pytest.param("prometheus", PAYLOAD, {}, {}, False, id="the-name-alone"),
        pytest.param("oauth-proxy", PAYLOAD, {"app": "prometheus"}, {}, False, id="the-label-alone"),
        pytest.param("prometheus", "quay.io/oauth2-proxy/oauth2-proxy", {"app": "prometheus"}, TSDB, False, id="proxy"),
        pytest.param("prometheus", "thanosio/thanos", {"app": "prometheus"}, {}, False, id="another-product"),
        pytest.param("x", "cgr.dev/acme.example/prometheus-fips:3.5", {}, {}, True, id="a-distributor's-name"),
        pytest.param("x", "acme/my-prometheus", {}, {}, False, id="another-name"),
        pytest.param("prometheus", PAYLOAD, {"app": ["x"]}, {}, False, id="a-label-that-is-none"),
    ],
)
def test_series_of_images_that_say_nothing(
    name: str, image: str, labels: Object, fields: dict[str, Any], is_series: bool
) -> None:
    obj = workload("StatefulSet", container(name, image, **fields))
    obj["spec"]["template"]["metadata"]["labels"] = labels
    assert series(obj) == ([name] if is_series else [])


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
        pytest.param({"args": ["--storage.agent.path=/data"]}, True, id="a-path-that-a-server-refuses"),
        pytest.param({"args": ["--storage.tsdb.path", "--storage.agent.path"]}, False, id="its-path-as-a-value"),
        pytest.param({"args": ["--web.page-title=--agent"]}, False, id="a-value"),
        pytest.param({"args": ["--web.page-title", "--agent"]}, False, id="a-value-by-itself"),
        pytest.param({"args": ["--web.page-title", "x", "--agent"]}, True, id="after-a-value-by-itself"),
        pytest.param({"args": ["--web.enable-lifecycle", "--agent"]}, True, id="after-a-switch"),
        pytest.param({"args": ["--no-storage.tsdb.wal-compression", "--agent"]}, True, id="after-a-switch-turned-off"),
        pytest.param({"args": ["--no-agent"]}, False, id="turned-off"),
        pytest.param({"command": ["/bin/tini", "--", "/bin/prometheus", "--agent"]}, True, id="behind-an-init"),
        pytest.param({"command": ["sh", "-c", "prometheus --web.page-title='x --agent'"]}, False, id="quoted"),
        pytest.param({"command": ["sh", "-c", 'echo "prometheus --agent"; prometheus']}, False, id="in-a-string"),
        pytest.param({"command": ["sh", "-c", 'prometheus --web.external-url="http://x/#a" --agent']}, True, id="hash"),
        pytest.param({"command": ["sh", "-c", "mkdir /prometheus && prometheus --agent"]}, True, id="a-path-before"),
        pytest.param({"command": ["sh", "-c", 'exec prometheus "$@"', "--", "--agent"]}, True, id="passed-on"),
        pytest.param({"command": ["sh", "-c", "exec prometheus", "--", "--agent"]}, False, id="not-passed-on"),
        pytest.param({"command": ["sh", "-c", "it's broken; prometheus --agent"]}, True, id="an-open-quote"),
        pytest.param({"args": None}, False, id="null"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_agents(fields: dict[str, Any], expected: bool) -> None:
    found = read(workload("StatefulSet", container("prometheus", "prom/prometheus:v3.1.0", **fields)))
    assert is_agent(found, found.containers[0]) is expected


@pytest.mark.parametrize("tag", [":v2.53.0", ":v3.0.0", ":stable", "@sha256:" + "0" * 64, ""])
@pytest.mark.parametrize(
    "args",
    [
        ["--enable-feature=agent"],
        ["--enable-feature=exemplar-storage,agent"],
        ["--enable-feature", "agent"],
        ["--enable-feature=exemplar-storage", "--enable-feature=agent"],
    ],
)
def test_the_feature_agent_counts_whatever_the_tag(args: list[str], tag: str) -> None:
    found = read(workload("StatefulSet", container("prometheus", f"registry.example.com/prometheus{tag}", args=args)))
    assert is_agent(found, found.containers[0])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("grafana/alloy:v1.11.0", True),
        ("grafana/agent:v0.43", True),
        ("victoriametrics/vmagent:v1.130.0", True),
        ("victoriametrics/vlagent:v1.36.0", True),
        ("bitnamilegacy/grafana-alloy:1", True),
        ("fluent/fluent-bit:4", False),
        ("acme/agent:1", False),
        ("acme/alloy:1", False),
    ],
)
def test_agents_by_their_image(image: str, expected: bool) -> None:
    found = read(workload("StatefulSet", container("main", image)))
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
        pytest.param("Prometheus", {"enableFeatures": ["agent"]}, True, id="feature"),
        pytest.param("Prometheus", {"enableFeatures": ["x", "agent"], "version": "v2.53.0"}, True, id="features"),
        pytest.param("Prometheus", {"enableFeatures": ["x"]}, False, id="another-feature"),
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
    assert [is_agent(found, container) for container in series_containers(found)] == [False, True]
