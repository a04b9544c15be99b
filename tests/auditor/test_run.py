"""What the leading auditor hands on, shows and says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from tests.auditor.findings import finding
from tests.auditor.test_kept import WEB
from tests.auditor.watched_cluster import WatchedCluster
from tests.builders import config, every_policy, workload
from tests.loopback import eventually
from webhook.auditor import metrics, run
from webhook.auditor.breaker import Breaker
from webhook.auditor.broken import Broken
from webhook.auditor.kept import Counted, Kept
from webhook.auditor.run import Leader
from webhook.auditor.status import ANNOTATION, Status, read_status
from webhook.config import Config
from webhook.errors import FactsUnavailable
from webhook.objects.facts import ClusterFacts
from webhook.observing.run import Observed
from webhook.policy import Object

TEXT = every_policy(memory_limits="mode: deny")
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Cluster(WatchedCluster):
    breaker = Breaker()


class Taken:
    """Takes the findings, or fails as told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.changed: list[set[str]] = []

    def take(self, kept: Kept, now: datetime) -> None:
        assert now.tzinfo == UTC
        self.changed.append(set(kept.changed))
        if self.error:
            raise self.error


class Leading:
    """A leader, whose parts are run at the test's pace."""

    def __init__(self, **takers: Taken) -> None:
        self.cluster = Cluster()
        for namespace in ("shop", "other"):
            self.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.cluster.put(workload())
        self.leader = Leader(self.cluster, "forestall-system")
        self.parts = self.leader.begin(takers)
        self.config = config(TEXT)

    def round(self, config: Config | None = None) -> None:
        for part in self.parts:
            part.run(config or self.config, lambda: 1e9)
            part.due_at = 0.0

    def whole(self) -> None:
        eventually(lambda: self.round() or self.leader.kept.whole_at, "nothing was audited", 10)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_taker_gets_what_changed_since_it_last_took_it_without_an_error() -> None:
    good, bad = Taken(), Taken()
    running = Leading(good=good, bad=bad)
    try:
        bad.error = KeyError("a bug")
        running.whole()
        assert (good.changed, bad.changed) == ([{"shop"}], [{"shop"}])
        running.cluster.put({**workload(), "metadata": {"name": "web", "namespace": "other"}})
        eventually(lambda: running.round() or {"other"} in good.changed, "the change isn't handed on", 5)
        assert bad.changed[-1] == {"shop", "other"}
        bad.error = None
        running.round()
        running.round()
        assert bad.changed[-2:] == [{"shop", "other"}, set()]
    finally:
        running.leader.end()


def test_while_calls_are_stopped_nobody_is_blamed_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Taken()
    running = Leading(taken=taken)
    try:
        running.whole()
        monkeypatch.setattr(running.cluster, "breaker", Breaker())
        running.cluster.breaker.took(None, 429)
        taken.error = FactsUnavailable(running.cluster.breaker.why)
        running.cluster.put({**workload(), "metadata": {"name": "web", "namespace": "other"}})
        eventually(lambda: running.round() or {"other"} in taken.changed, "the change isn't handed on", 5)
        assert [part.failures for part in running.parts] == [0] * len(running.parts)
        taken.error = None
        running.round()
        running.round()
        assert taken.changed[-2:] == [{"other"}, set()]
        monkeypatch.setattr(Breaker, "stopped", "everything")
        running.cluster.calls.clear()
        running.parts[1].run(running.config, lambda: 1e9)
        assert running.cluster.calls == []
    finally:
        running.leader.end()


def test_nothing_is_handed_on_before_everything_was_audited() -> None:
    taken = Taken()
    running = Leading(taken=taken)
    try:
        running.parts[2].run(running.config, lambda: 1e9)
        assert taken.changed == []
    finally:
        running.leader.end()


def test_a_new_configuration_is_judged_by_and_the_findings_stay_meanwhile() -> None:
    running = Leading()
    try:
        running.whole()
        first = running.leader.kept.whole_at
        new = config(every_policy(memory_limits="mode: audit"))
        running.round(new)
        assert running.leader.kept.counts.total() == 1
        eventually(lambda: running.round(new) or running.leader.kept.whole_at > first, "it isn't followed", 10)
        assert [counted.outcome for counted in running.leader.kept.counts] == ["audited"]
    finally:
        running.leader.end()


def test_findings_of_what_is_judged_no_more_are_forgotten() -> None:
    running = Leading()
    running.config = config(every_policy(memory_limits="mode: deny", namespace_defaults="mode: audit"))
    try:
        running.whole()
        assert set(running.leader.kept.by_namespace) == {"", "shop"}
        first = running.leader.kept.whole_at
        running.config = config(TEXT)
        eventually(lambda: running.round() or running.leader.kept.whole_at > first, "it isn't followed", 10)
        assert set(running.leader.kept.by_namespace) == {"shop"}
    finally:
        running.leader.end()


