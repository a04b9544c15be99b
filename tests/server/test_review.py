"""AdmissionReview in and out. What is refused, tests/server/test_serve.py sends over the wire."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import msgspec
import pytest

from tests.builders import SHARED, config, recordings, request, workload
from tests.served import review
from webhook.errors import BadReview
from webhook.installation import PROBE_LABEL
from webhook.policy import ALLOWED, AdmissionRequest, Decision, Mode, Object, Outcome, Stage, Verdict, Violation
from webhook.server.review import probe_nonce, read_review, render_probe, render_review

PATCH = ({"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},)
VIOLATION = Violation("spec.replicas", "web", "too\nmany replicas", fix=None)


def verdict(mode: Mode, outcome: Outcome) -> Verdict:
    return Verdict("memory-limits", mode, outcome, VIOLATION)


def answer(decision: Decision, stage: Stage = "validate", uid: str = "7") -> Any:
    return json.loads(render_review(request(workload(), uid=uid), decision, stage, config()))


def test_reads_every_field() -> None:
    body = review(
        "u-1",
        kind={"group": "apps", "version": "v1", "kind": "StatefulSet"},
        requestKind={"group": "apps", "version": "v1beta1", "kind": "StatefulSet"},
        operation="UPDATE",
        subResource="scale",
        object={"metadata": {"name": "db"}},
        oldObject={"metadata": {"name": "db", "labels": None}},
        dryRun=True,
        options={"fieldManager": "kubectl"},
    )
    assert read_review(body) == AdmissionRequest(
        operation="UPDATE",
        group="apps",
        version="v1",
        kind="StatefulSet",
        namespace="shop",
        name="web",
        object={"metadata": {"name": "db"}},
        old_object={"metadata": {"name": "db", "labels": None}},
        subresource="scale",
        user="ann",
        groups=("dev",),
        dry_run=True,
        uid="u-1",
    )


@pytest.mark.parametrize(
    ("group", "resource", "subresource", "kind"),
    [
        pytest.param("apps", "deployments", "scale", ("apps", "v1", "Deployment"), id="a-deployment's"),
        pytest.param("apps", "statefulsets", "scale", ("autoscaling", "v1", "Scale"), id="a-statefulset's"),
        pytest.param("example.com", "deployments", "scale", ("autoscaling", "v1", "Scale"), id="another-group's"),
        pytest.param("apps", "deployments", "", ("autoscaling", "v1", "Scale"), id="no-subresource"),
    ],
)
def test_a_scale_is_a_request_for_what_it_scales(
    group: str, resource: str, subresource: str, kind: tuple[str, str, str]
) -> None:
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 2}}
    body = review(
        "u-1",
        kind={"group": "autoscaling", "version": "v1", "kind": "Scale"},
        resource={"group": group, "version": "v1", "resource": resource},
        operation="UPDATE",
        subResource=subresource,
        object=scale,
        oldObject=scale,
    )
    read = read_review(body)
    assert (read.group, read.version, read.kind) == kind
    assert read.object == {key: scale[key] for key in ("apiVersion", "kind", "metadata", "spec")}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        pytest.param({"dryRun": None}, "dry_run", False, id="null-dry-run"),
        pytest.param({"userInfo": {}}, "user", "", id="anonymous"),
        pytest.param({"userInfo": {"username": "ann", "groups": None}}, "groups", (), id="null-groups"),
        pytest.param({"operation": "DELETE", "object": None}, "object", None, id="delete-has-no-object"),
    ],
)
def test_reads_what_may_be_missing(changes: Object, field: str, value: object) -> None:
    assert getattr(read_review(review(**changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"operation": "PATCH"}, "`$.request.operation`", id="unknown-operation"),
        pytest.param({"uid": 5}, "`$.request.uid`", id="uid-is-a-number"),
        pytest.param({"kind": None}, "`$.request.kind`", id="no-kind"),
        pytest.param({"operation": "UPDATE", "object": None}, "UPDATE without an object", id="update-without-object"),
    ],
)
def test_refuses(changes: Object, message: str) -> None:
    with pytest.raises(BadReview) as refused:
        read_review(review(**changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_recorded_review_is_read_as_it_was_sent() -> None:
    if not (SHARED / "recordings").is_dir():
        pytest.skip("no ../shared/recordings")
    for line in recordings("people.jsonl", "charts.jsonl"):
        sent = line["review"]["request"]
        read = read_review(json.dumps(line["review"]).encode())
        is_scale = (sent["resource"]["resource"], sent.get("subResource")) == ("deployments", "scale")
        kind = "Deployment" if is_scale else sent["kind"]["kind"]
        assert (read.uid, read.kind, read.operation) == (sent["uid"], kind, sent["operation"])
        assert (read.object, read.old_object) == (_judged(sent["object"]), _judged(sent["oldObject"]))
        assert read.subresource == sent.get("subResource", "")


def _judged(obj: Object | None) -> Object | None:
    """What is read of an object."""
    if obj is None:
        return None
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {key: obj[key] for key in ("apiVersion", "kind", "spec", "template") if key in obj} | {"metadata": metadata}


DEEP = b"[" * 9_990 + b"]" * 9_990
TWIN = read_review(review())


def with_fields(metadata: bytes = b"", root: bytes = b"", spec: bytes = b"") -> bytes:
    """The review of TWIN, with more in its object."""
    body = review()
    for before, more in ((b'"name": "web", "namespace"', metadata), (b'"spec": {"template"', root)):
        body = body.replace(before, more + before, 1)
    return body.replace(b'{"template"', b"{" + spec + b'"template"', 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_fields(), id="plain"),
        pytest.param(with_fields(metadata=b'"managedFields": [{"f:\xff": {}}],'), id="managed-fields-no-utf-8"),
        pytest.param(with_fields(metadata=b'"managedFields": ' + DEEP + b","), id="managed-fields-deep"),
        pytest.param(with_fields(metadata=b'"managedFields": "\\ud800",'), id="managed-fields-half-a-surrogate-pair"),
        pytest.param(with_fields(metadata=b'"managedFields": [1e400],'), id="managed-fields-huge-number"),
        pytest.param(with_fields(root=b'"status": "\xff",'), id="status-no-utf-8"),
        pytest.param(with_fields(root=b'"status": ' + DEEP + b","), id="status-deep"),
        pytest.param(with_fields(root=b'"status": {},"status": {"\\udc00": 0},'), id="status-twice"),
        pytest.param(with_fields(root=b'"\xff": "\xff",'), id="an-unknown-key-no-utf-8"),
        pytest.param(with_fields(root=b'"extra": ' + DEEP + b","), id="an-unknown-key-deep"),
    ],
)
def test_what_is_not_read_makes_no_difference(body: bytes) -> None:
    assert read_review(body) == TWIN


@pytest.mark.parametrize(
    ("more", "value"),
    [
        pytest.param(b'"a\xffb"', "a\ufffdb", id="no-utf-8"),
        pytest.param(b'"\\ud800b"', "\ufffdb", id="half-a-surrogate-pair"),
        pytest.param(b'"a\\u0000b"', "a\0b", id="nul"),
        pytest.param(b"1e400", "1e400", id="a-number-that-no-float-holds"),
        pytest.param(b"1" * 5_000, "1" * 5_000, id="a-number-with-5000-digits"),
        pytest.param(b'"1","more": "2"', "2", id="twice"),
    ],
)
def test_what_is_read_is_read_as_the_api_server_does(more: bytes, value: object) -> None:
    request = read_review(with_fields(spec=b'"more": ' + more + b", "))
    assert request.object == {**TWIN.object, "spec": {"more": value, **TWIN.object["spec"]}}


def test_what_is_too_deep_is_null_and_the_rest_is_read() -> None:
    request = read_review(with_fields(spec=b'"more": ' + DEEP + b", ", metadata=b'"labels": {"a": "\xff"}, '))
    assert request.object["metadata"]["labels"] == {"a": "\ufffd"}
    assert request.object["spec"]["template"] == TWIN.object["spec"]["template"]
    assert request.unreadable == ""


def test_the_first_steps_of_configured_paths_are_read() -> None:
    body = with_fields(root=b'"jobs": {"pod": 1}, "data": 2, ')
    assert read_review(body, ("jobs",)).object == {**TWIN.object, "jobs": {"pod": 1}}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(review(object=[]), "Expected `object | null`, got `array` - at `$.request.object`", id="a-list"),
        pytest.param(
            review(object={"metadata": {"labels": 5}}),
            "Expected `object | null`, got `int` - at `$.request.object.metadata.labels`",
            id="odd-labels",
        ),
        pytest.param(
            review(object={"metadata": {"ownerReferences": [5]}}),
            "Expected `object`, got `int` - at `$.request.object.metadata.ownerReferences[0]`",
            id="odd-owners",
        ),
        pytest.param(
            review(oldObject={"metadata": 1}),
            "Expected `object | null`, got `int` - at `$.request.oldObject.metadata`",
            id="an-old-object-s-metadata",
        ),
        pytest.param(review()[:-40], "Input data was truncated", id="cut-off"),
        pytest.param(review().replace(b'"spec"', b'"spec":nul,"x"'), "JSON is malformed", id="malformed"),
    ],
)
def test_of_an_unreadable_object_the_head_is_read(body: bytes, why: str) -> None:
    request = read_review(body)
    assert request.unreadable.startswith(why)
    assert request == msgspec.structs.replace(TWIN, object=None, unreadable=request.unreadable)


def test_of_what_need_not_be_tried_the_head_is_read() -> None:
    assert read_review(review()[:400], unreadable="too large") == msgspec.structs.replace(
        TWIN, object=None, unreadable="too large"
    )


TOO_MUCH = "it holds more maps and lists than there is memory for"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(with_fields(spec=b'"x": [' + b"{}," * 1_040_000 + b"0], "), "", id="as-many-as-can-be-stored"),
        pytest.param(with_fields(spec=b'"x": [' + b'{"":0},' * 440_000 + b"0], "), "", id="as-many-with-a-key"),
        pytest.param(with_fields(spec=b'"x": [' + b'{"":0},' * 700_000 + b"0], "), TOO_MUCH, id="maps"),
        pytest.param(with_fields(spec=b'"x": [' + b"[]," * 2_500_000 + b"0], "), TOO_MUCH, id="lists"),
        pytest.param(with_fields(root=b'"status": [' + b'{"":0},' * 700_000 + b"0], "), "", id="in-the-status"),
    ],
)
def test_maps_take_more_memory_than_their_text(body: bytes, why: str) -> None:
    assert read_review(body).unreadable == why


def test_a_user_s_name_is_no_object() -> None:
    """Nothing that somebody chose reads like the key behind which the object stands."""
    info = {"username": 'a"object":{', "groups": ['"object": {']}
    request = read_review(review(userInfo=info, object=[]))
    assert (request.user, request.groups, request.uid) == ('a"object":{', ('"object": {',), "1")


def test_allowed_says_nothing_more() -> None:
    assert answer(ALLOWED) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "7", "allowed": True},
    }


def test_patch() -> None:
    response = answer(Decision(True, (), PATCH), "mutate")["response"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(b64decode(response["patch"])) == list(PATCH)


def test_validate_never_patches() -> None:
    """The API server takes a validating answer with a patch for a failed call."""
    assert set(answer(Decision(True, (), PATCH))["response"]) == {"uid", "allowed"}


def test_denial() -> None:
    response = answer(Decision(False, (verdict("deny", "denied"),)))["response"]
    assert response["allowed"] is False
    assert (response["status"]["code"], response["status"]["reason"]) == (403, "Forbidden")
    assert "too\nmany replicas" in response["status"]["message"]
    assert "warnings" not in response


def test_warnings_and_annotations() -> None:
    response = answer(Decision(True, (verdict("warn", "warned"), verdict("audit", "audited"))))["response"]
    (warning,) = response["warnings"]
    assert "\n" not in warning
    assert len(warning) <= 256
    assert response["auditAnnotations"]
    # The API server joins them to the webhook's name by a slash: a qualified name.
    assert all("/" not in key and 0 < len(key) <= 63 for key in response["auditAnnotations"])


def _probe(
    operation: str = "CREATE",
    group: str = "",
    kind: str = "ConfigMap",
    dry_run: bool = True,
    labels: Object | None = None,
) -> AdmissionRequest:
    labels = {PROBE_LABEL: "n-1"} if labels is None else labels
    obj = {"kind": kind, "metadata": {"name": "probe", "labels": labels}}
    return AdmissionRequest(operation, group, "v1", kind, "forestall-system", "", obj, dry_run=dry_run, uid="7")


@pytest.mark.parametrize(
    ("probe", "nonce"),
    [
        pytest.param(_probe(), "n-1", id="a-probe"),
        pytest.param(_probe(labels={}), "", id="without-the-label"),
        pytest.param(_probe(labels={PROBE_LABEL: ""}), "", id="without-a-nonce"),
        pytest.param(_probe(dry_run=False), "", id="a-label-on-something-stored"),
        pytest.param(_probe(kind="Pod"), "", id="another-kind"),
        pytest.param(_probe(group="example.com"), "", id="another-group-s-configmap"),
        pytest.param(_probe(operation="UPDATE"), "", id="an-update"),
        pytest.param(AdmissionRequest("CREATE", "", "v1", "ConfigMap", "", "", None, dry_run=True), "", id="no-object"),
    ],
)
def test_probe_nonce(probe: AdmissionRequest, nonce: str | None) -> None:
    assert probe_nonce(probe) == nonce


@pytest.mark.parametrize("stage", ["mutate", "validate"])
def test_a_probe_is_answered_with_its_nonce(stage: Stage) -> None:
    assert json.loads(render_probe(_probe(), "n-1", stage, [(1.5, 60.25)]))["response"] == {
        "uid": "7",
        "allowed": True,
        "warnings": [f"forestall probe n-1 {stage}", f"forestall undecided {stage} 1 60"],
    }
