"""PersistentVolumes: the storage behind a volume, and which nodes may use it."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadObject
from webhook.objects.facts.decoding import Metadata, Wire, WirePart, explain_validation, read_texts, shared_texts
from webhook.objects.facts.selectors import NodeSelector, Term, shared_terms, terms_of
from webhook.objects.facts.zones import zone_of
from webhook.policy import FactKind, FactReference
from webhook.prepared import prepare

_NOT_SOURCES = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


class Volume(msgspec.Struct, frozen=True, gc=False):
    """A PersistentVolume."""

    name: str
    source: str
    """The field of the spec that says what backs it: "csi", "awsElasticBlockStore", "local", "nfs", …"""
    driver: str
    """The CSI driver's name, else empty."""
    attributes: Mapping[str, str]
    node_affinity: tuple[Term, ...]
    zone_label: str
    """The zone label's value, which may hold several zones joined by "__"."""
    storage_class: str
    claim: tuple[str, str] | None = None
    """Namespace and name of the claim that the volume is bound to or reserved for; None if there is none."""


class _CSISource(WirePart):
    driver: str | None = None
    volume_attributes: dict[str, Any] | None = None


class _Affinity(WirePart):
    required: NodeSelector | None = None


class _ClaimReference(WirePart):
    namespace: str | None = None
    name: str | None = None


class _Spec(WirePart):
    claim_ref: _ClaimReference | None = None
    csi: _CSISource | None = None
    node_affinity: _Affinity | None = None
    storage_class_name: str | None = None


class _Volume(Wire):
    spec: dict[str, Any] | None = None


class _SpecOfVolume(WirePart):
    spec: _Spec


prepare(_SpecOfVolume)


def _read(reference: FactReference, metadata: Metadata, wired: _Volume) -> Volume:
    written = wired.spec or {}
    try:
        spec = msgspec.convert({"spec": written}, _SpecOfVolume).spec
    except msgspec.ValidationError as error:
        raise BadObject(explain_validation(error, {"spec": written})) from error
    csi = spec.csi or _CSISource()
    attributes = read_texts(csi.volume_attributes, "spec.csi.volumeAttributes")
    kept = spec.claim_ref
    required = spec.node_affinity and spec.node_affinity.required
    return Volume(
        name=reference.name,
        source=intern(
            next((key for key, value in written.items() if key not in _NOT_SOURCES and value is not None), "")
        ),
        driver=intern(csi.driver or ""),
        attributes=shared_texts(tuple(attributes.items())),
        node_affinity=shared_terms(terms_of(required.node_selector_terms)) if required else (),
        zone_label=zone_of(read_texts(metadata.labels, "metadata.labels")),
        storage_class=intern(spec.storage_class_name or ""),
        claim=(intern(kept.namespace), kept.name) if kept and kept.namespace and kept.name else None,
    )


VOLUMES: FactKind[str, Volume] = FactKind(
    group="", kind="PersistentVolume", resource="persistentvolumes", wire=_Volume, read=_read
)
