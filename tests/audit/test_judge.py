"""What an audit judges of what is stored, as whose, and what it leaves to the owner."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TODAY, config, container, custom, every_policy, facts_of, sized, workload
from tests.memory_cluster import MemoryCluster
from webhook.audit.judge import Audit, audit
from webhook.cluster.unseen import Unreadable
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.operated import OPERATED
from webhook.policy import Object

GROUPS = {"apps": "v1", "batch": "v1", "monitoring.coreos.com": "v1"}
DENY = every_policy(memory_limits="mode: deny")
OPERATOR_MADE = "made by Observatory obs: mend it there, by a LimitRange (label the namespace), by image or container, "


def owned(obj: Object, by: Object, uid: str) -> Object:
    reference = {"apiVersion": by["apiVersion"], "kind": by["kind"], "name": by["metadata"]["name"]}
    obj["metadata"]["ownerReferences"] = [reference | {"uid": uid, "controller": True}]
    return obj


def with_uid(obj: Object, uid: str) -> Object:
    obj["metadata"]["uid"] = uid
    return obj


def pod(name: str = "one", **status: Any) -> Object:
    return workload("Pod", name=name) | {"status": status}


OBSERVATORY: Object = {"apiVersion": "example.com/v1", "kind": "Observatory", "metadata": {"name": "obs"}}
DEPLOYMENT = with_uid(workload(), "u-web")


def judged(*objects: Object, text: str = DENY, cluster: MemoryCluster | None = None, **given: Any) -> Audit:
    plurals = {kind.kind: kind.resource for kind in OPERATED}
    cluster = cluster or MemoryCluster(groups=GROUPS)
    for obj in objects:
        cluster.put(obj, plurals.get(obj["kind"], ""))
    known = facts_of([])
    return audit(cluster, config(text), known, lambda request: request.namespace, today=TODAY, **given)


def found(audited: Audit) -> list[tuple[str, str]]:
    """The objects with findings and what becomes of them, the worst first."""
    teams = audited.tally.teams()
    return [
        (str(finding.object), finding.verdict.outcome)
        for _, findings in audited.findings.by_team(teams)
        for finding in findings
    ]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([workload()], [("Deployment shop/web", "denied")], id="a-workload"),
        pytest.param([workload("Deployment", container(**sized("1Gi", "1Gi")))], [], id="one-in-order"),
        pytest.param([pod()], [("Pod shop/one", "denied")], id="a-bare-pod"),
        pytest.param([custom("Prometheus", {})], [("Prometheus shop/main", "denied")], id="an-operators-resource"),
        pytest.param(
            [DEPLOYMENT, owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-web")],
            [("Deployment shop/web", "denied")],
            id="at-its-owner",
        ),
        pytest.param(
            [owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-gone")],
            [("ReplicaSet shop/web-1", "denied")],
            id="an-owner-that-is-gone-answers-for-nothing",
        ),
        pytest.param(
            [DEPLOYMENT, owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-another")],
            [("Deployment shop/web", "denied"), ("ReplicaSet shop/web-1", "denied")],
            id="nor-does-another-of-its-name",
        ),
        pytest.param(
            [owned(pod(), OBSERVATORY, "u")], [("Pod shop/one", "warned")], id="a-pod-of-an-owner-that-is-not-judged"
        ),
        pytest.param(
            [owned(workload("StatefulSet", name="obs"), OBSERVATORY, "u")],
            [("StatefulSet shop/obs", "warned")],
            id="any-object-of-an-owner-that-is-not-judged",
        ),
        pytest.param(
            [
                with_uid(custom("Prometheus", {}), "u-p"),
                owned(workload("StatefulSet"), custom("Prometheus", {}), "u-p"),
            ],
            [("Prometheus shop/main", "denied")],
            id="at-the-operators-resource",
        ),
        pytest.param([pod(phase="Succeeded")], [], id="an-ended-pod"),
        pytest.param([pod(phase="Failed")], [], id="a-failed-pod"),
        pytest.param([pod(phase="Running")], [("Pod shop/one", "denied")], id="a-running-pod"),
        pytest.param(
            [workload("Job") | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}],
            [],
            id="a-finished-job",
        ),
        pytest.param(
            [workload("Job") | {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}],
            [("Job shop/web", "denied")],
            id="a-job-that-is-not",
        ),
        pytest.param(
            [
                workload()
                | {"metadata": {"name": "w", "namespace": "shop", "deletionTimestamp": "2026-11-21T10:00:00Z"}}
            ],
            [],
            id="being-deleted",
        ),
        pytest.param(
            [workload() | {"metadata": {"name": "w", "namespace": "kube-system"}}], [], id="excluded-namespace"
        ),
        pytest.param(
            [
                owned(pod(), {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}, "u-n")
                | {"metadata": pod()["metadata"] | {"annotations": {"kubernetes.io/config.mirror": "x"}}}
            ],
            [("Pod shop/one", "denied")],
            id="a-mirror-annotation-alone-proves-nothing",
        ),
    ],
)
def test_what_is_judged_and_what_becomes_of_it(objects: list[Object], expected: list[tuple[str, str]]) -> None:
    assert found(judged(*objects)) == expected


def test_a_mirror_pod_is_its_nodes() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    mirror = owned(pod(), node, "u-n")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    assert found(judged(mirror)) == []


def test_an_old_replica_set_is_over_also_without_its_deployment() -> None:
    old = owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-gone")
    old["spec"]["replicas"] = 0
    assert found(judged(old)) == []


def test_operators_objects_name_their_owner() -> None:
    audited = judged(owned(pod(), OBSERVATORY, "u"))
    ((_, findings),) = audited.findings.by_team(["shop"])
    assert findings[0].verdict.note.startswith(OPERATOR_MADE)
    assert findings[0].object.owner == "Observatory obs"


def test_an_owner_newer_than_its_list_lives() -> None:
    class Late(MemoryCluster):
        """The Deployment is created once Deployments are listed."""

        def read(self, path: str, query: Any, timeout: float, most: int | None = None) -> bytes:
            body = super().read(path, query, timeout, most)
            if path.endswith("/deployments"):
                self.put(DEPLOYMENT)
            return body

    replica_set = owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-web")
    assert found(judged(replica_set, cluster=Late(groups=GROUPS))) == []


@pytest.mark.parametrize("name", ["?watch=true&x=", "../../nodes/n", "web/scale", "Web", ""])
def test_what_can_be_no_owner_s_name_is_never_asked_for(name: str) -> None:
    """The API server takes any text as the name of an owner."""
    cluster = MemoryCluster(groups=GROUPS)
    audited = judged(owned(pod(), DEPLOYMENT | {"metadata": {"name": name}}, "u-gone"), cluster=cluster)
    assert found(audited) == [("Pod shop/one", "denied")]
    assert [path for verb, path in cluster.calls if verb == "get" and path.startswith("/apis/apps")] == []


@pytest.mark.parametrize(
    ("error", "why", "forbidden"),
    [
        pytest.param(ClusterRefused(403, "Forbidden", "no"), "no (403)", {"deployments.apps"}, id="forbidden"),
        pytest.param(ClusterRefused(503, "", "is down"), "is down (503)", set(), id="down"),
        pytest.param(FactsUnavailable("timed out"), "timed out", set(), id="no-answer"),
    ],
)
def test_the_rest_is_judged(error: Exception, why: str, forbidden: set[str]) -> None:
    cluster = MemoryCluster(groups=GROUPS)
    cluster.fail["list", "/deployments"] = [error]
    mine = owned(workload("ReplicaSet", name="web-1"), DEPLOYMENT, "u-web")
    audited = judged(DEPLOYMENT, mine, workload("DaemonSet", name="agent"), cluster=cluster)
    assert found(audited) == [("DaemonSet shop/agent", "denied")]
    assert (audited.unseen.resources, set(audited.unseen.forbidden)) == ({"deployments.apps": why}, forbidden)


def test_an_object_that_cannot_be_read_is_named() -> None:
    audited = judged(workload(containers="nonsense"), workload(name="other"))
    assert found(audited) == [("Deployment shop/other", "denied")]
    assert [str(odd) for odd in audited.unseen.objects] == [
        "Deployment shop/web can't be read: spec.template.spec.containers is a string ('nonsense'), not a list"
    ]
    assert all(isinstance(odd, Unreadable) for odd in audited.unseen.objects)


def test_only_these_namespaces() -> None:
    elsewhere = workload()
    elsewhere["metadata"] = {"name": "web", "namespace": "other"}
    namespaces: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("shop", "other")
    ]
    text = every_policy(memory_limits="mode: deny", namespace_defaults="mode: warn")
    audited = judged(workload(), elsewhere, *namespaces, text=text, namespaces=["other"])
    assert found(audited) == [("Deployment other/web", "denied"), ("Namespace other", "warned")]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        pytest.param("data-db-0", 0, id="made-from-the-template"),
        pytest.param("data-other-0", 1, id="of-no-stateful-set"),
        pytest.param("data-db-x", 1, id="no-ordinal"),
    ],
)
def test_a_claim_of_a_stateful_set_is_judged_there(name: str, others: int) -> None:
    stateful = workload("StatefulSet", name="db")
    stateful["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    claim: Object = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}}
    claim["metadata"] = {"name": name, "namespace": "shop"}
    audited = judged(stateful, claim, text=every_policy(zonal_volumes="mode: deny"))
    assert audited.tally.others == others


def test_what_is_served_is_asked_for_once() -> None:
    cluster = MemoryCluster(groups=GROUPS)
    judged(workload(), cluster=cluster)
    assert [path for verb, path in cluster.calls if (verb, path) == ("get", "/apis")] == ["/apis"]


def test_counts() -> None:
    exempted = workload(name="old")
    text = f"""
{DENY}
exemptions:
- {{policy: memory-limits, match: {{namespaces: [shop], names: [old]}}, owner: sre, reason: x, until: 2099-01-01}}
"""
    audited = judged(workload(), exempted, workload("DaemonSet", container(**sized("1Gi", "1Gi"))), text=text)
    tally = audited.tally
    assert (tally.workloads, tally.containers, tally.refused, tally.urgent) == (3, 3, 1, 1)
    assert tally.by_policy == {"memory-limits": {"denied": 1, "exempted": 1}}
    assert (tally.exempted, tally.needed) == ({0: 1}, {0: 1})


def test_the_worst_comes_first() -> None:
    made = owned(workload("DaemonSet", name="agent"), OBSERVATORY, "u")
    assert found(judged(made, workload(name="z"), workload(name="a"))) == [
        ("Deployment shop/a", "denied"),
        ("Deployment shop/z", "denied"),
        ("DaemonSet shop/agent", "warned"),
    ]
