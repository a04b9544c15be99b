"""The engine on policies of the test's own, so that each rule of docs/configuration.md shows alone."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import jsonpatch
import msgspec
import pytest

from tests.builders import TODAY, config, container, request, workload
from tests.growth import Call, assert_linear
from webhook.config import ActivePolicy, Config
from webhook.engine import decide, undecided
from webhook.errors import BadObject, BadQuantity, FactsUnavailable, TimeUp
from webhook.messages import audit_annotations
from webhook.objects.facts import CLAIMS, NO_FACTS
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, Decision, FactReference, Object, Policy, Set, Stage, Violation
from webhook.rulings import Rules

CLAIM = FactReference(CLAIMS, "shop", "data")
RS_CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"


class Params(msgspec.Struct, frozen=True):
    fixable: bool = True
    named: bool = False
    unknown: bool = False
    unseen: tuple[FactReference, ...] = ()
    at_most: Any = "deny"


def examine(request: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
    """Containers have a `size` of at least 4."""
    found = read_workload(request)
    for written in found.containers if found else ():
        size = written.spec.get("size")
        if size is None or size < 4:
            yield Violation(
                f"{written.path}.size",
                written.name,
                f"size {size} is below 4",
                value=size,
                fix=Set(f"{written.path}.size", 4) if params.fixable else None,
                fix_named=params.named,
                is_unknown=params.unknown,
                unseen=params.unseen,
                at_most=params.at_most,
            )


SIZE = Policy(
    "size",
    "",
    examine,
    Params,
    ("an incident",),
    subresources=("resize",),
    names_sizes=lambda params: params.named,
)


def settings(
    mode: str = "deny",
    otherwise: str = "deny",
    on_error: str = "ignore",
    text: str = "",
    policy: Policy = SIZE,
    **params: Any,
) -> Config:
    """A configuration in which `policy` is the only policy; `text` is the rest of the file."""
    # The file's own check would refuse a policy that no folder holds, so a real name stands in for it there.
    parsed = config(text.replace("POLICY", "memory-limits"))
    active = ActivePolicy(policy, mode, otherwise, on_error, policy.params(**params))
    exemptions = tuple(msgspec.structs.replace(exemption, policy=policy.id) for exemption in parsed.exemptions)
    overrides = tuple(
        msgspec.structs.replace(override, policies={policy.id: override.policies["memory-limits"]})
        for override in parsed.overrides
    )
    return replace(parsed, policies={policy.id: active}, exemptions=exemptions, overrides=overrides)


def outcomes(decision: Decision) -> list[str]:
    return [verdict.outcome for verdict in decision.verdicts]


def judged(req: AdmissionRequest, cfg: Config, **kwargs: Any) -> Decision:
    return decide(req, NO_FACTS, cfg, today=TODAY, **kwargs)


SMALL = workload("Deployment", container(size=1))
BIG = workload("Deployment", container(size=4))


@pytest.mark.parametrize(
    ("mode", "otherwise", "fixable", "ceiling", "outcome", "allowed"),
    [
        pytest.param("deny", "deny", True, "deny", "denied", False, id="deny-denies-what-could-be-fixed"),
        pytest.param("patch", "deny", True, "deny", "patched", True, id="patch-patches"),
        pytest.param("patch", "deny", False, "deny", "denied", False, id="patch-without-a-fix-is-otherwise"),
        pytest.param("patch", "warn", False, "deny", "warned", True, id="otherwise-warn"),
        pytest.param("warn", "deny", True, "deny", "warned", True, id="warn"),
        pytest.param("audit", "deny", True, "deny", "audited", True, id="audit"),
        pytest.param("deny", "deny", True, "audit", "audited", True, id="ceiling-audit-caps-deny"),
        pytest.param("deny", "deny", True, "warn", "warned", True, id="ceiling-warn-caps-deny"),
        pytest.param("deny", "deny", True, "patch", "patched", True, id="ceiling-patch-turns-deny-into-patch"),
        pytest.param("patch", "deny", False, "patch", "warned", True, id="ceiling-patch-caps-otherwise"),
        pytest.param("patch", "deny", False, "audit", "audited", True, id="ceiling-audit-caps-otherwise"),
    ],
)
def test_modes(mode: str, otherwise: str, fixable: bool, ceiling: str, outcome: str, allowed: bool) -> None:
    decision = judged(request(SMALL), settings(mode, otherwise, text=f"mode: {ceiling}", fixable=fixable))
    assert (outcomes(decision), decision.allowed) == ([outcome], allowed)


@pytest.mark.parametrize("cfg", [settings("off"), settings("deny", text="mode: off")], ids=["policy", "ceiling"])
def test_off_examines_nothing(cfg: Config) -> None:
    assert judged(request(SMALL), cfg) == Decision(allowed=True)


@pytest.mark.parametrize(
    ("at_most", "fixable", "outcome"),
    [("warn", True, "warned"), ("patch", True, "patched"), ("patch", False, "warned"), ("deny", True, "denied")],
)
def test_a_violation_may_cap_its_own_mode(at_most: str, fixable: bool, outcome: str) -> None:
    decision = judged(request(SMALL), settings("deny", at_most=at_most, fixable=fixable))
    assert outcomes(decision) == [outcome]


def test_what_could_not_be_seen_is_unknown() -> None:
    decision = judged(request(SMALL), settings("deny", unknown=True, at_most="warn"))
    assert [(verdict.outcome, verdict.mode) for verdict in decision.verdicts] == [("unknown", "warn")]


@pytest.mark.parametrize(
    ("mode", "stage", "is_worth_it"),
    [
        pytest.param("deny", "validate", True, id="validate"),
        pytest.param("deny", "mutate", False, id="mutate-leaves-it-to-validate"),
        pytest.param("patch", "mutate", True, id="mutate-where-it-could-patch"),
    ],
)
def test_what_could_not_be_seen_is_to_be_looked_up(mode: str, stage: Stage, is_worth_it: bool) -> None:
    cfg = settings(mode, unknown=True, at_most="warn", unseen=(CLAIM,))
    assert judged(request(SMALL), cfg, stage=stage).unseen == ({CLAIM} if is_worth_it else set())


def test_mutate_patches_and_never_denies() -> None:
    patched = judged(request(SMALL), settings("patch"), stage="mutate")
    assert list(patched.patch) == [{"op": "replace", "path": "/spec/template/spec/containers/0/size", "value": 4}]
    assert outcomes(patched) == ["patched"]
    denied = judged(request(SMALL), settings("deny"), stage="mutate")
    assert (denied.allowed, denied.patch, denied.verdicts) == (True, (), ())


def test_validate_denies_a_fixable_violation_that_is_still_there() -> None:
    decision = judged(request(SMALL), settings("patch"), stage="validate")
    assert (decision.allowed, decision.patch, outcomes(decision)) == (False, (), ["denied"])


def test_the_submitted_object_is_not_changed() -> None:
    submitted = copy.deepcopy(SMALL)
    decision = judged(request(submitted), settings("patch"))
    assert submitted == SMALL
    assert decision.object == BIG


# --- ratchet


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        pytest.param([container(size=1)], [container(size=1)], "warned", id="unchanged"),
        pytest.param([container(size=1)], [container(size=2)], "warned", id="better"),
        pytest.param([container(size=2)], [container(size=1)], "denied", id="worse"),
        pytest.param([container(size=4)], [container(size=1)], "denied", id="new"),
        pytest.param([container(size=1)], [container()], "denied", id="removed"),
        pytest.param([container()], [container(size=1)], "warned", id="was-missing"),
        pytest.param([container()], [container()], "warned", id="still-missing"),
        pytest.param(
            [container("a", size=4), container("b", size=1)],
            [container("b", size=1), container("a", size=4)],
            "warned",
            id="reordered",
        ),
        pytest.param([container("a", size=1)], [container("b", "b:1", size=1)], "denied", id="another-container"),
        pytest.param([container("a", size=1)], [container("b", size=1)], "warned", id="renamed"),
        pytest.param([container("a", "x:1", size=1)], [container("b", "x:2", size=1)], "warned", id="and-another-tag"),
        pytest.param([container("a", size=2)], [container("b", size=1)], "denied", id="renamed-and-worse"),
        pytest.param(
            [container("a", size=4), container("b", size=1)],
            [container("a", size=1), container("c", size=4)],
            "denied",
            id="the-name-comes-before-the-image",
        ),
        pytest.param(
            [container("a", size=1)],
            [container("a", size=4), container("b", size=1)],
            "denied",
            id="one-more-of-the-same-image",
        ),
        pytest.param(
            [container("a", size=1), container("b", size=1)],
            [container("c", size=1), container("d", size=4)],
            "denied",
            id="no-telling-which-was-renamed",
        ),
    ],
)
def test_ratchet(old: list[Object], new: list[Object], outcome: str) -> None:
    before, after = workload("Deployment", *old), workload("Deployment", *new)
    assert outcomes(judged(request(after, before), settings("deny"))) == [outcome]


def test_the_ratchet_knows_a_container_that_becomes_a_sidecar() -> None:
    proxy = container("proxy", "envoy:1", size=1)
    before = workload("Deployment", container(size=4), proxy)
    sidecar = {**proxy, "restartPolicy": "Always"}
    after = workload("Deployment", container(size=4), initContainers=[sidecar])
    assert outcomes(judged(request(after, before), settings("deny"))) == ["warned"]
    renamed = workload("Deployment", container(size=4), initContainers=[{**sidecar, "name": "envoy"}])
    assert outcomes(judged(request(renamed, before), settings("deny"))) == ["warned"]


def test_what_was_only_noted_before_excuses_no_denial() -> None:
    def examine_pin(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        spec = req.object["spec"]["template"]["spec"]
        yield Violation("volume", "data", "zonal", value="gp2", at_most="audit" if "nodeSelector" in spec else "deny")

    cfg = settings("deny", policy=replace(SIZE, examine=examine_pin))
    pinned = workload("Deployment", nodeSelector={"zone": "a"})
    assert outcomes(judged(request(workload(), pinned), cfg)) == ["denied"]
    assert outcomes(judged(request(workload(), workload()), cfg)) == ["warned"]


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        pytest.param("gp2", "gp2", "warned", id="the-same-text"),
        pytest.param("gp2", "io1", "denied", id="another-text"),
        pytest.param(None, "gp2", "denied", id="a-text-where-there-was-nothing"),
        pytest.param("gp2", 3, "denied", id="an-amount-in-place-of-a-text"),
        pytest.param("gp2", None, "denied", id="nothing-in-place-of-a-text"),
        pytest.param(None, 3, "warned", id="an-amount-where-there-was-nothing"),
        pytest.param(3, None, "denied", id="nothing-in-place-of-an-amount"),
        pytest.param(None, None, "warned", id="still-nothing"),
    ],
)
def test_the_ratchet_compares_values(old: str | int | None, new: str | int | None, outcome: str) -> None:
    def examine_value(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        yield Violation("volume", "data", "wrong", value=req.object["value"])

    before, after = {**workload(), "value": old}, {**workload(), "value": new}
    cfg = settings("deny", policy=replace(SIZE, examine=examine_value))
    assert outcomes(judged(request(after, before), cfg)) == [outcome]


@pytest.mark.parametrize(("on_error", "outcome"), [("ignore", "failed"), ("deny", "failed")])
def test_what_cannot_be_compared_is_told_as_a_failure_alone(on_error: str, outcome: str) -> None:
    def examine_new(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        if req.old_object is None:
            raise RuntimeError("no old object")
        yield Violation("spec", "web", "wrong")

    cfg = settings("deny", on_error=on_error, policy=replace(SIZE, examine=examine_new))
    decision = judged(request(SMALL, SMALL), cfg)
    assert (outcomes(decision), decision.allowed) == ([outcome], on_error == "ignore")


def test_the_ratchet_does_not_make_an_audited_violation_louder() -> None:
    assert outcomes(judged(request(SMALL, SMALL), settings("audit"))) == ["audited"]


def test_the_ratchet_does_not_patch_unless_told() -> None:
    labelled = {**SMALL, "metadata": {**SMALL["metadata"], "labels": {"new": "label"}}}
    kept = judged(request(labelled, SMALL), settings("patch"))
    assert (kept.patch, outcomes(kept)) == ((), ["warned"])
    told = judged(request(labelled, SMALL), settings("patch", text="patchExisting: true"))
    assert outcomes(told) == ["patched"]
    assert judged(request(labelled, SMALL), settings("deny", text="ratchet: false")).allowed is False


def test_an_object_being_deleted_is_let_go() -> None:
    """Its finalizers are taken away by updates. What else changes is judged: it may outlive the object."""
    deleting = {**SMALL, "metadata": {**SMALL["metadata"], "deletionTimestamp": "2026-11-21T00:00:00Z"}}
    released = {**deleting, "metadata": {**deleting["metadata"], "finalizers": []}}
    cfg = settings("deny", text="ratchet: false")
    assert judged(request(released, deleting), cfg).skipped == "being deleted"
    assert judged(request({**deleting, "spec": {**SMALL["spec"], "new": 1}}, deleting), cfg).allowed is False
    assert judged(request({**deleting, "template": {}}, deleting), cfg).allowed is False
    assert judged(request(deleting), settings("deny")).allowed is False, "on CREATE it is only typed"


# --- owners


def owned(kind: str, owner_kind: str, owner: str, *containers: Object) -> Object:
    group = "apps/v1" if owner_kind in ("ReplicaSet", "Deployment", "StatefulSet") else "batch/v1"
    group = {"Prometheus": "monitoring.coreos.com/v1", "Widget": "example.com/v1"}.get(owner_kind, group)
    obj = workload(kind, *(containers or (container(size=1),)))
    reference = {"apiVersion": group, "kind": owner_kind, "name": owner, "controller": True}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


@pytest.mark.parametrize(
    ("kind", "owner", "user", "text", "mode", "outcome"),
    [
        pytest.param("Pod", "ReplicaSet", RS_CONTROLLER, "", "deny", "", id="a-controller's-pod"),
        pytest.param("Pod", "ReplicaSet", RS_CONTROLLER, "", "patch", "", id="no-blanket-default-for-it"),
        pytest.param("Pod", "ReplicaSet", RS_CONTROLLER, "patchOwnedPods: true", "patch", "patched", id="unless-told"),
        pytest.param("Pod", "ReplicaSet", "jane", "", "deny", "denied", id="a-typed-reference-buys-nothing"),
        pytest.param("Pod", "ReplicaSet", "jane", "", "patch", "patched", id="it-is-patched-as-any-other"),
        pytest.param(
            "Pod",
            "ReplicaSet",
            "system:serviceaccount:kube-system:job-controller",
            "",
            "deny",
            "denied",
            id="another-controller",
        ),
        pytest.param("Pod", "ReplicaSet", "system:kube-controller-manager", "", "deny", "", id="one-identity"),
        pytest.param(
            "ReplicaSet",
            "Deployment",
            "system:serviceaccount:kube-system:deployment-controller",
            "patchOwnedPods: true",
            "patch",
            "",
            id="a-ReplicaSet-is-never-patched",
        ),
        pytest.param("ReplicaSet", "Deployment", "jane", "", "patch", "denied", id="whoever-asks"),
        pytest.param("StatefulSet", "Prometheus", "operator", "controllers: [operator]", "deny", "", id="an-operator"),
        pytest.param("StatefulSet", "Prometheus", "operator", "", "deny", "denied", id="an-unknown-operator"),
        pytest.param(
            "StatefulSet",
            "Widget",
            "operator",
            "controllers: [operator]",
            "deny",
            "",
            id="whatever-its-owner",
        ),
        pytest.param(
            "StatefulSet",
            "Widget",
            "operator",
            "controllers: [operator]\nkinds: [{group: example.com, kind: Widget, resource: widgets}]",
            "deny",
            "",
            id="a-kind-by-configuration",
        ),
    ],
)
def test_owners(kind: str, owner: str, user: str, text: str, mode: str, outcome: str) -> None:
    decision = judged(request(owned(kind, owner, "web-5d8f"), user=user), settings(mode, text=text))
    assert outcomes(decision) == ([outcome] if outcome else [])


@pytest.mark.parametrize(("named", "skipped"), [(False, "judged at its ReplicaSet"), (True, "")])
def test_a_controllers_pod_is_examined_where_there_may_be_a_size_for_it(named: bool, skipped: str) -> None:
    pod = request(owned("Pod", "ReplicaSet", "web-5d8f"), user=RS_CONTROLLER)
    assert judged(pod, settings("patch", named=named), stage="mutate").skipped == skipped


@pytest.mark.parametrize("user", [RS_CONTROLLER, "jane"])
def test_a_named_size_reaches_owned_pods(user: str) -> None:
    decision = judged(request(owned("Pod", "ReplicaSet", "web-5d8f"), user=user), settings("patch", named=True))
    assert outcomes(decision) == ["patched"]


@pytest.mark.parametrize(
    ("groups", "skipped"), [(("system:nodes",), "mirror pod"), (("developers",), "")], ids=["kubelet", "person"]
)
def test_a_mirror_pod_is_one_only_from_its_node(groups: tuple[str, ...], skipped: str) -> None:
    pod = workload("Pod", container(size=1))
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    decision = judged(request(pod, groups=groups), settings("deny"))
    assert (decision.skipped, decision.allowed) == (skipped, bool(skipped))


@pytest.mark.parametrize("namespace", ["kube-system", "forestall-system", "tmp-1"])
def test_excluded_namespaces(namespace: str) -> None:
    decision = judged(request(SMALL, namespace=namespace), settings(text="excludeNamespaces: [tmp-*]"))
    assert decision.skipped == "excluded namespace"


# --- fixes that the API would refuse


def test_a_resize_is_patched_with_a_size_that_is_named() -> None:
    before, after = workload("Pod", container(size=4)), workload("Pod", container(size=1))
    decision = judged(request(after, before, subresource="resize"), settings("patch", named=True))
    assert outcomes(decision) == ["patched"]


@pytest.mark.parametrize(
    ("kind", "subresource", "old", "outcome"),
    [
        pytest.param("Pod", "", 4, "denied", id="a-pod-can't-be-changed"),
        pytest.param("Job", "", 4, "denied", id="nor-a-job"),
        pytest.param("Pod", "resize", 4, "denied", id="a-running-pod's-size-is-left-alone"),
        pytest.param("StatefulSet", "", 4, "patched", id="a-template-can"),
        pytest.param("Deployment", "", 4, "patched", id="deployment"),
    ],
)
def test_an_update_is_patched_only_where_the_api_allows_it(kind: str, subresource: str, old: int, outcome: str) -> None:
    before, after = workload(kind, container(size=old)), workload(kind, container(size=1))
    decision = judged(request(after, before, subresource=subresource), settings("patch"))
    assert outcomes(decision) == [outcome]


def test_other_subresources_are_not_judged() -> None:
    assert judged(request(workload("Pod", container(size=1)), subresource="status"), settings()) == Decision(
        allowed=True
    )


# --- exemptions and overrides

EXEMPTION = "exemptions: [{policy: POLICY, owner: sre, reason: migration, until: 2026-11-21, match: {MATCH}}]"


@pytest.mark.parametrize(
    ("match", "outcome"),
    [
        pytest.param("namespaces: [shop]", "exempted", id="namespace"),
        pytest.param("namespaces: ['sh*']", "exempted", id="glob"),
        pytest.param("namespaces: [other]", "denied", id="another-namespace"),
        pytest.param("namespaces: ['*'], kinds: [Deployment]", "exempted", id="kind"),
        pytest.param("namespaces: ['*'], kinds: [Pod]", "denied", id="another-kind"),
        pytest.param("namespaces: ['*'], names: ['we*']", "exempted", id="name"),
        pytest.param("namespaces: ['*'], names: [db]", "denied", id="another-name"),
        pytest.param("namespaces: ['*'], labels: {team: a}", "exempted", id="label"),
        pytest.param("namespaces: ['*'], labels: {team: a, tier: x}", "denied", id="one-of-two-labels"),
        pytest.param("namespaces: ['*'], images: [nginx]", "exempted", id="image"),
        pytest.param("namespaces: ['*'], images: [redis]", "denied", id="another-image"),
        pytest.param("namespaces: ['*'], groups: [sre]", "denied", id="not-in-the-group"),
        pytest.param("namespaces: ['*'], groups: [developers]", "exempted", id="group"),
    ],
)
def test_exemptions(match: str, outcome: str) -> None:
    cfg = settings(text=EXEMPTION.replace("MATCH", match))
    labelled = {**SMALL, "metadata": {**SMALL["metadata"], "labels": {"team": "a"}}}
    decision = judged(request(labelled, groups=("developers",)), cfg)
    assert (outcomes(decision), decision.allowed) == ([outcome], outcome == "exempted")


def test_an_exemption_says_who_and_why() -> None:
    (verdict,) = judged(request(SMALL), settings(text=EXEMPTION.replace("MATCH", "namespaces: [shop]"))).verdicts
    assert (verdict.note, verdict.exemption) == ("exempted by sre until 2026-11-21: migration", 0)


def test_an_exemption_ends_after_its_last_day() -> None:
    cfg = settings(text=EXEMPTION.replace("MATCH", "namespaces: [shop]"))
    assert decide(request(SMALL), NO_FACTS, cfg, today=date(2026, 11, 21)).allowed
    assert not decide(request(SMALL), NO_FACTS, cfg, today=date(2026, 11, 22)).allowed


def test_an_image_exempts_its_own_container_only() -> None:
    two = workload("Deployment", container("a", "nginx", size=1), container("b", "redis", size=1))
    decision = judged(request(two), settings(text=EXEMPTION.replace("MATCH", "namespaces: ['*'], images: [nginx]")))
    assert outcomes(decision) == ["exempted", "denied"]


@pytest.mark.parametrize(
    ("user", "name", "expected"),
    [
        pytest.param(RS_CONTROLLER, "web", [], id="its-controller's-word"),
        pytest.param(RS_CONTROLLER, "other", ["patched"], id="another-workload's"),
        pytest.param(RS_CONTROLLER, "web-5d8f", ["patched"], id="the-ReplicaSet-is-no-Deployment"),
        pytest.param("jane", "web", ["patched"], id="a-typed-owner-names-nobody"),
    ],
)
def test_one_exemption_covers_a_workload_and_its_pods(user: str, name: str, expected: list[str]) -> None:
    pod = owned("Pod", "ReplicaSet", "web-5d8f")
    pod["metadata"] |= {"labels": {"pod-template-hash": "5d8f"}, "name": "x"}
    match = f"namespaces: [shop], names: [{name}], kinds: [Deployment]"
    cfg = settings("patch", text=EXEMPTION.replace("MATCH", match), named=True)
    assert outcomes(judged(request(pod, user=user), cfg)) == expected


def test_a_forged_hash_names_no_deployment() -> None:
    pod = owned("Pod", "ReplicaSet", "web-5d8f")
    pod["metadata"] |= {"labels": {"pod-template-hash": "other"}}
    match = "namespaces: [shop], names: [web], kinds: [Deployment]"
    cfg = settings("patch", text=EXEMPTION.replace("MATCH", match), named=True)
    assert outcomes(judged(request(pod, user=RS_CONTROLLER), cfg)) == ["patched"]


def test_what_has_no_name_yet_is_exempted_by_what_it_will_be_called() -> None:
    pod = workload("Pod", container(size=1))
    pod["metadata"] = {"namespace": "shop", "generateName": "web-"}
    cfg = settings("patch", text=EXEMPTION.replace("MATCH", "namespaces: [shop], names: ['web-*']"))
    assert outcomes(judged(request(pod, name=""), cfg, stage="mutate")) == []
    assert outcomes(judged(request(pod, name=""), cfg)) == ["exempted"]


@pytest.mark.parametrize(
    ("images", "outcome"),
    [
        pytest.param("[nginx, redis]", "audited", id="every-container"),
        pytest.param("[nginx]", "denied", id="not-all-of-them"),
        pytest.param("['*']", "audited", id="any"),
    ],
)
def test_an_override_by_images(images: str, outcome: str) -> None:
    two = workload("Deployment", container("a", "nginx", size=1), container("b", "redis", size=4))
    text = f"overrides: [{{match: {{namespaces: ['*'], images: {images}}}, policies: {{POLICY: {{mode: audit}}}}}}]"
    assert outcomes(judged(request(two), settings(text=text))) == [outcome]


def test_an_owner_that_is_no_controller_owns_nothing() -> None:
    pod = owned("Pod", "ReplicaSet", "web-5d8f")
    pod["metadata"]["ownerReferences"][0]["controller"] = False
    assert outcomes(judged(request(pod, user=RS_CONTROLLER), settings("deny"))) == ["denied"]


@pytest.mark.parametrize(("images", "outcome"), [("[nginx]", "denied"), ("[nginx, redis]", "exempted")])
def test_what_concerns_no_container_is_exempted_by_all_images(images: str, outcome: str) -> None:
    def examine_volume(*_: Any) -> Iterator[Violation]:
        yield Violation("spec.template.spec.volumes[0]", "a", "a volume with a container's name")

    two = workload("Deployment", container("a", "nginx"), container("b", "redis"))
    text = EXEMPTION.replace("MATCH", f"namespaces: ['*'], images: {images}")
    decision = judged(request(two), settings(text=text, policy=replace(SIZE, examine=examine_volume)))
    assert outcomes(decision) == [outcome]


@pytest.mark.parametrize(("name", "expected"), [("report", []), ("other", ["patched"])])
def test_a_job_of_a_cronjob_is_covered_by_its_name(name: str, expected: list[str]) -> None:
    pod = owned("Pod", "Job", "report-29384750")
    match = f"namespaces: [shop], names: [{name}], kinds: [CronJob]"
    cfg = settings("patch", text=EXEMPTION.replace("MATCH", match), named=True)
    user = "system:serviceaccount:kube-system:job-controller"
    assert outcomes(judged(request(pod, user=user), cfg)) == expected


@pytest.mark.parametrize(
    ("namespace", "outcome"), [("legacy-a", "audited"), ("shop", "denied")], ids=["matching", "elsewhere"]
)
def test_overrides(namespace: str, outcome: str) -> None:
    text = "overrides: [{match: {namespaces: [legacy-*]}, policies: {memory-limits: {mode: audit}}}]"
    assert outcomes(judged(request(SMALL, namespace=namespace), settings(text=text))) == [outcome]


def test_the_last_override_counts_and_the_ceiling_still_caps() -> None:
    text = """
    mode: warn
    overrides:
      - {match: {namespaces: ["*"]}, policies: {memory-limits: {mode: audit}}}
      - {match: {namespaces: [shop]}, policies: {memory-limits: {mode: deny}}}
    """
    assert outcomes(judged(request(SMALL), settings(text=text))) == ["warned"]


# --- failures


def failing(request: AdmissionRequest, *_: Any) -> Iterator[Violation]:
    raise ZeroDivisionError("a bug")
    yield


FAILING = Policy("size", "", failing, Params, ())


@pytest.mark.parametrize(
    ("on_error", "ceiling", "mode", "allowed"),
    [("ignore", "deny", "warn", True), ("deny", "deny", "deny", False), ("deny", "audit", "audit", True)],
)
def test_a_policy_that_fails(on_error: str, ceiling: str, mode: str, allowed: bool) -> None:
    decision = judged(request(SMALL), settings(on_error=on_error, text=f"mode: {ceiling}", policy=FAILING))
    (verdict,) = decision.verdicts
    assert (verdict.outcome, verdict.mode, decision.allowed) == ("failed", mode, allowed)
    assert verdict.violation.message == "could not decide, this is Forestall's own failure: a bug"
    assert isinstance(decision.failures["size"], ZeroDivisionError)


@pytest.mark.parametrize("raised", [FactsUnavailable("no LimitRanges"), BadObject("spec is null"), BadQuantity("x")])
@pytest.mark.parametrize(
    ("on_error", "ceiling", "mode", "outcome"),
    [
        ("ignore", "deny", "warn", "unknown"),
        ("deny", "deny", "deny", "denied"),
        ("deny", "patch", "warn", "unknown"),
        ("deny", "audit", "audit", "unknown"),
    ],
)
def test_what_could_not_be_read_is_no_failure_of_ours(
    raised: Exception, on_error: str, ceiling: str, mode: str, outcome: str
) -> None:
    def unreadable(*_: Any) -> Iterator[Violation]:
        raise raised
        yield

    policy = replace(FAILING, examine=unreadable)
    decision = judged(request(SMALL), settings(on_error=on_error, text=f"mode: {ceiling}", policy=policy))
    (verdict,) = decision.verdicts
    assert (verdict.outcome, verdict.mode, decision.allowed) == (outcome, mode, outcome != "denied")
    assert verdict.violation.message == f"could not decide: {raised}"
    assert decision.failures == {"size": raised}
    assert audit_annotations(decision) == {outcome: "size"}


def test_mutate_does_not_deny_for_a_failure_either() -> None:
    assert judged(request(SMALL), settings(on_error="deny", policy=FAILING), stage="mutate").allowed


def test_the_other_verdicts_stand() -> None:
    cfg = settings("deny")
    broken = replace(cfg.policies["size"], policy=replace(FAILING, id="broken"))
    decision = judged(request(SMALL), replace(cfg, policies={"broken": broken, **cfg.policies}))
    assert [(verdict.policy, verdict.outcome) for verdict in decision.verdicts] == [
        ("size", "denied"),
        ("broken", "failed"),
    ]


def test_a_comparison_that_fails_is_no_denial() -> None:
    def examine_new_only(req: AdmissionRequest, given: Any, params: Params) -> Iterator[Violation]:
        if req.old_object is None:
            raise ZeroDivisionError
        return examine(req, given, params)

    for mode in ("deny", "patch"):
        decision = judged(request(SMALL, BIG), settings(mode, policy=replace(SIZE, examine=examine_new_only)))
        assert (outcomes(decision), decision.allowed, decision.patch) == (["failed"], True, ())


def test_fixes_that_undo_each_other_are_our_failure() -> None:
    def flip(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        size = req.object["spec"]["template"]["spec"]["containers"][0]["size"]
        yield Violation("size", "web", "flip", fix=Set("spec.template.spec.containers[0].size", -size))

    decision = judged(request(SMALL), settings("patch", policy=replace(SIZE, examine=flip)))
    assert (decision.patch, outcomes(decision), decision.allowed) == ((), ["failed"], True)
    assert "8 rounds" in decision.verdicts[0].violation.message


@pytest.mark.parametrize(("steps", "outcome"), [(7, "patched"), (8, "patched"), (9, "failed")])
def test_fixes_settle_in_eight_rounds(steps: int, outcome: str) -> None:
    def step(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        replicas = req.object["spec"].get("replicas", 0)
        if replicas < steps:
            yield Violation("spec.replicas", "", "one more", fix=Set("spec.replicas", replicas + 1))

    decision = judged(request(SMALL), settings("patch", policy=replace(SIZE, examine=step)))
    assert outcomes(decision) == [outcome]
    assert len(decision.patch) == (0 if outcome == "failed" else steps)


IMAGED = (
    "exemptions: [{{policy: POLICY, match: {{namespaces: [shop], images: [{}]}}, "
    "owner: a, reason: b, until: 2030-01-01}}]"
)


@pytest.mark.parametrize(
    ("text", "name", "has_old"),
    [
        pytest.param(IMAGED.format("nginx"), "web-{}", False, id="exempted-by-image"),
        pytest.param(IMAGED.format("apache"), "web-{}", False, id="no-image-of-an-exemption"),
        pytest.param(IMAGED.format("nginx"), "web", True, id="exempted-by-image-and-of-one-name"),
        pytest.param("ratchet: true", "web-{}", True, id="ratchet"),
        pytest.param("ratchet: true", "web", True, id="ratchet-of-one-name"),
        pytest.param("mode: patch", "web-{}", False, id="patched"),
    ],
)
def test_work_is_a_multiple_of_the_review_s_size(text: str, name: str, has_old: bool) -> None:
    cfg = settings("patch" if "patch" in text else "deny", text=text)

    def make(count: int) -> Call:
        def sized(size: int) -> Object:
            return workload("Deployment", *[container(name.format(n), size=size) for n in range(count)])

        req = request(sized(1), sized(2) if has_old else None)
        return lambda: judged(msgspec.structs.replace(req), cfg)

    assert_linear(make, 50)


def test_what_was_worse_before_excuses_the_same_kind_alone() -> None:
    """Of several old violations at one place any may be the one."""

    def sizes(*found: int) -> Object:
        return workload("Deployment", *[container("web", size=size) for size in found])

    decision = judged(request(sizes(1, 2, 3), sizes(2, 3)), settings())
    assert [(verdict.violation.value, verdict.outcome) for verdict in decision.verdicts] == [
        (1, "denied"),
        (2, "warned"),
        (3, "warned"),
    ]


def test_what_others_patch_stands_beside_a_failure() -> None:
    def flip(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        replicas = req.object["spec"].get("replicas", 1)
        yield Violation("spec.replicas", "", "flip", fix=Set("spec.replicas", -replicas))

    cfg = settings("patch")
    flipping = replace(cfg.policies["size"], policy=replace(SIZE, id="flip", examine=flip))
    cfg = replace(cfg, policies={**cfg.policies, "flip": flipping})
    decision = judged(request(SMALL), cfg)
    assert [(verdict.policy, verdict.outcome) for verdict in decision.verdicts] == [
        ("size", "patched"),
        ("flip", "failed"),
    ]
    assert [operation["path"] for operation in decision.patch] == ["/spec/template/spec/containers/0/size"]


def test_a_policy_that_has_not_begun_in_time_counts_as_failed() -> None:
    decision = judged(request(SMALL), settings(), deadline=time.monotonic() - 1)
    assert isinstance(decision.failures["size"], TimeUp)
    assert (outcomes(decision), decision.allowed) == (["failed"], True)


@pytest.mark.parametrize(
    ("mode", "otherwise", "expected"),
    [("audit", "deny", "audit"), ("warn", "deny", "warn"), ("patch", "warn", "warn"), ("patch", "deny", "deny")],
)
def test_a_failure_denies_no_more_than_the_policy_would(mode: str, otherwise: str, expected: str) -> None:
    (verdict,) = judged(request(SMALL), settings(mode, otherwise, on_error="deny", policy=FAILING)).verdicts
    assert verdict.mode == expected


def test_a_failure_denies_no_more_than_an_override_lets_the_policy() -> None:
    text = "overrides: [{match: {namespaces: [shop]}, policies: {memory-limits: {mode: audit}}}]"
    assert judged(request(SMALL), settings(on_error="deny", text=text, policy=FAILING)).allowed
    assert undecided(request(SMALL), settings(on_error="deny", text=text), "validate", TimeUp("too late")).allowed


@pytest.mark.parametrize(
    ("obj", "fields", "skipped"),
    [
        pytest.param(SMALL, {"namespace": "kube-system"}, "excluded namespace", id="excluded"),
        pytest.param(
            owned("ReplicaSet", "Deployment", "web"),
            {"user": "system:kube-controller-manager"},
            "judged at its Deployment",
            id="owned",
        ),
    ],
)
def test_undecided_leaves_alone_what_decide_does(obj: Object, fields: Any, skipped: str) -> None:
    decision = undecided(request(obj, **fields), settings(on_error="deny"), "validate", TimeUp("too late"))
    assert (decision.allowed, decision.skipped) == (True, skipped)


@pytest.mark.parametrize(("on_error", "allowed"), [("ignore", True), ("deny", False)])
def test_undecided(on_error: str, allowed: bool) -> None:
    decision = undecided(request(SMALL), settings(on_error=on_error), "validate", TimeUp("too late"))
    assert (outcomes(decision), decision.allowed) == (["failed"], allowed)


# --- several fixes


def test_fixes_of_several_policies_compose() -> None:
    """One policy's fix makes room for the other's violation, which is fixed in the next round."""

    def twice(req: AdmissionRequest, _: Any, params: Params) -> Iterator[Violation]:
        found = read_workload(req)
        for written in found.containers if found else ():
            if written.spec.get("twice") != written.spec["size"] * 2:
                yield Violation(
                    f"{written.path}.twice",
                    written.name,
                    "twice",
                    fix=Set(f"{written.path}.twice", written.spec["size"] * 2),
                )

    cfg = settings("patch")
    other = replace(cfg.policies["size"], policy=replace(SIZE, id="twice", examine=twice))
    decision = judged(request(SMALL), replace(cfg, policies={**cfg.policies, "twice": other}))
    assert decision.object is not None
    assert decision.object["spec"]["template"]["spec"]["containers"] == [container(size=4, twice=8)]
    assert [(verdict.policy, verdict.outcome) for verdict in decision.verdicts] == [
        ("size", "patched"),
        ("twice", "patched"),
    ]
    again = judged(request(decision.object), replace(cfg, policies={**cfg.policies, "twice": other}))
    assert again == Decision(allowed=True)


def test_messages_quote_what_was_submitted() -> None:
    """One policy's fix is too small for another policy, which must not speak of the value that it never saw typed."""
    prometheus = workload("StatefulSet", container("prometheus", "prom/prometheus:v3"))
    text = "policies: {memory-limits: {params: {images: {prometheus: 2Gi}}}}"
    decision = judged(request(prometheus), config(text))
    assert [
        (verdict.policy, verdict.outcome, verdict.violation.message.partition(":")[0]) for verdict in decision.verdicts
    ] == [
        ("memory-limits", "patched", "container 'prometheus' has no memory limit"),
        ("prometheus-memory", "denied", "Prometheus container 'prometheus' has no memory request"),
        ("prometheus-memory", "denied", "Prometheus container 'prometheus' has no memory limit"),
    ]


