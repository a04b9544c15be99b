"""A watch of the Kubernetes API as a stream of events, and what its ends and refusals mean."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import urllib3

from webhook.cluster.client import Call, Cluster
from webhook.cluster.lists import Body
from webhook.errors import ClusterRefused
from webhook.objects.wire import MANAGED_FIELDS, UNDECODABLE, decode
from webhook.prepared import prepare

_WATCH_SECONDS = (240, 300)
_GRACE_SECONDS = 15.0
_GOOD_SECONDS = 10.0
EVENT_BYTES = 16 << 20
"""Bytes of a watch event that are held at most, more than any object has by the 1.5 MiB that can be stored of it, six
times that once escaped. The object of a larger event can't be read, and is named from the event's beginning."""
_BEGINNING_BYTES = 1 << 16
_EVENT_BEGINS = re.compile(rb'\s*\{\s*"type"\s*:\s*"([A-Z]+)"\s*,\s*"object"\s*:\s*')
"""How the API server begins every event."""


class Event(NamedTuple):
    """A change of an object, whose JSON is `body`: "ADDED", "MODIFIED", "DELETED", or "BOOKMARK" for none. `version` is
    where to go on watching from after it."""

    change: str
    body: Body
    version: str


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _ObjectMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct):
    metadata: _ObjectMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""
    reason: str = ""


prepare(_Event, _Versioned, _Status)


def _read_event(line: bytes) -> tuple[str, Body]:
    """A watch event's type and its object's JSON, of an event that was cut off as much as there is.

    Raises one of UNDECODABLE for a line that is no event.
    """
    try:
        event = msgspec.json.decode(line, type=_Event)
    except msgspec.ValidationError:
        raise
    except UNDECODABLE:
        begins = _EVENT_BEGINS.match(line)
        if begins is None:
            raise
        return begins[1].decode(), line[begins.end() :].removesuffix(b"}")
    return event.type, event.object


def _read_version(body: Body) -> str:
    """The object's resourceVersion, empty if it can't be read."""
    try:
        return decode(body, _Versioned, MANAGED_FIELDS).metadata.resource_version
    except UNDECODABLE:
        return ""


def watch_events(
    cluster: Cluster,
    path: str,
    version: str,
    opened: Callable[[urllib3.BaseHTTPResponse], None],
    accept: str = "application/json",
) -> Iterator[Event]:
    """The changes of the collection at an API path since a version, until the API server ends the watch, as it does
    after some minutes. `opened` gets the answer before its first event, so that another thread may hang up.

    Raises ClusterRefused, FactsUnavailable, or what a connection raises that breaks in the middle.
    """
    seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311  # so that kinds and replicas don't come back at once
    query = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(seconds),
    }
    with contextlib.closing(cluster.open(Call(path, query, seconds + _GRACE_SECONDS, accept=accept))) as response:
        opened(response)
        for line in _lines(response):
            change, body = _read_event(line)
            if change == "ERROR":
                status = msgspec.json.decode(body, type=_Status)
                raise ClusterRefused(status.code, status.reason, status.message)
            version = _read_version(body) or version
            yield Event(change, body, version)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The answer's lines, each as soon as it is whole; of one with more than EVENT_BYTES the beginning alone."""
    line = bytearray()
    is_cut = False
    while chunk := response.read1(1 << 16):
        first, *others = chunk.split(b"\n")
        for number, part in enumerate((first, *others)):
            if number:
                if line:
                    yield bytes(line)
                line, is_cut = bytearray(), False
            if not is_cut:
                line += part
                if is_cut := len(line) > EVENT_BYTES:
                    line = line[:_BEGINNING_BYTES]


def hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """Close the connection below an answer that another thread reads: its read ends."""
    with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has ended by itself
        response.shutdown()


def is_lasting(began: float) -> bool:
    """Whether a watch that was begun then, on the monotonic clock, lasted so long that its end is no failure."""
    return time.monotonic() - began > _GOOD_SECONDS


def backoff(failures: int, longest: float) -> float:
    """Seconds to wait after so many failures in a row, twice as many after each, and not the same for everybody."""
    return min(longest, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311


def is_refusal(answer: ClusterRefused) -> bool:
    """Whether we may not read the kind, or the cluster doesn't have it: waiting for it makes no sense."""
    return answer.status in (403, 404)


def is_expired(answer: ClusterRefused) -> bool:
    """Whether the version is too old, or, after etcd was restored from a backup, too new: only a new list helps."""
    return answer.status in (400, 410, 504)
