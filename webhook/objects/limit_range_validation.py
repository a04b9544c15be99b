"""Why the API server would refuse a LimitRange itself (ValidateLimitRange)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from webhook.objects.facts.limit_ranges import Item
from webhook.objects.limitranger import may_overcommit, show_amount


def wrong_with(item: Item) -> str:
    """Why the API server would refuse the LimitRange (ValidateLimitRange); empty if it wouldn't."""
    amounts = {"min": item.min, "defaultRequest": item.default_request, "default": item.default, "max": item.max}
    for (low, least), (high, most) in reversed([*combinations(amounts.items(), 2)]):
        for resource in least.keys() & most.keys():
            if least[resource] > most[resource]:
                return (
                    f"{low}.{resource} {show_amount(resource, least[resource])} is above {high}.{resource} "
                    f"{show_amount(resource, most[resource])}"
                )
    for resource, ratio in item.max_ratio.items():
        if ratio < 1:
            return f"maxLimitRequestRatio.{resource} {ratio.normalize():f} is below 1: no limit is below its request"
        if resource in item.min.keys() & item.max.keys() and ratio * item.min[resource] > item.max[resource]:
            return f"maxLimitRequestRatio.{resource} {ratio.normalize():f} is above max.{resource} / min.{resource}"
    for resource in item.default.keys() & item.default_request.keys():
        if not may_overcommit(resource) and item.default[resource] != item.default_request[resource]:
            return f"default.{resource} and defaultRequest.{resource} have to be equal: it can't be overcommitted"
    return ""


_STANDARD_TYPES = ("Container", "PersistentVolumeClaim", "Pod")


def wrong_with_items(items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    """Why the API server would refuse a LimitRange with these items (ValidateLimitRange): (path, what is wrong)."""
    types: set[str] = set()
    for index, item in enumerate(items):
        path = f"spec.limits[{index}]"
        if item.type not in _STANDARD_TYPES and "/" not in item.type:
            yield f"{path}.type", f"{item.type!r} is none of {', '.join(_STANDARD_TYPES)}"
        if item.type in types:
            yield f"{path}.type", f"a second item of type {item.type}, of which there may be one"
        types.add(item.type)
        if item.type == "Pod":
            for field, amounts in (("default", item.default), ("defaultRequest", item.default_request)):
                if amounts:
                    yield f"{path}.{field}", "an item of type Pod has no defaults: they are those of type Container"
        if item.type == "PersistentVolumeClaim" and "storage" not in {**item.min, **item.max}:
            yield path, "an item of type PersistentVolumeClaim needs a min or max of storage"
        if wrong := wrong_with(item):
            yield path, wrong
