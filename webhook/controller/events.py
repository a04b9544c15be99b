"""Kubernetes Events, which `kubectl get events` shows."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import structlog

from webhook.controller.lease import wall_text
from webhook.errors import ForestallError
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

REPORTER = "forestall.dev/controller"
_WITHOUT_NAMESPACE = "default"
"""The namespace of Events about objects that have none, as the API server wants it."""
_NOTE_BYTES = 1024
"""Bytes that the API server takes as an Event's note."""

log = structlog.get_logger()


def event(
    regarding: Object,
    reason: str,
    note: str,
    now: datetime,
    *,
    action: str,
    kind: Literal["Normal", "Warning"],
    reporter: str = REPORTER,
) -> Object:
    """An events.k8s.io/v1 Event about an object (with apiVersion and kind)."""
    metadata = regarding["metadata"]
    namespace = metadata.get("namespace") or ""
    reference = {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "name": metadata["name"]}
    reference |= {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "forestall-", "namespace": namespace or _WITHOUT_NAMESPACE},
        "eventTime": wall_text(now),
        "reportingController": reporter,
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
        send(cluster, made)
    except ForestallError as error:
        log.warning("no event", reason=reason, error=str(error))


def send(cluster: Cluster, made: Object) -> None:
    """Create the Event. Raises ClusterRefused or FactsUnavailable."""
    cluster.create(f"/apis/events.k8s.io/v1/namespaces/{made['metadata']['namespace']}/events", made)
