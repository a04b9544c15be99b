"""PersistentVolumeClaims: which volume a claim is bound to, and which class it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadQuantity
from webhook.objects.facts.decoding import Metadata, Wire, WirePart
from webhook.objects.quantities import parse_memory
from webhook.policy import FactKind, FactReference

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    volume: str
    """Name of the PersistentVolume that the claim is bound to; empty while it isn't bound."""
    storage_class: str | None
    """Name of the class; None where the claim leaves it to the default class, empty where it asks for no class."""
    has_selector: bool = False
    """Whether the claim selects volumes by labels: then none is made for it, and it waits for one made by hand."""
    access_modes: tuple[str, ...] = ()
    """Who may mount its volume: "ReadWriteOnce" (the pods of one node), "ReadWriteOncePod", "ReadWriteMany", …"""
    size: int = 0
    """Bytes that it asks for; 0 where that can't be read."""


class _Resources(WirePart):
    requests: dict[str, Any] | None = None


class _Spec(WirePart):
    volume_name: str | None = None
    storage_class_name: str | None = None
    selector: dict[str, Any] | None = None
    access_modes: list[str] | None = None
    resources: _Resources | None = None


class _Claim(Wire):
    spec: _Spec | None = None


def _read(reference: FactReference, metadata: Metadata, wired: _Claim) -> Claim:
    spec = wired.spec or _Spec()
    storage_class = claim_class({"annotations": metadata.annotations}, {"storageClassName": spec.storage_class_name})
    return Claim(
        namespace=reference.namespace,
        name=reference.name,
        volume=spec.volume_name or "",
        storage_class=None if storage_class is None else intern(storage_class),
        has_selector=spec.selector is not None,
        access_modes=_modes(tuple(spec.access_modes or ())),
        size=_size(((spec.resources or _Resources()).requests or {}).get("storage")),
    )


def _size(written: Any) -> int:
    # The API server refuses what is no quantity; for a policy that asks for no size it is not worth an error.
    try:
        return parse_memory(written) if isinstance(written, str | int | float) else 0
    except BadQuantity:
        return 0


# Ten thousand claims have a handful of different lists.
@lru_cache(maxsize=64)
def _modes(modes: tuple[str, ...]) -> tuple[str, ...]:
    return modes


def claim_class(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """The class that a claim, or a template of one, names: None if it leaves it to the default, "" if it wants none."""
    annotations = metadata.get("annotations")
    annotated = annotations.get(_CLASS_ANNOTATION) if isinstance(annotations, dict) else None
    name = spec.get("storageClassName") if annotated is None else annotated
    return None if name is None else str(name)


def _applied(found: Claim, seen: Claim | None) -> Claim:
    """The claim once it is applied: a manifest names no volume, and applying it leaves the claim bound as it was."""
    if found.volume or seen is None:
        return found
    storage_class = seen.storage_class if found.storage_class is None else found.storage_class
    return msgspec.structs.replace(found, volume=seen.volume, storage_class=storage_class)


CLAIMS: FactKind[tuple[str, str], Claim] = FactKind(
    group="",
    kind="PersistentVolumeClaim",
    resource="persistentvolumeclaims",
    wire=_Claim,
    read=_read,
    key="namespace and name",
    applied=_applied,
)
