"""What a policy's package has to be like, and what is told of one that isn't."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.builders import ROOT
from webhook import loader
from webhook.errors import BadConfig
from webhook.loader import fact_kinds, load_policies, load_policy
from webhook.objects.facts import NODES
from webhook.objects.live import LIVE_PODS

EXAMPLE = ROOT / "examples" / "known-priority-classes"
PACKAGE = "known_priority_classes"

Edit = Callable[[Path], None]


def edit(file: str, old: str, new: str) -> Edit:
    def change(package: Path) -> None:
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new))

    return change


def declare(old: str, new: str) -> Edit:
    return edit("policy.py", old, new)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the example's package, to be imported by its name."""
    copy = tmp_path / PACKAGE
    shutil.copytree(EXAMPLE / PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield copy
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in (PACKAGE, "renamed"):
            del sys.modules[name]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """The entry points of other packages; what was loaded without them is forgotten, before and after."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(loader, "entry_points", lambda group: found if group == loader.ENTRY_POINTS else [])
    load_policies.cache_clear()
    fact_kinds.cache_clear()
    yield found
    load_policies.cache_clear()
    fact_kinds.cache_clear()


def entry_point(package: str) -> EntryPoint:
    return EntryPoint("of-another-package", package, loader.ENTRY_POINTS)


def test_a_package_of_that_shape_is_loaded(package: Path) -> None:
    loaded = load_policy(PACKAGE)
    assert (loaded.policy.id, str(loaded.folder)) == ("known-priority-classes", str(package))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        pytest.param(
            lambda package: (package / "policy.py").unlink(),
            "it can't be imported: ModuleNotFoundError: No module named 'known_priority_classes.policy'",
            id="no-policy-module",
        ),
        pytest.param(
            declare("POLICY = Policy(", "1 / 0\nPOLICY = Policy("),
            "it can't be imported: ZeroDivisionError: division by zero",
            id="it-raises",
        ),
        pytest.param(
            declare("    params=Params,\n", ""),
            "it can't be imported: TypeError: Policy.__init__() missing 1 required positional argument: 'params'",
            id="no-params",
        ),
        pytest.param(
            declare("POLICY = Policy(", "OTHER = Policy("),
            "its module policy has no POLICY that is a webhook.policy.Policy",
            id="no-POLICY",
        ),
        pytest.param(
            declare('id="known-priority-classes"', 'id="priority-classes"'),
            "id 'priority-classes' is not the folder's name, 'known-priority-classes'",
            id="another-id-than-the-folder-s",
        ),
        pytest.param(
            declare('id="known-priority-classes"', 'id="Known_Classes"'),
            "id 'Known_Classes' is not words in lower case, joined by dashes",
            id="no-id",
        ),
        pytest.param(
            declare("    examine=examine,\n", "    examine=None,\n"), "examine is None, not a function", id="no-examine"
        ),
        pytest.param(
            declare("    examine=examine,\n", "    examine=examine,\n    observe=5,\n"),
            "observe is 5, not a function",
            id="no-observe",
        ),
        pytest.param(
            declare("    examine=examine,\n", "    examine=examine,\n    observe=examine,\n    lives=('pods',),\n"),
            "lives: 'pods' is no kind of fact: name a FactKind, such as those of webhook.objects.live",
            id="no-kind-of-living-object",
        ),
        pytest.param(
            declare("incidents=(),", "incidents=(), lives=(PRIORITY_CLASSES,),"),
            "lives: only observe reads living objects, and there is none",
            id="living-objects-that-nobody-reads",
        ),
        pytest.param(
            declare("incidents=(),", 'incidents=(), operations=("CREATE", "DELETE"),'),
            "operations: 'DELETE' is not one of CREATE, UPDATE",
            id="unknown-operation",
        ),
        pytest.param(
            declare("incidents=(),", 'incidents=(), subresources=("status",),'),
            "subresources: 'status' is not one of resize, scale",
            id="unknown-subresource",
        ),
        pytest.param(
            declare("incidents=(),", 'incidents=(), mode="enforce",'),
            "mode: 'enforce' is not one of off, audit, warn, patch, deny",
            id="unknown-mode",
        ),
        pytest.param(
            declare("incidents=(),", 'incidents=(), otherwise="patch",'),
            "otherwise: 'patch' is not one of warn, deny",
            id="unknown-otherwise",
        ),
        pytest.param(
            declare("incidents=(),", 'incidents=(), kinds=("Secret",),'),
            "kinds: 'Secret' is no GroupKind",
            id="no-kind",
        ),
        pytest.param(
            declare("facts=(PRIORITY_CLASSES,)", 'facts=("priorityclasses",)'),
            "facts: 'priorityclasses' is no kind of fact: name a FactKind, such as those of webhook.objects.facts",
            id="unknown-kind-of-fact",
        ),
        pytest.param(
            declare("facts=(PRIORITY_CLASSES,)", "facts=PRIORITY_CLASSES"),
            "its declaration can't be read: TypeError: 'FactKind' object is not iterable",
            id="facts-are-no-tuple",
        ),
        pytest.param(
            edit("priority_classes.py", "    read=_read,\n", '    read=_read,\n    key="uid",\n'),
            "facts: priorityclasses.scheduling.k8s.io: key 'uid' is not one of name, namespace and name, namespace",
            id="unknown-key",
        ),
        pytest.param(
            edit("priority_classes.py", "    read=_read,\n", '    read=_read,\n    allowed_by="readClasses",\n'),
            "params: readClasses, which allows priorityclasses.scheduling.k8s.io to be looked up, is not a bool that "
            "is false by default",
            id="what-is-looked-up-is-allowed-by-no-parameter",
        ),
        pytest.param(
            declare('    ] = ("system-cluster-critical", "system-node-critical")', "    ]"),
            "params: builtIn has no default",
            id="a-parameter-without-default",
        ),
        pytest.param(
            declare("    params=Params,\n", "    params=dict,\n"),
            "params is <class 'dict'>, not a msgspec.Struct",
            id="params-of-another-type",
        ),
        pytest.param(
            declare("frozen=True, rename", "rename"),
            "params is not frozen: a policy must not change what it was given",
            id="params-that-change",
        ),
        pytest.param(lambda package: (package / "README.md").unlink(), "it has no README.md", id="no-page"),
        pytest.param(
            edit("README.md", "# known-priority-classes\n", "# A policy\n"),
            "README.md doesn't begin with '# known-priority-classes'",
            id="another-title",
        ),
        pytest.param(
            edit("README.md", "## Limits\n", ""), "README.md has no heading '## Limits'", id="a-heading-is-missing"
        ),
        pytest.param(
            edit("README.md", "## Parameters\n", "## Limits\n"),
            "README.md has no heading '## Parameters'",
            id="a-heading-twice",
        ),
    ],
)
def test_one_line_names_the_package_and_what_is_wrong(package: Path, change: Edit, wrong: str) -> None:
    change(package)
    with pytest.raises(BadConfig) as raised:
        load_policy(PACKAGE)
    assert str(raised.value) == f"policy package {PACKAGE}: {wrong}"


def test_headings_have_an_order(package: Path) -> None:
    edit("README.md", "## Limits\n", "## Was\n")(package)
    edit("README.md", "## Parameters\n", "## Limits\n")(package)
    edit("README.md", "## Was\n", "## Parameters\n")(package)
    with pytest.raises(BadConfig, match=r"README\.md has its headings in another order than The incident, What it"):
        load_policy(PACKAGE)


def test_another_package_s_policy_and_its_kind_of_fact(package: Path, installed: list[EntryPoint]) -> None:
    ours = (set(load_policies()), set(fact_kinds()))
    load_policies.cache_clear()
    fact_kinds.cache_clear()
    installed.append(entry_point(PACKAGE))
    assert set(load_policies()) - ours[0] == {"known-priority-classes"}
    assert [kind.full_resource for kind in set(fact_kinds()) - ours[1]] == ["priorityclasses.scheduling.k8s.io"]


def test_two_policies_of_one_id(package: Path, installed: list[EntryPoint]) -> None:
    installed += [entry_point(PACKAGE), entry_point(f"renamed.{PACKAGE}")]
    shutil.copytree(package, package.parent / "renamed" / PACKAGE)
    with pytest.raises(BadConfig) as raised:
        load_policies()
    assert str(raised.value) == (
        f"policy package renamed.{PACKAGE}: another policy is called 'known-priority-classes' as well"
    )


def test_a_kind_of_fact_is_declared_once(package: Path, installed: list[EntryPoint]) -> None:
    installed.append(entry_point(PACKAGE))
    edit("priority_classes.py", '"scheduling.k8s.io"', '""')(package)
    edit("priority_classes.py", '"priorityclasses"', f'"{NODES.resource}"')(package)
    with pytest.raises(BadConfig) as raised:
        load_policies()
    assert str(raised.value).startswith(f"policy package {PACKAGE}: facts: nodes is declared in policies.")
    assert str(raised.value).endswith(" already: import it from there")


def test_a_kind_of_living_object_is_declared_once(package: Path, installed: list[EntryPoint]) -> None:
    installed.append(entry_point(PACKAGE))
    edit("priority_classes.py", '"scheduling.k8s.io"', '""')(package)
    edit("priority_classes.py", '"priorityclasses"', f'"{LIVE_PODS.resource}"')(package)
    declare("incidents=(),", "incidents=(), observe=examine, lives=(PRIORITY_CLASSES,),")(package)
    declare("facts=(PRIORITY_CLASSES,),", "")(package)
    with pytest.raises(BadConfig) as raised:
        load_policies()
    assert str(raised.value).startswith(f"policy package {PACKAGE}: lives: pods is declared in policies.")
    assert str(raised.value).endswith(" already: import it from there")


@pytest.mark.parametrize(
    "command", [["check", "demo/elastalert.yaml"], ["explain"], ["config", "schema"], ["serve", "--self-signed"]]
)
def test_a_broken_package_ends_every_command(tmp_path: Path, command: list[str]) -> None:
    """The other policies don't load without it: what it would have refused would pass, and nobody would be told."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").touch()
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[forestall.policies]\nbroken = broken\n")
    program = "import sys; from webhook.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "forestall: policy package broken: it can't be imported: ModuleNotFoundError: No module named 'broken.policy'\n"
    )
