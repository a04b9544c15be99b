"""A receiver of notifications on the loopback interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """What was posted, in its order; `status` is what it answers."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.status = 200
        self.url = ""


@contextmanager
def receiver() -> Iterator[Receiver]:
    receiving = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if receiving.status == 200:
                receiving.posted.append(json.loads(body))
            self.send_response(receiving.status)
            self.send_header("Location", receiving.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiving.url = f"http://127.0.0.1:{server.server_port}/services/T0/s3cret"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield receiving
        finally:
            server.shutdown()
