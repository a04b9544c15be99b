"""What `forestall check` prints, format by format."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft7Validator
from msgspec.structs import replace

from webhook.check import Report
from webhook.errors import BadManifest
from webhook.findings import Finding, JudgedObject, Place
from webhook.formats import render_github, render_json, render_junit, render_sarif, render_text, summary
from webhook.loader import load_policies
from webhook.messages import incident
from webhook.policy import Mode, Outcome, Set, Verdict, Violation

WEB = JudgedObject(Place("deploy/web.yaml", 3), "apps/v1", "Deployment", "shop", "web", containers=2, is_workload=True)
API = JudgedObject(Place("deploy/api.yaml", 1), "apps/v1", "Deployment", "shop", "api", containers=1, is_workload=True)
CLAIM = JudgedObject(Place("deploy/web.yaml", 40), "v1", "PersistentVolumeClaim", "shop", "data")
LIMIT = "spec.template.spec.containers[0].resources.limits.memory"
MISSING = Violation(
    LIMIT,
    "web",
    "container 'web' has no memory limit: set limits.memory to 512Mi",
    fix=Set(LIMIT, "512Mi"),
    hint="web.resources",
)
INCIDENT = incident("memory-limits")


def finding(
    outcome: Outcome = "denied", judged: JudgedObject = WEB, mode: Mode = "warn", note: str = "", **violation: Any
) -> Finding:
    verdict = Verdict(
        "memory-limits", "deny" if outcome == "denied" else mode, outcome, replace(MISSING, **violation), note
    )
    return Finding(judged, verdict, judged.place._replace(line=14), "web")


BROKEN = BadManifest("deploy/broken.yaml", 7, "broken YAML: 100% wrong")


def report(*findings: Finding, judged: tuple[JudgedObject, ...] = (WEB, API, CLAIM), errors: Any = ()) -> Report:
    return Report(files=2, objects=9, judged=list(judged), findings=list(findings), errors=list(errors))


def test_summary_counts() -> None:
    outcomes: tuple[Outcome, ...] = (
        "denied",
        "patched",
        "patched",
        "warned",
        "audited",
        "exempted",
        "unknown",
        "failed",
    )
    assert summary(report(*map(finding, outcomes), errors=[BROKEN])) == {
        "objects": 9,
        "workloads": 2,
        "containers": 3,
        "denied": 1,
        "patched": 2,
        "warned": 1,
        "audited": 1,
        "exempted": 1,
        "unknown": 1,
        "failed": 1,
        "unreadable": 1,
    }


def test_text_groups_by_object_and_tells_the_incident_once() -> None:
    request = "spec.template.spec.containers[0].resources.requests.memory"
    second = finding("warned", message="too small", path=request, fix=None, note="it was so before")
    assert render_text(report(finding(), second, finding(judged=API, hint=None)), 200) == (
        "Deployment shop/web  deploy/web.yaml:3\n"
        "  denied    memory-limits: container 'web' has no memory limit: set limits.memory to 512Mi\n"
        "      where deploy/web.yaml:14\n"
        "        set spec.template.spec.containers[0].resources.limits.memory: 512Mi\n"
        "        how Helm value web.resources\n"
        "  warned    memory-limits: too small (it was so before)\n"
        "      where deploy/web.yaml:14  spec.template.spec.containers[0].resources.requests.memory\n"
        "        how Helm value web.resources\n"
        f"        why {INCIDENT} (forestall explain memory-limits)\n"
        "\n"
        "Deployment shop/api  deploy/api.yaml:1\n"
        "  denied    memory-limits: container 'web' has no memory limit: set limits.memory to 512Mi\n"
        "      where deploy/api.yaml:14\n"
        "        set spec.template.spec.containers[0].resources.limits.memory: 512Mi\n"
        f"        why {INCIDENT} (forestall explain memory-limits)\n"
        "\n"
        "9 objects in 2 files checked, 2 workloads with 3 containers: 2 denied, 1 warned\n"
    )


def test_text_without_violations_says_what_was_checked() -> None:
    assert render_text(Report(files=1, objects=1, judged=[API]), 80) == (
        "1 object in 1 file checked, 1 workload with 1 container: no violations\n"
    )


def test_text_of_an_empty_input_does_not_sound_like_praise() -> None:
    assert render_text(Report(files=1), 80) == "no Kubernetes objects in 1 file\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_fits_the_terminal_but_for_what_is_to_be_copied(width: int) -> None:
    long = finding(message="a word " * 60, hint="say this " * 20)
    too_long = [line for line in render_text(report(long), width).splitlines() if len(line) > width]
    assert [line.split()[-2:] for line in too_long if "spec." not in line and "objects" not in line] == []


def test_text_styles_outcomes() -> None:
    text = render_text(report(finding("patched")), 80, lambda text, style: f"<{style}>{text}</>")
    assert "<green>patched </>  memory-limits" in text
    assert text.endswith(": <green>1 patched</>\n")


def test_json_tells_why_an_outcome_is_weaker() -> None:
    [exempted] = json.loads(render_json(report(finding("exempted", note="exempted by sre"))))["results"]
    assert (exempted["message"], exempted["outcome"]) == (f"{MISSING.message} (exempted by sre)", "exempted")


@pytest.fixture(scope="module")
def sarif_schema() -> Draft7Validator:
    schema = json.loads((Path(__file__).parent / "data/sarif/sarif-2.1.0.json").read_text())
    return Draft7Validator(schema, format_checker=Draft7Validator.FORMAT_CHECKER)


ALL = report(
    *(finding(outcome) for outcome in ("denied", "failed", "unknown", "warned", "patched", "audited")),
    finding("exempted", note="exempted by sre until 2027-01-01: moving"),
    finding("failed", mode="deny", path="", fix=None, hint=None),
    errors=[BROKEN, BadManifest("<stdin>", 1, "not UTF-8")],
)


def test_sarif_is_valid(sarif_schema: Draft7Validator) -> None:
    document = json.loads(render_sarif(ALL, 2))
    assert [error.message for error in sarif_schema.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("pages", "uri"),
    [
        pytest.param("", None, id="no-address"),
        pytest.param(
            "https://wiki.example.com/forestall", "https://wiki.example.com/forestall/memory-limits", id="one"
        ),
    ],
)
def test_sarif_s_rules_are_read_without_the_repository(pages: str, uri: str | None) -> None:
    rules = json.loads(render_sarif(ALL, 2, pages))["runs"][0]["tool"]["driver"]["rules"]
    (rule,) = [rule for rule in rules if rule["id"] == "memory-limits"]
    assert rule.get("helpUri") == uri
    text, markdown = rule["help"]["text"], rule["help"]["markdown"]
    assert text.startswith("memory-limits\n\nEvery container, init container and sidecar has a memory limit.\n")
    assert re.findall(r"^#|\*\*|```|\]\(", text, re.MULTILINE) == []
    assert "## The incident" in markdown
    assert re.findall(r"\]\((?!https?://)", markdown) == []


def test_sarif_says_it_all() -> None:
    [run] = json.loads(render_sarif(ALL, 2))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(load_policies())
    assert {rules[result["ruleIndex"]]["id"] for result in run["results"]} == {"memory-limits"}
    levels = ["error", "warning", "warning", "warning", "note", "note", "note", "error"]
    assert [result["level"] for result in run["results"]] == levels
    assert [index for index, result in enumerate(run["results"]) if "suppressions" in result] == [6]
    assert run["results"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "deploy/web.yaml"},
        "region": {"startLine": 14},
    }
    assert run["invocations"][0]["executionSuccessful"] is False
    assert [
        notification["message"]["text"] for notification in run["invocations"][0]["toolExecutionNotifications"]
    ] == [
        "broken YAML: 100% wrong",
        "not UTF-8",
    ]


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("a.yaml", "a.yaml"),
        ("./a.yaml", "a.yaml"),
        ("../shared/a b.yaml", "../shared/a%20b.yaml"),
        ("{cwd}/deploy/a.yaml", "deploy/a.yaml"),
        ("<stdin>", "stdin"),
    ],
)
def test_sarif_uris_are_relative(file: str, uri: str) -> None:
    judged = dataclasses.replace(WEB, place=Place(file.format(cwd=Path.cwd()), 3))
    [run] = json.loads(render_sarif(report(finding(judged=judged)), 1))["runs"]
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_sarif_fingerprints_tell_violations_apart_and_survive_moved_lines() -> None:
    moved = finding(judged=dataclasses.replace(WEB, place=WEB.place._replace(line=80)))
    other = finding(path="spec.template.spec.containers[1].resources.limits.memory")
    [run] = json.loads(render_sarif(report(finding(), moved, other), 1))["runs"]
    first, second, third = (result["partialFingerprints"] for result in run["results"])
    assert first == second != third


@pytest.mark.parametrize(
    ("strict", "failures"), [pytest.param(False, 2, id="denied"), pytest.param(True, 7, id="strict-all-but-exempted")]
)
def test_junit_counts(strict: bool, failures: int) -> None:
    root = ET.fromstring(render_junit(ALL, strict=strict))
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "12", "failures": str(failures), "errors": "2", "skipped": "1"}
    for element, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(root.findall(f".//{element}")) == int(root.get(name, ""))
    assert [suite.get("name") for suite in root] == [
        "deploy/web.yaml",
        "deploy/api.yaml",
        "deploy/broken.yaml",
        "stdin",
    ]
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite)


def test_junit_names_what_passes() -> None:
    root = ET.fromstring(render_junit(report(), strict=True))
    assert [(case.get("classname"), case.get("name"), len(case)) for case in root.iter("testcase")] == [
        ("deploy/web.yaml", "Deployment shop/web", 0),
        ("deploy/web.yaml", "PersistentVolumeClaim shop/data", 0),
        ("deploy/api.yaml", "Deployment shop/api", 0),
    ]


def test_junit_survives_any_text() -> None:
    nasty = finding(message='<b> & "quotes" \'n \x00 \x1b[0m ]]> ü\nsecond line')
    [failure] = ET.fromstring(render_junit(report(nasty), strict=False)).iter("failure")
    assert failure.get("message") == '<b> & "quotes" \'n \\x00 \\x1b[0m ]]> ü\nsecond line'


def test_github_annotates_each_but_the_exempted() -> None:
    *lines, total = render_github(ALL).splitlines()
    commands = [line.split(" ", 1)[0] for line in lines]
    results = ["::error", "::warning", "::warning", "::warning", "::notice", "::notice", "::error"]
    assert commands == [*results, "::error", "::error"]
    assert total.startswith("9 objects in 2 files checked")
    assert lines[0] == (
        "::error file=deploy/web.yaml,line=14,title=memory-limits%3A Deployment shop/web::"
        "denied: container 'web' has no memory limit: set limits.memory to 512Mi"
        f"%0Aset {LIMIT}: 512Mi%0Ahow: Helm value web.resources"
        f"%0Awhy: {INCIDENT} (forestall explain memory-limits)"
    )
    assert lines[-2] == "::error file=deploy/broken.yaml,line=7,title=unreadable::broken YAML: 100%25 wrong"


def test_github_escapes_file_names() -> None:
    judged = dataclasses.replace(WEB, place=Place("a,b:c%.yaml", 3))
    line = render_github(report(finding(judged=judged, message="one\r\ntwo"))).splitlines()[0]
    assert line.startswith("::error file=a%2Cb%3Ac%25.yaml,line=14,title=")
    assert r"denied: one\r%0Atwo%0Aset" in line
