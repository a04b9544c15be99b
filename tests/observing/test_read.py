"""What lives is read page by page; what can't be read costs itself alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_api import FakeApi, Request
from tests.observing.living import live, node, pod
from webhook.cluster.client import Cluster
from webhook.objects.live import ATTACHMENTS, LIVE_NODES, LIVE_PODS
from webhook.observing.read import LiveRead, read_live


@pytest.fixture
def api() -> Iterator[FakeApi]:
    api = FakeApi()
    api.objects["pods"] = [pod(f"web-5d9c-{number:04}") for number in range(1200)]
    api.objects["nodes"] = [node("a"), node("b")]
    yield api
    api.close()


def read(api: FakeApi, folder: Path) -> LiveRead:
    cluster = Cluster.from_kubeconfig(api.kubeconfig(folder))
    return read_live(cluster, [LIVE_PODS, LIVE_NODES, ATTACHMENTS])


def test_pages(api: FakeApi, tmp_path: Path) -> None:
    found = read(api, tmp_path)
    assert (len(found.live.of(LIVE_PODS)), len(found.live.of(LIVE_NODES))) == (1200, 2)
    assert (api.count("list", "pods"), found.unseen.resources, found.unseen.objects) == (3, {}, [])
    assert found.live.read_at.keys() == {LIVE_PODS, LIVE_NODES}
    assert found.live.now >= max(found.live.read_at.values())


def test_a_kind_that_the_cluster_does_not_have_is_not_seen(api: FakeApi, tmp_path: Path) -> None:
    found = read(api, tmp_path)
    assert (found.live.sees(ATTACHMENTS), found.unseen.resources) == (False, {})


def test_a_list_that_ends_in_the_middle_counts_as_not_seen(api: FakeApi, tmp_path: Path) -> None:
    api.script("list", "pods", Request.behave, lambda request: request.status(403, "pods is forbidden"))
    found = read(api, tmp_path)
    assert (found.live.sees(LIVE_PODS), found.live.sees(LIVE_NODES)) == (False, True)
    assert (found.unseen.resources, found.unseen.forbidden) == ({"pods": "pods is forbidden (403)"}, {"pods": {""}})


def test_an_object_that_cannot_be_read_is_named(api: FakeApi, tmp_path: Path) -> None:
    api.objects["nodes"][0]["status"]["capacity"] = {"memory": "much"}
    found = read(api, tmp_path)
    assert list(found.live.of(LIVE_NODES)) == ["b"]
    assert [str(odd).partition(": status.capacity.memory")[0] for odd in found.unseen.objects] == [
        "Node a can't be read"
    ]


def test_siblings_share_what_they_have_in_common() -> None:
    one, other = live(pod("web-5d9c-x1"), pod("web-5d9c-x2")).of(LIVE_PODS).values()
    assert one.shape is other.shape
    assert (one.is_healthy, one.owner.kind, one.owner.name) == (True, "Deployment", "web")
