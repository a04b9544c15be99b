"""What `forestall check` prints: text for people, JSON, SARIF 2.1.0, JUnit and GitHub's workflow commands.

A format is a function from a report to text. docs/cli.md documents the JSON.
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
from webhook.check import Report
from webhook.errors import BadManifest
from webhook.findings import IN_CLUSTER, Finding, JudgedObject, Place
from webhook.fixes import sets_of
from webhook.loader import load_policies
from webhook.messages import advice, advice_lines, headline, in_full, incident, shown_sets, told
from webhook.objects.unjudged import Unjudged
from webhook.policy import Outcome, Verdict

SCHEMA = "forestall.dev/check/v1"

Format = Literal["text", "json", "sarif", "junit", "github"]
Style = Callable[[str, str], str]
"""(text, colour or "bold" or "dim") -> text with that style, or as it was."""

COLOURS: Mapping[Outcome, str] = {
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
    outcomes: tuple[Outcome, ...] = ("denied", "patched", "warned", "audited", "exempted", "unknown", "failed")
    return {
        "objects": report.objects,
        "workloads": sum(judged.is_workload for judged in report.judged),
        "containers": sum(judged.containers for judged in report.judged),
        **{outcome: report.count(outcome) for outcome in outcomes},
        "unreadable": len(report.errors),
    }


def _level(verdict: Verdict) -> str:
    return "error" if verdict.denies else _LEVELS[verdict.outcome]


# Text ----------------------------------------------------------------------------------------------------------------


def render_text(report: Report, width: int, style: Style = lambda text, _style: text) -> str:
    """Findings by object and policy: what, where, what to set, how, why; then one line that sums up."""
    lines: list[str] = []
    for judged, findings in groupby(report.findings, key=lambda finding: finding.object):
        lines += object_lines(judged, list(findings), width, style)
    return "\n".join([*lines, _summary_line(report, style)]) + "\n"


def object_lines(
    judged: JudgedObject,
    findings: list[Finding],
    width: int,
    style: Style,
    uses: Callable[[Finding], str] = lambda _finding: "",
) -> Iterator[str]:
    """An object and what was found on it, the policies' reasons said once; `uses` tells what a container takes now."""
    yield style(str(judged), "bold") + ("" if judged.place == IN_CLUSTER else f"  {style(str(judged.place), 'dim')}")
    by_policy: dict[str, list[Finding]] = {}
    for finding in findings:
        by_policy.setdefault(finding.verdict.policy, []).append(finding)
    for group in by_policy.values():
        for finding in group:
            yield from _finding_lines(finding, width, style)
            if used := uses(finding):
                yield from labelled("uses", used, width, style)
        for label, text in advice(group[0].verdict):
            if label == "why":
                yield from labelled(label, text, width, style)
    yield ""


def _finding_lines(finding: Finding, width: int, style: Style) -> Iterator[str]:
    verdict = finding.verdict
    head = f"  {verdict.outcome:<8}  "
    first, *more = wrapped(headline(verdict), width - len(head))
    yield f"  {style(f'{verdict.outcome:<8}', COLOURS[verdict.outcome])}  {first}"
    yield from (f"{' ' * len(head)}{line}" for line in more)
    if where := whereabouts(finding):
        yield from labelled("where", where, width, style)
    above = ""
    for label, text in advice(verdict):
        if label != "why":
            yield from labelled("" if label == above else label, text, width, style)
        above = label


def whereabouts(finding: Finding) -> str:
    """Where the violation is: file and line, unless it is in the cluster, and the path, unless a fix names it."""
    path = finding.verdict.violation.path
    is_named = any(fix.path == path and not fix.of for fix in shown_sets(finding.verdict.violation))
    places = "" if finding.place == IN_CLUSTER else str(finding.place), "" if is_named else path
    return "  ".join(filter(None, places))


def labelled(label: str, text: str, width: int, style: Style) -> Iterator[str]:
    """A labelled line below a finding, wrapped to the terminal's width: "  set spec.replicas: 2"."""
    first, *more = wrapped(text, width - 12)
    yield f"      {style(f'{label:>5}', 'dim')} {first}"
    yield from (f"{' ' * 12}{line}" for line in more)


