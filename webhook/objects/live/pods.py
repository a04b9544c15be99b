"""Pods as they are now: where they run, in what shape, and what is wrong with those that are not healthy.

There may be a hundred thousand of them. What the pods of a workload have in common, their containers and what they ask
of a node, is kept once, as their Shape; how a pod fares is kept only where it fares badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from itertools import islice
from sys import intern
from typing import Any

import msgspec

from webhook.objects.facts import Wire, WirePart
from webhook.objects.live.conditions import Condition, WiredCondition, condition_of
from webhook.objects.live.top_level import LiveMetadata, TopLevel, top_level_of
from webhook.objects.pods import Workload, read_workload
from webhook.policy import AdmissionRequest, FactKind, FactReference

_OVER = ("Succeeded", "Failed")
_MOST_TROUBLES = _MOST_CONTAINERS = 50
"""Containers of a pod whose trouble is kept, and that the shape of a large pod has, the first: a pod and its status may
have thousands."""
_MOST_CLAIMS = 128
_MOST_SHAPE, _MOST_SHARED = 64 * 1024, 16 * 1024
"""Bytes of a shape at most, and of one that is remembered for other pods. Whoever may create pods decides how large
they are, and how many of them differ."""
# Labels that differ between the pods of a workload.
_OWN_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "statefulset.kubernetes.io/pod-name",
    }
)


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What the pods of a workload have in common.

    body       their labels, containers and placement as JSON, of which `workload` is made
    limit      the memory limits of the containers that run side by side, or of the pod, in bytes
    unlimited  the containers that may take whatever the node has, by name
    """

    body: bytes
    limit: int
    unlimited: tuple[str, ...]

    @property
    def workload(self) -> Workload:
        """A pod of this shape, without its own name and volumes. Raises BadObject."""
        return _workload(self.body) if len(self.body) <= _MOST_SHARED else _read_workload(self.body)


class Termination(msgspec.Struct, frozen=True, gc=False):
    """How a container ended: `reason` is "OOMKilled", "Error", "Completed", …"""

    reason: str
    at: datetime | None


class ContainerTrouble(msgspec.Struct, frozen=True, gc=False):
    """A container that has restarted, ended or doesn't start; `waiting` is the reason: "CrashLoopBackOff"."""

    name: str
    restarts: int
    waiting: str
    last: Termination | None
    """How the container ended last, whether it runs now or not."""


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """What keeps a pod from being healthy, or has."""

    conditions: tuple[Condition, ...]
    containers: tuple[ContainerTrouble, ...]
    created: datetime | None
    deleted_at: datetime | None
    """When the grace period of a pod that is being deleted ends; None if it isn't."""
    grace_seconds: int

    @property
    def unscheduled(self) -> Condition | None:
        """The scheduler's message, if it found no node for the pod; else empty."""
        scheduled = condition_of(self.conditions, "PodScheduled")
        return scheduled if scheduled is not None and scheduled.status == "False" else None

    @property
    def unready(self) -> Condition | None:
        """Since when the pod has not been ready; None if it is."""
        ready = condition_of(self.conditions, "Ready")
        return ready if ready is not None and ready.status != "True" else None


HEALTHY = Trouble((), (), None, None, 0)
"""The trouble of a pod that is healthy, and always was."""


class LivePod(msgspec.Struct, frozen=True, gc=False):
    """A pod.

    owner    whom it names as its controller, a Deployment in place of its ReplicaSet
    claims   the names of the claims that it mounts
    started  when the oldest of its running containers was started, in seconds since 1970; 0 if none runs
    trouble  what keeps it from being healthy, or has; HEALTHY if nothing ever did
    """

    namespace: str
    name: str
    owner: TopLevel
    node: str
    phase: str
    shape: Shape
    claims: tuple[str, ...]
    started: int
    trouble: Trouble

    @property
    def is_healthy(self) -> bool:
        return self.trouble is HEALTHY

    @property
    def is_over(self) -> bool:
        return self.phase in _OVER


class _Container(WirePart, omit_defaults=True):
    name: Any = None
    image: Any = None
    command: Any = None
    args: Any = None
    resources: Any = None
    restart_policy: Any = None
    startup_probe: Any = None


class _NodeAffinity(WirePart, omit_defaults=True):
    required_during_scheduling_ignored_during_execution: Any = None


class _Affinity(WirePart, omit_defaults=True):
    node_affinity: _NodeAffinity | None = None


class SharedSpec(WirePart, omit_defaults=True):
    """The fields of a pod's spec that all pods of its workload share."""

    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    node_selector: Any = None
    affinity: _Affinity | None = None
    tolerations: Any = None
    resources: Any = None


class _ClaimSource(WirePart):
    claim_name: str | None = None


class _Volume(WirePart):
    name: str = ""
    persistent_volume_claim: _ClaimSource | None = None
    ephemeral: dict[str, Any] | None = None


class _Spec(SharedSpec):
    node_name: str | None = None
    volumes: list[_Volume] | None = None


class _Running(WirePart):
    started_at: datetime | None = None


class _Waiting(WirePart):
    reason: str | None = None


class _Terminated(WirePart):
    reason: str | None = None
    finished_at: datetime | None = None


class _State(WirePart):
    running: _Running | None = None
    waiting: _Waiting | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(WirePart):
    name: str = ""
    restart_count: int = 0
    state: _State | None = None
    last_state: _State | None = None


class _Status(WirePart):
    phase: str | None = None
    conditions: list[WiredCondition] | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(Wire):
    metadata: LiveMetadata = msgspec.field(default_factory=LiveMetadata)
    spec: _Spec | None = None
    status: _Status | None = None


