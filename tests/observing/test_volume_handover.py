"""Observations of volume-handover in a running cluster."""

from __future__ import annotations

from typing import Any

import pytest

from policies.volume_handover.policy import POLICY, Params
from tests.builders import config, container, facts_of
from tests.observing.living import (
    LIVE_KINDS,
    ago,
    condition,
    live,
    node,
    owned,
    pending,
    pod,
    scaled,
    told,
)
from webhook.observing.run import Observer, observe
from webhook.policy import Object, Observation

DATA = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
NEW: Object = {"labels": {"pod-template-hash": "77aa"}, **owned("ReplicaSet", "web-77aa")}
LOST_SINCE = "2026-11-27 11:40:00 UTC"
LOST = f"node node-1, not ready since {LOST_SINCE} (NodeStatusUnknown)"
FREED = "its Node, known to be off, is deleted or tainted node.kubernetes.io/out-of-service"
UNTIL = f"until six minutes after the lost pod was to be gone at best, or {FREED}"
TAINT = "kubectl taint nodes node-1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
STEPS = (
    "kubectl describe node/node-1  # if its machine runs, bring it back: nothing else is needed",
    f"{TAINT}  # only once it is known to be off: its pods go, and their volumes are detached at once",
    f"{TAINT}-  # before the node is used again",
    "kubectl delete node/node-1  # in place of both, if it never comes back",
)
WRITERS = "two that write destroy the data"


