"""scrape-endpoints: what of annotations, monitors and configurations keeps a target from being scraped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.scrape_endpoints.keys import Keys, keys_of, meant_by
from policies.scrape_endpoints.monitors import PROBES, SERVICE_MONITORS
from policies.scrape_endpoints.policy import POLICY, Params, examine
from policies.scrape_endpoints.prometheuses import PROMETHEUSES
from policies.scrape_endpoints.services import SERVICES
from policies.scrape_endpoints.templates import TEMPLATES
from tests.builders import (
    TODAY,
    config,
    config_map,
    container,
    custom,
    every_policy,
    facts,
    facts_of,
    request,
    workload,
)
from tests.fake_api import FakeApi
from webhook.check import check_files
from webhook.cluster.client import Cluster
from webhook.cluster.facts import list_facts
from webhook.engine import decide
from webhook.files.facts import kubectl_get
from webhook.objects.facts import LIMIT_RANGES, NO_FACTS, ClusterFacts
from webhook.policy import FactReference, Object, Set
from webhook.scope import calls

Found = list[tuple[str, str]]
"""Path and strongest mode of each violation."""

POD_ANNOTATIONS = "spec.template.metadata.annotations"
NO_PODS: Found = [("spec.selector", "warn")]


def annotated(kind: str = "Deployment", ports: tuple[int, ...] = (9102,), **keys: Any) -> Object:
    """A workload whose pods have prometheus.io/ annotations, "_" standing for "-"."""
    obj = workload(kind, container(ports=[{"name": f"port-{port}", "containerPort": port} for port in ports]))
    annotations = {f"prometheus.io/{key.replace('_', '-')}": value for key, value in keys.items()}
    obj["spec"]["template"]["metadata"]["annotations"] = annotations
    return obj


def service(
    name: str = "web", *ports: Object, namespace: str = "shop", selector: Object | None = None, **keys: Any
) -> Object:
    metadata: Object = {"name": name, "namespace": namespace, "labels": {"app": name, "tier": "front"}}
    metadata["annotations"] = {f"prometheus.io/{key.replace('_', '-')}": value for key, value in keys.items()}
    spec = {
        "selector": {"app": name} if selector is None else selector,
        "ports": list(ports) or [port("metrics", 9102)],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def external(**keys: Any) -> Object:
    """A Service that is another name: what it selects is passed over."""
    obj = service(**keys)
    obj["spec"]["type"] = "ExternalName"
    return obj


def port(name: str = "", number: int = 80, target: int | str | None = None) -> Object:
    return {"name": name, "port": number} | ({} if target is None else {"targetPort": target})


def monitor(*endpoints: Object, kind: str = "ServiceMonitor", labels: Object | None = None, **spec: Any) -> Object:
    key = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}.get(kind)
    of_kind = (
        {key: list(endpoints) or [{"port": "metrics"}], "selector": {"matchLabels": {"app": "web"}}} if key else {}
    )
    obj = custom(kind, {**of_kind, **spec}, name="web")
    obj["metadata"]["labels"] = labels or {}
    return obj


def prometheus(kind: str = "Prometheus", namespace: str = "shop", **spec: Any) -> Object:
    everything: Object = {f"{kind}Selector": {} for kind in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig")}
    obj = custom(kind, {**everything, **spec})
    obj["metadata"]["namespace"] = namespace
    return obj


def elsewhere() -> Object:
    """A Prometheus of another namespace, which takes monitors of namespaces of team a."""
    return prometheus(namespace="monitoring", serviceMonitorNamespaceSelector={"matchLabels": {"team": "a"}})


def central(interval: str) -> Object:
    """A Prometheus of another namespace, which takes the monitors of all."""
    return prometheus(namespace="monitoring", serviceMonitorNamespaceSelector={}, scrapeInterval=interval)


def namespace(**labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}


def found(obj: Object, known: ClusterFacts = NO_FACTS) -> Found:
    return [(violation.path, violation.at_most) for violation in examine(request(obj), known, Params())]


def key(name: str, above: str = POD_ANNOTATIONS) -> str:
    return f'{above}["prometheus.io/{name}"]'


@pytest.mark.parametrize(
    ("obj", "violations"),
    [
        pytest.param(annotated(scrape="true", port="9102", path="/m", scheme="https"), [], id="right"),
        pytest.param(annotated(scrape="true"), [], id="its-only-port"),
        pytest.param(annotated(scrape="false", port="x", path="x"), [], id="not-scraped"),
        pytest.param(annotated(port="x"), [], id="nothing-asks-for-it"),
        pytest.param(annotated(scrape="True"), [(key("scrape"), "deny")], id="upper-case"),
        pytest.param(annotated(scrape="yes"), [(key("scrape"), "deny")], id="yes"),
        pytest.param(annotated(scrape=""), [(key("scrape"), "deny")], id="empty"),
        pytest.param(annotated(scrape=" true"), [(key("scrape"), "deny")], id="a-space"),
        pytest.param(annotated(scrape=True), [(key("scrape"), "deny")], id="a-boolean"),
        pytest.param(annotated(scrape="true", port=9102), [(key("port"), "deny")], id="a-number"),
        pytest.param(annotated(scrape_slow="true"), [], id="slow"),
        pytest.param(annotated(scrape_slow="1"), [(key("scrape-slow"), "deny")], id="slow-1"),
        pytest.param(annotated(scrape="true", port="http"), [(key("port"), "deny")], id="a-port-s-name"),
        pytest.param(annotated(scrape="true", port="0"), [(key("port"), "deny")], id="port-0"),
        pytest.param(annotated(scrape="true", port="65536"), [(key("port"), "deny")], id="port-too-large"),
        pytest.param(annotated(scrape="true", port="1" * 5000), [(key("port"), "deny")], id="port-beyond-reason"),
        pytest.param(annotated(scrape="true", port="-1"), [(key("port"), "deny")], id="port-below-0"),
        pytest.param(annotated(scrape="true", port=""), [(key("port"), "deny")], id="port-empty"),
        pytest.param(annotated(scrape="true", port="8080"), [(key("port"), "warn")], id="port-undeclared"),
        pytest.param(annotated(scrape="true", port="15020"), [], id="port-of-a-mesh-s-sidecar"),
        pytest.param(
            annotated("StatefulSet", (), scrape="true", port="80"), [(key("port"), "warn")], id="none-declared"
        ),
        pytest.param(annotated(scrape="true", ports=(80, 81)), [(key("scrape"), "warn")], id="every-port"),
        pytest.param(annotated(scrape="true", ports=()), [(key("scrape"), "warn")], id="no-port"),
        pytest.param(
            annotated(scrape="True", port="8080"), [(key("scrape"), "deny"), (key("port"), "warn")], id="both"
        ),
        pytest.param(annotated(scrape="true", path="metrics"), [(key("path"), "deny")], id="no-slash"),
        pytest.param(annotated(scrape="true", path=""), [(key("path"), "deny")], id="no-path"),
        pytest.param(annotated(scrape="true", path="/m?format=x"), [(key("path"), "warn")], id="a-query"),
        pytest.param(annotated(scrape="true", scheme="HTTPS"), [(key("scheme"), "deny")], id="scheme-upper-case"),
        pytest.param(annotated(scrape="true", scheme="tcp"), [(key("scheme"), "deny")], id="another-scheme"),
        pytest.param(annotated(scrap="true"), [(key("scrap"), "warn")], id="a-slip"),
        pytest.param(annotated(probe="pushgateway", param_format="x", interval="15s"), [], id="others-known"),
        pytest.param(workload("Deployment"), [], id="no-annotations"),
    ],
)
def test_annotations(obj: Object, violations: Found) -> None:
    assert found(obj) == violations


@pytest.mark.parametrize("kind", ["Pod", "CronJob", "PodTemplate", "ReplicationController", "Job", "DaemonSet"])
def test_annotations_of_every_kind_of_pod(kind: str) -> None:
    obj = workload(kind)
    holder = {"Pod": obj, "CronJob": (obj.get("spec") or {}).get("jobTemplate", {}).get("spec", {}).get("template")}
    template = holder.get(kind) or obj.get("template") or obj["spec"]["template"]
    template["metadata"]["annotations"] = {"prometheus.io/scrape": "Yes", "prometheus.io/port": "80"}
    paths = {
        "Pod": "metadata.annotations",
        "CronJob": "spec.jobTemplate.spec.template.metadata.annotations",
        "PodTemplate": "template.metadata.annotations",
    }
    above = paths.get(kind, POD_ANNOTATIONS)
    assert found(obj) == [(key("scrape", above), "deny"), (key("port", above), "warn")]


def test_annotations_of_an_operator_s_pods() -> None:
    obj = custom("Alertmanager", {"podMetadata": {"annotations": {"prometheus.io/scrape": "on"}}})
    assert found(obj) == [(key("scrape", "spec.podMetadata.annotations"), "deny")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("prometheus.io/scrape", ""),
        ("prometheus.io.scrape", ""),
        ("prometheus_io_scrape", ""),
        ("prometheus.io/scrape_slow", ""),
        ("prometheus.io/param-format", ""),
        ("prometheus.io/Scrape", "prometheus.io/scrape"),
        ("prometheus.io/scrap", "prometheus.io/scrape"),
        ("prometheus.io/scraped", "prometheus.io/scrape"),
        ("prometheus.io/ports", "prometheus.io/port"),
        ("prometheus.io/schema", "prometheus.io/scheme"),
        ("promethues.io/scrape", "prometheus.io/scrape"),
        ("prometheus/scrape", "prometheus.io/scrape"),
        ("prometheus.io-scrape", ""),
        ("prometheus.io/team", ""),
        ("prometheus-operator.io/managed", ""),
        ("example.com/prometheus", ""),
        ("promotion/port", ""),
    ],
)
def test_spelling(written: str, meant: str) -> None:
    assert meant_by(written) == meant


@pytest.mark.parametrize(
    ("obj", "name", "value"),
    [
        pytest.param(annotated(scrape="TRUE"), "scrape", "true", id="case"),
        pytest.param(annotated(scrape="no"), "scrape", "false", id="no"),
        pytest.param(annotated(scrape="true", port="port-9102"), "port", "9102", id="a-declared-name"),
        pytest.param(annotated(scrape="true", path="m"), "path", "/m", id="slash"),
        pytest.param(annotated(scrape="true", scheme="Http"), "scheme", "http", id="scheme"),
    ],
)
def test_what_only_spelling_keeps_from_working_is_patched(obj: Object, name: str, value: str) -> None:
    cfg = config(every_policy(scrape_endpoints="mode: patch"))
    decision = decide(request(obj), NO_FACTS, cfg, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == ["patched"]
    assert decision.object is not None
    assert decision.object["spec"]["template"]["metadata"]["annotations"][f"prometheus.io/{name}"] == value


def test_the_api_server_refuses_a_number_itself() -> None:
    """The fix is shown, and not applied: nobody wrote the object that would be stored."""
    [violation] = examine(request(annotated(scrape="true", port=9102)), NO_FACTS, Params())
    assert (violation.refused, violation.fix) == (True, Set(key("port"), "9102"))


HTTP = port("http", 80, 8080)


@pytest.mark.parametrize(
    ("obj", "known", "violations"),
    [
        pytest.param(service(scrape="true", port="9102"), NO_FACTS, [("spec.selector", "warn")], id="pods-unseen"),
        pytest.param(
            service("web", port("http", 80, "http"), scrape="true", port="9102"),
            NO_FACTS,
            [("spec.selector", "warn")],
            id="a-name-of-pods-that-are-unseen",
        ),
        pytest.param(external(scrape="true"), facts_of([]), [], id="a-name-elsewhere"),
        pytest.param(service(), NO_FACTS, [], id="not-scraped"),
        pytest.param(service(scrape="true", port="9102", selector={}), NO_FACTS, [], id="without-selector"),
        pytest.param(service("web", HTTP, scrape="true", port="8080"), facts_of([annotated()]), [], id="target"),
        pytest.param(
            service("web", HTTP, scrape="true", port="80"),
            facts_of([annotated()]),
            [(key("port", "metadata.annotations"), "warn")],
            id="the-service-s-own-port",
        ),
        pytest.param(
            service("web", HTTP, scrape="true", port="81"),
            facts_of([annotated()]),
            [(key("port", "metadata.annotations"), "warn")],
            id="no-such-port",
        ),
        pytest.param(
            service("web", port("http", 80, "port-9102"), scrape="true", port="9102"),
            facts_of([annotated()]),
            [],
            id="a-name-that-is-declared",
        ),
        pytest.param(
            service("web", port("http", 80, "http"), scrape="true"),
            facts_of([annotated()]),
            [("spec.ports[0].targetPort", "warn")],
            id="a-name-that-is-not",
        ),
        pytest.param(
            service("web", port("http", 80, "http")),
            facts_of([annotated(), monitor({"port": "http"})]),
            [("spec.ports[0].targetPort", "warn")],
            id="of-a-monitor-s-port",
        ),
        pytest.param(
            service("web", port("http", 80, "http")),
            facts_of([annotated(), monitor({"port": "metrics"})]),
            [],
            id="of-no-monitor-s-port",
        ),
        pytest.param(
            service("web", HTTP, port("more", 81), scrape="true"),
            facts_of([annotated()]),
            [(key("scrape", "metadata.annotations"), "warn")],
            id="every-port",
        ),
        pytest.param(service(scrape="true"), facts_of([]), [("spec.selector", "warn")], id="no-pods"),
        pytest.param(service(), facts_of([monitor()]), [("spec.selector", "warn")], id="no-pods-of-a-monitored-one"),
        pytest.param(
            service(), facts_of([monitor(), prometheus()]), [("spec.selector", "warn")], id="its-monitor-is-taken"
        ),
        pytest.param(service(), facts_of([monitor(), elsewhere(), namespace()]), [], id="no-prometheus-takes-it"),
        pytest.param(
            service(selector={"operator.prometheus.io/name": "x"}, scrape="true"), NO_FACTS, [], id="an-operator-s-pods"
        ),
    ],
)
def test_services(obj: Object, known: ClusterFacts, violations: Found) -> None:
    assert found(obj, known) == violations


def made(kind: str, owner: str = "", *, controls: bool = True) -> Object:
    """A workload that is something else's, which controls it or not; it has the labels of its pods, as pods do."""
    reference = {"apiVersion": "x/v1", "kind": owner, "name": "web", "controller": controls}
    obj = workload(kind)
    obj["metadata"] |= {"labels": {"app": "web"}, "ownerReferences": [reference] if owner else []}
    return obj


