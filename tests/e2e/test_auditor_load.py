"""`forestall auditor` where much is wrong: 20 violators in each of a hundred namespaces, of AUDIT_NAMESPACES if set."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.load import Client
from tests.e2e.test_auditor import SYSTEM, Auditor, auditing, grant
from tests.loopback import eventually
from webhook.policy import Object

NAMESPACES = int(os.environ.get("AUDIT_NAMESPACES", "100"))
VIOLATORS = 20
"""Suspended CronJobs without a memory limit in each namespace: the controller manager makes nothing of them."""
_CRD = ROOT.parent / "shared" / "cluster" / "crds"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    if not _CRD.is_dir():
        pytest.skip(f"{_CRD} is not there: the kinds of reports")
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=1) as running:
        for kind in ("policyreports", "clusterpolicyreports"):
            running.kubectl("apply", "-f", str(_CRD / f"wgpolicyk8s.io_{kind}.yaml"))
        running.kubectl("create", "namespace", SYSTEM)
        grant(running)
        fill(running)
        yield running


def fill(plane: ControlPlane) -> None:
    def make(index: int) -> None:
        namespace = f"load-{index}"
        with Client(plane) as client:
            metadata = {"name": namespace}
            create(client, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            for number in range(VIOLATORS):
                create(client, f"/apis/batch/v1/namespaces/{namespace}/cronjobs", cron_job(f"job-{number}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(NAMESPACES)))


def create(client: Client, path: str, obj: Object) -> None:
    answer = client.request("POST", path, json.dumps(obj))
    assert answer.status == 201, answer.body


def cron_job(name: str) -> Object:
    pod = {"containers": [{"name": "job", "image": "busybox:1.37"}], "restartPolicy": "Never"}
    spec = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def reports(plane: ControlPlane) -> list[Object]:
    found = json.loads(plane.kubectl("get", "policyreports.wgpolicyk8s.io", "-A", "-o", "json"))
    return [report for report in found["items"] if report["metadata"]["namespace"].startswith("load-")]


def peak_of(auditor: Auditor) -> int:
    """Bytes that the process has had in memory at once, at most."""
    status = Path(f"/proc/{auditor.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def writes_of(plane: ControlPlane) -> Counter[str]:
    """Writes of the auditor's ServiceAccount by verb, by the API server's audit log."""
    verbs: Counter[str] = Counter()
    for line in plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"].endswith(":forestall-controller") and event["stage"] == "ResponseComplete":
            verbs[event["verb"]] += 1
    return verbs


def test_many_violators(plane: ControlPlane, tmp_path: Path) -> None:
    """Each namespace has its report, which counts all that is wrong there; an unchanged one isn't written again."""
    config = tmp_path / "config.yaml"
    config.write_text("mode: audit\n")
    with auditing(plane, config) as auditor:
        seconds = auditor.metric("forestall_audit_whole_duration_seconds")
        written = ("get", "policyreports.wgpolicyk8s.io", "-A", "-o", "name")
        eventually(
            lambda: len(plane.kubectl(*written).split()) >= NAMESPACES,
            "not every namespace has a report",
            60 + NAMESPACES / 5,
        )
        found = reports(plane)
        assert {report["metadata"]["name"] for report in found} == {"forestall"}
        assert {report["summary"]["fail"] for report in found} == {VIOLATORS}
        assert {len(report["results"]) for report in found} == {VIOLATORS}
        versions = {report["metadata"]["namespace"]: report["metadata"]["resourceVersion"] for report in found}
        objects, size = auditor.metric("forestall_audit_objects"), sum(len(json.dumps(report)) for report in found)
        peak, writes = peak_of(auditor), writes_of(plane)
    print(f"objects: {objects:.0f}, reports: {len(found)} with {size / 1e6:.1f} MB, whole audit: {seconds:.1f} s")
    print(f"memory: {peak / 1e6:.0f} MB, writes: {dict(writes)}")
    with auditing(plane, config, "again"):
        now = {report["metadata"]["namespace"]: report["metadata"]["resourceVersion"] for report in reports(plane)}
    assert now == versions


def test_a_namespace_that_goes_takes_its_report_along(plane: ControlPlane, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("mode: audit\n")
    with auditing(plane, config, "last"):
        plane.kubectl("delete", "namespace", "load-0", "--wait=false")
        gone = ("get", "namespace", "load-0")
        eventually(lambda: plane.try_kubectl(*gone).returncode != 0, "the namespace is still there")
        assert "load-0" not in {report["metadata"]["namespace"] for report in reports(plane)}
