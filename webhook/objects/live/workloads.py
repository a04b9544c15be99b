"""Deployments, StatefulSets and DaemonSets as they are now: how many pods they want, have, and have ready."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

import msgspec

from webhook.objects.facts import Metadata, Wire, WirePart
from webhook.objects.live.conditions import Condition, WiredCondition
from webhook.objects.live.pods import SharedSpec
from webhook.objects.live.top_level import LiveMetadata, TopLevel, top_level_of
from webhook.objects.pods import Workload, read_workload
from webhook.policy import AdmissionRequest, FactKind, FactReference, Object, Reference


class LiveWorkload(msgspec.Struct, frozen=True, gc=False):
    """A workload. `body` holds, as JSON, its labels and what its pods have in common; where all of them are ready there
    is none, and `conditions` are there only if its rollout makes no progress."""

    kind: str
    namespace: str
    name: str
    owner: TopLevel
    created: datetime | None
    desired: int
    there: int
    """The number of pods that exist."""
    ready: int
    conditions: tuple[Condition, ...]
    body: bytes | None

    @property
    def reference(self) -> Reference:
        """The object that a person made: an operator's resource, where one owns the workload."""
        kind, name = (self.owner.kind, self.owner.name) if self.owner.kind else (self.kind, self.name)
        return Reference(kind, self.namespace, name)

    @property
    def workload(self) -> Workload | None:
        """The workload with its containers and placement; None where all is well. Raises BadObject."""
        if self.body is None:
            return None
        obj: Object = msgspec.json.decode(self.body)
        obj["metadata"] |= {"name": self.name, "namespace": self.namespace}
        return read_workload(AdmissionRequest("CREATE", "apps", "v1", self.kind, self.namespace, self.name, obj))


class _Template(WirePart, omit_defaults=True):
    metadata: Metadata | None = None
    spec: SharedSpec | None = None


class _Spec(WirePart):
    replicas: int | None = None
    template: _Template | None = None


class _Status(WirePart):
    replicas: int | None = None
    ready_replicas: int | None = None
    desired_number_scheduled: int | None = None
    current_number_scheduled: int | None = None
    number_ready: int | None = None
    conditions: list[WiredCondition] | None = None


class _Workload(Wire):
    metadata: LiveMetadata = msgspec.field(default_factory=LiveMetadata)
    spec: _Spec | None = None
    status: _Status | None = None


def _reader(kind: str) -> Callable[[FactReference, LiveMetadata, _Workload], LiveWorkload]:
    def read(reference: FactReference, metadata: LiveMetadata, wired: _Workload) -> LiveWorkload:
        spec, status = wired.spec or _Spec(), wired.status or _Status()
        if kind == "DaemonSet":
            desired, there = status.desired_number_scheduled or 0, status.current_number_scheduled or 0
            ready = status.number_ready or 0
        else:
            desired, there = 1 if spec.replicas is None else spec.replicas, status.replicas or 0
            ready = status.ready_replicas or 0
        is_well = ready >= desired or metadata.deletion_timestamp is not None
        # A rollout that waits for itself keeps the old pods, which are ready.
        is_stalled = any(
            condition.type == "Progressing" and condition.status == "False" for condition in status.conditions or ()
        )
        conditions = () if is_well and not is_stalled else status.conditions or ()
        return LiveWorkload(
            kind=kind,
            namespace=reference.namespace,
            name=reference.name,
            owner=top_level_of(metadata),
            created=metadata.created_at,
            desired=0 if metadata.deletion_timestamp else desired,
            there=there,
            ready=ready,
            conditions=tuple(condition.read() for condition in conditions),
            body=None if is_well else _body(metadata, spec.template or _Template()),
        )

    return read


def _body(metadata: LiveMetadata, template: _Template) -> bytes:
    labels = (template.metadata.labels if template.metadata else None) or {}
    common = {"metadata": {"labels": labels}, "spec": template.spec or SharedSpec()}
    return _shared(msgspec.json.encode({"metadata": {"labels": metadata.labels or {}}, "spec": {"template": common}}))


# What is deployed many times over, for each tenant or branch, looks the same each time.
@lru_cache(maxsize=4096)
def _shared(body: bytes) -> bytes:
    return body


def _kind(kind: str, resource: str) -> FactKind[tuple[str, str], LiveWorkload]:
    return FactKind(
        group="apps", kind=kind, resource=resource, wire=_Workload, read=_reader(kind), key="namespace and name"
    )


LIVE_DEPLOYMENTS = _kind("Deployment", "deployments")
LIVE_STATEFUL_SETS = _kind("StatefulSet", "statefulsets")
LIVE_DAEMON_SETS = _kind("DaemonSet", "daemonsets")
LIVE_WORKLOADS = (LIVE_DEPLOYMENTS, LIVE_STATEFUL_SETS, LIVE_DAEMON_SETS)
