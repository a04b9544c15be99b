"""The pages for kubelets and Prometheus, in plain HTTP on a port of their own: /healthz, /readyz and /metrics."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import structlog

from webhook.server.connection import Request, Response, refusal
from webhook.server.metrics import print_metrics, read_waits
from webhook.server.readiness import Readiness

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

log = structlog.get_logger()

_NO_SUCH_PAGE = refusal(404, "no such page: /healthz, /readyz, /metrics")
_NOT_READ = refusal(405, "pages are only read", (("Allow", "GET, HEAD"),))


class Probes:
    """The replica's pages; `metrics` is the folder that workers write theirs to."""

    def __init__(self, readiness: Readiness, metrics: Path) -> None:
        self._readiness = readiness
        self._metrics = metrics

    def __call__(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _NOT_READ
        match request.path:
            case "/healthz":
                return refusal(200, "ok") if self._readiness.is_alive() else refusal(503, "no worker answers")
            case "/readyz":
                missing = self._readiness.missing(partial(read_waits, self._metrics))
                return refusal(503 if missing else 200, "; ".join(missing) or "ok")
            case "/metrics":
                return Response(200, print_metrics(self._metrics, self._readiness.workers), _PROMETHEUS_TEXT)
            case _:
                return _NO_SUCH_PAGE

    def seconds_for(self, _query: bytes) -> float:
        return 1.0

    def refused(self, refusal: Response, path: str, client: str) -> None:
        log.debug("refused", status=refusal.status, path=path, client=client)
