"""Serves a WSGI application in plain HTTP on a port of its own, in threads."""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from webhook.errors import SystemRefused


class _Handler(WSGIRequestHandler):
    timeout = 10
    """Seconds that a client may keep a thread waiting for the next bytes of its request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log no requests: probes come every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve_pages(application: WSGIApplication, port: int, name: str) -> int:
    """Serve the WSGI application in a thread called `name`; returns the port, which the system chooses for 0.

    Raises SystemRefused where the port is taken.
    """
    try:
        server = _Server(("", port), _Handler)
    except OSError as error:
        raise SystemRefused(f"port {port}: {error.strerror}") from error
    server.set_app(application)
    threading.Thread(target=server.serve_forever, name=name, daemon=True).start()
    return int(server.server_address[1])
