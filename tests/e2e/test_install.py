"""docs/install.md, command by command, on a real control plane."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.installed import Installation, typed
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from tests.test_readme import blocks

IMAGE, INSTALL, SEE, SURVEY, RAISE, LABEL, TEMPLATE, END, LIMIT_RANGES = (
    block.replace("\\\n", " ").splitlines() for block in blocks(ROOT / "docs" / "install.md", "sh")
)


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
        return typed(self.plane, "\n".join(commands), self.folder)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as plane:
        yield Shell(plane, tmp_path)


def test_the_page_installs_and_takes_out(shell: Shell) -> None:
    plane, installation = shell.plane, Installation(shell.plane, shell.folder)
    assert "successfully rolled out" in shell.run(INSTALL)

    with ExitStack() as stack:
        port = stack.enter_context(installation.serving())
        stack.enter_context(installation.process("forestall-controller", f"--endpoints=127.0.0.1:{port}"))
        eventually(installation.mount_certificate)

        eventually(lambda: shell.try_run(SEE[:1]).returncode == 0)
        warning = eventually(lambda: re.search("^Warning: .*", shell.run(SEE), re.MULTILINE))
        assert (
            "container nginx: memory-limits: no memory limit: set limits.memory to 512Mi; would be patched"
            in warning.group()
        )

        installation.name_endpoints(port)
        eventually(lambda: "Nothing needs doing" in shell.try_run(SURVEY[:1]).stdout, "doctor has something to say")
        assert "0 workloads with 0 containers" in shell.run(SURVEY[1:])
        shell.run(RAISE)
        installation.lead_service_to(port)
        installation.mount_configuration()
        # Until the controller has followed as well, what will be patched passes.
        eventually(lambda: "patched to limits.memory=512Mi" in shell.try_run(SEE).stdout)

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
