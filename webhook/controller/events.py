"""Kubernetes Events, which `kubectl get events` shows."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import structlog

from webhook.errors import ForestallError
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster import Cluster

REPORTER = "forestall.dev/controller"
_NOTE_BYTES = 1024
"""Bytes that the API server takes as an Event's note."""

log = structlog.get_logger()


def event(
    regarding: Object, reason: str, note: str, now: datetime, *, action: str, kind: Literal["Normal", "Warning"]
) -> Object:
    """An events.k8s.io/v1 Event about a namespaced object (with apiVersion and kind)."""
    metadata = regarding["metadata"]
    reference = {
        "apiVersion": regarding["apiVersion"],
        "kind": regarding["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "forestall-", "namespace": metadata["namespace"]},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": (os.environ.get("HOSTNAME") or socket.gethostname())[:128],
        "action": action,
        "reason": reason,
        "type": kind,
        "note": note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "regarding": reference | ({"uid": metadata["uid"]} if "uid" in metadata else {}),
    }


def report(
    cluster: Cluster,
    regarding: Object,
    reason: str,
    note: str,
    *,
    action: str,
    kind: Literal["Normal", "Warning"] = "Warning",
) -> None:
    """Write the note to the log and as an Event about the object; an Event that is refused is logged and given up."""
    log.log(30 if kind == "Warning" else 20, note, reason=reason)
    made = event(regarding, reason, note, datetime.now(UTC), action=action, kind=kind)
    try:
        cluster.create(f"/apis/events.k8s.io/v1/namespaces/{made['metadata']['namespace']}/events", made)
    except ForestallError as error:
        log.warning("no event", reason=reason, error=str(error))
