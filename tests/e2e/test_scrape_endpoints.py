"""scrape-endpoints on a real control plane: Services and monitors are matched as they are stored."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from policies.scrape_endpoints import observed
from tests.builders import SHARED
from tests.e2e.guarded import Guarded, Object, deployment
from tests.loopback import eventually
from webhook.cli import main

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the Prometheus operator's CRDs beside the checkout")

ON = """
policies:
  memory-limits: {mode: "off"}
  metrics-durability: {mode: "off"}
  prometheus-memory: {mode: "off"}
  scrape-endpoints: {mode: deny}
  zonal-volumes: {mode: "off"}
"""
DRY_RUN = ("--dry-run=server",)
RELEASE = {"release": "stack"}
SLOW = {"prometheus.yml": "scrape_configs: [{job_name: web, scrape_interval: 5s, scrape_timeout: 9s}]"}


def custom(kind: str, namespace: str, labels: Object | None = None, version: str = "v1", **spec: Any) -> Object:
    metadata = {"name": "web", "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": f"monitoring.coreos.com/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def prometheus(namespace: str) -> Object:
    selector = {"matchLabels": RELEASE}
    return custom("Prometheus", namespace, scrapeInterval="15s", serviceMonitorSelector=selector)


def monitor(namespace: str, labels: Object | None = None, **endpoint: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    return custom("ServiceMonitor", namespace, labels, selector=selector, endpoints=[{"port": "metrics", **endpoint}])


def service(namespace: str, **annotations: str) -> Object:
    metadata = {"name": "web", "namespace": namespace, "labels": {"app": "web"}}
    metadata["annotations"] = {f"prometheus.io/{key}": value for key, value in annotations.items()}
    spec = {"selector": {"app": "web"}, "ports": [{"name": "metrics", "port": 9102}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def answer(cluster: Guarded, obj: Object) -> tuple[int, str]:
    done = cluster.try_apply(obj, arguments=DRY_RUN)
    return done.returncode, done.stderr


def test_services_and_monitors_are_matched(cluster: Guarded, namespace: str) -> None:
    for resource in ("prometheuses", "prometheusagents"):  # of tests before
        cluster.kubectl("delete", f"{resource}.monitoring.coreos.com", "--all", "--all-namespaces")
    with cluster.server.configured(ON):
        # Where there is none, another program may read monitors.
        eventually(lambda: "no Prometheus" not in answer(cluster, monitor(namespace, RELEASE))[1])
        code, said = answer(cluster, monitor(namespace, RELEASE))
        assert (code, "no Service in namespace" in said) == (0, True)
        cluster.apply(service(namespace), prometheus(namespace))
        # The server hears of both a moment later.
        eventually(lambda: answer(cluster, monitor(namespace, RELEASE)) == (0, ""))
        code, said = answer(cluster, monitor(namespace))
        assert (code, "lacks release=stack: give the ServiceMonitor that label" in said) == (0, True)
        code, said = answer(cluster, monitor(namespace, RELEASE, port="9102"))
        assert (code, "port '9102' is the name of no port of Service 'web'" in said) == (0, True)
        code, said = answer(cluster, monitor(namespace, RELEASE, scrapeTimeout="20s"))
        assert code == 1
        assert f"longer than the interval of 15s at which Prometheus {namespace}/web scrapes" in said
        code, said = answer(cluster, monitor(namespace, RELEASE, interval="30s", scrapeTimeout="20s"))
        assert (code, said) == (0, "")
        cluster.kubectl("delete", "service/web", "-n", namespace)
        eventually(lambda: "no Service in namespace" in answer(cluster, monitor(namespace, RELEASE))[1])


def test_what_is_certain_is_denied(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured(ON):
        code, said = answer(cluster, service(namespace, scrape="True", port="9102"))
        assert (code, "annotation prometheus.io/scrape is 'True', and only 'true' has" in said) == (1, True)
        slow = custom("ScrapeConfig", namespace, version="v1alpha1", scrapeInterval="5s", scrapeTimeout="9s")
        code, said = answer(cluster, slow)
        assert (code, "scrapeTimeout 9s is longer than scrapeInterval 5s and is refused" in said) == (1, True)
        code, said = answer(cluster, service(namespace, scrape="true", port="9102"))
        assert (code, said) == (0, "")


def test_config_maps_are_judged_where_they_are_stored(
    cluster: Guarded,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = {"name": "prometheus", "namespace": namespace}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": SLOW}
    with cluster.server.configured(ON):
        scraped = service(namespace, scrape="true", port="9102")
        slow = custom("ScrapeConfig", namespace, version="v1alpha1", metricsPath="metrics")
        assert cluster.apply(config_map, scraped) == ""
        assert cluster.server.log(kind="ConfigMap", namespace=namespace) == []
    cluster.apply(slow, deployment("other", namespace, {"name": "web", "image": "nginx:1.27"}))
    monkeypatch.setattr(observed, "_ROLLOUT", timedelta())
    (tmp_path / "config.yaml").write_text(ON)
    capsys.readouterr()
    options = [f"--config={tmp_path / 'config.yaml'}", f"--kubeconfig={cluster.plane.kubeconfig}", "--output=json"]
    main(["audit", f"--namespace={namespace}", *options])
    document = json.loads(capsys.readouterr().out)
    results = [result for result in document["results"] if result["policy"] == "scrape-endpoints"]
    assert {(result["kind"], result["path"], result["outcome"]) for result in results} == {
        ("ConfigMap", 'data["prometheus.yml"]', "denied"),
        ("ScrapeConfig", "spec.metricsPath", "denied"),
        ("Service", "spec.selector", "warned"),
    }
    [broken] = document["observations"]
    assert (broken["kind"], broken["name"], broken["policy"]) == ("Service", "web", "scrape-endpoints")
    assert broken["message"].startswith("Service 'web' has no ready endpoint, so that nothing of it is scraped")
