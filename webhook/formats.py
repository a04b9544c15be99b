"""What `forestall check` prints: text for people, JSON, SARIF 2.1.0, JUnit and GitHub's workflow commands.

Each is a function from a report to text. docs/cli.md documents the JSON.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any, Literal

import msgspec

from webhook import __version__
from webhook.check import Report, Result, Target
from webhook.errors import BadManifest
from webhook.loader import load_policies
from webhook.messages import advice
from webhook.policy import Outcome

SCHEMA = "forestall.dev/check/v1"

Format = Literal["text", "json", "sarif", "junit", "github"]
Style = Callable[[str, str], str]
"""(text, colour or "bold" or "dim") -> text with that style, or as it was."""

_COLOURS: Mapping[Outcome, str] = {
    "denied": "red",
    "failed": "magenta",
    "unknown": "yellow",
    "warned": "yellow",
    "patched": "green",
    "audited": "blue",
    "exempted": "blue",
}
_LEVELS: Mapping[Outcome, str] = {
    "denied": "error",
    "failed": "warning",
    "unknown": "warning",
    "warned": "warning",
    "patched": "note",
    "audited": "note",
    "exempted": "note",
}


def summary(report: Report) -> dict[str, int]:
    outcomes: tuple[Outcome, ...] = ("denied", "patched", "warned", "audited", "exempted")
    return {
        "objects": report.objects,
        "workloads": sum(target.is_workload for target in report.targets),
        "containers": sum(target.containers for target in report.targets),
        **{outcome: report.count(outcome) for outcome in outcomes},
        "unreadable": len(report.errors),
    }


def _told(result: Result) -> str:
    """The message, and why the outcome is weaker than the policy's mode."""
    return f"{result.message} ({result.note})" if result.note else result.message


def _advice(result: Result) -> list[tuple[str, str]]:
    return advice(result.policy, result.fix or {}, result.hint, result.incident)


def _level(result: Result) -> str:
    return "error" if result.denies else _LEVELS[result.outcome]


# Text ----------------------------------------------------------------------------------------------------------------


def render_text(report: Report, width: int, style: Style = lambda text, _style: text) -> str:
    """Results by object and policy: what, where, what to set, how, why; then one line that sums up."""
    lines: list[str] = []
    for target, results in groupby(report.results, key=lambda result: result.target):
        lines += _object_lines(target, list(results), width, style)
    return "\n".join([*lines, _summary_line(report, style)]) + "\n"


def _object_lines(target: Target, results: list[Result], width: int, style: Style) -> Iterator[str]:
    yield f"{style(str(target), 'bold')}  {style(f'{target.file}:{target.line}', 'dim')}"
    by_policy: dict[str, list[Result]] = {}
    for result in results:
        by_policy.setdefault(result.policy, []).append(result)
    for group in by_policy.values():
        for result in group:
            yield from _result_lines(result, width, style)
        for label, text in _advice(group[0]):
            if label == "why":
                yield from _labelled(label, text, width, style)
    yield ""


def _result_lines(result: Result, width: int, style: Style) -> Iterator[str]:
    head = f"  {result.outcome:<8}  "
    first, *more = _wrapped(f"{result.policy}: {_told(result)}", width - len(head))
    yield f"  {style(f'{result.outcome:<8}', _COLOURS[result.outcome])}  {first}"
    yield from (f"{' ' * len(head)}{line}" for line in more)
    # The path is the fix's where there is one, and nobody needs to read it twice.
    is_named = result.fix is not None and result.path in result.fix
    where = f"{result.file}:{result.line}" + ("" if is_named or not result.path else f"  {result.path}")
    yield from _labelled("where", where, width, style)
    above = ""
    for label, text in _advice(result):
        if label != "why":
            yield from _labelled("" if label == above else label, text, width, style)
        above = label


def _labelled(label: str, text: str, width: int, style: Style) -> Iterator[str]:
    first, *more = _wrapped(text, width - 12)
    yield f"      {style(f'{label:>5}', 'dim')} {first}"
    yield from (f"{' ' * 12}{line}" for line in more)


