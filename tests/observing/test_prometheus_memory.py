"""Observations of prometheus-memory in a running cluster."""

from __future__ import annotations

import pytest

from policies.prometheus_memory.floor import Params
from policies.prometheus_memory.policy import POLICY
from tests.builders import container, sized
from tests.observing.living import ago, condition, killed, live, owned, pod, running, told
from webhook.objects.facts import NO_FACTS
from webhook.policy import Object, Observation

REPLAY = "each start replays the write-ahead log, which may take more than it had before"
LAST = "last in pod kubecost-prometheus-server-0 at 2026-11-27 11:56:00 UTC, 409 restarts, and is down now"
OF = "StatefulSet shop/kubecost-prometheus-server: Prometheus container 'prometheus-server' was OOM-killed at its limit"


def prometheus(
    limit: str = "3Gi", request: str = "2Gi", image: str = "quay.io/prometheus/prometheus:v2.35.0", name: str = ""
) -> Object:
    """A server that is down, and was killed four minutes ago, for the 409th time in 2 days and 20 hours."""
    server = container("prometheus-server", image, **sized(limit, request))
    status = running("prometheus-server", **{"prometheus-server": killed(ago(minutes=4), 409, "CrashLoopBackOff")})
    status["conditions"] = [condition("Ready", "False", ago(hours=68))]
    owner = owned("StatefulSet", "kubecost-prometheus-server")
    return pod("kubecost-prometheus-server-0", server, metadata=owner, status=status)


def observed(*objects: Object, **params: int) -> list[Observation]:
    assert POLICY.observe is not None
    return list(POLICY.observe(live(*objects), NO_FACTS, Params(**params)))


@pytest.mark.parametrize(
    ("obj", "params", "expected"),
    [
        pytest.param(
            prometheus(),
            {},
            f"error {OF} 3Gi, {LAST}; {REPLAY}: set requests.memory to 4Gi and limits.memory to 6Gi or more",
            id="less-than-ended-the-incident",
        ),
        pytest.param(
            prometheus(),
            {"series": 1_000_000},
            f"error {OF} 3Gi, {LAST}; {REPLAY}: set requests.memory to 6456Mi and limits.memory to 9683Mi or more for "
            "1000000 series (-44 % / +13 %, without heavy queries)",
            id="as-its-series-need",
        ),
        pytest.param(
            prometheus("8Gi", "8Gi"),
            {},
            f"error {OF} 8Gi, {LAST}; {REPLAY}: 8Gi is no less than what is enough as a rule, and it needs more: set "
            "limits.memory to 16Gi, or have it scrape and keep fewer series",
            id="more-than-is-enough-as-a-rule",
        ),
        pytest.param(prometheus(image="grafana/grafana:12.0.0"), {}, "", id="another-container"),
    ],
)
def test_a_prometheus_that_is_killed(obj: Object, params: dict[str, int], expected: str) -> None:
    assert told(observed(obj, **params)) == expected


def test_how_often_since_when_and_what_to_do() -> None:
    (found,) = observed(prometheus())
    assert found.since is not None
    assert (found.value, f"{found.since:%Y-%m-%d %H:%M}") == (409, "2026-11-24 16:00")
    command = "kubectl -n shop set resources statefulset/kubecost-prometheus-server -c prometheus-server"
    assert found.run == (
        f"{command} --requests=memory=4Gi --limits=memory=6Gi",
        "kubectl -n shop logs kubecost-prometheus-server-0 -c prometheus-server --previous",
    )
