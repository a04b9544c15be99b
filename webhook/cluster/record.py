"""What controller and auditor remember, in ConfigMaps of Forestall's namespace: typed, of a known version, bounded.

A ConfigMap holds several values, each under a key of its own, as JSON. Every write carries the version that it was
decided on, so that of two writers one is told to look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from webhook.cluster.paths import config_map_path
from webhook.errors import BadObject, ClusterRefused, Conflict
from webhook.installation import LABELS
from webhook.policy import Object
from webhook.prepared import prepare

if TYPE_CHECKING:
    from webhook.cluster.client import Written

T = TypeVar("T")

VERSION = "1"
"""The version of what all values mean; a ConfigMap that names none is of this one."""
_VERSION_KEY = "version"
MOST_BYTES = 900_000
"""Bytes of all values of a ConfigMap together, at most; the API server takes 1 MiB, metadata included."""


class _Cluster(Protocol):
    """The methods of webhook.cluster.client.Cluster that are needed here."""

    def get(self, path: str) -> Object | None: ...
    def create(self, path: str, obj: Object) -> Written: ...
    def replace(self, path: str, obj: Object) -> Object: ...


class Recorded(NamedTuple, Generic[T]):
    """A value as it was read, to be given back to write(): with the ConfigMap, None where there is none.

    `lost` says why what is there can't be read, and is empty where it can.
    """

    value: T
    object: Object | None
    lost: str = ""


def read_value(obj: Object | None, key: str, type_: type[T]) -> Recorded[T]:
    """What the ConfigMap holds under the key; an empty value where it holds nothing that can be read."""
    data = (obj or {}).get("data") or {}
    text = data.get(key)
    if text is None:
        return Recorded(type_(), obj)
    if data.get(_VERSION_KEY, VERSION) != VERSION:
        return Recorded(type_(), obj, f"it is of version {data[_VERSION_KEY]}, not {VERSION}")
    try:
        return Recorded(msgspec.json.decode(text, type=type_), obj)
    except (msgspec.DecodeError, RecursionError) as error:
        return Recorded(type_(), obj, str(error))


class Record(Generic[T]):
    """One value, under a key of a ConfigMap; before any was written it is `type_()`."""

    def __init__(self, cluster: _Cluster, namespace: str, name: str, key: str, type_: type[T]) -> None:
        self._cluster = cluster
        self._collection = config_map_path(namespace, "")
        self._path = config_map_path(namespace, name)
        self._metadata = {"name": name, "namespace": namespace, "labels": dict(LABELS)}
        self._key = key
        prepare(type_)
        self._type = type_

    def read(self) -> Recorded[T]:
        """The value as it is stored; raises FactsUnavailable or ClusterRefused."""
        return read_value(self._cluster.get(self._path), self._key, self._type)

    def write(
        self,
        kept: Recorded[T],
        value: T,
        *,
        beside: Mapping[str, str] = MappingProxyType({}),
        owner: Object | None = None,
    ) -> Recorded[T]:
        """Write the value in place of the one that was read, if anything differs, and return what is then stored.

        `beside` are texts for people under other keys; with the `owner`, an object of the cluster, the ConfigMap goes
        too. Raises Conflict if somebody has written or deleted it since, BadObject for a value that doesn't fit.
        """
        there = kept.object or {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._metadata}
        text = msgspec.json.encode(value, order="sorted").decode()
        data = {**(there.get("data") or {}), **beside, self._key: text, _VERSION_KEY: VERSION}
        metadata = {**there["metadata"]} | ({"ownerReferences": [owner_reference(owner)]} if owner else {})
        if size := _excess(data):
            raise BadObject(f"ConfigMap {self._metadata['namespace']}/{self._metadata['name']}: {size}")
        if kept.object is not None and (data, metadata) == (there.get("data"), there["metadata"]):
            return kept
        obj = {**there, "metadata": metadata, "data": data}
        if kept.object is None:
            return Recorded(value, self._cluster.create(self._collection, obj).object)
        try:
            return Recorded(value, self._cluster.replace(self._path, obj))
        except ClusterRefused as answer:
            if answer.status != 404:
                raise
            raise Conflict(answer.status, answer.reason, answer.message) from answer

    def overwrite(self, kept: Recorded[T], value: T) -> Recorded[T]:
        """As `write`, for a value that only one process decides on: what somebody has written meanwhile is replaced."""
        try:
            return self.write(kept, value)
        except Conflict:
            return self.write(self.read(), value)


def _excess(data: Mapping[str, str]) -> str:
    size = sum(len(key) + len(text.encode()) for key, text in data.items())
    return f"{size} bytes are more than the {MOST_BYTES} that fit" if size > MOST_BYTES else ""


def owner_reference(owner: Object) -> Object:
    """The ownerReference with which an object is deleted when the owner is."""
    metadata = owner["metadata"]
    return {field: owner[field] for field in ("apiVersion", "kind")} | {
        field: metadata[field] for field in ("name", "uid")
    }
