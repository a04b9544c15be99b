"""StorageClasses: who makes a class's volumes, with which parameters, and where."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

import msgspec

from webhook.objects.facts.decoding import Metadata, Wire, read_texts
from webhook.objects.facts.selectors import SelectorTerm, Term, terms_of
from webhook.policy import FactKind, FactReference

_NOT_YET_CREATED = "9999-12-31T23:59:59Z"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


class StorageClass(msgspec.Struct, frozen=True, gc=False):
    name: str
    provisioner: str
    parameters: Mapping[str, str]
    binding_mode: str
    """"Immediate", also where the class doesn't say, or "WaitForFirstConsumer"."""
    allowed_topologies: tuple[Term, ...]
    is_default: bool
    created: str
    """RFC 3339, which sorts as text: of several defaults the newest counts. Empty in a file."""


class _StorageClass(Wire):
    provisioner: str | None = None
    parameters: dict[str, Any] | None = None
    volume_binding_mode: str | None = None
    allowed_topologies: list[SelectorTerm] | None = None


def _read(reference: FactReference, metadata: Metadata, wired: _StorageClass) -> StorageClass:
    annotations = metadata.annotations or {}
    return StorageClass(
        name=intern(reference.name),
        provisioner=intern(wired.provisioner or ""),
        parameters=read_texts(wired.parameters, "parameters"),
        binding_mode=intern(wired.volume_binding_mode or "Immediate"),
        allowed_topologies=terms_of(wired.allowed_topologies),
        is_default=any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS),
        created=metadata.creation_timestamp or "",
    )


def _applied(found: StorageClass, seen: StorageClass | None) -> StorageClass:
    """The class once it is applied: one that isn't in the cluster yet is then the newest."""
    if found.created:
        return found
    return msgspec.structs.replace(found, created=seen.created if seen is not None else _NOT_YET_CREATED)


STORAGE_CLASSES: FactKind[str, StorageClass] = FactKind(
    group="storage.k8s.io",
    kind="StorageClass",
    resource="storageclasses",
    wire=_StorageClass,
    read=_read,
    applied=_applied,
)
