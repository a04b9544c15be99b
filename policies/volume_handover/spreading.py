"""Whether a workload's pods keep away from nodes where one of them is."""

from __future__ import annotations

from collections.abc import Iterator

from webhook.objects.fields import items, mapping
from webhook.objects.label_selectors import Selector, read_selector
from webhook.objects.pods import Workload
from webhook.objects.topology import HOST_LABEL

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def keeps_apart(workload: Workload) -> bool:
    """Whether no two of the workload's pods may be on one node, as its required anti-affinity says."""
    return any(selector.selects(workload.labels) for selector in _selectors(workload))


def _selectors(workload: Workload) -> Iterator[Selector]:
    """The pods of its own namespace from whose nodes its pods keep away."""
    path = f"{workload.spec_path}.affinity"
    anti = mapping(mapping(workload.spec, "affinity", workload.spec_path), "podAntiAffinity", path)
    for index, term in enumerate(items(anti, _REQUIRED, f"{path}.podAntiAffinity")):
        is_elsewhere = term.get("namespaceSelector") is not None or term.get("namespaces")
        if term.get("topologyKey") == HOST_LABEL and not is_elsewhere:
            selector = read_selector(term, "labelSelector", f"{path}.podAntiAffinity.{_REQUIRED}[{index}]")
            if selector is not None:
                yield selector