def claim(mode: str = "ReadWriteOnce") -> Object:
    metadata = {"name": "data", "namespace": "shop"}
    spec = {"accessModes": [mode], "volumeName": "pv", "storageClassName": "fast"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def attachment(to: str = "node-1", *, attached: bool = True, volume: str = "pv") -> Object:
    spec = {"nodeName": to, "source": {"persistentVolumeName": volume}}
    return {
        "kind": "VolumeAttachment",
        "metadata": {"name": f"csi-{to}"},
        "spec": spec,
        "status": {"attached": attached},
    }


def creating(since: str = ago(minutes=12)) -> Object:
    """The status of a pod whose volumes aren't mounted yet."""
    conditions = [condition("PodScheduled", "True", since), condition("Ready", "False", since)]
    waiting = {"name": "web", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}
    return {"phase": "Pending", "conditions": conditions, "containerStatuses": [waiting]}


def unready(since: str) -> Object:
    """The status of a pod that runs, and isn't ready."""
    return {"phase": "Running", "conditions": [condition("Ready", "False", since)]}


def old(node: str = "node-1", **fields: Any) -> Object:
    """The pod that has the claim; healthy unless its status says something else."""
    return pod("web-5d9c-a", node=node, volumes=DATA, **fields)


def new(since: str = ago(minutes=12), *, same: bool = False, on: str = "node-2", **fields: Any) -> Object:
    """The pod that waits, of the next version unless it is of the same one."""
    labels, owner = ("5d9c", "web-5d9c") if same else ("77aa", "web-77aa")
    metadata = {**owned("ReplicaSet", owner), "creationTimestamp": since}
    given = {"status": creating(since), "labels": {"pod-template-hash": labels}, **fields}
    return pod("web-b", node=on, volumes=DATA, metadata=metadata, **given)


def going(since: str, status: Object | None = None, kind: str = "ReplicaSet", owner: str = "web-5d9c") -> Object:
    """What makes a pod one that should have gone at this time."""
    gone = {**owned(kind, owner), "deletionTimestamp": since, "deletionGracePeriodSeconds": 30}
    labels = {"pod-template-hash": "5d9c"} if kind == "ReplicaSet" else {}
    return {"metadata": gone, "labels": labels, "status": status or unready(ago(minutes=20))}


def stalled(**fields: Any) -> Object:
    obj = scaled("Deployment", **fields)
    obj["status"]["conditions"] = [
        condition("Progressing", "False", ago(minutes=5), reason="ProgressDeadlineExceeded"),
        condition("Available", "True", ago(days=1)),
    ]
    return obj


def lost(name: str = "node-1", since: str = ago(minutes=20)) -> Object:
    obj = node(name, ready="Unknown", since=since)
    obj["status"]["conditions"][0]["reason"] = "NodeStatusUnknown"
    return obj


def seen(*objects: Object, unseen: tuple[str, ...] = ()) -> list[Observation]:
    known = facts_of([obj for obj in objects if obj["kind"] == "PersistentVolumeClaim"])
    alive = live(*(obj for obj in objects if obj["kind"] in LIVE_KINDS and obj["kind"] not in unseen), unseen=unseen)
    assert POLICY.observe is not None
    of_policy = POLICY.observe
    asked = Observer(POLICY.id, POLICY.lives, lambda live, facts: of_policy(live, facts, Params()))
    return [found.observation for found in observe([asked], alive, known, config()).observed]


UP = (node("node-1"), node("node-2"))
DOWN = (lost(), node("node-2"))
HELD = (claim(), attachment())
WEB_0: dict[str, Any] = {"kind": "StatefulSet", "owner": "web"}
DEADLOCK = (
    "error Deployment shop/web: pod web-b waits for claim 'data', which one node holds at a time: pod web-5d9c-a, of "
    "the version before, has it on node node-1, and stays until the new one is ready: the rollout never ends"
)
HELD_BY_LOST = (
    f"error Deployment shop/web: pod web-b waits for claim 'data', which pod web-5d9c-a holds on {LOST}; its volume pv "
    f"is attached there: {UNTIL}"
)
STUCK = (
    f"error StatefulSet shop/web: 0 of 1 pods are ready, and pod web-0 should have gone, but is on {LOST}: no other "
    f"takes its place until the node is back, or {FREED}"
)


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        pytest.param([*UP, *HELD, old()], "", id="a-healthy-pod"),
        pytest.param([*UP, *HELD, old(), new()], DEADLOCK, id="rollout-deadlock"),
        pytest.param([*UP, *HELD, old(), new(ago(minutes=1))], "", id="a-rollout-that-has-just-begun"),
        pytest.param([*UP, *HELD, old(**going(ago(seconds=20))), new()], "", id="the-old-pod-is-going"),
        pytest.param([*UP, claim(), attachment("node-2"), old(), new()], "", id="the-volume-is-where-it-is-wanted"),
        pytest.param([*UP, claim(), old(), new()], "", id="a-volume-that-needs-no-attaching"),
        pytest.param([*UP, claim("ReadWriteMany"), attachment(), old(), new()], "", id="a-shared-volume"),
        pytest.param([*UP, attachment(), old(), new()], "", id="an-unseen-claim"),
        pytest.param(
            [*UP, claim("ReadWriteOncePod"), old(), new(on="", status=pending(since=ago(minutes=12)))],
            DEADLOCK.replace("one node holds", "one pod holds"),
            id="rollout-deadlock-on-one-pod-s-claim",
        ),
        pytest.param(
            [*UP, claim("ReadWriteOncePod"), old(), new(same=True, on="", status=pending(since=ago(minutes=12)))],
            "error Deployment shop/web: pod web-b waits for claim 'data', which one pod holds at a time: pod "
            "web-5d9c-a has it on node node-1",
            id="one-pod-s-conflict",
        ),
        pytest.param(
            [*UP, *HELD, old(), new(same=True)],
            "error Deployment shop/web: pod web-b waits for claim 'data', which one node holds at a time: pod "
            "web-5d9c-a has it on node node-1",
            id="two-replicas",
        ),
        pytest.param(
            [*UP, *HELD, old(), new(on="node-1", status=unready(ago(minutes=12))), stalled(there=2, ready=1)],
            "error Deployment shop/web: pod web-b isn't ready beside pod web-5d9c-a, of the version before, which has "
            "claim 'data' on node node-1 as well, and stays until the new one is ready: if both write to it, the "
            "rollout never ends",
            id="rollout-deadlock-on-one-node",
        ),
        pytest.param(
            [*UP, *HELD, old(), new(on="node-1", status=unready(ago(minutes=12))), scaled("Deployment", ready=1)],
            "",
            id="a-slow-start-on-one-node",
        ),
        pytest.param([*DOWN, *HELD, old(**going(ago(minutes=14))), new()], HELD_BY_LOST, id="held-by-a-lost-node"),
        pytest.param(
            [*DOWN, *HELD, old(**going(ago(minutes=14))), new(ago(minutes=1))], "", id="a-lost-node's-pod-is-replaced"
        ),
        pytest.param(
            [*DOWN, claim("ReadWriteOncePod"), old(**going(ago(minutes=14))), new(on="", status=pending())],
            HELD_BY_LOST.replace("; its volume pv is attached there", ""),
            id="one-pod-s-claim-on-a-lost-node",
        ),
        pytest.param(
            [*DOWN, *HELD, new()],
            f"error Deployment shop/web: pod web-b waits for claim 'data', which is attached to {LOST}: {UNTIL}",
            id="attached-to-a-lost-node-without-its-pod",
        ),
        pytest.param(
            [node("node-2"), *HELD, new()],
            "error Deployment shop/web: pod web-b waits for claim 'data', which is attached to node node-1, which is "
            f"no longer there: {UNTIL}",
            id="attached-to-a-node-that-is-gone",
        ),
        pytest.param([node("node-2"), *HELD, new(ago(minutes=5))], "", id="a-node-was-scaled-down"),
        pytest.param(
            [*DOWN, lost("node-3"), *HELD, old(**going(ago(minutes=4))), new(on="node-3")],
            "",
            id="the-one-that-waits-is-lost-itself",
        ),
        pytest.param([*UP, *HELD, attachment("node-2"), old(), new()], "", id="the-volume-is-attached-to-both"),
        pytest.param(
            [*DOWN, *HELD, old(**going(ago(minutes=4))), new(on="", status=pending())],
            "",
            id="no-node-for-the-one-that-waits",
        ),
        pytest.param(
            [
                *DOWN,
                *HELD,
                old(**going(ago(minutes=4))),
                new(),
                scaled("Deployment", desired=1, there=1, ready=0),
            ],
            HELD_BY_LOST,
            id="held-by-a-lost-node-and-below-its-replicas",
        ),
        pytest.param(
            [*DOWN, claim(), attachment(attached=False), old(**going(ago(minutes=4))), new()], "", id="force-detached"
        ),
        pytest.param(
            [
                *DOWN,
                pod("web-0", **going(ago(minutes=14), **WEB_0)),
                scaled("StatefulSet", desired=1, there=1, ready=0),
            ],
            STUCK,
            id="a-stateful-set's-pod",
        ),
        pytest.param(
            [
                *DOWN,
                pod("web-0", **going(ago(seconds=40), **WEB_0)),
                scaled("StatefulSet", desired=1, there=1, ready=0),
            ],
            "",
            id="a-stateful-set's-pod-that-has-just-been-evicted",
        ),
        pytest.param(
            [*DOWN, pod("web-a", status=unready(ago(minutes=20))), scaled("Deployment", desired=2, there=2, ready=1)],
            f"error Deployment shop/web: 1 of 2 pods is ready, and pod web-a is on {LOST}",
            id="below-its-replicas",
        ),
        pytest.param(
            [
                lost(since=ago(minutes=5)),
                pod("web-a", status=unready(ago(minutes=5))),
                scaled("Deployment", desired=2, there=2, ready=1),
            ],
            "",
            id="below-its-replicas-before-anything-is-evicted",
        ),
        pytest.param(
            [
                *DOWN,
                pod(
                    "web-a",
                    status=unready(ago(minutes=20)),
                    tolerations=[{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}],
                ),
                scaled("Deployment", desired=2, there=2, ready=1),
            ],
            f"error Deployment shop/web: 1 of 2 pods is ready, and pod web-a is on {LOST}: it tolerates that for ever, "
            f"so that no other takes its place",
            id="below-its-replicas-for-ever",
        ),
        pytest.param(
            [
                *DOWN,
                pod("web-a", **going(ago(minutes=4))),
                pod("web-b", node="", status=pending("0/1 nodes are available: 1 Insufficient memory.")),
                scaled("Deployment", desired=2, there=2, ready=1),
            ],
            f"error Deployment shop/web: 1 of 2 pods is ready, and pod web-a is on {LOST}: pod web-b in its place is "
            "Pending (the scheduler: '0/1 nodes are available: 1 Insufficient memory.')",
            id="no-room-elsewhere",
        ),
        pytest.param(
            [
                *DOWN,
                lost("node-3"),
                pod("web-a", status=unready(ago(minutes=20))),
                pod("web-b", node="node-3", status=unready(ago(minutes=20))),
                scaled("Deployment", desired=3, there=3, ready=1),
            ],
            f"error Deployment shop/web: 1 of 3 pods is ready, and pods web-a, web-b are on {LOST}; on "
            f"{LOST.replace('node-1', 'node-3')}",
            id="below-its-replicas-on-two-nodes",
        ),
        pytest.param(
            [*DOWN, pod("web-a", **going(ago(minutes=4))), scaled("Deployment", desired=2, there=2, ready=2)],
            "",
            id="replaced-elsewhere",
        ),
        pytest.param(
            [*DOWN, pod("agent-a", metadata=owned("DaemonSet", "agent"), status=unready(ago(minutes=20)))],
            "",
            id="a-daemon-set's-pod-goes-with-its-node",
        ),
        pytest.param(
            [*UP, pod("web-a", **going(ago(minutes=14))), pod("web-b", **going(ago(minutes=13)))],
            "warning Deployment shop/web: pod web-a should have gone at 2026-11-27 11:46:00 UTC, and 1 more of its "
            "pods, and is still there on node node-1, which is ready",
            id="should-have-gone-long-ago",
        ),
        pytest.param(
            [*DOWN, pod("web-a", **going(ago(minutes=14)))],
            f"warning Deployment shop/web: pod web-a should have gone at 2026-11-27 11:46:00 UTC, and is still there "
            f"on {LOST}",
            id="should-have-gone-from-a-lost-node",
        ),
        pytest.param([*UP, pod("web-a", **going(ago(minutes=9)))], "", id="takes-its-time-to-go"),
    ],
)
def test_observed(objects: list[Object], text: str) -> None:
    assert told(seen(*objects)) == text


