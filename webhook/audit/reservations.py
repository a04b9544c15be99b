"""The resources that the requests added by patching would reserve on nodes, for all pods of a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from webhook.objects.facts.limit_ranges import Item
from webhook.objects.fields import mapping
from webhook.objects.limitranger import reserved
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, Object


def added(request: AdmissionRequest, patched: Object, items: Sequence[Item]) -> dict[str, Decimal]:
    """Resource -> what the workload's pods would reserve more if the object were the patched one; `items` are those of
    its namespace's LimitRanges. Raises BadObject or BadQuantity."""
    pods = _pods(request)
    if not pods:
        return {}
    before = _reserved(request, items)
    after = _reserved(msgspec.structs.replace(request, object=patched), items)
    more = {resource: (amount - before.get(resource, 0)) * pods for resource, amount in after.items()}
    return {resource: amount for resource, amount in more.items() if amount}


def _reserved(request: AdmissionRequest, items: Sequence[Item]) -> Mapping[str, Decimal]:
    workload = read_workload(request)
    return reserved(workload, items) if workload else {}


def _pods(request: AdmissionRequest) -> int:
    """How many pods the object keeps at a time; 0 for one that makes pods only later, such as a CronJob."""
    obj = request.object or {}
    spec = mapping(obj, "spec", "")
    match request.kind:
        case "CronJob" | "PodTemplate" | "PersistentVolumeClaim":
            return 0
        case "Pod":
            return 1
        case "DaemonSet":
            return _number(mapping(obj, "status", ""), "desiredNumberScheduled", 0)
        case "Job":
            return _number(spec, "parallelism", 1)
        case _:
            return _number(spec, "replicas", 1) * _number(spec, "shards", 1)


def _number(parent: Mapping[str, Any], field: str, default: int) -> int:
    value = parent.get(field)
    return value if isinstance(value, int) else default