@pytest.mark.parametrize(
    ("obj", "violations"),
    [
        *(
            pytest.param(made(kind), [], id=kind)
            for kind in (
                *("CronJob", "DaemonSet", "Deployment", "DeploymentConfig", "Job", "Pod", "ReplicaSet"),
                *("ReplicationController", "Rollout", "StatefulSet"),
            )
        ),
        pytest.param(made("Pod", "ReplicaSet"), NO_PODS, id="a-pod-of-a-workload-that-is-gone"),
        pytest.param(made("ReplicaSet", "Deployment"), NO_PODS, id="of-an-earlier-rollout"),
        pytest.param(made("ReplicaSet", "Rollout"), NO_PODS, id="of-a-rollout-s-earlier-one"),
        pytest.param(made("Job", "CronJob"), NO_PODS, id="a-job-of-a-cron-job"),
        pytest.param(made("Pod", "StrimziPodSet"), [], id="an-operator-s-pod"),
        pytest.param(made("Pod", "ReplicaSet", controls=False), [], id="a-pod-that-nothing-controls"),
    ],
)
def test_what_counts_as_pods_of_a_service(obj: Object, violations: Found) -> None:
    assert found(service(scrape="true"), facts_of([obj])) == violations
    monitored = [
        (path, mode) for path, mode in found(monitor(kind="PodMonitor"), facts_of([obj])) if path == NO_PODS[0][0]
    ]
    assert monitored == violations