def test_a_kind_that_the_configuration_adds_is_judged() -> None:
    text = "kinds: [{group: example.com, kind: Worker, resource: workers, podSpec: spec.pod}]"
    worker = {
        "apiVersion": "example.com/v1",
        "kind": "Worker",
        "metadata": {"name": "w"},
        "spec": {"pod": {"containers": [container(size=1)]}},
    }
    (verdict,) = judged(request(worker), settings(text=text)).verdicts
    assert verdict.violation.path == "spec.pod.containers[0].size"
    assert judged(request(worker), settings()) == Decision(allowed=True)


# Several pod specs in an object ---------------------------------------------------------------------------------------

RAY = """
kinds:
  - {group: ray.io, kind: RayCluster, resource: rayclusters, podSpec: spec.headGroupSpec.template.spec}
  - {group: ray.io, kind: RayCluster, resource: rayclusters, podSpec: "spec.workerGroupSpecs[*].template.spec"}
"""
BARE_POD = {"containers": [{"name": "ray", "image": "rayproject/ray:2.9.0"}]}
SIZED_POD = {
    "containers": [{"name": "ray", "image": "rayproject/ray:2.9.0", "resources": {"limits": {"memory": "1Gi"}}}]
}


def ray_cluster(head: Object, *workers: Object) -> Object:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "ray", "namespace": "shop"},
        "spec": {
            "headGroupSpec": {"template": {"spec": head}},
            "workerGroupSpecs": [{"template": {"spec": worker}} for worker in workers],
        },
    }


