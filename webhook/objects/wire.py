"""The API server's JSON where the decoder can't take it: a scan without recursion finds, and cuts out, single values.

Go takes 10,000 levels of nesting, and keeps whatever bytes a key of `managedFields` holds; msgspec's decoder ends at
about 1,000 levels on Python 3.11, even in what it only skips. So an object is decoded plainly first, and where that
fails once more without the parts that nobody reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from webhook.objects.repair import NEXT_BRACKET, repair
from webhook.prepared import prepare

T = TypeVar("T")

ITEM = object()
"""A step of a path: every item of a list. Any other step is a key."""
JsonPath = tuple[object, ...]

MANAGED_FIELDS: JsonPath = ("metadata", "managedFields")
"""The API server's record of who set which field: the only place in a built-in kind with arbitrary keys."""

UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for bytes that it can't decode as the type that is asked for."""

_SIGNS = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?+(?:"|\Z)|[][{}:,]', re.DOTALL)
_QUOTE, _COLON, _COMMA = b'":,'
_OPENING, _CLOSING = b"{[", b"}]"


def decode(body: bytes | bytearray | msgspec.Raw, type_: type[T], *unread: JsonPath) -> T:
    """The body as a value of the type; where its bytes can't be decoded, repaired, and without what is `unread`.

    Raises one of UNDECODABLE: a msgspec.ValidationError where a field is not of its type.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError:
        raise
    except UNDECODABLE:
        return msgspec.json.decode(mend(body, *unread), type=type_)


def mend(body: bytes | bytearray | msgspec.Raw, *unread: JsonPath) -> bytes:
    """JSON that the decoder refuses, repaired, and without what stands at the `unread` paths."""
    return repair(cut(bytes(body), *unread))


def cut(body: bytes | bytearray, *paths: JsonPath) -> bytes:
    """The JSON with null in place of the values at these paths, as in ("items", ITEM, "status")."""
    kept, end = [], 0
    for begins, ends in find(body, *paths):
        kept += [body[end:begins], b"null"]
        end = ends
    return b"".join([*kept, body[end:]])


def find(body: bytes | bytearray, *paths: JsonPath) -> Iterator[tuple[int, int]]:
    """Where the values at these paths begin and end, in order; none of them may lie within another.

    Whatever the depth, it takes time and memory in proportion to the length. Of JSON that is malformed it finds what
    stands before the fault, or something else.
    """
    tree: dict[object, Any] = {}
    outer: list[tuple[dict[object, Any], dict[object, Any] | None, int, bool]] = []
    below: dict[object, Any] | None = _tree(paths)
    """The wanted paths within the value that is being read; empty for the value itself, None for nothing of it."""
    begins, is_object, expects_key, position = -1, False, False, 0
    while token := _SIGNS.search(body, position):
        at, position = token.span()
        sign = body[at]
        if sign == _QUOTE:
            if expects_key:
                below, expects_key = tree.get(token[0]), False
        elif sign == _COLON:
            begins = position if below == {} else -1
        elif sign in _OPENING:
            if not below:
                position = _skip(body, position)
                continue
            outer.append((tree, below, begins, is_object))
            tree, is_object = below, sign == _OPENING[0]
            expects_key, below = is_object, None if is_object else tree.get(ITEM)
            begins = position if below == {} else -1
        else:
            if begins >= 0 and body[begins:at].strip():
                yield begins, at
            if sign in _CLOSING:
                if not outer:
                    return
                tree, below, begins, is_object = outer.pop()
            else:
                expects_key, below = is_object, None if is_object else tree.get(ITEM)
                begins = position if below == {} else -1


def _skip(body: bytes | bytearray, position: int) -> int:
    """Where the object or list ends that was opened just before this position."""
    depth = 1
    while depth:
        bracket = NEXT_BRACKET.match(body, position)
        if bracket is None:
            return len(body)
        position = bracket.end()
        depth += 1 if body[position - 1] in _OPENING else -1
    return position


def _tree(paths: tuple[JsonPath, ...]) -> dict[object, Any]:
    """Paths by their steps, with keys as they stand in JSON; empty where a path ends."""
    tree: dict[object, Any] = {}
    for path in paths:
        node = tree
        for step in path:
            node = node.setdefault(f'"{step}"'.encode() if isinstance(step, str) else step, {})
    return tree


_FIELDS_V1: JsonPath = (*MANAGED_FIELDS, ITEM, "fieldsV1")


class _Change(msgspec.Struct, omit_defaults=True):
    """An entry of managedFields, of which only what says by whom and when something was changed is read."""

    time: str | None = None
    subresource: str | None = None
    manager: str | None = None


prepare(_Change)


def read_object(body: bytes | bytearray | msgspec.Raw) -> dict[str, Any]:
    """The object as the API server prints it, with `time`, `subresource` and `manager` alone of its managedFields.

    Raises one of UNDECODABLE.
    """
    try:
        return _read_object(body)
    except msgspec.ValidationError:
        raise
    except UNDECODABLE:
        return _read_object(mend(body, _FIELDS_V1))


def _read_object(body: bytes | bytearray | msgspec.Raw) -> dict[str, Any]:
    obj: dict[str, Any] = {}
    for field, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
        obj[field] = _read_metadata(value) if field == "metadata" else msgspec.json.decode(value)
    return obj


def _read_metadata(body: msgspec.Raw) -> dict[str, Any] | None:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw] | None)
    if fields is None:
        return None
    metadata: dict[str, Any] = {}
    for field, value in fields.items():
        if field == MANAGED_FIELDS[1]:
            metadata[field] = msgspec.to_builtins(msgspec.json.decode(value, type=list[_Change] | None))
        else:
            metadata[field] = msgspec.json.decode(value)
    return metadata


def read_name(body: bytes | bytearray | msgspec.Raw) -> tuple[str, str]:
    """Namespace and name of an object that can't be read otherwise; empty where they can't be read, either."""
    return _read_text(bytes(body), ("metadata", "namespace")), _read_text(bytes(body), ("metadata", "name"))


def _read_text(body: bytes, path: JsonPath) -> str:
    for begins, ends in find(body, path):
        try:
            return msgspec.json.decode(body[begins:ends], type=str)
        except UNDECODABLE:
            return ""
    return ""
