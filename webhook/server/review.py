"""AdmissionReview in and out: bytes -> AdmissionRequest, Decision -> bytes.

The wire's shapes are https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Generic, Literal, TypedDict, TypeVar

import msgspec

from webhook.config import Config
from webhook.errors import BadReview, one_line
from webhook.installation import PROBE_LABEL, probe_answer, undecided_answer
from webhook.messages import audit_annotations, denial, warnings
from webhook.objects.repair import repair
from webhook.objects.wire import MANAGED_FIELDS, UNDECODABLE, JsonPath, cut
from webhook.policy import SUBRESOURCES, AdmissionRequest, Decision, Object, Stage

API_VERSION = "admission.k8s.io/v1"


class _Wire(msgspec.Struct, rename="camel", gc=False):
    pass


class _Kind(_Wire, gc=False):
    group: str
    version: str
    kind: str


class _Resource(_Wire, gc=False):
    group: str = ""
    version: str = ""
    resource: str = ""


class _UserInfo(_Wire, gc=False):
    username: str = ""
    groups: tuple[str, ...] | None = None


class _Metadata(TypedDict, total=False):
    """An object's metadata, all fields of it but managedFields."""

    annotations: dict[str, Any] | None
    creationTimestamp: Any
    deletionGracePeriodSeconds: Any
    deletionTimestamp: Any
    finalizers: Any
    generateName: Any
    generation: Any
    labels: dict[str, Any] | None
    name: Any
    namespace: Any
    ownerReferences: list[Object] | None
    resourceVersion: Any
    selfLink: Any
    uid: Any


_FIELDS = {"apiVersion": Any, "kind": Any, "metadata": _Metadata | None, "spec": Any, "template": Any}
"""The fields at the root that are read of every object, whatever its kind."""

_UNREAD: tuple[JsonPath, ...] = tuple(
    ("request", field, *path) for field in ("object", "oldObject") for path in (MANAGED_FIELDS, ("status",))
)

_ObjectT = TypeVar("_ObjectT")


class _Request(_Wire, Generic[_ObjectT], gc=False):
    uid: str
    kind: _Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: _UserInfo
    object: _ObjectT | None = None
    old_object: _ObjectT | None = None
    resource: _Resource | None = None
    sub_resource: str = ""
    namespace: str = ""
    name: str = ""
    dry_run: bool | None = None


class _Review(_Wire, Generic[_ObjectT], gc=False):
    api_version: str
    kind: str
    request: _Request[_ObjectT] | None = None


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


_encode = msgspec.json.Encoder().encode


def read_review(body: bytes | bytearray, fields: tuple[str, ...] = (), unreadable: str = "") -> AdmissionRequest:
    """Read an AdmissionReview v1 as the API server posts it; raise BadReview, in one line, for anything else.

    Of its objects apiVersion, kind, metadata without managedFields, spec, template and these `fields` are read. Where
    that can't be done, or need not be tried for the reason that `unreadable` gives, what stands before them is read.
    """
    if unreadable:
        return _read_head(body, unreadable)
    decode = _decoder(fields)
    if _memory(body) > _MOST_MEMORY and _memory(cut(body, *_UNREAD)) > _MOST_MEMORY:
        return _read_head(body, "it holds more maps and lists than there is memory for")
    try:
        return _request(decode(body))
    except UNDECODABLE:
        try:
            return _request(decode(repair(cut(body, *_UNREAD))))
        except UNDECODABLE as error:
            return _read_head(body, one_line(error))


@lru_cache(maxsize=16)
def _decoder(fields: tuple[str, ...]) -> Callable[[bytes | bytearray], _Review[Object]]:
    read = TypedDict("read", {**_FIELDS, **dict.fromkeys(fields, Any)}, total=False)  # type: ignore[misc]
    return msgspec.json.Decoder(_Review[read]).decode  # type: ignore[return-value]


