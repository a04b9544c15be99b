"""docs/install.md, command by command, on a real control plane.

Two things differ: no container runs, so the server is a process with the Deployment's arguments, the Secret's files and
the service account's token; and the Service leads to it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.served import eventually
from tests.test_readme import blocks

IMAGE, SERVER, WEBHOOKS, TRIAL, END = (
    block.replace("\\\n", " ").splitlines() for block in blocks(ROOT / "docs" / "install.md", "sh")
)
SYSTEM = ("--namespace", "forestall-system")


class Shell:
    """Runs the page's commands in a copy of the repository; what they print, errors included."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        shutil.copytree(ROOT / "docs", folder / "docs")

    def run(self, commands: list[str]) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            cwd=self.folder,
            env=self.plane.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@contextmanager
def server(plane: ControlPlane, folder: Path) -> Iterator[int]:
    """The Deployment's container, as a process; yields its port."""
    deployment = json.loads(plane.kubectl("get", "deployment", "forestall", *SYSTEM, "--output", "json"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    config = json.loads(plane.kubectl("get", "configmap", "forestall", *SYSTEM, "--output", "json"))
    (folder / "forestall.yaml").write_text(config["data"]["forestall.yaml"])
    token = plane.kubectl("create", "token", deployment["spec"]["template"]["spec"]["serviceAccountName"], *SYSTEM)
    moved = [re.sub(r"=/(etc/forestall|tls)/", f"={folder}/", argument) for argument in container["args"]]
    moved += ["--kubeconfig", str(plane.write_kubeconfig("forestall", token.strip())), "--port=0", "--metrics-port=0"]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen([Path(sys.executable).with_name("forestall"), *moved], stdout=out, stderr=out)
    try:
        (port,) = eventually(lambda: re.findall(r'"port":(\d+)', log.read_text()))
        yield int(port)
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        yield Shell(plane, tmp_path_factory.mktemp("clone"))


def test_the_page_installs_and_takes_out(shell: Shell) -> None:
    plane = shell.plane
    # Rolled out under the namespace's Pod Security level.
    assert "successfully rolled out" in shell.run(SERVER)

    with server(plane, shell.folder) as port:
        plane.kubectl("delete", "service", "forestall", *SYSTEM)
        plane.kubectl("create", "service", "externalname", "forestall", "--external-name=localhost", *SYSTEM)
        webhooks = shell.folder / "docs" / "install" / "webhooks.yaml"
        webhooks.write_text(webhooks.read_text().replace("port: 443", f"port: {port}"))
        shell.run(WEBHOOKS)
        warning = eventually(lambda: re.search("^Warning: .*", shell.run(TRIAL), re.MULTILINE))
        assert warning.group().startswith("Warning: memory-limits: container 'nginx' has no memory limit")

        shell.run(END)
        assert "Warning" not in shell.run(TRIAL)
    assert plane.try_kubectl("get", "namespace", "forestall-system").returncode == 1
