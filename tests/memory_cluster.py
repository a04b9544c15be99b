"""A cluster in memory, for what the controller and doctor read and write: versions, UIDs, labels, pages, refusals.

It answers as the API server does where a test on a real control plane has shown how, and has no admission but the
webhooks' answers to probes.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from webhook.cluster.client import Written
from webhook.errors import ClusterRefused, Conflict, TooLarge
from webhook.installation import PROBE_LABEL
from webhook.policy import Object


class MemoryCluster:
    """Objects by their API path."""

    def __init__(self, *objects: Object, groups: Mapping[str, str] = {"apps": "v1", "batch": "v1"}) -> None:
        self.objects: dict[str, Object] = {}
        self.bodies: dict[str, bytes] = {}
        """What lists hold in place of an object, at its path: bytes that no JSON encoder would make."""
        self.groups = groups
        self.answering: set[str] = {"mutate", "validate"}
        """The stages that answer a probe."""
        self.calls: list[tuple[str, str]] = []
        self.probes: list[Object] = []
        self.timeouts: set[float] = set()
        self.writes = 0
        self.fail: dict[tuple[str, str], list[Exception]] = {}
        """Verb and end of the path -> what to raise, once each."""
        self.trouble: Exception | None = None
        """What every call raises."""
        self.pause: Callable[[], None] = lambda: None
        """Called before every call."""
        self.clock = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self._version = 0
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object, plural: str = "") -> Object:
        """Store an object that has its kind, as somebody else's write."""
        metadata, plural = obj["metadata"], plural or f"{obj['kind'].lower()}s"
        prefix = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
        where = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        return self._store(f"{prefix}{where}/{plural}/{metadata['name']}", {"uid": self._uid(), **metadata}, obj)

    def get(self, path: str, *, timeout: float = 10.0) -> Object | None:
        self._called("get", path, timeout)
        if path == "/apis":
            return {"groups": [{"name": name, "preferredVersion": {"version": v}} for name, v in self.groups.items()]}
        return copy.deepcopy(self.objects.get(path))

    def read(
        self,
        path: str,
        query: Mapping[str, str],
        timeout: float,
        most: int | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """A list, one page of it."""
        self._called("list", path, timeout)
        selector = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        paths = sorted(at for at in {*self.objects, *self.bodies} if _is_in(at, path) and self._has(at, selector))
        if name := query.get("fieldSelector", "").removeprefix("metadata.name="):
            paths = [at for at in paths if at.endswith(f"/{name}")]
        after, limit = query.get("continue", ""), int(query.get("limit", 0)) or len(paths)
        left = [at for at in paths if at > after]
        items = b",".join(self.bodies.get(at) or json.dumps(self.objects[at]).encode() for at in left[:limit])
        metadata = {"resourceVersion": str(self._version), "continue": left[limit - 1] if left[limit:] else ""}
        body = b'{"kind":"List","metadata":%s,"items":[%s]}' % (json.dumps(metadata).encode(), items)
        if most is not None and len(body) > most:
            raise TooLarge(f"GET {path}: the answer has more than {most} bytes")
        return body

    def create(self, path: str, obj: Object, *, dry_run: bool = False, timeout: float = 10.0) -> Written:
        self._called("probe" if dry_run else "create", path, timeout)
        metadata = {"uid": self._uid(), **obj["metadata"]}
        metadata.setdefault("name", f"{metadata.get('generateName')}{self._version + 1}")
        if dry_run:
            self.probes.append(obj)
            nonce = (metadata.get("labels") or {}).get(PROBE_LABEL)
            return Written(obj, tuple(f"forestall probe {nonce} {stage}" for stage in sorted(self.answering)))
        self._check_namespace(path)
        at = f"{path}/{metadata['name']}"
        if at in self.objects:
            raise Conflict(409, "AlreadyExists", f"{metadata['name']} already exists")
        self.writes += 1
        return Written(copy.deepcopy(self._store(at, metadata, obj)), ())

    def replace(self, path: str, obj: Object, *, timeout: float = 10.0) -> Object:
        self._called("replace", path, timeout)
        there = self.objects.get(path)
        if there is None:
            raise ClusterRefused(404, "NotFound", "not found")
        if there.get("immutable"):
            raise ClusterRefused(422, "Invalid", "field is immutable when `immutable` is set")
        if there["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        self.writes += 1
        return copy.deepcopy(self._store(path, obj["metadata"], obj))

    def delete(self, path: str, uid: str = "", version: str = "") -> None:
        self._called("delete", path, 10.0)
        metadata = self.objects[path]["metadata"] if path in self.objects else {}
        if metadata and ((uid or metadata["uid"]), (version or metadata["resourceVersion"])) != (
            metadata["uid"],
            metadata["resourceVersion"],
        ):
            raise Conflict(409, "Conflict", "the UID in the precondition does not match")
        self.writes += path in self.objects
        self.objects.pop(path, None)

    def now(self) -> datetime:
        return self.clock

    # What tests ask

    def events(self, reason: str = "") -> list[Object]:
        """In the order in which they were told."""
        return [obj for at, obj in self.objects.items() if "/events/" in at and obj["reason"].startswith(reason)]

    def data(self, namespace: str, name: str) -> Any:
        """The ConfigMap's data, decoded from JSON."""
        stored = self.objects[f"/api/v1/namespaces/{namespace}/configmaps/{name}"]
        return {key: json.loads(text) for key, text in stored["data"].items()}

    def verbs(self) -> Counter[str]:
        """The calls since the last time."""
        counted = Counter(verb for verb, _ in self.calls)
        self.calls.clear()
        return counted

    def _called(self, verb: str, path: str, timeout: float) -> None:
        self.pause()
        self.calls.append((verb, path))
        self.timeouts.add(timeout)
        if self.trouble:
            raise self.trouble
        for (failing, end), errors in self.fail.items():
            if failing == verb and path.endswith(end) and errors:
                raise errors.pop(0)

    def _check_namespace(self, path: str) -> None:
        """Whether it takes new objects; without any namespace at all, everything goes."""
        has_any = any(_is_in(at, "/api/v1/namespaces") for at in self.objects)
        if has_any and "/namespaces/" in path:
            owner = self.objects.get(f"/api/v1/namespaces/{path.split('/namespaces/')[1].split('/', maxsplit=1)[0]}")
            if owner is None:
                raise ClusterRefused(404, "NotFound", "namespace not found")
            if owner["metadata"].get("deletionTimestamp"):
                raise ClusterRefused(403, "Forbidden", "unable to create new content because it is being terminated")

    def _uid(self) -> str:
        return f"uid-{self._version + 1}"

    def _store(self, path: str, metadata: Object, obj: Object) -> Object:
        self._version += 1
        self.objects[path] = copy.deepcopy({**obj, "metadata": {**metadata, "resourceVersion": str(self._version)}})
        return self.objects[path]

    def _has(self, path: str, labels: Mapping[str, str]) -> bool:
        return labels.items() <= ((self.objects.get(path) or {"metadata": {}})["metadata"].get("labels") or {}).items()


def _is_in(path: str, collection: str) -> bool:
    """Whether an object's path is in a collection: that of a namespace, or of all."""
    if path.rpartition("/")[0] == collection:
        return True
    prefix, _, plural = collection.rpartition("/")
    return re.fullmatch(f"{re.escape(prefix)}/namespaces/[^/]+/{plural}/[^/]+", path) is not None
