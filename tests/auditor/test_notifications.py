"""Notifications to a receiver on the loopback interface: what is told and when; nothing is lost or doubled."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.auditor.conftest import Logged
from tests.auditor.findings import drop, finding, put
from tests.auditor.world import NOON, OWN, World
from tests.memory_cluster import MemoryCluster
from tests.receiver import Receiver, receiver
from webhook.auditor.notices import broken_now, summary
from webhook.auditor.notifications import Notifier
from webhook.cli import main
from webhook.config import Config, load_config
from webhook.errors import BadConfig, ClusterRefused, FactsUnavailable
from webhook.observing.run import Observed
from webhook.policy import Observation, Reference

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

DAY = 86400


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def config_of(url: str, rest: str = "when: change", more: str = "") -> Config:
    return load_config(f"notifications: {{{url}, {rest}}}\n{more}".encode(), "")


def broken(name: str = "prometheus", namespace: str = "monitoring") -> Observed:
    reference = Reference("StatefulSet", namespace, name)
    message = "no node has room for its pod"
    return Observed(
        "zonal-volumes", Observation(reference, f"{name}-0", message, run=("kubectl get nodes",), since=NOON)
    )


class Told(World):
    """A cluster that was audited without a finding, and whoever notifies."""

    def __init__(self, receiving: Receiver, config: Config) -> None:
        self.config = config
        self.receiving = receiving
        super().__init__()

    def make(self, cluster: Cluster) -> Notifier:
        return Notifier(cluster, OWN, lambda: self.config, self.seen.since_record, self.clock)

    def lead(self) -> None:
        super().lead()
        self.take()

    def take(self) -> None:
        super().take()
        for thread in threading.enumerate():
            if thread.name == "notification":
                thread.join()

    @property
    def texts(self) -> list[str]:
        return [posted["text"] for posted in self.receiving.posted]


def world(receiving: Receiver, rest: str = "when: change", more: str = "") -> Told:
    return Told(receiving, config_of(f"url: '{receiving.url}'", rest, more))


def test_nobody_is_told_by_default(receiving: Receiver) -> None:
    here = Told(receiving, load_config(b"", ""))
    put(here.kept, finding())
    here.kept.broken = [broken()]
    here.pass_time(1000)
    here.config = config_of(f"url: '{receiving.url}'")
    here.kept.broken = []
    here.pass_time(1000)
    assert receiving.posted == []


def test_changes_are_gathered_and_told_within_minutes(receiving: Receiver) -> None:
    here = world(receiving)
    put(here.kept, finding(), finding("api"))
    here.pass_time(30)
    put(here.kept, finding("late", policy="zonal-volumes", enforced=None))
    here.pass_time(25)
    assert receiving.posted == []
    here.pass_time(10)
    drop(here.kept, "api")
    here.pass_time(500)
    (text,) = here.texts
    assert text == (
        "Forestall: 3 new findings (memory-limits 2, zonal-volumes 1), 0 mended\n"
        "- Deployment shop/web, container app: memory-limits: no limit (would be denied)\n"
        "- Deployment shop/api, container app: memory-limits: no limit (would be denied)\n"
        "- Deployment shop/late, container app: zonal-volumes: no limit"
    )
    here.pass_time(150)
    assert here.texts[1:] == ["Forestall: 0 new findings, 1 mended"]


def test_a_day_is_summed_up_when_it_is_over(receiving: Receiver) -> None:
    here = world(receiving, "when: daily")
    put(here.kept, finding())
    here.pass_time(600)
    here.lead()
    assert receiving.posted == []
    here.seconds += DAY
    here.pass_time(5)
    here.lead()
    here.pass_time(600)
    here.seconds += DAY
    here.pass_time(5)
    assert [(posted["kind"], posted["new"], posted["byPolicy"]) for posted in receiving.posted] == [
        ("summary", 1, {"memory-limits": 1})
    ]


def test_what_is_broken_is_told_at_once_and_once(receiving: Receiver) -> None:
    here = world(receiving, "when: daily")
    here.kept.broken = [broken()]
    here.pass_time(2)
    (text,) = here.texts
    assert text == (
        "Forestall: 1 thing broken now\n- StatefulSet monitoring/prometheus: zonal-volumes since 2026-11-27 12:00:00 "
        "UTC: no node has room for its pod; run kubectl get nodes"
    )
    here.pass_time(120)
    here.lead()
    here.pass_time(120)
    assert len(here.texts) == 1
    here.kept.broken = [broken(), broken("loki")]
    here.pass_time(2)
    assert [one["name"] for one in receiving.posted[1]["broken"]] == ["loki"]


def test_what_flaps_is_not_told_again_and_what_is_over_is_told(receiving: Receiver) -> None:
    here = world(receiving)
    for _ in range(5):
        here.kept.broken = [broken()]
        here.pass_time(60)
        here.kept.broken = []
        here.pass_time(60)
    assert len(here.texts) == 1
    here.pass_time(300)
    assert here.texts[1:] == ["Forestall: 1 no longer broken\n- StatefulSet monitoring/prometheus: zonal-volumes"]


BEGINS = ": it begins with https:// or http://"
NO_ADDRESS = f"is not an address{BEGINS} and holds no spaces"
EXEMPTION = """
exemptions:
  - policy: zonal-volumes
    match: {namespaces: [monitoring]}
    owner: sre
    reason: moving to regional disks
    until: 2026-12-12
