"""Where a pod hides inside each kind, and the containers in it.

A kind is known by group and kind, whatever its version: charts still bring extensions/v1beta1 and apps/v1beta2.
Explicit nulls (`initContainers: null`), which Helm charts write, read as absent, but for amounts: `memory: null` is "0"
to the API server, and nothing only in an operator's resource (tests/data/nulls.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec

from webhook.errors import UNREADABLE, BadObject
from webhook.objects.fields import bytes_at, items, map_at, mapping, text
from webhook.policy import AdmissionRequest, GroupKind, Object, Violation, join_path

Role = Literal["container", "init", "sidecar"]
ResourcePart = Literal["requests", "limits"]

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


class _Operated(msgspec.Struct, frozen=True):
    """What the Prometheus operator makes of one of its resources."""

    container: str
    image: str
    has_thanos: bool = False
    """Whether `spec.thanos` asks for a sidecar."""


OPERATED: Mapping[GroupKind, _Operated] = {
    GroupKind("monitoring.coreos.com", "Alertmanager", "alertmanagers"): _Operated(
        "alertmanager", "quay.io/prometheus/alertmanager"
    ),
    GroupKind("monitoring.coreos.com", "Prometheus", "prometheuses"): _Operated(
        "prometheus", "quay.io/prometheus/prometheus", has_thanos=True
    ),
    GroupKind("monitoring.coreos.com", "PrometheusAgent", "prometheusagents"): _Operated(
        "prometheus", "quay.io/prometheus/prometheus"
    ),
    GroupKind("monitoring.coreos.com", "ThanosRuler", "thanosrulers"): _Operated(
        "thanos-ruler", "quay.io/thanos/thanos"
    ),
}
"""Resources that an operator makes pods from, and the container that it makes (prometheus-operator
pkg/{prometheus/server,alertmanager,thanos}/statefulset.go)."""

WORKLOADS: tuple[GroupKind, ...] = (*POD_SPEC_PATHS, *OPERATED)

# The operator sizes these by flags of its own; an entry of that name, in the list that it puts them in, amends them.
_RELOADER, _INIT_RELOADER = "config-reloader", "init-config-reloader"
_THANOS_SIDECAR = "thanos-sidecar"

_PATHS = {(kind.group, kind.kind): path for kind, path in POD_SPEC_PATHS.items()}
_OPERATED = {(kind.group, kind.kind): operated for kind, operated in OPERATED.items()}
_NOTHING: Mapping[str, Any] = {}


class Container(msgspec.Struct, frozen=True, gc=False):
    """A container that may carry resources; ephemeral containers may not, so they are never among these.

    `path` is where a person finds it, `resources_path` where its resources stand. In an operator's resource
    `spec.containers` amends by name what `spec.resources` says: `resources` is the merged view, and `overrides` the
    amendment, at `overrides_path`; `spec` is then the amendment, with the volume mounts of both.
    """

    path: str
    name: str
    image: str
    role: Role
    spec: Mapping[str, Any]
    resources: Mapping[str, Any]
    resources_path: str
    overrides: Mapping[str, Any] = _NOTHING
    overrides_path: str = ""

    def memory(self, part: ResourcePart) -> Any:
        """The container's memory request or limit, as it was written; None where there is none."""
        amounts = self.resources.get(part)
        return amounts.get("memory") if amounts else None

    @property
    def places(self) -> tuple[str, ...]:
        """The paths below which everything about this container is written."""
        # The container that an operator makes is found at "spec", where everything else is as well.
        return (self.path, self.resources_path) if "[" in self.path else (self.resources_path,)

    def amount(self, part: ResourcePart) -> int | None:
        """The container's memory request or limit in bytes, None without one; raises BadObject for no quantity."""
        return _amount(self, part)

    def memory_path(self, part: ResourcePart) -> str:
        """The path of the container's memory request or limit, or where one would have to be written to count."""
        amended = self.overrides.get(part)
        above = self.overrides_path if amended and amended.get("memory") is not None else self.resources_path
        return f"{above}.{part}.memory"


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
        return _NOTHING if self.is_operated else _read_resources(self.spec, self.spec_path, null="0")

    def memory(self, part: ResourcePart) -> Any:
        """The pod's own memory request or limit, as it was written; None where there is none."""
        amounts = self.resources.get(part)
        return amounts.get("memory") if amounts else None

    def amount(self, part: ResourcePart) -> int | None:
        """The pod's own memory request or limit in bytes, None without one; raises BadObject for no quantity."""
        return _amount(self, part)

    def memory_path(self, part: ResourcePart) -> str:
        """The path of the pod's own memory request or limit, or where one would have to be written."""
        return f"{self.spec_path}.resources.{part}.memory"


