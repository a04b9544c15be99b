"""Amounts that the API server takes although nobody means them: no policy fails by one."""

from __future__ import annotations

import pytest

from tests.builders import TODAY, config, container, facts, limit_range, request, sized, workload
from webhook.engine import decide

CONFIG = config("mode: deny")
IMAGES = ("nginx:1.27", "prom/prometheus:v3.1.0")
AMOUNTS = [
    pytest.param("1e400", id="above-floats"),
    pytest.param("1e5000", id="more-digits-than-python-prints"),
    pytest.param("1e2147483647", id="more-digits-than-memory"),
    pytest.param("9" * 5_000, id="written-out"),
]


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("part", ["default", "defaultRequest", "min", "max", "maxLimitRequestRatio"])
def test_of_a_limit_range(part: str, amount: str) -> None:
    given = facts(limit_range(**{"max": "1Gi", part: amount}))
    for image in IMAGES:
        for sizes in ({}, sized("1Gi", "1Mi")):
            decision = decide(request(workload("Pod", container(image=image, **sizes))), given, CONFIG, today=TODAY)
            assert decision.failures == {}


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("other", ["1e400", "1", None])
def test_of_a_container_and_its_pod(amount: str, other: str | None) -> None:
    given = facts(limit_range(max="1e5000", maxLimitRequestRatio="1e400"))
    for image in IMAGES:
        for sizes in (sized(amount, other), sized(other, amount)):
            obj = workload("Pod", container(image=image, **sizes), **sizes)
            decision = decide(request(obj), given, CONFIG, today=TODAY)
            assert decision.failures == {}
            assert all(len(verdict.violation.message) < 2_000 for verdict in decision.verdicts)
