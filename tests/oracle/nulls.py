"""Asks a real API server what it makes of amounts that are null, and writes tests/data/nulls.json.

    KUBECONFIG=... python tests/oracle/nulls.py > tests/data/nulls.json

It takes the Prometheus operator's CustomResourceDefinition of Prometheus, and one of Rollout (argoproj.io) that keeps
unknown fields. Nothing is stored: each object is sent in a server-side dry run. What comes back is the value at `path`,
where the nulls are, or the API server's refusal.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import reduce
from typing import Any

Object = dict[str, Any]
Path = tuple[str | int, ...]

NULL = {"memory": None}
RESOURCES: list[Any] = [
    {"limits": NULL},
    {"requests": NULL},
    {"limits": NULL, "requests": {"memory": "1Gi"}},
    {"limits": {"memory": "1Gi"}, "requests": NULL},
    {"limits": {"cpu": None, "memory": "1Gi"}},
    {"limits": None},
    None,
]
LIMITS: list[Object] = [
    {"default": NULL},
    {"defaultRequest": NULL},
    {"max": NULL},
    {"min": NULL},
    {"default": {"memory": "1Gi"}, "max": NULL},
    {"default": None},
]
WAYS = {"create": ["create"], "serverSideApply": ["apply", "--server-side"], "clientSideApply": ["apply"]}


def objects() -> Iterator[tuple[Path, Object]]:
    for resources in RESOURCES:
        of_container = {"containers": [{"name": "web", "image": "nginx", "resources": resources}]}
        of_pod = {"containers": [{"name": "web", "image": "nginx"}], "resources": resources}
        for pod_spec, path in ((of_container, ("containers", 0, "resources")), (of_pod, ("resources",))):
            labels = {"app": "web"}
            template = {"metadata": {"labels": labels}, "spec": pod_spec}
            templated = {"selector": {"matchLabels": labels}, "template": template}
            yield ("spec", *path), made("v1", "Pod", pod_spec)
            yield ("spec", "template", "spec", *path), made("apps/v1", "Deployment", templated)
            yield ("spec", "template", "spec", *path), made("argoproj.io/v1alpha1", "Rollout", templated)
        yield ("spec", "resources"), made("monitoring.coreos.com/v1", "Prometheus", {"resources": resources})
        amended = {"containers": [{"name": "prometheus", "resources": resources}]}
        yield ("spec", "containers", 0, "resources"), made("monitoring.coreos.com/v1", "Prometheus", amended)
    for limits in LIMITS:
        spec = {"limits": [{"type": "Container", **limits}]}
        yield ("spec", "limits", 0), made("v1", "LimitRange", spec)


def made(version: str, kind: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def ask(way: list[str], obj: Object, path: Path) -> Any:
    command = ["kubectl", *way, "--dry-run=server", "-f", "-", "-o", "json"]
    done = subprocess.run(command, input=json.dumps(obj), capture_output=True, text=True, check=False)
    if done.returncode:
        return " ".join(done.stderr.split())
    *parents, last = path
    parent = reduce(lambda parent, key: parent[key], parents, json.loads(done.stdout))
    return parent.get(last) if isinstance(parent, dict) else parent[last]


if __name__ == "__main__":
    cases = [
        {"path": path, "sent": obj, **{name: ask(way, obj, path) for name, way in WAYS.items()}}
        for path, obj in objects()
    ]
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")
