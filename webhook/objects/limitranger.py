"""What LimitRanges do to a pod: the amounts that they fill in, and why the API server then refuses it.

This is about every resource, not only memory: a LimitRange may bound any. Follows Kubernetes'
plugin/pkg/admission/limitranger/admission.go, pkg/apis/core/v1/defaults.go and validatePodResourceConsistency of
pkg/apis/core/validation/validation.go (1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_UP, Decimal
from typing import Any, NamedTuple

from webhook.objects.containers import Container, ResourcePart
from webhook.objects.facts.limit_ranges import Amounts, Item
from webhook.objects.fields import mapping
from webhook.objects.pods import Workload
from webhook.objects.quantities import format_memory, parse_quantity

_MILLI = Decimal("0.001")


class Refusal(NamedTuple):
    """Why the API server refuses a pod, and what to set; `container` is empty where it is about the whole pod.

    of_all  it is about what the pod's containers have in all, and the pod has no such amount of its own
    """

    container: str
    resource: str
    wrong: str
    path: str
    advice: str
    of_all: bool = False

    @property
    def remedy(self) -> str:
        if self.of_all:
            return f"let its containers have {self.advice} in all"
        return f"set {self.path} to {self.advice}"

    def __str__(self) -> str:
        who = f"container {self.container!r}" if self.container else "the pod"
        return f"{who}: {self.wrong}: {self.remedy}"


def may_overcommit(resource: str) -> bool:
    """Whether a limit may be above its request."""
    is_native = "/" not in resource or "kubernetes.io/" in resource
    return is_native and not resource.startswith("hugepages-")


def memory_defaults(items: Iterable[Item]) -> list[Decimal]:
    """The memory limits that these LimitRanges give a container without one."""
    return [item.default["memory"] for item in items if item.type == "Container" and "memory" in item.default]


def read_amounts(amounts: Mapping[str, Any] | None) -> dict[str, Decimal]:
    """Raises BadQuantity."""
    return {resource: parse_quantity(amount) for resource, amount in (amounts or {}).items()}


def show_amount(resource: str, amount: Decimal) -> str:
    """The amount as a person writes it: memory in binary units, other resources in whole units or thousandths."""
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return format_memory(int(amount.to_integral_value(ROUND_UP)))
    if amount == amount.to_integral_value():
        return str(int(amount))
    return f"{int((amount / _MILLI).to_integral_value(ROUND_UP))}m"


class _Filled(NamedTuple):
    """A container as the API server has it when it is validated.

    copied  the resources of which only a limit is written: it is the request, too
    """

    container: Container
    requests: dict[str, Decimal]
    limits: dict[str, Decimal]
    copied: frozenset[str]

    @property
    def whole(self) -> _Whole:
        return _Whole(self.container.name, self.container.resources_path, self.requests, self.limits, self.copied)


class _Whole(NamedTuple):
    """What a LimitRange is held against: a container, or (without a name) the pod as a whole.

    summed  the parts and resources of which the pod has what its containers have in all
    """

    name: str
    path: str
    requests: Amounts
    limits: Amounts
    copied: frozenset[str]
    summed: frozenset[tuple[str, str]] = frozenset()

    def amounts_of(self, resource: str) -> Iterator[tuple[str, Decimal | None]]:
        """Request and limit; of a request that is the limit's copy, which nobody wrote, the limit alone."""
        if resource not in self.copied:
            yield "requests", self.requests.get(resource)
        yield "limits", self.limits.get(resource)

    def refusal(self, part: str, resource: str, wrong: str, advice: str) -> Refusal:
        of_all = not self.name and ((part, resource) in self.summed or resource not in getattr(self, part))
        advice = f"{part}.{resource} of {advice}" if of_all else advice
        return Refusal(self.name, resource, wrong, f"{self.path}.{part}.{resource}", advice, of_all)


class _Pod(NamedTuple):
    workload: Workload
    containers: list[_Filled]
    requests: dict[str, Decimal]
    """The requests of the pod itself (spec.resources)."""
    limits: dict[str, Decimal]

    @property
    def whole(self) -> _Whole:
        requests, limits = _total(self, "requests"), _total(self, "limits")
        written = {key for filled in self.containers for key in filled.requests.keys() - filled.copied}
        summed = {("requests", key) for key in requests.keys() - self.requests.keys()}
        summed |= {("limits", key) for key in limits.keys() - self.limits.keys()}
        return _Whole(
            "",
            f"{self.workload.spec_path}.resources",
            requests,
            limits,
            frozenset(limits.keys() - written - self.requests.keys()),
            frozenset(summed),
        )

    def path(self, part: str, resource: str) -> str:
        return f"{self.workload.spec_path}.resources.{part}.{resource}"


