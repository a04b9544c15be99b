"""EndpointSlices: how many addresses a Service has, and how many of them are ready."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from typing import Any

import msgspec

from webhook.objects.facts import Wire, WirePart
from webhook.objects.live.top_level import LiveMetadata
from webhook.policy import FactKind, FactReference

_SERVICE = "kubernetes.io/service-name"
_CHANGED = "endpoints.kubernetes.io/last-change-trigger-time"


class EndpointSlice(msgspec.Struct, frozen=True, gc=False):
    """A part of a Service's endpoints; `changed` is when a pod or the Service last changed it, or when it was made."""

    namespace: str
    service: str
    there: int
    ready: int
    changed: datetime | None


class _Conditions(WirePart):
    ready: bool | None = None


class _Endpoint(WirePart):
    conditions: _Conditions | None = None


class _EndpointSlice(Wire):
    metadata: LiveMetadata = msgspec.field(default_factory=LiveMetadata)
    endpoints: list[_Endpoint] | None = None


def _read(reference: FactReference, metadata: LiveMetadata, wired: _EndpointSlice) -> EndpointSlice:
    endpoints = wired.endpoints or ()
    labels: Mapping[str, Any] = metadata.labels or {}
    # One whose readiness isn't known is ready (k8s.io/api/discovery/v1, EndpointConditions).
    ready = sum(endpoint.conditions is None or endpoint.conditions.ready is not False for endpoint in endpoints)
    return EndpointSlice(
        namespace=reference.namespace,
        service=intern(str(labels.get(_SERVICE) or "")),
        there=len(endpoints),
        ready=ready,
        changed=_changed_at(metadata),
    )


def _changed_at(metadata: LiveMetadata) -> datetime | None:
    try:
        return datetime.fromisoformat(str((metadata.annotations or {})[_CHANGED]))
    except (KeyError, ValueError):
        return metadata.created_at


ENDPOINT_SLICES: FactKind[tuple[str, str], EndpointSlice] = FactKind(
    group="discovery.k8s.io",
    kind="EndpointSlice",
    resource="endpointslices",
    wire=_EndpointSlice,
    read=_read,
    key="namespace and name",
)
