"""What a change of a namespace's LimitRanges would do to the pods that its workloads make next: refused, or killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from webhook.controller.contents import Contents
from webhook.errors import BadObject, BadQuantity
from webhook.objects.facts.limit_ranges import Item
from webhook.objects.limitranger import Refusal, memory_defaults, refusals
from webhook.objects.pods import Workload
from webhook.objects.quantities import format_memory

log = structlog.get_logger()


class Danger(NamedTuple):
    """What would become of a workload's pods at their next start, and what to set to prevent it."""

    owner: str
    text: str

    def __str__(self) -> str:
        return f"{self.owner}: {self.text}"


def dangers(contents: Contents, before: Sequence[Item], after: Sequence[Item]) -> tuple[Danger, ...]:
    """What the change from these LimitRanges to those does to the pods that the workloads make next."""
    limit = _given_limit(after)
    found: dict[tuple[str, str], Danger] = {}
    known: dict[str, set[str]] = {}
    for owner, workload in contents.seen:
        names = known.setdefault(owner, set())
        # Of a live pod only what admission put into it counts: it may come from an older template than the workload has
        # now.
        new = {container.name for container in workload.containers} - names
        is_all = not names
        for refusal in _new_refusals(workload, before, after):
            if is_all or refusal.container in new:
                danger = Danger(owner, f"would be refused: {refusal}")
                found.setdefault((owner, refusal.path), danger)
        for container in workload.containers:
            use = contents.use.get((owner, container.name), 0)
            if container.name in new and container.memory("limits") is None and limit is not None and use > limit:
                path = container.memory_path("limits")
                text = (
                    f"would be killed: container {container.name!r} uses {_show_use(use)}, above the default limit "
                    f"{format_memory(limit)}: set {path} to {format_memory(_roomy(use))}, and more if it grows"
                )
                found.setdefault((owner, path), Danger(owner, text))
        names |= new
    return tuple(found.values())


def _new_refusals(workload: Workload, before: Sequence[Item], after: Sequence[Item]) -> list[Refusal]:
    """The refusals of the workload's pods by the LimitRanges `after` that those `before` do not cause."""
    try:
        today = {(refusal.path, refusal.resource) for refusal in refusals(workload, before)}
        return [refusal for refusal in refusals(workload, after) if (refusal.path, refusal.resource) not in today]
    # It is a custom resource, which its operator can't read, either, and so makes no pods of.
    except (BadObject, BadQuantity) as error:
        log.warning("passed over", object=f"{workload.kind} {workload.namespace}/{workload.name}", error=str(error))
        return []


def _given_limit(items: Sequence[Item]) -> int | None:
    limit = next(iter(memory_defaults(items)), None)
    return int(limit) if limit else None  # 0 is no limit


def _show_use(use: int) -> str:
    return f"{-(-use // 2**20)}Mi"


def _roomy(use: int) -> int:
    """A limit for a container that now uses so many bytes: half as much again, since use peaks, in steps of 64Mi."""
    step = 64 * 2**20
    return -(-use * 3 // (2 * step)) * step
