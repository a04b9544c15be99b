"""What lives in a large cluster, read by a process of its own: the most memory that it had, and how long it took."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Figure
from bench.inputs import ROOT
from webhook.cluster.lists import PAGE
from webhook.cluster.unseen import Unseen
from webhook.objects.live import LIVE_PODS, LivePod
from webhook.observing.read import read_live

_PODS = 150_000
_WORKLOADS = 3_000
_NODES = 2_000
_SINCE = "2026-01-02T03:04:05Z"


def measure() -> list[Figure]:
    done = subprocess.run([sys.executable, "-m", "bench.live"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    kilobytes, seconds, plain = map(float, done.stdout.split())
    return [
        Figure(f"memory, {_PODS:,} pods of {_WORKLOADS:,} workloads", kilobytes / 1000, "MB", at_most=200),
        Figure("the same, reading; msgspec.json.decode of the same pages", seconds, "s", plain, ratio_at_most=4),
    ]


class _Large:
    """A cluster that makes its pages as they are asked for: they don't count for who reads them."""

    decoding = making = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 4, tzinfo=UTC)

    def get(self, _path: str) -> None:
        return None

    def read(self, _path: str, query: Mapping[str, str], _timeout: float, _most: int | None = None) -> bytes:
        began = time.process_time()
        start = int(query.get("continue", 0))
        size = int(query["limit"]) if "limit" in query else PAGE
        end = min(start + size, _PODS)
        more = str(end) if end < _PODS else ""
        page = {"metadata": {"resourceVersion": "1", "continue": more}, "items": list(map(_pod, range(start, end)))}
        body = msgspec.json.encode(page)
        made = time.process_time()
        msgspec.json.decode(body)
        self.making += made - began
        self.decoding += time.process_time() - made
        return body


def _pod(number: int) -> dict[str, Any]:
    workload = f"app-{number % _WORKLOADS}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-5d9c", "uid": "u", "controller": True}
    conditions = [
        {"type": type_, "status": "True", "lastProbeTime": None, "lastTransitionTime": _SINCE}
        for type_ in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    containers = [_container(name, workload) for name in ("app", "proxy")]
    running = {"state": {"running": {"startedAt": _SINCE}}, "lastState": {}, "ready": True, "restartCount": 0}
    return {
        "metadata": {
            "name": f"{workload}-5d9c-{number:06}",
            "generateName": f"{workload}-5d9c-",
            "namespace": f"team-{number % _WORKLOADS % 200}",
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "creationTimestamp": _SINCE,
            "labels": {"app": workload, "pod-template-hash": "5d9c", "helm.sh/chart": "app-1.2.3"},
            "ownerReferences": [owner],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:field-{field}": {} for field in range(40)}}],
        },
        "spec": {
            "nodeName": f"node-{number % _NODES}",
            "containers": containers,
            "volumes": [{"name": f"kube-api-access-{number}", "projected": {"sources": []}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
        "status": {
            "phase": "Running",
            "conditions": conditions,
            "containerStatuses": [{"name": container["name"], **running} for container in containers],
        },
    }


def _container(name: str, workload: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example.com/{workload}/{name}:1.2.3",
        "args": ["--listen", ":8080", "--config", "/etc/app/config.yaml"],
        "env": [{"name": f"SETTING_{setting}", "value": "value"} for setting in range(20)],
        "resources": {"limits": {"memory": "512Mi", "cpu": "1"}, "requests": {"memory": "256Mi", "cpu": "100m"}},
    }


def _read() -> None:
    """Reads it all, and says the most memory in kB, the seconds that it took and those of plain decoding."""
    cluster, began = _Large(), time.process_time()
    read = read_live(cluster, [LIVE_PODS])
    taken = time.process_time() - began - cluster.making - cluster.decoding
    pods: Mapping[Any, LivePod] = read.live.of(LIVE_PODS)
    if len(pods) != _PODS or read.unseen != Unseen():
        raise RuntimeError(f"{len(pods)} pods, {read.unseen}")
    most = re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())
    print(most[1] if most else "nan", taken, cluster.decoding)  # noqa: T201 - it is read by measure


if __name__ == "__main__":
    _read()
