"""Watches of the kinds that are judged: every change is handed on, in the order in which the API server tells it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import structlog
import urllib3

from webhook.cluster.client import Cluster
from webhook.cluster.lists import METADATA_OBJECT, Body
from webhook.cluster.paths import path_of
from webhook.cluster.watch_stream import backoff, hang_up, is_expired, is_lasting, watch_events
from webhook.errors import ClusterRefused, one_line
from webhook.objects.wire import UNDECODABLE, read_name
from webhook.policy import GroupKind

_WAITING, _WAITING_BYTES = 500, 16 << 20
"""Objects whose changes wait to be taken, and bytes of them. Beyond either, watches aren't read meanwhile, and the API
server holds the changes."""
_LONGEST_PAUSE = 30.0
"""Seconds between two attempts to watch, at most."""
_TICK = 0.5
"""Seconds after which whoever waits looks whether it is to stop."""
_NOT_SERVED = 404

log = structlog.get_logger()

Key = tuple[str, str]
"""Namespace and name."""


class Known(NamedTuple):
    """What is remembered of every object: enough to tell whether it has to be decided on again."""

    uid: str
    digest: bytes


class Followed:
    """A kind that is judged, in the version in which it is listed and watched."""

    def __init__(self, kind: GroupKind, version: str) -> None:
        self.kind = kind
        self.version = version
        self.path = path_of(kind, version)
        # A Deployment's old ones are many and alike, and next to none of them is judged itself.
        self.is_partial = (kind.group, kind.kind) == ("apps", "ReplicaSet")
        """Whether only the metadata of its objects is listed and watched."""
        self.objects: dict[Key, Known] = {}
        self.since = ""
        """The version from which its watch goes on; empty while something may be missed, and it has to be listed."""
        self.trouble = ""
        """Why its watch isn't open."""
        self.response: urllib3.BaseHTTPResponse | None = None
        self.is_stopped = False

    def stop(self) -> None:
        """End its watch: nothing of it is taken in any more."""
        self.is_stopped = True
        if self.response is not None:
            hang_up(self.response)

    @property
    def resource(self) -> str:
        return self.kind.full_resource

    def read_known(self, body: Body) -> tuple[Key, Known]:
        """What to remember of the object; of one that can't be decoded its name alone, and a digest that tells nothing.

        The digest is that of all that somebody may have written, and of what tells that the object is over.
        """
        try:
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            metadata = msgspec.json.decode(fields.pop("metadata"), type=dict[str, msgspec.Raw])
            namespace, name, uid = (_text(metadata.get(field)) for field in ("namespace", "name", "uid"))
            digest = hashlib.blake2b(digest_size=8)
            for part in self._written(fields, metadata):
                digest.update(part)
        except (KeyError, *UNDECODABLE):
            return read_name(body), Known("", b"")
        return (namespace, name), Known(uid, digest.digest())

    def _written(self, fields: Mapping[str, msgspec.Raw], metadata: Mapping[str, msgspec.Raw]) -> Iterator[Body]:
        for name, value in fields.items():
            if name not in ("status", "kind", "apiVersion"):  # a list's items don't have the last two
                yield from (name.encode(), value)
        names = ["labels", "annotations", "ownerReferences", "deletionTimestamp"]
        for name in names + ["generation"] * self.is_partial:
            if name in metadata:
                yield from (name.encode(), metadata[name])
        ends = {"Pod": "phase", "Job": "conditions"}.get(self.kind.kind)
        if ends and "status" in fields:
            yield msgspec.json.decode(fields["status"], type=dict[str, msgspec.Raw]).get(ends) or b""


def _text(value: msgspec.Raw | None) -> str:
    return "" if value is None else msgspec.json.decode(value, type=str)


class Change(NamedTuple):
    """A change of an object of the kind, whose JSON is `body`."""

    followed: Followed
    is_deleted: bool
    body: Body
    key: Key
    known: Known


class Following:
    """The watches, a thread for each kind, and the changes that they have heard of.

    Of an object only the last change waits: whoever changes one all the time is judged no more often than changes are
    taken.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._waiting: dict[tuple[Followed, Key], Change] = {}
        self._bytes = 0
        self._has_room = threading.Condition()

    def follow(self, followed: Followed, since: str) -> None:
        """Watch the kind from a list's version on, until it is stopped or only a new list helps."""
        followed.since = since
        threading.Thread(target=self._keep, args=(followed,), name=f"watch {followed.resource}", daemon=True).start()

    def take(self) -> Iterator[Change]:
        """The changes that wait now; those that are heard of meanwhile wait for the next time."""
        with self._has_room:
            changes, self._waiting, self._bytes = self._waiting, {}, 0
            self._has_room.notify_all()
        for change in changes.values():
            if not change.followed.is_stopped:
                yield change

    def _keep(self, followed: Followed) -> None:
        failures = 0
        while not followed.is_stopped:
            began, pause = time.monotonic(), 0.0
            try:
                self._follow(followed)
            except ClusterRefused as answer:
                if is_expired(answer) or answer.status == _NOT_SERVED:
                    break
                pause = answer.retry_after
                _failed(followed, answer)
            except Exception as error:
                _failed(followed, error)
            failures = 0 if is_lasting(began) else failures + 1
            if failures:
                self._wait(followed, max(pause, backoff(failures, _LONGEST_PAUSE)))
        followed.trouble = followed.since = ""

    def _wait(self, followed: Followed, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not followed.is_stopped and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_TICK, left))

    def _follow(self, followed: Followed) -> None:
        def opened(response: urllib3.BaseHTTPResponse) -> None:
            followed.response, followed.trouble = response, ""
            if followed.is_stopped:  # stop() may have looked a moment too early
                hang_up(response)

        accept = METADATA_OBJECT if followed.is_partial else "application/json"
        for event in watch_events(self._cluster, followed.path, followed.since, opened, accept):
            if event.change != "BOOKMARK":
                key, known = followed.read_known(event.body)
                if not self._put(Change(followed, event.change == "DELETED", event.body, key, known)):
                    return
            followed.since = event.version

    def _put(self, change: Change) -> bool:
        """Hand the change on, once there is room; whether its kind was not stopped meanwhile."""
        at = change.followed, change.key
        with self._has_room:
            while not change.followed.is_stopped:
                before = self._waiting.get(at)
                size = self._bytes + len(change.body) - (len(before.body) if before else 0)
                fits = size <= _WAITING_BYTES and (before is not None or len(self._waiting) < _WAITING)
                if fits or not self._waiting:
                    self._waiting[at], self._bytes = change, size
                    return True
                self._has_room.wait(_TICK)
        return False


def _failed(followed: Followed, error: Exception) -> None:
    if followed.is_stopped:
        return
    if not followed.trouble:
        log.warning("cannot watch", resource=followed.resource, error=one_line(error))
    followed.trouble = one_line(error)
