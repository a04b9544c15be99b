"""What people and probes look at, in plain HTTP on a port of its own: /healthz, /readyz, /metrics, a landing page."""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

from flask import Flask, Response, render_template_string

from webhook import __version__
from webhook.config import Config
from webhook.engine import weakest
from webhook.metrics import print_metrics
from webhook.readiness import Readiness

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


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def as_asgi(app: WSGIApplication) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Let a Flask application be served by the worker that already keeps slow and half-sent requests from blocking it.

    Requests are answered one after the other and their bodies are not read: every page here is a GET, made in
    milliseconds.
    """

    async def serve(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[..., Any]:
            started["status"] = int(status.split(" ", 1)[0])
            started["headers"] = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            return lambda _data: None

        try:
            body = b"".join(app(_environ(scope), start_response))
        except Exception:
            # Flask answers its own failures; this is for what goes wrong around it.
            body = HTTPStatus.INTERNAL_SERVER_ERROR.phrase.encode()
            started |= {"status": 500, "headers": [(b"content-length", str(len(body)).encode())]}
        await send({"type": "http.response.start", **started})
        await send({"type": "http.response.body", "body": body})

    return serve


def _environ(scope: dict[str, Any]) -> dict[str, Any]:
    host, port = scope["server"] or ("", 0)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"],
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "HTTP_HOST": headers.get("host", f"{host}:{port}"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
