"""Deployments, of which one is looked up where its scale changes: a Scale says nothing of what it scales.

They are no fact that a policy declares, and aren't watched. A policy may declare a kind of Deployments with records of
its own (scrape-endpoints does), and both count as one kind: these records stand in the facts of a request for a Scale
alone.
"""

from __future__ import annotations

from typing import Any

from webhook.objects.facts.decoding import Metadata, Wire
from webhook.policy import FactKind, FactReference, Object


class _Metadata(Metadata):
    deletion_timestamp: Any = None
    owner_references: Any = None


class _Deployment(Wire):
    metadata: _Metadata | None = None
    spec: dict[str, Any] | None = None


def _read(reference: FactReference, metadata: _Metadata, wired: _Deployment) -> Object:
    kept = {
        "name": reference.name,
        "namespace": reference.namespace,
        "labels": metadata.labels,
        "annotations": metadata.annotations,
        "deletionTimestamp": metadata.deletion_timestamp,
        "ownerReferences": metadata.owner_references,
    }
    found = {key: value for key, value in kept.items() if value is not None}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": found, "spec": wired.spec or {}}


DEPLOYMENTS: FactKind[tuple[str, str], Object] = FactKind(
    group="apps",
    kind="Deployment",
    resource="deployments",
    wire=_Deployment,
    read=_read,
    key="namespace and name",
)
