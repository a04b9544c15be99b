"""The volumes that are memory: what a container writes to them counts against its own limit.

Source: https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from webhook.errors import BadObject, BadQuantity
from webhook.objects.pods import Container, Workload, items, mapping, text
from webhook.objects.quantities import parse_memory


def memory_volumes(workload: Workload) -> Mapping[str, int | None]:
    """The workload's emptyDirs of medium Memory: name -> size limit in bytes, None without one."""
    return dict(_memory_volumes(workload))


def written_by(container: Container, workload: Workload, volumes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    """The workload's memory volumes that the container may write to."""
    if not volumes:
        return volumes
    written = [
        text(mount, "name", f"{container.path}.volumeMounts[{index}]")
        for index, mount in enumerate(items(container.spec, "volumeMounts", container.path))
        if not mount.get("readOnly")
    ]
    if workload.is_operated and container.resources_path == f"{workload.spec_path}.resources":
        written.append(_STORAGE)
    return {name: volumes[name] for name in written if name in volumes}


def size_limit_path(name: str, workload: Workload) -> str:
    """Where the size limit of such a volume is written."""
    if name == _STORAGE:
        return f"{workload.spec_path}.storage.emptyDir.sizeLimit"
    names = [volume.get("name") for volume in items(workload.spec, "volumes", workload.spec_path)]
    return f"{workload.spec_path}.volumes[{names.index(name)}].emptyDir.sizeLimit"


# What the Prometheus operator mounts into the container that it makes is called by the resource; no volume of this name
# can stand in spec.volumes.
_STORAGE = "spec.storage"


def _memory_volumes(workload: Workload) -> Iterator[tuple[str, int | None]]:
    for index, volume in enumerate(items(workload.spec, "volumes", workload.spec_path)):
        path = f"{workload.spec_path}.volumes[{index}]"
        if _is_memory(directory := mapping(volume, "emptyDir", path)):
            yield text(volume, "name", path), _size_limit(directory, f"{path}.emptyDir")
    if workload.is_operated:
        path = f"{workload.spec_path}.storage"
        directory = mapping(mapping(workload.spec, "storage", workload.spec_path), "emptyDir", path)
        if _is_memory(directory):
            yield _STORAGE, _size_limit(directory, f"{path}.emptyDir")


def _is_memory(directory: Mapping[str, Any]) -> bool:
    """Whether this emptyDir is kept in memory."""
    return directory.get("medium") == "Memory"


def _size_limit(directory: Mapping[str, Any], path: str) -> int | None:
    written = directory.get("sizeLimit")
    try:
        # 0 is no limit: the kubelet looks for one above it.
        return None if written is None else parse_memory(written) or None
    except BadQuantity as error:
        raise BadObject(f"{path}.sizeLimit: {error}") from error
