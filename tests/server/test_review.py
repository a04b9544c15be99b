"""AdmissionReview in and out. What is refused, tests/test_server.py sends over the wire."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from tests.builders import SHARED, recordings, request, workload
from tests.served import review
from webhook.errors import BadReview
from webhook.installation import PROBE_LABEL
from webhook.policy import ALLOWED, AdmissionRequest, Decision, Verdict, Violation
from webhook.server.review import probe_nonce, read_review, render_probe, render_review

PATCH = ({"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},)
VIOLATION = Violation("spec.replicas", "web", "too\nmany replicas", fix=None)


def verdict(mode, outcome):
    return Verdict("memory-limits", mode, outcome, VIOLATION)


def answer(decision, stage="validate", uid="7"):
    return json.loads(render_review(request(workload(), uid=uid), decision, stage))


def test_reads_every_field():
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
    ("changes", "field", "value"),
    [
        pytest.param({"dryRun": None}, "dry_run", False, id="null-dry-run"),
        pytest.param({"userInfo": {}}, "user", "", id="anonymous"),
        pytest.param({"userInfo": {"username": "ann", "groups": None}}, "groups", (), id="null-groups"),
        pytest.param({"operation": "DELETE", "object": None}, "object", None, id="delete-has-no-object"),
    ],
)
def test_reads_what_may_be_missing(changes, field, value):
    assert getattr(read_review(review(**changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"operation": "PATCH"}, "`$.request.operation`", id="unknown-operation"),
        pytest.param({"object": []}, "`$.request.object`", id="object-is-a-list"),
        pytest.param({"uid": 5}, "`$.request.uid`", id="uid-is-a-number"),
        pytest.param({"kind": None}, "`$.request.kind`", id="no-kind"),
        pytest.param({"operation": "UPDATE", "object": None}, "UPDATE without an object", id="update-without-object"),
        pytest.param({"oldObject": {"metadata": 1}}, "oldObject.metadata is no mapping", id="odd-metadata"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(BadReview) as refused:
        read_review(review(**changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_recorded_review_is_read_as_it_was_sent():
    if not (SHARED / "recordings").is_dir():
        pytest.skip("no ../shared/recordings")
    for line in recordings("people.jsonl", "charts.jsonl"):
        sent = line["review"]["request"]
        read = read_review(json.dumps(line["review"]).encode())
        assert (read.uid, read.kind, read.operation) == (sent["uid"], sent["kind"]["kind"], sent["operation"])
        assert (read.object, read.old_object) == (sent["object"], sent["oldObject"])
        assert read.subresource == sent.get("subResource", "")


def test_allowed_says_nothing_more():
    assert answer(ALLOWED) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "7", "allowed": True},
    }


def test_patch():
    response = answer(Decision(True, (), PATCH), "mutate")["response"]
    assert response["patchType"] == "JSONPatch"
    assert json.loads(b64decode(response["patch"])) == list(PATCH)


def test_validate_never_patches():
    """The API server takes a validating answer with a patch for a failed call."""
    assert set(answer(Decision(True, (), PATCH))["response"]) == {"uid", "allowed"}


def test_denial():
    response = answer(Decision(False, (verdict("deny", "denied"),)))["response"]
    assert response["allowed"] is False
    assert (response["status"]["code"], response["status"]["reason"]) == (403, "Forbidden")
    assert "too\nmany replicas" in response["status"]["message"]
    assert "warnings" not in response


def test_warnings_and_annotations():
    response = answer(Decision(True, (verdict("warn", "warned"), verdict("audit", "audited"))))["response"]
    (warning,) = response["warnings"]
    assert "\n" not in warning
    assert len(warning) <= 256
    assert response["auditAnnotations"]
    # The API server joins them to the webhook's name by a slash: a qualified name.
    assert all("/" not in key and 0 < len(key) <= 63 for key in response["auditAnnotations"])


def _probe(operation="CREATE", group="", kind="ConfigMap", dry_run=True, labels=None):
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
def test_probe_nonce(probe, nonce):
    assert probe_nonce(probe) == nonce


@pytest.mark.parametrize("stage", ["mutate", "validate"])
def test_a_probe_is_answered_with_its_nonce(stage):
    assert json.loads(render_probe(_probe(), "n-1", stage))["response"] == {
        "uid": "7",
        "allowed": True,
        "warnings": [f"forestall probe n-1 {stage}"],
    }
