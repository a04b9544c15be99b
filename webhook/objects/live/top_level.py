"""The top-level workload that an object belongs to, as far as its own owner reference tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

from webhook.objects.facts import Metadata, WirePart
from webhook.objects.owners import made_for


class TopLevel(NamedTuple):
    """A workload that a person made, by kind and name; both empty where an object has no controller."""

    group: str
    kind: str
    name: str


NOBODY = TopLevel("", "", "")


class _OwnerReference(WirePart):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class LiveMetadata(Metadata):
    """Metadata with owner references, and the times of creation and deletion."""

    owner_references: list[_OwnerReference] | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None

    @property
    def created_at(self) -> datetime | None:
        return None if self.creation_timestamp is None else datetime.fromisoformat(self.creation_timestamp)


# The pods of a workload share one value.
@lru_cache(maxsize=4096)
def _shared(top: TopLevel) -> TopLevel:
    return TopLevel(intern(top.group), intern(top.kind), intern(top.name))


def top_level_of(metadata: LiveMetadata) -> TopLevel:
    """The controller that the object names, a Deployment in place of its ReplicaSet, a CronJob in place of its Job."""
    for reference in metadata.owner_references or ():
        if reference.controller:
            labels: Mapping[str, Any] = metadata.labels or {}
            group = reference.api_version.rpartition("/")[0]
            kind, name = made_for(reference.kind, reference.name, labels) or (reference.kind, reference.name)
            return _shared(TopLevel(group, kind, name))
    return NOBODY
