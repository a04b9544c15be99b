"""What a report says: the findings of one namespace, in the form that PolicyReport and Report share.

Field by field as the CustomResourceDefinitions of wgpolicyk8s.io/v1alpha2 and openreports.io/v1alpha1 have it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from webhook.auditor.kept import Counted
from webhook.auditor.seen import digest_of
from webhook.auditor.severity import RESULTS, SEVERITIES, result_of, severity
from webhook.findings import Finding
from webhook.installation import NAME
from webhook.messages import advice, cut, incident, told
from webhook.policy import Object, Reference

RESULT_ID = "resultID"
"""The property by which Policy Reporter tells results apart, and recognises them."""
_TEXT = 1000
"""Characters of a message, a category or a property at most."""
MOST_BYTES = 900_000
"""Bytes of all results at most: the API server stores 1 MiB of a ConfigMap, and 1.5 MiB of anything else."""


def report_content(
    findings: Mapping[Reference, Iterable[Finding]],
    counts: Mapping[Counted, int],
    teams: Mapping[Reference, str],
    since: Callable[[Finding], int],
    most: int,
) -> Object:
    """`results` and `summary` of a namespace's findings: the worst `most` of them, and how many there are in all, which
    `counts` tells.

    `since` says when a finding was seen first, in seconds since 1970.
    """
    every = (finding for found in findings.values() for finding in found)
    summary = dict.fromkeys(RESULTS, 0)
    for counted, count in counts.items():
        summary[result_of(counted.outcome, counted.enforcement)] += count
    results: list[dict[str, Any]] = []
    size = 0
    for finding in heapq.nsmallest(most, every, key=_order):
        result = _result(finding, teams, since(finding))
        size += len(msgspec.json.encode(result))
        if size > MOST_BYTES:
            break
        results.append(result)
    return {"results": results, "summary": summary}


def _order(finding: Finding) -> tuple[int, int, str, str, str, str, str, str]:
    judged, verdict = finding.object, finding.verdict
    of = verdict.policy, judged.kind, judged.name, judged.api_version, verdict.violation.path, verdict.violation.message
    return *severity(finding), *of


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
        "result": result_of(verdict.outcome, finding.enforcement),
        "severity": SEVERITIES[finding.enforcement],
        "scored": True,
        "message": cut(told(verdict), _TEXT),
        "resources": [resource | ({"namespace": judged.namespace} if judged.namespace else {})],
        "properties": {key: cut(value, _TEXT) for key, value in properties.items() if value},
        "timestamp": {"seconds": since, "nanos": 0},
    }
