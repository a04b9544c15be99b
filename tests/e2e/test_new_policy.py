"""A policy is one folder: beside it only generated files change, and no other test has to know of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import generated
from tests.builders import ROOT

EXAMPLE = ROOT / "examples" / "known-priority-classes" / "known_priority_classes"
FOLDER = "policies/real_priority_classes"
# Whatever may hold a list of policies. What starts servers is left out for its time.
TESTS = [
    "tests/test_policy_files.py",
    "tests/test_docs.py",
    "tests/test_readme.py",
    "tests/test_chart.py",
    "tests/test_cli.py",
    "tests/test_config.py",
    "tests/test_formats.py",
    "tests/test_imports.py",
    "tests/test_scope.py",
    "tests/test_security.py",
    "tests/test_messages.py",
    "tests/cluster/test_facts.py",
    "tests/objects/test_facts.py",
    "tests/controller/test_registration.py",
    "tests/doctor",
]


def run(copy: Path, *command: str) -> str:
    # Before Forestall itself, which is installed from another folder than this copy.
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-5_000:]
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with one more policy, which brings a kind of fact of its own, after `make docs`."""
    copy = tmp_path_factory.mktemp("repository")
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis"), dirs_exist_ok=True
    )
    run(copy, "git", "init", "-q")
    run(copy, "git", "add", "--all")
    run(copy, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-qm", "before")
    shutil.copytree(EXAMPLE, copy / FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (copy / FOLDER / "policy.py", copy / FOLDER / "README.md"):
        text = file.read_text().replace("from known_priority_classes", "from policies.real_priority_classes")
        file.write_text(text.replace("known-priority-classes", "real-priority-classes"))
    run(copy, sys.executable, "-m", "docs.generate")
    return copy


def test_the_folder_and_generated_files_are_all_that_changes(copy: Path) -> None:
    status = run(copy, "git", "status", "--porcelain").splitlines()
    changed = {line[3:] for line in status}
    assert f"?? {FOLDER}/" in status
    assert changed - {f"{FOLDER}/"} <= {str(file.relative_to(ROOT)) for file in generated()}
    assert {"README.md", "docs/cli.md", "charts/forestall/templates/_policies.tpl"} < changed


def test_no_other_test_fails(copy: Path) -> None:
    tests = [name for name in TESTS if (copy / name).exists()]
    assert tests == TESTS
    told = run(copy, sys.executable, "-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *tests)
    assert re.search(r"\d+ passed", told)
    assert "real_priority_classes/bad/unknown.yaml" in run(
        copy, sys.executable, "-m", "pytest", "-q", "--collect-only", "tests/test_policy_files.py"
    )
