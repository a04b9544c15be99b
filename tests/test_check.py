"""`forestall check` on what people really have: what the API server refuses, dumps of clusters, folders of anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import DATA, container, limit_range, sized, workload
from tests.command import Run, Write, judged
from webhook import check
from webhook.files import manifests
from webhook.files.templates import unfold
from webhook.policy import Object

# --- What the API server refuses

REFUSALS: list[Any] = json.loads((DATA / "refusals.json").read_text())


@pytest.mark.parametrize(
    ("obj", "refused"),
    [
        pytest.param(case["object"], bool(case["refused"]), id=f"{case['object']['kind']}-{index}")
        for index, case in enumerate(REFUSALS)
    ],
)
def test_what_the_api_server_refuses_is_reported(write: Write, run: Run, obj: Object, refused: bool) -> None:
    write("config.yaml", "mode: audit")
    write("a.yaml", obj)
    errors = judged(run, "a.yaml", "--config", "config.yaml")["errors"]
    assert bool(errors) == refused
    assert all("which the API server refuses" in error["message"] for error in errors)


def test_a_request_above_its_limit(write: Write, run: Run) -> None:
    write("a.yaml", workload("Deployment", container(**sized("512Mi", "1Gi"))))
    ended = run("check", "a.yaml")
    path = "spec.template.spec.containers[0].resources.limits.memory"
    assert ended.code == 2
    assert ended.err == (
        f"error: a.yaml:22: Deployment: {path}: container 'web': its request for memory, 1Gi, is above the limit 512Mi"
        ", which the API server refuses: set it to 1Gi or more\n"
    )


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        pytest.param(workload("Pod", containers=None), "Pod: spec.containers", id="null"),
        pytest.param(workload("Pod", containers=[]), "Pod: spec.containers", id="empty"),
        pytest.param(
            workload("Pod", containers=None, initContainers=[container(**sized("512Mi", "256Mi"))]),
            "Pod: spec.containers",
            id="init-containers-alone",
        ),
        pytest.param(
            workload("CronJob", containers=None), "CronJob: spec.jobTemplate.spec.template.spec.containers", id="nested"
        ),
    ],
)
def test_a_pod_without_containers(write: Write, run: Run, obj: Object, error: str) -> None:
    write("a.yaml", obj)
    document = judged(run, "a.yaml")
    assert [told["message"] for told in document["errors"]] == [
        f"{error}: a pod without containers, which the API server refuses"
    ]


def test_what_only_its_controller_refuses_is_no_error(write: Write, run: Run) -> None:
    rollout = {**workload("Deployment", container(**sized("512Mi", "1Gi"))), "apiVersion": "argoproj.io/v1alpha1"}
    write("a.yaml", {**rollout, "kind": "Rollout"})
    assert run("check", "a.yaml").code == 0


def test_a_limit_range_that_cannot_exist_gives_nothing(write: Write, run: Run) -> None:
    twice = limit_range()
    twice["spec"]["limits"] = [{"type": "Container", "default": {"memory": "1Gi"}}] * 2
    write("a.yaml", twice, workload("Pod"))
    document = judged(run, "a.yaml")
    (error,) = document["errors"]
    assert error["message"] == (
        "LimitRange: spec.limits[1].type: a second item of type Container, of which there may be one, which the API "
        "server refuses"
    )
    assert [result["outcome"] for result in document["results"]] == ["patched"]


# --- Dumps of a cluster


def owned(obj: Object, kind: str, name: str, uid: str = "u1", **metadata: Any) -> Object:
    """The object, made by the controller of that workload."""
    group = "" if kind == "Pod" else "apps/"
    reference = {"apiVersion": f"{group}v1", "kind": kind, "name": name, "uid": uid, "controller": True}
    return {**obj, "metadata": {**obj["metadata"], **metadata, "ownerReferences": [reference]}}


def called(obj: Object, uid: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "uid": uid}}


def listed(*objects: Object) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


DEPLOYMENT = workload("Deployment", name="web")
REPLICA_SET = owned(workload("ReplicaSet", name="web-1"), "Deployment", "web")
POD = owned(workload("Pod", name="web-1-x"), "ReplicaSet", "web-1", "u2")
IDLE = {**REPLICA_SET, "spec": {**REPLICA_SET["spec"], "replicas": 0}}


@pytest.mark.parametrize(
    ("objects", "kinds"),
    [
        pytest.param([called(DEPLOYMENT, "u1"), called(REPLICA_SET, "u2"), POD], ["Deployment"], id="chain"),
        pytest.param([called(REPLICA_SET, "u2"), POD], ["ReplicaSet"], id="the-topmost-that-is-there"),
        pytest.param([POD], ["Pod"], id="typed-reference"),
        pytest.param([called(DEPLOYMENT, "other"), REPLICA_SET], ["Deployment", "ReplicaSet"], id="another-uid"),
        pytest.param([DEPLOYMENT, REPLICA_SET], ["Deployment", "ReplicaSet"], id="manifests-without-uids"),
        pytest.param([listed(DEPLOYMENT, REPLICA_SET)], ["Deployment"], id="list-without-uids"),
        pytest.param([called(IDLE, "u9")], [], id="old-replica-set"),
        pytest.param([IDLE], ["ReplicaSet"], id="idle-by-a-typed-reference"),
        pytest.param(
            [called(IDLE, "u2"), POD],
            ["Pod"],
            id="what-nobody-answers-for-answers-for-nothing",
        ),
        pytest.param(
            [
                called(owned(workload("Pod", name="a"), "Pod", "b", "u2"), "u1"),
                called(owned(workload("Pod", name="b"), "Pod", "a", "u1"), "u2"),
            ],
            ["Pod", "Pod"],
            id="a-circle",
        ),
    ],
)
@pytest.mark.parametrize("is_worth_two", [False, True])
def test_a_dump_is_judged_at_its_owners(
    write: Write,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    objects: list[Object],
    kinds: list[str],
    is_worth_two: bool,
) -> None:
    monkeypatch.setattr(check, "is_worth_two", lambda _files: is_worth_two)
    for index, obj in enumerate(objects):
        write(f"{index}.yaml", obj)
    document = judged(run, ".")
    assert [result["kind"] for result in document["results"]] == kinds
    assert document["summary"]["workloads"] == len(kinds)


DUMP = f"""\
apiVersion: v1
items:
{yaml.safe_dump([called(DEPLOYMENT, "u1"), REPLICA_SET])}\
- apiVersion: v1
  kind: Pod
  metadata: {{name: loose, namespace: shop}}
  spec:
    containers:
    - {{name: web, image: nginx}}
