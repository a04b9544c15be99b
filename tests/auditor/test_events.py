"""Events on a cluster in memory: for what is new, once a day, so many a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.auditor.conftest import Logged
from tests.auditor.findings import drop, finding, put
from tests.auditor.world import OWN, World
from webhook.auditor import events
from webhook.auditor.events import Events
from webhook.config import load_config
from webhook.errors import ClusterRefused, FactsUnavailable

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

CONFIG = load_config(b"", "")


class Told(World):
    """A cluster that was audited without a finding, and the Events about what is found then."""

    def make(self, cluster: Cluster) -> Events:
        return Events(cluster, lambda: CONFIG, self.seen.since_start, self.clock)

    def lead(self) -> None:
        super().lead()
        self.take()

    def store(self, *names: str, namespace: str = "shop") -> None:
        for name in names:
            metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
            self.cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata})

    @property
    def notes(self) -> list[str]:
        return [event["note"] for event in self.cluster.events()]


@pytest.fixture
def here() -> Told:
    return Told()


def test_a_new_finding_is_told_on_its_object(here: Told) -> None:
    here.store("web")
    put(here.kept, finding(), finding(subject="sidecar"), finding(policy="zonal-volumes", message="a zone"))
    here.pass_time(1)
    first, second = here.cluster.events("PolicyViolation")
    assert first["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "shop",
        "name": "web",
        "uid": "uid-of-web",
    }
    assert (first["type"], first["action"], first["reportingController"]) == (
        "Warning",
        "Auditing",
        "forestall.dev/auditor",
    )
    assert first["note"] == "memory-limits: no limit (would be denied) [containers app, sidecar]"
    assert second["note"] == "zonal-volumes: a zone (would be denied) [container app]"


def test_an_object_without_a_namespace_is_told_of_in_default(here: Told) -> None:
    here.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "uid": "u"}})
    put(here.kept, finding("team-a", namespace="", policy="namespace-defaults"))
    here.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    here.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN}})
    here.pass_time(1)
    (event,) = here.cluster.events()
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {"apiVersion": "v1", "kind": "Namespace", "name": "team-a", "uid": "u"}


def test_neither_a_first_audit_nor_a_failover_tells_anything() -> None:
    here = Told()
    here.store("web", "new")
    here.cluster.objects = {path: obj for path, obj in here.cluster.objects.items() if "audit-seen" not in path}
    put(here.kept, finding())
    here.lead()
    here.pass_time(5)
    put(here.kept, finding("new"))
    here.lead()
    here.pass_time(5)
    assert here.notes == []


def test_an_object_and_policy_are_told_of_once_a_day(here: Told) -> None:
    here.store("web")
    for _ in range(3):
        put(here.kept, finding())
        here.pass_time(60)
        drop(here.kept)
        here.pass_time(60)
    assert len(here.notes) == 1
    here.seconds += 86400
    put(here.kept, finding())
    here.pass_time(1)
    assert len(here.notes) == 2


def test_thirty_are_written_in_a_minute(here: Told) -> None:
    names = [f"web-{number:02}" for number in range(70)]
    here.store(*names)
    put(here.kept, *map(finding, names))
    here.pass_time(59)
    assert len(here.notes) == 30
    here.pass_time(60)
    assert len(here.notes) == 60
    here.pass_time(60)
    assert len(here.notes) == 70


def test_a_namespace_with_much_that_is_new_crowds_out_no_other(here: Told) -> None:
    names = [f"web-{number:03}" for number in range(400)]
    here.store(*names, namespace="evil")
    here.store("web")
    put(here.kept, finding(message="of shop"), *(finding(name, namespace="evil") for name in names))
    here.pass_time(1)
    assert "memory-limits: of shop" in [note.split(" (")[0] for note in here.notes[:2]]
    assert len(here.notes) == 30
    here.pass_time(60)
    here.store("late")
    put(here.kept, finding("late", message="later"))
    here.pass_time(61)
    assert "memory-limits: later" in [note.split(" (")[0] for note in here.notes]


def test_an_object_to_which_there_is_no_answer_holds_up_no_other(here: Told) -> None:
    here.store("web", "hanging")
    here.cluster.fail["get", "/deployments/hanging"] = [FactsUnavailable("no answer")] * 9
    put(here.kept, finding("hanging"), finding(message="of web"))
    here.pass_time(10)
    assert [note.split(" (")[0] for note in here.notes] == ["memory-limits: of web"]


def test_what_was_told_today_is_bounded(here: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MOST_TOLD", 2)
    here.store("one", "two", "three")
    for _ in range(2):
        for name in ("one", "two", "three"):
            put(here.kept, finding(name, message=name))
            here.pass_time(2)
            drop(here.kept, name)
            here.pass_time(2)
    assert len(here.notes) == 6


@pytest.mark.parametrize("is_mended", [True, False], ids=["mended", "gone"])
def test_what_no_longer_breaks_a_policy_is_not_told(here: Told, is_mended: bool) -> None:
    here.store("web")
    put(here.kept, finding())
    here.cluster.fail["create", "events"] = [FactsUnavailable("no answer")]
    here.pass_time(1)
    if is_mended:
        drop(here.kept)
    else:
        del here.cluster.objects["/apis/apps/v1/namespaces/shop/deployments/web"]
    here.pass_time(10)
    assert here.notes == []


def test_what_the_api_server_did_not_answer_is_told_later(here: Told, logged: Logged) -> None:
    here.store("web", "going")
    put(here.kept, finding("going"), finding())
    here.cluster.fail["create", "events"] = [
        ClusterRefused(403, "Forbidden", "being terminated"),
        FactsUnavailable("x"),
    ]
    here.pass_time(1)
    assert here.notes == []
    here.pass_time(10)
    assert here.notes == ["memory-limits: no limit (would be denied) [container app]"]
    assert logged.count("no event") == 2