def test_what_is_broken_is_told_while_everything_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    other, notifications = Taken(), Taken()
    running = Leading(other=other, notifications=notifications)
    looks: list[int] = []
    look = Broken.look

    def counted(self: Broken, facts: ClusterFacts) -> Sequence[Observed]:
        looks.append(1)
        return look(self, facts)

    monkeypatch.setattr(Broken, "look", counted)
    try:
        running.whole()
        eventually(lambda: running.round() or looks, "nothing is looked at", 10)
        looks.clear()
        before = len(other.changed), len(notifications.changed)
        monkeypatch.setattr(running.leader._auditor, "_began_at", -1e9)
        running.cluster.put({**workload(), "metadata": {"name": "web", "namespace": "other"}})
        running.parts[0].run(running.config, lambda: 1e9)
        assert (len(looks), len(other.changed) - before[0], len(notifications.changed) - before[1]) == (1, 0, 1)
        running.parts[2].run(running.config, lambda: 1e9)
        assert "other" in other.changed[-1]
    finally:
        running.leader.end()


def test_after_a_long_look_the_audit_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LONG_LOOK", 0.0)
    monkeypatch.setattr(run, "_LOOK_PAUSE", 1e9)
    looks: list[int] = []
    monkeypatch.setattr(Broken, "look", lambda *_: looks.append(1) or [])
    running = Leading()
    try:
        running.whole()
        eventually(lambda: running.round() or looks, "nothing is looked at", 10)
        running.round()
        assert len(looks) == 1
    finally:
        running.leader.end()


def test_who_leads_no_more_watches_nothing() -> None:
    running = Leading()
    running.whole()
    assert any(watch.is_open for watch in running.cluster.watches)
    running.leader.end()
    eventually(lambda: not any(watch.is_open for watch in running.cluster.watches), "it watches on", 5)


def test_metrics_and_lease_tell_of_the_audit_while_it_leads() -> None:
    running = Leading()
    labels = {"policy": "memory-limits", "enforcement": "deny", "namespace": "shop", "team": "namespace shop"}
    running.whole()
    running.round()
    assert value("forestall_audit_findings", **labels) == 1
    assert (value("forestall_audit_objects"), value("forestall_audit_unreadable_objects")) == (1, 0)
    status = read_status({"metadata": {"annotations": running.leader.annotations()}})
    assert status is not None
    assert (status.objects, status.findings, status.whole_at > 0, status.stopped) == (1, 1, True, "")
    running.leader.end()
    assert value("forestall_audit_findings", **labels) is None
    assert value("forestall_audit_last_whole_timestamp_seconds") == 0
    assert read_status({"metadata": {"annotations": running.leader.annotations()}}) == Status()


@pytest.mark.parametrize(
    ("annotations", "status"),
    [
        pytest.param(None, None, id="none"),
        pytest.param({}, None, id="another-s"),
        pytest.param({ANNOTATION: "{"}, None, id="cut-off"),
        pytest.param({ANNOTATION: '{"wholeAt": "yesterday"}'}, None, id="edited"),
        pytest.param({ANNOTATION: '{"wholeAt":5,"further":1}'}, Status(whole_at=5), id="a-newer-version-s"),
    ],
)
def test_what_the_lease_says(annotations: Object | None, status: Status | None) -> None:
    assert read_status({"metadata": {"annotations": annotations}}) == status


def test_beyond_two_hundred_pairs_the_rest_are_together() -> None:
    kept = Kept()
    for number in range(metrics.OWN_SERIES + 50):
        namespace = f"n{number:03}"
        findings = [finding()] * (3 if number == 249 else 1)
        kept.put(WEB._replace(namespace=namespace), "apps", "red", findings)
    found = metrics.bounded(kept)
    assert len(found) == metrics.OWN_SERIES + 1
    assert found["memory-limits", "deny", "others", "others"] == 50
    assert found["memory-limits", "deny", "n249", "red"] == 3
    assert sum(found.values()) == kept.counts.total()
    assert Counted("memory-limits", "audited", "deny", "n000", "red") in kept.counts


def test_a_namespace_with_thousands_of_teams_crowds_out_no_other() -> None:
    kept = Kept()
    for number in range(1000):
        kept.put(WEB._replace(namespace="evil", name=f"w{number}"), "apps", f"team-{number}", [finding()] * 3)
    for number in range(50):
        kept.put(WEB._replace(namespace=f"n{number}"), "apps", "red", [finding()])
    found = metrics.bounded(kept)
    assert len(found) == metrics.OWN_SERIES + 1
    assert {namespace for _, _, namespace, team in found if team == "red"} == {f"n{number}" for number in range(50)}
