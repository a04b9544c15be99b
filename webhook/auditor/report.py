"""What a report says: the findings of one namespace, in the form that PolicyReport and Report share.

Field by field as the CustomResourceDefinitions of wgpolicyk8s.io/v1alpha2 and openreports.io/v1alpha1 have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from webhook.auditor.seen import digest_of
from webhook.findings import Finding
from webhook.installation import NAME
from webhook.messages import advice, cut, incident, told
from webhook.policy import Object, Reference

Result = Literal["pass", "fail", "warn", "error", "skip"]
RESULTS: tuple[Result, ...] = ("pass", "fail", "warn", "error", "skip")
_RANK = {"fail": 0, "error": 1, "warn": 2, "skip": 3}
_SEVERITY = {"deny": "high", "patch": "medium", "nothing": "low"}
"""What enforcement does about the finding -> how severe it is."""
RESULT_ID = "resultID"
"""The property by which Policy Reporter tells results apart, and recognises them."""
_TEXT = 1000
"""Characters of a message, a category or a property at most."""
MOST_BYTES = 900_000
"""Bytes of all results at most: the API server stores 1 MiB of a ConfigMap, and 1.5 MiB of anything else."""


def result_of(finding: Finding) -> Result:
    """What becomes of the finding where its policy is enforced."""
    match finding.verdict.outcome:
        case "exempted":
            return "skip"
        case "unknown" | "failed":
            return "error"
    return "warn" if finding.enforcement == "nothing" else "fail"


def report_content(
    findings: Mapping[Reference, Iterable[Finding]],
    teams: Mapping[Reference, str],
    since: Callable[[Finding], int],
    most: int,
) -> Object:
    """`results` and `summary` of a namespace's findings: the worst `most` of them, and how many there are in all.

    `since` says when a finding was seen first, in seconds since 1970.
    """
    every = [finding for found in findings.values() for finding in found]
    counts = Counter(map(result_of, every))
    results: list[dict[str, Any]] = []
    size = 0
    for finding in sorted(every, key=_order)[:most]:
        result = _result(finding, teams, since(finding))
        size += len(msgspec.json.encode(result))
        if size > MOST_BYTES:
            break
        results.append(result)
    return {"results": results, "summary": {result: counts[result] for result in RESULTS}}


def _order(finding: Finding) -> tuple[int, int, str, str, str, str, str, str]:
    judged, verdict = finding.object, finding.verdict
    severity = list(_SEVERITY).index(finding.enforcement)
    of = verdict.policy, judged.kind, judged.name, judged.api_version, verdict.violation.path, verdict.violation.message
    return _RANK[result_of(finding)], severity, *of


def _result(finding: Finding, teams: Mapping[Reference, str], since: int) -> dict[str, Any]:
    judged, verdict = finding.object, finding.verdict
    resource = {"apiVersion": judged.api_version, "kind": judged.kind, "name": judged.name}
    said: dict[str, list[str]] = {}
    for label, text in advice(verdict):
        if label != "why":  # the incident, which is the category
            said.setdefault(label, []).append(text)
    properties = {
        RESULT_ID: digest_of(finding).hex(),
        "outcome": verdict.outcome,
        "enforcement": finding.enforcement,
        "path": verdict.violation.path,
        "container": finding.container,
        "team": teams.get(judged.reference),
        "madeBy": finding.object.owner,
        **{label: "; ".join(texts) for label, texts in said.items()},
    }
    return {
        "source": NAME,
        "policy": verdict.policy,
        "category": cut(incident(verdict.policy), _TEXT),
        "result": result_of(finding),
        "severity": _SEVERITY[finding.enforcement],
        "scored": True,
        "message": cut(told(verdict), _TEXT),
        "resources": [resource | ({"namespace": judged.namespace} if judged.namespace else {})],
        "properties": {key: cut(value, _TEXT) for key, value in properties.items() if value},
        "timestamp": {"seconds": since, "nanos": 0},
    }
