"""The breaker: when calls stop, which of them, and for how long; on a clock of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_api import FakeApi, Request
from webhook.auditor.breaker import Breaker, GuardedCluster
from webhook.errors import ClusterRefused, FactsUnavailable


class Clock:
    now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def allowed(breaker: Breaker) -> tuple[bool, bool]:
    """Whether reads and writes may be made."""
    answers = []
    for is_write in (False, True):
        try:
            breaker.ask(is_write=is_write)
        except FactsUnavailable:
            answers.append(False)
        else:
            answers.append(True)
    return answers[0], answers[1]


@pytest.mark.parametrize(
    ("calls", "stopped"),
    [
        pytest.param([(0.1, 200)] * 40, "nothing", id="quick"),
        pytest.param([(None, 429)], "writes", id="too-many-requests"),
        pytest.param([(None, 504)], "writes", id="timed-out"),
        pytest.param([(None, 500), (None, 403), (None, 404)] * 20, "nothing", id="other-refusals"),
        pytest.param([(2.1, 200)] * 19, "nothing", id="slow-but-few"),
        pytest.param([(2.1, 200)] * 20, "writes", id="slow"),
        pytest.param([(9.0, 200)] * 9 + [(0.1, 200)] * 11, "nothing", id="fewer-than-half-are-slow"),
        pytest.param([(9.0, 200)] * 11 + [(0.1, 200)] * 9, "writes", id="more-than-half-are-slow"),
        pytest.param([(None, 200)] * 30 + [(2.1, 200)] * 19, "nothing", id="a-watch-has-no-time"),
    ],
)
def test_what_stops_it(breaker: Breaker, calls: list[tuple[float | None, int]], stopped: str) -> None:
    for seconds, status in calls:
        breaker.took(seconds, status)
    assert breaker.stopped == stopped


def test_writes_stop_first_and_reads_next(breaker: Breaker, clock: Clock) -> None:
    breaker.took(None, 429)
    assert allowed(breaker) == (True, False)
    clock.now += 29
    breaker.took(None, 429)
    assert allowed(breaker) == (True, False)
    clock.now += 2
    breaker.took(None, 429)
    assert allowed(breaker) == (False, False)
    clock.now += 299
    assert allowed(breaker) == (False, False)
    clock.now += 1
    assert allowed(breaker) == (True, True)
    assert breaker.stopped == "nothing"


def test_each_stop_is_twice_as_long_up_to_an_hour(breaker: Breaker, clock: Clock) -> None:
    lengths = []
    for _ in range(6):
        breaker.took(None, 429)
        began = clock.now
        while breaker.stopped != "nothing":
            clock.now += 60
        lengths.append((clock.now - began) / 60)
    assert lengths == [5, 10, 20, 40, 60, 60]


def test_after_a_quiet_hour_the_next_stop_is_short_again(breaker: Breaker, clock: Clock) -> None:
    breaker.took(None, 429)
    clock.now += 300
    breaker.took(None, 429)
    clock.now += 600 + 3601
    breaker.took(None, 429)
    clock.now += 301
    assert breaker.stopped == "nothing"


def test_slow_calls_before_a_stop_do_not_count_after_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        breaker.took(3.0)
    clock.now += 301
    breaker.took(3.0)
    assert breaker.stopped == "nothing"


def test_it_says_which_calls_until_when_and_why(breaker: Breaker, clock: Clock) -> None:
    assert breaker.why == ""
    breaker.took(None, 504)
    assert breaker.why.startswith("the auditor writes nothing until ")
    assert breaker.why.endswith(" UTC: the API server answered 504")
    clock.now += 40
    for _ in range(20):
        breaker.took(3.0)
    assert breaker.why.startswith("the auditor makes no calls until ")
    assert breaker.why.endswith(" UTC: half of the last 20 calls took longer than 2 s")


class TestGuardedCluster:
    @pytest.fixture
    def cluster(self, api: FakeApi, tmp_path: Path) -> GuardedCluster:
        api.objects["pods"] = []
        return GuardedCluster.from_kubeconfig(api.kubeconfig(tmp_path))

    def test_an_answer_429_stops_writes_and_not_reads(self, api: FakeApi, cluster: GuardedCluster) -> None:
        api.script("list", "pods", lambda request: request.status(429, "busy"))
        with pytest.raises(ClusterRefused):
            cluster.read("/api/v1/pods", {}, 5)
        with pytest.raises(FactsUnavailable, match="the auditor writes nothing until"):
            cluster.delete("/api/v1/namespaces/shop/pods/one")
        cluster.read("/api/v1/pods", {}, 5)
        assert cluster.breaker.stopped == "writes"

    def test_a_kind_that_was_made_a_moment_ago_is_not_a_busy_server(
        self, api: FakeApi, cluster: GuardedCluster
    ) -> None:
        api.script("list", "pods", lambda request: request.status(429, "storage is (re)initializing"))
        with pytest.raises(ClusterRefused):
            cluster.read("/api/v1/pods", {}, 5)
        assert cluster.breaker.stopped == "nothing"

    def test_a_server_that_is_gone_is_not_busy(self, api: FakeApi, cluster: GuardedCluster) -> None:
        api.script("list", "pods", *[Request.drop] * 30)
        for _ in range(30):
            with pytest.raises(FactsUnavailable):
                cluster.read("/api/v1/pods", {}, 5)
        assert cluster.breaker.stopped == "nothing"
