"""Whether a workload's pods keep away from nodes where one of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from webhook.objects.pods import Workload, items, mapping
from webhook.objects.topology import HOST_LABEL


def keeps_apart(workload: Workload) -> bool:
    """Whether no two of the workload's pods may be on one node, as its required anti-affinity says."""
    return any(_selects(selector, workload.labels) for selector in _selectors(workload))


def _selectors(workload: Workload) -> Iterator[Mapping[str, Any]]:
    """The pods of its own namespace from whose nodes its pods keep away."""
    path = f"{workload.spec_path}.affinity"
    anti = mapping(mapping(workload.spec, "affinity", workload.spec_path), "podAntiAffinity", path)
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    for index, term in enumerate(items(anti, field, f"{path}.podAntiAffinity")):
        at = f"{path}.podAntiAffinity.{field}[{index}]"
        is_elsewhere = term.get("namespaceSelector") is not None or term.get("namespaces")
        if term.get("topologyKey") == HOST_LABEL and term.get("labelSelector") is not None and not is_elsewhere:
            yield mapping(term, "labelSelector", at)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = mapping(selector, "matchLabels", "labelSelector")
    expressions = items(selector, "matchExpressions", "labelSelector")
    return wanted.items() <= labels.items() and all(_holds(expression, labels) for expression in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key"), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(str(key)) in values
        case "NotIn":
            return labels.get(str(key)) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
