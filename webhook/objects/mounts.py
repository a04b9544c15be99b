"""Which volume a container finds at a path."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import normpath
from typing import NamedTuple

from webhook.objects.containers import Container
from webhook.objects.fields import items, text


class Mount(NamedTuple):
    """A volume in a container: where it is mounted, which part of it, and where that is written."""

    volume: str
    folder: str
    sub_path: str
    is_read_only: bool
    path: str

    def holds(self, path: str) -> bool:
        return path == self.folder or path.startswith(f"{self.folder.rstrip('/')}/")


def mounts_of(container: Container) -> Iterator[Mount]:
    for index, mount in enumerate(items(container.spec, "volumeMounts", container.path)):
        path = f"{container.path}.volumeMounts[{index}]"
        folder = normpath(f"/{text(mount, 'mountPath', path).lstrip('/')}")
        sub_path = text(mount, "subPath", path).strip("/")
        yield Mount(text(mount, "name", path), folder, sub_path, bool(mount.get("readOnly")), path)


def mount_at(container: Container, path: str) -> Mount | None:
    """The mount in which an absolute path is, as the container sees it: the deepest hides those above it."""
    found = [mount for mount in mounts_of(container) if mount.holds(normpath(path))]
    return max(found, key=lambda mount: len(mount.folder), default=None)
