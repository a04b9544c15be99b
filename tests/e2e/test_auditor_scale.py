"""Many namespaces full of violators: what the audit of them costs. FORESTALL_NAMESPACES=1000 is ten times as much."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.auditing import Auditor, auditing, grant
from tests.e2e.guarded import has_helm
from tests.e2e.replicas import SYSTEM
from tests.e2e.violators import CONTAINERS, IN_EACH, fill
from tests.loopback import eventually
from webhook.cluster.client import Cluster

NAMESPACES = int(os.environ.get("FORESTALL_NAMESPACES", "100"))


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path, nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        grant(running)
        yield running


def requests(plane: ControlPlane) -> int:
    """How many requests the API server has answered."""
    text = plane.kubectl("get", "--raw", "/metrics")
    return int(sum(float(count) for count in re.findall(r"^apiserver_request_total\{.*\} (\S+)$", text, re.MULTILINE)))


def reports(plane: ControlPlane, output: str) -> str:
    return plane.kubectl("get", "configmaps", "-n", SYSTEM, "-l", "forestall.dev/report=true", "-o", output)


def megabytes(auditor: Auditor) -> int:
    """The most memory that it has had."""
    status = Path(f"/proc/{auditor.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) // 1000


def test_what_an_audit_of_many_violators_costs(plane: ControlPlane, tmp_path: Path) -> None:
    fill(Cluster.from_kubeconfig(plane.kubeconfig), NAMESPACES)
    config = tmp_path / "config.yaml"
    config.write_text("mode: audit\n")
    violators, before, began = NAMESPACES * IN_EACH, requests(plane), time.monotonic()
    with auditing(plane, config) as auditor:
        whole = time.monotonic() - began
        eventually(
            lambda: reports(plane, "name").count("full-") == NAMESPACES,
            "not every namespace has its report",
            60 + NAMESPACES,
        )
        reported = time.monotonic() - began
        stored = len(json.dumps(json.loads(reports(plane, "json"))))
        (line,) = auditor.events("audited")
        print(
            f"\n{violators:,} violators in {NAMESPACES:,} namespaces: {line['objects']:,} objects, "
            f"{line['findings']:,} findings, audited after {whole:.0f} s, reported after {reported:.0f} s, "
            f"{requests(plane) - before:,} requests of everybody's, {stored:,} bytes of reports, "
            f"{megabytes(auditor)} MB of memory at most"
        )
        assert line["objects"] >= violators
        assert line["findings"] >= violators * len(CONTAINERS)
        assert megabytes(auditor) < 256