def probe(**targets: Any) -> Object:
    return monitor(kind="Probe", targets=targets)


def ingress(where: str = "shop") -> Object:
    metadata = {"name": "web", "namespace": where, "labels": {"app": "web"}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {}}


NO_INGRESS: Found = [("spec.targets.ingress.selector", "warn")]
BY_LABEL: Object = {"selector": {"matchLabels": {"app": "web"}}}
ANYWHERE: Object = {"namespaceSelector": {"any": True}}


@pytest.mark.parametrize(
    ("obj", "known", "violations"),
    [
        pytest.param(probe(ingress=BY_LABEL), [ingress()], [], id="one"),
        pytest.param(probe(ingress=BY_LABEL), [], NO_INGRESS, id="none"),
        pytest.param(probe(ingress=BY_LABEL), [ingress("a")], NO_INGRESS, id="in-another-namespace"),
        pytest.param(probe(ingress=BY_LABEL | ANYWHERE), [ingress("a")], [], id="in-any-namespace"),
        pytest.param(probe(ingress={}), [ingress()], [], id="every-one"),
        pytest.param(probe(ingress={}), [], NO_INGRESS, id="none-of-any"),
        pytest.param(probe(ingress=BY_LABEL, staticConfig={"static": ["a"]}), [], [], id="passed-over"),
        pytest.param(probe(staticConfig={"static": ["a"]}), [], [], id="named-targets"),
    ],
)
def test_ingresses_of_a_probe(obj: Object, known: list[Object], violations: Found) -> None:
    assert found(obj, facts_of([prometheus(), *known])) == violations


