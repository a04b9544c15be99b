"""What the auditor sees broken, from watches of what lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.auditor.conftest import Logged
from tests.auditor.watched_cluster import WatchedCluster
from tests.builders import config, container
from tests.loopback import eventually
from tests.observing.living import NOW, ago, condition, owned, pod, scaled
from webhook.auditor.broken import Broken
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.objects.live import Live
from webhook.objects.live.workloads import LIVE_STATEFUL_SETS
from webhook.observing.run import Observer
from webhook.policy import Object, Observation

GRAFANA = container("grafana", "grafana/grafana:12.3.1")


def grafana(ready: int) -> list[Object]:
    status = {"phase": "Running", "conditions": [condition("Ready", "True" if ready else "False", ago(minutes=9))]}
    return [
        {"apiVersion": "apps/v1"} | scaled("StatefulSet", GRAFANA, name="grafana", desired=1, there=1, ready=ready),
        {"apiVersion": "v1"} | pod("grafana-0", GRAFANA, metadata=owned("StatefulSet", "grafana"), status=status),
    ]


@pytest.fixture
def cluster() -> WatchedCluster:
    cluster = WatchedCluster(*grafana(ready=0), groups={"apps": "v1", "batch": "v1", "storage.k8s.io": "v1"})
    cluster.clock = NOW
    return cluster


@pytest.fixture
def broken(cluster: WatchedCluster) -> Iterator[Broken]:
    broken = Broken(cluster, config(), "forestall-system")
    eventually(lambda: broken.is_listed, "what lives isn't listed", 10)
    yield broken
    broken.stop()


def seen(broken: Broken) -> list[str]:
    return [f"{found.observer} {found.observation.reference.name}" for found in broken.look(NO_FACTS)]


def test_what_is_broken_is_seen_and_what_is_mended_forgotten(cluster: WatchedCluster, broken: Broken) -> None:
    assert seen(broken) == ["monitoring-down grafana"]
    for obj in grafana(ready=1):
        cluster.put(obj)
    eventually(lambda: seen(broken) == [], "it stays", 5)


def test_while_something_that_lives_is_not_seen_the_last_look_stands(cluster: WatchedCluster, broken: Broken) -> None:
    assert seen(broken) == ["monitoring-down grafana"]
    cluster.fail["watch", "/pods"] = [ClusterRefused(500, "InternalError", "no")] * 99
    for watch in list(cluster.watches):
        if watch.path.endswith("/pods"):
            watch.close()
            watch.shutdown()
    eventually(lambda: len(cluster.fail["watch", "/pods"]) < 98, "it isn't watched again", 5)
    cluster.put({"apiVersion": "apps/v1"} | scaled("StatefulSet", GRAFANA, name="new", desired=1, there=1, ready=0))
    eventually(lambda: ("shop", "new") in broken._watch.facts.of(LIVE_STATEFUL_SETS), "the new one isn't heard of", 5)
    assert seen(broken) == ["monitoring-down grafana"]
    cluster.fail.clear()
    eventually(lambda: seen(broken) == ["monitoring-down grafana", "monitoring-down new"], "it isn't seen again", 15)


def test_gaps_are_told(cluster: WatchedCluster, broken: Broken) -> None:
    gap = '{"gaps":[{"stages":["validate"],"began":"2026-11-27T11:50:00Z","reason":"no answer"}]}'
    metadata = {"name": "forestall-state", "namespace": "forestall-system"}
    cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"gaps": gap}})
    assert seen(broken) == ["admitted-unchecked forestall", "monitoring-down grafana"]
    cluster.fail["get", "/forestall-state"] = [ClusterRefused(500, "InternalError", "no")]
    assert seen(broken) == ["admitted-unchecked forestall", "monitoring-down grafana"]
    assert cluster.fail["get", "/forestall-state"] == []


def test_an_observer_s_bug_is_logged_once_and_quotes_no_object(broken: Broken, logged: Logged) -> None:
    def bug(_live: Live, _facts: ClusterFacts) -> Iterator[Observation]:
        raise ValueError("s3cret" * 1000)

    broken._observers.append(Observer("mine", (), bug))
    assert seen(broken) == seen(broken) == ["monitoring-down grafana"]
    (line,) = (line for line in logged.lines if line["event"] == "observer failed")
    assert line["observer"] == "mine"
    assert line["exception"].splitlines()[-1] == f"ValueError: {'s3cret' * 1000}"[:500]


def test_without_the_cluster_s_time_nothing_is_told(
    cluster: WatchedCluster, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FactsUnavailable("no answer")

    monkeypatch.setattr(cluster, "now", fail)
    with pytest.raises(FactsUnavailable):
        seen(broken)
