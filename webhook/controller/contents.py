"""The workloads of a namespace: every template that pods are made from, the live pods, and the memory that they use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from webhook.cluster.lists import Reader
from webhook.cluster.paths import path_of
from webhook.cluster.pod_metrics import POD_METRICS, read_pods
from webhook.cluster.served import Versions, served_versions
from webhook.cluster.stored import read_objects
from webhook.cluster.unseen import Unreadable
from webhook.config import Config
from webhook.errors import UNREADABLE, BadObject, ClusterRefused, FactsUnavailable
from webhook.objects.ended import is_over
from webhook.objects.owners import controller_of, is_mirror
from webhook.objects.pods import POD, Workload, read_workload
from webhook.policy import AdmissionRequest, GroupKind, Object
from webhook.scope import locate_pod_spec

log = structlog.get_logger()

_DISCOVER_AGAIN = timedelta(minutes=10)

Objects = list[Object]
Use = Mapping[tuple[str, str], int]
"""(top-level workload, container) -> bytes of memory that the container uses, in the pod where it uses most."""


class OwnedWorkload(NamedTuple):
    """A workload, or a live pod, and the top-level workload that a person would mend: "Deployment web"."""

    owner: str
    workload: Workload


@dataclass(frozen=True, slots=True)
class Contents:
    """What runs in a namespace: what a person wrote comes first, live pods last.

    `unseen` says what could not be read, and why.
    """

    seen: tuple[OwnedWorkload, ...] = ()
    use: Use = field(default_factory=dict)
    unseen: str = ""


class ContentsReader:
    """Reads what runs in a namespace, of every kind that is served here."""

    def __init__(self, cluster: Reader) -> None:
        self._cluster = cluster
        self._versions = Versions()
        self._discover_at: datetime | None = None

    def look(self, namespace: str, config: Config, now: datetime) -> Contents:
        try:
            self._discover(now)
            listed = _Listed(namespace, {kind: self._list(namespace, kind) for kind in self._kinds(config)}, config)
            seen = tuple(listed.seen())
            lacks = any(container.memory("limits") is None for _, workload in seen for container in workload.containers)
            return Contents(seen, self._use(namespace, listed) if lacks and listed.pods else {})
        except (ClusterRefused, FactsUnavailable, *UNREADABLE) as error:
            return Contents(unseen=str(error))

    def _discover(self, now: datetime) -> None:
        if self._discover_at is None or now >= self._discover_at:
            self._versions = served_versions(self._cluster)
            self._discover_at = now + _DISCOVER_AGAIN

    def _kinds(self, config: Config) -> list[GroupKind]:
        """The kinds to list in a namespace: those that a person would mend come first, pods last."""
        kinds = [kind for kind in reversed(config.workloads) if kind != POD and kind.kind != "PodTemplate"]
        return [*(kind for kind in kinds if kind.group in self._versions), POD]

    def _list(self, namespace: str, kind: GroupKind) -> Objects:
        try:
            return self._read(path_of(kind, self._versions.of(kind) or "", namespace), kind.kind)
        except ClusterRefused as answer:
            if answer.status == 404:  # the API group is served, but without this kind
                return []
            raise

    def _read(self, path: str, kind: str) -> Objects:
        """All objects of a collection. Raises BadObject if one can't be read: what its pods will be is then unknown."""
        objects: Objects = []
        for obj in read_objects(self._cluster, path, kind):
            if isinstance(obj, Unreadable):
                raise BadObject(str(obj))
            objects.append(obj)
        return objects

    def _use(self, namespace: str, listed: _Listed) -> Use:
        version = self._versions.get(POD_METRICS.group)
        if version is None:
            return {}
        read = read_pods(self._cluster, version, namespace)
        if read.unreadable:
            raise BadObject(str(read.unreadable[0]))
        use: dict[tuple[str, str], int] = {}
        for (_, pod), used in read.memory.items():
            if owner := listed.pods.get(pod):
                for container, amount in used.items():
                    use[owner, container] = max(use.get((owner, container), 0), amount)
        return use


class _Listed:
    """The objects listed in a namespace; `pods` are the live ones, each with its top-level workload."""

    def __init__(self, namespace: str, objects: Mapping[GroupKind, Objects], config: Config) -> None:
        self._namespace = namespace
        self._objects = objects
        self._config = config
        self._owners = {
            (kind.kind, obj["metadata"]["name"]): (owner.kind, owner.name)
            for kind, listed in objects.items()
            for obj in listed
            if (owner := controller_of(obj))
        }
        self._names = {(kind.kind, obj["metadata"]["name"]) for kind, listed in objects.items() for obj in listed}
        self.pods = {
            obj["metadata"]["name"]: self._top("Pod", obj["metadata"]["name"])
            for obj in objects.get(POD, ())
            if not (is_over("", "Pod", obj) or is_mirror(obj))
        }

    def seen(self) -> Iterator[OwnedWorkload]:
        for kind, listed in self._objects.items():
            for obj in listed:
                name = obj["metadata"]["name"]
                # A controller made it from its own template, which is listed as well, and would make it again from
                # that.
                is_made = kind.kind in ("ReplicaSet", "Job") and self._owners.get((kind.kind, name)) in self._names
                if is_made or is_over(kind.group, kind.kind, obj) or is_mirror(obj):
                    continue
                workload = self._read(kind, obj)
                if workload is not None:
                    yield OwnedWorkload(self._top(kind.kind, name), workload)

    def _read(self, kind: GroupKind, obj: Object) -> Workload | None:
        name = obj["metadata"]["name"]
        request = AdmissionRequest("CREATE", kind.group, "", kind.kind, self._namespace, name, obj)
        try:
            return read_workload(locate_pod_spec(request, self._config))
        except BadObject as error:
            log.warning("passed over", object=f"{kind.kind} {self._namespace}/{name}", error=str(error))
            return None

    def _top(self, kind: str, name: str) -> str:
        passed = set()
        while (kind, name) in self._owners and (kind, name) not in passed:
            passed.add((kind, name))
            kind, name = self._owners[kind, name]
        return f"{kind} {name}"
