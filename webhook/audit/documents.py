"""An audit for programs: JSON (docs/audit.schema.json), CSV with a row a finding, SARIF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import chain
from typing import Any

import msgspec

from webhook.audit.audited import Audited
from webhook.audit.spreadsheet import csv_row
from webhook.audit.text import exemptions, sentences
from webhook.cluster.paths import path_of
from webhook.findings import Finding
from webhook.formats import dump, json_finding, sarif_document, sarif_result
from webhook.messages import advice, incident, told
from webhook.objects.limitranger import show_amount
from webhook.observing.run import Observed
from webhook.observing.words import incident_of, json_observation, sarif_observation
from webhook.policy import GroupKind, Reference

SCHEMA = "forestall.dev/audit/v1"

_COLUMNS = (
    *("cluster", "team", "namespace", "kind", "name", "policy", "outcome", "mode"),
    *("container", "path", "message", "set", "how", "uses", "incident"),
)


def render_json(audits: Sequence[Audited], today: date) -> Iterator[str]:
    """The document in parts: it is never whole in memory."""
    document = {
        "schema": SCHEMA,
        "clusters": [_cluster(audited, today) for audited in audits],
        "observations": [
            {"cluster": audited.name, **json_observation(observed)} for audited, observed in _observed(audits)
        ],
        "results": [],
    }
    results = (
        {"cluster": audited.name, "team": team, "madeBy": finding.object.owner or None}
        | {"uses": audited.found.usage.of(finding) or None}
        | {key: value for key, value in json_finding(finding).items() if key not in ("file", "line")}
        for audited, team, finding in _findings(audits)
    )
    return _with_results(document, results)


def _cluster(audited: Audited, today: date) -> dict[str, Any]:
    tally = audited.found.tally
    said = exemptions(audited, today)
    return {
        "name": audited.name,
        "configuration": audited.configuration,
        "workloads": tally.workloads,
        "containers": tally.containers,
        "others": tally.others,
        "refusedWorkloads": tally.refused,
        "refusedOthers": tally.refused_others,
        "summary": " ".join(sentences(audited)),
        "policies": {policy: dict(counts) for policy, counts in tally.policies().items()},
        "teams": {team: dict(counts) for team, counts in tally.teams().items()},
        "exemptions": [
            {"policy": exemption.policy, "owner": exemption.owner, "reason": exemption.reason}
            | {"until": exemption.until.isoformat(), "covers": tally.exempted[index], "summary": said[index]}
            for index, exemption in enumerate(audited.config.exemptions)
        ],
        "nearLimits": [
            {"kind": near.workload.kind, "namespace": near.workload.namespace, "name": near.workload.name}
            | {"container": near.container, "uses": near.amount, "limit": near.limit}
            for near in audited.found.usage.near()
        ],
        "addedRequests": {resource: show_amount(resource, amount) for resource, amount in tally.added.items()},
        "unseen": audited.troubles,
    }


def render_csv(audits: Sequence[Audited]) -> Iterator[str]:
    """A head line, a row for each thing that is broken now, then a row a finding."""
    yield csv_row(*_COLUMNS)
    for audited, (observer, observation) in _observed(audits):
        kind, namespace, name = observation.reference
        how = "; ".join([*(f"run {command}" for command in observation.run), *filter(None, [observation.hint])])
        yield csv_row(
            *(audited.name, f"namespace {namespace}" if namespace else "", namespace, kind, name),
            *(observer, f"broken now: {observation.severity}", "", observation.subject, ""),
            *(observation.message, "", how, incident_of(observer)),
        )
    for audited, team, finding in _findings(audits):
        judged, verdict = finding.object, finding.verdict
        to_do = {label: "; ".join(text for of, text in advice(verdict) if of == label) for label in ("set", "how")}
        yield csv_row(
            *(audited.name, team, judged.namespace, judged.kind, judged.name),
            *(verdict.policy, verdict.outcome, verdict.mode, finding.container or "", verdict.violation.path),
            *(told(verdict), to_do["set"], to_do["how"], audited.found.usage.of(finding), incident(verdict.policy)),
        )


def render_sarif(audits: Sequence[Audited], exit_code: int) -> Iterator[str]:
    """The document in parts; a result's location is the object's address in the API."""
    notifications = [
        {"level": "warning", "message": {"text": trouble}} for audited in audits for trouble in audited.troubles
    ]
    is_successful = not any(audited.sees_nothing or audited.found.bugs for audited in audits)
    pages = audits[0].config.pages if audits else ""
    document = sarif_document([], notifications, exit_code, is_successful=is_successful, pages=pages)
    observations = (
        sarif_observation(observed, _place(audited, observed.observation.reference))
        for audited, observed in _observed(audits)
    )
    results = (sarif_result(finding, _address(audited, finding)) for audited, _, finding in _findings(audits))
    return _with_results(document, chain(observations, results))


def _place(audited: Audited, reference: Reference) -> dict[str, Any]:
    """An observed object's address; a kind that is neither judged nor a webhook configuration is of the core group."""
    known = (judged.kind for judged in audited.config.judged.values() if judged.kind.kind == reference.kind)
    group = "admissionregistration.k8s.io" if reference.kind == "ValidatingWebhookConfiguration" else ""
    kind = next(known, GroupKind(group, reference.kind, f"{reference.kind.lower()}s"))
    return _location(audited, path_of(kind, "v1", reference.namespace, reference.name))


def _address(audited: Audited, finding: Finding) -> dict[str, Any]:
    judged = finding.object
    group, _, version = judged.api_version.rpartition("/")
    kind = audited.config.judged[group, judged.kind].kind
    return _location(audited, path_of(kind, version, judged.namespace, judged.name))


def _location(audited: Audited, path: str) -> dict[str, Any]:
    """The location at an API path of the cluster: a relative address, as SARIF wants it."""
    return {"physicalLocation": {"artifactLocation": {"uri": f"{audited.name}{path}".removeprefix("/")}}}


def _observed(audits: Sequence[Audited]) -> Iterator[tuple[Audited, Observed]]:
    return ((audited, observed) for audited in audits for observed in audited.observing.observed)


def _findings(audits: Sequence[Audited]) -> Iterator[tuple[Audited, str, Finding]]:
    for audited in audits:
        for team, findings in audited.found.by_team():
            for finding in findings:
                yield audited, team, finding


def _with_results(document: dict[str, Any], results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The document with results in the place of its empty list of such."""
    begin, empty, end = dump(document).partition('"results": []')
    yield begin + empty.removesuffix("]")
    separator = "\n"
    for result in results:
        yield separator + msgspec.json.encode(result).decode()
        separator = ",\n"
    yield "]" + end
