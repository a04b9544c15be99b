"""Very long Lists, such as the dump of a cluster, item by item: all nodes at once take fifteen times the file's size.

What is cut here is what kubectl prints: one document, its items one after the other under `items`, no anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

LARGE: Final = 1_000_000
"""Bytes of a document above which its List is read item by item."""

_ITEMS = re.compile(rb"^items:[ \t]*\n(?=( *)- )", re.MULTILINE)
_KEY = re.compile(rb"\n(?=[^\s#-])")


class Cut(NamedTuple):
    """A List without its items, and where these are in its text."""

    frame: bytes
    items: Iterator[tuple[int, int]]


def cut_yaml(text: bytes) -> Cut | None:
    """The parts of a List in block style; each item begins with its dash. None for anything else."""
    found = _ITEMS.search(text, 0, LARGE)
    if found is None:
        return None
    begins = found.end()
    key = _KEY.search(text, begins)
    ends = key.end() if key else len(text)
    return Cut(
        text[: found.start()] + text[ends:], _between(text, re.compile(rb"^" + found[1] + rb"- ", re.M), begins, ends)
    )


def _between(text: bytes, dash: re.Pattern[bytes], begins: int, ends: int) -> Iterator[tuple[int, int]]:
    start = begins
    for found in dash.finditer(text, begins + 1, ends):
        yield start, found.start()
        start = found.start()
    yield start, ends


class _JsonList(msgspec.Struct):
    kind: str
    api_version: str = msgspec.field(name="apiVersion")
    items: list[msgspec.Raw]


class JsonCut(NamedTuple):
    """A List's kind and apiVersion, and where its items are in its text."""

    frame: dict[str, Any]
    items: Iterator[tuple[int, int]]


def cut_json(text: bytes) -> JsonCut | None:
    """The parts of one List in JSON; None for anything else."""
    try:
        listed = msgspec.json.decode(text, type=_JsonList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return JsonCut({"kind": listed.kind, "apiVersion": listed.api_version}, _places(text, listed.items))


def _places(text: bytes, items: list[msgspec.Raw]) -> Iterator[tuple[int, int]]:
    end = 0
    for item in items:
        raw = bytes(item)
        start = text.index(raw, end)
        end = start + len(raw)
        yield start, end
