"""Which Helm value stands behind a container's resources or a volume's class."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.builders import SHARED
from webhook.objects import helm_values as charts
from webhook.objects.helm_values import Value, helm_value

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
    more = charts._Charts(known.charts, {**known.umbrellas, "other": other})
    monkeypatch.setattr(charts, "_read_charts", lambda: more)
    obj = labelled(chart="alertmanager-1.42.0", release="prometheus")
    assert helm_value(obj, "alertmanager", "resources") is None


@pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts")
@pytest.mark.parametrize(
    "file", ["prometheus/default", "kube-prometheus-stack/storagespec", "jupyterhub/default", "kubecost/v2.4-default"]
)
def test_rendered_chart_is_known_throughout(file: str) -> None:
    """Every container of these renders has a value: names and labels in charts.json are the charts' own."""
    unknown = []
    for obj in yaml.load_all((CORPUS / f"{file}.yaml").read_text(), yaml.CSafeLoader):
        if obj and obj["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            spec = obj["spec"]["template"]["spec"]
            containers = (spec.get("initContainers") or []) + spec["containers"]
            unknown += [c["name"] for c in containers if helm_value(obj, c["name"], "resources") is None]
        if (
            obj
            and obj["kind"] == "PersistentVolumeClaim"
            and helm_value(obj, obj["metadata"]["name"], "storageClass") is None
        ):
            unknown.append(obj["metadata"]["name"])
    assert unknown == []