def test_a_selector_of_everything_is_told_as_any() -> None:
    violation, *_ = examine(request(monitor(kind="PodMonitor", selector={})), facts_of([prometheus()]), Params())
    assert violation.message.startswith("no workload has pods with the labels that this PodMonitor selects (any): ")


def test_whether_there_is_an_ingress_is_not_told_where_none_are_seen() -> None:
    [violation] = examine(request(probe(ingress=BY_LABEL)), facts(), Params())
    assert (violation.path, violation.is_unknown) == ("spec.targets.ingress.selector", True)


def test_an_object_of_a_list_names_no_kind() -> None:
    """The API server leaves apiVersion and kind out of a list's items."""
    for obj, path in (
        (service(scrape="False"), key("scrape", "metadata.annotations")),
        (prometheus(scrapeTimeout="40s"), "spec.scrapeTimeout"),
    ):
        listed = msgspec.structs.replace(request(obj), object={field: obj[field] for field in ("metadata", "spec")})
        [violation] = examine(listed, NO_FACTS, Params())
        assert violation.path == path


def test_what_is_seen_in_some_namespaces_alone_is_not_known(api: FakeApi, tmp_path: Path) -> None:
    api.objects["services"], api.objects[TEMPLATES[0].resource] = [service()], []
    cluster = Cluster.from_kubeconfig(api.kubeconfig(tmp_path))
    read = list_facts(cluster, [SERVICES, *TEMPLATES[:1]], ["shop"]).facts
    assert (read.known, list(read.of(SERVICES))) == (frozenset(TEMPLATES[:1]), [("shop", "web")])
    [violation] = examine(request(monitor(namespaceSelector={"matchNames": ["a"]})), read, Params())
    assert (violation.path, violation.is_unknown) == ("spec.namespaceSelector", True)


def test_a_server_does_not_know_what_pods_there_are() -> None:
    """It watches Services and monitors, and leaves it to check and audit what they select."""
    watched = frozenset(kind for kind in POLICY.facts if kind.is_served)
    known = ClusterFacts(known=watched).with_objects([prometheus()], POLICY.facts)
    assert found(service(scrape="true"), known) == []
    assert found(monitor(kind="PodMonitor"), known) == []


@pytest.mark.parametrize(
    ("obj", "others", "violations"),
    [
        pytest.param(annotated(scrape="true"), [service(scrape="true")], [(key("scrape"), "warn")], id="same-port"),
        pytest.param(annotated(scrape="true"), [service("other", scrape="true")], [], id="of-other-pods"),
        pytest.param(annotated(scrape="true"), [service(namespace="a", scrape="true")], [], id="of-another-namespace"),
        pytest.param(annotated(scrape="true"), [service()], [], id="not-annotated"),
        pytest.param(
            annotated(scrape="true", port="9102", ports=(80, 9102)),
            [service("web", port("http", 80), scrape="true")],
            [],
            id="other-ports",
        ),
        pytest.param(
            annotated(scrape="true", port="9102", ports=(80, 9102)),
            [service("web", port("m", 81, "port-9102"), scrape="true")],
            [(key("scrape"), "warn")],
            id="by-its-name",
        ),
    ],
)
def test_the_same_target_twice(obj: Object, others: list[Object], violations: Found) -> None:
    assert found(obj, facts_of(others)) == violations


WEB = service("web", port("metrics", 9102), port("", 81))
ALL = [WEB, prometheus(), annotated()]


