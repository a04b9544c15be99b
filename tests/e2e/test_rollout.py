"""docs/rollout.md, command by command, on a real control plane: what is printed, and that each step takes effect."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders import ROOT, container, sized
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import deployment, has_helm
from tests.e2e.installed import Installation, typed
from tests.loopback import eventually

PAGE = (ROOT / "docs" / "rollout.md").read_text()


class Step(NamedTuple):
    """A block of commands, the files that stand before it, and what the page says is printed; None if it doesn't."""

    files: dict[str, str]
    command: str
    printed: str | None


def read_steps(page: str) -> Iterator[Step]:
    blocks: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    files: dict[str, str] = {}
    for (kind, body), (following, printed) in pairwise([*blocks, ("", "")]):
        if kind == "yaml":
            files[body.partition("\n")[0].removeprefix("# ")] = body
        if kind == "sh":
            yield Step(files, body, printed if following == "text" else None)
            files = {}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as running:
        yield running


def test_the_page_leads_from_audit_to_enforcement(plane: ControlPlane, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    prometheus = container("prometheus", "quay.io/prometheus/prometheus:v3.1.0", **sized("2Gi"))
    for namespace in ("shop", "billing"):
        plane.kubectl("create", "namespace", namespace)
    for obj in (deployment("small-prometheus", "shop", prometheus), deployment("cart", "shop", container("cart"))):
        plane.kubectl("create", "--filename=-", input=json.dumps(obj))

    installation, port = Installation(plane, tmp_path), 0
    with ExitStack() as running:
        for step in read_steps(PAGE):
            for name, text in step.files.items():
                (tmp_path / name).write_text(text.replace("2027-03-31", "2999-12-31"))
            follow(step, plane, tmp_path)
            if "helm" in step.command:
                port = port or running.enter_context(at_work(installation))
                # Helm puts the chart's own Service back, and the kubelet brings the configuration.
                installation.lead_service_to(port)
                installation.mount_configuration()


def follow(step: Step, plane: ControlPlane, folder: Path) -> None:
    """Type the commands, and again while they don't print what the page shows, since it tells to wait a minute."""
    deadline = time.monotonic() + 60
    while True:
        done = typed(plane, step.command, folder)
        if is_as_shown(done, step):
            return
        assert "helm" not in step.command, done.stdout
        assert time.monotonic() < deadline, f"{step.command}{done.stdout}instead of\n{step.printed}"


def is_as_shown(done: subprocess.CompletedProcess[str], step: Step) -> bool:
    """A line of "…" stands for any lines. What is shown may be a refusal."""
    if step.printed is None:
        return done.returncode == 0
    pattern = re.escape(step.printed).replace("…\\\n", "(.*\n)*?")
    return done.returncode in (0, 1) and re.fullmatch(pattern, done.stdout) is not None


@contextmanager
def at_work(installation: Installation) -> Iterator[int]:
    """Servers, as on two nodes, and the controller, once the API server asks them; yields the servers' port."""
    with installation.serving() as port:
        installation.name_endpoints(port, nodes=())  # until there is a certificate
        with installation.process("forestall-controller"):
            eventually(installation.mount_certificate)
            eventually(installation.is_ready)
            installation.name_endpoints(port)
            eventually(installation.is_asked)
            yield port
