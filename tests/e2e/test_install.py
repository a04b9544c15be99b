"""docs/install.md, command by command, on a real control plane.

Two things differ: no container runs, so server and controller are processes with the Deployments' arguments, the
Secret's files and the service accounts' tokens; and the Service leads to the server.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.loopback import eventually
from tests.test_readme import blocks

IMAGE, INSTALL, SEE, RAISE, LABEL, TEMPLATE, END, LIMIT_RANGES = (
    block.replace("\\\n", " ").splitlines() for block in blocks(ROOT / "docs" / "install.md", "sh")
)
SYSTEM = "forestall-system"


class Shell:
    """Runs the page's commands in a copy of the repository; what they print, errors included."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        shutil.copytree(ROOT / "charts", folder / "charts")

    def run(self, commands: list[str]) -> str:
        done = self.try_run(commands)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def try_run(self, commands: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            cwd=self.folder,
            env=self.plane.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    def get(self, kind: str, name: str) -> Any:
        return json.loads(self.plane.kubectl("get", kind, name, f"--namespace={SYSTEM}", "--output=json"))

    @contextmanager
    def process(self, deployment: str, *further: str) -> Iterator[Path]:
        """A Deployment's container, as a process; yields its log."""
        spec = self.get("deployment", deployment)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        token = self.plane.kubectl("create", "token", spec["serviceAccountName"], f"--namespace={SYSTEM}").strip()
        moved = [argument.replace("/etc/forestall", str(self.folder)) for argument in container["args"]]
        moved += [f"--kubeconfig={self.plane.write_kubeconfig(deployment, token)}", "--metrics-port=0", *further]
        log = self.folder / f"{deployment}.log"
        with log.open("w") as out:
            process = subprocess.Popen([Path(sys.executable).with_name("forestall"), *moved], stdout=out, stderr=out)
        try:
            yield log
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()

    def lead_service_to(self, port: int) -> None:
        spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"name": "local", "port": port}]}
        patch = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
        self.plane.kubectl("patch", "service", "forestall", f"--namespace={SYSTEM}", "--type=json", f"--patch={patch}")

    def mount_configuration(self) -> None:
        config = self.get("configmap", "forestall-config")["data"]
        (self.folder / "config").mkdir(exist_ok=True)
        (self.folder / "config" / "config.yaml").write_text(config["config.yaml"])

    def mount_certificate(self) -> bool:
        """What the kubelet does with the Secret, once it is there."""
        data = json.loads(
            self.plane.kubectl(
                "get", "secret", "forestall-tls", f"--namespace={SYSTEM}", "--ignore-not-found", "--output=json"
            )
            or "{}"
        ).get("data", {})
        for name in ("tls.key", "tls.crt"):
            if name in data:
                (self.folder / "tls" / name).write_bytes(base64.b64decode(data[name]))
        return bool(data)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as plane:
        yield Shell(plane, tmp_path)


def test_the_page_installs_and_takes_out(shell: Shell) -> None:
    plane = shell.plane
    assert "successfully rolled out" in shell.run(INSTALL)
    shell.mount_configuration()
    (shell.folder / "tls").mkdir()

    with ExitStack() as stack:
        log = stack.enter_context(shell.process("forestall", "--port=0"))
        (port,) = eventually(lambda: re.findall(r'"port":(\d+)', log.read_text()))
        shell.lead_service_to(int(port))
        stack.enter_context(shell.process("forestall-controller", f"--endpoints=127.0.0.1:{port}"))
        eventually(shell.mount_certificate)

        eventually(lambda: shell.try_run(SEE[:1]).returncode == 0)
        warning = eventually(lambda: re.search("^Warning: .*", shell.run(SEE), re.MULTILINE))
        assert warning.group().startswith("Warning: memory-limits: container 'nginx' has no memory limit")

        shell.run(RAISE)
        shell.lead_service_to(int(port))  # Helm has put its port back
        shell.mount_configuration()
        # Until the controller has followed as well, what will be patched is refused.
        eventually(lambda: "patched: limits.memory=512Mi" in shell.try_run(SEE).stdout)

        shell.run(LABEL)
        eventually(lambda: "forestall-defaults" in plane.kubectl("get", "limitrange", "--namespace=default"))
        shell.run(TEMPLATE)

        shell.run(END[:1])
        assert "Warning" not in shell.run(SEE[1:])
    shell.run(END[1:])
    assert plane.try_kubectl("get", "namespace", SYSTEM).returncode == 1
    assert "forestall-defaults" in plane.kubectl("get", "limitrange", "--namespace=default")
    shell.run(LIMIT_RANGES)
    assert plane.kubectl("get", "limitrange", "--all-namespaces") == ""