class Given(NamedTuple):
    """What a container has once the API server has filled in what isn't written."""

    requests: Amounts
    limits: Amounts


def given(workload: Workload, items: Sequence[Item]) -> dict[str, Given]:
    """What the containers of this workload's pods have, by path, and the pod itself, under "".

    A limit is its request, if none is written; what LimitRanges give comes after that. Of several defaults for a
    resource the first counts. Raises BadObject or BadQuantity.
    """
    pod = _decode(workload)
    _fill(pod, items)
    found = {filled.container.path: Given(filled.requests, filled.limits) for filled in pod.containers}
    return {**found, "": Given(pod.requests, pod.limits)}


def reserved(workload: Workload, items: Sequence[Item]) -> dict[str, Decimal]:
    """The resources that a node reserves for one pod of this workload in a namespace with these LimitRanges.

    Raises BadObject or BadQuantity.
    """
    pod = _decode(workload)
    _fill(pod, items)
    return _total(pod, "requests")


def refusals(workload: Workload, items: Sequence[Item]) -> list[Refusal]:
    """Why the API server would refuse a pod of this workload in a namespace with these LimitRanges.

    Of several defaults for a resource the first counts. Raises BadObject or BadQuantity.
    """
    pod = _decode(workload)
    _fill(pod, items)
    found = [*_refused_by_the_pod(pod)]
    for filled in pod.containers:
        found += _refused_by_itself(filled)
        for item in items:
            if item.type == "Container":
                found += _bounded(item, filled.whole)
    for item in items:
        if item.type == "Pod":
            found += _bounded(item, pod.whole)
    return found


def _decode(workload: Workload) -> _Pod:
    """The workload's pod, with the amounts that the API server's defaulting fills in before any admission."""
    containers = []
    for container in workload.containers:
        limits, requests = (read_amounts(container.resources.get(part)) for part in ("limits", "requests"))
        copied = frozenset(limits.keys() - requests.keys())
        containers.append(_Filled(container, {**limits, **requests}, limits, copied))
    resources, path = workload.resources, f"{workload.spec_path}.resources"
    pod_limits = read_amounts(mapping(resources, "limits", path))
    pod_requests = read_amounts(mapping(resources, "requests", path))
    if pod_limits:
        requests = _sum([(filled, filled.requests) for filled in containers])
        pod_requests = {**pod_limits, **{key: requests[key] for key in requests if _is_shared(key)}, **pod_requests}
    return _Pod(workload, containers, pod_requests, pod_limits)


def _total(pod: _Pod, part: ResourcePart) -> dict[str, Decimal]:
    """The pod's requests or limits: its own, where it has some, and else what its containers come to."""
    if part == "requests":
        return {**_sum([(filled, filled.requests) for filled in pod.containers]), **pod.requests}
    return {**_sum([(filled, filled.limits) for filled in pod.containers]), **pod.limits}


def _is_shared(resource: str) -> bool:
    """Whether a pod may have an amount of this resource of its own, which its containers share."""
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")


def _fill(pod: _Pod, items: Sequence[Item]) -> None:
    for item in items:
        if item.type != "Container":
            continue
        for filled in pod.containers:
            filled.limits.update({**item.default, **filled.limits})
            filled.requests.update({**item.default_request, **filled.requests})


def _sum(parts: Sequence[tuple[_Filled, Amounts]]) -> dict[str, Decimal]:
    """The pod's sum of each resource: init containers run one by one, sidecars beside all containers after them."""
    total: dict[str, Decimal] = {}
    sidecars: dict[str, Decimal] = {}
    highest: dict[str, Decimal] = {}
    for filled, amounts in parts:
        role = filled.container.role
        if role != "init":
            total = _plus(total, amounts)
        if role == "sidecar":
            sidecars = _plus(sidecars, amounts)
        if role != "container":
            now = sidecars if role == "sidecar" else _plus(sidecars, amounts)
            highest = {key: max(amount, highest.get(key, amount)) for key, amount in {**highest, **now}.items()}
    return {key: max(amount, total.get(key, amount)) for key, amount in {**total, **highest}.items()}