@pytest.mark.parametrize(
    ("obj", "others", "violations"),
    [
        pytest.param(monitor(), ALL, [], id="right"),
        pytest.param(monitor({"targetPort": 9102}), ALL, [], id="a-container-s-port"),
        pytest.param(monitor({}), ALL, [], id="every-port"),
        pytest.param(monitor({"port": "http"}), ALL, [("spec.endpoints[0].port", "warn")], id="no-such-name"),
        pytest.param(monitor({"port": "81"}), ALL, [("spec.endpoints[0].port", "warn")], id="an-unnamed-port"),
        pytest.param(monitor({"targetPort": 81}), ALL, [("spec.endpoints[0].targetPort", "warn")], id="no-container-s"),
        pytest.param(monitor(), [prometheus()], [("spec.selector", "warn")], id="no-service"),
        pytest.param(
            monitor(), [prometheus(), service(namespace="a")], [("spec.namespaceSelector", "warn")], id="elsewhere"
        ),
        pytest.param(
            monitor(namespaceSelector={"any": True}), [prometheus(), service(namespace="a")], [], id="in-any-namespace"
        ),
        pytest.param(
            monitor(namespaceSelector={"matchNames": ["a"]}), [prometheus(), service(namespace="a")], [], id="named"
        ),
        pytest.param(
            monitor(selector={"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]}),
            ALL,
            [],
            id="by-an-expression",
        ),
        pytest.param(
            monitor(selector={"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}),
            ALL,
            [("spec.selector", "warn")],
            id="by-an-expression-that-none-fulfils",
        ),
        pytest.param(monitor(), [WEB], [("metadata.labels", "audit")], id="no-prometheus"),
        pytest.param(
            monitor(),
            [WEB, prometheus(serviceMonitorSelector=None)],
            [("metadata.labels", "warn")],
            id="null-takes-nothing",
        ),
        pytest.param(
            monitor(),
            [WEB, prometheus(serviceMonitorSelector={"matchLabels": {"release": "x"}})],
            [("metadata.labels", "warn")],
            id="lacks-the-release",
        ),
        pytest.param(
            monitor(labels={"release": "x"}),
            [WEB, prometheus(serviceMonitorSelector={"matchLabels": {"release": "x"}})],
            [],
            id="has-the-release",
        ),
        pytest.param(
            monitor(), [WEB, prometheus(namespace="monitoring")], [("metadata.namespace", "warn")], id="own-namespace"
        ),
        pytest.param(
            monitor(),
            [WEB, prometheus(namespace="monitoring", serviceMonitorNamespaceSelector={})],
            [],
            id="all-namespaces",
        ),
        pytest.param(
            monitor(), [WEB, prometheus(serviceMonitorSelector=None), prometheus("PrometheusAgent")], [], id="an-agent"
        ),
        pytest.param(monitor(), [WEB, elsewhere(), namespace(team="a")], [], id="a-namespace-that-is-selected"),
        pytest.param(monitor(), [WEB, elsewhere()], [], id="a-namespace-whose-labels-are-unknown"),
        pytest.param(
            monitor(),
            [WEB, elsewhere(), namespace(team="b")],
            [("metadata.namespace", "warn")],
            id="a-namespace-that-is-not",
        ),
        pytest.param(monitor(kind="PodMonitor"), [prometheus()], [("spec.selector", "warn")], id="no-pods"),
        pytest.param(
            monitor(kind="PodMonitor"), ALL, [("spec.podMetricsEndpoints[0].port", "warn")], id="no-such-port-of-pods"
        ),
        pytest.param(monitor({"port": "port-9102"}, kind="PodMonitor"), ALL, [], id="a-port-of-pods"),
        pytest.param(
            monitor({"portNumber": 80}, kind="PodMonitor"),
            ALL,
            [("spec.podMetricsEndpoints[0].portNumber", "warn")],
            id="no-such-number-of-pods",
        ),
        pytest.param(monitor(kind="Probe"), [prometheus()], [], id="probe"),
        pytest.param(
            monitor(kind="ScrapeConfig"),
            [prometheus(scrapeConfigSelector=None)],
            [("metadata.labels", "warn")],
            id="scrape-config-that-none-takes",
        ),
    ],
)
def test_monitors(obj: Object, others: list[Object], violations: Found) -> None:
    assert found(obj, facts_of(others)) == violations


def slow(**fields: Any) -> Object:
    return {"port": "metrics", **fields}


@pytest.mark.parametrize(
    ("obj", "interval", "violations"),
    [
        pytest.param(monitor(slow(interval="30s", scrapeTimeout="30s")), "30s", [], id="as-long"),
        pytest.param(
            monitor(slow(interval="30s", scrapeTimeout="31s")),
            "2m",
            [("spec.endpoints[0].scrapeTimeout", "deny")],
            id="longer",
        ),
        pytest.param(
            monitor(slow(interval="30s", scrapeTimeout="1m")),
            "2m",
            [("spec.endpoints[0].scrapeTimeout", "deny")],
            id="another-unit",
        ),
        pytest.param(monitor(slow(interval="5s")), "30s", [], id="an-inherited-timeout-is-cut"),
        pytest.param(monitor(slow(scrapeTimeout="30s")), "30s", [], id="inherited"),
        pytest.param(
            monitor(slow(scrapeTimeout="30s")),
            "20s",
            [("spec.endpoints[0].scrapeTimeout", "deny")],
            id="inherited-less",
        ),
        pytest.param(monitor(slow(scrapeTimeout="30s")), None, [], id="the-operator-s-default"),
        pytest.param(
            monitor(slow(scrapeTimeout="31s")),
            None,
            [("spec.endpoints[0].scrapeTimeout", "deny")],
            id="beyond-the-operator-s-default",
        ),
        pytest.param(monitor(slow(interval="30 s")), "30s", [("spec.endpoints[0].interval", "deny")], id="no-duration"),
        pytest.param(
            monitor(slow(path="metrics"), {"port": "metrics", "scheme": "ftp"}),
            "30s",
            [("spec.endpoints[0].path", "deny"), ("spec.endpoints[1].scheme", "deny")],
            id="path-and-scheme",
        ),
        pytest.param(monitor(slow(path="/m", scheme="HTTPS")), "30s", [], id="scheme-of-the-resource"),
        pytest.param(
            monitor(kind="Probe", interval="10s", scrapeTimeout="20s", prober={"path": "probe"}),
            "30s",
            [("spec.scrapeTimeout", "deny"), ("spec.prober.path", "deny")],
            id="probe",
        ),
        pytest.param(
            monitor(kind="ScrapeConfig", scrapeInterval="10s", scrapeTimeout="20s", metricsPath="m"),
            "30s",
            [("spec.scrapeTimeout", "deny"), ("spec.metricsPath", "deny")],
            id="scrape-config",
        ),
    ],
)
def test_times(obj: Object, interval: str | None, violations: Found) -> None:
    given = {} if interval is None else {"scrapeInterval": interval}
    assert found(obj, facts_of([WEB, prometheus(**given)])) == violations


def test_a_timeout_whose_interval_is_unseen() -> None:
    [times, _] = examine(request(monitor(slow(scrapeTimeout="45s"))), facts(WEB), Params()), None
    [violation] = times
    assert (violation.path, violation.is_unknown) == ("spec.endpoints[0].scrapeTimeout", True)


@pytest.mark.parametrize(
    ("obj", "others", "violations"),
    [
        pytest.param(prometheus(), [monitor()], [], id="everything"),
        pytest.param(prometheus(scrapeInterval="10s", scrapeTimeout="10s"), [], [], id="as-long"),
        pytest.param(
            prometheus(scrapeInterval="10s", scrapeTimeout="20s"), [], [("spec.scrapeTimeout", "deny")], id="longer"
        ),
        pytest.param(prometheus(scrapeTimeout="40s"), [], [("spec.scrapeTimeout", "deny")], id="than-the-default"),
        pytest.param(
            prometheus("PrometheusAgent", scrapeTimeout="40s"), [], [("spec.scrapeTimeout", "deny")], id="an-agent"
        ),
        pytest.param(
            prometheus(serviceMonitorSelector={"matchLabels": {"release": "x"}}),
            [monitor()],
            [("spec.serviceMonitorSelector", "warn")],
            id="selects-none",
        ),
        pytest.param(
            prometheus(serviceMonitorSelector={"matchLabels": {"release": "x"}}), [], [], id="where-there-are-none"
        ),
        pytest.param(
            prometheus(serviceMonitorSelector={"matchLabels": {"release": "x"}}),
            [
                monitor(),
                monitor(labels={"release": "x"})
                | {"metadata": {"name": "b", "namespace": "shop", "labels": {"release": "x"}}},
            ],
            [],
            id="selects-one",
        ),
        pytest.param(custom("Alertmanager", {"scrapeTimeout": "40s"}), [], [], id="an-alertmanager"),
        pytest.param(
            prometheus(additionalScrapeConfigs={"name": "jobs", "key": "jobs.yaml"}),
            [],
            [("spec.additionalScrapeConfigs", "audit")],
            id="jobs-in-a-secret",
        ),
    ],
)
def test_prometheuses(obj: Object, others: list[Object], violations: Found) -> None:
    assert found(obj, facts_of(others)) == violations


@pytest.mark.parametrize(
    ("others", "mode"),
    [
        pytest.param([prometheus(scrapeInterval="30s")], "warn", id="its-own-one-scrapes-it"),
        pytest.param([prometheus(scrapeInterval="5s")], "deny", id="all-pass-it-over"),
        pytest.param([], "warn", id="none-of-its-own"),
        pytest.param([central("5s")], "warn", id="only-those-of-other-namespaces"),
        pytest.param([prometheus(scrapeInterval="5s"), central("30s")], "warn", id="a-third-one-scrapes-it"),
    ],
)
def test_what_a_foreign_prometheus_says_of_a_monitor_denies_it_only_where_its_own_does(
    others: list[Object], mode: str
) -> None:
    foreign = prometheus(namespace="foreign", serviceMonitorNamespaceSelector={}, scrapeInterval="1ms")
    known = facts_of([WEB, *others, foreign])
    assert found(monitor(slow(scrapeTimeout="10s")), known) == [("spec.endpoints[0].scrapeTimeout", mode)]


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(annotated(scrape=LONG), id="an-annotation"),
        pytest.param(annotated(scrape="true", path=LONG), id="a-path-and-the-one-to-set"),
        pytest.param(monitor({"interval": LONG, "scheme": LONG, "path": LONG}), id="a-monitor-s-fields"),
        pytest.param(monitor({"port": LONG}, selector={"matchLabels": {"app": LONG}}), id="a-selector"),
        pytest.param(
            config_map(prometheus_yml=json.dumps({"scrape_configs": [{"job_name": LONG, "scrape_timeout": "1h"}]})),
            id="a-job-s-name",
        ),
    ],
)
def test_of_a_long_value_the_middle_is_not_told(obj: Object) -> None:
    messages = [violation.message for violation in examine(request(obj), NO_FACTS, Params())]
    assert messages
    assert all("…" in message and len(message) < 1000 for message in messages if "xxx" in message)


def test_a_configuration_that_is_too_long_is_not_judged() -> None:
    obj = config_map(prometheus_yml=f"scrape_configs: []\n#{'x' * (1 << 18)}")
    [violation] = examine(request(obj), NO_FACTS, Params())
    assert (violation.path, violation.is_unknown) == ('data["prometheus.yml"]', True)


def test_a_selector_that_cannot_be_read_costs_its_object_alone(api: FakeApi, tmp_path: Path) -> None:
    """A custom resource is stored with whatever operator somebody writes; others are judged all the same."""
    odd = {"matchExpressions": [{"key": "app", "operator": "Equals", "values": ["web"]}]}
    api.objects["servicemonitors"] = [monitor(selector=odd)]
    api.objects["prometheuses"] = [prometheus(serviceMonitorNamespaceSelector=odd)]
    kinds = [kind for kind in POLICY.facts if kind.kind in ("ServiceMonitor", "Prometheus")]
    known = list_facts(Cluster.from_kubeconfig(api.kubeconfig(tmp_path)), kinds).facts
    wrong = "matchExpressions[0].operator is 'Equals', none of In, NotIn, Exists, DoesNotExist"
    assert {str(reference): why for reference, why in known.unreadable.items()} == {
        "ServiceMonitor shop/web": f"spec.selector.{wrong}",
        "Prometheus shop/main": f"spec.serviceMonitorNamespaceSelector.{wrong}",
    }
    assert found(service(scrape="true", port="9102"), known) == [("spec.selector", "warn")]
    assert found(monitor(slow(interval="5s", scrapeTimeout="9s")), known) == [
        ("spec.endpoints[0].scrapeTimeout", "deny"),
        ("spec.selector", "warn"),
    ]


TEAM_A = prometheus(serviceMonitorSelector={"matchLabels": {"team": "a"}})


@pytest.mark.parametrize(
    ("obj", "others", "odd", "message"),
    [
        pytest.param(
            monitor(),
            [WEB, TEAM_A],
            FactReference(PROMETHEUSES, "shop", "odd"),
            "no Prometheus that is seen here takes this ServiceMonitor: Prometheus shop/main selects by labels, of "
            "which this ServiceMonitor lacks team=a: give the ServiceMonitor that label",
            id="a-prometheus-may-take-the-monitor",
        ),
        pytest.param(
            TEAM_A,
            [monitor()],
            FactReference(SERVICE_MONITORS, "shop", "odd"),
            "Prometheus shop/main takes none of the ServiceMonitors that are seen here (1), since it selects team=a: "
            "select by labels that they have; {} takes all ServiceMonitors",
            id="a-monitor-may-be-what-is-taken",
        ),
    ],
)
def test_what_cannot_be_read_may_be_what_is_missing(
    obj: Object, others: list[Object], odd: FactReference, message: str
) -> None:
    [violation] = examine(request(obj), replace(facts_of(others), unreadable={odd: "why"}), Params())
    assert (violation.message, violation.is_unknown, violation.at_most) == (message, True, "warn")


def test_a_folder_is_judged_as_a_whole(write: Any) -> None:
    """Monitor, Service and Deployment are in different files, and none of them is wrong."""
    files = [
        write(f"deploy/{index}.yaml", obj) for index, obj in enumerate([monitor(), WEB, annotated(), prometheus()])
    ]
    cfg = config(every_policy(scrape_endpoints="mode: deny"))
    report = check_files([str(file) for file in files], cfg, NO_FACTS, today=TODAY)
    assert ([str(finding.verdict.violation) for finding in report.findings], report.errors) == ([], [])
    without = check_files([str(file) for file in files if "1.yaml" not in str(file)], cfg, NO_FACTS, today=TODAY)
    assert [(finding.verdict.violation.path, finding.verdict.outcome) for finding in without.findings] == [
        ("spec.selector", "unknown")
    ]


def test_a_policy_that_is_off_counts_no_object(write: Any) -> None:
    files = [str(write("a.yaml", WEB)), str(write("b.yaml", workload()))]
    report = check_files(files, config(), NO_FACTS, today=TODAY)
    assert [judged.kind for judged in report.judged] == ["Deployment"]


def configuration(*jobs: Object, key: str = "prometheus.yml", **shared: str) -> Object:
    text = json.dumps({"global": shared, "scrape_configs": list(jobs)})
    metadata = {"name": "prometheus", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}}


def pods(*rules: Object, role: str = "pod") -> Object:
    return {"job_name": "web", "kubernetes_sd_configs": [{"role": role}], "relabel_configs": list(rules)}


def address(replacement: str) -> Object:
    return {"source_labels": ["__address__"], "target_label": "__address__", "replacement": replacement}


def kept(label: str, regex: str) -> Object:
    return {"action": "keep", "source_labels": [f"__meta_kubernetes_{label}"], "regex": regex}


WRONG = [('data["prometheus.yml"]', "warn")]
DECLARED = [annotated(), service("blackbox", port("http", 9115))]


@pytest.mark.parametrize(
    ("obj", "others", "violations"),
    [
        pytest.param(configuration(pods(address("$1:9102"))), DECLARED, [], id="a-declared-port"),
        pytest.param(configuration(pods(address("${1}:9100"))), DECLARED, WRONG, id="an-undeclared-port"),
        pytest.param(configuration(pods(address("$1:9100"), role="endpoints")), DECLARED, WRONG, id="of-endpoints"),
        pytest.param(configuration(pods(address("$1:10250"), role="node")), DECLARED, [], id="of-nodes"),
        pytest.param(configuration(pods(address("$1:$2"))), DECLARED, [], id="an-annotated-port"),
        pytest.param(configuration(pods(address("$1:9100"))), [], [], id="where-nothing-is-seen"),
        pytest.param(configuration(pods(address("blackbox:9115"), role="service")), DECLARED, [], id="a-service"),
        pytest.param(
            configuration(pods(address("blackbox.shop.svc:80"), role="service")), DECLARED, WRONG, id="not-its-port"
        ),
        pytest.param(configuration(pods(address("blackbox.a:80"))), DECLARED, [], id="of-another-namespace"),
        pytest.param(configuration(pods(address("example.com:80"))), DECLARED, [], id="elsewhere"),
        pytest.param(
            configuration(pods(kept("pod_container_port_name", "port-9102|x"))), DECLARED, [], id="a-declared-name"
        ),
        pytest.param(
            configuration(pods(kept("pod_container_port_name", "metrics"))), DECLARED, WRONG, id="an-undeclared-name"
        ),
        pytest.param(
            configuration(pods(kept("pod_container_port_name", ".*metrics"))), DECLARED, [], id="a-pattern-of-names"
        ),
        pytest.param(configuration(pods(kept("pod_container_port_number", "9102"))), DECLARED, [], id="a-number"),
        pytest.param(
            configuration(pods(kept("pod_container_port_number", "80"))), DECLARED, WRONG, id="an-undeclared-number"
        ),
        pytest.param(
            configuration(pods(kept("endpoint_port_name", "http"), role="endpoints")), DECLARED, [], id="a-service-s"
        ),
        pytest.param(
            configuration(pods(kept("endpoint_port_name", "web"), role="endpoints")), DECLARED, WRONG, id="no-service-s"
        ),
        pytest.param(configuration({"job_name": "a", "metrics_path": "m"}), [], [(WRONG[0][0], "deny")], id="path"),
        pytest.param(configuration({"job_name": "a", "scheme": "htp"}), [], [(WRONG[0][0], "deny")], id="scheme"),
        pytest.param(configuration("no job", {"job_name": None}), [], [], id="no-jobs"),
        pytest.param(
            configuration(key="notes.txt", scrape_timeout="2m"), [], [('data["notes.txt"]', "deny")], id="key"
        ),
    ],
)
def test_plain_configurations(obj: Object, others: list[Object], violations: Found) -> None:
    assert found(obj, facts_of(others)) == violations


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("scrape_configs: [", id="broken"),
        pytest.param("scrape_configs: {a: b}", id="no-list"),
        pytest.param("- scrape_configs", id="a-list"),
        pytest.param("clients: [{url: x}]\nscrape_configs: [{job_name: a, scrape_timeout: 9h}]", id="promtail-s"),
        pytest.param("{{ if .x }}scrape_configs: []{{ end }}", id="a-template"),
        pytest.param("a: &a [*a]\nscrape_configs: *a", id="a-list-in-itself"),
        pytest.param("scrape_configs: " + "[" * 5000, id="deep"),
    ],
)
def test_what_is_no_configuration_is_passed_over(text: str) -> None:
    obj = configuration()
    obj["data"] = {"prometheus.yml": text, "binary": None}
    assert found(obj) == []


