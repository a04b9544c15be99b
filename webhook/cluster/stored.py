"""The objects that a cluster stores, one by one, as requests that would create them.

An object that can't be read costs itself alone: it is handed on as Unreadable, and the ones behind it are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from webhook.cluster.lists import Reader, read_bodies
from webhook.cluster.paths import path_of
from webhook.cluster.served import Versions, is_served, served_versions
from webhook.cluster.unseen import Unreadable, Unseen, is_forbidden, unreadable
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.wire import UNDECODABLE, read_object
from webhook.objects.written import as_written
from webhook.policy import AdmissionRequest, GroupKind, Object


def read_objects(
    cluster: Reader, path: str, kind: str, *, labels: str = "", fields: str = ""
) -> Iterator[Object | Unreadable]:
    """Each object of the collection at an API path, as the API server prints it in a list: without its kind.

    Raises ClusterRefused or FactsUnavailable, at the first object or in between.
    """
    for item in read_bodies(cluster, path, labels=labels, fields=fields):
        try:
            yield read_object(item)
        except UNDECODABLE as error:
            yield unreadable(kind, item, error)


def readable(objects: Iterable[Object | Unreadable]) -> Iterator[Object]:
    """The objects that could be read; the others are passed over."""
    return (obj for obj in objects if not isinstance(obj, Unreadable))


@dataclass
class Stored:
    """Every stored object of these kinds, as the request that would create it; owners come before what they own.

    `namespaces` are those to look in, by default all; `versions` those in which kinds are served, by default what the
    API server says. After iterating, `unseen` says what could not be read, but not which `optional` kinds may not be
    listed.
    """

    cluster: Reader
    kinds: Collection[GroupKind]
    namespaces: Sequence[str] = ()
    optional: Collection[GroupKind] = ()
    versions: Versions = field(default_factory=Versions)
    unseen: Unseen = field(default_factory=Unseen)
    done: float = 0.0
    """The part of the kinds that has been read, from 0 to 1."""

    def __iter__(self) -> Iterator[AdmissionRequest]:
        self.versions = self.versions or served_versions(self.cluster)
        for number, kind in enumerate(sorted(self.kinds, key=owner_first)):
            self.done = number / len(self.kinds)
            if version := self.versions.of(kind):
                for namespace in self.namespaces or ("",):
                    for obj in self._read(kind, version, namespace):
                        yield request_of(kind, version, obj)

    def _read(self, kind: GroupKind, version: str, namespace: str) -> Iterator[Object]:
        has_begun = False
        try:
            for obj in self._objects(kind, version, namespace):
                has_begun = True
                if isinstance(obj, Unreadable):
                    self.unseen.objects.append(obj)
                else:
                    yield obj
        except (ClusterRefused, FactsUnavailable) as error:
            if kind in self.optional and is_forbidden(error):
                return
            if has_begun or is_served(self.cluster, kind, version, error):
                self.unseen.note(kind.full_resource, error, namespace)

    def _objects(self, kind: GroupKind, version: str, namespace: str) -> Iterator[Object | Unreadable]:
        if namespace and is_namespace(kind.group, kind.kind):
            obj = self.cluster.get(path_of(kind, version, name=namespace))
            return iter(() if obj is None else (obj,))
        return read_objects(self.cluster, path_of(kind, version, namespace), kind.kind)


def is_namespace(group: str, kind: str) -> bool:
    return (group, kind) == ("", "Namespace")


def owner_first(kind: GroupKind) -> tuple[int, GroupKind]:
    """What to sort kinds by so that owners come before what they own: Prometheus, StatefulSet, claim and Pod."""
    generations = {"StatefulSet": 1, "Deployment": 1, "ReplicaSet": 2, "Job": 2, "PersistentVolumeClaim": 3, "Pod": 3}
    return generations.get(kind.kind, 0), kind


def request_of(kind: GroupKind, version: str, obj: Object) -> AdmissionRequest:
    """The request that would create the stored object, as somebody wrote it."""
    metadata = obj["metadata"]
    name = metadata["name"]
    return AdmissionRequest(
        operation="CREATE",
        group=kind.group,
        version=version,
        kind=kind.kind,
        # The API server gives the request for a Namespace that namespace's own name.
        namespace=name if is_namespace(kind.group, kind.kind) else metadata.get("namespace") or "",
        name=name,
        object=as_written(kind.group, kind.kind, obj),
        uid=str(metadata.get("uid") or ""),
    )
