"""What namespace-defaults sees in a running cluster."""

from __future__ import annotations

import pytest

from policies.namespace_defaults.policy import POLICY, Params
from tests.builders import container, facts_of, limit_range, sized
from tests.observing.living import ago, condition, live, owned, scaled, told
from webhook.policy import Object, Observation

BIG = container("web", **sized("4Gi", "1Gi"))
LIMITS = "spec.template.spec.containers[0].resources.limits.memory"
ABOVE = f"container 'web': limits.memory 4Gi is above the maximum 1Gi: set {LIMITS} to 1Gi or less"


def observed(*objects: Object) -> list[Observation]:
    ranges = [obj for obj in objects if obj["kind"] == "LimitRange"]
    assert POLICY.observe is not None
    return list(POLICY.observe(live(*(obj for obj in objects if obj not in ranges)), facts_of(ranges), Params()))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [limit_range(max="1Gi"), scaled("Deployment", BIG, desired=2)],
            f"error Deployment shop/web: 0 of 2 pods are there, as LimitRange defaults refuses more: {ABOVE}",
            id="a-deployment",
        ),
        pytest.param(
            [limit_range(max="1Gi"), scaled("StatefulSet", BIG, desired=3, there=1, ready=1)],
            f"error StatefulSet shop/web: 1 of 3 pods are there, as LimitRange defaults refuses more: {ABOVE}",
            id="a-stateful-set-that-has-some",
        ),
        pytest.param(
            [limit_range(max="1Gi"), scaled("DaemonSet", BIG, desired=3)],
            f"error DaemonSet shop/web: 0 of 3 pods are there, as LimitRange defaults refuses more: {ABOVE}",
            id="a-daemon-set",
        ),
        pytest.param(
            [
                limit_range(max="1Gi"),
                scaled("StatefulSet", BIG, **owned("Prometheus", "main", "monitoring.coreos.com/v1")),
            ],
            f"error Prometheus shop/main: 0 of 1 pods are there, as LimitRange defaults refuses more: {ABOVE}",
            id="of-an-operator-s-resource",
        ),
        pytest.param([limit_range(max="8Gi"), scaled("Deployment", BIG)], "", id="nothing-refuses-them"),
        pytest.param([limit_range(max="1Gi"), scaled("Deployment", BIG, there=1)], "", id="it-has-its-pods"),
        pytest.param([limit_range(max="1Gi", namespace="other"), scaled("Deployment", BIG)], "", id="elsewhere"),
        pytest.param([limit_range(max="1Gi"), scaled("Deployment", BIG, desired=0)], "", id="scaled-to-zero"),
        pytest.param(
            [limit_range(max="8Gi"), scaled("Deployment", container("web", **sized("1Gi", "2Gi")))],
            "",
            id="refused-without-a-limit-range-too",
        ),
    ],
)
def test_pods_that_a_limit_range_refuses(objects: list[Object], expected: str) -> None:
    assert told(observed(*objects)) == expected


def test_since_when_and_what_to_do() -> None:
    obj = scaled("Deployment", BIG)
    obj["status"]["conditions"] = [condition("ReplicaFailure", "True", ago(minutes=7), reason="FailedCreate")]
    (found,) = observed(limit_range(max="1Gi"), obj)
    assert (f"{found.since:%H:%M}", found.subject) == ("11:53", "web")
    assert found.run == ("kubectl -n shop describe limitranges defaults",)
