"""The volumes that are memory: what a container writes to them counts against its own limit.

Source: https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from webhook.objects.containers import Container
from webhook.objects.fields import bytes_at, mapping
from webhook.objects.mounts import mounts_of
from webhook.objects.pods import Workload
from webhook.objects.volumes import operated_storage


def memory_volumes(workload: Workload) -> Mapping[str, int | None]:
    """The workload's emptyDirs of medium Memory: name -> size limit in bytes, None without one."""
    return dict(_memory_volumes(workload))


def written_by(container: Container, workload: Workload, volumes: Mapping[str, int | None]) -> Mapping[str, int | None]:
    """The workload's memory volumes that the container may write to."""
    if not volumes:
        return volumes
    written = [mount.volume for mount in mounts_of(container) if not mount.is_read_only]
    if workload.is_operated and container.resources_path == f"{workload.spec_path}.resources":
        written.append(_STORAGE)
    return {name: volumes[name] for name in written if name in volumes}


def size_limit_path(name: str, workload: Workload) -> str:
    """Where the size limit of such a volume is written."""
    if name == _STORAGE:
        return f"{workload.spec_path}.storage.emptyDir.sizeLimit"
    _, path = workload.volumes[name]
    return f"{path}.emptyDir.sizeLimit"


# What the Prometheus operator mounts into the container that it makes is called by the resource; no volume of this name
# can stand in spec.volumes.
_STORAGE = "spec.storage"


def _memory_volumes(workload: Workload) -> Iterator[tuple[str, int | None]]:
    for name, (volume, path) in workload.volumes.items():
        if _is_memory(directory := mapping(volume, "emptyDir", path)):
            yield name, size_limit(directory, f"{path}.emptyDir")
    if workload.is_operated:
        storage = operated_storage(workload)
        if storage.field == "emptyDir" and _is_memory(storage.value):
            yield _STORAGE, size_limit(storage.value, storage.path)


def _is_memory(directory: Mapping[str, Any]) -> bool:
    """Whether this emptyDir is kept in memory."""
    return directory.get("medium") == "Memory"


def size_limit(directory: Mapping[str, Any], path: str) -> int | None:
    """The bytes that an emptyDir may hold; None for any number. Raises BadObject."""
    written = directory.get("sizeLimit")
    # 0 is no limit: the kubelet looks for one above it.
    return None if written is None else bytes_at(written, f"{path}.sizeLimit") or None
