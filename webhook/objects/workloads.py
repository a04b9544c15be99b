"""Workloads of one's own, which a policy's parameters name besides those that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from webhook.objects.containers import Container
from webhook.objects.fields import mapping
from webhook.objects.images import match_image
from webhook.objects.pods import Workload


class Workloads(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Workloads of one's own, by their labels or images, judged besides those that are known."""

    labels: Annotated[
        tuple[dict[str, str], ...],
        Meta(description="Labels with their values: a workload is meant that has, or whose pods have, all of one map."),
    ] = ()
    images: Annotated[
        tuple[str, ...],
        Meta(description="Patterns of images: a workload is meant of which one container has such an image."),
    ] = ()

    def name(self, workload: Workload) -> bool:
        """Whether the workload's labels, its pods' labels or one of its images are named here."""
        return self.name_labels_of(workload) or any(self.name_image(container) for container in workload.containers)

    def name_labels_of(self, workload: Workload) -> bool:
        own = mapping(mapping(workload.object, "metadata", ""), "labels", "metadata")
        return self.name_labels(workload.labels) or self.name_labels(own)

    def name_labels(self, labels: Mapping[str, Any]) -> bool:
        return any(selector.items() <= labels.items() for selector in self.labels)

    def name_image(self, container: Container) -> bool:
        return any(match_image(pattern, container.image) for pattern in self.images)
