"""Facts of a cluster, read once and kept current: over a loopback API server, and on a real control plane."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from policies.scrape_endpoints.monitors import SERVICE_MONITORS
from tests.builders import KINDS
from tests.cluster.test_client import claim, node, refuse
from tests.cluster.test_stored import DEEP, RAW_BYTE, with_fields
from tests.cluster_fixture import ControlPlane, control_plane
from tests.fake_api import FakeApi, Object, Request
from tests.loopback import eventually
from webhook.cluster import facts as under_test
from webhook.cluster import watch_stream
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch, list_facts
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.facts import CLAIMS, LIMIT_RANGES, NAMESPACES, NODES
from webhook.objects.sizes import unread_ranges
from webhook.policy import FactKind, FactReference

EVERY_KIND = frozenset(kind for kind in KINDS if kind.is_served)


def in_list(body: bytes) -> bytes:
    return b'{"metadata":{"resourceVersion":"100"},"items":[%s]}' % body


def event(body: bytes) -> bytes:
    return b'{"type":"MODIFIED","object":%s}\n' % body


@contextmanager
def watching(cluster: Cluster, *kinds: FactKind[Any, Any]) -> Iterator[Watch]:
    watch = Watch(cluster, kinds)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def has_listed(watch: Watch, *kinds: FactKind[Any, Any]) -> bool:
    return watch.listed >= {kind.full_resource for kind in kinds}


class TestListFacts:
    def test_pages_until_there_are_no_more(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node(f"node-{index}") for index in range(1001)]
        facts = list_facts(cluster, EVERY_KIND).facts
        assert (len(facts.of(NODES)), facts.known) == (1001, EVERY_KIND)
        assert [query.get("continue") for _, plural, query, _ in api.requests if plural == "nodes"] == [
            None,
            "500",
            "1000",
        ]

    def test_an_expired_page_token_starts_again_without_pages(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node(f"node-{index}") for index in range(501)]
        api.script("list", "nodes", Request.behave, refuse(410, "The provided continue parameter is too old"))
        assert len(list_facts(cluster, [NODES]).facts.of(NODES)) == 501
        assert api.requests[-1][2] == {"limit": "0"}

    def test_a_custom_kind_that_is_not_served_has_no_objects(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("list", "servicemonitors", refuse(404, "the server could not find the requested resource"))
        read = list_facts(cluster, [NODES, SERVICE_MONITORS])
        assert (read.facts.known, read.unseen.resources) == ({NODES, SERVICE_MONITORS}, {})
        assert dict(read.facts.of(SERVICE_MONITORS)) == {}

    @pytest.mark.parametrize("code", [403, 404])
    def test_a_refused_kind_is_not_known(self, api: FakeApi, cluster: Cluster, code: int) -> None:
        api.script("list", "nodes", refuse(code, "nodes is\nforbidden"))
        read = list_facts(cluster, EVERY_KIND)
        assert read.facts.known == EVERY_KIND - {NODES}
        assert read.unseen.resources == {"nodes": f"nodes is forbidden ({code})"}

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            pytest.param(
                refuse(401, "Unauthorized"), "{url} does not list nodes: Unauthorized (401)", id="unknown-to-it"
            ),
            pytest.param(
                Request.drop,
                "GET /api/v1/nodes: no answer from {url}: Remote end closed connection without response",
                id="dropped",
            ),
            pytest.param(
                lambda request: request.send(200, "proxy's login page"),
                "GET /api/v1/nodes: no list: Expected `object`, got `str`",
                id="no-list",
            ),
        ],
    )
    def test_a_failure_is_one_line(
        self, api: FakeApi, cluster: Cluster, answer: Callable[[Request], None], message: str
    ) -> None:
        api.script("list", "nodes", answer)
        with pytest.raises(FactsUnavailable) as raised:
            list_facts(cluster, EVERY_KIND)
        assert str(raised.value) == message.format(url=api.url)

    def test_nobody_there(self, api: FakeApi, cluster: Cluster) -> None:
        api.close()
        with pytest.raises(FactsUnavailable, match=r"^GET .*/limitranges: no answer from http://127.0.0.1:.*refused$"):
            list_facts(cluster, [LIMIT_RANGES, NODES])

    def test_an_odd_object_is_passed_over(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [{"metadata": {"name": "odd", "labels": []}}, node("good")]
        assert list(list_facts(cluster, [NODES]).facts.of(NODES)) == ["good"]


class TestWatch:
    def test_takes_in_what_changes(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node("a"), node("b")]
        with watching(cluster, NODES) as watch:
            eventually(lambda: has_listed(watch, NODES))
            before = watch.facts
            api.send(
                "nodes", ("ADDED", node("c", 101)), ("MODIFIED", node("a", 102, x="y")), ("DELETED", node("b", 103))
            )
            eventually(lambda: set(watch.facts.of(NODES)) == {"a", "c"})
            assert watch.facts.of(NODES)["a"].labels == {"x": "y"}
            assert set(before.of(NODES)) == {"a", "b"}, "a value that was handed out changed"

    def test_a_custom_kind_is_followed_once_it_is_served(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "backoff", lambda _failures, _longest: 0.01)
        api.script("list", "servicemonitors", *[refuse(404, "no such resource")] * 20)
        with watching(cluster, NODES, SERVICE_MONITORS) as watch:
            eventually(lambda: has_listed(watch, NODES, SERVICE_MONITORS))
            assert (watch.unread, SERVICE_MONITORS in watch.facts.known) == ({}, True)
            api.objects["servicemonitors"] = [{"metadata": {"name": "web", "namespace": "shop"}}]
            eventually(lambda: list(watch.facts.of(SERVICE_MONITORS)) == [("shop", "web")])

    def test_only_wanted_kinds_are_read(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, NODES, LIMIT_RANGES) as watch:
            eventually(lambda: has_listed(watch, NODES, LIMIT_RANGES))
            assert watch.facts.known == {NODES, LIMIT_RANGES}
            assert {plural for _, plural, _, _ in api.requests} == {"nodes", "limitranges"}

    def test_an_event_in_pieces(self, api: FakeApi, cluster: Cluster) -> None:
        line = json.dumps({"type": "ADDED", "object": node("ä", 101)}, ensure_ascii=False).encode() + b"\n"
        with watching(cluster, NODES) as watch:
            api.send_bytes("nodes", *(line[index : index + 1] for index in range(len(line))))
            eventually(lambda: "ä" in watch.facts.of(NODES))

    def test_a_bookmark_moves_the_version_and_the_date(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, NODES) as watch:
            eventually(lambda: has_listed(watch, NODES))
            listed_at = watch.facts.read_at
            api.send("nodes", ("BOOKMARK", {"metadata": {"resourceVersion": "500"}}))
            eventually(lambda: watch.facts.read_at != listed_at)
            api.hang_up("nodes")
            eventually(lambda: api.count("watch", "nodes") == 2)
        assert api.requests[-1][2]["resourceVersion"] == "500"
        assert api.requests[-1][2]["allowWatchBookmarks"] == "true"

    def test_a_dropped_connection_goes_on_where_it_was(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, NODES) as watch:
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.of(NODES))
            api.hang_up("nodes")
            eventually(lambda: api.count("watch", "nodes") == 2)
            eventually(lambda: not watch.unread)  # the new connection is enough, without any event
            api.send("nodes", ("ADDED", node("b", 102)))
            eventually(lambda: set(watch.facts.of(NODES)) == {"a", "b"})
        assert [query["resourceVersion"] for verb, _, query, _ in api.requests if verb == "watch"] == ["100", "101"]
        assert api.count("list", "nodes") == 1

    @pytest.mark.parametrize("as_event", [True, False], ids=["as-event", "as-status"])
    def test_410_gone_lists_again(self, api: FakeApi, cluster: Cluster, as_event: bool) -> None:
        api.objects["nodes"] = [node("a"), node("gone")]
        if not as_event:
            api.script("watch", "nodes", Request.behave, refuse(410, "too old resource version"))
        with watching(cluster, NODES) as watch:
            eventually(lambda: "gone" in watch.facts.of(NODES))
            api.objects["nodes"] = [node("a"), node("b")]
            if as_event:
                api.send("nodes", ("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))
            else:
                api.hang_up("nodes")
            eventually(lambda: set(watch.facts.of(NODES)) == {"a", "b"})
            eventually(lambda: not watch.unread)
        assert api.count("list", "nodes") == 2

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(refuse(429, "too many requests", Retry_After="1"), id="429"),
            pytest.param(refuse(500, "etcdserver: leader changed"), id="500"),
            pytest.param(refuse(503), id="503"),
            pytest.param(Request.drop, id="dropped"),
            pytest.param(lambda request: request.send(200, "no list"), id="nonsense"),
        ],
    )
    def test_a_failing_list_is_tried_again(
        self, api: FakeApi, cluster: Cluster, answer: Callable[[Request], None]
    ) -> None:
        api.objects["nodes"] = [node("a")]
        api.script("list", "nodes", *[answer] * 1000)
        with watching(cluster, NODES) as watch:
            eventually(lambda: watch.unread)
            assert not has_listed(watch, NODES)
            api.scripts.clear()
            eventually(lambda: has_listed(watch, NODES))
            eventually(lambda: not watch.unread)
            assert set(watch.facts.of(NODES)) == {"a"}

    @pytest.mark.parametrize(
        "junk",
        [
            pytest.param(b"<html>\n", id="no-json"),
            pytest.param(b'{"type":"ADDED"}\n', id="no-object"),
            pytest.param(b'{"type":"ERROR","object":{"code":500,"message":"no"}}\n', id="error"),
        ],
    )
    def test_a_broken_event_does_not_end_it(self, api: FakeApi, cluster: Cluster, junk: bytes) -> None:
        with watching(cluster, NODES) as watch:
            api.send_bytes("nodes", junk)
            eventually(lambda: api.count("watch", "nodes") == 2)
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.of(NODES))

    def test_a_forbidden_kind_does_not_hold_up_the_others(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("list", "nodes", *[refuse(403, "nodes is forbidden")] * 1000)
        with watching(cluster, NODES, NAMESPACES) as watch:
            eventually(lambda: watch.facts.known == {NAMESPACES})
            eventually(lambda: watch.unread == {"nodes": "nodes is forbidden (403)"})
            assert not has_listed(watch, NODES, NAMESPACES), "what may not be read was taken for empty"
            api.scripts.clear()
            eventually(lambda: watch.facts.known == {NODES, NAMESPACES})
            eventually(lambda: has_listed(watch, NODES, NAMESPACES))
            eventually(lambda: not watch.unread)

    def test_a_cluster_of_which_nothing_may_be_read_is_not_an_empty_one(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("list", "limitranges", *[refuse(403)] * 1000)
        with watching(cluster, LIMIT_RANGES) as watch:
            assert unread_ranges("shop", watch.facts) == "the LimitRanges of namespace shop"
            eventually(lambda: "limitranges" in watch.unread)
            assert unread_ranges("shop", watch.facts) == "the LimitRanges of namespace shop"

    def test_what_is_refused_for_good_is_forgotten(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "_FORGET_AFTER", 2)
        api.objects["nodes"] = [node("a")]
        api.script("watch", "nodes", *[refuse(403)] * 1000)
        api.script("list", "nodes", Request.behave, *[refuse(403)] * 1000)
        with watching(cluster, NODES) as watch:
            eventually(lambda: "a" in watch.facts.of(NODES))
            eventually(lambda: watch.facts.known == set() and not watch.facts.of(NODES))
            assert has_listed(watch, NODES)
            eventually(lambda: watch.facts.read_at == datetime.fromtimestamp(0, UTC))

    def test_limit_ranges_of_one_namespace_are_kept_apart(self, api: FakeApi, cluster: Cluster) -> None:
        def limits(name: str, size: str, version: int) -> Object:
            item = {"type": "Container", "max": {"memory": size}}
            metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version)}
            return {"metadata": metadata, "spec": {"limits": [item]}}

        def seen(watch: Watch) -> list[tuple[str, int | None]]:
            return [(item.name, item.max) for item in watch.facts.of(LIMIT_RANGES).get("shop", ())]

        api.objects["limitranges"] = [limits("one", "1Mi", 1), limits("two", "2Mi", 2)]
        with watching(cluster, LIMIT_RANGES) as watch:
            eventually(lambda: seen(watch) == [("one", 2**20), ("two", 2**21)])
            api.send("limitranges", ("MODIFIED", limits("one", "4Mi", 101)))
            eventually(lambda: seen(watch) == [("two", 2**21), ("one", 2**22)])
            api.send("limitranges", ("DELETED", limits("two", "2Mi", 102)), ("DELETED", limits("one", "4Mi", 103)))
            eventually(lambda: watch.facts.of(LIMIT_RANGES) == {})

    def test_a_connection_that_is_dead_without_a_word_is_given_up(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_stream, "_WATCH_SECONDS", (0, 0))
        monkeypatch.setattr(watch_stream, "_GRACE_SECONDS", 0.2)
        api.script("watch", "nodes", lambda request: request.server.api.closing.wait(20))
        with watching(cluster, NODES) as watch:

            def is_seen() -> bool:
                # On a busy machine the next connections may be given up as well, and what was sent to them is lost.
                api.send("nodes", ("ADDED", node("a", 101)))
                return "a" in watch.facts.of(NODES)

            eventually(is_seen)

    @pytest.mark.parametrize("fields", [pytest.param(RAW_BYTE, id="raw-byte"), pytest.param(DEEP, id="9000-levels")])
    def test_whatever_managed_fields_hold_facts_are_read(self, api: FakeApi, cluster: Cluster, fields: bytes) -> None:
        limits = {"metadata": {"name": "l", "namespace": "shop"}, "spec": {"limits": [{"type": "Container"}]}}
        api.objects["persistentvolumeclaims"] = [claim("listed", "pv-1")]
        attacked = with_fields(claim("listed", "pv-2"), fields)
        api.script("list", "persistentvolumeclaims", lambda request: request.send_bytes(200, in_list(attacked)))
        with watching(cluster, CLAIMS, LIMIT_RANGES) as watch:
            eventually(lambda: has_listed(watch, CLAIMS, LIMIT_RANGES))
            assert watch.facts.of(CLAIMS)["shop", "listed"].volume == "pv-2"
            api.send_bytes("persistentvolumeclaims", event(with_fields(claim("changed", "pv-3"), fields)))
            eventually(lambda: ("shop", "changed") in watch.facts.of(CLAIMS))
            api.send_bytes("limitranges", event(with_fields(limits, fields)))
            eventually(lambda: watch.facts.of(LIMIT_RANGES))
            assert (watch.unread, api.count("watch", "persistentvolumeclaims")) == ({}, 1)

    def test_an_object_that_we_fail_at_costs_itself_alone(self, api: FakeApi, cluster: Cluster) -> None:
        def read(reference: FactReference, metadata: Any, wired: Any) -> Any:
            if reference.name == "odd":
                raise ValueError("a bug")
            return CLAIMS.read(reference, metadata, wired)

        kind = replace(CLAIMS, read=read)
        api.objects["persistentvolumeclaims"] = [claim("a"), claim("odd")]
        with watching(cluster, kind) as watch:
            eventually(lambda: has_listed(watch, kind))
            assert watch.facts.of(kind).keys() == {("shop", "a")}
            api.send("persistentvolumeclaims", ("MODIFIED", claim("odd")), ("DELETED", claim("odd")))
            eventually(lambda: not watch.facts.unreadable)
            assert (watch.unread, api.count("watch", "persistentvolumeclaims")) == ({}, 1)

    def test_an_unreadable_object_costs_itself_alone(self, api: FakeApi, cluster: Cluster) -> None:
        odd, why = claim("odd"), "spec.volumeName is 7: expected `str | null`, got `int`"
        odd["spec"]["volumeName"] = 7
        api.objects["persistentvolumeclaims"] = [claim("a"), odd, claim("c")]
        with watching(cluster, CLAIMS) as watch:
            eventually(lambda: has_listed(watch, CLAIMS))
            assert watch.facts.of(CLAIMS).keys() == {("shop", "a"), ("shop", "c")}
            assert watch.facts.unreadable == {FactReference(CLAIMS, "shop", "odd"): why}
            api.send("persistentvolumeclaims", ("MODIFIED", {**odd, "metadata": {**odd["metadata"], "name": "a"}}))
            eventually(lambda: watch.facts.of(CLAIMS).keys() == {("shop", "c")})
            api.send(
                "persistentvolumeclaims",
                ("MODIFIED", claim("odd")),
                ("DELETED", {"metadata": claim("a")["metadata"], "spec": 7}),
            )
            eventually(lambda: not watch.facts.unreadable)
            assert watch.facts.of(CLAIMS).keys() == {("shop", "odd"), ("shop", "c")}
            assert api.count("watch", "persistentvolumeclaims") == 1

    def test_an_event_that_is_too_large_costs_its_object_alone(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("webhook.cluster.watch_stream.EVENT_BYTES", 1 << 17)
        large = json.dumps(claim("large") | {"status": {"a": "x" * (1 << 18)}}, separators=(",", ":")).encode()
        with watching(cluster, CLAIMS) as watch:
            api.send_bytes("persistentvolumeclaims", event(large))
            api.send("persistentvolumeclaims", ("ADDED", claim("small")))
            eventually(lambda: watch.facts.of(CLAIMS).keys() == {("shop", "small")})
            assert watch.facts.unreadable == {FactReference(CLAIMS, "shop", "large"): "Input data was truncated"}
            api.send_bytes("persistentvolumeclaims", event(large).replace(b"MODIFIED", b"DELETED"))
            eventually(lambda: not watch.facts.unreadable)
            assert api.count("watch", "persistentvolumeclaims") == 1

    def test_an_object_without_a_name_does_not_end_it(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, NODES) as watch:
            api.send_bytes("nodes", b'{"type":"ADDED","object":{"metadata":7}}\n')
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.of(NODES))
            assert watch.facts.unreadable.keys() == {FactReference(NODES, "", "")}
            assert api.count("watch", "nodes") == 1

    def test_stop_ends_the_threads(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, NODES) as watch:
            eventually(lambda: api.count("watch", "nodes") == 1)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("watch")] == []
        assert watch.unread == {}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.mark.e2e
class _Endless:
    """An answer of so many bytes without a line's end, and a line behind them."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read1(self, most: int) -> bytes:
        if self.left < 0:
            return b""
        part = b"x" * min(most, self.left) or b"\nnext\n\n"
        self.left -= len(part)
        return part


