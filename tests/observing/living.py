"""Living objects for tests, as the API server lists them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tests.builders import container, pod_spec, workload
from webhook.loader import load_policies
from webhook.objects.facts import decode_fact
from webhook.objects.live import Live
from webhook.observing.monitoring import LIVES
from webhook.policy import FactKind, Object, Observation

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
LIVE_KINDS: dict[str, FactKind[Any, Any]] = {
    kind.kind: kind for loaded in load_policies().values() for kind in loaded.policy.lives
} | {kind.kind: kind for kind in LIVES}


def ago(**passed: float) -> str:
    """The time that long before NOW, as the API writes it."""
    return f"{NOW - timedelta(**passed):%Y-%m-%dT%H:%M:%SZ}"


def live(*objects: Object, unseen: Iterable[str] = ()) -> Live:
    """A cluster in which these objects live and no others; of the `unseen` kinds nothing could be read."""
    records: dict[FactKind[Any, Any], dict[Any, Any]] = {
        kind: {} for name, kind in LIVE_KINDS.items() if name not in unseen
    }
    for obj in objects:
        kind = LIVE_KINDS[obj["kind"]]
        reference, record = decode_fact(kind, msgspec.json.encode(obj))
        records[kind][(reference.namespace, reference.name) if kind.is_namespaced else reference.name] = record
    return Live(records, dict.fromkeys(records, NOW), NOW)


def owned(kind: str, name: str, version: str = "apps/v1") -> Object:
    """Metadata that names a controller."""
    return {"ownerReferences": [{"apiVersion": version, "kind": kind, "name": name, "uid": "u", "controller": True}]}


def pod(
    name: str = "web-5d9c-x1",
    *containers: Object,
    namespace: str = "shop",
    node: str = "node-1",
    metadata: Object | None = None,
    status: Object | None = None,
    labels: Object | None = None,
    **fields: Any,
) -> Object:
    """A pod of Deployment web, healthy unless its status says something else; `fields` go into its spec."""
    own = {"name": name, "namespace": namespace, "creationTimestamp": ago(days=2)}
    of_deployment = {"labels": {"pod-template-hash": "5d9c", **(labels or {})}, **owned("ReplicaSet", "web-5d9c")}
    spec = pod_spec(*containers, **fields)
    names = [container["name"] for container in spec["containers"]]
    return {
        "kind": "Pod",
        "metadata": {**own, **(of_deployment if metadata is None else {"labels": labels or {}, **metadata})},
        "spec": {**spec, **({"nodeName": node} if node else {})},
        "status": running(*names) if status is None else status,
    }


def running(*names: str, since: str = ago(days=1), **statuses: Object) -> Object:
    """The status of a pod whose containers run; `statuses` say more of some of them."""
    return {
        "phase": "Running",
        "conditions": [condition("PodScheduled", "True", since), condition("Ready", "True", since)],
        "containerStatuses": [
            {"name": name, "restartCount": 0, "state": {"running": {"startedAt": since}}, **statuses.get(name, {})}
            for name in names
        ],
    }


def condition(type_: str, status: str, since: str, **fields: str) -> Object:
    return {"type": type_, "status": status, "lastTransitionTime": since, **fields}


def killed(at: str, restarts: int = 1, waiting: str = "") -> Object:
    """The status of a container that was OOM-killed, and runs again unless it waits."""
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": at}}
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {"startedAt": at}}
    return {"restartCount": restarts, "state": state, "lastState": last}


def told(observations: Iterable[Observation]) -> str:
    """A line an observation: how bad it is, about whom, and the text."""
    return "\n".join(
        f"{observation.severity} {observation.reference}: {observation.message}" for observation in observations
    )


WEB = container("web", resources={"limits": {"memory": "512Mi"}})


def node(name: str, zone: str = "a", *, ready: str = "True", since: str = ago(days=9), **fields: Any) -> Object:
    """A node with 8Gi, of which pods may have 7Gi; `fields` go into its spec."""
    labels = {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "creationTimestamp": ago(days=9)},
        "spec": fields,
        "status": {
            "capacity": {"memory": "8Gi"},
            "allocatable": {"memory": "7Gi"},
            "conditions": [condition("Ready", ready, since)],
        },
    }


def pending(message: str = "", since: str = ago(minutes=4)) -> Object:
    """The status of a pod for which the scheduler finds no node."""
    scheduled = condition("PodScheduled", "False", since, reason="Unschedulable", message=message)
    return {"phase": "Pending", "conditions": [scheduled]}


def scaled(
    kind: str, *containers: Object, name: str = "web", desired: int = 1, there: int = 0, ready: int = 0, **fields: Any
) -> Object:
    """A workload that wants so many pods, has and has ready so many; `fields` go into its metadata."""
    obj = workload(kind, *containers, name=name)
    obj["metadata"] |= {"creationTimestamp": ago(days=9), **fields}
    if kind == "DaemonSet":
        obj["status"] = {"desiredNumberScheduled": desired, "currentNumberScheduled": there, "numberReady": ready}
    else:
        obj["spec"]["replicas"] = desired
        obj["status"] = {"replicas": there, "readyReplicas": ready}
    return obj
