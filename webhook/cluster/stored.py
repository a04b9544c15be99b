"""The objects that a cluster stores, read page by page, each from its own bytes: nothing holds a whole list.

Whoever may write objects decides how large they are, up to the megabytes that the API server stores: so a page is
bounded by its bytes as well, and where objects are large it holds fewer of them.

An object that can't be read costs itself alone: it is handed on as Unreadable, and the ones behind it are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from webhook.cluster.paths import api_path, path_of
from webhook.errors import ClusterRefused, FactsUnavailable, ForestallError, TooLarge, one_line
from webhook.objects.wire import ITEM, UNDECODABLE, cut, find, read_name, read_object
from webhook.objects.written import as_written
from webhook.policy import AdmissionRequest, GroupKind, Object, Reference, is_custom
from webhook.prepared import prepare

PAGE = 500
"""Objects that one answer to a list holds at most."""
PAGE_BYTES = 8 << 20
"""Bytes that one answer to a list has at most, unless it is a single object."""
WHOLE_BYTES = 64 << 20
"""Bytes that a list has at most where it is read at once, which is done only if it expired while it was paged."""
_PAGE_SECONDS = 60.0

Body = bytes | msgspec.Raw
"""One object's JSON."""


class Reader(Protocol):
    """The methods of webhook.cluster.client.Cluster that read."""

    def read(
        self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None
    ) -> bytes | bytearray: ...
    def get(self, path: str) -> Object | None: ...


class Unreadable(NamedTuple):
    """A stored object that can't be read, by its name as far as that is known, and why."""

    reference: Reference
    why: str

    def __str__(self) -> str:
        return f"{show_reference(self.reference)} can't be read: {self.why}"


@dataclass
class Unseen:
    """What could not be read of a cluster."""

    resources: dict[str, str] = field(default_factory=dict)
    """Full resource ("deployments.apps") -> why it could not be listed, or not to the end."""
    forbidden: dict[str, set[str]] = field(default_factory=dict)
    """The `resources` for which a right was missing, and in which namespaces; "" stands for all of them."""
    objects: list[Unreadable] = field(default_factory=list)

    def note(self, resource: str, error: ForestallError, namespace: str = "") -> None:
        """Record that a resource could not be listed, in a namespace or in all; the first reason stands."""
        self.resources.setdefault(resource, str(error))
        if is_forbidden(error):
            self.forbidden.setdefault(resource, set()).add(namespace)

    def add(self, other: Unseen) -> None:
        """Record what `other` holds, nothing twice."""
        self.resources = {**other.resources, **self.resources}
        for resource, namespaces in other.forbidden.items():
            self.forbidden.setdefault(resource, set()).update(namespaces)
        known = {odd.reference for odd in self.objects}
        self.objects += [odd for odd in other.objects if odd.reference not in known]


def show_reference(reference: Reference) -> str:
    """The object as a person names it: "PersistentVolumeClaim web/data"; "?" for a name that isn't known."""
    return f"{reference.kind} {'/'.join(filter(None, (reference.namespace, reference.name or '?')))}"


def unreadable(kind: str, body: Body, error: Exception) -> Unreadable:
    """The object of this kind, which ended in the error."""
    reference = Reference(kind, *read_name(body))
    why = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
    return Unreadable(reference, why.removeprefix(f"{show_reference(reference)}: "))


class Page(NamedTuple):
    """A part of a list: `token` leads to the next one, and is empty on the last; `version` is the list's.

    With a page that `begins` the list does, from its first object.
    """

    items: Sequence[Body]
    token: str
    version: str
    begins: bool = False


class _ListMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")
    version: str = msgspec.field(default="", name="resourceVersion")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


prepare(_List)