def _read(reference: FactReference, metadata: LiveMetadata, wired: _Pod) -> LivePod:
    spec, status = wired.spec or _Spec(), wired.status or _Status()
    return LivePod(
        namespace=reference.namespace,
        name=reference.name,
        owner=top_level_of(metadata),
        node=intern(spec.node_name or ""),
        phase=intern(status.phase or ""),
        shape=_shape(metadata, spec),
        claims=tuple(_claims(reference.name, spec)[:_MOST_CLAIMS]),
        started=_started(status),
        trouble=_trouble(metadata, status),
    )


def _claims(pod: str, spec: _Spec) -> list[str]:
    claims = []
    for volume in spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            claims.append(volume.persistent_volume_claim.claim_name or "")
        elif volume.ephemeral is not None:
            claims.append(f"{pod}-{volume.name}")
    return claims


def _shape(metadata: LiveMetadata, spec: _Spec) -> Shape:
    labels = {key: value for key, value in (metadata.labels or {}).items() if key not in _OWN_LABELS}
    common = SharedSpec(*(getattr(spec, field) for field in SharedSpec.__struct_fields__))
    body = _body(labels, common)
    if len(body) <= _MOST_SHARED:
        return _shared_shape(body)
    if len(body) <= _MOST_SHAPE:
        return _shape_of(body, _read_workload(body))
    whole, without = _shape_of(body, _read_workload(body)), _body(labels, _without_commands(common))
    kept = without if len(without) <= _MOST_SHAPE else _body({}, _beginning(common))
    return Shape(kept, whole.limit, whole.unlimited[:_MOST_CONTAINERS])


def _body(labels: Mapping[str, str], spec: SharedSpec) -> bytes:
    return msgspec.json.encode({"labels": labels, "spec": spec})


def _without_commands(spec: SharedSpec) -> SharedSpec:
    """The spec without what is long in honest pods: scripts."""
    lists = (spec.containers, spec.init_containers)
    containers, init_containers = (
        found and [msgspec.structs.replace(container, command=None, args=None) for container in found]
        for found in lists
    )
    return msgspec.structs.replace(spec, containers=containers, init_containers=init_containers)


def _beginning(spec: SharedSpec) -> SharedSpec:
    """As many of the first containers as there is room for, and nothing else."""
    kept: list[_Container] = []
    room = _MOST_SHAPE
    for container in (_without_commands(spec).containers or ())[:_MOST_CONTAINERS]:
        room -= len(msgspec.json.encode(container)) + 1
        if room < _MOST_SHAPE // 64:
            break
        kept.append(container)
    return SharedSpec(containers=kept)


# Pods share their shape: a hundred thousand pods have a few thousand shapes.
@lru_cache(maxsize=4096)
def _shared_shape(body: bytes) -> Shape:
    return _shape_of(body, _workload(body))


def _shape_of(body: bytes, workload: Workload) -> Shape:
    side_by_side = [container for container in workload.containers if container.role != "init"]
    limits = {container.name: container.amount("limits") for container in side_by_side}
    own = workload.amount("limits")
    if own:
        return Shape(body, own, ())
    unlimited = tuple(container.name for container in workload.containers if not container.amount("limits"))
    return Shape(body, sum(limit or 0 for limit in limits.values()), unlimited)


@lru_cache(maxsize=256)
def _workload(body: bytes) -> Workload:
    return _read_workload(body)


def _read_workload(body: bytes) -> Workload:
    shape: Mapping[str, Any] = msgspec.json.decode(body)
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": shape["labels"]}, "spec": shape["spec"]}
    workload = read_workload(AdmissionRequest("CREATE", "", "v1", "Pod", "", "", obj))
    if workload is None:
        raise TypeError("a pod is a workload")
    return workload


def _started(status: _Status) -> int:
    states = [container.state for container in status.container_statuses or () if container.state]
    running = [state.running for state in states if state.running]
    return int(min((begun.started_at.timestamp() for begun in running if begun.started_at), default=0))


def _trouble(metadata: LiveMetadata, status: _Status) -> Trouble:
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    troubles = (found for status in statuses if (found := _container_trouble(status)) is not None)
    containers = tuple(islice(troubles, _MOST_TROUBLES))
    conditions = {condition.type: condition for condition in status.conditions or ()}
    ready = conditions.get("Ready")
    is_well = status.phase == "Succeeded" or (
        status.phase == "Running" and ready is not None and ready.status == "True"
    )
    if is_well and not containers and metadata.deletion_timestamp is None:
        return HEALTHY
    return Trouble(
        conditions=tuple(conditions[name].read() for name in ("PodScheduled", "Ready") if name in conditions),
        containers=containers,
        created=metadata.created_at,
        deleted_at=metadata.deletion_timestamp,
        grace_seconds=metadata.deletion_grace_period_seconds or 0,
    )


def _container_trouble(status: _ContainerStatus) -> ContainerTrouble | None:
    state, last = status.state or _State(), status.last_state or _State()
    waiting = intern((state.waiting.reason or "") if state.waiting else "")
    ended = state.terminated or last.terminated
    # An init container that has succeeded is no trouble, though it has ended.
    is_well_ended = ended is not None and ended.reason == "Completed" and not status.restart_count
    if not status.restart_count and not waiting and (ended is None or is_well_ended):
        return None
    termination = Termination(intern(ended.reason or ""), ended.finished_at) if ended else None
    return ContainerTrouble(intern(status.name), status.restart_count, waiting, termination)


LIVE_PODS: FactKind[tuple[str, str], LivePod] = FactKind(
    group="", kind="Pod", resource="pods", wire=_Pod, read=_read, key="namespace and name"
)