def _plus(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    return {key: one.get(key, Decimal(0)) + other.get(key, Decimal(0)) for key in {**one, **other}}


def _refused_by_itself(filled: _Filled) -> Iterator[Refusal]:
    for resource, request in filled.requests.items():
        if not may_overcommit(resource) and filled.limits.get(resource) != request:
            wrong = (
                f"{resource} can't be overcommitted, and its limit isn't its request {show_amount(resource, request)}"
            )
            path = f"{filled.container.resources_path}.limits.{resource}"
            yield Refusal(filled.container.name, resource, wrong, path, show_amount(resource, request))
        elif (limit := filled.limits.get(resource)) is not None and request > limit:
            wrong = f"its request for {resource}, {show_amount(resource, request)}, is above the limit "
            wrong += show_amount(resource, limit)
            path = f"{filled.container.resources_path}.limits.{resource}"
            yield Refusal(filled.container.name, resource, wrong, path, f"{show_amount(resource, request)} or more")


def _refused_by_the_pod(pod: _Pod) -> Iterator[Refusal]:
    for filled in pod.containers:
        for resource, limit in filled.limits.items():
            most = pod.limits.get(resource)
            # The API server looks at the containers alone here, not at init containers.
            if most is not None and limit > most and filled.container.role == "container":
                wrong = f"the limit {show_amount(resource, limit)} is above the pod's own limit for {resource}, "
                wrong += show_amount(resource, most)
                path = f"{filled.container.resources_path}.limits.{resource}"
                yield Refusal(filled.container.name, resource, wrong, path, f"{show_amount(resource, most)} or less")
    total = _sum([(filled, filled.requests) for filled in pod.containers])
    for resource, request in pod.requests.items():
        if request > (most := pod.limits.get(resource, request)):
            wrong = f"its request for {resource}, {show_amount(resource, request)}, is above its limit "
            wrong += show_amount(resource, most)
            yield Refusal(
                "", resource, wrong, pod.path("limits", resource), f"{show_amount(resource, request)} or more"
            )
        needed = total.get(resource, request)
        if needed > request:
            wrong = f"its containers request {show_amount(resource, needed)} of {resource}, above the pod's own "
            wrong += f"request {show_amount(resource, request)}"
            advice = show_amount(resource, needed)
            if needed > pod.limits.get(resource, needed):
                advice += ", and its limit as well, or give its containers smaller requests"
            yield Refusal("", resource, wrong, pod.path("requests", resource), advice)


def _bounded(item: Item, whole: _Whole) -> Iterator[Refusal]:
    """What min, max and maxLimitRequestRatio refuse (LimitRanger's three constraints)."""
    for resource, least in item.min.items():
        yield from _below(whole, resource, least)
    for resource, most in item.max.items():
        yield from _above(whole, resource, most)
    for resource, ratio in item.max_ratio.items():
        yield from _beyond(whole, resource, ratio)


def _below(whole: _Whole, resource: str, least: Decimal) -> Iterator[Refusal]:
    shown = show_amount(resource, least)
    for part, amount in whole.amounts_of(resource):
        if amount is None and part == "requests":
            wrong = f"no request for {resource}, where the minimum is {shown}"
            yield whole.refusal(part, resource, wrong, f"{shown} or more")
        elif amount is not None and amount < least:
            wrong = f"{part}.{resource} {show_amount(resource, amount)} is below the minimum {shown}"
            yield whole.refusal(part, resource, wrong, f"{shown} or more")


def _above(whole: _Whole, resource: str, most: Decimal) -> Iterator[Refusal]:
    shown = show_amount(resource, most)
    for part, amount in whole.amounts_of(resource):
        if amount is None and part == "limits":
            wrong = f"no limit for {resource}, where the maximum is {shown}"
            yield whole.refusal(part, resource, wrong, f"{shown} or less")
        elif amount is not None and amount > most:
            wrong = f"{part}.{resource} {show_amount(resource, amount)} is above the maximum {shown}"
            yield whole.refusal(part, resource, wrong, f"{shown} or less")


def _beyond(whole: _Whole, resource: str, ratio: Decimal) -> Iterator[Refusal]:
    request, limit = whole.requests.get(resource), whole.limits.get(resource)
    if not limit:
        wrong = f"no limit for {resource}, where its ratio to the request is bounded"
        yield whole.refusal("limits", resource, wrong, "an amount")
    elif not request or limit > request * ratio:
        wrong = f"limits.{resource} {show_amount(resource, limit)} is more than {ratio.normalize():f} times the "
        wrong += f"request {show_amount(resource, request or Decimal(0))}"
        yield whole.refusal("requests", resource, wrong, f"{show_amount(resource, limit / ratio)} or more")