def test_attachments_that_could_not_be_seen() -> None:
    """By the pods alone, and without a word about what is attached."""
    objects = [*DOWN, claim(), old(**going(ago(minutes=14))), new()]
    assert told(seen(*objects, unseen=("VolumeAttachment",))) == HELD_BY_LOST.replace(
        "; its volume pv is attached there", ""
    )


def test_nothing_is_lost_where_nodes_could_not_be_seen() -> None:
    objects = [*DOWN, *HELD, pod("web-0", **going(ago(minutes=9), **WEB_0)), scaled("StatefulSet", there=1)]
    assert seen(*objects, unseen=("Node",)) == []


def test_the_hub_is_told_how_to_be_free_of_its_volume() -> None:
    hub = container("hub", "quay.io/jupyterhub/k8s-hub:4.4.0")
    waiting = new()
    waiting["spec"]["containers"] = [hub]
    [observation] = seen(*DOWN, *HELD, old(**going(ago(minutes=14))), waiting)
    assert observation.message.endswith(
        "; to be free of that, have the hub keep its data elsewhere: set hub.db.type to postgres or mysql, and "
        "hub.db.url"
    )


STRATEGY = '{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}'
RECREATE = (
    f"kubectl -n shop patch deployment/web --type=merge -p '{STRATEGY}'  # the old pod goes first",
    "kubectl -n shop rollout status deployment/web",
)
DETACH = "kubectl delete volumeattachment/csi-node-1"
FORCE = "kubectl -n shop delete pod/web-0 --force --grace-period=0"
FORCED = f"{FORCE}  # last resort, its containers may still run: {WRITERS}"
FINALIZERS = "kubectl -n shop get pod/web-0 -o 'jsonpath={.metadata.finalizers}'"


