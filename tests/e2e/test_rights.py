"""A ServiceAccount that lacks a right: new servers aren't ready, old ones serve on, and doctor prints what helps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import Server
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually

pytestmark = pytest.mark.e2e

ROLE, BINDING = "clusterrole/forestall-server", "clusterrolebinding/forestall-server"
READS = "nodes,persistentvolumes,persistentvolumeclaims,storageclasses.storage.k8s.io"
ENFORCED = "onError: deny\nwebhooks: {failurePolicy: Fail}\n"
DOCTOR = (sys.executable, "-c", "from webhook.cli import main; raise SystemExit(main())", "doctor")


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane(tmp_path, nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        running.kubectl("create", "serviceaccount", "forestall-server", "-n", SYSTEM)
        running.kubectl("create", "service", "externalname", "forestall", "--external-name=localhost", "-n", SYSTEM)
        grant(running, READS)
        yield running


def grant(plane: ControlPlane, resources: str) -> None:
    """The servers' rights, and no others."""
    plane.kubectl("delete", "--ignore-not-found", ROLE, BINDING)
    plane.kubectl("create", *ROLE.split("/"), "--verb=get,list,watch", f"--resource={resources}")
    account = f"--serviceaccount={SYSTEM}:forestall-server"
    plane.kubectl("create", *BINDING.split("/"), "--clusterrole=forestall-server", account)
    # The API server's own cache follows a moment later, and who was refused meanwhile asks ever more rarely.
    last = resources.rpartition(",")[2]
    asked = ("auth", "can-i", "list", last, f"--as=system:serviceaccount:{SYSTEM}:forestall-server")
    eventually(lambda: plane.try_kubectl(*asked).stdout.strip() == "yes", "the rights have no effect")


def start(plane: ControlPlane, folder: Path) -> Server:
    folder.mkdir()
    token = plane.kubectl("create", "token", "forestall-server", "-n", SYSTEM, "--duration=24h").strip()
    server = Server(folder, plane.write_kubeconfig("forestall-server", token))
    server.config_file.write_text(ENFORCED)
    server.launch()
    return server


def rights(plane: ControlPlane, server: Server) -> list[dict[str, str]]:
    """The remarks of doctor's check `rights`."""
    arguments = ["--kubeconfig", str(plane.kubeconfig), "--config", str(server.config_file), "--output", "json"]
    done = subprocess.run([*DOCTOR, *arguments], capture_output=True, text=True, check=False)
    return [check for check in json.loads(done.stdout)["checks"] if check["name"] == "rights"]


def of_servers(checks: list[dict[str, str]]) -> list[dict[str, str]]:
    return [check for check in checks if f"ServiceAccount {SYSTEM}/forestall-server" in check["seen"]]


def test_a_rollout_stops_and_the_line_that_doctor_prints_helps(plane: ControlPlane, tmp_path: Path) -> None:
    grant(plane, f"{READS},limitranges")
    old = start(plane, tmp_path / "old")
    try:
        eventually(lambda: old.try_get("/readyz") == (200, "ok\n"), "the old server did not become ready")
        grant(plane, READS)  # what a chart's upgrade gets wrong
        new = start(plane, tmp_path / "new")
        try:
            user = f'User "system:serviceaccount:{SYSTEM}:forestall-server" cannot list resource "limitranges"'
            eventually(lambda: user in new.try_get("/readyz")[1], "the new server does not say what it lacks")
            assert new.try_get("/readyz")[0] == 503
            assert old.try_get("/readyz") == (200, "ok\n")
            assert 'forestall_facts_known{kind="LimitRange"} 0.0' in new.get("/metrics")
            assert 'forestall_facts_known{kind="LimitRange"} 1.0' in old.get("/metrics")

            (right,) = of_servers(rights(plane, new))
            assert (right["status"], "may not get, list and watch limitranges" in right["seen"]) == ("fail", True)
            line = right["todo"].removeprefix("grant it: ")
            subprocess.run(["bash", "-ec", line], env=plane.environment, check=True, capture_output=True)
            eventually(lambda: new.try_get("/readyz") == (200, "ok\n"), "the right that was granted did not help")
            assert of_servers(rights(plane, new)) == []
        finally:
            new.kill()
    finally:
        old.kill()
