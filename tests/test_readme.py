"""README and docs: every command that they show runs, in a copy of the repository, and their pictures are true."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.builders import ROOT
from tests.loopback import eventually, free_ports
from webhook.certs import make_self_signed
from webhook.cli import cli

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "charts" / "forestall" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "policies").glob("*/README.md")),
    *sorted((ROOT / "examples").glob("*/*/README.md")),
]
FORESTALL = Path(sys.executable).parent / "forestall"
_PROGRAMS = "bash|docker|forestall|helm|kubectl|kustomize|make|openssl|pip|python|sed"

# What the commands need besides the repository, a cluster above all. make says what it would do: .ci/run runs README's
# targets for real. An image is built from the Dockerfile's own steps in test_packaging, and what needs a cluster is
# typed in tests/e2e.
STUBS = {
    "docker": "exit 0",
    "helm": "cat demo/elastalert.yaml",
    "kustomize": "cat demo/elastalert.yaml",
    "forestall": f'case "$*" in audit*|doctor*|notify*) ;; *) exec {FORESTALL} "$@" ;; esac',
    "kubectl": 'case "$*" in *forestall-tls*) base64 tls.crt ;; *) cat > /dev/null ;; esac',
    "make": f'exec {shutil.which("make")} -n "$@"',
}

RESOURCES_VALUE = "prometheus.server.resources: {limits: {memory: 6Gi}, requests: {memory: 4Gi}}"
SELECTOR_VALUE = 'prometheus.server.nodeSelector["topology.kubernetes.io/zone"]: eu-west-1a'


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[str]:
    """What fenced blocks of shell hold, and indented lines that begin like a command."""
    for block in blocks(page, "sh"):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(rf"^    ((?:{_PROGRAMS}) .+)$", page.read_text(), re.MULTILINE)


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the files that the pages talk of, an environment, and the stubs."""
    copy = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"), dirs_exist_ok=True)
    (copy / ".venv").symlink_to(sys.prefix)
    for name in (
        "my-deployment.yaml",
        "web.yaml",
        "workloads.yaml",
        "deploy/web.yaml",
        "clusters/prod/monitoring.yaml",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "demo" / "elastalert.yaml", copy / name)
    (copy / "forestall.yaml").write_text(blocks(ROOT / "docs" / "configuration.md", "yaml")[0])
    (copy / "in-force.yaml").touch()
    (copy / "tls.crt").write_bytes(make_self_signed()[0])
    (copy / "stubs").mkdir()
    for name, script in STUBS.items():
        (copy / "stubs" / name).write_text(f"#!/bin/sh\n{script}\n")
        (copy / "stubs" / name).chmod(0o755)
    return copy


def run(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{clone}/stubs:{clone}/.venv/bin:{os.environ['PATH']}", "NO_COLOR": "1"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, id=f"{relative(page)}: {command[:50]}") for page in PAGES for command in commands(page)],
)
def test_command_runs(command: str, clone: Path) -> None:
    done = run(command, clone)
    assert done.returncode == 0, done.stdout + done.stderr


MENTIONED = sorted(
    {
        (relative(page), mention)
        for page in PAGES
        for mention in re.findall(r"`((?:forestall|make) [^`]+)`", page.read_text())
    }
)


@pytest.mark.parametrize(("page", "mention"), [pytest.param(*mentioned, id=mentioned[1]) for mentioned in MENTIONED])
def test_mentioned_command_exists(page: str, mention: str) -> None:
    """Commands within a sentence: the command and its options are known."""
    program, *words = shlex.split(mention.replace("\\|", "|").replace("…", ""))
    if program == "make":
        assert set(words) <= set(re.findall(r"^([a-z0-9./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, mention
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_readme_has_two_commands_and_ci_runs_them() -> None:
    first = next(block for block in blocks(ROOT / "README.md", "sh"))
    script = (ROOT / ".ci" / "run").read_text()
    assert first.split("\n") == ["make demo", "make test", ""]
    assert re.findall(r"^part \S+ (make (?:demo|test))$", script, re.MULTILINE) == ["make test", "make demo"]


@pytest.fixture(scope="module")
def told() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_readme_shows_what_the_demo_prints(told: str) -> None:
    (picture,) = blocks(ROOT / "README.md", "console")
    assert " ".join(picture.split()) in " ".join(told.split())  # folded


@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param("elastalert", "deployment.apps/elastalert created", id="patched"),
        pytest.param("elastalert", "    +            memory: 512Mi", id="the-patch-is-shown"),
        pytest.param("prometheus-too-small", f"  how   Helm value {RESOURCES_VALUE}", id="too-small"),
        pytest.param("prometheus-one-zone", f"  how   Helm value {SELECTOR_VALUE}", id="one-zone"),
        pytest.param("prometheus-mended", "deployment.apps/kubecost-prometheus-server created", id="mended"),
        pytest.param("cart", "deployment.apps/cart created", id="limit-range"),
        pytest.param("invoices", "cronjob.batch/invoices created", id="warned"),
        pytest.param("hub", "deployment.apps/hub created", id="handed-over"),
        pytest.param("prometheus-emptydir", "prometheus.monitoring.coreos.com/main created", id="lost-metrics"),
        pytest.param("scraped", "service/executor created", id="not-scraped"),
    ],
)
def test_demo_tells(told: str, file: str, line: str) -> None:
    (story,) = re.findall(
        rf"^\$ kubectl apply -f demo/{file}\.yaml\n(.+?)\n\n(?:#|That)", told, re.MULTILINE | re.DOTALL
    )
    assert line in story.splitlines()
    warned_by = {
        "elastalert": "memory-limits",
        "invoices": "memory-limits",
        "hub": "volume-handover",
        "prometheus-emptydir": "metrics-durability",
        "scraped": "scrape-endpoints",
    }
    warned = re.findall(r"^Warning: [^:]+: ([a-z-]+): ", story, re.MULTILINE)
    assert warned == ([warned_by[file]] if file in warned_by else [])


def test_make_serve_and_a_file_of_ones_own(tmp_path: Path) -> None:
    port, metrics_port = free_ports(2)
    command = [sys.executable, "-m", "demo", "serve", "--port", str(port), "--metrics-port", str(metrics_port)]
    log = tmp_path / "log"
    with log.open("w") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, text=True) as server:
        try:
            eventually(lambda: '"serving"' in log.read_text())
            (line,) = re.findall(r"^ +\.venv/bin/python (-m demo try .+)$", log.read_text(), re.MULTILINE)
            tried = subprocess.run(
                [sys.executable, *line.split()], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert "deployment.apps/elastalert created" in tried.stdout
            assert tried.returncode == 0
        finally:
            server.terminate()
            eventually(lambda: '"draining"' in log.read_text())
            server.terminate()