def wrapped(text: str, width: int) -> list[str]:
    """The text wrapped to lines; an empty text is one empty line."""
    # Paths and file names stay whole: they are there to be copied.
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def _summary_line(report: Report, style: Style) -> str:
    total = summary(report)
    if not report.objects and not report.errors:
        return f"no Kubernetes objects in {counted(report.files, 'file')}"
    checked = (
        f"{counted(total['objects'], 'object')} in {counted(report.files, 'file')} checked, "
        f"{counted(total['workloads'], 'workload')} with {counted(total['containers'], 'container')}"
    )
    counts = [
        style(f"{count} {outcome}", colour) for outcome, colour in COLOURS.items() if (count := report.count(outcome))
    ]
    if report.errors:
        counts.append(style(f"{len(report.errors)} unreadable", "red"))
    return f"{checked}: {', '.join(counts) or style('no violations', 'green')}"


def unjudged_lines(report: Report) -> Iterator[str]:
    """The kinds that pods come of and that were not judged, and what to do about each."""
    total = report.unjudged.total()
    if total:
        yield f"{counted(total, 'object')} {'was' if total == 1 else 'were'} not judged:"
    for unjudged, count in sorted(report.unjudged.items()):
        yield f"{count} {unjudged} {_what_to_do(unjudged, is_one=count == 1)}"


def _what_to_do(unjudged: Unjudged, *, is_one: bool) -> str:
    if unjudged.maker == "chart":
        return "deploys other manifests: check what helm template or kustomize build prints"
    if unjudged.maker == "operator":
        return "describes pods by fields of its own: what its operator makes is judged in the cluster"
    holds, them = ("holds", "it") if is_one else ("hold", "them")
    return f"{holds} pods: name {them} in kinds, with podSpec: {' and '.join(unjudged.paths)}"


