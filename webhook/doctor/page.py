"""What doctor prints: as text, or as docs/doctor.md has it in JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

import msgspec

from webhook.doctor.remark import STATUSES, Check, Status
from webhook.formats import Style

SCHEMA = "forestall.dev/doctor/v1"


def render_json(checks: Sequence[Check]) -> str:
    """The page in JSON, as docs/doctor.md documents it."""
    counts = {status: sum(check.status == status for check in checks) for status in reversed(STATUSES)}
    top = {"schema": SCHEMA, "summary": counts, "checks": msgspec.to_builtins(checks)}
    return json.dumps(top, indent=2, ensure_ascii=False) + "\n"


_COLOURS: Mapping[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "magenta"}


def render_text(checks: Sequence[Check], width: int, style: Style) -> str:
    widest = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        margin = " " * (11 + widest)
        wrapped = textwrap.wrap(check.seen, width - len(margin), break_on_hyphens=False) or [""]
        lines.append(f"{style(f'{check.status:<7}', _COLOURS[check.status])}  {check.name:<{widest}}  {wrapped[0]}")
        lines += [margin + line for line in wrapped[1:]]
        if check.todo:
            todo = textwrap.wrap(f"→ {check.todo}", width - len(margin), subsequent_indent="  ", break_on_hyphens=False)
            lines += [margin + line for line in todo]
    wrong = sum(check.status != "ok" for check in checks)
    lines.append(f"\n{wrong} of {len(checks)} remarks need something done" if wrong else "\nNothing needs doing")
    return "\n".join(lines) + "\n"