def test_the_api_server_is_never_asked_about_config_maps() -> None:
    cfg = config(every_policy(scrape_endpoints="mode: deny"))
    asked = {(call.kind.kind, call.operation) for stage in ("mutate", "validate") for call in calls(cfg, stage)}
    assert ("Service", "UPDATE") in asked
    assert "ConfigMap" not in {kind for kind, _ in asked}
    slow = request(configuration(scrape_timeout="2m"))
    assert decide(slow, NO_FACTS, cfg, today=TODAY, stage="validate").allowed
    assert not decide(slow, NO_FACTS, cfg, today=TODAY, stage="check").allowed


def test_nothing_is_asked_for_a_policy_that_is_off() -> None:
    asked = {call.kind.kind for call in calls(config(), "validate")}
    assert asked.isdisjoint({"Service", "ServiceMonitor", "PodMonitor", "Probe", "ScrapeConfig"})


def test_the_messages_say_what_to_write() -> None:
    known = facts_of([WEB, prometheus(serviceMonitorSelector={"matchLabels": {"release": "stack"}})])
    [violation] = examine(request(monitor()), known, Params())
    assert violation.message == (
        "no Prometheus takes this ServiceMonitor: Prometheus shop/main selects by labels, of which this ServiceMonitor "
        "lacks release=stack: give the ServiceMonitor that label"
    )
    assert violation.advice == (Set("metadata.labels.release", "stack"),)
    assert violation.hint == (
        "prometheus.prometheusSpec.serviceMonitorSelectorNilUsesHelmValues: false (of kube-prometheus-stack, which "
        "then takes every one)"
    )
    [violation] = examine(request(monitor({"port": "9102"})), facts_of([WEB, prometheus()]), Params())
    assert violation.message == (
        "port '9102' is the name of no port of Service 'web' (names: 'metrics'): set port to metrics"
    )
    assert violation.advice == (Set("spec.endpoints[0].port", "metrics"),)


