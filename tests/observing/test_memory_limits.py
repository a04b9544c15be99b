"""Observations of memory-limits in a running cluster."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policies.memory_limits.params import Params
from policies.memory_limits.policy import POLICY
from tests.builders import container, sized
from tests.observing.living import WEB, ago, killed, live, node, owned, pod, running, told
from webhook.objects.facts import NO_FACTS
from webhook.policy import Object, Observation

AT = "2026-11-27 11:30:00 UTC"


def observed(*objects: Object, unseen: tuple[str, ...] = ()) -> list[Observation]:
    assert POLICY.observe is not None
    return list(POLICY.observe(live(*objects, unseen=unseen), NO_FACTS, Params()))


def oom(name: str = "web-5d9c-x1", *containers: Object, status: Object | None = None, **fields: object) -> Object:
    """A pod whose first container was OOM-killed half an hour ago."""
    first = containers[0]["name"] if containers else "web"
    given = running(first, **{first: status or killed(ago(minutes=30))})
    return pod(name, *(containers or (WEB,)), status=given, **fields)


ELASTALERT = container("elastalert", "jertel/elastalert2:2.20.0", **sized("256Mi"))


KILLED = "container 'web' was OOM-killed at its limit 512Mi"
LAST = f"last in pod web-5d9c-x1 at {AT}"
RAISE = "raise limits.memory above 512Mi"


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([pod("web-5d9c-x1", WEB)], "", id="healthy"),
        pytest.param(
            [oom()],
            f"warning Deployment shop/web: {KILLED}, {LAST}, 1 restart: {RAISE}",
            id="killed-at-its-limit",
        ),
        pytest.param([oom(status=killed(ago(hours=25)))], "", id="killed-the-day-before"),
        pytest.param(
            [oom(status=killed(ago(minutes=30), 9, "CrashLoopBackOff"))],
            f"error Deployment shop/web: {KILLED}, {LAST}, 9 restarts, and is down now: {RAISE}",
            id="it-is-down",
        ),
        pytest.param(
            [oom("web-5d9c-x1"), oom("web-5d9c-x2", status=killed(ago(minutes=40), 2))],
            f"warning Deployment shop/web: {KILLED}, in 2 pods, {LAST}, 3 restarts: {RAISE}",
            id="two-pods-of-a-workload",
        ),
        pytest.param(
            [oom("solo", container(), metadata={})],
            f"warning Pod shop/solo: container 'web' was OOM-killed without a limit, last in pod solo at {AT}, 1 "
            "restart: set limits.memory to what it may take: without a limit its node had no memory left",
            id="without-a-limit",
        ),
        pytest.param(
            [oom("elastalert-0", ELASTALERT, metadata=owned("StatefulSet", "elastalert"))],
            "warning StatefulSet shop/elastalert: container 'elastalert' was OOM-killed at its limit 256Mi, last in "
            f"pod elastalert-0 at {AT}, 1 restart: raise limits.memory above 256Mi, or have ElastAlert hold less: "
            "use_count_query: true in its rules, and a lower max_query_size",
            id="elastalert",
        ),
        pytest.param(
            [oom("prometheus-0", container("prometheus", "prom/prometheus:v3.1.0", **sized("2Gi")))],
            "",
            id="prometheus-memory-tells-of-its-own",
        ),
    ],
)
def test_oom_killed_containers(objects: list[Object], expected: str) -> None:
    assert told(observed(*objects)) == expected


@pytest.mark.parametrize(
    ("obj", "run"),
    [
        pytest.param(
            oom(),
            (
                "kubectl -n shop set resources deployment/web -c web --limits=memory=1Gi",
                "kubectl -n shop logs web-5d9c-x1 -c web --previous",
            ),
            id="a-deployment",
        ),
        pytest.param(
            oom("main-0", WEB, metadata=owned("Observatory", "main", "example.com/v1")),
            ("kubectl -n shop logs main-0 -c web --previous",),
            id="an-operators-resource",
        ),
    ],
)
def test_what_to_do(obj: Object, run: tuple[str, ...]) -> None:
    assert [observation.run for observation in observed(obj)] == [run]


def sizes(name: str, capacity: str, allocatable: str) -> Object:
    obj = node(name)
    obj["status"] |= {"capacity": {"memory": capacity}, "allocatable": {"memory": allocatable}}
    return obj


def started(name: str, **passed: float) -> Object:
    """A pod without a limit on node-1, whose container was started that long ago."""
    status = running("web", since=ago(**passed))
    return pod(name, container(), status=status)


def new_node(**passed: float) -> Object:
    obj = node("node-1", ready="False", since=ago(**passed))
    obj["metadata"]["creationTimestamp"] = ago(**passed)
    return obj


NEVER = "error Node node-1: node node-1 is not ready"
BLAMED = "1 container without a memory limit on it may take all of its memory: shop/web-5d9c-x1 (web): give them one"
SYSTEM = (
    "pods that take what they may take the kubelet's: set kubeReserved and systemReserved in the kubelet's "
    "configuration"
)


def on_nodes(*objects: Object) -> str:
    """What is told of nodes, but that their pods may take too much."""
    return told(
        observation
        for observation in observed(*objects)
        if observation.reference.kind == "Node"
        and "add up to" not in observation.message
        and live().now - _since(observation) >= observation.hold
    )


def _since(observation: Observation) -> datetime:
    return observation.since or datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([node("node-1"), pod()], "", id="healthy"),
        pytest.param(
            [node("node-1", ready="Unknown", since=ago(minutes=3)), pod("web-5d9c-x1", container())],
            f"error Node node-1: node node-1 is not ready; {BLAMED}",
            id="not-ready",
        ),
        pytest.param([node("node-1", ready="False", since=ago(minutes=1))], "", id="only-just-not-ready"),
        pytest.param([node("node-1", ready="False", since=ago(days=9))], NEVER, id="never-ready"),
        pytest.param([new_node(minutes=5)], "", id="a-new-node-that-starts"),
        pytest.param(
            [node("node-1", since=ago(minutes=5)), started("web-5d9c-x1", hours=3)],
            "warning Node node-1: node node-1 was not ready, and is again since 2026-11-27 11:55:00 UTC, without a "
            f"reboot; {BLAMED}",
            id="it-came-back",
        ),
        pytest.param(
            [node("node-1", since=ago(minutes=5)), started("web-5d9c-x1", minutes=4)], "", id="it-was-rebooted"
        ),
        pytest.param(
            [sizes("a", "8Gi", "8Gi"), sizes("b", "8Gi", "8092Mi"), node("c")],
            "warning Node a: node a reserves no memory for the system (pods may have 8Gi of its 8Gi), nor do b: "
            + SYSTEM,
            id="nothing-is-reserved",
        ),
        pytest.param(
            [sizes(name, "8Gi", "8Gi") for name in "abcde"],
            "warning Node a: node a reserves no memory for the system (pods may have 8Gi of its 8Gi), nor do b, c and "
            f"2 more: {SYSTEM}",
            id="nothing-is-reserved-anywhere",
        ),
    ],
)
def test_nodes(objects: list[Object], expected: str) -> None:
    assert on_nodes(*objects) == expected


def limited(name: str, limit: str | None, node: str = "node-1", namespace: str = "shop") -> Object:
    return pod(name, container(**sized(limit)), node=node, namespace=namespace, metadata={})


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([node("node-1"), limited("a", "7Gi")], "", id="they-fit"),
        pytest.param(
            [node("node-1"), limited("a", "4Gi"), limited("b", "2Gi"), limited("c", "1Gi"), limited("d", "512Mi")],
            "warning Node node-1: the memory limits of the pods on node node-1 add up to 7680Mi, where they may have "
            "7Gi together: shop/a (4Gi), shop/b (2Gi), shop/c (1Gi) and 1 more",
            id="they-don-t",
        ),
        pytest.param(
            [node("node-1"), limited("a", "4Gi"), limited("b", None)],
            "warning Node node-1: the memory limits of the pods on node node-1 add up to 4Gi, where they may have 7Gi "
            "together, and 1 of them have no limit at all: shop/b (no limit), shop/a (4Gi)",
            id="one-has-no-limit",
        ),
        pytest.param([node("node-1"), limited("a", None, namespace="kube-system")], "", id="the-cluster-s-own"),
        pytest.param([node("node-1"), limited("a", "8Gi", "gone")], "", id="on-no-node-that-is-there"),
    ],
)
def test_nodes_whose_pods_may_take_too_much(objects: list[Object], expected: str) -> None:
    assert told(observation for observation in observed(*objects) if "add up to" in observation.message) == expected


def test_the_worst_three_nodes_are_named() -> None:
    objects = [obj for name in "abcde" for obj in (node(name), limited(f"pod-{name}", f"{ord(name) - 80}Gi", name))]
    messages = [observation.message for observation in observed(*objects)]
    assert [message.partition(" add")[0].rpartition(" ")[2] for message in messages] == ["e", "d", "c"]
    assert [message.partition("; ")[2] for message in messages] == ["", "", "2 more nodes are like it"]


def test_of_a_pod_whose_status_names_thousands_of_containers_the_first_are_told() -> None:
    names = [f"c{number}" for number in range(3000)]
    status = running(*names, **{name: killed(ago(minutes=30)) for name in names})
    found = observed(pod("web-5d9c-x1", *map(container, names), status=status))
    assert [observation.subject for observation in found] == names[:50]
