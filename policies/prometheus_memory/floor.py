"""How much memory is enough for Prometheus' series, and which containers hold them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from webhook.objects.containers import Container
from webhook.objects.pods import Workload
from webhook.objects.prometheus import LEAST_LIMIT, LEAST_REQUEST, SERVER_NAMES, series_containers
from webhook.objects.quantities import Memory
from webhook.objects.workloads import Workloads

_MEBIBYTE = 2**20


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    min_request: Annotated[
        Memory, Meta(description="The least memory request of a container that holds Prometheus' series.")
    ] = LEAST_REQUEST
    min_limit: Annotated[
        Memory, Meta(description="The least memory limit of a container that holds Prometheus' series.")
    ] = LEAST_LIMIT
    workloads: Annotated[
        Workloads,
        Meta(
            description="Prometheus servers that nothing else tells: an image names the container itself, a label "
            "selector a workload, of which it is the main container."
        ),
    ] = Workloads()
    series: Annotated[
        int | None,
        Meta(
            description="How many head series a Prometheus holds at its busiest: the least request and limit are then "
            "computed from it, and minRequest and minLimit don't count."
        ),
    ] = None
    largest_node: Annotated[
        Memory | None,
        Meta(
            description="Allocatable memory of the largest node that there may be: mode patch sets no request above "
            "it. Where it isn't given, today's largest node counts."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.series is not None and self.series < 1:
            raise ValueError(f"series {self.series} is not a positive number")
        if self.min_request > self.min_limit:
            raise ValueError(f"minRequest {self.min_request} is above minLimit {self.min_limit}")


class Floor(msgspec.Struct, frozen=True):
    request: int
    limit: int
    reason: str


def floor_of(params: Params) -> Floor:
    """What is enough: the figures that ended the incident, or those that the number of series asks for.

    limit = 1.2 x (256 MiB + 8 KiB x series), request = limit / 1.5, the incident's ratio; both rounded up to MiB.
    Real series take 4.5 to 9 KiB each, so the need may be 44 % less or 13 % more; heavy queries come on top.
    """
    if params.series is None:
        return Floor(params.min_request, params.min_limit, "")
    limit = -(-12 * (256 * _MEBIBYTE + 8 * 1024 * params.series) // (10 * _MEBIBYTE))
    request = -(-2 * limit // 3)
    reason = f" for {params.series} series (-44 % / +13 %, without heavy queries)"
    return Floor(request * _MEBIBYTE, limit * _MEBIBYTE, reason)


def find_series(workload: Workload, own: Workloads) -> list[Container]:
    """The containers that keep series: Prometheus' known images and those that parameter `workloads` names; without
    any, the main container of a workload that its labels name."""
    found = series_containers(workload)
    if own.images:
        known = {container.path for container in [*found, *filter(own.name_image, workload.containers)]}
        found = [container for container in workload.containers if container.path in known and container.role != "init"]
    if found or not own.labels or not own.name_labels_of(workload):
        return found
    main = [container for container in workload.containers if container.role == "container"]
    return [container for container in main if container.name in SERVER_NAMES][:1] or main[:1]
