"""The command line: what is judged, what is printed where, and with which exit code it ends."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import SHARED, container, kubeconfig, limit_range, sized, workload
from tests.command import Run, Write, judged
from webhook import __version__, check
from webhook.files import facts as facts_file
from webhook.files.facts import kubectl_get
from webhook.loader import load_policies, watched_kinds
from webhook.objects.facts import LIMIT_RANGES, NO_FACTS, NODES, STORAGE_CLASSES
from webhook.policy import Object

GOOD = workload("Deployment", container(**sized("128Mi", "64Mi")), name="good")
BARE = workload("Deployment", container(), name="bare")
BROKEN = "kind: [unclosed\n"
DENY = "policies: {memory-limits: {mode: deny}}\n"
EXEMPT = """
policies: {memory-limits: {mode: deny}}
exemptions:
  - {policy: memory-limits, match: {namespaces: [shop]}, owner: sre, reason: moving, until: 2999-12-31}
"""


@pytest.mark.parametrize(
    ("objects", "config", "arguments", "code"),
    [
        pytest.param([GOOD], "", [], 0, id="nothing-wrong"),
        pytest.param([BARE], DENY, [], 1, id="denied"),
        pytest.param([BARE], "", [], 0, id="patched-is-not-denied"),
        pytest.param([BARE], "", ["--strict"], 1, id="strict-any-violation"),
        pytest.param([GOOD], "", ["--strict"], 0, id="strict-no-violation"),
        pytest.param([BARE], EXEMPT, ["--strict"], 0, id="strict-exempted"),
        pytest.param([BARE], "mode: audit\n" + DENY, [], 0, id="ceiling"),
        pytest.param([BARE], "mode: audit\n" + DENY, ["--as-if", "deny"], 1, id="as-if-puts-the-ceiling-aside"),
        pytest.param([BARE], DENY, ["--as-if", "warn"], 0, id="as-if-lowers-it-too"),
        pytest.param([GOOD, BROKEN], "", [], 2, id="unreadable"),
        pytest.param([BROKEN, BARE], DENY, [], 2, id="unreadable-wins-over-denied"),
        pytest.param([BARE], "policies: {memory-limit: {mode: deny}}", [], 2, id="bad-configuration"),
        pytest.param([BARE], "", ["--as-if", "off"], 2, id="bad-option"),
        pytest.param([BARE], "", ["--facts", "nowhere.yaml"], 2, id="no-facts"),
        pytest.param([BARE], "", ["--facts", "config.yaml", "--cluster"], 2, id="facts-from-two-places"),
        pytest.param([BARE], "", ["--kubeconfig", "config.yaml"], 2, id="kubeconfig-without-cluster"),
        pytest.param([BARE], "", ["--context", "prod"], 2, id="context-without-cluster"),
        pytest.param([BARE], "", ["nowhere.yaml"], 2, id="no-such-file"),
    ],
)
def test_exit_code(
    write: Write, run: Run, objects: list[Object | str], config: str, arguments: list[str], code: int
) -> None:
    write("all.yaml", *objects)
    write("config.yaml", config)
    assert run("check", "all.yaml", "--config", "config.yaml", *arguments).code == code


def test_json_is_as_documented(write: Write, run: Run) -> None:
    write("deploy/web.yaml", BARE, BROKEN)
    assert judged(run, "deploy") == {
        "schema": "forestall.dev/check/v1",
        "summary": {
            "objects": 1,
            "workloads": 1,
            "containers": 1,
            "denied": 0,
            "patched": 1,
            "warned": 0,
            "audited": 0,
            "exempted": 0,
            "unknown": 0,
            "failed": 0,
            "unreadable": 1,
        },
        "unjudged": [],
        "results": [
            {
                "file": "deploy/web.yaml",
                "line": 17,
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "namespace": "shop",
                "name": "bare",
                "policy": "memory-limits",
                "mode": "patch",
                "outcome": "patched",
                "container": "web",
                "path": "spec.template.spec.containers[0].resources.limits.memory",
                "message": "container 'web' has no memory limit: set limits.memory to 512Mi",
                "fix": {
                    "spec.template.spec.containers[0].resources.limits.memory": "512Mi",
                    "spec.template.spec.containers[0].resources.requests.memory": "256Mi",
                },
                "advice": None,
                "hint": None,
                "incident": "NU.nl 2019: ElastAlert pods without memory limits took node after node",
            }
        ],
        "errors": [
            {
                "file": "deploy/web.yaml",
                "line": 28,
                "message": "broken YAML: while parsing a flow sequence, did not find expected ',' or ']'",
            }
        ],
    }


def test_objects_in_the_files_are_facts_for_all_of_them(write: Write, run: Run) -> None:
    write("a.yaml", BARE)
    write("b.yaml", limit_range(default="512Mi"))
    assert len(judged(run, "a.yaml")["results"]) == 1
    assert judged(run, "a.yaml", "b.yaml")["results"] == []


def test_namespace_is_for_objects_without_one(write: Write, run: Run) -> None:
    bare = {**BARE, "metadata": {"name": "bare"}}
    limits = limit_range(default="512Mi")
    del limits["metadata"]["namespace"]
    write("a.yaml", bare)
    write("limits.yaml", limits)
    write("shop.yaml", limit_range(default="512Mi"))
    assert judged(run, "a.yaml")["results"][0]["namespace"] == "default"
    assert judged(run, "a.yaml", "--namespace", "web")["results"][0]["namespace"] == "web"
    assert judged(run, "a.yaml", "limits.yaml", "--namespace", "web")["results"] == []
    assert judged(run, "a.yaml", "shop.yaml", "--namespace", "web")["results"] != []
    assert judged(run, "a.yaml", "shop.yaml", "--namespace", "shop")["results"] == []


def test_facts_file_is_what_kubectl_prints(write: Write, run: Run) -> None:
    write("a.yaml", BARE)
    write("facts.yaml", {"apiVersion": "v1", "kind": "List", "items": [limit_range(default="512Mi")]})
    assert judged(run, "a.yaml", "--facts", "facts.yaml")["results"] == []


def test_kinds_that_hold_pods_and_are_not_judged_are_named(write: Write, run: Run) -> None:
    spec = {"jobTargetRef": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}
    job = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "spec": spec}
    release = {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": {"name": "c"}, "spec": {}}
    write("a.yaml", {**job, "metadata": {"name": "a"}}, {**job, "metadata": {"name": "b"}}, release)
    path = "spec.jobTargetRef.template.spec"
    ended, flux = run("check", "a.yaml"), "helm.toolkit.fluxcd.io"
    assert (ended.code, ended.err.splitlines()) == (
        0,
        [
            "note: 3 objects were not judged:",
            f"note: 1 HelmRelease ({flux}) deploys other manifests: check what helm template or kustomize build prints",
            f"note: 2 ScaledJob (keda.sh) hold pods: name them in kinds, with podSpec: {path}",
        ],
    )
    assert judged(run, "a.yaml")["unjudged"] == [
        {"group": "helm.toolkit.fluxcd.io", "kind": "HelmRelease", "podSpecs": [], "objects": 1},
        {"group": "keda.sh", "kind": "ScaledJob", "podSpecs": [path], "objects": 2},
    ]
    write("c.yaml", f"kinds: [{{group: keda.sh, kind: ScaledJob, resource: scaledjobs, podSpec: {path}}}]")
    assert run("check", "a.yaml", "--config", "c.yaml").err.count("ScaledJob") == 0


def test_standard_input(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(buffer=io.BytesIO(json.dumps(BARE).encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert [result["file"] for result in judged(run, "-")["results"]] == ["<stdin>"]
    stream.buffer.seek(0)
    named = judged(run, "-", "--stdin-name", "templates/web.yaml")["results"]
    assert [result["file"] for result in named] == ["templates/web.yaml"]


@pytest.mark.parametrize(
    ("fields", "line", "message"),
    [
        pytest.param(
            {"spec": {"template": {"spec": {"containers": "x"}}}}, 10, "is a string ('x'), not a list", id="list"
        ),
        pytest.param({"spec": {"template": []}}, 8, "spec.template is a list, not a map", id="map"),
    ],
)
def test_object_of_another_shape_is_unreadable(write: Write, run: Run, fields: Object, line: int, message: str) -> None:
    write("a.yaml", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, **fields})
    write("b.yaml", BARE)
    document = judged(run, "a.yaml", "b.yaml")
    assert [(error["file"], error["line"]) for error in document["errors"]] == [("a.yaml", line)]
    assert message in document["errors"][0]["message"]
    assert len(document["results"]) == 1


def test_cluster_object_that_cannot_be_read_is_an_error(write: Write, run: Run) -> None:
    write("a.yaml", limit_range(default="512 megabytes"), BARE)
    document = judged(run, "a.yaml")
    assert [(error["file"], "512 megabytes" in error["message"]) for error in document["errors"]] == [("a.yaml", True)]
    assert len(document["results"]) == 1


def test_two_processes_say_what_one_says(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        write(f"{index}.yaml", {**BARE, "metadata": {"name": f"bare-{index}", "namespace": f"shop-{index}"}})
    write("5.yaml", limit_range(namespace="shop-1", default="512Mi"))
    write("6.yaml", limit_range(namespace="shop-4", default="512Mi"))
    write("7.yaml", BROKEN)
    monkeypatch.setattr(check, "is_worth_two", lambda files: False)
    one = run("check", ".", "--output", "json")
    monkeypatch.setattr(check, "is_worth_two", lambda files: True)
    two = run("check", ".", "--output", "json")
    assert [result["name"] for result in json.loads(two.out)["results"]] == ["bare-0", "bare-2", "bare-3"]
    assert (two.code, two.out) == (one.code, one.out)


def test_second_process_that_fails_fails_the_run(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("0.yaml", BARE)
    write("1.yaml", BARE)
    parent = os.getpid()
    judge = check._Run.judge

    def fail(self: check._Run, *arguments: Any) -> check.Report:
        if os.getpid() != parent:
            raise ZeroDivisionError("a bug")
        return judge(self, *arguments)

    monkeypatch.setattr(check, "is_worth_two", lambda files: True)
    monkeypatch.setattr(check._Run, "judge", fail)
    ended = run("check", ".")
    assert (ended.code, ended.out, "ZeroDivisionError: a bug" in ended.err) == (3, "", True)


@pytest.mark.skipif(not (SHARED / "corpus").is_dir(), reason="needs the corpus of rendered charts")
def test_corpus_counts(run: Run) -> None:
    document = judged(run, str(SHARED / "corpus"))
    assert document["errors"] == []
    missing = {
        (result["file"], result["kind"], result["name"], result["container"])
        for result in document["results"]
        if result["policy"] == "memory-limits"
    }
    assert (document["summary"]["containers"], len(missing)) == (257, 203)


def test_exemptions_that_should_go_are_told(write: Write, run: Run) -> None:
    write("a.yaml", GOOD)
    exemption = "{{policy: memory-limits, match: {{namespaces: [shop]}}, owner: sre, reason: moving, until: {}}}"
    lines = [f"  - {exemption.format(until)}" for until in ("2020-01-01", "2999-12-31")]
    write("config.yaml", "\n".join(["exemptions:", *lines]))
    ended = run("check", "a.yaml", "--config", "config.yaml")
    assert ended.err.splitlines() == [
        "note: config.yaml: exemptions[0] (memory-limits, owner sre) expired on 2020-01-01 and no longer counts",
        "note: config.yaml: exemptions[1] (memory-limits, owner sre) covers nothing in these files",
    ]


def test_used_exemption_is_not_told(write: Write, run: Run) -> None:
    write("a.yaml", BARE)
    write("config.yaml", EXEMPT)
    assert run("check", "a.yaml", "--config", "config.yaml").err == ""


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour(
    write: Write, run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_coloured: bool
) -> None:
    write("a.yaml", BARE)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in run("check", "a.yaml").out) is is_coloured


def test_errors_are_one_line_on_standard_error(write: Write, run: Run) -> None:
    write("config.yaml", "mode: denyy\n")
    write("a.yaml", GOOD)
    ended = run("check", "a.yaml", "--config", "config.yaml")
    assert (ended.out, ended.err.count("\n")) == ("", 1)
    assert "config.yaml:1" in ended.err
    assert run("check", "a.yaml", "--config", "none.yaml").err == "forestall: none.yaml: No such file or directory\n"


def test_interrupt_ends_with_130(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.yaml", GOOD)

    def interrupt(*_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check_files", interrupt)
    assert run("check", "a.yaml").code == 130


def test_bug_never_looks_like_a_denial(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.yaml", GOOD)
    monkeypatch.setattr(check, "check_files", lambda *_arguments, **_options: 1 / 0)
    ended = run("check", "a.yaml")
    assert (ended.code, "our bug" in ended.err, "ZeroDivisionError" in ended.err) == (3, True, True)


def test_policies_failure_is_told_and_denies_nothing(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.memory_limits import policy  # noqa: PLC0415

    monkeypatch.setattr(policy, "read_workload", lambda request: 1 / 0)
    write("a.yaml", BARE)
    ended = run("check", "a.yaml", "--output", "json")
    assert ended.code == 0
    assert [result["outcome"] for result in json.loads(ended.out)["results"]] == ["failed"]
    assert "policy memory-limits failed, which is our bug" in ended.err


def test_facts_that_could_not_be_read_are_told_as_that(write: Write, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unread = replace(NO_FACTS, read_at=datetime(2026, 11, 21, tzinfo=UTC), known=frozenset({NODES}))
    monkeypatch.setattr(facts_file, "read_facts", lambda *_: unread)
    write("a.yaml", BARE)
    write("facts.yaml", "")
    ended = run("check", "a.yaml", "--facts", "facts.yaml", "--output", "json")
    (result,) = json.loads(ended.out)["results"]
    assert (ended.code, ended.err, result["outcome"], result["mode"]) == (0, "", "unknown", "warn")
    assert result["message"] == (
        "could not decide: container 'web' has no memory limit, and the LimitRanges of namespace shop, which may give "
        "it one, could not be read"
    )


def forestall(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import sys; from webhook.cli import main; sys.exit(main())", *arguments]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **options.pop("env", {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, **options)


def test_closed_pipe_is_quiet(write: Write) -> None:
    objects = [{**BARE, "metadata": {"name": f"bare-{index}", "namespace": "shop"}} for index in range(400)]
    write("a.yaml", *objects)
    # Unbuffered, Python itself drops what a closed pipe doesn't take.
    with forestall("check", "a.yaml", env={"PYTHONUNBUFFERED": ""}) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_json_is_utf_8_whatever_the_terminal(write: Write) -> None:
    name = "päckchen"
    write("a.yaml", workload("Deployment", container(name), name="bare"))
    with forestall("check", "a.yaml", "--output", "json", env={"PYTHONIOENCODING": "ascii"}) as process:
        assert json.loads(process.communicate()[0])["results"][0]["container"] == name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "a.yaml"],
        ["check", "a.yaml", "--output", "json"],
        ["config", "check", "config.yaml"],
        ["config", "schema"],
        ["explain"],
        ["version"],
    ],
)
def test_output_that_cannot_be_written_is_one_line(write: Write, arguments: list[str]) -> None:
    write("a.yaml", BARE)
    write("config.yaml", DENY)
    with Path("/dev/full").open("wb") as full, forestall(*arguments, stdout=full) as process:
        assert process.communicate()[1] == b"forestall: standard output: No space left on device\n"
    assert process.returncode == 2


def test_closed_output_is_one_line(write: Write) -> None:
    write("a.yaml", BARE)
    with forestall("check", "a.yaml", stdout=None, preexec_fn=partial(os.close, 1)) as process:
        assert process.communicate()[1] == b"forestall: standard output is closed\n"
    assert process.returncode == 2


def test_closed_standard_error_hides_no_result(write: Write) -> None:
    write("a.yaml", BARE)
    with forestall("check", "a.yaml", "missing.yaml", stderr=None, preexec_fn=partial(os.close, 2)) as process:
        assert b"memory-limits" in process.communicate()[0]
    assert process.returncode == 2


def test_closed_input_is_an_error_among_others(write: Write) -> None:
    write("a.yaml", BARE)
    closed = partial(os.close, 0)
    with forestall("check", "-", "a.yaml", "--output", "json", preexec_fn=closed) as process:
        document = json.loads(process.communicate()[0])
    assert (process.returncode, len(document["results"])) == (2, 1)
    assert document["errors"] == [{"file": "<stdin>", "line": 1, "message": "not readable: standard input is closed"}]


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Not root, who may read everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(65534, 65534, 0)
    yield
    if is_root:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("paths", [["deploy"], ["deploy/secret", "deploy/a.yaml", "deploy/z.yaml"]])
def test_what_cannot_be_read_hides_nothing(
    write: Write, run: Run, request: pytest.FixtureRequest, tmp_path: Path, paths: list[str]
) -> None:
    for name in ("deploy/a.yaml", "deploy/secret/b.yaml", "deploy/z.yaml"):
        write(name, BARE)
    run("check", "deploy", "--output", "json")  # imports what it needs, perhaps from a folder that only root may enter
    (tmp_path / "deploy/secret").chmod(0)
    (tmp_path / "deploy/z.yaml").chmod(0)
    tmp_path.chmod(0o755)
    request.getfixturevalue("unprivileged")
    ended = run("check", *paths, "--output", "json")
    document = json.loads(ended.out)
    assert (ended.code, [result["file"] for result in document["results"]]) == (2, ["deploy/a.yaml"])
    assert document["errors"] == [
        {"file": file, "line": 1, "message": "not readable: Permission denied"}
        for file in ("deploy/secret", "deploy/z.yaml")
    ]


@pytest.mark.parametrize("contents", ["", "kind: List\napiVersion: v1\nitems: []\n", json.dumps(BARE)])
def test_facts_of_nothing_are_refused(write: Write, run: Run, contents: str) -> None:
    write("a.yaml", BARE)
    write("facts.yaml", contents)
    ended = run("check", "a.yaml", "--facts", "facts.yaml")
    assert (ended.code, ended.out) == (2, "")
    kinds = ", ".join(kind.kind for kind in watched_kinds())
    assert ended.err == f"forestall: facts.yaml: holds no {kinds}: did `{kubectl_get(watched_kinds())}` fail?\n"


def test_the_line_that_facts_come_from() -> None:
    assert kubectl_get([LIMIT_RANGES, STORAGE_CLASSES]) == (
        "kubectl get limitranges,storageclasses.storage.k8s.io -A -o yaml"
    )


def test_what_the_api_server_refuses_is_unreadable(write: Write, run: Run) -> None:
    limits = limit_range()
    limits["spec"]["limits"] = [{"type": "Container", "maxLimitRequestRatio": {"memory": 0}}]
    write("a.yaml", workload("Deployment", container(**sized("-1Gi")), name="less"), limits)
    document = judged(run, "a.yaml")
    negative, ratio = (error["message"] for error in document["errors"])
    path = "spec.template.spec.containers[0].resources.limits.memory"
    assert negative == f"Deployment: {path}: -1Gi is negative, which the API server refuses"
    path = "spec.limits[0].maxLimitRequestRatio.memory"
    assert ratio.endswith(f": {path}: 0 is below 1, which the API server refuses")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["controller", "--kubeconfig", "kubeconfig"], id="controller"),
        pytest.param(["serve", "--self-signed", "--kubeconfig", "kubeconfig", "--port", "0"], id="serve"),
    ],
)
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "kubeconfig").write_text(kubeconfig({"server": "https://127.0.0.1:1"}))
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with forestall(*arguments, "--metrics-port", str(port), cwd=tmp_path) as process:
            lines = process.communicate(timeout=30)[1].decode().splitlines()
    assert (process.returncode, lines) == (2, [f"forestall: port {port}: Address already in use"])


def test_version_loads_no_policies() -> None:
    code = (
        "import sys; from webhook.cli import main; main(['version']);"
        "print(sorted(set(sys.modules) & {'yaml', 'webhook.engine', 'policies', 'kubernetes', 'flask'}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert printed.stdout == f"forestall {__version__}\n[]\n"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).out == f"forestall {__version__}\n"


def test_explain_lists_policies(run: Run) -> None:
    names = [line.split()[0] for line in run("explain").out.splitlines()]
    assert names == list(load_policies())


@pytest.mark.parametrize("policy", load_policies())
def test_explain_prints_the_policies_page(run: Run, policy: str) -> None:
    page = Path(__file__).parents[1] / "policies" / policy.replace("-", "_") / "README.md"
    ended = run("explain", policy)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"# {policy}")
    assert re.findall(r"\]\((?!https?://)", ended.out) == [], "a link that leads nowhere outside the repository"
    assert re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", page.read_text()) == re.sub(
        r"\[([^\]]+)\]\([^)]+\)", r"\1", ended.out
    )


def test_explain_suggests_the_right_name(run: Run) -> None:
    ended = run("explain", "memory-limit")
    assert (ended.code, ended.out) == (2, "")
    assert "did you mean 'memory-limits'?" in ended.err


def test_config_schema_is_json(run: Run) -> None:
    schema = json.loads(run("config", "schema").out)
    assert set(schema["properties"]["policies"]["properties"]) >= {"memory-limits", "zonal-volumes"}


def test_config_check(write: Write, run: Run) -> None:
    write("good.yaml", DENY)
    write("bad.yaml", "mode: deny\npolicies: {memory-limits: {mode: dney}}\n")
    good, bad = run("config", "check", "good.yaml"), run("config", "check", "bad.yaml")
    assert (good.code, good.out, good.err) == (0, "good.yaml: valid\n", "")
    assert (bad.code, bad.out, bad.err.count("\n")) == (2, "", 1)
    assert "bad.yaml:2" in bad.err


@pytest.mark.parametrize(
    ("given", "options", "code", "out", "err"),
    [
        pytest.param(DENY, [], 0, "<stdin>: valid\n", "", id="configuration"),
        pytest.param(
            "image: {tag: '1'}\nconfig:\n  mode: warn\n", ["--values"], 0, "<stdin>: valid\n", "", id="values"
        ),
        pytest.param("image: {tag: '1'}\n", ["--values"], 0, "<stdin>: valid\n", "", id="values-without-any"),
        pytest.param(
            "config:\n  mode: none\n  ratchet: x\n",
            ["--values"],
            2,
            "",
            "forestall: <stdin>:2: config.mode: 'none' is not one of off, audit, warn, patch, deny\n"
            "forestall: <stdin>:3: config.ratchet: 'x' is not true or false\n",
            id="every-error-of-values",
        ),
        pytest.param(
            "mode: warn\nconfig: {mode: warn}\n",
            ["--values"],
            2,
            "",
            "forestall: <stdin>:1: mode: the chart's values have this below `config`; check a configuration itself "
            "without --values\n",
            id="a-configuration-as-values",
        ),
        pytest.param(
            "image: {tag: '1'}\nconfig: {mode: warn}\n",
            [],
            2,
            "",
            "forestall: <stdin>:2: config: unknown field: is this a values file of the chart? `forestall config check "
            "--values` reads one\n",
            id="values-as-a-configuration",
        ),
        pytest.param(
            "apiVersion: v1\nkind: ConfigMap\ndata: {config.yaml: 'mode: warn'}\n",
            [],
            2,
            "",
            "forestall: <stdin>:1: apiVersion: this is a Kubernetes object; the configuration is the text that its "
            "data holds\n",
            id="the-ConfigMap-as-a-configuration",
        ),
    ],
)
def test_config_check_of_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch, given: str, options: list[str], code: int, out: str, err: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    ended = run("config", "check", *options, "-")
    assert (ended.code, ended.out, ended.err) == (code, out, err)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    ended = run("completion", shell)
    assert (ended.code, f"_FORESTALL_COMPLETE={shell}_complete" in ended.out, ended.err) == (0, True, "")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["che"], ["check", ":0"]),
        (["explain", "mem"], ["memory-limits", ":0"]),
        (["config", ""], ["check", "schema", ":0"]),
        (["check", "--output", "js"], ["json", ":0"]),
    ],
)
def test_kubectl_completes(tmp_path: Path, run: Run, words: list[str], completed: list[str]) -> None:
    script = tmp_path / "kubectl_complete-forestall"
    script.write_text(run("completion", "kubectl").out)
    program = tmp_path / "forestall"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom webhook.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ended = subprocess.run([script, *words], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.split() == completed


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no-certificate"),
        pytest.param(["--tls-cert", "cert.pem"], id="no-key"),
        pytest.param(["--tls-cert", "c", "--tls-key", "k", "--self-signed"], id="two-certificates"),
        pytest.param(["--self-signed", "--facts", "f", "--kubeconfig", "k"], id="facts-from-two-places"),
        pytest.param(["--self-signed", "--port", "70000"], id="no-such-port"),
        pytest.param(["--self-signed", "--client-ca", "c"], id="clients-for-a-trial"),
    ],
)
def test_serve_refuses(run: Run, arguments: list[str]) -> None:
    assert run("serve", *arguments).code == 2


def test_serve_hands_everything_to_the_server(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from webhook.server import serve as server  # noqa: PLC0415

    given = []

    def serve(settings: server.ServerSettings) -> int:
        given.append(settings)
        return 0

    monkeypatch.setattr(server, "serve", serve)
    arguments = [
        "--config",
        "c",
        "--facts",
        "f",
        "--tls-cert",
        "cert",
        "--tls-key",
        "key",
        "--client-ca",
        "ca",
        "--port",
        "1",
        "--metrics-port",
        "2",
        "--workers",
        "3",
        "--log-level",
        "error",
    ]
    assert run("serve", *arguments).code == 0
    assert given == [
        server.ServerSettings(
            config=Path("c"),
            facts=Path("f"),
            tls_cert=Path("cert"),
            tls_key=Path("key"),
            client_ca=Path("ca"),
            port=1,
            metrics_port=2,
            workers=3,
            log_level="error",
        )
    ]


def test_config_check_names_overrides_that_are_capped(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "mode: audit\noverrides: [{match: {namespaces: [shop]}, policies: {memory-limits: {mode: deny}, "
        "zonal-volumes: {mode: audit}}}]\n"
    )
    done = run("config", "check", str(file))
    assert (done.code, done.out) == (0, f"{file}: valid\n")
    assert done.err == f"note: {file}: overrides[0].policies.memory-limits.mode is deny, capped by mode: audit\n"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["check", "a.yaml", "--cluster"], id="check"),
        pytest.param(["doctor"], id="doctor"),
        pytest.param(["hooks", "on"], id="hooks-on"),
        pytest.param(["hooks", "off"], id="hooks-off"),
        pytest.param(["audit"], id="audit"),
    ],
)
def test_a_context_says_which_cluster(write: Write, run: Run, tmp_path: Path, command: list[str]) -> None:
    write("a.yaml", BARE)
    contexts = [{"name": name, "context": {"cluster": name, "user": "u"}} for name in ("one", "two")]
    clusters = [
        {"name": name, "cluster": {"server": f"http://127.0.0.1:{at}"}} for at, name in ((1, "one"), (2, "two"))
    ]
    users = [{"name": "u", "user": {}}]
    kubeconfig = {"current-context": "one", "contexts": contexts, "clusters": clusters, "users": users}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    ended = run(*command, "--kubeconfig", str(tmp_path / "kubeconfig"), "--context", "two")
    assert ended.code != 0
    assert ("127.0.0.1:2" in ended.out + ended.err, "127.0.0.1:1" in ended.out + ended.err) == (True, False)
