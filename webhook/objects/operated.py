"""Resources of the Prometheus operator, and the containers that it makes of them
(prometheus-operator pkg/{prometheus/server,alertmanager,thanos}/statefulset.go)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from webhook.objects.containers import Container, init_role, read_container, read_resources
from webhook.objects.fields import items, mapping, text
from webhook.policy import GroupKind


class Operated(msgspec.Struct, frozen=True):
    """What the Prometheus operator makes of one of its resources."""

    container: str
    image: str
    has_thanos: bool = False
    """Whether `spec.thanos` asks for a sidecar."""


OPERATED: Mapping[GroupKind, Operated] = {
    GroupKind("monitoring.coreos.com", "Alertmanager", "alertmanagers"): Operated(
        "alertmanager", "quay.io/prometheus/alertmanager"
    ),
    GroupKind("monitoring.coreos.com", "Prometheus", "prometheuses"): Operated(
        "prometheus", "quay.io/prometheus/prometheus", has_thanos=True
    ),
    GroupKind("monitoring.coreos.com", "PrometheusAgent", "prometheusagents"): Operated(
        "prometheus", "quay.io/prometheus/prometheus"
    ),
    GroupKind("monitoring.coreos.com", "ThanosRuler", "thanosrulers"): Operated(
        "thanos-ruler", "quay.io/thanos/thanos"
    ),
}
"""Resources that an operator makes pods from, and the container that it makes."""

# The operator sizes these by flags of its own; an entry of that name, in the list that it puts them in, amends them.
_RELOADER, _INIT_RELOADER = "config-reloader", "init-config-reloader"
_THANOS_SIDECAR = "thanos-sidecar"


def read_operated(spec: Mapping[str, Any], operated: Operated) -> Iterator[Container]:
    """The containers of the pods that the operator makes of a resource with this spec, but for its own reloaders."""
    thanos = mapping(spec, "thanos", "spec") if operated.has_thanos and spec.get("thanos") is not None else None
    made = {operated.container} if thanos is None else {operated.container, _THANOS_SIDECAR}
    amended: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for index, container in enumerate(items(spec, "initContainers", "spec")):
        if container.get("name") != _INIT_RELOADER:
            yield read_container(container, f"spec.initContainers[{index}]", init_role(container), null=None)
    for index, container in enumerate(items(spec, "containers", "spec")):
        path = f"spec.containers[{index}]"
        name = text(container, "name", path)
        if name in made:
            amended[name] = path, container
        elif name != _RELOADER:
            yield read_container(container, path, "container", null=None)
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
    resources = read_resources(parent, path, null=None)
    image = _image_of(parent, image)
    mounts = items(parent, "volumeMounts", path)
    if name not in amended:
        return Container(path, name, image, "container", {"volumeMounts": mounts}, resources, f"{path}.resources")
    override_path, override = amended[name]
    mounts = [*mounts, *items(override, "volumeMounts", override_path)]
    overrides = read_resources(override, override_path, null=None)
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
