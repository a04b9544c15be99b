"""What people and probes look at, in plain HTTP on a port of its own: /healthz, /readyz, /metrics, a landing page."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication

import structlog
from flask import Flask, Response, render_template_string

from webhook import __version__
from webhook.config import Config
from webhook.policy import weakest
from webhook.server.connection import Request
from webhook.server.connection import Response as Answer
from webhook.server.metrics import print_metrics
from webhook.server.readiness import Readiness

log = structlog.get_logger()

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Forestall</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #8886 }
  @media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } a { color: #8bf } }
</style>
<h1>Forestall {{ version }}</h1>
<p>A Kubernetes admission webhook that stops outages other teams have already had.
<p>{{ "Not ready: " + missing | join("; ") if missing else "Ready." }}
{% if ceiling != "deny" %}
<p>The whole installation is in mode <b>{{ ceiling }}</b>: nothing acts more strongly.
{% endif %}
<table>
<tr><th>Policy<th>Mode<th>What it prevents
{% for active in policies %}
<tr><td>{{ active.policy.id }}<td>{{ mode(active) }}<td>{{ active.policy.summary }}
{% endfor %}
</table>
<p><a href="metrics">Metrics</a> · <a href="readyz">Ready?</a> · <a href="healthz">Alive?</a>
<p><code>forestall explain POLICY</code> tells the incident behind a policy and how to fix what it finds.
</html>
"""


def create_console(readiness: Readiness, config: Callable[[], Config], metrics: Path) -> Flask:
    """The application; `config` gives the configuration in use, `metrics` is where workers write theirs."""
    # Neither templates nor static files on disk: the page is above, and nothing is loaded from elsewhere.
    app = Flask(__name__, static_folder=None, template_folder=None)

    @app.get("/healthz")
    def healthz() -> Response:
        return _text("ok") if readiness.is_alive() else _text("no worker answers", 503)

    @app.get("/readyz")
    def readyz() -> Response:
        missing = readiness.missing()
        return _text("; ".join(missing), 503) if missing else _text("ok")

    @app.get("/metrics")
    def metrics_page() -> Response:
        return Response(
            print_metrics(metrics, readiness.workers), content_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @app.get("/")
    def landing() -> str:
        now = config()
        return render_template_string(
            _PAGE,
            version=__version__,
            missing=readiness.missing(),
            ceiling=now.mode,
            policies=now.policies.values(),
            mode=lambda active: weakest(active.mode, now.mode),
        )

    return app


def _text(text: str, status: int = 200) -> Response:
    return Response(text + "\n", status, content_type="text/plain; charset=utf-8")


class Pages:
    """Lets a Flask application answer a connection's requests, one after the other: every page is made in milliseconds.

    Bodies are not handed on: every page here is a GET.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, request: Request) -> Answer:
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[..., Any]:
            started["status"] = int(status.split(" ", 1)[0])
            started["headers"] = {name.lower(): value for name, value in headers}
            return lambda _data: None

        body = b"".join(self._app(_environ(request), start_response))
        headers = started["headers"]
        headers.pop("content-length", None)
        return Answer(started["status"], body, headers.pop("content-type", ""), tuple(headers.items()))

    def seconds_for(self, _query: bytes) -> float:
        return 1.0

    def refused(self, refusal: Answer, path: str, client: str) -> None:
        log.debug("refused", status=refusal.status, path=path, client=client)


def _environ(request: Request) -> dict[str, Any]:
    return {
        # What is asked for by HEAD is made like a page, and the connection keeps its body back.
        "REQUEST_METHOD": "GET" if request.method == "HEAD" else request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
