"""Where a pod hides inside each kind.

A kind is known by group and kind, whatever its version: charts still bring extensions/v1beta1 and apps/v1beta2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from webhook.errors import UNREADABLE
from webhook.objects.containers import Container, ResourcePart, amount_of, read_containers, read_resources
from webhook.objects.fields import items, map_at, mapping, text
from webhook.objects.operated import OPERATED, Operated, read_operated
from webhook.policy import AdmissionRequest, GroupKind, Object, Violation, join_path

POD = GroupKind("", "Pod", "pods")

POD_SPEC_PATHS: Mapping[GroupKind, str] = {
    POD: "spec",
    GroupKind("", "PodTemplate", "podtemplates"): "template.spec",
    GroupKind("", "ReplicationController", "replicationcontrollers"): "spec.template.spec",
    GroupKind("apps", "DaemonSet", "daemonsets"): "spec.template.spec",
    GroupKind("apps", "Deployment", "deployments"): "spec.template.spec",
    GroupKind("apps", "ReplicaSet", "replicasets"): "spec.template.spec",
    GroupKind("apps", "StatefulSet", "statefulsets"): "spec.template.spec",
    GroupKind("batch", "CronJob", "cronjobs"): "spec.jobTemplate.spec.template.spec",
    GroupKind("batch", "Job", "jobs"): "spec.template.spec",
    GroupKind("extensions", "DaemonSet", "daemonsets"): "spec.template.spec",
    GroupKind("extensions", "Deployment", "deployments"): "spec.template.spec",
    GroupKind("extensions", "ReplicaSet", "replicasets"): "spec.template.spec",
    GroupKind("apps.kruise.io", "CloneSet", "clonesets"): "spec.template.spec",
    GroupKind("apps.kruise.io", "StatefulSet", "statefulsets"): "spec.template.spec",
    GroupKind("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"): "spec.template.spec",
    GroupKind("argoproj.io", "Rollout", "rollouts"): "spec.template.spec",
}
"""Where each built-in kind keeps its pod spec."""


WORKLOADS: tuple[GroupKind, ...] = (*POD_SPEC_PATHS, *OPERATED)

_OPERATED = {(kind.group, kind.kind): operated for kind, operated in OPERATED.items()}
_PATHS = {(kind.group, kind.kind): path for kind, path in POD_SPEC_PATHS.items()}


class Workload(msgspec.Struct, frozen=True, dict=True):
    """An object that is a pod, or that pods are made from.

    `spec` is the pod spec, or an operator's resource's spec, which looks like one where it matters here
    (nodeSelector, affinity, tolerations, volumes); `spec_path` is where it stands; `labels` are those of the pods.
    """

    group: str
    kind: str
    namespace: str
    name: str
    object: Object
    spec: Mapping[str, Any]
    spec_path: str
    labels: Mapping[str, str]
    containers: tuple[Container, ...]
    is_operated: bool = False

    @property
    def metadata_path(self) -> str:
        """Where the metadata of the pods stand."""
        if self.is_operated:
            return "spec.podMetadata"
        return join_path(self.spec_path.rpartition(".")[0], "metadata")

    @cached_property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations of the pods; raises BadObject where they are no map."""
        return mapping(map_at(self.object, self.metadata_path), "annotations", self.metadata_path)

    @cached_property
    def volumes(self) -> Mapping[str, tuple[Mapping[str, Any], str]]:
        """The pods' volumes by name, each with the path at which it stands; raises BadObject where they are no list."""
        volumes = items(self.spec, "volumes", self.spec_path)
        placed = [(volume, f"{self.spec_path}.volumes[{index}]") for index, volume in enumerate(volumes)]
        return {text(volume, "name", path): (volume, path) for volume, path in placed}

    def container_of(self, violation: Violation) -> Container | None:
        """The container that the violation is about; a volume may have a container's name."""
        path = violation.path
        while path := path.rpartition(".")[0]:
            container = self._by_place.get(path)
            if container and container.name == violation.subject:
                return container
        return None

    @cached_property
    def _by_place(self) -> Mapping[str, Container]:
        return {place: container for container in self.containers for place in container.places}

    @cached_property
    def resources(self) -> Mapping[str, Any]:
        """The pod-level resources; an operator's resource has none, its `spec.resources` is a container's."""
        return {} if self.is_operated else read_resources(self.spec, self.spec_path, null="0")

    def memory(self, part: ResourcePart) -> Any:
        """The pod's own memory request or limit, as it was written; None where there is none."""
        amounts = self.resources.get(part)
        return amounts.get("memory") if amounts else None

    def amount(self, part: ResourcePart) -> int | None:
        """The pod's own memory request or limit in bytes, None without one; raises BadObject for no quantity."""
        return amount_of(self, part)

    def memory_path(self, part: ResourcePart) -> str:
        """The path of the pod's own memory request or limit, or where one would have to be written."""
        return f"{self.spec_path}.resources.{part}.memory"


