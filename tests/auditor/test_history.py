"""The history of an audit: what a day's write holds, how it is bounded, and what people read in it."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from tests.auditor.conftest import Logged
from tests.auditor.findings import drop, finding, put
from tests.memory_cluster import MemoryCluster
from webhook.audit.history import (
    MOST_BYTES,
    Day,
    read_history,
    write_history,
)
from webhook.audit.history_text import history_csv, history_lines, since_last_week
from webhook.auditor.history import History
from webhook.auditor.kept import Kept
from webhook.errors import FactsUnavailable
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

OWN = "forestall-system"
PATH = f"/api/v1/namespaces/{OWN}/configmaps/forestall-audit-history"
FIRST = datetime(2026, 11, 1, 12, tzinfo=UTC)
COUNTS = {("memory-limits", "audited"): 3, ("zonal-volumes", "exempted"): 1}


def day(number: int, count: int, namespaces: int = 1) -> Day:
    """A day in November, with so many findings."""
    by_namespace = {(f"ns-{index}", "audited"): count for index in range(namespaces)}
    return Day(date(2026, 11, number), {("memory-limits", "audited"): count}, by_namespace)


def config_map(text: str) -> Object:
    metadata = {"name": "forestall-audit-history", "namespace": OWN}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {"history": text}}


class World:
    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.kept = Kept()
        self.lead()

    def lead(self) -> None:
        self.history = History(cast("Cluster", self.cluster), OWN)

    def take(self, days: float, audited: float | None = None) -> None:
        """Let it take the findings so many days after the first; `audited` is when everything was audited last."""
        self.kept.whole_at = (FIRST + timedelta(days=days if audited is None else audited)).timestamp()
        self.history.take(self.kept, FIRST + timedelta(days=days))

    @property
    def days(self) -> list[Day]:
        return read_history(self.cluster.objects[PATH]).days


@pytest.fixture
def here() -> World:
    return World()


def test_a_day_is_written_once_whoever_leads(here: World) -> None:
    put(here.kept, finding(), finding(outcome="exempted", enforced=None, policy="zonal-volumes"))
    put(here.kept, finding("api"), finding("team-a", namespace=""))
    for hour in range(3):
        here.take(hour / 24)
    here.lead()
    here.take(0.2)
    assert here.cluster.writes == 1
    assert here.days == [
        Day(
            date(2026, 11, 1),
            {("memory-limits", "audited"): 3, ("zonal-volumes", "exempted"): 1},
            {("shop", "audited"): 2, ("shop", "exempted"): 1, ("", "audited"): 1},
        )
    ]


def test_a_day_is_written_once_all_is_audited_on_it(here: World) -> None:
    put(here.kept, finding())
    here.take(1, audited=0.4)
    assert here.cluster.writes == 0
    here.take(1, audited=0.6)
    assert [one.day.day for one in here.days] == [2]


def test_days_follow_each_other_and_hold_changes_alone(here: World) -> None:
    put(here.kept, finding(), finding("api"))
    here.take(0)
    here.take(1)
    drop(here.kept)
    here.take(2)
    drop(here.kept, "api")
    here.take(5)
    assert [(one.day.day, one.to_do) for one in here.days] == [(1, 2), (2, 2), (3, 1), (6, 0)]
    text = here.cluster.objects[PATH]["binaryData"]["history"]
    changes = json.loads(zlib.decompress(base64.b64decode(text)))["days"]
    assert changes[1:] == [
        {"day": "2026-11-02"},
        {"day": "2026-11-03", "policies": {"memory-limits": {"audited": 1}}, "namespaces": {"shop": {"audited": 1}}},
        {"day": "2026-11-06", "policies": {"memory-limits": {"audited": 0}}, "namespaces": {"shop": {"audited": 0}}},
    ]


def test_ninety_days_are_kept() -> None:
    days = [Day(date(2026, 1, 1) + timedelta(days=number), COUNTS, {}) for number in range(100)]
    assert read_history(config_map(write_history(days))).days == days[10:]


def test_two_hundred_namespaces_have_counts_of_their_own(here: World) -> None:
    put(here.kept, *(finding(namespace=f"ns-{index:03}") for index in range(250)))
    put(here.kept, finding("second", namespace="ns-249"))
    here.take(0)
    (one,) = here.days
    assert len(one.namespaces) == 201
    assert one.namespaces["*", "audited"] == 51 - 1
    assert one.namespaces["ns-249", "audited"] == 2
    assert sum(one.namespaces.values()) == one.to_do == 251


def test_where_there_is_no_room_the_oldest_lose_their_namespaces() -> None:
    names = [f"{index:04}-{'x' * 55}" for index in range(200)]
    days = [
        Day(
            date(2026, 1, 1) + timedelta(days=number),
            COUNTS,
            {(f"{number}{name}", "audited"): hash((number, name)) % 10**6 + 1 for name in names},
        )
        for number in range(90)
    ]
    text = write_history(days * 1)
    read = read_history(config_map(text)).days
    assert len(text) <= MOST_BYTES
    assert [one.policies for one in read] == [COUNTS] * 90
    assert read[-1] == days[-1]


def test_the_worst_history_fits() -> None:
    wide = {
        (f"policy-{number:03}", outcome): 10**6 + number for number in range(100) for outcome in ("denied", "failed")
    }
    days = [
        Day(date(2026, 1, 1) + timedelta(days=number), {key: count + number for key, count in wide.items()}, {})
        for number in range(90)
    ]
    text = write_history(days)
    assert len(text) <= MOST_BYTES
    assert read_history(config_map(text)).days == days


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("?", id="no-base64"),
        pytest.param("AAAA", id="not-compressed"),
        pytest.param(base64.b64encode(zlib.compress(b"{")).decode(), id="no-json"),
        pytest.param(base64.b64encode(zlib.compress(b'{"version":2,"days":[]}')).decode(), id="of-another-version"),
        pytest.param(
            base64.b64encode(zlib.compress(b'{"version":1,"days":[],"x":"%s"}' % (b"x" * (1 << 25)))).decode(),
            id="a-bomb",
        ),
    ],
)
def test_a_history_that_cannot_be_read_is_kept_beside_the_new_one(here: World, text: str, logged: Logged) -> None:
    here.cluster.put(config_map(text))
    put(here.kept, finding())
    here.take(0)
    assert logged.count("the history is begun anew") == 1
    assert [one.to_do for one in here.days] == [1]
    assert here.cluster.objects[PATH]["binaryData"]["unreadable"] == text
    here.take(1)
    assert [one.to_do for one in here.days] == [1, 1]


def test_a_day_to_come_does_not_stop_it(here: World) -> None:
    here.cluster.put(config_map(write_history([day(1, 5), day(30, 7)])))
    put(here.kept, finding())
    here.take(1)
    assert [(one.day.day, one.to_do) for one in here.days] == [(1, 5), (2, 1)]


def test_an_api_server_that_does_not_answer_is_asked_again(here: World, logged: Logged) -> None:
    seconds = [0.0]
    here.history = History(cast("Cluster", here.cluster), OWN, lambda: seconds[0])
    here.cluster.trouble = FactsUnavailable("no answer")
    for _ in range(100):
        seconds[0] += 1
        here.take(0)
    assert len(here.cluster.calls) == 2
    assert logged.count("no history") == 1
    here.cluster.trouble = None
    seconds[0] += 60
    here.take(0)
    assert len(here.days) == 1


@pytest.mark.parametrize(
    ("days", "now", "said"),
    [
        pytest.param([], 3, "", id="nothing-known"),
        pytest.param([day(6, 9)], 3, "", id="of-this-week-alone"),
        pytest.param(
            [day(1, 30), day(3, 5), day(8, 1)],
            3,
            "2 findings fewer than on 2026-11-03: 5 then, 3 now (memory-limits -2).",
            id="better",
        ),
        pytest.param(
            [day(3, 1)], 3, "2 findings more than on 2026-11-03: 1 then, 3 now (memory-limits +2).", id="worse"
        ),
        pytest.param([day(3, 3)], 3, "As many findings as on 2026-11-03: 3.", id="the-same"),
    ],
)
def test_better_than_last_week(days: list[Day], now: int, said: str) -> None:
    counts = {("memory-limits", "denied"): now, ("memory-limits", "exempted"): 7}
    assert since_last_week(days, counts, date(2026, 11, 10)) == said


def test_what_people_read() -> None:
    assert list(history_lines([day(1, 30), day(8, 12)])) == [
        "2026-11-01      30 findings  30 audited",
        "2026-11-08      12 findings  12 audited",
        "by namespace on 2026-11-08",
        "  ns-0  12",
        "18 findings fewer than on 2026-11-01: 30 then, 12 now (memory-limits -18).",
    ]
    assert list(history_lines([])) == ["no history yet: the auditor writes it once a day"]


def test_what_spreadsheets_read() -> None:
    rows = "".join(history_csv({"prod": [day(1, 30)], "=1+1": [day(2, 5)]})).splitlines()
    assert rows == [
        "cluster,day,policy,namespace,outcome,findings",
        "prod,2026-11-01,memory-limits,,audited,30",
        "prod,2026-11-01,,ns-0,audited,30",
        "'=1+1,2026-11-02,memory-limits,,audited,5",
        "'=1+1,2026-11-02,,ns-0,audited,5",
    ]
