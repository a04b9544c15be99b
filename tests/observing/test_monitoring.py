"""Monitoring software that is down, and gaps of Forestall itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import config, container
from tests.observing.living import NOW, ago, condition, live, owned, pending, pod, scaled, told
from webhook.cluster.gap_record import Gap, GapRecord
from webhook.objects.facts import NO_FACTS
from webhook.objects.live import Live
from webhook.observing.monitoring import LIVES, observe_monitoring
from webhook.observing.run import Observer, observe
from webhook.observing.unchecked import observer_of
from webhook.policy import Object

GRAFANA = container("grafana", "grafana/grafana:12.3.1")
SLOW = GRAFANA | {"startupProbe": {"periodSeconds": 15, "failureThreshold": 60}}
SIGN = "it monitors (image grafana/grafana:12.3.1)"
NONE = f"error StatefulSet shop/grafana: none of 1 pods is ready, and {SIGN}"
LOOP = "container 'grafana' is in CrashLoopBackOff after"
ENDED = "restarts, it ended last at 2026-11-27 11:58:00 UTC (Error)"


def grafana(*containers: Object, ready: int = 0, there: int = 1, desired: int = 1, **fields: Any) -> Object:
    given = containers or (GRAFANA,)
    return scaled("StatefulSet", *given, name="grafana", desired=desired, there=there, ready=ready, **fields)


def of_grafana(status: Object, *containers: Object, metadata: Object | None = None) -> Object:
    owner = owned("StatefulSet", "grafana") if metadata is None else metadata
    return pod("grafana-0", *(containers or (GRAFANA,)), metadata=owner, status=status)


def unready(since: str, **container: Any) -> Object:
    return {
        "phase": "Running",
        "conditions": [condition("Ready", "False", since)],
        "containerStatuses": [{"name": "grafana", "restartCount": 0, **container}],
    }


def looping(restarts: int, since: str = ago(minutes=1)) -> Object:
    last = {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": ago(minutes=2)}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return unready(since, restartCount=restarts, state=waiting, lastState=last)


def observed(alive: Live) -> str:
    asked = Observer("monitoring-down", LIVES, observe_monitoring)
    return told(found.observation for found in observe([asked], alive, NO_FACTS, config()).observed)


OTHER = container("grafana", "example.com/shop:1")


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([grafana(ready=1)], "", id="healthy"),
        pytest.param(
            [grafana(), of_grafana(unready(ago(minutes=6)))],
            f"{NONE}: its readiness probe fails, or its containers are still starting",
            id="not-ready",
        ),
        pytest.param([grafana(), of_grafana(unready(ago(minutes=4)))], "", id="a-rollout"),
        pytest.param([grafana(SLOW), of_grafana(unready(ago(minutes=14)))], "", id="a-slow-start-is-waited-for"),
        pytest.param(
            [grafana(SLOW), of_grafana(unready(ago(minutes=16)))],
            f"{NONE}: its readiness probe fails, or its containers are still starting",
            id="longer-than-a-slow-start",
        ),
        pytest.param([grafana(), of_grafana(looping(7))], f"{NONE}: {LOOP} 7 {ENDED}", id="a-crash-loop"),
        pytest.param([grafana(), of_grafana(looping(2))], "", id="it-crashed-for-the-second-time"),
        pytest.param(
            [grafana(desired=2, there=2, ready=1), of_grafana(looping(7))],
            f"warning StatefulSet shop/grafana: pod grafana-0 doesn't stay up, and {SIGN}: {LOOP} 7 {ENDED}",
            id="another-pod-is-ready",
        ),
        pytest.param(
            [of_grafana(looping(7), metadata=owned("CloneSet", "grafana", "apps.kruise.io/v1alpha1"))],
            f"warning CloneSet shop/grafana: pod grafana-0 doesn't stay up, and {SIGN}: {LOOP} 7 {ENDED}",
            id="of-a-kind-whose-status-isn-t-read",
        ),
        pytest.param(
            [grafana(), of_grafana(pending())],
            "",
            id="only-just-pending",
        ),
        pytest.param(
            [grafana(), of_grafana(pending("0/3 nodes are available.", ago(minutes=9)) | {"phase": "Pending"})],
            f"{NONE}: pod grafana-0 is Pending (the scheduler: '0/3 nodes are available.')",
            id="pending",
        ),
        pytest.param([grafana(there=0)], f"{NONE}: it has no pod", id="no-pod"),
        pytest.param([grafana(there=0, desired=0)], "", id="scaled-to-zero"),
        pytest.param(
            [
                scaled("StatefulSet", OTHER, there=1),
                of_grafana(looping(7), OTHER, metadata=owned("StatefulSet", "web")),
            ],
            "",
            id="no-monitoring",
        ),
        pytest.param(
            [grafana(**owned("Grafana", "main", "example.com/v1")), of_grafana(looping(7))],
            f"error Grafana shop/main: none of 1 pods is ready, and {SIGN}: {LOOP} 7 {ENDED}",
            id="of-an-operator-s-resource",
        ),
    ],
)
def test_monitoring_that_is_down(objects: list[Object], expected: str) -> None:
    assert observed(live(*objects)) == expected


def gap(began: timedelta, ended: timedelta | None = None, **fields: Any) -> Gap:
    given = {"stages": ("validate",), "reason": "no answer", **fields}
    return Gap(began=NOW - began, ended=None if ended is None else NOW - ended, **given)


MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
HOOK = "ValidatingWebhookConfiguration forestall: objects"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            gap(MINUTE),
            f"error {HOOK} are admitted unchecked: the API server's calls of /validate reach no server",
            id="open",
        ),
        pytest.param(gap(MINUTE / 3), "", id="only-just-open"),
        pytest.param(gap(MINUTE, refused=True), "", id="refused-and-not-admitted"),
        pytest.param(
            gap(MINUTE * 9, MINUTE, stages=("mutate", "validate"), reason="hooks off"),
            f"warning {HOOK} were admitted unchecked from 2026-11-27 11:51:00 to 2026-11-27 11:59:00 UTC: the hooks of "
            "/mutate and /validate are off; `forestall doctor` lists them",
            id="closed",
        ),
        pytest.param(gap(DAY * 2, DAY), "", id="closed-the-day-before"),
        pytest.param(
            gap(MINUTE * 9, MINUTE, reason="undecided"),
            f"warning {HOOK} were admitted unchecked from 2026-11-27 11:51:00 to 2026-11-27 11:59:00 UTC: /validate "
            "could not read them; `forestall doctor` lists them",
            id="undecided",
        ),
    ],
)
def test_objects_that_were_admitted_unchecked(found: Gap, expected: str) -> None:
    result = observe([observer_of(GapRecord((found,)))], live(), NO_FACTS, config())
    assert told(found.observation for found in result.observed) == expected
