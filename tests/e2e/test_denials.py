"""docs/denials.md, typed command by command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders import ROOT
from tests.e2e.guarded import Guarded, deployment
from tests.e2e.test_helm import chart  # noqa: F401 - a fixture

DOCUMENT = ROOT / "docs" / "denials.md"
NAMESPACE = "shop"

# When it was, in whose process, and what kubectl's file was called.
_FLEETING = re.compile(r"(?<=^I)\d{4} [\d:.]+ +\d+|(?<=^LAST DEPLOYED: ).*|(?<=time=)\S+", re.MULTILINE)


class Step(NamedTuple):
    command: str
    output: str


def read_document(text: str) -> tuple[dict[str, str], list[Step]]:
    """The manifests by file name, and the commands with what they print."""
    blocks = re.findall(r"```(yaml|console)\n(.*?)```", text, re.DOTALL)
    manifests = {body.partition("\n")[0].removeprefix("# "): body for kind, body in blocks if kind == "yaml"}
    typed = [
        part for kind, body in blocks if kind == "console" for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    ]
    return manifests, [Step(*part.split("\n", 1)) for part in typed]


def write_document(seen: list[Step]) -> None:
    """Put what was seen below each command, for someone to read before it is committed."""
    text, commands = DOCUMENT.read_text(), iter(seen)
    filled = re.sub(
        r"(?<=```console\n).*?(?=```)",
        lambda block: "".join("$ {}\n{}".format(*next(commands)) for _ in re.findall(r"^\$ ", block[0], re.MULTILINE)),
        text,
        flags=re.DOTALL,
    )
    DOCUMENT.write_text(filled)


@pytest.fixture
def shop(cluster: Guarded) -> Guarded:
    """A namespace with a Deployment that was there before Forestall."""
    cluster.make_namespace(NAMESPACE, guarded=False)
    cluster.apply(deployment("legacy", NAMESPACE, {"name": "legacy", "image": "nginx:1.27"}))
    cluster.rolled_out("deployment/legacy", NAMESPACE)
    cluster.guard(NAMESPACE)
    return cluster


def type_in(cluster: Guarded, command: str, folder: Path) -> str:
    """Run the command as in a terminal: both streams together."""
    kubeconfig = folder / "kubeconfig"
    if not kubeconfig.exists():
        shutil.copy(cluster.plane.kubeconfig, kubeconfig)
        set_namespace = ("config", "set-context", "--current", f"--namespace={NAMESPACE}")
        cluster.kubectl(*set_namespace, f"--kubeconfig={kubeconfig}")
    program, *arguments = shlex.split(command)
    return subprocess.run(
        [str(cluster.plane.assets / program), *arguments],
        cwd=folder,
        env={**cluster.plane.environment, "KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    ).stdout


def test_every_command_prints_what_the_page_shows(helm: Guarded, shop: Guarded, chart: str) -> None:  # noqa: F811
    folder = Path(chart).parent
    manifests, steps = read_document(DOCUMENT.read_text())
    for name, text in manifests.items():
        (folder / name).write_text(text)
    seen = [Step(command, type_in(shop, command, folder)) for command, _ in steps]
    if os.environ.get("FORESTALL_WRITE_DOCS"):
        write_document(seen)
    assert [fixed(step) for step in seen] == [fixed(step) for step in steps]


def fixed(step: Step) -> Step:
    return Step(step.command, _FLEETING.sub("…", step.output))
