"""An audit as a page for a browser: one file that can be mailed, and that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from webhook.audit.audited import Audited
from webhook.audit.spill import WORST_FIRST
from webhook.audit.text import exemptions, judged, sentences
from webhook.formats import whereabouts
from webhook.messages import advice, incident, told
from webhook.observing.words import observed_advice

_PARTS = 100
"""Parts of the page that are handed on together."""


def render_html(audits: Sequence[Audited], today: date) -> Iterator[str]:
    """The page in parts: its rows are never all in memory."""
    environment = Environment(
        loader=PackageLoader("webhook"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    headings = ["Outcome", "Team", "Object", "Policy", "Container", "What is wrong"]
    if several := len(audits) > 1:
        headings.insert(1, "Cluster")
    stream = environment.get_template("audit.html").stream(
        style=Markup(style),  # noqa: S704 - our own files
        style_hash=_hash(style),
        script=Markup(script),  # noqa: S704
        script_hash=_hash(script),
        today=today,
        audits=audits,
        several=several,
        headings=headings,
        outcomes=WORST_FIRST,
        incident=incident,
        judged=judged,
        observed_advice=observed_advice,
        sentences=sentences,
        exemptions=lambda audited: exemptions(audited, today).values(),
        rows=_rows(audits),
    )
    stream.enable_buffering(_PARTS)
    return iter(stream)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader  # noqa: S101 - given above
    return environment.loader.get_source(environment, name)[0]


def _hash(source: str) -> str:
    """What a Content-Security-Policy names a style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _rows(audits: Sequence[Audited]) -> Iterator[dict[str, Any]]:
    for audited in audits:
        for team, findings in audited.found.by_team():
            for finding in findings:
                verdict = finding.verdict
                lines = [("where", whereabouts(finding)), ("uses", audited.found.usage.of(finding))]
                lines += [line for line in advice(verdict) if line[0] != "why"]
                yield {
                    "rank": WORST_FIRST.index(verdict.outcome),
                    "outcome": verdict.outcome,
                    "cluster": audited.name,
                    "team": team,
                    "object": str(finding.object),
                    "owner": finding.object.owner,
                    "policy": verdict.policy,
                    "container": finding.container or "",
                    "wrong": told(verdict),
                    "lines": [(label, text) for label, text in lines if text],
                }