def _wrapped(text: str, width: int) -> list[str]:
    # Paths and file names stay whole: they are there to be copied.
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def _summary_line(report: Report, style: Style) -> str:
    total = summary(report)
    if not report.objects and not report.errors:
        return f"no Kubernetes objects in {_count(report.files, 'file')}"
    checked = (
        f"{_count(total['objects'], 'object')} in {_count(report.files, 'file')} checked, "
        f"{_count(total['workloads'], 'workload')} with {_count(total['containers'], 'container')}"
    )
    counts = [
        style(f"{count} {outcome}", colour) for outcome, colour in _COLOURS.items() if (count := report.count(outcome))
    ]
    if report.errors:
        counts.append(style(f"{len(report.errors)} unreadable", "red"))
    return f"{checked}: {', '.join(counts) or style('no violations', 'green')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# JSON ----------------------------------------------------------------------------------------------------------------


def render_json(report: Report) -> str:
    document = {
        "schema": SCHEMA,
        "summary": summary(report),
        "results": [_json_result(result) for result in report.results],
        "errors": [{"file": error.file, "line": error.line, "message": error.message} for error in report.errors],
    }
    return _dump(document)


def _json_result(result: Result) -> dict[str, Any]:
    target = result.target
    return {
        "file": target.file,
        "line": result.line,
        "apiVersion": target.api_version,
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
        "policy": result.policy,
        "mode": result.mode,
        "outcome": result.outcome,
        "container": result.container,
        "path": result.path,
        "message": _told(result),
        "fix": result.fix,
        "hint": result.hint,
        "incident": result.incident,
    }


