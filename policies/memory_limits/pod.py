"""A workload whose memory is judged, and which of the amounts that are written in it count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from policies.memory_limits.params import Params
from webhook.objects.containers import Container
from webhook.objects.facts import LimitRange
from webhook.objects.pods import Workload
from webhook.objects.quantities import is_fraction_of_byte
from webhook.objects.sizes import Bounds


class Pod(NamedTuple):
    """A workload, and what its memory is judged by.

    ranges          its namespace's LimitRanges; `bounds` are what they ask of each container together
    unread          a sentence's subject that names the LimitRanges that could not be read; empty if all could
    before          its containers as they were before the change, by the path that they have now
    memory_volumes  its volumes in memory by name, with the bytes that each may hold, None for any number
    """

    workload: Workload
    ranges: tuple[LimitRange, ...]
    bounds: Bounds
    unread: str
    params: Params
    before: Mapping[str, Container]
    memory_volumes: Mapping[str, int | None]

    def limit_before(self, container: Container) -> Any:
        """The limit that the container had before the change, as it was written; None for what counts as none."""
        before = self.before.get(container.path)
        return None if before is None or why_no_limit(before) else before.memory("limits")

    def requested(self, container: Container) -> int:
        """What somebody asked for, in bytes, now or before the change; 0 if nobody did."""
        if (requested := meant_request(container)) or (before := self.before.get(container.path)) is None:
            return requested
        if before.memory("requests") is None and self.limit_before(container) is not None:
            return before.amount("limits") or 0  # the API server copies a limit without a request into the request
        return meant_request(before)


def why_no_limit(of: Container | Workload) -> str:
    """Why the limit that is written counts as none; empty if it counts, and where none is written."""
    limit = of.memory("limits")
    if limit is None:
        return ""
    if not of.amount("limits"):
        return f"{limit}, which means none"
    if is_fraction_of_byte(limit):
        meant = f" (was {str(limit)[:-1]}Mi meant?)" if str(limit).endswith("m") else ""
        return f"{limit}, a fraction of a byte{meant}"
    return ""


def meant_request(container: Container) -> int:
    """The request in bytes that a person meant: 0 for one of 0, which a LimitRange or a chart filled in, and for a
    fraction of a byte, which is a slip."""
    written = container.memory("requests")
    return 0 if written is None or is_fraction_of_byte(written) else container.amount("requests") or 0


def pods_of(workload: Workload) -> str:
    return "this Pod" if workload.kind == "Pod" else f"pods of this {workload.kind}"
