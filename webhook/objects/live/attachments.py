"""VolumeAttachments: which volume is attached to which node."""

from __future__ import annotations

from datetime import datetime
from sys import intern

import msgspec

from webhook.objects.facts import Wire, WirePart
from webhook.objects.live.top_level import LiveMetadata
from webhook.policy import FactKind, FactReference


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """A VolumeAttachment; `volume` is a PersistentVolume's name, empty for one that a pod brings itself."""

    name: str
    volume: str
    node: str
    is_attached: bool
    attach_error: str
    """The driver's message, if it could not attach the volume; else empty."""
    deleted_at: datetime | None = None
    """Since when the attachment is being deleted; None if it isn't."""


class _Source(WirePart):
    persistent_volume_name: str | None = None


class _Spec(WirePart):
    node_name: str | None = None
    source: _Source | None = None


class _Error(WirePart):
    message: str | None = None


class _Status(WirePart):
    attached: bool | None = None
    attach_error: _Error | None = None


class _Attachment(Wire):
    metadata: LiveMetadata = msgspec.field(default_factory=LiveMetadata)
    spec: _Spec | None = None
    status: _Status | None = None


def _read(reference: FactReference, metadata: LiveMetadata, wired: _Attachment) -> Attachment:
    spec, status = wired.spec or _Spec(), wired.status or _Status()
    error = status.attach_error
    return Attachment(
        name=reference.name,
        volume=(spec.source.persistent_volume_name or "") if spec.source else "",
        node=intern(spec.node_name or ""),
        is_attached=bool(status.attached),
        attach_error=(error.message or "") if error else "",
        deleted_at=metadata.deletion_timestamp,
    )


ATTACHMENTS: FactKind[str, Attachment] = FactKind(
    group="storage.k8s.io", kind="VolumeAttachment", resource="volumeattachments", wire=_Attachment, read=_read
)
