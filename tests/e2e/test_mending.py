"""What a patch leaves behind: whoever mends it afterwards isn't trapped, and what vanishes comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.guarded import Guarded, Object, deployment, memory_of
from tests.e2e.test_ratchet import make_old

CHART = {
    "Chart.yaml": "{apiVersion: v2, name: web, version: 1.0.0}",
    "values.yaml": "{resources: {}}",
    "templates/deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1.27", resources: {{ toJson .Values.resources }}}]}
""",
}
Bring = Callable[[Guarded, str, Object, Path], tuple[int, str]]
"""Brings a Deployment with these resources, as people do; returns the exit code and what was printed."""


def web(namespace: str, resources: Object) -> Object:
    return deployment("web", namespace, {"name": "web", "image": "nginx:1.27", "resources": resources})


def by_apply(cluster: Guarded, namespace: str, resources: Object, _: Path) -> tuple[int, str]:
    done = cluster.try_apply(web(namespace, resources))
    return done.returncode, done.stderr


def by_server_side_apply(cluster: Guarded, namespace: str, resources: Object, _: Path) -> tuple[int, str]:
    done = cluster.try_apply(web(namespace, resources), arguments=("--server-side",))
    return done.returncode, done.stderr


def by_helm(cluster: Guarded, namespace: str, resources: Object, folder: Path) -> tuple[int, str]:
    return _helm(cluster, namespace, resources, folder)


def by_helm_client_side(cluster: Guarded, namespace: str, resources: Object, folder: Path) -> tuple[int, str]:
    return _helm(cluster, namespace, resources, folder, "--server-side=false")


def _helm(cluster: Guarded, namespace: str, resources: Object, folder: Path, *options: str) -> tuple[int, str]:
    for name, text in CHART.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    # What is set to null, Helm drops.
    values = ("--set-json", f"resources={json.dumps(resources)}")
    done = cluster.helm("upgrade", "--install", "web", str(folder), "-n", namespace, *values, *options)
    return done.returncode, done.stderr


BRINGS = [
    pytest.param(by_apply, id="apply"),
    pytest.param(by_server_side_apply, id="server-side-apply"),
    pytest.param(by_helm, id="helm"),
    pytest.param(by_helm_client_side, id="helm-client-side"),
]


def brought(cluster: Guarded, namespace: str) -> tuple[str | None, str | None]:
    return memory_of(cluster.get("deployment", "web", namespace))


@pytest.mark.parametrize("bring", BRINGS)
@pytest.mark.parametrize(
    ("mend", "wrong", "fix", "expected"),
    [
        pytest.param(
            {"limits": {"memory": "128Mi"}},
            "request 256Mi, which is the default's, above its limit 128Mi",
            "requests.memory=128Mi",
            ("128Mi", "128Mi"),
            id="a-limit",
        ),
        pytest.param(
            {"requests": {"memory": "1Gi"}},
            "limit 512Mi, which is the default's, below its request 1Gi",
            "limits.memory=1Gi",
            ("1Gi", "1Gi"),
            id="a-request",
        ),
    ],
)
def test_what_was_patched_can_be_mended(
    helm: Guarded,
    namespace: str,
    tmp_path: Path,
    bring: Bring,
    mend: Object,
    wrong: str,
    fix: str,
    expected: tuple[str, str],
) -> None:
    assert bring(helm, namespace, {}, tmp_path)[0] == 0
    assert brought(helm, namespace) == ("256Mi", "512Mi")
    code, printed = bring(helm, namespace, mend, tmp_path)
    assert (code, brought(helm, namespace)) == (0, expected)
    assert f"Deployment web, container web: memory-limits: memory {wrong}: patched to {fix}" in printed
    helm.rolled_out("deployment/web", namespace)


@pytest.mark.parametrize("bring", BRINGS)
def test_a_limit_that_vanishes_comes_back(helm: Guarded, namespace: str, tmp_path: Path, bring: Bring) -> None:
    sized = {"requests": {"memory": "300Mi"}, "limits": {"memory": "4Gi"}}
    assert bring(helm, namespace, sized, tmp_path)[0] == 0
    code, printed = bring(helm, namespace, {"requests": {"memory": "300Mi"}}, tmp_path)
    assert (code, brought(helm, namespace)) == (0, ("300Mi", "4Gi"))
    assert ": no memory limit, where it had 4Gi: patched to limits.memory=4Gi" in printed


def test_what_nobody_s_default_gave_is_the_api_server_s_to_refuse(cluster: Guarded, namespace: str) -> None:
    cluster.apply(web(namespace, {"requests": {"memory": "300Mi"}, "limits": {"memory": "1Gi"}}))
    done = cluster.try_apply(web(namespace, {"requests": {"memory": "300Mi"}, "limits": {"memory": "128Mi"}}))
    assert (done.returncode, "must be less than or equal to memory limit of 128Mi" in done.stderr) == (1, True)
    created = cluster.try_apply(
        deployment("zero", namespace, _sized("web", {"requests": {"memory": "300Mi"}, "limits": {"memory": "0"}}))
    )
    assert (created.returncode, "must be less than or equal to memory limit of 0" in created.stderr) == (1, True)


def _sized(name: str, resources: Object) -> Object:
    return {"name": name, "image": "nginx:1.27", "resources": resources}


def test_undoing_a_rollout_takes_no_limit_away(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, web(old_namespace, {}))
    cluster.apply(web(old_namespace, {"limits": {"memory": "4Gi"}, "requests": {"memory": "1Gi"}}))
    cluster.rolled_out("deployment/web", old_namespace)
    cluster.kubectl("rollout", "undo", "deployment/web", "-n", old_namespace)
    assert brought(cluster, old_namespace) == ("1Gi", "4Gi")


def test_a_json_patch_takes_no_limit_away(cluster: Guarded, namespace: str) -> None:
    cluster.apply(web(namespace, {"limits": {"memory": "4Gi"}, "requests": {"memory": "1Gi"}}))
    removal = '[{"op": "remove", "path": "/spec/template/spec/containers/0/resources"}]'
    cluster.kubectl("patch", "deployment/web", "--type=json", "-p", removal, "-n", namespace)
    assert brought(cluster, namespace) == ("1Gi", "4Gi")


def test_a_container_may_be_renamed_and_become_a_sidecar(cluster: Guarded, old_namespace: str) -> None:
    proxy = {"name": "proxy", "image": "envoy:1.33"}
    make_old(cluster, old_namespace, deployment("web", old_namespace, _sized("web", {}), proxy))
    sidecar: list[dict[str, Any]] = [{**proxy, "restartPolicy": "Always"}]
    renamed = deployment("web", old_namespace, _sized("app", {}), initContainers=sidecar)
    with cluster.server.configured("policies: {memory-limits: {mode: deny}}"):
        done = cluster.try_apply(renamed)
    assert (done.returncode, done.stderr.count("it was so before this change")) == (0, 2)
