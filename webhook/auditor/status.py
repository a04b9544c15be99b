"""How the audit stands, as the Lease's annotation tells it to whoever reads the cluster."""

from __future__ import annotations

import msgspec

from webhook.objects.wire import UNDECODABLE
from webhook.policy import Object

ANNOTATION = "forestall.dev/audit"


class Status(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """whole_at  when the last audit of everything ended, in seconds since 1970; 0 before the first has
    stopped   which calls aren't made now, until when, and why; empty if all are
    unread    full resource -> why it can't be listed or watched
    reports   the kind of the namespaces' reports; empty while that isn't known
    """

    whole_at: int = 0
    objects: int = 0
    findings: int = 0
    unreadable: int = 0
    broken: int = 0
    stopped: str = ""
    unread: dict[str, str] = msgspec.field(default_factory=dict)
    reports: str = ""

    def annotation(self) -> dict[str, str]:
        return {ANNOTATION: msgspec.json.encode(self).decode()}


def read_status(lease: Object) -> Status | None:
    """What the Lease's annotation tells; None if it tells nothing that can be read."""
    text = (lease["metadata"].get("annotations") or {}).get(ANNOTATION, "")
    try:
        return msgspec.json.decode(text, type=Status)
    except UNDECODABLE:
        return None