def _dump(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


# SARIF ---------------------------------------------------------------------------------------------------------------


def render_sarif(report: Report, exit_code: int) -> str:
    rules = list(load_policies())
    run = {
        "tool": {
            "driver": {
                "name": "Forestall",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_sarif_rule(policy) for policy in rules],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not report.errors and not report.bugs,
                "exitCode": exit_code,
                "toolExecutionNotifications": [_sarif_notification(error) for error in report.errors],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(result, rules.index(result.policy)) for result in report.results],
    }
    return _dump({"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]})


def _sarif_rule(policy_id: str) -> dict[str, Any]:
    policy, folder = load_policies()[policy_id]
    readme = folder.joinpath("README.md")
    page = readme.read_text() if readme.is_file() else policy.summary
    return {
        "id": policy_id,
        "name": "".join(word.capitalize() for word in policy_id.split("-")),
        "shortDescription": {"text": policy.summary},
        "fullDescription": {"text": " ".join([policy.summary, *policy.incidents])},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": "error" if policy.mode == "deny" else "warning"},
    }


def _sarif_result(result: Result, rule: int) -> dict[str, Any]:
    target = result.target
    sarif: dict[str, Any] = {
        "ruleId": result.policy,
        "ruleIndex": rule,
        "level": _level(result),
        "message": {"text": "\n".join([_told(result), *_advice_lines(result)])},
        "locations": [
            {
                **_sarif_location(result.file, result.line),
                "logicalLocations": [{"fullyQualifiedName": f"{target}: {result.path}", "kind": "object"}],
            }
        ],
        # Lines move when something above is edited; these don't.
        "partialFingerprints": {"violation/v1": f"{result.policy}:{target}:{result.container or ''}:{result.path}"},
        "properties": {"outcome": result.outcome, "mode": result.mode},
    }
    if result.outcome == "exempted":
        sarif["suppressions"] = [{"kind": "external", "justification": result.note}]
    return sarif


def _sarif_location(file: str, line: int) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": line}}}


def _sarif_notification(error: BadManifest) -> dict[str, Any]:
    return {
        "level": "error",
        "message": {"text": error.message},
        "locations": [_sarif_location(error.file, error.line)],
    }


def _uri(file: str) -> str:
    """A relative reference, from the folder that the command runs in: that is the repository's in CI."""
    from urllib.parse import quote  # noqa: PLC0415 - no other format needs it, and it takes a while

    return quote(_relative(file).replace(os.sep, "/"))


def _relative(file: str) -> str:
    return "stdin" if file == "<stdin>" else os.path.relpath(file)


def _advice_lines(result: Result) -> list[str]:
    return [f"{label} {text}" if label == "set" else f"{label}: {text}" for label, text in _advice(result)]


# JUnit ---------------------------------------------------------------------------------------------------------------

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, *, strict: bool) -> str:
    """A suite for each file; a case for each violation, and one for each object that has none."""
    violations: dict[Target, list[Result]] = {}
    for result in report.results:
        violations.setdefault(result.target, []).append(result)
    suites: dict[str, list[str]] = {}
    for target in report.targets:
        cases = suites.setdefault(target.file, [])
        results = violations.get(target)
        cases += [_case_of(result, strict=strict) for result in results] if results else [_case(target, str(target))]
    for error in report.errors:
        suites.setdefault(error.file, []).append(_unreadable_case(error))
    text = "".join(_suite(file, cases) for file, cases in suites.items())
    counts = _counts([case for cases in suites.values() for case in cases])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="forestall" {counts}>\n{text}</testsuites>\n'


def _suite(file: str, cases: list[str]) -> str:
    name = _attribute(_relative(file))
    return f"  <testsuite name={name} {_counts(cases)}>\n{''.join(cases)}  </testsuite>\n"


def _counts(cases: list[str]) -> str:
    found = {name: sum(f"<{element} " in case for case in cases) for name, element in _ELEMENTS.items()}
    return " ".join(f'{name}="{count}"' for name, count in {"tests": len(cases), **found}.items()) + ' time="0"'


_ELEMENTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _case_of(result: Result, *, strict: bool) -> str:
    name = f"{result.policy}: {result.target}" + (f" {result.path}" if result.path else "")
    text = "\n".join([f"{result.file}:{result.line}", *_advice_lines(result)])
    message = _attribute(_told(result))
    if result.outcome == "exempted":
        return _case(result.target, name, f"<skipped message={message}/>")
    if result.denies or strict:
        return _case(
            result.target,
            name,
            f"<failure type={_attribute(result.policy)} message={message}>{_escape(text)}</failure>",
        )
    return _case(
        result.target,
        name,
        f"<system-out>{_escape(f'{result.outcome}: {_told(result)}')}\n{_escape(text)}</system-out>",
    )


def _unreadable_case(error: BadManifest) -> str:
    content = f'<error type="unreadable" message={_attribute(error.message)}>{_escape(str(error))}</error>'
    target = Target(error.file, error.line, "", "", "", "")
    return _case(target, f"line {error.line}", content)


def _case(target: Target, name: str, content: str = "") -> str:
    file = _relative(target.file)
    attributes = (
        f'name={_attribute(name)} classname={_attribute(file)} file={_attribute(file)} line="{target.line}" time="0"'
    )
    return f"    <testcase {attributes}>{content}</testcase>\n"


def _escape(text: str) -> str:
    return (
        _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _attribute(text: str) -> str:
    return '"' + _escape(text).replace('"', "&quot;").replace("\n", "&#10;") + '"'


# GitHub --------------------------------------------------------------------------------------------------------------


def render_github(report: Report) -> str:
    """Annotations on the changed files; what is exempted is nobody's concern there."""
    lines = [
        _annotation(_level(result), result.file, result.line, f"{result.policy}: {result.target}", _github_text(result))
        for result in report.results
        if result.outcome != "exempted"
    ]
    lines += [_annotation("error", error.file, error.line, "unreadable", error.message) for error in report.errors]
    return "\n".join([*lines, _summary_line(report, lambda text, _style: text)]) + "\n"


def _github_text(result: Result) -> str:
    return "\n".join([f"{result.outcome}: {_told(result)}", *_advice_lines(result)])


def _annotation(level: str, file: str, line: int, title: str, text: str) -> str:
    command = "notice" if level == "note" else level
    properties = f"file={_property(_relative(file))},line={line},title={_property(title)}"
    return f"::{command} {properties}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
