"""An object that is being deleted lives on while a finalizer holds it: what is made of it gets past no policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.guarded import Guarded, Object, memory_of
from tests.e2e.test_policies import ENOUGH, TOO_LITTLE
from tests.loopback import eventually

HOLD = "forestall.test/hold"
SERVER = "prom/prometheus:v3.1.0"
REPLICATED = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController")
VERSIONS = {
    **dict.fromkeys(("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"), "apps/v1"),
    "CronJob": "batch/v1",
    **dict.fromkeys(("ReplicationController", "PodTemplate", "Pod"), "v1"),
}


def held(kind: str, namespace: str, image: str, resources: Object) -> Object:
    """An object of the kind that doesn't go before its finalizer does."""
    labels = {"app": "web"}
    spec: Object = {"containers": [{"name": "web", "image": image, "resources": resources}]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    metadata = {"name": "web", "namespace": namespace, "finalizers": [HOLD]}
    obj: Object = {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata}
    match kind:
        case "Pod":
            return {**obj, "spec": spec}
        case "PodTemplate":
            return {**obj, "template": template}
        case "CronJob":
            spec["restartPolicy"] = "Never"
            job = {"spec": {"template": template}}
            return {**obj, "spec": {"schedule": "@every 1s", "suspend": True, "jobTemplate": job}}
        case "ReplicationController":
            return {**obj, "spec": {"replicas": 1, "selector": labels, "template": template}}
        case "DaemonSet":
            return {**obj, "spec": {"selector": {"matchLabels": labels}, "template": template}}
        case _:
            return {**obj, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}


def changed(kind: str, namespace: str, resources: Object) -> str:
    """What somebody makes of it meanwhile, as a merge patch: a Prometheus, and more pods."""
    obj = held(kind, namespace, SERVER, resources)
    if kind in REPLICATED:
        obj["spec"]["replicas"] = 3
    if kind == "CronJob":
        obj["spec"]["suspend"] = False
    if kind == "Pod":  # its resources can't be changed
        del obj["spec"]["containers"][0]["resources"]
    return json.dumps({key: value for key, value in obj.items() if key in ("spec", "template")})


def begin_deletion(cluster: Guarded, kind: str, namespace: str, resources: Object) -> None:
    cluster.apply(held(kind, namespace, "nginx:1.27", resources))
    cluster.kubectl("delete", kind, "web", "-n", namespace, "--wait=false")


def change(cluster: Guarded, kind: str, namespace: str, body: str) -> Any:
    merge = "strategic" if kind == "Pod" else "merge"
    return cluster.try_kubectl("patch", kind, "web", "-n", namespace, f"--type={merge}", f"--patch={body}")


@pytest.mark.parametrize("kind", VERSIONS)
def test_what_is_made_of_it_is_judged(cluster: Guarded, namespace: str, kind: str) -> None:
    begin_deletion(cluster, kind, namespace, TOO_LITTLE)
    done = change(cluster, kind, namespace, changed(kind, namespace, TOO_LITTLE))
    assert (done.returncode, "prometheus-memory" in done.stderr) == (1, True), done.stderr
    # It can be let go all the same.
    release = json.dumps({"metadata": {"finalizers": None}})
    assert change(cluster, kind, namespace, release).returncode == 0
    eventually(lambda: cluster.try_kubectl("get", kind, "web", "-n", namespace).returncode == 1)


def test_pods_are_made_of_none(cluster: Guarded, old_namespace: str) -> None:
    """What the control plane itself does, unguarded: twins that nobody deletes get their pods from the same change."""
    kinds = [kind for kind in VERSIONS if kind not in ("Pod", "PodTemplate")]
    twins = f"{old_namespace}-twins"
    cluster.make_namespace(twins, guarded=False)
    for place in (old_namespace, twins):
        for kind in kinds:
            obj = held(kind, place, "nginx:1.27", ENOUGH)
            _rename(obj, kind.lower())
            cluster.apply(obj)
    for kind in kinds:
        cluster.kubectl("delete", kind, kind.lower(), "-n", old_namespace, "--wait=false")
    for place in (old_namespace, twins):
        for kind in kinds:
            obj = json.loads(changed(kind, place, TOO_LITTLE))
            _rename(obj, kind.lower())
            cluster.kubectl("patch", kind, kind.lower(), "-n", place, "--type=merge", f"--patch={json.dumps(obj)}")
    eventually(lambda: _makers(cluster, twins) == {kind.lower() for kind in kinds}, "the twins get no pods", 300)
    assert _makers(cluster, old_namespace) == set()
    for kind in kinds:
        for place in (old_namespace, twins):
            cluster.try_kubectl(
                "patch", kind, kind.lower(), "-n", place, "--type=merge", '--patch={"metadata":{"finalizers":null}}'
            )


def _rename(obj: Object, name: str) -> None:
    """Of the object and its pods' labels, so that none takes another's pods."""
    text = json.dumps(obj).replace('"app": "web"', f'"app": "{name}"')
    obj.clear()
    obj.update(json.loads(text))
    if "metadata" in obj:
        obj["metadata"]["name"] = name


def _makers(cluster: Guarded, namespace: str) -> set[str]:
    """The labels of pods that are what the change made of it."""
    few = (TOO_LITTLE["requests"]["memory"], TOO_LITTLE["limits"]["memory"])
    return {pod["metadata"]["labels"]["app"] for pod in cluster.pods(namespace) if memory_of(pod) == few}
