"""What lives is read page by page; what can't be read costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import container, sized
from tests.fake_api import FakeApi, Request
from tests.observing.living import ago, condition, live, node, pod
from webhook.cluster.client import Cluster
from webhook.objects.facts import decode_fact
from webhook.objects.live import ATTACHMENTS, LIVE_NODES, LIVE_PODS, LivePod
from webhook.observing.read import LiveRead, read_live
from webhook.policy import Object


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


def live_pod(obj: Object) -> LivePod:
    _, record = decode_fact(LIVE_PODS, json.dumps(obj).encode())
    assert isinstance(record, LivePod)
    return record


def test_a_long_script_is_left_out_of_a_shape_and_nothing_else() -> None:
    scripted = container("web", command=["sh", "-c", "x" * 100_000], **sized("1Gi"))
    found = live_pod(pod("web-0", scripted, container("sidecar"), nodeSelector={"disk": "ssd"})).shape
    assert [one.name for one in found.workload.containers] == ["web", "sidecar"]
    assert (found.workload.spec["nodeSelector"], found.limit, found.unlimited) == (
        {"disk": "ssd"},
        1 << 30,
        ("sidecar",),
    )
    assert len(found.body) < 1000


def test_of_a_pod_with_thousands_of_containers_little_is_kept_and_their_limits_are_added() -> None:
    names = [f"c{number}" for number in range(5000)]
    obj = pod("web-0", *(container(name, **sized("1Mi")) for name in names), container("last"))
    obj["spec"]["volumes"] = [{"name": f"v{n}", "persistentVolumeClaim": {"claimName": f"c{n}"}} for n in range(5000)]
    obj["status"] = {"conditions": [condition("PodScheduled", "False", ago(days=1), message="x" * 100_000)]}
    found = live_pod(obj)
    assert [one.name for one in found.shape.workload.containers] == names[:50]
    assert (found.shape.limit, found.shape.unlimited) == (5000 << 20, ("last",))
    assert (len(found.shape.body) < 64 * 1024, len(found.claims)) == (True, 128)
    assert found.trouble.unscheduled is not None
    assert len(found.trouble.unscheduled.message) == 4000


def test_what_alone_is_too_long_for_a_shape_is_left_out() -> None:
    found = live_pod(pod("web-0", container("web", "a" * 100_000), labels={"l": "v"})).shape
    assert (list(found.workload.containers), found.unlimited, len(found.body) < 1000) == ([], ("web",), True)
