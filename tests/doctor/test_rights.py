"""The checks of rights and of objects that can't be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import KINDS, config, every_policy, facts_of
from tests.doctor.surveys import FORBIDDEN, SYSTEM, healthy, said
from tests.memory_cluster import MemoryCluster
from webhook.cluster import Written
from webhook.doctor.access import MissingRight, missing_rights
from webhook.doctor.checks import diagnose
from webhook.doctor.survey import Slipped, Templates
from webhook.objects.facts import CLAIMS, LIMIT_RANGES, ClusterFacts
from webhook.policy import FactReference, Object, Reference
from webhook.stored import Unreadable

LIMITS = MissingRight("forestall-server", "servers", ("get", "list", "watch"), "limitranges")
MISSING = ": what they need to know of them is missing"
GRANT = (
    "grant it: kubectl create clusterrole forestall-server-limitranges --verb=get,list,watch --resource=limitranges && "
    "kubectl create clusterrolebinding forestall-server-limitranges --clusterrole=forestall-server-limitranges "
    "--serviceaccount=forestall-system:forestall-server"
)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        pytest.param([], ("ok", "servers and controllers may read all that they need to know of", ""), id="all"),
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
            FORBIDDEN,
            ("unknown", "cannot tell: it is forbidden (403)", "ask as somebody who may read that"),
            id="not-ours-to-ask",
        ),
    ],
)
def test_rights(missing: Any, expected: tuple[str, str, str]) -> None:
    checks = [check for check in diagnose(healthy(missing_rights=missing)) if check.name == "rights"]
    assert [(check.status, check.seen, check.todo) for check in checks] == [expected]


class Authorizing(MemoryCluster):
    """A cluster whose ServiceAccounts lack what `refused` names: account, verb, resource."""

    def __init__(self, *refused: tuple[str, str, str]) -> None:
        super().__init__()
        self.refused = refused
        self.asked: set[tuple[str, str, str]] = set()

    def create(self, path: str, obj: Object, *, dry_run: bool = False, timeout: float = 10.0) -> Written:
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        spec = obj["spec"]
        namespace, account = spec["user"].removeprefix("system:serviceaccount:").split(":")
        assert namespace == SYSTEM
        assert spec["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
        attributes = spec["resourceAttributes"]
        resource = f"{attributes['resource']}.{attributes['group']}".rstrip(".")
        self.asked.add((account, attributes["verb"], resource))
        allowed = (account, attributes["verb"], resource) not in self.refused
        return Written({**obj, "status": {"allowed": allowed}}, ())


def test_what_is_asked_is_what_they_need() -> None:
    cluster = Authorizing()
    text = every_policy(memory_limits="mode: patch")
    assert missing_rights(cluster, SYSTEM, config(text)) == []  # type: ignore[arg-type]
    assert cluster.asked == {
        *(("forestall-server", verb, "limitranges") for verb in ("get", "list", "watch")),
        *(
            ("forestall-controller", verb, plural)
            for verb in ("list", "watch")
            for plural in ("limitranges", "namespaces")
        ),
    }


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
    assert missing_rights(cluster, SYSTEM, config("")) == [  # type: ignore[arg-type]
        MissingRight("somebody", "servers", ("list", "watch"), classes),
        MissingRight("forestall-controller", "controllers", ("watch",), "namespaces"),
    ]


def test_objects_that_can_not_be_read_are_named_once() -> None:
    odd = Unreadable(Reference("Deployment", "shop", "web"), "why")
    known = replace(facts_of([]), unreadable={FactReference(CLAIMS, "shop", "data"): "it is odd"})
    survey = healthy(facts=known, templates=Templates(unreadable=[odd]), slipped=Slipped(unreadable=[odd]))
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