_MOST_MEMORY = 160 * 2**20
"""Bytes for one review: what can be stored takes two thirds of it at most, as 220,000 maps of one key, old and new."""


def _memory(body: bytes | bytearray) -> int:
    """About how many bytes the body's maps and lists will take in memory; other values take no more than their text."""
    if len(body) < _MOST_MEMORY // 128:
        return 0
    return 72 * (body.count(b"{") + body.count(b"[")) + 184 * body.count(b'{"')


_HEAD_BYTES = 2**18
"""Within which the object begins: before it stand names, and the groups of the user."""

# In a string every quote is escaped: this is a key. The API server writes what it knows of a request before its object.
_OBJECT = re.compile(rb'"object"\s*:')


def _read_head(body: bytes | bytearray, why: str) -> AdmissionRequest:
    """What stands before the objects in a review: uid, kind, name, operation, user."""
    found = _OBJECT.search(body, 0, _HEAD_BYTES)
    head = bytes(body[: found.start() if found else 0]).rstrip(b", \r\n\t") + b"}}"
    try:
        review = msgspec.json.decode(repair(head), type=_Review[None])
    except UNDECODABLE as error:
        raise BadReview(f"not an AdmissionReview: {why}") from error
    return _request(review, why)


def _request(review: _Review[Any], unreadable: str = "") -> AdmissionRequest:
    if review.kind != "AdmissionReview" or review.api_version != API_VERSION:
        raise BadReview(f"{review.api_version!r} {review.kind!r} is not {API_VERSION} AdmissionReview")
    request = review.request
    if request is None or not request.uid:
        raise BadReview("the AdmissionReview holds no request with a uid")
    if request.object is None and not unreadable and request.operation in ("CREATE", "UPDATE"):
        raise BadReview(f"{request.operation} without an object")
    kind, user = _judged_kind(request), request.user_info
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
        unreadable=unreadable,
    )


def _judged_kind(request: _Request[Any]) -> _Kind:
    """The kind of what is judged: of a Scale that of what it scales, where that is judged."""
    resource, scaled = request.resource, SUBRESOURCES["scale"]
    if request.sub_resource == "scale" and resource and (resource.group, resource.resource) == (scaled[0], scaled[2]):
        return _Kind(scaled.group, resource.version, scaled.kind)
    return request.kind


def render_review(request: AdmissionRequest, decision: Decision, stage: Stage, config: Config) -> bytes:
    """The answer to a review. Only /mutate may carry a patch: elsewhere the API server takes one for a failed call."""
    response = _Response(request.uid, decision.allowed)
    if decision.patch and stage == "mutate":
        response.patch_type = "JSONPatch"
        response.patch = b64encode(_encode(decision.patch)).decode()
    if not decision.allowed:
        response.status = _Status(denial(request, decision, config))
    if decision.verdicts:
        response.warnings = warnings(request, decision, config) or None
        response.audit_annotations = audit_annotations(decision) or None
    return _encode(_Answer(API_VERSION, "AdmissionReview", response))


def probe_nonce(request: AdmissionRequest) -> str:
    """The nonce of a probe; empty if the request is none. Only a dry run can be a probe: as it stores nothing, the
    label lets no object past the policies.
    """
    is_probe = (request.operation, request.group, request.kind, request.dry_run) == ("CREATE", "", "ConfigMap", True)
    metadata = (request.object or {}).get("metadata") or {}
    return str((metadata.get("labels") or {}).get(PROBE_LABEL) or "") if is_probe else ""


def render_probe(
    request: AdmissionRequest, nonce: str, stage: Stage, undecided: Iterable[tuple[float, float]]
) -> bytes:
    """The answer to a probe: warnings with its nonce, and with the times at which reviews passed undecided."""
    told = [undecided_answer(stage, int(began), int(ended)) for began, ended in undecided]
    response = _Response(request.uid, allowed=True, warnings=[probe_answer(nonce, stage), *told])
    return _encode(_Answer(API_VERSION, "AdmissionReview", response))
