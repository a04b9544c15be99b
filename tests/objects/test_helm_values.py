"""Which Helm value stands behind a container's resources or a volume's class."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
import yaml

from tests.builders import SHARED, request
from webhook.objects import helm_values as charts
from webhook.objects.helm_values import Value, helm_value
from webhook.objects.pods import read_workload

CORPUS = SHARED / "corpus"


def labelled(kind: str = "Deployment", annotations: dict[str, str] | None = None, **labels: str) -> dict[str, Any]:
    """An object with these labels, by short names."""
    names = {
        "chart": "helm.sh/chart",
        "release": "app.kubernetes.io/instance",
        "component": "app.kubernetes.io/component",
        "old_chart": "chart",
        "old_release": "release",
        "old_component": "component",
    }
    named = {names.get(key, key): value for key, value in labels.items()}
    return {"kind": kind, "metadata": {"name": "x", "labels": named, "annotations": annotations}}


@pytest.mark.parametrize(
    ("obj", "name", "what", "value"),
    [
        pytest.param(
            labelled(chart="prometheus-29.27.0", release="prometheus", component="server"),
            "prometheus-server",
            "resources",
            "server.resources",
            id="server",
        ),
        pytest.param(
            labelled(chart="prometheus-29.27.0", release="prometheus", component="server"),
            "storage-volume",
            "storageClass",
            "server.persistentVolume.storageClass",
            id="volume",
        ),
        pytest.param(
            labelled("PersistentVolumeClaim", chart="prometheus-29.27.0", release="prometheus", component="server"),
            "prometheus-server",
            "storageClass",
            "server.persistentVolume.storageClass",
            id="claim",
        ),
        pytest.param(
            labelled(chart="prometheus-29.27.0", release="prometheus", component="server"),
            "my-own-volume",
            "storageClass",
            None,
            id="a-volume-that-the-chart-does-not-make",
        ),
        pytest.param(
            labelled(chart="prometheus-29.27.0", release="prometheus", component="server"),
            "istio-proxy",
            "resources",
            None,
            id="a-container-that-the-chart-does-not-make",
        ),
        pytest.param(
            labelled(old_chart="prometheus-15.18.0", old_release="prometheus", old_component="alertmanager"),
            "prometheus-alertmanager",
            "resources",
            "alertmanager.resources",
            id="legacy-labels",
        ),
        pytest.param(
            labelled(chart="alertmanager-1.42.0", release="alertmanager"),
            "alertmanager",
            "resources",
            "resources",
            id="a-subchart-by-itself",
        ),
        pytest.param(
            labelled(chart="alertmanager-1.42.0", release="prometheus"),
            "alertmanager",
            "resources",
            "alertmanager.resources",
            id="a-subchart-in-its-umbrella",
        ),
        pytest.param(
            labelled(chart="grafana-10.5.15", release="monitoring"),
            "grafana",
            "resources",
            None,
            id="a-release-name-that-tells-nothing",
        ),
        pytest.param(
            labelled(chart="grafana-10.5.15", release="team-grafana"),
            "grafana",
            "resources",
            "resources",
            id="a-release-named-after-the-chart",
        ),
        pytest.param(
            labelled(chart="kube-state-metrics-7.1.0", release="prometheus"),
            "kube-state-metrics",
            "resources",
            "kube-state-metrics.resources",
            id="two-umbrellas-that-agree",
        ),
        pytest.param(
            labelled(
                chart="grafana-10.5.15",
                release="monitoring",
                annotations={"meta.helm.sh/release-name": "kube-prometheus-stack"},
            ),
            "grafana-sc-dashboard",
            "resources",
            "grafana.sidecar.resources",
            id="helm's-annotation-names-the-release",
        ),
        pytest.param(
            labelled(app="prometheus", old_release="kubecost", old_component="server"),
            "prometheus-server",
            "resources",
            "prometheus.server.resources",
            id="kubecost-strips-the-chart-label",
        ),
        pytest.param(
            labelled(app="prometheus", old_release="prometheus", old_component="server"),
            "prometheus-server",
            "resources",
            None,
            id="an-app-label-alone-proves-no-chart",
        ),
        pytest.param(
            labelled("Prometheus", old_chart="kube-prometheus-stack-81.5.0", old_release="mon"),
            "prometheus",
            "resources",
            "prometheus.prometheusSpec.resources",
            id="an-operator's-resource",
        ),
        pytest.param(
            labelled(chart="jupyterhub-4.4.0", release="jhub", component="user-placeholder"),
            "pause",
            "resources",
            "scheduling.userPlaceholder.resources",
            id="the-component-decides",
        ),
        pytest.param(
            labelled(chart="jupyterhub-4.0.0", old_release="binder", old_component="hub"),
            "hub",
            "resources",
            "jupyterhub.hub.resources",
            id="the-hub-of-a-binder",
        ),
        pytest.param(
            labelled(
                chart="jupyterhub-4.0.0", old_component="hub", annotations={"meta.helm.sh/release-name": "daskhub"}
            ),
            "hub",
            "resources",
            "jupyterhub.hub.resources",
            id="the-hub-of-a-daskhub",
        ),
        pytest.param(
            labelled(chart="jupyterhub-4.0.0", old_release="staging", old_component="hub"),
            "hub",
            "resources",
            None,
            id="a-hub-of-who-knows-what",
        ),
        pytest.param(
            labelled(chart="opencost-2.5.17", release="k8s-monitoring"),
            "opencost",
            "resources",
            None,
            id="an-umbrella-that-no-release-tells",
        ),
        pytest.param(
            labelled(chart="mimir-distributed-5.7.0", release="mimir", component="alertmanager"),
            "storage",
            "storageClass",
            "alertmanager.persistentVolume.storageClass",
            id="mimir's-alertmanager",
        ),
        pytest.param(
            labelled(chart="mimir-distributed-5.7.0", release="lgtm", component="ingester"),
            "ingester",
            "resources",
            "mimir.ingester.resources",
            id="mimir-in-its-umbrella",
        ),
        pytest.param(
            labelled(chart="victoria-metrics-single-0.45.0", release="vmsingle", component="server"),
            "server-volume",
            "storageClass",
            "server.persistentVolume.storageClassName",
            id="a-renamed-value",
        ),
        pytest.param(
            labelled(chart="victoria-metrics-single-0.10.5", release="vmsingle", component="server"),
            "server-volume",
            "storageClass",
            "server.persistentVolume.storageClass",
            id="before-it-was-renamed",
        ),
        pytest.param(
            labelled(chart="victoria-metrics-single-0.10.5", release="vmsingle", component="server"),
            "vmsingle",
            "resources",
            "server.resources",
            id="what-was-not-renamed",
        ),
        pytest.param(
            labelled("PersistentVolumeClaim", chart="victoria-metrics-single-0.11.0", release="vmsingle"),
            "vmsingle",
            "storageClass",
            "server.persistentVolume.storageClassName",
            id="the-version-that-renamed-it",
        ),
        pytest.param(
            labelled(chart="victoria-metrics-cluster-0.30.0", release="vm", app="vmstorage"),
            "vmstorage-volume",
            "storageClass",
            "vmstorage.persistentVolume.storageClassName",
            id="vmstorage",
        ),
        pytest.param(
            labelled(chart="victoria-metrics-cluster-0.12.1", release="vm", app="vmstorage"),
            "vmstorage-volume",
            "storageClass",
            "vmstorage.persistentVolume.storageClass",
            id="an-old-vmstorage",
        ),
        pytest.param(
            labelled("PrometheusAgent", old_chart="kube-prometheus-stack-81.5.0", old_release="mon"),
            "prometheus",
            "resources",
            "prometheus.prometheusSpec.resources",
            id="an-agent-of-the-operator",
        ),
        pytest.param(
            labelled("PrometheusAgent", old_chart="kube-prometheus-stack-81.5.0", old_release="mon"),
            "prom-agent-mon-db",
            "storageClass",
            "prometheus.prometheusSpec.storageSpec.volumeClaimTemplate.spec.storageClassName",
            id="an-agent's-class",
        ),
        pytest.param(labelled(chart="podinfo-6.5.0"), "podinfo", "resources", None, id="unknown-chart"),
        pytest.param({"kind": "Pod", "metadata": {"labels": None}}, "web", "resources", None, id="no-labels"),
        pytest.param(
            {"metadata": {"labels": {"chart": 1.5, "release": 2}}}, "web", "resources", None, id="unquoted-labels"
        ),
        pytest.param({}, "web", "resources", None, id="no-metadata"),
    ],
)
def test_helm_value(obj: dict[str, Any], name: str, what: Value, value: str | None) -> None:
    assert helm_value(obj, name, what) == value


def test_umbrellas_that_disagree_give_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    known = charts._read_charts()
    other = charts._Umbrella(releases=("prometheus",), subcharts={"alertmanager": "elsewhere"})
    more = msgspec.structs.replace(known, umbrellas={**known.umbrellas, "other": other})
    monkeypatch.setattr(charts, "_read_charts", lambda: more)
    obj = labelled(chart="alertmanager-1.42.0", release="prometheus")
    assert helm_value(obj, "alertmanager", "resources") is None


def rendered() -> dict[str, dict[str, Any]]:
    """Each render of the corpus, and the values that were set for it, as the corpus' README shows them."""
    if not CORPUS.is_dir():
        return {}
    _, *parts = re.split(r"^`(\S+\.yaml)`:", (CORPUS / "README.md").read_text(), flags=re.MULTILINE)
    shown = {
        file: re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
        for file, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {file: yaml.safe_load(found[1]) if found else {} for file, found in shown.items()}


def at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def memory_of(resources: dict[str, Any] | None) -> list[Any]:
    return [((resources or {}).get(part) or {}).get("memory") for part in ("requests", "limits")]


def set_values(values: Any, key: str, above: str = "") -> set[str]:
    """The paths of every value of that name, but for what a claim's template asks for."""
    found: set[str] = set()
    for name, value in values.items() if isinstance(values, dict) else ():
        path = f"{above}.{name}" if above else name
        found |= {path} if name == key and "volumeClaimTemplate" not in above else set_values(value, key, path)
    return found


# Their charts' templates take no value, or the labels don't tell how the chart was installed (loki 2, thanos 0.19).
UNKNOWN = {
    "copyutil",
    "secret-init",
    "cost-analyzer-server",
    "loki",
    "thanos-sidecar",
    "thanos-compact",
    "thanos-query",
}
UNKNOWN |= {"thanos-query-frontend", "thanos-store"}
# Charts of which nothing is known.
OTHERS = ("gatekeeper/", "kubernetes-examples/", "kyverno/", "microservices-demo/")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts beside the checkout")
@pytest.mark.parametrize("file", [file for file in rendered() if not file.startswith(OTHERS)])
def test_a_value_is_what_the_chart_puts_there(file: str) -> None:
    """Each container's value, where it was set, is what the render has there; and each value that was set is known."""
    values, hints = rendered()[file], set()
    for obj in filter(None, yaml.load_all((CORPUS / file).read_text(), yaml.CSafeLoader)):
        read = read_workload(request(obj))
        for container in read.containers if read else ():
            hint = helm_value(obj, container.name, "resources")
            assert hint is not None or container.name in UNKNOWN, container.name
            if hint and at(values, hint) is not None:
                was_set, has = memory_of(at(values, hint)), memory_of(dict(container.resources))
                # What wasn't set is the chart's default.
                assert was_set == [amount and there for amount, there in zip(was_set, has, strict=True)], hint
                hints.add(hint)
    assert set_values(values, "resources") - hints <= (
        {"resources"} if file == "loki/single-persistence.yaml" else set()
    )


@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts beside the checkout")
def test_every_claim_of_known_charts_has_a_value() -> None:
    unknown = set()
    for file in (file for file in rendered() if not file.startswith(OTHERS)):
        for obj in filter(None, yaml.load_all((CORPUS / file).read_text(), yaml.CSafeLoader)):
            if obj["kind"] == "PersistentVolumeClaim" and not helm_value(obj, obj["metadata"]["name"], "storageClass"):
                unknown.add((file, obj["metadata"]["name"]))
            for template in obj["spec"].get("volumeClaimTemplates") or () if obj["kind"] == "StatefulSet" else ():
                if not helm_value(obj, template["metadata"]["name"], "storageClass"):
                    unknown.add((file, obj["metadata"]["name"]))
    assert unknown == {
        ("kubecost/v1.81-thanos.yaml", "compact-data-volume"),
        ("loki/single-persistence.yaml", "loki"),
        ("loki/stack-prometheus-grafana.yaml", "loki"),
    }
