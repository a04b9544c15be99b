"""Observations of zonal-volumes in a running cluster."""

from __future__ import annotations

from typing import Any

import pytest

from policies.zonal_volumes.policy import POLICY, Params
from tests.builders import config, facts_of
from tests.observing.living import LIVE_KINDS, NOW, ago, live, node, owned, pending, pod, told
from tests.test_zonal_volumes import claim, volume
from webhook.observing.run import Observer, observe
from webhook.policy import Object

MOUNT = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
OLD = "0/2 nodes are available: 2 node(s) had volume node affinity conflict. preemption: 0/2 nodes are available."
NEW = "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."
DATA = "claim 'data' has its data on volume pv, which only nodes in zone a can use"
LOSE = "if the data may be lost, delete claim and pod, and both are made anew where there are nodes"
PENDING = f"error StatefulSet shop/prometheus: pod prometheus-0 is Pending: {DATA}"
BRING = f"bring up a node there (zone a), or, {LOSE}"
SAID = "(the scheduler: '2 node(s) had volume node affinity conflict')"
SAID_ANEW = "(the scheduler: \"2 node(s) didn't match PersistentVolume's node affinity\")"
NODES = "kubectl get nodes -L topology.kubernetes.io/zone"


def prometheus(status: Object | None = None, node: str = "", **fields: Any) -> Object:
    return pod(
        "prometheus-0",
        node=node,
        metadata=owned("StatefulSet", "prometheus"),
        status=pending(OLD) if status is None else status,
        volumes=[MOUNT],
        **fields,
    )


BOUND = (claim(bound="pv"), volume("a"))
CORDON = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
AWAY = (node("b1", "b"), node("c1", "c"))


def observed(*objects: Object, unseen: tuple[str, ...] = ()) -> str:
    """What is told of a cluster with these objects."""
    known = facts_of([obj for obj in objects if obj["kind"] != "Pod"])
    alive = live(*(obj for obj in objects if obj["kind"] in LIVE_KINDS and obj["kind"] not in unseen), unseen=unseen)
    assert POLICY.observe is not None
    of_policy = POLICY.observe
    asked = Observer(POLICY.id, POLICY.lives, lambda live, facts: of_policy(live, facts, Params()))
    return told(found.observation for found in observe([asked], alive, known, config()).observed)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [*AWAY, *BOUND, prometheus()],
            f"{PENDING}, and the nodes that the pod may use are in zone b, c {SAID}: {BRING}",
            id="its-zone-is-gone",
        ),
        pytest.param(
            [*AWAY, *BOUND, prometheus(pending(NEW))],
            f"{PENDING}, and the nodes that the pod may use are in zone b, c {SAID_ANEW}: {BRING}",
            id="in-the-scheduler-s-new-words",
        ),
        pytest.param(
            [*AWAY, *BOUND, prometheus(pending())],
            f"{PENDING}, and the nodes that the pod may use are in zone b, c: {BRING}",
            id="whatever-the-scheduler-says",
        ),
        pytest.param(
            [*AWAY, *BOUND, prometheus(nodeSelector={"topology.kubernetes.io/zone": "a"})],
            f"{PENDING}, and there is no node that the pod may use {SAID}: {BRING}",
            id="pinned-to-its-zone-which-is-gone",
        ),
        pytest.param(
            [node("a1"), *AWAY, *BOUND, prometheus(nodeSelector={"topology.kubernetes.io/zone": "b"})],
            f"{PENDING}, and the nodes that the pod may use are in zone b {SAID}: let it onto a1, where it "
            "is reached: its nodeSelector, affinity or tolerations keep it away",
            id="pinned-elsewhere",
        ),
        pytest.param([node("a1"), *AWAY, *BOUND, prometheus()], "", id="it-waits-for-something-else"),
        pytest.param([*AWAY, *BOUND, prometheus(pending(OLD, ago(seconds=29)))], "", id="only-just-pending"),
        pytest.param([*AWAY, claim(), prometheus()], "", id="its-volume-is-yet-to-be-made"),
        pytest.param(
            [*AWAY, *BOUND],
            f"warning PersistentVolumeClaim shop/data: {DATA}, and no such node is left: {BRING}",
            id="nobody-mounts-it",
        ),
        pytest.param(
            [node("a1", ready="Unknown", since=ago(minutes=6)), *AWAY, *BOUND, prometheus(node="a1")],
            f"warning StatefulSet shop/prometheus: {DATA}, and no such node is left; pod prometheus-0 mounts it, and "
            f"is Pending once it is made anew: {BRING}",
            id="its-pod-has-not-noticed-yet",
        ),
        pytest.param(
            [node("a1", ready="Unknown", since=ago(minutes=4)), *AWAY, *BOUND, prometheus(node="a1")],
            "",
            id="its-node-may-come-back",
        ),
        pytest.param([node("a1", taints=CORDON), *AWAY, *BOUND, prometheus(node="a1")], "", id="its-node-is-cordoned"),
        pytest.param([node("a1"), *AWAY, *BOUND, prometheus(node="a1")], "", id="healthy"),
    ],
)
def test_volumes_that_no_usable_node_reaches(objects: list[Object], expected: str) -> None:
    assert observed(*objects) == expected


def test_without_a_right_to_pods_claims_are_told_all_the_same() -> None:
    expected = f"warning PersistentVolumeClaim shop/data: {DATA}, and no such node is left: {BRING}"
    assert observed(*AWAY, *BOUND, prometheus(), unseen=("Pod",)) == expected


def test_what_to_do_and_since_when() -> None:
    objects = [*AWAY, *BOUND, prometheus()]
    assert POLICY.observe is not None
    alive = live(*(obj for obj in objects if obj["kind"] in LIVE_KINDS))
    (found,) = POLICY.observe(alive, facts_of([*AWAY, *BOUND]), Params())
    delete = "kubectl -n shop delete persistentvolumeclaim/data pod/prometheus-0  # its data is lost"
    assert (found.run, found.subject) == ((NODES, delete), "data")
    assert found.since is not None
    assert (NOW - found.since).total_seconds() == 240
