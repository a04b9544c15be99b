"""Asks a real API server which LimitRanges and amounts it refuses, and writes tests/data/refusals.json.

    KUBECONFIG=... python tests/oracle/refusals.py > tests/data/refusals.json

Nothing is stored: each object is sent in a server-side dry run. `refused` is what the API server says, empty where it
takes the object.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

LIMITS: list[list[Object]] = [
    [],
    [{"type": "Container", "default": {"memory": "256Mi"}}],
    [{"type": "Pod", "max": {"memory": "1Gi"}}],
    [{"type": "Pod", "default": {"memory": "256Mi"}}],
    [{"type": "Pod", "defaultRequest": {"memory": "256Mi"}}],
    [{"type": "Pod", "default": {}}],
    [{"type": "container", "default": {"memory": "256Mi"}}],
    [{"default": {"memory": "256Mi"}}],
    [{"type": "example.com/thing", "default": {"memory": "256Mi"}}],
    [{"type": "Container", "default": {"memory": "256Mi"}}, {"type": "Container", "max": {"memory": "1Gi"}}],
    [{"type": "Container", "default": {"memory": "256Mi"}}, {"type": "Pod", "max": {"memory": "1Gi"}}],
    [{"type": "PersistentVolumeClaim"}],
    [{"type": "PersistentVolumeClaim", "max": {"memory": "1Gi"}}],
    [{"type": "PersistentVolumeClaim", "default": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}],
    [{"type": "Container", "default": {"memory": "256Mi"}, "max": {"memory": "128Mi"}}],
    [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}],
    [{"type": "Container", "maxLimitRequestRatio": {"memory": "500m"}}],
    [{"type": "Container", "default": {"nvidia.com/gpu": 2}, "defaultRequest": {"nvidia.com/gpu": 1}}],
]
AMOUNTS: list[tuple[Object, Object | None]] = [
    ({}, None),
    ({"requests": {"memory": "1Gi"}, "limits": {"memory": "1024Mi"}}, None),
    ({"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}, None),
    ({"requests": {"cpu": 2}, "limits": {"cpu": 1}}, None),
    ({"requests": {"memory": "512Mi"}, "limits": {"memory": 0}}, None),
    ({"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}, None),
    ({"requests": {"nvidia.com/gpu": 1}}, None),
    ({"limits": {"nvidia.com/gpu": 1}}, None),
    ({"requests": {"hugepages-2Mi": "2Mi", "memory": "1Gi"}}, None),
    ({"limits": {"memory": "512Mi"}}, {"limits": {"memory": "256Mi"}}),
    ({"limits": {"memory": "256Mi"}}, {"limits": {"memory": "256Mi"}}),
    ({"requests": {"memory": "512Mi"}}, {"requests": {"memory": "256Mi"}}),
    ({"requests": {"memory": "512Mi"}}, {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
]


def objects() -> Iterator[Object]:
    metadata = {"name": "web", "namespace": "default"}
    for limits in LIMITS:
        yield {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
    for resources, of_pod in AMOUNTS:
        spec: Object = {"containers": [{"name": "web", "image": "nginx", "resources": resources}]}
        if of_pod:
            spec["resources"] = of_pod
        labels = {"app": "web"}
        templated = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": templated}


def refused(obj: Object) -> str:
    command = ["kubectl", "create", "--dry-run=server", "--validate=ignore", "-f", "-"]
    ended = subprocess.run(command, input=json.dumps(obj), capture_output=True, text=True, check=False)
    return " ".join(ended.stderr.split()) if ended.returncode else ""


if __name__ == "__main__":
    print(json.dumps([{"object": obj, "refused": refused(obj)} for obj in objects()], indent=1))