kind: List
metadata:
  resourceVersion: ""
"""
BROKEN_DUMP = DUMP.replace("- {name: web, image: nginx}", "- {name: web, image: nginx")
ODD_DUMP = DUMP.replace("kind: Pod\n", "Kind: Pod\n")
FOLDED_DUMP = DUMP.replace("name: loose", 'name: "lo\\\n- ose"')


@pytest.mark.parametrize("text", [DUMP, BROKEN_DUMP, ODD_DUMP, FOLDED_DUMP, json.dumps(yaml.safe_load(DUMP), indent=1)])
def test_a_long_list_is_read_item_by_item_as_it_is_read_whole(
    write: Write, run: Run, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    write("a.yaml", text)
    whole = judged(run, "a.yaml")
    monkeypatch.setattr(manifests, "LARGE", 1)
    by_item = judged(run, "a.yaml")
    if text == BROKEN_DUMP:  # what stands before the fault is judged
        assert (len(whole["results"]), len(by_item["results"])) == (0, 1)
        whole["results"] = by_item["results"]
        whole["summary"] = by_item["summary"]
    assert by_item == whole


_PEAK = """
import resource, sys
from webhook.cli import main
main(["check", sys.argv[1], "--output", "json"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def peak(file: str) -> int:
    """Bytes that check holds at most for this file."""
    ended = subprocess.run([sys.executable, "-c", _PEAK, file], capture_output=True, text=True, check=True)
    return int(ended.stderr.split()[-1])


def test_a_dump_takes_no_more_than_four_times_its_size(write: Write) -> None:
    pods = [
        called(
            owned(
                workload("Pod", container(env=[{"name": "A", "value": "a" * 500}]), name=f"web-1-{index}"),
                "ReplicaSet",
                "web-1",
            ),
            f"p{index}",
        )
        for index in range(6000)
    ]
    dump = write("dump.yaml", DUMP.replace("kind: List", yaml.dump(pods, Dumper=yaml.CSafeDumper) + "kind: List"))
    write("small.yaml", DUMP)
    assert peak("dump.yaml") - peak("small.yaml") < 4 * dump.stat().st_size


# --- OpenShift's Templates

TEMPLATE: Object = {
    "apiVersion": "template.openshift.io/v1",
    "kind": "Template",
    "metadata": {"name": "shop"},
    "parameters": [{"name": "MEMORY", "value": "256Mi"}, {"name": "OPEN"}, {"name": "COUNT", "value": "2"}],
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(sized("${MEMORY}"), [], id="value"),
        pytest.param({}, [("memory-limits", "patched")], id="nothing-open"),
        pytest.param(sized("${OPEN}"), [("memory-limits", "unknown")], id="open-amount"),
        pytest.param({**sized("1Gi"), "image": "${OPEN}:v3"}, [("prometheus-memory", "unknown")], id="open-image"),
        pytest.param({**sized("1Gi"), "image": "shop/${OPEN}-web"}, [], id="open-part-that-nothing-depends-on"),
        pytest.param({**sized("1Gi"), "args": ["${SHELL_VARIABLE}"]}, [], id="no-parameter"),
    ],
)
def test_a_template_is_unfolded(write: Write, run: Run, fields: Object, expected: list[tuple[str, str]]) -> None:
    web = workload("Deployment", {**container(), **fields})
    write("a.yaml", {**TEMPLATE, "objects": [web]})
    ended = run("check", "a.yaml", "--output", "json")
    document = json.loads(ended.out)
    assert [(result["policy"], result["outcome"]) for result in document["results"]] == expected
    assert (ended.code, document["errors"], document["summary"]["objects"]) == (0, [], 1)
    assert all("OPEN" in result["message"] for result in document["results"] if result["outcome"] == "unknown")


def test_a_whole_value_is_no_text() -> None:
    web = workload("Deployment", container(**sized("1Gi")))
    web["spec"]["replicas"] = "${{COUNT}}"
    (obj,) = [unfolded.object for unfolded in unfold({**TEMPLATE, "objects": [web]})]
    assert obj["spec"]["replicas"] == 2


# --- Folders of anything

FOLDERS = DATA / "folders"
FOREIGN = "hold no Kubernetes object, or not only such"


def noted(err: str) -> list[str]:
    return [line.removeprefix("note: ") for line in err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize(
    ("folder", "arguments", "names", "notes"),
    [
        pytest.param(
            "web",
            [],
            ["web"],
            [f"4 of the files {FOREIGN}: web/package.json, web/playbook.yml, web/tsconfig.json, web/values.yaml"],
            id="other-things",
        ),
        pytest.param("web", ["--exclude", "*.json", "--exclude", "web/[pv]*"], ["web"], [], id="excluded"),
        pytest.param(
            "ci",
            [],
            [],
            [f"1 of the files {FOREIGN}: ci/workflows/test.yaml"],
            id="workflows",
        ),
        pytest.param("ci", ["--exclude", "workflows"], [], [], id="excluded-folder"),
        pytest.param("chart", [], [], ["chart is a chart: helm template chart | forestall check -"], id="chart"),
        pytest.param("base", [], ["base"], [], id="kustomization-without-patches"),
        pytest.param(
            "overlay", [], [], ["overlay has patches: kustomize build overlay | forestall check -"], id="patches"
        ),
    ],
)
def test_what_is_no_object_is_no_error_in_a_folder(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    arguments: list[str],
    names: list[str],
    notes: list[str],
) -> None:
    monkeypatch.chdir(FOLDERS)
    ended = run("check", folder, "--output", "json", *arguments)
    document = json.loads(ended.out)
    assert [result["name"] for result in document["results"]] == names
    assert (ended.code, document["errors"]) == (0, [])
    assert [note for note in noted(ended.err) if "depends on the cluster" not in note] == notes


@pytest.mark.parametrize(
    ("path", "arguments", "code"),
    [
        pytest.param("web/values.yaml", [], 2, id="named"),
        pytest.param("web/values.yaml", ["--unknown", "skip"], 0, id="named-and-skipped"),
        pytest.param("web", ["--unknown", "error"], 2, id="in-a-folder-and-an-error"),
        pytest.param("overlay/memory.yaml", [], 0, id="a-patch-that-is-named"),
    ],
)
def test_what_a_file_without_objects_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, path: str, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(FOLDERS)
    assert run("check", path, *arguments).code == code


def test_a_kustomization_that_is_named_is_to_be_built(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDERS)
    built = "overlay/kustomization.yaml is a kustomization: kustomize build overlay | forestall check -"
    assert built in noted(run("check", "overlay/kustomization.yaml").err)
    monkeypatch.chdir(FOLDERS / "overlay")
    built = "kustomization.yaml is a kustomization: kustomize build . | forestall check -"
    assert built in noted(run("check", "kustomization.yaml").err)


def test_an_object_with_a_slip_is_an_error_in_a_folder_too(write: Write, run: Run) -> None:
    write("deploy/a.yaml", {**DEPLOYMENT, "kind": ""}, "apiVersion: v1\nkind: [unclosed\n")
    assert [error["message"] for error in judged(run, "deploy")["errors"]] == [
        "not a Kubernetes object: no 'kind'",
        "broken YAML: while parsing a flow sequence, did not find expected ',' or ']'",
    ]


HELM_4 = "Pulled: registry.example.com/charts/web:1.0.0\nDigest: sha256:" + "0" * 64 + "\n---\n"


@pytest.mark.parametrize(("text", "code"), [(HELM_4, 0), (f"---\n{HELM_4}", 2)])
def test_what_helm_prints_before_the_first_document(write: Write, run: Run, text: str, code: int) -> None:
    write("a.yaml", text + json.dumps(workload("Pod", container(**sized("1Gi", "1Gi")))))
    assert run("check", "a.yaml").code == code


# --- The configuration that is found

DENY = "policies: {memory-limits: {mode: deny}}\n"


@pytest.mark.parametrize(
    ("named", "arguments", "code", "note"),
    [
        pytest.param("", [], 1, "configuration: {folder}/.forestall.yaml", id="above"),
        pytest.param("audit.yaml", [], 0, "configuration: audit.yaml (FORESTALL_CONFIG)", id="environment"),
        pytest.param("audit.yaml", ["--config", ".forestall.yaml"], 1, "", id="named-wins"),
    ],
)
def test_the_configuration_is_found_and_told(
    write: Write,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    named: str,
    arguments: list[str],
    code: int,
    note: str,
) -> None:
    write(".forestall.yaml", DENY)
    write("audit.yaml", f"mode: audit\n{DENY}")
    write("a.yaml", DEPLOYMENT)
    if named:
        monkeypatch.setenv("FORESTALL_CONFIG", named)
    else:
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
    ended = run("check", str(tmp_path / "a.yaml"), *arguments)
    told = [line for line in noted(ended.err) if line.startswith("configuration")]
    assert (ended.code, told) == (code, [note.format(folder=tmp_path)] if note else [])