@pytest.mark.parametrize("size", [pytest.param(4 << 20, id="4-MiB"), pytest.param(32 << 20, id="32-MiB")])
def test_an_event_of_any_size_takes_the_same_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(watch_stream, "EVENT_BYTES", 1 << 20)
    answer: Any = _Endless(size)
    tracemalloc.start()
    try:
        lines = [len(line) for line in watch_stream._lines(answer)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == [1 << 16, 4]
    assert peak < 4 << 20


class TestRealControlPlane:
    def test_what_kubectl_applies_is_seen(self, plane: ControlPlane) -> None:
        with watching(Cluster.from_kubeconfig(plane.kubeconfig), *EVERY_KIND) as watch:
            eventually(lambda: has_listed(watch, *EVERY_KIND))
            assert watch.facts.known == EVERY_KIND
            assert {node.zone for node in watch.facts.of(NODES).values()} == {"zone-a", "zone-b", "zone-c"}
            plane.kubectl("create", "namespace", "seen")
            eventually(lambda: "seen" in watch.facts.of(NAMESPACES))
            plane.kubectl("label", "namespace", "seen", "team=sre")
            eventually(lambda: watch.facts.of(NAMESPACES)["seen"].get("team") == "sre")
            plane.kubectl("delete", "namespace", "seen")
            eventually(lambda: "seen" not in watch.facts.of(NAMESPACES))

    def test_an_api_server_restart_is_survived(self, plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
        with watching(Cluster.from_kubeconfig(plane.kubeconfig), NAMESPACES, NODES) as watch:
            eventually(lambda: has_listed(watch, NAMESPACES, NODES))
            plane.stop_api_server()
            eventually(lambda: set(watch.unread) == {"namespaces", "nodes"})
            assert has_listed(watch, NAMESPACES, NODES)
            assert len(watch.facts.of(NODES)) == 3, "what was seen before must stand meanwhile"
            plane.start_api_server()
            for index in range(3):
                plane.kubectl("create", "namespace", f"after-{index}")
            eventually(lambda: {"after-0", "after-1", "after-2"} <= set(watch.facts.of(NAMESPACES)))
            eventually(lambda: not watch.unread)

    def test_a_watch_from_a_compacted_version_lists_again(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        watch = Watch(cluster, [NAMESPACES])
        kind = watch._kinds[0]
        watch._list(kind)
        plane.kubectl("create", "namespace", "compacted-away")
        plane.compact_etcd()
        plane.restart_api_server()
        with pytest.raises(ClusterRefused, match="too old resource version") as raised:
            watch._follow(kind)
        assert raised.value.status == 410
        watch.start()
        eventually(lambda: "compacted-away" in watch.facts.of(NAMESPACES))
        watch.stop()

    def test_a_user_without_rights(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(plane.dev_kubeconfig)
        read = list_facts(cluster, [NODES])
        forbidden = (
            'nodes is forbidden: User "dev" cannot list resource "nodes" in API group "" at the cluster scope (403)'
        )
        assert (read.facts.known, read.unseen.resources) == (frozenset(), {"nodes": forbidden})
        with watching(cluster, NODES) as watch:
            eventually(lambda: watch.unread == {"nodes": forbidden})
            plane.kubectl("create", "clusterrole", "node-reader", "--verb=list,watch", "--resource=nodes")
            plane.kubectl("create", "clusterrolebinding", "dev", "--clusterrole=node-reader", "--user=dev")
            eventually(lambda: len(watch.facts.of(NODES)) == 3)
            eventually(lambda: not watch.unread)
