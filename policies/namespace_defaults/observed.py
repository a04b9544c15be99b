"""What is seen in a running cluster: workloads that have too few pods, since a LimitRange refuses the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from webhook.objects.commands import kubectl
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.limitranger import Refusal, refusals
from webhook.objects.live import Live, LiveWorkload, condition_of
from webhook.objects.pods import Workload
from webhook.policy import Observation

_MOST = 3
"""Refusals that a message tells; what is beyond them is counted."""


def observe(live: Live, facts: ClusterFacts, _params: object) -> Iterator[Observation]:
    for lacking in live.workloads():
        ranges = facts.of(LIMIT_RANGES).get(lacking.namespace, ())
        if lacking.there >= lacking.desired or not ranges:
            continue
        workload = lacking.workload
        if workload is not None and (found := _refusals(workload, ranges)):
            yield _observation(lacking, ranges, found)


def _refusals(workload: Workload, ranges: Sequence[LimitRange]) -> list[Refusal]:
    """Why the API server refuses the workload's pods, as far as LimitRanges are to blame."""
    without = set(refusals(workload, ()))
    items = [limit_range.item for limit_range in ranges]
    return [refusal for refusal in refusals(workload, items) if refusal not in without]


def _observation(lacking: LiveWorkload, ranges: Sequence[LimitRange], found: Sequence[Refusal]) -> Observation:
    names = ", ".join(sorted({limit_range.name for limit_range in ranges}))
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    failed = condition_of(lacking.conditions, "ReplicaFailure")
    return Observation(
        lacking.reference,
        found[0].container,
        f"{lacking.there} of {lacking.desired} pods are there, as LimitRange {names} refuses more: "
        + "; ".join(map(str, found[:_MOST]))
        + more,
        run=(kubectl("describe", "limitranges", *names.split(", "), namespace=lacking.namespace),),
        since=failed.since if failed is not None and failed.status == "True" else None,
        value=lacking.there,
        severity="error",
    )
