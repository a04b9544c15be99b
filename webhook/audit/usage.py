"""The memory that containers use (metrics.k8s.io), beside their limits and the limits that they would be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from webhook.findings import Finding
from webhook.fixes import sets_of
from webhook.objects.owners import controller_of
from webhook.objects.pods import read_workload
from webhook.objects.quantities import format_memory, parse_memory
from webhook.policy import AdmissionRequest, Reference

NEAR = 0.85
"""The part of its limit above which a container is named."""
_MEBI = 1 << 20


class Use(NamedTuple):
    """Bytes of memory that a container uses in its workload's fullest pod, and its limit there."""

    amount: int
    limit: int | None


class Near(NamedTuple):
    """A container that is close to its limit, or beyond."""

    workload: Reference
    container: str
    amount: int
    limit: int

    @property
    def percent(self) -> int:
        return self.amount * 100 // max(self.limit, 1)

    def __str__(self) -> str:
        of_limit = f"{_whole(self.amount)} of its {format_memory(self.limit)}, {self.percent} %"
        return f"{self.workload}, container {self.container!r} uses {of_limit}"


class Usage:
    """What the containers of workloads use; `pods` is what read_pods found."""

    def __init__(self, pods: Mapping[tuple[str, str], Mapping[str, int]]) -> None:
        self._pods = pods
        self._above: dict[str, Reference] = {}
        """uid of an object that has an owner itself -> the workload at the top."""
        self._uses: dict[tuple[Reference, str], Use] = {}
        """Of a workload's container: where it has no limit, or comes near it."""

    def take(self, request: AdmissionRequest) -> None:
        """Take in a stored object; owners come before what they own. Raises BadObject."""
        if not self._pods:
            return
        owner = controller_of(request.object or {})
        top = Reference(request.kind, request.namespace, request.name)
        if owner is not None:
            top = self._above.get(owner.uid) or Reference(owner.kind, request.namespace, owner.name)
        if (used := self._pods.get((request.namespace, request.name))) and request.kind == "Pod":
            self._take_pod(request, used, top)
        elif owner is not None:
            self._above[request.uid] = top

    def _take_pod(self, pod: AdmissionRequest, used: Mapping[str, int], top: Reference) -> None:
        workload = read_workload(pod)
        for container in workload.containers if workload else ():
            amount, limit = used.get(container.name, 0), container.amount("limits")
            if limit is not None and amount <= limit * NEAR:
                continue
            key = top, container.name
            if key not in self._uses or amount > self._uses[key].amount:
                self._uses[key] = Use(amount, limit)

    def of(self, finding: Finding) -> str:
        """What the finding's container uses beside the limit that it would get: "780Mi, would be given 512Mi: killed".

        Empty where that isn't known.
        """
        use = self._uses.get((finding.object.reference, finding.container or ""))
        if use is None:
            return ""
        for fix in sets_of(finding.verdict.violation):
            if fix.path.endswith(".limits.memory") and isinstance(fix.value, str | int):
                killed = ": killed" if use.amount > parse_memory(fix.value) else ""
                return f"{_whole(use.amount)}, would be given {fix.value}{killed}"
        return f"{_whole(use.amount)} in its fullest pod"

    def near(self) -> list[Near]:
        """The containers that come near their limits, the fullest first."""
        near = [Near(*key, use.amount, use.limit) for key, use in self._uses.items() if use.limit is not None]
        return sorted(near, key=lambda one: (-one.percent, one))


def _whole(amount: int) -> str:
    """Bytes as text, in mebibytes rounded up."""
    return format_memory(-(-amount // _MEBI) * _MEBI)
