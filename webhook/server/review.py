"""AdmissionReview in and out: bytes -> AdmissionRequest, Decision -> bytes.

The wire's shapes are https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

import msgspec

from webhook.engine import Stage
from webhook.errors import BadReview
from webhook.installation import PROBE_LABEL
from webhook.messages import audit_annotations, denial, warnings
from webhook.policy import AdmissionRequest, Decision, Object

API_VERSION = "admission.k8s.io/v1"


class _Wire(msgspec.Struct, rename="camel", gc=False):
    pass


class _Kind(_Wire, gc=False):
    group: str
    version: str
    kind: str


class _UserInfo(_Wire, gc=False):
    username: str = ""
    groups: tuple[str, ...] | None = None


class _Request(_Wire, gc=False):
    uid: str
    kind: _Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: _UserInfo
    object: Object | None = None
    old_object: Object | None = None
    sub_resource: str = ""
    namespace: str = ""
    name: str = ""
    dry_run: bool | None = None


class _Review(_Wire, gc=False):
    api_version: str
    kind: str
    request: _Request | None = None


class _Status(_Wire, gc=False):
    message: str
    code: int = 403
    reason: str = "Forbidden"


class _Response(_Wire, omit_defaults=True, gc=False):
    uid: str
    allowed: bool
    patch_type: str | None = None
    patch: str | None = None
    status: _Status | None = None
    warnings: list[str] | None = None
    audit_annotations: dict[str, str] | None = None


class _Answer(_Wire, gc=False):
    api_version: str
    kind: str
    response: _Response


_decode = msgspec.json.Decoder(_Review).decode
_encode = msgspec.json.Encoder().encode


def read_review(body: bytes | bytearray) -> AdmissionRequest:
    """Read an AdmissionReview v1 as the API server posts it; raise BadReview, in one line, for anything else."""
    try:
        review = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReview(f"not an AdmissionReview: {error}") from error
    except RecursionError as error:
        raise BadReview("not an AdmissionReview: nested too deeply") from error
    if review.kind != "AdmissionReview" or review.api_version != API_VERSION:
        raise BadReview(f"{review.api_version!r} {review.kind!r} is not {API_VERSION} AdmissionReview")
    request = review.request
    if request is None or not request.uid:
        raise BadReview("the AdmissionReview holds no request with a uid")
    if request.object is None and request.operation in ("CREATE", "UPDATE"):
        raise BadReview(f"{request.operation} without an object")
    _require_metadata(request.object, "object")
    _require_metadata(request.old_object, "oldObject")
    kind, user = request.kind, request.user_info
    return AdmissionRequest(
        operation=request.operation,
        group=kind.group,
        version=kind.version,
        kind=kind.kind,
        namespace=request.namespace,
        name=request.name,
        object=request.object,
        old_object=request.old_object,
        subresource=request.sub_resource,
        user=user.username,
        groups=user.groups or (),
        dry_run=bool(request.dry_run),
        uid=request.uid,
    )


def _require_metadata(obj: Object | None, field: str) -> None:
    """Engine and log read the metadata of every object; the API server never sends another shape."""
    metadata = (obj or {}).get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise BadReview(f"{field}.metadata is no mapping")
    for name in ("labels", "annotations"):
        if metadata.get(name) is not None and not isinstance(metadata[name], dict):
            raise BadReview(f"{field}.metadata.{name} is no mapping")
    owners = metadata.get("ownerReferences")
    if owners is not None and not (isinstance(owners, list) and all(isinstance(each, dict) for each in owners)):
        raise BadReview(f"{field}.metadata.ownerReferences is no list of mappings")


def render_review(request: AdmissionRequest, decision: Decision, stage: Stage) -> bytes:
    """The answer to a review. Only /mutate may carry a patch: elsewhere the API server takes one for a failed call."""
    response = _Response(request.uid, decision.allowed)
    if decision.patch and stage == "mutate":
        response.patch_type = "JSONPatch"
        response.patch = b64encode(_encode(decision.patch)).decode()
    if not decision.allowed:
        response.status = _Status(denial(request, decision))
    if decision.verdicts:
        response.warnings = warnings(decision) or None
        response.audit_annotations = audit_annotations(decision) or None
    return _encode(_Answer(API_VERSION, "AdmissionReview", response))


def probe_nonce(request: AdmissionRequest) -> str:
    """The nonce of a probe; empty if the request is none.

    Only a dry run is one: it stores nothing, so nobody escapes judgement by that label.
    """
    is_probe = (request.operation, request.group, request.kind, request.dry_run) == ("CREATE", "", "ConfigMap", True)
    metadata = (request.object or {}).get("metadata") or {}
    return str((metadata.get("labels") or {}).get(PROBE_LABEL) or "") if is_probe else ""


def render_probe(request: AdmissionRequest, nonce: str, stage: Stage) -> bytes:
    """The answer to a probe: a warning that whoever sent it will see."""
    warning = f"forestall probe {nonce} {stage}"
    return _encode(_Answer(API_VERSION, "AdmissionReview", _Response(request.uid, allowed=True, warnings=[warning])))
