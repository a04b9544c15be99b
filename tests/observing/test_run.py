"""Observers are run over what lives: what is held back, left alone and contained."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import config, every_policy
from tests.observing.living import NOW
from webhook.errors import FactsUnavailable
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.objects.live import Live
from webhook.observing.run import Observer, observe, observers
from webhook.policy import Observation, Reference

LIVE = Live(now=NOW)
HOLD = timedelta(seconds=30)
LATE = Observation(Reference("Pod", "shop", "late"), "", "Pending", since=NOW - HOLD, hold=HOLD)
NEW = Observation(Reference("Pod", "shop", "new"), "", "Pending", since=NOW - timedelta(seconds=29), hold=HOLD)
DOWN = Observation(Reference("Deployment", "shop", "web"), "", "no pod is ready", severity="error")
SYSTEM = Observation(Reference("Pod", "kube-system", "proxy"), "", "Pending")
OWN = Observation(Reference("Pod", "infra", "x"), "", "Pending")
NODE = Observation(Reference("Node", "", "node-1"), "", "NotReady")


def finding(*found: Observation) -> Observer:
    return Observer("some", (), lambda _live, _facts: iter(found))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        pytest.param([LATE, NEW], [LATE], id="held-for-its-time"),
        pytest.param([NODE, DOWN], [DOWN, NODE], id="the-worst-first"),
        pytest.param([SYSTEM, OWN, NODE], [NODE], id="excluded-namespaces-are-left-alone"),
    ],
)
def test_what_is_told(found: list[Observation], told: list[Observation]) -> None:
    result = observe([finding(*found)], LIVE, NO_FACTS, config("excludeNamespaces: [infra]"))
    assert [found.observation for found in result.observed] == told


def test_an_observer_that_raises_costs_itself_alone() -> None:
    def unknown(_live: Live, _facts: ClusterFacts) -> Iterator[Observation]:
        yield DOWN
        raise FactsUnavailable("nodes could not be read")

    def bug(_live: Live, _facts: ClusterFacts) -> Iterator[Observation]:
        raise ZeroDivisionError

    asked = [Observer("one", (), unknown), Observer("two", (), bug), finding(NODE)]
    result = observe(asked, LIVE, NO_FACTS, config())
    assert [found.observation for found in result.observed] == [NODE]
    assert result.unknown == {"one": "nodes could not be read"}
    assert [(name, type(error)) for name, error in result.bugs.items()] == [("two", ZeroDivisionError)]


@pytest.mark.parametrize(
    ("text", "is_asked"),
    [
        pytest.param("mode: audit", True, id="only-audited"),
        pytest.param(every_policy(), False, id="off"),
        pytest.param(
            every_policy() + "\noverrides: [{match: {namespaces: [a]}, policies: {memory-limits: {mode: warn}}}]",
            True,
            id="off-but-in-one-namespace",
        ),
    ],
)
def test_policies_that_are_off_are_not_asked(text: str, is_asked: bool) -> None:
    assert ("memory-limits" in [observer.name for observer in observers(config(text))]) == is_asked
