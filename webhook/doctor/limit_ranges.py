"""LimitRanges that refuse every pod, or that stand against what policies ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase
from itertools import chain

import msgspec

from webhook.config import Config
from webhook.doctor.remark import Remark, Remarks, cannot_tell, listed, or_ok
from webhook.doctor.survey import Survey, Templates, seen
from webhook.engine import decide
from webhook.errors import FactsUnavailable
from webhook.findings import findings_of
from webhook.fixes import sets_of
from webhook.installation import LIMIT_RANGES_RECORD
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES, ClusterFacts, LimitRange
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.limitranger import refusals
from webhook.objects.pods import read_workload
from webhook.objects.quantities import format_memory, parse_memory
from webhook.policy import AdmissionRequest, Object, Verdict


def check_limit_ranges(survey: Survey) -> Remarks:
    """LimitRanges that aren't made, that refuse every pod, or that stand against what policies ask for."""
    config, facts, templates = seen(survey.config), seen(survey.facts), seen(survey.templates)
    by_namespace: dict[str, list[Object]] = defaultdict(list)
    for limit_range in seen(survey.limit_ranges):
        by_namespace[limit_range["metadata"]["namespace"]].append(limit_range)
    remarks = chain(
        _not_made(survey),
        _unwanted(config, facts),
        _unseen(templates),
        *(_in_namespace(name, there, survey) for name, there in sorted(by_namespace.items())),
    )
    return or_ok(remarks, f"LimitRanges of {len(by_namespace)} namespaces contradict no policy")


def _unseen(templates: Templates) -> Remarks:
    for resource, why in templates.unseen.resources.items():
        yield cannot_tell(FactsUnavailable(f"whether LimitRanges suit {resource}: {why}"))


def _in_namespace(namespace: str, limit_ranges: Sequence[Object], survey: Survey) -> Remarks:
    """What a namespace's LimitRanges do to pods without resources of their own, and to its workloads."""
    plain = _plain(namespace)
    names = listed(limit_range["metadata"]["name"] for limit_range in limit_ranges)
    items = [item for limit_range in limit_ranges for item in read_items(limit_range.get("spec") or {})]
    workload = read_workload(plain)
    for refusal in refusals(workload, items)[:1] if workload else ():
        text = f"LimitRange {names} of {namespace}: pods without resources of their own are refused: {refusal.wrong}"
        yield Remark("fail", text, f"change its default or its bounds of {refusal.resource}")
    requests = [plain, *(request for request in seen(survey.templates).requests if request.namespace == namespace)]
    yield from _against_policies(requests, seen(survey.config), seen(survey.facts), survey.now.date())


class _NotMade(msgspec.Struct):
    namespace: str
    name: str
    why: str
    workloads: list[str] = []


class _Report(msgspec.Struct, rename="camel"):
    not_made: int = 0
    limit_ranges: list[_NotMade] = []


def _not_made(survey: Survey) -> Remarks:
    """LimitRanges that the configuration asks for and that the controller could not make or change."""
    record = f"{survey.namespace}/{LIMIT_RANGES_RECORD}"
    text = ((seen(survey.limit_ranges_record) or {}).get("data") or {}).get("report") or "{}"
    try:
        report = msgspec.json.decode(text, type=_Report)
    except msgspec.DecodeError as error:
        yield Remark(
            "unknown", f"ConfigMap {record} can't be read: {error}", "remove its key report: it is written anew"
        )
        return
    for entry in report.limit_ranges:
        # Another LimitRange's default serves as well as the one that was asked for.
        if entry.why.endswith("already gives a memory default"):
            continue
        workloads = f" ({'; '.join(entry.workloads)})" if entry.workloads else ""
        text = f"LimitRange {entry.name} of {entry.namespace} is not made: {entry.why}{workloads}"
        yield Remark("warn", text, _SEE_RIGHTS if "(403)" in entry.why else f"mend that; ConfigMap {record} has it all")
    if report.not_made > len(report.limit_ranges):
        text = f"and {report.not_made - len(report.limit_ranges)} more LimitRanges are not made"
        yield Remark("warn", text, "see to the first ones: the controller tells of the others then")


