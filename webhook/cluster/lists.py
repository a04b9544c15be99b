"""Lists of the API server, read page by page, each object from its own bytes: nothing holds a whole list.

Whoever may write objects decides how large they are, up to the megabytes that the API server stores: so a page is
bounded by its bytes as well, and where objects are large it holds fewer of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from webhook.errors import ClusterRefused, FactsUnavailable, TooLarge, one_line
from webhook.objects.wire import ITEM, UNDECODABLE, cut, find, read_name
from webhook.policy import Object
from webhook.prepared import prepare

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

PAGE = 500
"""Objects that one answer to a list holds at most."""
PAGE_BYTES = 8 << 20
"""Bytes that one answer to a list has at most, unless it is a single object."""
WHOLE_BYTES = 64 << 20
"""Bytes that a list has at most where it is read at once, which is done only if it expired while it was paged."""
_PAGE_SECONDS = 60.0

_METADATA = "g=meta.k8s.io;v=v1,application/json"
METADATA_OBJECT = f"application/json;as=PartialObjectMetadata;{_METADATA}"
METADATA_LIST = f"application/json;as=PartialObjectMetadataList;{_METADATA}"
"""What a call accepts that asks for the metadata of objects alone."""

Body = bytes | msgspec.Raw
"""One object's JSON."""


class Reader(Protocol):
    """The methods of webhook.cluster.client.Cluster that read."""

    def read(
        self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None
    ) -> bytes | bytearray: ...
    def get(self, path: str) -> Object | None: ...


class MetadataReader:
    """A cluster whose lists hold the metadata of objects alone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.get = cluster.get

    def read(self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytearray:
        return self._cluster.read(path, query, timeout, most, METADATA_LIST)


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
