"""ConfigMaps, and the files that a container finds in them.

They are read from the checked files, or looked up one by one: those that a pod's own volumes name, and no others. They
aren't watched: a cluster has thousands, and programs keep locks in them that change every second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import normpath
from typing import Any, NamedTuple

import msgspec

from webhook.objects.containers import Container
from webhook.objects.facts import ClusterFacts, Metadata, Wire
from webhook.objects.fields import items, mapping, text
from webhook.objects.mounts import mount_at
from webhook.objects.pods import Workload
from webhook.policy import FactKind, FactReference


class ConfigMap(msgspec.Struct, frozen=True, gc=False):
    """A ConfigMap: its texts by key, and the keys of what is binary, which nobody reads here."""

    namespace: str
    name: str
    texts: Mapping[str, str]
    binaries: frozenset[str] = frozenset()


class _ConfigMap(Wire):
    data: dict[str, Any] | None = None
    binary_data: dict[str, Any] | None = None


def _read(reference: FactReference, _metadata: Metadata, wired: _ConfigMap) -> ConfigMap:
    # Of a value that is no text, which the API server refuses, nothing is known here.
    texts = {key: value for key, value in (wired.data or {}).items() if isinstance(value, str)}
    return ConfigMap(reference.namespace, reference.name, texts, frozenset(wired.binary_data or ()))


CONFIG_MAPS: FactKind[tuple[str, str], ConfigMap] = FactKind(
    group="",
    kind="ConfigMap",
    resource="configmaps",
    wire=_ConfigMap,
    read=_read,
    key="namespace and name",
    allowed_by="readConfigMaps",
)


class File(NamedTuple):
    """A file that a container finds: its text, and the ConfigMap's name; or why the text isn't known, and what to look
    up to know it."""

    text: str | None = None
    source: str = ""
    why: str = ""
    unseen: tuple[FactReference, ...] = ()

    @property
    def is_mounted(self) -> bool:
        """Whether the file is in some volume; otherwise it is the image's own, if there is one."""
        return self.why != _IN_NO_VOLUME


_IN_NO_VOLUME = "is not in a volume"


def mounted_file(workload: Workload, container: Container, path: str, facts: ClusterFacts) -> File:
    """The file that the container finds at an absolute path, if one of the pod's ConfigMaps holds it."""
    mount = mount_at(container, path)
    if mount is None:
        return File(why=_IN_NO_VOLUME)
    inside = normpath(path)[len(mount.folder) :].strip("/")
    return _in_volume(workload, mount.volume, "/".join(filter(None, (mount.sub_path, inside))), facts)


class _Source(NamedTuple):
    """What a volume is made from, or a part of a projected one: its field's name, the object's, and which keys of that
    it holds, by their path in the volume; all of them, by their own names, for None."""

    kind: str
    name: str = ""
    keys: Mapping[str, str] | None = None


_NAMED_BY = {"configMap": "name", "secret": "secretName"}


def _sources(volume: Mapping[str, Any], path: str) -> Iterator[_Source]:
    projected = mapping(volume, "projected", path)
    for kind, name in _NAMED_BY.items():
        if volume.get(kind) is not None:
            yield _source(kind, name, mapping(volume, kind, path), f"{path}.{kind}")
    for index, part in enumerate(items(projected, "sources", f"{path}.projected")):
        for kind in _NAMED_BY:
            if part.get(kind) is not None:
                at = f"{path}.projected.sources[{index}]"
                yield _source(kind, "name", mapping(part, kind, at), f"{at}.{kind}")


def _source(kind: str, name: str, source: Mapping[str, Any], path: str) -> _Source:
    parts = items(source, "items", path)
    places = [(f"{path}.items[{index}]", part) for index, part in enumerate(parts)]
    keys = {normpath(text(part, "path", at)): text(part, "key", at) for at, part in places}
    return _Source(kind, text(source, name, path), keys or None)


def _in_volume(workload: Workload, name: str, key: str, facts: ClusterFacts) -> File:
    found = workload.volumes.get(name)
    if found is None:
        return File(why=f"is in volume {name!r}, which the pod doesn't have")
    files = [
        _in_source(workload.namespace, source, key, facts)
        for source in _sources(*found)
        if source.keys is None or key in source.keys
    ]
    files.sort(key=lambda file: (file.text is None, not file.unseen))  # it can't be in two of them
    return files[0] if files else File(why=f"is in volume {name!r}, which is made from no ConfigMap")


def _in_source(namespace: str, source: _Source, key: str, facts: ClusterFacts) -> File:
    if source.kind == "secret":
        return File(why=f"is in Secret {source.name!r}, which is not read")
    return _in_map(FactReference(CONFIG_MAPS, namespace, source.name), source, key, facts)


def _in_map(reference: FactReference, source: _Source, key: str, facts: ClusterFacts) -> File:
    found, named = facts.of(CONFIG_MAPS).get((reference.namespace, reference.name)), f"ConfigMap {reference.name!r}"
    key = source.keys[key] if source.keys is not None else key
    if found is None:
        if reference in facts.absent:
            return File(why=f"is in {named}, which does not exist")
        return File(why=f"is in {named}, which was not seen", unseen=(reference,))
    if key in found.texts:
        return File(found.texts[key], reference.name)
    return File(why=f"is {'binary' if key in found.binaries else 'missing'} in {named}")
