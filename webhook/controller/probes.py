"""A controller's pages for kubelets and Prometheus: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

_TEXT = "text/plain; charset=utf-8"


def create_probes(is_alive: Callable[[], bool]) -> WSGIApplication:
    """The application; a controller that is alive is ready, whether it leads or stands by."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, body, content_type = _page(environ["PATH_INFO"], is_alive)
        start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def _page(path: str, is_alive: Callable[[], bool]) -> tuple[str, bytes, str]:
    match path:
        case "/metrics":
            return "200 OK", generate_latest(), CONTENT_TYPE_LATEST
        case "/healthz" | "/readyz":
            return ("200 OK", b"ok\n", _TEXT) if is_alive() else ("503 Service Unavailable", b"stuck\n", _TEXT)
        case _:
            return "404 Not Found", b"no such page: /healthz, /readyz, /metrics\n", _TEXT
