"""Metrics and alerts, judged by Prometheus' own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.served import post, review, served

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def promtool(*arguments: str, given: str = "") -> str:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_metrics_follow_the_conventions(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        for path in ("/mutate", "/validate", "/nowhere"):
            server.ask(post(review(), path))
        metrics = server.get("/metrics")[1]
    assert promtool("check", "metrics", given=metrics) == ""


def test_alerts_of_the_docs_are_valid(tmp_path: Path) -> None:
    (rules,) = re.findall(r"```yaml\n(groups:.+?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)
    (tmp_path / "rules.yaml").write_text(rules)
    assert f"SUCCESS: {rules.count('- alert:')} rules found" in promtool("check", "rules", str(tmp_path / "rules.yaml"))