@pytest.mark.parametrize(
    ("obj", "chart", "hint"),
    [
        (
            prometheus(scrapeTimeout="40s"),
            "kube-prometheus-stack-81.5.0",
            "prometheus.prometheusSpec.scrapeTimeout: 30s",
        ),
        (configuration(scrape_timeout="2m"), "prometheus-29.27.0", "server.global.scrape_timeout: 1m"),
        (configuration(scrape_timeout="2m"), "unknown-1.0.0", None),
    ],
    ids=["operator", "plain", "unknown"],
)
def test_the_helm_value(obj: Object, chart: str, hint: str | None) -> None:
    labels = {"helm.sh/chart": chart, "chart": chart, "app.kubernetes.io/component": "server", "release": "prometheus"}
    obj = {**obj, "metadata": {**obj["metadata"], "labels": labels}}
    [violation] = examine(request(obj), NO_FACTS, Params())
    assert violation.hint == hint


def test_the_prometheus_that_is_nearest_is_named() -> None:
    none = prometheus(serviceMonitorSelector=None)
    other = prometheus("PrometheusAgent", serviceMonitorSelector={"matchLabels": {"team": "a"}})
    [violation] = examine(request(monitor()), facts_of([WEB, none, other]), Params())
    assert violation.message == (
        "no Prometheus takes this ServiceMonitor: PrometheusAgent shop/main selects by labels, of which this "
        "ServiceMonitor lacks team=a: give the ServiceMonitor that label"
    )
    assert (violation.hint, violation.advice) == (None, (Set("metadata.labels.team", "a"),))


