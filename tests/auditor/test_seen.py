"""When findings were first seen, and which are news: within a leadership and beyond it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.auditor.conftest import Logged
from tests.auditor.findings import drop, finding, put
from tests.memory_cluster import MemoryCluster
from webhook.auditor.kept import Kept
from webhook.auditor.seen import News, Seen, digest_of
from webhook.errors import FactsUnavailable
from webhook.findings import Finding

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

OWN = "forestall-system"
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
RECORD = f"/api/v1/namespaces/{OWN}/configmaps/forestall-audit-seen"


def seen_of(cluster: MemoryCluster) -> Seen:
    return Seen(cast("Cluster", cluster), OWN)


def summary(news: News) -> tuple[list[str], dict[str, int], int]:
    """The objects with new findings, how many are new, how many mended."""
    taken = news.take()
    return [one.object.name for one in taken.findings], dict(taken.added), taken.mended


NOTHING: tuple[list[str], dict[str, int], int] = ([], {}, 0)


def audited(cluster: MemoryCluster, *found: Finding) -> tuple[Kept, Seen]:
    """An installation that has audited once, with these findings."""
    kept, seen = Kept(), seen_of(cluster)
    put(kept, *found)
    seen.take(kept, NOON)
    kept.clear_changed()
    return kept, seen


def test_a_first_audit_makes_no_news() -> None:
    _, seen = audited(MemoryCluster(), finding())
    assert (summary(seen.since_start), summary(seen.since_record)) == (NOTHING, NOTHING)


def test_what_comes_and_goes_is_told_once() -> None:
    kept, seen = audited(MemoryCluster(), finding())
    put(kept, finding("new"), finding("exempt", outcome="exempted", enforced=None))
    drop(kept)
    seen.take(kept, NOON)
    assert summary(seen.since_start) == (["new"], {"memory-limits": 1}, 1)
    assert summary(seen.since_record) == (["new"], {"memory-limits": 1}, 1)
    seen.take(kept, NOON)
    assert (summary(seen.since_start), summary(seen.since_record)) == (NOTHING, NOTHING)


def test_another_leader_goes_on_from_the_record() -> None:
    cluster = MemoryCluster()
    kept, _ = audited(cluster, finding(), finding("mended"))
    drop(kept, "mended")
    put(kept, finding("new"))
    seen = seen_of(cluster)
    later = NOON + timedelta(hours=1)
    seen.take(kept, later)
    times = {one: seen.since(finding(one), "shop", later) for one in ("web", "new")}
    assert times == {"web": int(NOON.timestamp()), "new": int(later.timestamp())}
    assert summary(seen.since_start) == NOTHING
    assert summary(seen.since_record) == (["new"], {"memory-limits": 1}, 1)


def test_an_audit_without_findings_is_remembered_as_well() -> None:
    cluster = MemoryCluster()
    kept, _ = audited(cluster)
    put(kept, finding())
    seen = seen_of(cluster)
    seen.take(kept, NOON)
    assert summary(seen.since_record) == (["web"], {"memory-limits": 1}, 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"findings": "{"}, id="no-json"),
        pytest.param({"findings": '"?"'}, id="no-base64"),
        pytest.param({"findings": '"AAAA"', "version": "2"}, id="of-another-version"),
    ],
)
def test_a_record_that_cannot_be_read_makes_no_news(data: dict[str, str], logged: Logged) -> None:
    cluster = MemoryCluster()
    metadata = {"name": "forestall-audit-seen", "namespace": OWN}
    cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    _, seen = audited(cluster, finding())
    assert logged.count("when findings were first seen is forgotten") == 1
    assert summary(seen.since_record) == NOTHING
    _, seen = audited(cluster, finding(), finding("new"))
    assert summary(seen.since_record) == (["new"], {"memory-limits": 1}, 0)


def test_a_write_that_fails_is_made_up_for() -> None:
    cluster = MemoryCluster()
    cluster.fail["create", "configmaps"] = [FactsUnavailable("no answer")]
    kept, seen = Kept(), seen_of(cluster)
    put(kept, finding())
    with pytest.raises(FactsUnavailable):
        seen.take(kept, NOON)
    assert RECORD not in cluster.objects
    seen.take(kept, NOON + timedelta(minutes=2))
    assert RECORD in cluster.objects
    assert summary(seen.since_record) == NOTHING


def test_a_record_that_somebody_edits_is_written_anew() -> None:
    cluster = MemoryCluster()
    kept, seen = audited(cluster, finding())
    cluster.put({**cluster.objects[RECORD], "data": {"findings": "{"}})
    put(kept, finding("new"))
    later = NOON + timedelta(minutes=2)
    seen.take(kept, later)
    other = seen_of(cluster)
    other.take(kept, later + timedelta(hours=1))
    assert [other.since(finding(name), "shop", NOON) for name in ("web", "new")] == [
        int(NOON.timestamp()),
        int(later.timestamp()),
    ]


def test_an_unreachable_record_is_waited_for() -> None:
    cluster = MemoryCluster()
    cluster.trouble = FactsUnavailable("no answer")
    kept, seen = Kept(), seen_of(cluster)
    put(kept, finding())
    with pytest.raises(FactsUnavailable):
        seen.take(kept, NOON)
    assert not seen.is_read
    cluster.trouble = None
    seen.take(kept, NOON)
    assert seen.is_read


def in_first_container(**changes: Any) -> Finding:
    return finding(**{"path": "spec.containers[0].memory", **changes})


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        pytest.param(in_first_container(message="other words", value=5), True, id="words-and-value"),
        pytest.param(in_first_container(path="spec.containers[1].memory"), True, id="another-place-in-the-list"),
        pytest.param(in_first_container(outcome="denied"), True, id="another-mode"),
        pytest.param(in_first_container(path="spec.containers[0].cpu"), False, id="another-field"),
        pytest.param(in_first_container(subject="sidecar"), False, id="another-container"),
        pytest.param(in_first_container(name="web-2"), False, id="another-object"),
    ],
)
def test_what_a_finding_is_known_by(other: Finding, is_same: bool) -> None:
    assert (digest_of(in_first_container()) == digest_of(other)) is is_same
