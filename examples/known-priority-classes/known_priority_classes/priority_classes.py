"""PriorityClasses: a kind of fact that none of Forestall's own policies reads."""

from __future__ import annotations

import msgspec

from webhook.objects.facts import Metadata, Wire
from webhook.policy import FactKind, FactReference


class PriorityClass(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a PriorityClass: as little as the policy needs, since a cluster may have thousands of objects."""

    name: str
    value: int
    """Pods of a higher value are scheduled first."""


class _PriorityClass(Wire):
    value: int | None = None


def _read(reference: FactReference, _metadata: Metadata, wired: _PriorityClass) -> PriorityClass:
    return PriorityClass(reference.name, wired.value or 0)


PRIORITY_CLASSES: FactKind[str, PriorityClass] = FactKind(
    group="scheduling.k8s.io",
    kind="PriorityClass",
    resource="priorityclasses",
    wire=_PriorityClass,
    read=_read,
)