"""


def test_the_end_of_an_exemption_is_told_two_weeks_and_a_day_before(receiving: Receiver) -> None:
    here = world(receiving, "when: daily", EXEMPTION)
    for _ in range(17):
        here.seconds += DAY
        here.pass_time(3)
        here.lead()
    text = "Exemption from zonal-volumes ends on 2026-12-12 (owner sre): moving to regional disks"
    assert [posted["text"].splitlines()[1:] for posted in receiving.posted] == [[text], [text]]
    assert [posted["time"][:10] for posted in receiving.posted] == ["2026-11-28", "2026-12-11"]


@pytest.mark.parametrize("status", [500, 404, 302], ids=str)
def test_a_receiver_that_takes_nothing_is_asked_ever_more_rarely(
    receiving: Receiver, status: int, logged: Logged
) -> None:
    here = world(receiving)
    receiving.status = status
    here.kept.broken = [broken()]
    here.pass_time(400)
    assert here.texts == []
    log = str(logged)
    assert logged.count("no notification") == 1
    assert f"127.0.0.1 answered HTTP status {status}" in log
    assert "s3cret" not in log
    receiving.status = 200
    here.pass_time(320)
    assert len(here.texts) == 1


def test_another_leader_sends_what_was_not_taken(receiving: Receiver) -> None:
    here = world(receiving)
    receiving.status = 503
    here.kept.broken = [broken()]
    here.pass_time(5)
    here.lead()
    receiving.status = 200
    here.pass_time(10)
    assert len(here.texts) == 1


def test_a_queue_that_nobody_takes_stays_short(receiving: Receiver, logged: Logged) -> None:
    here = world(receiving)
    receiving.status = 503
    for number in range(25):
        here.kept.broken = [*here.kept.broken, broken(f"db-{number:02}", f"team-{number % 5}")]
        here.pass_time(31)
    receiving.status = 200
    here.pass_time(400)
    assert logged.count("notifications dropped") == 5
    assert [posted["broken"][0]["name"] for posted in receiving.posted] == [
        f"db-{number:02}" for number in range(5, 25)
    ]


def test_what_is_broken_is_told_while_nothing_can_be_written(receiving: Receiver) -> None:
    here = world(receiving)
    here.pass_time(61)
    here.cluster.trouble = FactsUnavailable("the auditor writes nothing")
    here.kept.broken = [broken()]
    here.pass_time(120)
    assert len(here.texts) == 1
    here.cluster.trouble = None
    here.pass_time(10)
    here.lead()
    here.pass_time(100)
    assert len(here.texts) == 1


@pytest.mark.parametrize("text", ["{", '{"waiting": 5}', '{"day": "never"}'])
def test_a_state_that_cannot_be_read_is_begun_anew(receiving: Receiver, text: str, logged: Logged) -> None:
    here = world(receiving)
    metadata = {"name": "forestall-audit-notified", "namespace": OWN}
    here.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"notified": text}})
    here.lead()
    here.kept.broken = [broken()]
    here.pass_time(10)
    assert logged.count("what was notified is forgotten") == 1
    assert len(here.texts) == 1


def secret(cluster: MemoryCluster, data: dict[str, str], name: str = "hook") -> None:
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": OWN}, "data": data})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_url_of_a_secret_is_read_anew_and_kept(receiving: Receiver) -> None:
    here = Told(receiving, config_of("secret: {name: hook}"))
    here.kept.broken = [broken()]
    here.pass_time(20)
    assert here.texts == []
    secret(here.cluster, {"url": encoded(f"{receiving.url}\n")})
    here.pass_time(60)
    assert len(here.texts) == 1
    here.cluster.trouble = FactsUnavailable("no answer")
    here.kept.broken = [broken("loki")]
    here.pass_time(60)
    assert len(here.texts) == 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(None, "there is no Secret forestall-system/hook, which notifications.secret names", id="none"),
        pytest.param(
            {"other": "eA=="},
            "Secret forestall-system/hook has no key url, which notifications.secret names",
            id="no-key",
        ),
        pytest.param(
            {"url": "?"}, f"Secret forestall-system/hook holds no URL under the key url{BEGINS}", id="no-base64"
        ),
        pytest.param(
            {"url": encoded("s3cret")},
            f"Secret forestall-system/hook holds no URL under the key url{BEGINS}",
            id="no-url",
        ),
    ],
)
def test_a_secret_without_a_url_is_said(
    receiving: Receiver, data: dict[str, str] | None, why: str, logged: Logged
) -> None:
    here = Told(receiving, config_of("secret: {name: hook}"))
    if data is not None:
        secret(here.cluster, data)
    here.kept.broken = [broken()]
    here.pass_time(3)
    assert [(line["event"], line["about"], line["error"]) for line in logged.lines] == [
        ("no notification", "receiver", why)
    ]


def test_a_right_that_is_missing_is_said_once(receiving: Receiver, logged: Logged) -> None:
    here = Told(receiving, config_of("secret: {name: hook}"))
    here.cluster.fail["get", "hook"] = [ClusterRefused(403, "Forbidden", "may not get it")] * 9
    here.kept.broken = [broken()]
    here.pass_time(100)
    assert str(logged).count("may not get it") == 1


def test_slack_is_sent_text_that_calls_nobody(receiving: Receiver) -> None:
    here = world(receiving, "when: change, form: slack")
    put(here.kept, finding(message="image <!here> @channel & co"))
    here.pass_time(70)
    assert [list(posted) for posted in receiving.posted] == [["text"]]
    assert "image &lt;!here&gt; @\u200bchannel &amp; co" in here.texts[0]


def test_slack_is_sent_text_that_leads_nowhere(receiving: Receiver) -> None:
    here = world(receiving, "when: change, form: slack")
    put(here.kept, finding(message="port [80](https://evil.example) ![](http://evil.example)"))
    here.pass_time(70)
    assert "port [80]\u200b(https:\u200b//evil.example) ![]\u200b(http:\u200b//evil.example)" in here.texts[0]


def test_a_namespace_with_much_that_is_new_crowds_out_no_other(receiving: Receiver) -> None:
    here = world(receiving)
    put(here.kept, *(finding(f"web-{number:04}", namespace="evil") for number in range(1000)))
    here.pass_time(1)
    put(here.kept, finding("late"), finding("later"))
    here.pass_time(70)
    (posted,) = receiving.posted
    assert (posted["new"], len(posted["findings"])) == (1002, 20)
    named = [line.partition(",")[0] for line in posted["findings"] if "shop" in line]
    assert named == ["Deployment shop/late", "Deployment shop/later"]


def test_a_namespace_with_much_that_is_broken_crowds_out_no_other(receiving: Receiver) -> None:
    here = world(receiving)
    here.kept.broken = [*(broken(f"db-{number:04}", "evil") for number in range(1000)), broken()]
    here.pass_time(2)
    (posted,) = receiving.posted
    assert (len(posted["broken"]), posted["broken"][1]["name"]) == (20, "prometheus")
    assert posted["text"].splitlines()[0] == "Forestall: 101 things broken now"


def test_a_namespace_in_which_all_is_new_all_the_time_has_twelve_notifications_an_hour(receiving: Receiver) -> None:
    here = world(receiving)
    for number in range(180):
        here.kept.broken = [broken(f"db-{number}", "evil"), *([broken()] if number > 100 else [])]
        here.pass_time(20)
    told = [[one["namespace"] for one in posted["broken"]] for posted in receiving.posted]
    assert [namespaces for namespaces in told if "evil" not in namespaces] == [["monitoring"]]
    assert len([namespaces for namespaces in told if "evil" in namespaces]) == 12


def test_long_lists_are_counted() -> None:
    told = broken_now(NOON, [broken(f"db-{number}") for number in range(30)], [])
    assert (len(told.broken), told.text.splitlines()[0]) == (20, "Forestall: 30 things broken now")
    assert told.text.splitlines()[-1] == "- and 10 more"
    assert summary(NOON, {"memory-limits": 9}, ["a", "b"], 0, []).text.splitlines()[-1] == "- and 7 more"


class TestCommand:
    def run(self, tmp_path: Path, config: str, *arguments: str) -> int:
        file = tmp_path / "config.yaml"
        file.write_text(config)
        return main(["notify", f"--config={file}", *arguments])

    def test_it_sends_one_and_says_how_long_it_took(
        self, tmp_path: Path, receiving: Receiver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, f"notifications: {{url: '{receiving.url}'}}", "--test") == 0
        out = capsys.readouterr().out
        assert out.startswith("sent: HTTP status 200 after 0.")
        assert out.endswith(" s\n")
        (posted,) = receiving.posted
        assert (posted["schema"], posted["kind"]) == ("forestall.dev/notification/v1", "test")

    @pytest.mark.parametrize(
        ("config", "arguments", "said"),
        [
            pytest.param(
                "mode: audit",
                ["--test"],
                "forestall: the configuration names no receiver: give it notifications.url or notifications.secret\n",
                id="no-receiver",
            ),
            pytest.param(
                "notifications: {url: 'http://127.0.0.1:1/s3cret'}",
                ["--test"],
                "forestall: no answer from 127.0.0.1: it can't be connected to\n",
                id="nobody-there",
            ),
        ],
    )
    def test_what_is_wrong(
        self, tmp_path: Path, config: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, config, *arguments) == 2
        assert capsys.readouterr().err == said

    def test_it_sends_nothing_without_being_asked_for_a_test(
        self, tmp_path: Path, receiving: Receiver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, f"notifications: {{url: '{receiving.url}'}}") == 2
        assert "give --test" in capsys.readouterr().err
        assert receiving.posted == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{}", ": name either a url or a secret that holds it", id="neither"),
        pytest.param(
            "{url: 'http://x', secret: {name: y}}", ": name either a url or a secret that holds it", id="both"
        ),
        pytest.param("{url: hooks}", f".url: 'hooks' {NO_ADDRESS}", id="no-url"),
        pytest.param("{url: 'https://'}", f".url: 'https://' {NO_ADDRESS}", id="no-host"),
        pytest.param("{url: 'http://x', when: hourly}", ".when: 'hourly' is not one of daily, change", id="when"),
    ],
)
def test_configurations_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(BadConfig) as refused:
        load_config(f"notifications: {text}".encode(), "config.yaml")
    assert str(refused.value) == f"config.yaml:1: notifications{why}"
