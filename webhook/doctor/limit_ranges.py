"""LimitRanges that refuse every pod, or that stand against what policies ask for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

from webhook.config import Config
from webhook.doctor.remark import Remark, Remarks, cannot_tell, listed
from webhook.doctor.survey import Survey, seen
from webhook.engine import decide
from webhook.errors import FactsUnavailable
from webhook.findings import findings_of
from webhook.fixes import sets_of
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.limitranger import refusals
from webhook.objects.pods import read_workload
from webhook.objects.quantities import format_memory, parse_memory
from webhook.policy import AdmissionRequest, Object, Verdict


def check_limit_ranges(survey: Survey) -> Remarks:
    """LimitRanges that refuse every pod, or that stand against what policies ask for."""
    config, facts, templates = seen(survey.config), seen(survey.facts), seen(survey.templates)
    by_namespace: dict[str, list[Object]] = defaultdict(list)
    for limit_range in seen(survey.limit_ranges):
        by_namespace[limit_range["metadata"]["namespace"]].append(limit_range)
    found = 0
    for resource, why in templates.unlisted.items():
        found += 1
        yield cannot_tell(FactsUnavailable(f"whether LimitRanges suit {resource}: {why}"))
    for namespace, limit_ranges in sorted(by_namespace.items()):
        plain = _plain(namespace)
        names = listed(limit_range["metadata"]["name"] for limit_range in limit_ranges)
        items = [item for limit_range in limit_ranges for item in read_items(limit_range.get("spec") or {})]
        workload = read_workload(plain)
        for refusal in refusals(workload, items)[:1] if workload else ():
            found += 1
            text = (
                f"LimitRange {names} of {namespace}: pods without resources of their own are refused: {refusal.wrong}"
            )
            yield Remark("fail", text, f"change its default or its bounds of {refusal.resource}")
        requests = [plain, *(request for request in templates.requests if request.namespace == namespace)]
        for remark in _against_policies(requests, config, facts, survey.now.date()):
            found += 1
            yield remark
    if not found:
        yield Remark("ok", f"LimitRanges of {len(by_namespace)} namespaces contradict no policy")


def _plain(namespace: str) -> AdmissionRequest:
    """A workload of which nothing is said."""
    template = {"spec": {"containers": [{"name": "any", "image": "any:1"}]}}
    obj = {"metadata": {"name": "any", "namespace": namespace}, "spec": {"template": template}}
    return AdmissionRequest("CREATE", "apps", "v1", "Deployment", namespace, "any", obj)


def _against_policies(
    requests: Sequence[AdmissionRequest], config: Config, facts: ClusterFacts, today: date
) -> Remarks:
    """Where a LimitRange gives or allows less memory than a policy would set if there were none; each once."""
    ranges = [item for item in facts.of(LIMIT_RANGES).get(requests[0].namespace, ()) if item.type == "Container"]
    without = replace(facts, records={**facts.records, LIMIT_RANGES: {}})
    told = set()
    for request in requests:
        for finding in findings_of(request, decide(request, without, config, today=today), config):
            verdict = finding.verdict
            for path, wanted in _wanted_limits(verdict) if finding.needs_action else ():
                if (against := _against(path, wanted, request, ranges)) and (verdict.policy, against) not in told:
                    told.add((verdict.policy, against))
                    advice = f"raise it in the LimitRange, or lower it in the parameters of {verdict.policy}"
                    yield Remark("warn", f"{against}, where {verdict.policy} asks for {format_memory(wanted)}", advice)


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