def counted(number: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# JSON ----------------------------------------------------------------------------------------------------------------


def render_json(report: Report) -> str:
    document = {
        "schema": SCHEMA,
        "summary": summary(report),
        "unjudged": [
            {"group": kind.group, "kind": kind.kind, "podSpecs": list(kind.paths), "objects": count}
            for kind, count in sorted(report.unjudged.items())
        ],
        "results": [json_finding(finding) for finding in report.findings],
        "errors": [{"file": error.file, "line": error.line, "message": error.message} for error in report.errors],
    }
    return dump(document)


def json_finding(finding: Finding) -> dict[str, Any]:
    """A finding as an object of the documented JSON."""
    judged, verdict, violation = finding.object, finding.verdict, finding.verdict.violation
    return {
        "file": finding.place.file,
        "line": finding.place.line,
        "apiVersion": judged.api_version,
        "kind": judged.kind,
        "namespace": judged.namespace,
        "name": judged.name,
        "policy": verdict.policy,
        "mode": verdict.mode,
        "outcome": verdict.outcome,
        "container": finding.container,
        "path": violation.path,
        "message": told(verdict),
        "fix": {fix.path: fix.value for fix in sets_of(violation)} or None,
        "advice": {f"{fix.of} {fix.path}".strip(): fix.value for fix in violation.advice} or None,
        "hint": violation.hint,
        "incident": incident(verdict.policy),
    }


def dump(document: object) -> str:
    """The document as indented JSON, which people can read, too."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


# SARIF ---------------------------------------------------------------------------------------------------------------


def render_sarif(report: Report, exit_code: int, pages: str = "") -> str:
    """`pages` is the address of the policies' pages, if they have one."""
    results = [sarif_result(finding, _sarif_location(*finding.place)) for finding in report.findings]
    notifications = [_sarif_notification(error) for error in report.errors]
    is_successful = not report.errors and not report.bugs
    return dump(sarif_document(results, notifications, exit_code, is_successful=is_successful, pages=pages))


def sarif_document(
    results: list[dict[str, Any]],
    notifications: list[dict[str, Any]],
    exit_code: int,
    *,
    is_successful: bool,
    pages: str,
) -> dict[str, Any]:
    """The document of one run, whose rules are the policies; `pages` is the address of their pages, or empty."""
    run = {
        "tool": {
            "driver": {
                "name": "Forestall",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_sarif_rule(policy, pages) for policy in load_policies()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": is_successful,
                "exitCode": exit_code,
                "toolExecutionNotifications": notifications,
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _sarif_rule(policy_id: str, pages: str) -> dict[str, Any]:
    loaded = load_policies()[policy_id]
    policy, page = loaded.policy, loaded.page
    return {
        "id": policy_id,
        "name": "".join(word.capitalize() for word in policy_id.split("-")),
        "shortDescription": {"text": policy.summary},
        "fullDescription": {"text": " ".join([policy.summary, *policy.incidents])},
        "help": {"text": _without_markup(page), "markdown": page},
        **({"helpUri": f"{pages}/{policy_id}"} if pages else {}),
        "defaultConfiguration": {"level": "error" if policy.mode == "deny" else "warning"},
    }


def _without_markup(page: str) -> str:
    """The text of a page in Markdown, with the tables' bars."""
    lines = [line.lstrip("#").strip() if line.startswith("#") else line for line in page.splitlines()]
    text = "\n".join(line for line in lines if not re.fullmatch(r"```.*|\|[-| :]+\|", line.strip()))
    return re.sub(r"`([^`\n]+)`", r"\1", re.sub(r"\*\*([^*\n]+)\*\*", r"\1", _LINK.sub(r"\1 (\2)", text)))


_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")


def sarif_result(finding: Finding, location: dict[str, Any]) -> dict[str, Any]:
    """A finding as a result; `location` says where its file's line is, or the object's address."""
    verdict, path = finding.verdict, finding.verdict.violation.path
    sarif: dict[str, Any] = {
        "ruleId": verdict.policy,
        "ruleIndex": list(load_policies()).index(verdict.policy),
        "level": _level(verdict),
        "message": {"text": in_full(verdict)},
        "locations": [
            {
                **location,
                "logicalLocations": [{"fullyQualifiedName": f"{finding.object}: {path}", "kind": "object"}],
            }
        ],
        # Lines move when something above is edited; these don't.
        "partialFingerprints": {
            "violation/v1": f"{verdict.policy}:{finding.object}:{finding.container or ''}:{path}",
        },
        "properties": {"outcome": verdict.outcome, "mode": verdict.mode},
    }
    if verdict.outcome == "exempted":
        sarif["suppressions"] = [{"kind": "external", "justification": verdict.note}]
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


# JUnit ---------------------------------------------------------------------------------------------------------------

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, *, strict: bool) -> str:
    """A suite for each file; a case for each violation, and one for each object that has none."""
    findings: dict[JudgedObject, list[Finding]] = {}
    for finding in report.findings:
        findings.setdefault(finding.object, []).append(finding)
    suites: dict[str, list[str]] = {}
    for judged in report.judged:
        cases = suites.setdefault(judged.place.file, [])
        cases += [_finding_case(finding, strict=strict) for finding in findings.get(judged, ())] or [
            _case(judged.place, str(judged))
        ]
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


def _finding_case(finding: Finding, *, strict: bool) -> str:
    verdict, path = finding.verdict, finding.verdict.violation.path
    place = finding.object.place
    name = f"{verdict.policy}: {finding.object}" + (f" {path}" if path else "")
    text = _escape("\n".join([str(finding.place), *advice_lines(verdict)]))
    message = _attribute(told(verdict))
    if verdict.outcome == "exempted":
        return _case(place, name, f"<skipped message={message}/>")
    if verdict.denies or (strict and finding.needs_action):
        return _case(place, name, f"<failure type={_attribute(verdict.policy)} message={message}>{text}</failure>")
    return _case(place, name, f"<system-out>{_escape(f'{verdict.outcome}: {told(verdict)}')}\n{text}</system-out>")


def _unreadable_case(error: BadManifest) -> str:
    content = f'<error type="unreadable" message={_attribute(error.message)}>{_escape(str(error))}</error>'
    return _case(Place(error.file, error.line), f"line {error.line}", content)


def _case(place: Place, name: str, content: str = "") -> str:
    file = _attribute(_relative(place.file))
    attributes = f'name={_attribute(name)} classname={file} file={file} line="{place.line}" time="0"'
    return f"    <testcase {attributes}>{content}</testcase>\n"


def _escape(text: str) -> str:
    return (
        _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _attribute(text: str) -> str:
    return '"' + _escape(text).replace('"', "&quot;").replace("\n", "&#10;") + '"'


# GitHub --------------------------------------------------------------------------------------------------------------


def render_github(report: Report) -> str:
    """Annotations on the changed files; what is exempted gets none."""
    lines = [_finding_annotation(finding) for finding in report.findings if finding.verdict.outcome != "exempted"]
    lines += [_annotation("error", error.file, error.line, "unreadable", error.message) for error in report.errors]
    return "\n".join([*lines, _summary_line(report, lambda text, _style: text)]) + "\n"


def _finding_annotation(finding: Finding) -> str:
    verdict = finding.verdict
    title, text = f"{verdict.policy}: {finding.object}", f"{verdict.outcome}: {in_full(verdict)}"
    return _annotation(_level(verdict), *finding.place, title, text)


def _annotation(level: str, file: str, line: int, title: str, text: str) -> str:
    command = "notice" if level == "note" else level
    properties = f"file={_property(_relative(file))},line={line},title={_property(title)}"
    return f"::{command} {properties}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