@pytest.mark.parametrize(
    ("objects", "run"),
    [
        pytest.param([*UP, *HELD, old(), new()], RECREATE, id="rollout-deadlock"),
        pytest.param(
            [*UP, *HELD, old(), new(on="node-1", status=unready(ago(minutes=12))), stalled(there=2, ready=1)],
            ("kubectl -n shop logs web-b --all-containers", *RECREATE),
            id="rollout-deadlock-on-one-node",
        ),
        pytest.param([*DOWN, *HELD, old(**going(ago(minutes=14))), new()], STEPS, id="held-by-a-lost-node"),
        pytest.param(
            [node("node-2"), *HELD, new()],
            (f"{DETACH}  # only once the machine of node-1 is known to be gone: {WRITERS}",),
            id="attached-to-a-node-that-is-gone",
        ),
        pytest.param(
            [*UP, *HELD, old(), new(same=True)],
            ("kubectl -n shop scale deployment/web --replicas=1",),
            id="two-replicas",
        ),
        pytest.param(
            [*UP, *HELD, pod("db-0", metadata=owned("StatefulSet", "db"), volumes=DATA), new()],
            (
                "kubectl -n shop describe pod/db-0",
                "kubectl -n shop scale statefulset/db --replicas=0  # if the one that waits is to have it",
            ),
            id="two-workloads",
        ),
        pytest.param(
            [*UP, *HELD, pod("job-x", metadata=owned("Job", "job", "batch/v1"), volumes=DATA), new()],
            (
                "kubectl -n shop describe pod/job-x",
                "kubectl -n shop delete pod/job-x  # if the one that waits is to have it",
            ),
            id="a-job-has-it",
        ),
        pytest.param(
            [*DOWN, pod("web-0", **going(ago(minutes=14), **WEB_0)), scaled("StatefulSet", there=1)],
            (*STEPS, FORCED),
            id="a-stateful-set's-pod",
        ),
        pytest.param(
            [*UP, pod("web-0", **going(ago(minutes=14)))],
            (
                f"{FINALIZERS}  # who has to let it go, if anybody",
                "kubectl -n shop describe pod/web-0  # else: a volume or a container that doesn't end",
                FORCED,
            ),
            id="should-have-gone-long-ago",
        ),
    ],
)
def test_what_to_do(objects: list[Object], run: tuple[str, ...]) -> None:
    [observation] = seen(*objects)
    assert observation.run == run