def test_of_several_spellings_the_first_counts() -> None:
    assert keys_of({"prometheus.io/scrape": "true", "prometheus.io.scrape": "false"}) == Keys(scrape="true")
    assert keys_of({"prometheus.io/team": "a"}) is None


def test_pods_of_other_namespaces_are_not_known_by_those_of_some() -> None:
    known = ClusterFacts(known=frozenset(TEMPLATES))
    [violation] = examine(request(monitor(kind="PodMonitor", namespaceSelector={"any": True})), known, Params())
    assert violation.is_unknown
    [violation] = examine(request(monitor(kind="PodMonitor")), known, Params())
    assert not violation.is_unknown


@pytest.mark.parametrize("old", ["True", "true"])
def test_what_was_there_before_only_warns(old: str) -> None:
    cfg = config(every_policy(scrape_endpoints="mode: deny"))
    asked = request(service(scrape="True", port="9102"), service(scrape=old, port="9102"))
    decision = decide(asked, facts_of([annotated()]), cfg, today=TODAY, stage="validate")
    assert decision.allowed is (old == "True")


def test_facts_come_from_each_custom_kind_by_itself() -> None:
    """kubectl prints nothing at all where one of the kinds that it is asked for isn't served."""
    assert kubectl_get([LIMIT_RANGES, SERVICES, PROBES]) == (
        "(kubectl get limitranges,services -A -o yaml; for kind in probes.monitoring.coreos.com; do echo ---; "
        "kubectl get $kind -A -o yaml 2> /dev/null; done)"
    )