@pytest.mark.parametrize(
    ("obj", "paths"),
    [
        pytest.param(ray_cluster(SIZED_POD, SIZED_POD), [], id="all-have-limits"),
        pytest.param(
            ray_cluster(BARE_POD, SIZED_POD, BARE_POD),
            ["spec.headGroupSpec.template.spec", "spec.workerGroupSpecs[1].template.spec"],
            id="two-of-three-have-none",
        ),
        pytest.param(ray_cluster(BARE_POD), ["spec.headGroupSpec.template.spec"], id="an-empty-list"),
    ],
)
def test_every_pod_spec_of_a_list_is_judged_and_patched(obj: Object, paths: list[str]) -> None:
    decision = decide(request(obj), NO_FACTS, config(RAY), today=TODAY)
    found = [verdict.violation.path for verdict in decision.verdicts if verdict.policy == "memory-limits"]
    assert found == [f"{path}.containers[0].resources.limits.memory" for path in paths]
    patched = jsonpatch.apply_patch(obj, list(decision.patch)) if decision.patch else obj
    assert patched == (decision.object or obj)
    again = decide(request(patched), NO_FACTS, config(RAY), today=TODAY)
    assert [verdict for verdict in again.verdicts if verdict.policy == "memory-limits"] == []


def test_a_pod_spec_s_list_that_is_none_cannot_be_read() -> None:
    obj = ray_cluster(SIZED_POD)
    obj["spec"]["workerGroupSpecs"] = "x"
    decision = decide(request(obj), NO_FACTS, config(RAY), today=TODAY)
    assert str(decision.failures["memory-limits"]) == "spec.workerGroupSpecs is a string ('x'), not a list"


def test_what_a_pod_spec_of_a_list_had_before_is_only_told() -> None:
    text = f"{RAY}policies: {{memory-limits: {{mode: deny}}}}"
    old, new = ray_cluster(SIZED_POD, BARE_POD), ray_cluster(SIZED_POD, BARE_POD, BARE_POD)
    decision = decide(request(new, old), NO_FACTS, config(text), today=TODAY)
    outcomes = [(verdict.violation.path[:26], verdict.outcome) for verdict in decision.verdicts]
    assert outcomes == [("spec.workerGroupSpecs[0].t", "warned"), ("spec.workerGroupSpecs[1].t", "denied")]


def test_a_decision_leaves_nothing_for_the_collector() -> None:
    """`forestall check` runs without it, and makes a decision for each object of its files."""

    def alive() -> int:
        return sum(isinstance(thing, Rules) for thing in gc.get_objects())

    asked = request(workload("Deployment"), workload("Deployment"))
    gc.collect()
    gc.disable()
    try:
        before = alive()
        decide(asked, NO_FACTS, config(""), today=TODAY)
        assert alive() == before
    finally:
        gc.enable()
