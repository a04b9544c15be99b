"""What is judged, told alike of one request and of all that the API server has to ask about."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from tests.builders import config, container, request, workload
from webhook.config import Config
from webhook.loader import load_policies
from webhook.objects.owners import AUTOSCALER
from webhook.policy import AdmissionRequest, GroupKind, Stage
from webhook.scope import AnyStage, Call, calls, exclude_own_namespace, is_excluded, scope_of

RUNNERS = "kinds: [{group: example.com, kind: Runner, resource: runners}]"
ALL_OFF = "policies: {memory-limits: {mode: 'off'}, prometheus-memory: {mode: 'off'}, zonal-volumes: {mode: 'off'}}"
POLICIES = {name: loaded.policy for name, loaded in load_policies().items()}
EVERY_POLICY = {
    name for name, policy in POLICIES.items() if policy.workloads and policy.operations and policy.mode != "off"
}
"""The policies that judge workloads where the configuration says nothing."""
CLAIM = ("", "PersistentVolumeClaim")


def bare(group: str, kind: str, operation: str = "CREATE", subresource: str = "") -> AdmissionRequest:
    metadata = {"name": "web", "namespace": "shop"}
    old = None if operation == "CREATE" else {"metadata": metadata}
    return AdmissionRequest(operation, group, "v1", kind, "shop", "web", {"metadata": metadata}, old, subresource)


def judging(asked: AdmissionRequest, by: Config, stage: AnyStage = "validate") -> set[str]:
    return {active.policy.id for active in scope_of(asked, by, stage).policies}


@pytest.mark.parametrize("stage", ["mutate", "validate"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="defaults"),
        pytest.param("mode: patch", id="patch"),
        pytest.param("mode: audit", id="audit"),
        pytest.param("mode: 'off'", id="off"),
        pytest.param(ALL_OFF, id="every-policy-off"),
        pytest.param("policies: {volume-handover: {mode: patch}}", id="a-policy-that-judges-scales"),
        pytest.param("policies: {zonal-volumes: {params: {replacement: {storageClass: efs}}}}", id="replacement"),
        pytest.param(RUNNERS, id="a-kind-of-the-configuration"),
        pytest.param(
            f"{RUNNERS}\n{ALL_OFF}\noverrides: [{{match: {{namespaces: [shop]}}, policies: "
            "{memory-limits: {mode: patch}}}]",
            id="an-override",
        ),
    ],
)
def test_the_api_server_asks_about_just_what_is_judged(text: str, stage: Stage) -> None:
    by = config(text)
    kinds = [*(judged.kind for judged in by.judged.values()), GroupKind("", "ConfigMap", "configmaps")]
    found = {
        Call(kind, operation, subresource)
        for kind, operation, subresource in itertools.product(
            kinds, ("CREATE", "UPDATE", "DELETE", "CONNECT"), ("", "resize", "status", "scale")
        )
        if judging(bare(kind.group, kind.kind, operation, subresource), by, stage)
    }
    assert found == set(calls(by, stage))


HANDOVER = "policies: {volume-handover: {mode: patch}}"


@pytest.mark.parametrize(
    ("kind", "stage", "user", "policies"),
    [
        pytest.param("Deployment", "validate", "jane", {"volume-handover"}, id="a-scale"),
        pytest.param("StatefulSet", "validate", "jane", set(), id="another-kind's"),
        pytest.param("Deployment", "mutate", "jane", set(), id="there-is-nothing-to-patch"),
        pytest.param("Deployment", "validate", AUTOSCALER, set(), id="by-an-autoscaler"),
        pytest.param("Deployment", "validate", "system:kube-controller-manager", set(), id="by-one-without-an-account"),
    ],
)
def test_policies_of_a_scale(kind: str, stage: AnyStage, user: str, policies: set[str]) -> None:
    asked = msgspec.structs.replace(bare("apps", kind, "UPDATE", "scale"), user=user)
    assert judging(asked, config(HANDOVER), stage) == policies


@pytest.mark.parametrize(
    ("asked", "stage", "policies"),
    [
        pytest.param(bare("apps", "Deployment"), "validate", EVERY_POLICY, id="workload"),
        pytest.param(
            bare("", "Pod", "UPDATE", "resize"), "validate", {"memory-limits", "prometheus-memory"}, id="resize"
        ),
        pytest.param(bare("", "Pod", "CREATE", "resize"), "validate", set(), id="nothing-is-resized-at-creation"),
        pytest.param(bare("", "Pod", "UPDATE", "status"), "validate", set(), id="no-policy-has-the-subresource"),
        pytest.param(bare("apps", "Deployment", "UPDATE", "resize"), "validate", set(), id="only-pods-are-resized"),
        pytest.param(bare("", "Pod", "UPDATE"), "validate", EVERY_POLICY, id="a-changed-pod-is-judged"),
        pytest.param(bare("", "Pod", "UPDATE"), "mutate", set(), id="but-nothing-of-it-can-be-mended"),
        pytest.param(bare(*CLAIM), "validate", {"zonal-volumes"}, id="claim"),
        pytest.param(bare(*CLAIM, "UPDATE"), "validate", set(), id="a-changed-claim"),
        pytest.param(bare(*CLAIM, "UPDATE"), "check", set(), id="a-changed-claim-whoever-asks"),
        pytest.param(bare("", "Namespace"), "validate", set(), id="what-the-api-server-never-asks"),
        pytest.param(bare("", "Namespace"), "check", {"namespace-defaults"}, id="is-judged-in-files"),
        pytest.param(bare("", "ConfigMap"), "check", set(), id="no-policy-has-the-kind"),
        pytest.param(bare("apps", "Deployment", "DELETE"), "validate", set(), id="delete"),
    ],
)
def test_policies_of_a_request(asked: AdmissionRequest, stage: AnyStage, policies: set[str]) -> None:
    assert judging(asked, config("mode: patch") if stage == "mutate" else config(""), stage) == policies


@pytest.mark.parametrize(
    ("mode", "policies"),
    [
        ("off", set()),
        ("audit", set()),
        ("warn", set()),
        ("patch", {"zonal-volumes"}),
        pytest.param("deny", {"zonal-volumes"}, id="deny-patches-the-kinds-of-which-nothing-is-denied"),
    ],
)
def test_claims_at_mutate(mode: str, policies: set[str]) -> None:
    params = "params: {replacement: {storageClass: efs}}"
    assert (
        judging(bare(*CLAIM), config(f"policies: {{zonal-volumes: {{mode: '{mode}', {params}}}}}"), "mutate")
        == policies
    )


@pytest.mark.parametrize(
    ("namespace", "is_so"),
    [
        pytest.param("kube-system", True, id="always"),
        pytest.param("forestall-system", True, id="our-usual-one"),
        pytest.param("guard", True, id="our-own"),
        pytest.param("legacy", True, id="by-name"),
        pytest.param("tmp-1", True, id="by-glob"),
        pytest.param("TMP-1", False, id="case-counts"),
        pytest.param("shop", False, id="none-of-them"),
    ],
)
def test_excluded_namespaces(namespace: str, is_so: bool) -> None:
    by = exclude_own_namespace(config("excludeNamespaces: [legacy, tmp-*]"), "guard")
    assert is_excluded(namespace, by) == is_so
    skipped = scope_of(request(workload(), namespace=namespace), by, "validate").skipped
    assert skipped == ("excluded namespace" if is_so else "")


@pytest.mark.parametrize(("image", "policies"), [("runner:1", set()), ("other:1", {"memory-limits"})])
def test_an_override_by_images_reads_kinds_of_the_configuration(image: str, policies: set[str]) -> None:
    match = "{namespaces: ['*'], images: [runner]}"
    by = config(f"{RUNNERS}\noverrides: [{{match: {match}, policies: {{memory-limits: {{mode: 'off'}}}}}}]")
    runner = {**workload("Deployment", container(image=image)), "apiVersion": "example.com/v1", "kind": "Runner"}
    assert judging(request(runner), by) & {"memory-limits"} == policies


def test_policies_are_asked_in_the_order_of_their_ids() -> None:
    ids = [active.policy.id for active in scope_of(request(workload()), config(""), "validate").policies]
    assert ids == sorted(ids)
