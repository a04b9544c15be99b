"""What is shipped: the wheel, and the image's own build steps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.builders import ROOT
from tests.loopback import eventually, is_ready
from webhook import __version__
from webhook.loader import load_policies

DOCKERFILE = (ROOT / "Dockerfile").read_text()
POLICIES = sorted(path.parent for path in (ROOT / "policies").glob("*/policy.py"))
BARE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, image: web}]}}}
"""


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, as a clone has them."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "tests"),
        dirs_exist_ok=True,
    )
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel and, so that no index is needed, our own dependencies."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", wheel)
    (packages,) = home.glob("lib/python*/site-packages")
    # Our own Forestall is found by a .pth file in there; files of that kind count only where Python itself looks.
    dependencies = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    where = run(python, "-c", "import webhook; print(webhook.__file__)", cwd=home)
    assert where.startswith(str(packages))
    return home / "bin"


def test_wheel_holds_what_is_read_at_run_time(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    data = {path for folder in ("webhook", "policies") for path in (ROOT / folder).rglob("*") if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in data if "__pycache__" not in path.parts}
    assert expected <= names
    assert "webhook/py.typed" in names


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in ZipFile(wheel).namelist()}
    assert tops == {"webhook", "policies", f"forestall-{__version__}.dist-info"}


def test_version(installed: Path) -> None:
    assert run(installed / "forestall", "version") == f"forestall {__version__}\n"


def test_kubectl_finds_the_plugin(installed: Path) -> None:
    assert run(installed / "kubectl-forestall", "version") == f"forestall {__version__}\n"


@pytest.mark.parametrize("folder", POLICIES, ids=lambda folder: folder.name)
def test_explain_prints_the_page(installed: Path, folder: Path) -> None:
    page = run(installed / "forestall", "explain", folder.name.replace("_", "-"))
    title, _, _ = page.partition("\n")
    assert title == f"# {folder.name.replace('_', '-')}"
    assert page == load_policies()[title.removeprefix("# ")].page


def test_schema_names_every_policy(installed: Path) -> None:
    schema = json.loads(run(installed / "forestall", "config", "schema"))
    assert list(schema["properties"]["policies"]["properties"]) == [
        folder.name.replace("_", "-") for folder in POLICIES
    ]


def test_check_judges(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(BARE)
    report = json.loads(run(installed / "forestall", "check", "--output", "json", "web.yaml", cwd=tmp_path))
    assert [(result["policy"], result["outcome"]) for result in report["results"]] == [("memory-limits", "patched")]


def test_docs_install_the_command_line(source: Path, tmp_path: Path) -> None:
    """docs/cli.md's commands, with the dependencies that `make` keeps, so that no index is asked."""
    wheels = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "forestall", "wheels")
    if not any(wheels.glob("hatchling-*.whl")):
        pytest.skip(f"{wheels} holds no wheels: make .venv/ready keeps them where an index can be reached")
    (shown,) = re.findall(
        r"^## Getting it\n.*?^```console\n(.*?)^```", (ROOT / "docs" / "cli.md").read_text(), re.DOTALL | re.MULTILINE
    )
    commands = re.sub(r"^\$ ", "", shown, flags=re.MULTILINE)
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    done = run("bash", "-euc", commands, cwd=source, env=environment)
    assert done.endswith(f"forestall {__version__}\n")
    assert run(tmp_path / ".local/bin/kubectl-forestall", "version") == f"forestall {__version__}\n"


def _locked(file: str) -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
    return {str(canonicalize_name(name)): version for name, version in lines}


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        pytest.param(file, Requirement(text), id=text)
        for project in [tomllib.loads((ROOT / "pyproject.toml").read_text())]
        for file, texts in [
            ("requirements.lock", project["project"]["dependencies"]),
            ("requirements-build.lock", project["build-system"]["requires"]),
        ]
        for text in texts
    ],
)
def test_lock_has_what_the_project_asks_for(file: str, wanted: Requirement) -> None:
    assert wanted.specifier.contains(_locked(file)[canonicalize_name(wanted.name)])


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-build.lock"])
def test_lock_hashes_everything(file: str) -> None:
    """And names no index of anybody's."""
    text = (ROOT / file).read_text()
    for requirement in re.split(r"\n(?=\w)", text.partition("\n")[2].strip("\n"))[1:]:
        assert "--hash=sha256:" in requirement
    assert "://" not in text


