"""Files in, objects out: what kubectl reads, where it stands, and what is said of what can't be read."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.builders import DATA, SHARED
from webhook.files.folders import find_files
from webhook.files.manifests import Manifest, read_file, read_manifests

MANIFESTS = DATA / "manifests"
KUBECTL = json.loads((MANIFESTS / "kubectl.json").read_text())
SERVICE = "apiVersion: v1\nkind: Service\n"
HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def read(text: str | bytes) -> tuple[list[Manifest], list[str]]:
    manifests, errors = read_manifests(text if isinstance(text, bytes) else text.encode(), "f")
    return manifests, [str(error) for error in errors]


def objects(text: str | bytes) -> list[Any]:
    manifests, errors = read(text)
    assert errors == []
    return [manifest.object for manifest in manifests]


def exactly(value: Any) -> str:
    """Text in which 1, 1.0 and true differ, unlike in Python."""
    return json.dumps(value, sort_keys=True)


# What kubectl reads: `kubectl label --local -f - -o json x=y` of kubectl 1.36


@pytest.mark.parametrize("case", KUBECTL["values"], ids=lambda case: ascii(case["value"]))
def test_values_are_read_as_kubectl_reads_them(case: dict[str, Any]) -> None:
    manifests, errors = read(f"{HEAD}d: {case['value']}\n")
    if case.get("refused"):
        assert (len(manifests), len(errors)) == (0, 1)
    else:
        assert errors == []
        assert exactly(manifests[0].object["d"]) == exactly(case["read"])


@pytest.mark.parametrize("case", KUBECTL["streams"], ids=lambda case: ascii(case["text"])[:60])
def test_streams_are_read_as_kubectl_reads_them(case: dict[str, Any]) -> None:
    manifests, errors = read(case["text"])
    assert exactly([manifest.object for manifest in manifests]) == exactly(case["objects"])
    assert bool(errors) == case["refused"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_content(encoding: str) -> None:
    assert objects((SERVICE + "name: é\n").encode(encoding)) == [{"apiVersion": "v1", "kind": "Service", "name": "é"}]


def test_aliases_are_values_of_their_own() -> None:
    (deployment,) = objects((MANIFESTS / "aliases.yaml").read_bytes())
    first, second = deployment["spec"]["template"]["spec"]["containers"]
    assert second["resources"] == {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}
    first["resources"]["limits"]["memory"] = "1Gi"
    assert second["resources"]["limits"] == {"memory": "64Mi"}


# Lists


def test_lists_are_unfolded_with_lines_of_their_own() -> None:
    manifests, errors = read((MANIFESTS / "list.yaml").read_bytes())
    assert errors == []
    assert [
        (m.line, m.object["kind"], m.object["metadata"]["name"], m.line_of("metadata.name")) for m in manifests
    ] == [
        (4, "Service", "one", 6),
        (10, "Service", "two", 13),
        (17, "Pod", "three", 18),
    ]


def test_json_lists_have_lines_too() -> None:
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [{"apiVersion": "v1", "kind": "A", "x\ud83d\ude00": {"y": 1}}] * 2,
    }
    text = json.dumps(listed, indent="\t")
    manifests, errors = read("\n" + text)
    assert errors == []
    assert [(m.line, m.line_of("kind")) for m in manifests] == [(6, 8), (13, 15)]


# Lines


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("", 2, id="the-object"),
        pytest.param("spec.template.spec.containers[0].resources.limits.memory", 17, id="there"),
        pytest.param("spec.template.spec.containers[0].resources.requests.memory", 15, id="nearest-ancestor"),
        pytest.param("spec.template.spec.containers[1]", 18, id="item"),
        pytest.param("spec.template.spec.containers[2].image", 12, id="item-that-is-not-there"),
        pytest.param("spec.template.spec.containers[1].resources.limits.memory", 17, id="merged"),
        pytest.param("spec.template.spec.containers[1].resources.requests", 22, id="beside-the-merge"),
        pytest.param("spec.template.metadata.labels.app", 7, id="through-an-alias"),
        pytest.param("metadata.name.first", 5, id="below-a-scalar"),
        pytest.param("specs", 2, id="only-the-start-of-a-key"),
    ],
)
def test_line_of(path: str, line: int) -> None:
    (manifest,) = read(b"---\n" + (MANIFESTS / "aliases.yaml").read_bytes())[0]
    assert manifest.line_of(path) == line + 1


def test_line_of_knows_keys_with_dots_and_later_documents() -> None:
    text = f"{SERVICE}---\n# comment\n{SERVICE}metadata:\n  annotations:\n    a.b/c: x\n    a.b/c.d: {{e: 1}}\n"
    _, second = read(text)[0]
    assert (second.line, second.line_of("metadata.annotations.a.b/c.d.e")) == (5, 10)


# What can't be read

HINT = "; looks like a template: render it first (helm template … | forestall check -)"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param("a: b\n", ["f:1: not a Kubernetes object: no 'kind'"], id="values-file"),
        pytest.param("---\n\nkind: A\n", ["f:3: not a Kubernetes object: no 'apiVersion'"], id="no-version"),
        pytest.param("- a\n", ["f:1: not a Kubernetes object: a list, not a mapping"], id="list"),
        pytest.param(
            "kind: A\napiVersion: a/b/c\n", ["f:1: not a Kubernetes object: apiVersion 'a/b/c'"], id="version"
        ),
        pytest.param(SERVICE + "metadata: x\n", ["f:1: 'metadata' of Service is text, not a mapping"], id="metadata"),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems: 3\n", ["f:1: 'items' of List is a number, not a list"], id="items"
        ),
        pytest.param(
            "apiVersion: v1\nkind: List\nitems:\n- x\n- kind: A\n",
            [
                "f:4: items[0]: not a Kubernetes object: text, not a mapping",
                "f:5: items[1]: not a Kubernetes object: no 'apiVersion'",
            ],
            id="bad-items",
        ),
        pytest.param(b"a: 1\nb: \xe9\n", ["f:2: not UTF-8: byte 0xe9; save the file as UTF-8"], id="latin-1"),
        pytest.param(
            '{"apiVersion": "v1",\n "kind": "Pod"\n "metadata": {}}',
            ["f:3: broken JSON: Expecting ',' delimiter"],
            id="json",
        ),
        pytest.param(SERVICE + "a: \x01\n", ["f:3: broken YAML: control characters are not allowed"], id="control"),
        pytest.param(SERVICE + "a: .inf\n", ["f:3: .inf is no value in JSON"], id="infinite"),
        pytest.param("--- a\n", ["f:1: text after the separator '---': put it on a line of its own"], id="separator"),
        pytest.param(
            "a: [\n", ["f:2: broken YAML: while parsing a flow node, did not find expected node content"], id="flow"
        ),
        pytest.param(SERVICE + "a: {{ .Values.x }}\n", ["f:3: a mapping or list as a key" + HINT], id="template-value"),
        pytest.param(
            "{{- if .Values.x }}\na: b\n{{- end }}\n",
            ["f:1: broken YAML: while parsing a flow node, did not find expected node content" + HINT],
            id="template-line",
        ),
        pytest.param(
            SERVICE + "a:\n  {{- toYaml .Values.x | nindent 2 }}\n",
            ["f:4: broken YAML: while parsing a flow node, did not find expected node content" + HINT],
            id="template-block",
        ),
        pytest.param(
            SERVICE + 'a: "{{ $labels.x }}"\nb:\nc: d: e\n',
            ["f:5: broken YAML: mapping values are not allowed in this context"],
            id="no-template",
        ),
        pytest.param(
            SERVICE + "a: &x [*x]\n", ["f:3: nested deeper than 200 levels, or an anchor contains itself"], id="itself"
        ),
        pytest.param(
            SERVICE
            + "a: &a [0,0,0,0,0,0,0,0,0,0]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            ["f:3: aliases unfold to more than 400,000 values"],
            id="billion-laughs",
        ),
    ],
)
def test_errors(text: str | bytes, errors: list[str]) -> None:
    manifests, said = read(text)
    assert (manifests, said) == ([], errors)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
@pytest.mark.parametrize("levels", [201, 5_000, 200_000])
def test_nesting_is_bounded(opening: str, levels: int) -> None:
    closing = {"[": "]", "{a: ": "}"}.get(opening, "")
    manifests, errors = read(f"{SERVICE}a:\n {opening * levels}x{closing * levels}\n")
    assert (manifests, len(errors)) == ([], 1)


def test_deep_json_is_bounded() -> None:
    for levels in (250, 5_000, 100_000):
        _, errors = read('{"apiVersion": "v1", "kind": "A", "a": ' + "[" * levels + "]" * levels + "}")
        assert errors == ["f:1: nested deeper than 200 levels, or an anchor contains itself"]


def test_a_broken_document_leaves_the_others() -> None:
    text = f"{SERVICE}---\na: [\n---\n{SERVICE}...\nlost: 1\n---\n{SERVICE}"
    manifests, errors = read(text)
    assert [manifest.line for manifest in manifests] == [1, 6, 11]
    assert [error.split(" ")[0] for error in errors] == ["f:5:", "f:9:"]


def test_line_of_json_that_is_no_yaml_is_its_first_line() -> None:
    (manifest,), errors = read('\n{"apiVersion": "v1", "kind": "A",\n "%s": 1}' % ("k" * 1100))
    assert errors == []
    assert manifest.line_of("kind") == 2


# Files


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        pytest.param(["folder"], ["folder/a.json", "folder/b.yaml", "folder/nested/c.yml"], id="folder"),
        pytest.param(["folder/notes.txt", "folder/b.yaml"], ["folder/notes.txt", "folder/b.yaml"], id="files-as-named"),
        pytest.param(["folder/*.yaml"], ["folder/b.yaml"], id="glob"),
        pytest.param(["fold*"], ["folder/a.json", "folder/b.yaml", "folder/nested/c.yml"], id="glob-of-folders"),
        pytest.param(["./folder/**/*.y*ml"], ["./folder/b.yaml", "./folder/nested/c.yml"], id="recursive-glob"),
        pytest.param(["-", "list.yaml", "list.yaml"], ["-", "list.yaml"], id="each-once"),
    ],
)
def test_find_files(paths: list[str], files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MANIFESTS)
    assert list(find_files(paths).files) == files


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("nowhere.yaml", "no such file or folder", id="missing"),
        pytest.param("*.toml", "no file matches this pattern", id="glob"),
        pytest.param("empty", "no *.yaml, *.yml or *.json file in this folder", id="empty-folder"),
    ],
)
def test_find_files_refuses(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [str(error) for error in find_files([path]).errors] == [f"{path}:1: {message}"]


def test_a_recursive_glob_passes_over_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.yaml").write_text(SERVICE)
    assert list(find_files([f"{tmp_path}/**"]).files) == [f"{tmp_path}/a.yaml"]


def test_read_file_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SERVICE.encode())))
    (manifest,), errors = read_file("-")
    assert (manifest.file, manifest.line, errors) == ("<stdin>", 1, [])


def test_read_file_reports_a_file_that_went_away(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.yaml")
    manifests, errors = read_file(gone)
    assert (manifests, [str(error) for error in errors]) == ([], [f"{gone}:1: not readable: No such file or directory"])


# Real files


class PlainLoader(yaml.CSafeLoader):
    """PyYAML as it is, but for "=", of which it makes nothing, and for timestamps, which Kubernetes keeps as text."""


for _tag in ("value", "timestamp"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", lambda _, node: node.value)


@pytest.mark.parametrize("folder", ["corpus", "cluster/crds"])
def test_real_files_are_read_whole(folder: str) -> None:
    if not (SHARED / folder).exists():
        pytest.skip("no ../shared beside this checkout")
    for file in find_files([str(SHARED / folder)]).files:
        manifests, errors = read_file(file)
        assert errors == []
        expected: list[Any] = []
        for document in yaml.load_all(Path(file).read_bytes(), PlainLoader):
            if document:
                expected += document["items"] if document["kind"].endswith("List") else [document]
        assert [manifest.object for manifest in manifests] == expected


# Whatever there is

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


def is_written_plainly(value: Any) -> bool:
    """Whether PyYAML leaves the quotes off some text that kubectl reads as something else, such as 1E0 or y."""
    if isinstance(value, dict):
        return any(map(is_written_plainly, value)) or any(map(is_written_plainly, value.values()))
    if isinstance(value, list):
        return any(map(is_written_plainly, value))
    return isinstance(value, str) and bool(re.match(r"[-+.]*\d|[yYnN]$", value))


@given(VALUES)
@settings(deadline=None)
def test_json_comes_back(value: Any) -> None:
    written = {"apiVersion": "v1", "kind": "A", "value": value}
    assert objects(json.dumps(written)) == [written]
    assert objects(json.dumps(written, indent=2, ensure_ascii=False) + "\n" + json.dumps(written)) == [written, written]


@given(VALUES, st.booleans(), st.sampled_from([yaml.SafeDumper, yaml.CSafeDumper]))
@settings(deadline=None)
def test_yaml_comes_back(value: Any, is_flow: bool, dumper: Any) -> None:
    assume(not is_written_plainly(value))
    written = {"apiVersion": "v1", "kind": "A", "value": value}
    text = yaml.dump(written, Dumper=dumper, default_flow_style=is_flow, allow_unicode=True)
    assert objects(f"# comment\n{text}---\n{text}") == [written, written]


@given(st.binary() | TEXTS.map(lambda text: (SERVICE + text).encode()))
@settings(deadline=None)
def test_nothing_but_errors_comes_of_noise(text: bytes) -> None:
    manifests, errors = read(text)
    for manifest in manifests:
        assert manifest.line_of("spec.containers[0]") >= 1
    assert all("\n" not in error for error in errors)