def _amount(of: Container | Workload, part: ResourcePart) -> int | None:
    quantity = of.memory(part)
    if quantity is None:
        return None
    amount = bytes_at(quantity, of.memory_path(part))
    if amount < 0:
        raise BadObject(f"{of.memory_path(part)}: {quantity} is negative, which the API server refuses")
    return amount


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
    return _workload(request, obj, spec, path, labels, _read_containers(spec, path))


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


def _read_containers(spec: Mapping[str, Any], path: str) -> Iterator[Container]:
    for index, container in enumerate(items(spec, "initContainers", path)):
        role: Role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        yield _read_container(container, f"{path}.initContainers[{index}]", role, null="0")
    for index, container in enumerate(items(spec, "containers", path)):
        yield _read_container(container, f"{path}.containers[{index}]", "container", null="0")


def _read_container(container: Mapping[str, Any], path: str, role: Role, *, null: str | None) -> Container:
    return Container(
        path,
        text(container, "name", path),
        text(container, "image", path),
        role,
        container,
        _read_resources(container, path, null=null),
        f"{path}.resources",
    )


def _read_resources(parent: Mapping[str, Any], path: str, *, null: str | None) -> Mapping[str, Any]:
    """The resources of a container or pod, with what an amount of null is; None where it is nothing."""
    resources = mapping(parent, "resources", path)
    for part in ("requests", "limits") if resources else ():
        amounts = mapping(resources, part, f"{path}.resources")
        if None in amounts.values():
            read = {
                name: null if amount is None else amount
                for name, amount in amounts.items()
                if amount is not None or null is not None
            }
            resources = {**resources, part: read}
    return resources


def _read_operated(request: AdmissionRequest, obj: Object, operated: _Operated) -> Workload:
    spec = mapping(obj, "spec", "")
    metadata = mapping(spec, "podMetadata", "spec")
    labels = mapping(metadata, "labels", "spec.podMetadata")
    containers = _read_operated_containers(spec, operated)
    return _workload(request, obj, spec, "spec", labels, containers, is_operated=True)


def _read_operated_containers(spec: Mapping[str, Any], operated: _Operated) -> Iterator[Container]:
    thanos = mapping(spec, "thanos", "spec") if operated.has_thanos and spec.get("thanos") is not None else None
    made = {operated.container} if thanos is None else {operated.container, _THANOS_SIDECAR}
    amended: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for index, container in enumerate(items(spec, "initContainers", "spec")):
        if container.get("name") != _INIT_RELOADER:
            role: Role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
            yield _read_container(container, f"spec.initContainers[{index}]", role, null=None)
    for index, container in enumerate(items(spec, "containers", "spec")):
        path = f"spec.containers[{index}]"
        name = text(container, "name", path)
        if name in made:
            amended[name] = path, container
        elif name != _RELOADER:
            yield _read_container(container, path, "container", null=None)
    yield _made_container(spec, "spec", operated.container, operated.image, amended)
    if thanos is not None:
        yield _made_container(thanos, "spec.thanos", _THANOS_SIDECAR, "quay.io/thanos/thanos", amended)


def _image_of(parent: Mapping[str, Any], image: str) -> str:
    """What the operator runs: `image`, else the base image at a version, which a `sha` outdoes."""
    if parent.get("image"):
        return str(parent["image"])
    image = parent.get("baseImage") or image
    version = None if parent.get("sha") else parent.get("tag") or parent.get("version")
    return f"{image}:{version}" if version else image


def _made_container(
    parent: Mapping[str, Any],
    path: str,
    name: str,
    image: str,
    amended: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Container:
    """A container that the operator makes from `parent`'s resources and image, amended by name."""
    resources = _read_resources(parent, path, null=None)
    image = _image_of(parent, image)
    mounts = items(parent, "volumeMounts", path)
    if name not in amended:
        return Container(path, name, image, "container", {"volumeMounts": mounts}, resources, f"{path}.resources")
    override_path, override = amended[name]
    mounts = [*mounts, *items(override, "volumeMounts", override_path)]
    overrides = _read_resources(override, override_path, null=None)
    merged = {
        part: {**(resources.get(part) or {}), **(overrides.get(part) or {})}
        for part in ("requests", "limits")
        if resources.get(part) or overrides.get(part)
    }
    return Container(
        override_path,
        name,
        text(override, "image", override_path) or image,
        "container",
        {**override, "volumeMounts": mounts},
        merged,
        f"{path}.resources",
        overrides,
        f"{override_path}.resources",
    )
