"""The checks of rights and of objects that can't be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import KINDS, config, every_policy, facts_of
from tests.doctor.surveys import FORBIDDEN, SYSTEM, healthy, said
from tests.memory_cluster import MemoryCluster
from webhook.cluster.client import Written
from webhook.cluster.unseen import Unreadable, Unseen
from webhook.doctor.access import (
    BINDINGS,
    Binding,
    MissingRight,
    Need,
    missing_bindings,
    missing_rights,
    needs_of_servers,
)
from webhook.doctor.checks import diagnose
from webhook.doctor.survey import Slipped, Templates
from webhook.objects.facts import CLAIMS, LIMIT_RANGES, ClusterFacts
from webhook.policy import FactReference, Object, Reference

LIMITS = MissingRight("forestall-server", "servers", Need(("get", "list", "watch"), "limitranges"))
LEASE = MissingRight(
    "forestall-controller",
    "controllers",
    Need(("get", "update"), "leases", "coordination.k8s.io", namespace=SYSTEM, name="forestall-controller"),
)
MISSING = ": what they need to know of them is missing"
GRANT = (
    "grant it: kubectl create clusterrole forestall-server-limitranges --verb=get,list,watch --resource=limitranges && "
    "kubectl create clusterrolebinding forestall-server-limitranges --clusterrole=forestall-server-limitranges "
    "--serviceaccount=forestall-system:forestall-server"
)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        pytest.param([], ("ok", "servers, controllers and auditors may do all that they need", ""), id="all"),
        pytest.param(
            [LIMITS],
            (
                "fail",
                f"servers (ServiceAccount {SYSTEM}/forestall-server) may not get, list and watch limitranges{MISSING}",
                GRANT,
            ),
            id="one-is-missing",
        ),
        pytest.param(
            [LEASE],
            (
                "fail",
                (
                    f"controllers (ServiceAccount {SYSTEM}/forestall-controller) may not get and update "
                    f"leases.coordination.k8s.io forestall-controller in {SYSTEM}: they can't do their work"
                ),
                (
                    f"grant it: kubectl -n {SYSTEM} create role "
                    "forestall-controller-leases.coordination.k8s.io-get-update --verb=get,update "
                    "--resource=leases.coordination.k8s.io --resource-name=forestall-controller && kubectl -n "
                    f"{SYSTEM} create rolebinding forestall-controller-leases.coordination.k8s.io-get-update "
                    "--role=forestall-controller-leases.coordination.k8s.io-get-update "
                    f"--serviceaccount={SYSTEM}:forestall-controller"
                ),
            ),
            id="one-object-in-one-namespace",
        ),
        pytest.param(
            [MissingRight("forestall-controller", "auditors", Need(("watch",), "pods"))],
            (
                "fail",
                (
                    f"auditors (ServiceAccount {SYSTEM}/forestall-controller) may not watch pods: their audit isn't "
                    "whole, or isn't told"
                ),
                (
                    "grant it: kubectl create clusterrole forestall-controller-pods --verb=watch --resource=pods && "
                    "kubectl create clusterrolebinding forestall-controller-pods "
                    f"--clusterrole=forestall-controller-pods --serviceaccount={SYSTEM}:forestall-controller"
                ),
            ),
            id="an-auditor-s",
        ),
        pytest.param(
            FORBIDDEN,
            ("unknown", "cannot tell: it is forbidden (403)", "ask as somebody who may read that"),
            id="not-ours-to-ask",
        ),
    ],
)
def test_rights(missing: Any, expected: tuple[str, str, str]) -> None:
    checks = [check for check in diagnose(healthy(missing_rights=missing)) if check.name == "rights"]
    assert [(check.status, check.seen, check.todo) for check in checks] == [expected]


@pytest.mark.parametrize("allowed", [True, False])
def test_config_maps_are_read_one_by_one_where_a_parameter_allows_it(allowed: bool) -> None:
    params = f"params: {{readConfigMaps: {str(allowed).lower()}}}"
    needs = list(needs_of_servers(config(every_policy(metrics_durability=f"mode: warn, {params}"))))
    assert [need for need in needs if need.resource == "configmaps"] == [Need(("get",), "configmaps")] * allowed


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_who_judges_scales_has_to_read_a_deployment(mode: str) -> None:
    needs = needs_of_servers(config(f"policies: {{volume-handover: {{mode: '{mode}'}}}}"))
    assert (Need(("get",), "deployments", "apps") in needs) is (mode == "warn")


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        pytest.param(
            BINDINGS[0],
            (
                "ClusterRoleBinding forestall-server is not there: servers lack 3 rights that they need",
                (
                    "make it again: kubectl create clusterrolebinding forestall-server --clusterrole=forestall-server "
                    f"--serviceaccount={SYSTEM}:forestall-server"
                ),
            ),
            id="of-the-cluster",
        ),
        pytest.param(
            BINDINGS[2],
            (
                "RoleBinding forestall-controller is not there: controllers lack 2 rights that they need",
                (
                    f"make it again: kubectl -n {SYSTEM} create rolebinding forestall-controller "
                    f"--role=forestall-controller --serviceaccount={SYSTEM}:forestall-controller"
                ),
            ),
            id="of-the-namespace",
        ),
    ],
)
def test_a_binding_that_is_gone_is_told_instead_of_its_rights(binding: Binding, expected: tuple[str, str]) -> None:
    lost = [right for right in (LIMITS, LEASE) if right.who == binding.who]
    checks = [check for check in diagnose(healthy(missing_rights=lost, bindings=[binding])) if check.name == "rights"]
    assert [(check.status, check.seen, check.todo) for check in checks] == [("fail", *expected)]


def test_a_binding_of_another_name_does() -> None:
    assert [status for status, _ in said("rights", healthy(bindings=list(BINDINGS)))] == ["ok"]


class Authorizing(MemoryCluster):
    """A cluster whose ServiceAccounts lack what `refused` names: account, verb, resource."""

    def __init__(self, *refused: tuple[str, str, str]) -> None:
        super().__init__()
        self.refused = refused
        self.asked: list[tuple[str, dict[str, str]]] = []

    def create(self, path: str, obj: Object, *, dry_run: bool = False, timeout: float = 10.0) -> Written:
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        spec = obj["spec"]
        namespace, account = spec["user"].removeprefix("system:serviceaccount:").split(":")
        assert namespace == SYSTEM
        assert spec["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
        attributes = spec["resourceAttributes"]
        resource = f"{attributes['resource']}.{attributes.get('group', '')}".rstrip(".")
        self.asked.append((account, attributes))
        allowed = (account, attributes["verb"], resource) not in self.refused
        return Written({**obj, "status": {"allowed": allowed}}, ())

    def get(self, path: str) -> Object | None:
        groups = [{"name": name, "preferredVersion": {"version": "v1"}} for name in GROUPS]
        return {"groups": groups} if path == "/apis" else super().get(path)


GROUPS = (
    "admissionregistration.k8s.io",
    "apps",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "rbac.authorization.k8s.io",
    "openreports.io",
    "storage.k8s.io",
    "wgpolicyk8s.io",
)


def test_what_is_asked_is_what_they_need() -> None:
    cluster = Authorizing()
    text = every_policy(memory_limits="mode: patch")
    assert missing_rights(cluster, SYSTEM, config(text)) == []
    of_servers = [attributes for account, attributes in cluster.asked if account == "forestall-server"]
    assert of_servers == [{"verb": verb, "resource": "limitranges"} for verb in ("get", "list", "watch")]
    of_controllers = [attributes for account, attributes in cluster.asked if account == "forestall-controller"]
    assert {"verb": "update", "resource": "secrets", "namespace": SYSTEM, "name": "forestall-tls"} in of_controllers
    assert {"verb": "create", "resource": "limitranges"} not in of_controllers


def test_where_limit_ranges_are_to_be_made_more_is_asked() -> None:
    cluster = Authorizing()
    text = "limitRanges: [{namespaces: [a], default: {memory: 1Gi}}]"
    assert missing_rights(cluster, SYSTEM, config(text)) == []
    attributes = [attributes for _, attributes in cluster.asked]
    assert {"verb": "create", "resource": "limitranges"} in attributes
    assert {"verb": "list", "resource": "deployments", "group": "apps"} in attributes
    # What isn't served needs no right.
    assert not [one for one in attributes if one.get("group") == "monitoring.coreos.com"]


def controllers(*containers: str) -> Object:
    spec = {"template": {"spec": {"containers": [{"name": name} for name in containers]}}}
    metadata = {"name": "forestall-controller", "namespace": SYSTEM}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("watch", "deployments.apps"),
        ("get", "replicasets.apps"),
        ("list", "nodes"),
        ("watch", "pods"),
        ("update", "policyreports.wgpolicyk8s.io"),
        ("delete", "clusterpolicyreports.wgpolicyk8s.io"),
        ("create", "reports.openreports.io"),
        ("list", "configmaps"),
        ("delete", "configmaps"),
    ],
)
def test_a_right_that_only_auditors_need_is_asked_for_where_there_is_one(verb: str, resource: str) -> None:
    cluster = Authorizing(("forestall-controller", verb, resource))
    cluster.put(controllers("controller", "auditor"))
    missing = missing_rights(cluster, SYSTEM, config(""))
    assert [(right.who, right.need.verbs, right.need.full_resource) for right in missing] == [
        ("auditors", (verb,), resource)
    ]
    cluster.put(controllers("controller"))
    assert missing_rights(cluster, SYSTEM, config("")) == []


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        pytest.param("leases.coordination.k8s.io", "forestall-auditor", id="its-lease"),
        pytest.param("secrets", "hook", id="the-url-that-is-notified"),
    ],
)
def test_an_auditor_needs_objects_of_its_own(resource: str, name: str) -> None:
    cluster = Authorizing(("forestall-controller", "get", resource))
    notifying = config("notifications: {secret: {name: hook}}")
    missing = missing_rights(cluster, SYSTEM, notifying)
    assert [right.need.name for right in missing if right.who == "auditors"] == [name]


def test_what_controllers_and_auditors_lack_is_told_once() -> None:
    cluster = Authorizing(("forestall-controller", "create", "configmaps"))
    missing = missing_rights(cluster, SYSTEM, config(""))
    assert [(right.who, right.need.verbs) for right in missing] == [("controllers", ("create",))]


def test_a_binding_of_both_controllers_and_auditors() -> None:
    watch = MissingRight("forestall-controller", "auditors", Need(("watch",), "pods"))
    namespaces = MissingRight("forestall-controller", "controllers", Need(("list", "watch"), "namespaces"))
    survey = healthy(missing_rights=[namespaces, watch], bindings=[BINDINGS[1]])
    text = "ClusterRoleBinding forestall-controller is not there: controllers and auditors lack 3 rights that they need"
    assert said("rights", survey) == [("fail", text)]


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        pytest.param(BINDINGS, [], id="all-are-there"),
        pytest.param(BINDINGS[1:], [BINDINGS[0]], id="servers"),
        pytest.param(BINDINGS[:2], [BINDINGS[2]], id="controllers-in-the-namespace"),
    ],
)
def test_missing_bindings(present: tuple[Binding, ...], missing: list[Binding]) -> None:
    cluster = MemoryCluster()
    for binding in present:
        metadata = {"name": binding.name} | ({"namespace": SYSTEM} if binding.kind == "RoleBinding" else {})
        cluster.put({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": binding.kind, "metadata": metadata})
    assert missing_bindings(cluster, SYSTEM) == missing


def test_missing_ones_are_named_with_their_verbs_and_group() -> None:
    classes = "storageclasses.storage.k8s.io"
    cluster = Authorizing(
        ("somebody", "list", classes),
        ("somebody", "watch", classes),
        ("forestall-controller", "watch", "namespaces"),
    )
    metadata = {"name": "forestall", "namespace": SYSTEM}
    spec = {"template": {"spec": {"serviceAccountName": "somebody"}}}
    cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    assert missing_rights(cluster, SYSTEM, config("")) == [
        MissingRight("somebody", "servers", Need(("list", "watch"), "storageclasses", "storage.k8s.io")),
        MissingRight("forestall-controller", "controllers", Need(("watch",), "namespaces")),
    ]


def test_objects_that_can_not_be_read_are_named_once() -> None:
    odd = Unreadable(Reference("Deployment", "shop", "web"), "why")
    known = replace(facts_of([]), unreadable={FactReference(CLAIMS, "shop", "data"): "it is odd"})
    survey = healthy(
        facts=known, templates=Templates(unseen=Unseen(objects=[odd])), slipped=Slipped(unseen=Unseen(objects=[odd]))
    )
    assert said("objects", survey) == [
        ("warn", "PersistentVolumeClaim shop/data can't be read: it is odd"),
        ("warn", "Deployment shop/web can't be read: why"),
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, ("ok", "every object that policies need can be read"), id="all-can-be-read"),
        pytest.param({"facts": FORBIDDEN}, ("unknown", "cannot tell: it is forbidden (403)"), id="facts-unknown"),
        pytest.param(
            {"facts": ClusterFacts(known=frozenset({*KINDS} - {CLAIMS, LIMIT_RANGES}))},
            (
                "unknown",
                "cannot tell: whether all objects can be read: limitranges, persistentvolumeclaims could not be listed",
            ),
            id="kinds-unknown",
        ),
    ],
)
def test_nothing_unreadable(changed: dict[str, Any], expected: tuple[str, str]) -> None:
    assert said("objects", healthy(**changed)) == [expected]
