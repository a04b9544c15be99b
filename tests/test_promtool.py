"""Metrics and alerts, judged by Prometheus' own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from policies.scrape_endpoints.policy import Params, examine
from tests.builders import ROOT, request
from tests.served import post, review, served
from webhook.objects.facts import NO_FACTS
from webhook.policy import Object

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


def config_map(text: str) -> Object:
    metadata = {"name": "prometheus", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"prometheus.yml": text}}


@pytest.mark.parametrize(
    ("shared", "job"),
    [
        pytest.param(shared, job, id=f"{shared or 'nothing'}/{job or 'nothing'}")
        for shared in (
            "",
            "scrape_interval: 15s",
            "scrape_timeout: 1m",
            "scrape_timeout: 61s",
            "scrape_interval: 15s, scrape_timeout: 20s",
            "scrape_interval: 2m, scrape_timeout: 90s",
            "scrape_interval: 1m30s, scrape_timeout: 90s",
            "scrape_interval: 30s1m",
            "scrape_interval: 15",
            "scrape_interval: 1.5m",
            "scrape_interval: 5000ms, scrape_timeout: 5s",
        )
        for job in (
            "",
            "scrape_interval: 5s",
            "scrape_timeout: 15s",
            "scrape_timeout: 16s",
            "scrape_timeout: 2m",
            "scrape_interval: 1m, scrape_timeout: 61s",
            "scrape_interval: 1h, scrape_timeout: 59m",
            "scrape_timeout: 1 m",
        )
    ],
)
def test_times_are_refused_that_prometheus_refuses(tmp_path: Path, shared: str, job: str) -> None:
    """scrape-endpoints says of a plain configuration's intervals and timeouts what Prometheus itself does."""
    text = f"global: {{{shared}}}\nscrape_configs: [{{job_name: web{f', {job}' if job else ''}}}]\n"
    (tmp_path / "prometheus.yml").write_text(text)
    assert PROMTOOL
    command = [PROMTOOL, "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [violation.message for violation in examine(request(config_map(text)), NO_FACTS, Params())]
    assert bool(found) == (done.returncode != 0), (found, done.stderr)
