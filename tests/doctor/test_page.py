"""The page that doctor prints, and the one that documents it."""

from __future__ import annotations

import json
import re

from tests.builders import ROOT
from webhook.doctor.checks import CHECKS
from webhook.doctor.page import render_json, render_text
from webhook.doctor.remark import Check


def test_the_page_documents_every_check() -> None:
    table = re.findall(r"^\| `([-a-z]+)` \|", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    assert table == list(CHECKS)


CHECKED = [Check("hooks", "ok", "all is well", ""), Check("clock", "fail", "an hour off " * 8, "set it")]


def test_json() -> None:
    assert json.loads(render_json(CHECKED)) == {
        "schema": "forestall.dev/doctor/v1",
        "summary": {"fail": 1, "warn": 0, "unknown": 0, "ok": 1},
        "checks": [
            {"name": "hooks", "status": "ok", "seen": "all is well", "todo": ""},
            {"name": "clock", "status": "fail", "seen": "an hour off " * 8, "todo": "set it"},
        ],
    }


def test_text() -> None:
    assert render_text(CHECKED, 60, lambda text, _: text) == (
        "ok       hooks  all is well\n"
        "fail     clock  an hour off an hour off an hour off an hour\n"
        "                off an hour off an hour off an hour off an\n"
        "                hour off\n"
        "                → set it\n"
        "\n"
        "1 of 2 remarks need something done\n"
    )
    assert render_text(CHECKED[:1], 60, lambda text, _: text).endswith("\nNothing needs doing\n")