def test_build_context_is_all_that_the_image_copies() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_base_image_is_one_that_never_changes() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    (default,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert set(bases) == {"${BASE}"}
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", default)


def test_image_runs_as_a_number_and_without_a_shell() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert "RUN" not in final
    assert 'ENTRYPOINT ["/opt/forestall/bin/forestall"]' in final
    assert 'CMD ["--help"]' in final


@pytest.fixture(scope="module")
def image(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/forestall as the Dockerfile's own steps make it, here, with another place for each of its folders."""
    root = tmp_path_factory.mktemp("image")
    venv.create(root / "system", with_pip=True, symlinks=True)
    environment = {**os.environ, "PATH": f"{root}/system/bin:{os.environ['PATH']}", "PIP_RETRIES": "1"}
    for step in _build_steps():
        moved = step.replace("/wheels", f"{root}/wheels").replace("/opt/", f"{root}/opt/")
        done = subprocess.run(
            ["sh", "-euc", moved], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode and re.search("NewConnectionError|NameResolutionError|no-index|ProxyError", done.stderr):
            pytest.skip("no package index can be reached, and the image's steps ask one")
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    return root / "opt" / "forestall"


def _build_steps() -> list[str]:
    stage = DOCKERFILE.rpartition("\nFROM ")[0].replace("\\\n", "")
    steps = [str(step) for step in re.findall(r"^RUN (.+)$", stage, re.MULTILINE)]
    return [step for step in steps if "apt-get" not in step]


def test_image_has_the_locked_versions_and_no_more(image: Path) -> None:
    (packages,) = image.glob("lib/python*/site-packages")
    names = (path.name.removesuffix(".dist-info").split("-") for path in packages.glob("*.dist-info"))
    found = {str(canonicalize_name(name)): version for name, version in names}
    assert found.pop("forestall") == __version__
    assert found.items() <= _locked("requirements.lock").items()
    run(sys.executable, "-m", "pip", "--python", image / "bin" / "python", "check")


USER = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[-1]
# A root file system that can't be written to, the image's user, and of root's rights none but to read: a test's
# folders are closed to others.
CONFINED = (
    *("unshare", "--mount", "sh", "-euc"),
    "mount -o remount,ro,bind /; exec setpriv --reuid={} --regid={} --clear-groups --no-new-privs --inh-caps={caps}"
    ' --ambient-caps={caps} --bounding-set={caps} "$@"'.format(*USER, caps="-all,+dac_read_search"),
    "-",
)


def can_confine() -> bool:
    command = [*CONFINED, "sh", "-c", "! touch /tmp/x && touch /dev/shm/forestall-test && rm /dev/shm/forestall-test"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.mark.parametrize(
    "confined",
    [
        pytest.param((), id="as-we-are"),
        pytest.param(
            CONFINED,
            marks=pytest.mark.skipif(not can_confine(), reason="only root can make a read-only root file system"),
            id="as-in-a-pod",
        ),
    ],
)
def test_image_serves(image: Path, readable: Path, confined: tuple[str, ...]) -> None:
    """With nothing that its dependencies don't declare, and without a home."""
    facts = readable / "facts.yaml"
    facts.write_text("apiVersion: v1\nkind: Node\nmetadata: {name: a}\n")
    command = [*confined, str(image / "bin" / "forestall"), "serve", "--self-signed", "--facts", str(facts)]
    with subprocess.Popen(
        [*command, "--port", "0", "--metrics-port", "0"], cwd="/", env={}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            lines = map(json.loads, server.stdout)
            port = next(line["metrics_port"] for line in lines if line["event"] == "serving")
            eventually(lambda: is_ready(port))
            status = Path(f"/proc/{server.pid}/status").read_text()
        finally:
            server.terminate()
            server.communicate(timeout=30)
    assert server.returncode == 0
    assert not confined or re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE) == [USER[0]]


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user may read, as no other of a test's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
