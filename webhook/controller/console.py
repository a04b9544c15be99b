"""The console: what is enforced, for people with a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Flask, render_template_string

from webhook import __version__
from webhook.config import Config
from webhook.policy import weakest

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
<p>This controller {{ "leads: it keeps certificates, webhook configurations and LimitRanges right." if is_leading
else "stands by: another one leads." }}
{% for resource, why in unread.items() %}
<p><b>{{ resource }} can't be read</b>: {{ why }}
{% endfor %}
{% if ceiling != "deny" %}
<p>The whole installation is in mode <b>{{ ceiling }}</b>: nothing acts more strongly.
{% endif %}
<table>
<tr><th>Policy<th>Mode<th>What it prevents
{% for active in policies %}
<tr><td>{{ active.policy.id }}<td>{{ mode(active) }}<td>{{ active.policy.summary }}
{% endfor %}
</table>
<p><code>forestall explain POLICY</code> tells the incident behind a policy and how to fix what it finds.
</html>
"""


def create_console(
    config: Callable[[], Config], is_leading: Callable[[], bool], unread: Callable[[], Mapping[str, str]]
) -> Flask:
    """The application; `config` gives the configuration in use, `unread` the kinds that can't be read, and why."""
    # Neither templates nor static files on disk: the page is above, and nothing is loaded from elsewhere.
    app = Flask(__name__, static_folder=None, template_folder=None)

    @app.get("/")
    def landing() -> str:
        now = config()
        return render_template_string(
            _PAGE,
            version=__version__,
            is_leading=is_leading(),
            unread=unread(),
            ceiling=now.mode,
            policies=now.policies.values(),
            mode=lambda active: weakest(active.mode, now.mode),
        )

    return app