class Pages:
    """The pages of the collection at an API path, of what a label selector ("app=web") and a field selector
    ("metadata.name=web") select."""

    def __init__(self, cluster: Reader, path: str, labels: str = "", fields: str = "") -> None:
        self._cluster, self._path, self._labels, self._fields = cluster, path, labels, fields
        self._limit = PAGE

    def read(self, token: str) -> Page:
        """The page that a token leads to, the first one for an empty token.

        Raises ClusterRefused for an answer that says no, FactsUnavailable for none.
        """
        while True:
            try:
                body = self._ask(token, self._limit, PAGE_BYTES if self._limit > 1 else None)
            except TooLarge:
                self._limit = max(1, self._limit // 8)
                continue
            if len(body) < PAGE_BYTES // 4:
                self._limit = min(PAGE, 2 * self._limit)
            return self._page(body)

    def read_whole(self) -> Page:
        """All of it at once, which can't expire. Raises as `read`, and TooLarge for more than WHOLE_BYTES."""
        return self._page(self._ask("", 0, WHOLE_BYTES))

    def _ask(self, token: str, limit: int, most: int | None) -> bytes | bytearray:
        query = {
            "limit": str(limit),
            "labelSelector": self._labels,
            "fieldSelector": self._fields,
            "continue": token,
        }
        return self._cluster.read(
            self._path, {key: value for key, value in query.items() if value}, _PAGE_SECONDS, most
        )

    def _page(self, body: bytes | bytearray) -> Page:
        try:
            page = msgspec.json.decode(body, type=_List)
        except UNDECODABLE as error:
            try:
                page = msgspec.json.decode(cut(body, ("items",)), type=_List)
            except UNDECODABLE:
                raise FactsUnavailable(f"GET {self._path}: no list: {one_line(error)}") from error
            items: Sequence[Body] = [bytes(body[begins:ends]) for begins, ends in find(body, ("items", ITEM))]
            return Page(items, page.metadata.token, page.metadata.version)
        return Page(page.items or (), page.metadata.token, page.metadata.version)


def read_at_once(cluster: Reader, path: str, *, fields: str = "") -> Iterator[Page]:
    """The pages of the collection at an API path as it was at one moment, from whose version it can be watched.

    A later page may begin the list anew, and what came before it no longer counts: whoever pages so slowly that the API
    server no longer has the list as it was gets it all at once, as client-go does, which can't expire.
    """
    pages, token, begins = Pages(cluster, path, fields=fields), "", True
    while True:
        try:
            page = pages.read(token)
        except ClusterRefused as answer:
            if answer.status != 410 or not token:
                raise
            page, begins = pages.read_whole(), True
        yield page._replace(begins=begins)
        token, begins = page.token, False
        if not token:
            return


def read_bodies(cluster: Reader, path: str, *, labels: str = "", fields: str = "") -> Iterator[Body]:
    """Each object's JSON of the collection at an API path, none of them twice.

    A page may be asked for so late that the API server no longer has the list as it was. Then it says where the list
    as it is now goes on; else everything is listed at once, which can't expire, and what was handed out is passed over.
    """
    pages, token, last = Pages(cluster, path, labels, fields), "", ""
    while True:
        try:
            page = pages.read(token)
        except ClusterRefused as answer:
            if answer.status != 410 or not token:
                raise
            token = answer.token
            if not token:
                yield from (item for item in pages.read_whole().items if _key(item) > last)
                return
            continue
        yield from page.items
        if page.items:
            last = _key(page.items[-1])
        token = page.token
        if not token:
            return


def _key(item: Body) -> str:
    """Namespace and name, by which the API server sorts a list."""
    return "/".join(read_name(item))


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


class Versions(dict[str, str]):
    """API group -> the version that the API server prefers."""

    def __init__(self, cluster: Reader | None = None, groups: Iterable[Object] = ()) -> None:
        super().__init__({"": "v1"} if cluster else {})
        self._cluster = cluster
        self._others: dict[str, list[str]] = {}
        self._resources: dict[str, frozenset[str]] = {}
        for group in groups:
            self[group["name"]] = preferred = group["preferredVersion"]["version"]
            found = [served["version"] for served in group.get("versions") or () if served["version"] != preferred]
            if found and is_custom(group["name"]):
                self._others[group["name"]] = found

    def of(self, kind: GroupKind) -> str | None:
        """The version in which the kind is served, None if its group isn't: the preferred one, if that has it, since of
        the operator's group ScrapeConfigs have another than ServiceMonitors.

        Raises ClusterRefused or FactsUnavailable.
        """
        preferred = self.get(kind.group)
        versions = [preferred, *self._others[kind.group]] if preferred and kind.group in self._others else ()
        return next((version for version in versions if kind.resource in self._served(kind.group, version)), preferred)

    def _served(self, group: str, version: str) -> frozenset[str]:
        path = api_path(group, version)
        if path not in self._resources:
            found = (self._cluster.get(path) if self._cluster else None) or {}
            self._resources[path] = frozenset(resource["name"] for resource in found.get("resources") or ())
        return self._resources[path]


def served_versions(cluster: Reader) -> Versions:
    """The versions that the API server serves. Raises ClusterRefused or FactsUnavailable."""
    return Versions(cluster, (cluster.get("/apis") or {}).get("groups") or ())


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
            if has_begun or _is_served(self.cluster, kind, version, error):
                self.unseen.note(full_resource(kind), error, namespace)

    def _objects(self, kind: GroupKind, version: str, namespace: str) -> Iterator[Object | Unreadable]:
        if namespace and is_namespace(kind.group, kind.kind):
            obj = self.cluster.get(path_of(kind, version, name=namespace))
            return iter(() if obj is None else (obj,))
        return read_objects(self.cluster, path_of(kind, version, namespace), kind.kind)


def full_resource(kind: GroupKind) -> str:
    """The plural as kubectl takes it: "deployments.apps"."""
    return f"{kind.resource}.{kind.group}" if kind.group else kind.resource


def is_forbidden(error: ForestallError) -> bool:
    """Whether the API server refused because the user lacks a right (403)."""
    return isinstance(error, ClusterRefused) and error.status == 403


def is_namespace(group: str, kind: str) -> bool:
    return (group, kind) == ("", "Namespace")


def _is_served(cluster: Reader, kind: GroupKind, version: str, error: ForestallError) -> bool:
    """Whether the API server has the kind, as far as can be told: what may not be listed need not be there."""
    if not isinstance(error, ClusterRefused) or error.status not in (403, 404):
        return True
    if error.status == 404:
        return False
    try:
        served = cluster.get(api_path(kind.group, version))
    except (ClusterRefused, FactsUnavailable):
        return True
    resources = (served or {}).get("resources")
    return resources is None or any(resource.get("name") == kind.resource for resource in resources)


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
