"""A cluster in memory whose collections can also be watched, as the auditor does."""

from __future__ import annotations

import json
import queue
from collections.abc import Mapping
from typing import Any

from tests.memory_cluster import MemoryCluster, _is_in
from webhook.cluster.client import Call
from webhook.policy import Object


class Response:
    """A watch that is open; ends when either side hangs up."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lines: queue.Queue[bytes] = queue.Queue()
        self.is_open = True

    def tell(self, change: str, obj: Object) -> None:
        self._lines.put(json.dumps({"type": change, "object": obj}).encode() + b"\n")

    def tell_bytes(self, line: bytes) -> None:
        self._lines.put(line + b"\n")

    def read1(self, _most: int) -> bytes:
        return self._lines.get(timeout=30)

    def shutdown(self) -> None:
        self._lines.put(b"")

    def close(self) -> None:
        self.is_open = False


class WatchedCluster(MemoryCluster):
    """`accepts` is what was asked for, by the end of the path."""

    host = "in memory"

    def __init__(self, *objects: Object, groups: Mapping[str, str] = {"apps": "v1", "batch": "v1"}) -> None:
        self.watches: list[Response] = []
        self.accepts: dict[str, set[str]] = {}
        super().__init__(*objects, groups=groups)

    def open(self, call: Call) -> Response:
        path, query = call.path, call.query
        self._called("watch", path, 0)
        self.accepts.setdefault(path.rpartition("/")[2], set()).add(call.accept)
        response = Response(path)
        self.watches.append(response)
        # What has happened since the list was made is told at once.
        for at, obj in list(self.objects.items()):
            if _is_in(at, path) and int(obj["metadata"]["resourceVersion"]) > int(query["resourceVersion"]):
                response.tell("ADDED", obj)
        return response

    def read(
        self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None, accept: str = ""
    ) -> bytes:
        body = super().read(path, query, timeout, most)
        if accept:
            self.accepts.setdefault(path.rpartition("/")[2], set()).add(accept)
            found: Any = json.loads(body)
            found["items"] = [{"metadata": item["metadata"]} for item in found["items"]]
            return json.dumps(found).encode()
        return body

    def remove(self, path: str) -> None:
        """Delete an object, as somebody else's write."""
        self._tell("DELETED", path, self.objects.pop(path))

    def is_watched(self, plural: str) -> bool:
        return any(watch.is_open and watch.path.endswith(f"/{plural}") for watch in self.watches)

    def _store(self, path: str, metadata: Object, obj: Object) -> Object:
        is_new = path not in self.objects
        stored = super()._store(path, metadata, obj)
        self._tell("ADDED" if is_new else "MODIFIED", path, stored)
        return stored

    def _tell(self, change: str, path: str, obj: Object) -> None:
        for watch in self.watches:
            if watch.is_open and _is_in(path, watch.path):
                watch.tell(change, obj)