def is_validated(group: str, kind: str) -> bool:
    """Whether the API server itself validates the pod spec in objects of this kind: it knows nothing of custom ones."""
    return (group, kind) in _PATHS and group in ("", "apps", "batch", "extensions")


def read_workload(request: AdmissionRequest) -> Workload | None:
    """The workload that the request's object is, or None; raises BadObject if its fields are of the wrong kind.

    It is read once: every policy asks for the same request's.
    """
    kept: dict[str, Workload | None] = request.__dict__
    if "workload" not in kept:
        kept["workload"] = _read_workload(request)
    return kept["workload"]


def readable_workload(request: AdmissionRequest) -> Workload | None:
    """The workload that the request's object is; None also if its fields are of the wrong kind."""
    try:
        return read_workload(request)
    except UNREADABLE:
        return None


def _read_workload(request: AdmissionRequest) -> Workload | None:
    obj, key = request.object, (request.group, request.kind)
    if obj is None:
        return None
    if operated := _OPERATED.get(key):
        return _read_operated(request, obj, operated)
    paths = pod_specs(request)
    found = [_at(request, obj, path) for path in paths]
    if len(found) < 2:
        return found[0] if found else None
    # Of several, what each of them has: policies are given them one by one.
    return msgspec.structs.replace(
        found[0], containers=tuple(container for part in found for container in part.containers)
    )


def pod_specs(request: AdmissionRequest) -> tuple[str, ...]:
    """The paths of the pod specs in the request's object, without [*]; an operator's resource has none."""
    path = _PATHS.get((request.group, request.kind))
    if path is not None or request.object is None:
        return (path,) if path else ()
    paths = [concrete for pattern in request.pod_spec_paths for concrete in _expanded(request.object, pattern)]
    return tuple(dict.fromkeys(paths))


def _expanded(obj: Object, pattern: str) -> Iterator[str]:
    """The paths that a path with [*] stands for. Raises BadObject where there is something else than a list."""
    before, star, after = pattern.partition("[*]")
    if not star:
        yield pattern
        return
    parent, _, key = before.rpartition(".")
    for index in range(len(items(map_at(obj, parent), key, parent))):
        yield from _expanded(obj, f"{before}[{index}]{after}")


def _at(request: AdmissionRequest, obj: Object, path: str) -> Workload:
    above, _, last = path.rpartition(".")
    parent = map_at(obj, above)
    spec = mapping(parent, last, above)
    labels = mapping(mapping(parent, "metadata", above), "labels", f"{above}.metadata")
    return _workload(request, obj, spec, path, labels, read_containers(spec, path))


def _workload(
    request: AdmissionRequest,
    obj: Object,
    spec: Mapping[str, Any],
    spec_path: str,
    labels: Mapping[str, str],
    containers: Iterable[Container],
    *,
    is_operated: bool = False,
) -> Workload:
    group, kind, namespace, name = request.group, request.kind, request.namespace, request.name
    return Workload(group, kind, namespace, name, obj, spec, spec_path, labels, tuple(containers), is_operated)


def _read_operated(request: AdmissionRequest, obj: Object, operated: Operated) -> Workload:
    spec = mapping(obj, "spec", "")
    metadata = mapping(spec, "podMetadata", "spec")
    labels = mapping(metadata, "labels", "spec.podMetadata")
    return _workload(request, obj, spec, "spec", labels, read_operated(spec, operated), is_operated=True)
