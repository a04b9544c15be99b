"""Kinds that pods come of although no policy judges them."""

from __future__ import annotations

from typing import Any

import pytest

from webhook.objects.unjudged import Unjudged, unjudged_kind

POD = {"containers": [{"name": "a", "image": "b"}]}


@pytest.mark.parametrize(
    ("group", "kind", "spec", "expected"),
    [
        pytest.param(
            "keda.sh",
            "ScaledJob",
            {"jobTargetRef": {"template": {"spec": POD}}},
            Unjudged("keda.sh", "ScaledJob", ("spec.jobTargetRef.template.spec",)),
            id="a-template",
        ),
        pytest.param(
            "serving.knative.dev",
            "Service",
            {"template": {"spec": {"containers": [{"image": "b"}]}}},
            Unjudged("serving.knative.dev", "Service", ("spec.template.spec",)),
            id="a-container-without-a-name",
        ),
        pytest.param(
            "ray.io",
            "RayCluster",
            {
                "headGroupSpec": {"template": {"spec": POD}},
                "workerGroupSpecs": [{"template": {"spec": POD}}, {"template": {"spec": POD}}],
            },
            Unjudged(
                "ray.io", "RayCluster", ("spec.headGroupSpec.template.spec", "spec.workerGroupSpecs[*].template.spec")
            ),
            id="templates-in-a-list",
        ),
        pytest.param(
            "helm.toolkit.fluxcd.io",
            "HelmRelease",
            {"chart": {}},
            Unjudged("helm.toolkit.fluxcd.io", "HelmRelease", maker="chart"),
            id="a-chart",
        ),
        pytest.param(
            "operator.victoriametrics.com",
            "VMCluster",
            {"vmstorage": {"replicaCount": 2}},
            Unjudged("operator.victoriametrics.com", "VMCluster", maker="operator"),
            id="an-operator-s",
        ),
        pytest.param("apps", "ControllerRevision", {"template": {"spec": POD}}, None, id="a-revision"),
        pytest.param("example.com", "Widget", {"containers": [{"name": "a"}]}, None, id="containers-without-images"),
        pytest.param("example.com", "Widget", {"containers": {"image": "a"}}, None, id="no-list"),
        pytest.param("", "Service", {"ports": [{"port": 80}]}, None, id="nothing-of-the-sort"),
        pytest.param("example.com", "Widget", None, None, id="no-spec"),
    ],
)
def test_unjudged_kind(group: str, kind: str, spec: Any, expected: Unjudged | None) -> None:
    assert unjudged_kind(group, kind, {"kind": kind, "spec": spec}) == expected


def test_what_is_nested_without_end_ends() -> None:
    spec: Any = POD
    for _ in range(1000):
        spec = {"a": spec}
    assert unjudged_kind("example.com", "Widget", {"spec": spec}) is None
