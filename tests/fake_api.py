"""An API server that misbehaves as told: real HTTP on loopback, for what a real one cannot be made to do on demand."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.builders import KINDS, kubeconfig

Object = dict[str, Any]
Handle = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, with what a scripted answer needs."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        *_, self.plural = parts = url.path.strip("/").split("/")
        self.named = ""
        if self.plural not in self.server.api.objects and len(parts) > 1:
            self.plural, self.named = parts[-2:]
        self.verb = "get" if self.named else "watch" if "watch" in self.query else "list"
        api = self.server.api
        with api.lock:
            api.requests.append((self.verb, self.plural, self.query, dict(self.headers)))
            api.ports.add(self.client_address[1])
            script = api.scripts[self.verb, self.plural]
            handle = script.pop(0) if script else Request.behave
            # Open from the moment that it is counted: who waits for its number and then sends must not meet an old one.
            self.events: queue.Queue[bytes | None] = queue.Queue()
            if self.verb == "watch" and handle is Request.behave:
                api.watches[self.plural].append(self.events)
        handle(self)

    def behave(self) -> None:
        """Answer as an API server does; lists hold all namespaces' objects."""
        if self.plural == "apis":
            groups = [{"name": group, "preferredVersion": {"version": "v1"}} for group in self.server.api.groups]
            self.send(200, {"kind": "APIGroupList", "groups": groups})
        else:
            {"get": self._get, "list": self._list, "watch": self._watch}[self.verb]()

    def _get(self) -> None:
        for obj in self.server.api.objects[self.plural]:
            if obj["metadata"]["name"] == self.named and obj["metadata"].get("namespace", "") in self.path:
                return self.send(200, obj)
        return self.status(404, "not found")

    def _list(self) -> None:
        objects = self.server.api.objects[self.plural]
        start, limit = int(self.query.get("continue", 0)), int(self.query.get("limit", 0)) or len(objects)
        more = str(start + limit) if start + limit < len(objects) else ""
        metadata = {"resourceVersion": str(self.server.api.version), "continue": more}
        self.send(200, {"kind": "List", "metadata": metadata, "items": objects[start : start + limit]})

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (part := self.events.get()) is not None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.close_connection = True
        self.connection.close()

    def send(self, status: int, body: object, **headers: str) -> None:
        self.send_bytes(status, json.dumps(body).encode(), **headers)

    def send_bytes(self, status: int, encoded: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(encoded)

    def status(self, code: int, message: str, **headers: str) -> None:
        self.send(code, {"kind": "Status", "code": code, "message": message}, **headers)

    def drop(self) -> None:
        """Hang up without a word."""
        self.close_connection = True
        self.connection.close()

    def stall(self) -> None:
        """Promise an answer, and send a byte of it now and then, until the other side has enough."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            while not self.server.api.closing.wait(0.05):
                self.wfile.write(b" ")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    api: FakeApi

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # hanging up is what this server is for


class FakeApi:
    """`objects` by plural; `script` puts answers before the honest ones; `send` feeds the watches that are open."""

    def __init__(self) -> None:
        self.objects: defaultdict[str, list[Object]] = defaultdict(list)
        for kind in KINDS:
            if kind.is_served:
                self.objects[kind.resource] = []
        self.groups: tuple[str, ...] = ("apps", "batch")
        self.version = 100
        self.scripts: defaultdict[tuple[str, str], list[Handle]] = defaultdict(list)
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        self.ports: set[int] = set()
        self.watches: defaultdict[str, list[queue.Queue[bytes | None]]] = defaultdict(list)
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._server = Server(("127.0.0.1", 0), Request)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, folder: Path, **user: str) -> str:
        file = folder / "kubeconfig"
        file.write_text(kubeconfig({"server": self.url}, user))
        return str(file)

    def script(self, verb: str, plural: str, *answers: Handle) -> None:
        with self.lock:
            self.scripts[verb, plural].extend(answers)

    def send(self, plural: str, *events: tuple[str, Object]) -> None:
        """Send events in one go, as soon as a watch is open."""
        lines = b"".join(json.dumps({"type": kind, "object": obj}).encode() + b"\n" for kind, obj in events)
        self._feed(plural, lines)

    def send_bytes(self, plural: str, *parts: bytes) -> None:
        for part in parts:
            self._feed(plural, part)

    def hang_up(self, plural: str) -> None:
        """Cut the open watch off in the middle of its answer."""
        self._feed(plural, None)
        with self.lock:
            self.watches[plural].clear()

    def _feed(self, plural: str, part: bytes | None) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with self.lock:
                if self.watches[plural]:
                    self.watches[plural][-1].put(part)
                    return
            time.sleep(0.005)
        raise TimeoutError(f"nobody watches {plural}")

    def count(self, verb: str, plural: str) -> int:
        with self.lock:
            return sum((asked, about) == (verb, plural) for asked, about, _, _ in self.requests)

    def close(self) -> None:
        self.closing.set()
        with self.lock:
            for watches in self.watches.values():
                for events in watches:
                    events.put(None)
        self._server.shutdown()
        self._server.server_close()
