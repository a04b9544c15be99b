"""The example of a policy in a package of its own: installed, it is found by everything that knows of policies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import ROOT

EXAMPLE = ROOT / "examples" / "known-priority-classes"
UNKNOWN = EXAMPLE / "known_priority_classes" / "bad" / "unknown.yaml"
POLICY = "known-priority-classes"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed into, as pip does it."""
    folder = tmp_path_factory.mktemp("packages")
    source = tmp_path_factory.mktemp("source") / EXAMPLE.name
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    alone = ["--no-index", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *alone, "--target", str(folder), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def run(packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the example beside Forestall."""
    environment = {**os.environ, "PYTHONPATH": str(packages), "NO_COLOR": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def forestall(packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(packages, "-c", "import sys; from webhook.cli import main; sys.exit(main())", *arguments)


def outcomes(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [result["outcome"] for result in json.loads(done.stdout)["results"] if result["policy"] == POLICY]


def test_check_judges_by_the_objects_in_the_files(packages: Path) -> None:
    done = forestall(packages, "check", str(UNKNOWN), "--output", "json")
    assert outcomes(done) == ["unknown"], "a class that isn't in the files may be in the cluster"


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [pytest.param("important", 1, ["denied"], id="another"), pytest.param("imporant", 0, [], id="the-very-one")],
)
def test_check_judges_by_a_facts_file(
    packages: Path, tmp_path: Path, name: str, code: int, expected: list[str]
) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text(f"apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {name}}}\nvalue: 1\n")
    done = forestall(packages, "check", str(UNKNOWN), "--facts", str(facts), "--output", "json")
    assert (done.returncode, outcomes(done), done.stderr) == (code, expected, "")


def test_check_names_its_kind_in_the_line_that_facts_come_from(packages: Path) -> None:
    assert "priorityclasses.scheduling.k8s.io" in forestall(packages, "check", str(UNKNOWN)).stderr


def test_explain_prints_its_page(packages: Path) -> None:
    page = EXAMPLE / "known_priority_classes" / "README.md"
    assert forestall(packages, "explain", POLICY).stdout == page.read_text()


def test_schema_has_its_parameters(packages: Path) -> None:
    schema = json.loads(forestall(packages, "config", "schema").stdout)
    assert POLICY in schema["properties"]["policies"]["properties"]
    assert set(schema["$defs"][POLICY]["properties"]) == {"builtIn"}


def test_roles_may_read_its_kind(packages: Path) -> None:
    program = "from charts.generate import render_policies; print(render_policies())"
    (line,) = (line for line in run(packages, "-c", program).stdout.splitlines() if POLICY in line)
    assert json.loads("{" + line.rstrip(",") + "}")[POLICY] == {
        "mode": "deny",
        "facts": {"scheduling.k8s.io": ["priorityclasses"]},
        "lookedUp": {},
        "kinds": {},
        "lives": {},
    }


def test_its_files_are_run_as_ours_are(packages: Path) -> None:
    done = run(packages, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_policy_files.py", "-k", POLICY[:5])
    assert done.returncode == 0, done.stdout
    assert re.search(r"^6 passed", done.stdout.splitlines()[-1])
