"""What memory-limits sees in a running cluster."""

from __future__ import annotations

import pytest

from policies.memory_limits.policy import POLICY, Params
from tests.builders import container, sized
from tests.observing.living import WEB, ago, killed, live, owned, pod, running, told
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
    return pod(name, *(containers or (WEB,)), status=given, **fields)  # type: ignore[arg-type]


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
    assert [each.run for each in observed(obj)] == [run]