_SEE_RIGHTS = "see rights; where they are fine, the refusal names who refused"

DEFAULTS_LABEL = "forestall.dev/defaults"
"""The label by which the chart's rule for LimitRanges selects namespaces, where its value is "true"."""


def _unwanted(config: Config, facts: ClusterFacts) -> Remarks:
    """Namespaces that ask for a LimitRange by their label, where no rule gives them one."""
    if any(DEFAULTS_LABEL in rule.namespace_selector for rule in config.limit_ranges):
        return
    labelled = [name for name, labels in facts.of(NAMESPACES).items() if labels.get(DEFAULTS_LABEL) == "true"]
    forgotten = [
        name
        for name in labelled
        if not any(fnmatchcase(name, glob) for rule in config.limit_ranges for glob in rule.namespaces)
    ]
    if forgotten:
        rules = "limitRanges has no rule for it" if config.limit_ranges else "limitRanges is empty"
        text = f"label {DEFAULTS_LABEL} of namespace {listed(forgotten)} does nothing: {rules}"
        yield Remark("warn", text, f"add the chart's rule to config.limitRanges, or remove the label: {_CHARTS_RULE}")


_CHARTS_RULE = (
    '{namespaceSelector: {forestall.dev/defaults: "true"}, default: {memory: 512Mi}, defaultRequest: {memory: 256Mi}}'
)


def _plain(namespace: str) -> AdmissionRequest:
    """A workload with no resources of its own."""
    template = {"spec": {"containers": [{"name": "any", "image": "any:1"}]}}
    obj = {"metadata": {"name": "any", "namespace": namespace}, "spec": {"template": template}}
    return AdmissionRequest("CREATE", "apps", "v1", "Deployment", namespace, "any", obj)


def _against_policies(
    requests: Sequence[AdmissionRequest], config: Config, facts: ClusterFacts, today: date
) -> Remarks:
    """Remarks on policies that ask for more memory than a LimitRange gives or allows, each once.

    The sizes that a policy sets where there is no LimitRange don't count: a smaller default from a LimitRange is good,
    too.
    """
    ranges = [item for item in facts.of(LIMIT_RANGES).get(requests[0].namespace, ()) if item.type == "Container"]
    without = replace(facts, records={**facts.records, LIMIT_RANGES: {}})
    told = set()
    for request in requests:
        remaining = {_key(verdict) for verdict in decide(request, facts, config, today=today).verdicts}
        for finding in findings_of(request, decide(request, without, config, today=today), config):
            verdict = finding.verdict
            asks = finding.needs_action and _key(verdict) in remaining
            for path, wanted in _wanted_limits(verdict) if asks else ():
                if (against := _against(path, wanted, request, ranges)) and (verdict.policy, against) not in told:
                    told.add((verdict.policy, against))
                    advice = f"raise it in the LimitRange, or lower it in the parameters of {verdict.policy}"
                    yield Remark("warn", f"{against}, where {verdict.policy} asks for {format_memory(wanted)}", advice)


def _key(verdict: Verdict) -> tuple[str, str]:
    return verdict.policy, verdict.violation.subject


def _wanted_limits(verdict: Verdict) -> Iterator[tuple[str, int]]:
    for change in sets_of(verdict.violation):
        if change.path.endswith("limits.memory"):
            yield change.path, parse_memory(change.value)


def _against(path: str, wanted: int, request: AdmissionRequest, ranges: Sequence[LimitRange]) -> str:
    workload = read_workload(request)
    container = (
        next((container for container in workload.containers if container.memory_path("limits") == path), None)
        if workload
        else None
    )
    if container is None:
        return ""
    whom = "containers" if request.name == "any" else f"container {container.name!r} of {request.kind} {request.name}"
    for item in ranges:
        where = f"LimitRange {item.name} of {item.namespace}"
        if item.max is not None and item.max < wanted:
            return f"{where} allows {whom} {format_memory(item.max)} at most"
        if item.default and item.default < wanted and container.memory("limits") is None:
            return f"{where} gives {whom} {format_memory(item.default)}"
    return ""
