"""Namespaces: a namespace's labels."""

from __future__ import annotations

from collections.abc import Mapping

from webhook.objects.facts.decoding import Metadata, Wire, read_texts
from webhook.policy import FactKind, FactReference

_NAME_LABEL = "kubernetes.io/metadata.name"


def _read(reference: FactReference, metadata: Metadata, _: Wire) -> Mapping[str, str]:
    # The API server gives every namespace this label; one that comes from a chart has not been there yet.
    return {**read_texts(metadata.labels, "metadata.labels"), _NAME_LABEL: reference.name}


def _applied(labels: Mapping[str, str], seen: Mapping[str, str] | None) -> Mapping[str, str]:
    """The namespace once it is applied: labels that others gave it stay."""
    return labels if seen is None else {**seen, **labels}


NAMESPACES: FactKind[str, Mapping[str, str]] = FactKind(
    group="", kind="Namespace", resource="namespaces", wire=Wire, read=_read, applied=_applied
)
