import json
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import kubernetes.config.incluster_config as incluster
import pytest

from tests.builders import kubeconfig
from tests.cluster_fixture import ControlPlane, control_plane
from tests.fake_api import FakeApi, Object, Request
from tests.loopback import eventually
from webhook import cluster as under_test
from webhook.cluster import Cluster, Watch
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.objects.facts import FACT_KINDS
from webhook.policy import Reference

EVERY_KIND = frozenset(FACT_KINDS.values())


def node(name: str, version: int = 1, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels, "resourceVersion": str(version)}}


def claim(name: str, volume: str = "", namespace: str = "shop") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"volumeName": volume},
    }


def claim_reference(name: str) -> Reference:
    return Reference("PersistentVolumeClaim", "shop", name)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def cluster(api: FakeApi, tmp_path: Path) -> Cluster:
    return Cluster.from_kubeconfig(api.kubeconfig(tmp_path, token="sesame"))


@contextmanager
def watching(cluster: Cluster, *plurals: str) -> Iterator[Watch]:
    watch = cluster.watch(plurals)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def refuse(code: int, message: str = "", **headers: str) -> Callable[[Request], None]:
    return lambda request: request.status(code, message, **headers)


class TestReadFacts:
    def test_pages_until_there_are_no_more(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node(f"node-{index}") for index in range(1001)]
        facts = cluster.read_facts()
        assert (len(facts.nodes), facts.known) == (1001, EVERY_KIND)
        assert [query.get("continue") for _, plural, query, _ in api.requests if plural == "nodes"] == [
            None,
            "500",
            "1000",
        ]

    def test_an_expired_page_token_starts_again_without_pages(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node(f"node-{index}") for index in range(501)]
        api.script("list", "nodes", Request.behave, refuse(410, "The provided continue parameter is too old"))
        assert len(cluster.read_facts(["nodes"]).nodes) == 501
        assert api.requests[-1][2] == {"limit": "0"}

    @pytest.mark.parametrize("code", [403, 404])
    def test_a_refused_kind_is_not_known(self, api: FakeApi, cluster: Cluster, code: int) -> None:
        api.script("list", "nodes", refuse(code, "nodes is\nforbidden"))
        assert cluster.read_facts().known == EVERY_KIND - {"nodes"}
        assert cluster.unread == {"nodes": f"nodes is forbidden ({code})"}

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            pytest.param(
                refuse(401, "Unauthorized"), "{url} does not list nodes: Unauthorized (401)", id="unknown-to-it"
            ),
            pytest.param(refuse(500), "{url} does not list nodes: HTTP status 500", id="broken"),
            pytest.param(
                Request.drop,
                "cannot read nodes from {url}: Remote end closed connection without response",
                id="dropped",
            ),
            pytest.param(
                lambda request: request.send(200, "proxy's login page"),
                "cannot read nodes from {url}: Expected `object`, got `str`",
                id="no-list",
            ),
        ],
    )
    def test_a_failure_is_one_line(
        self, api: FakeApi, cluster: Cluster, answer: Callable[[Request], None], message: str
    ) -> None:
        api.script("list", "nodes", answer)
        with pytest.raises(FactsUnavailable) as raised:
            cluster.read_facts()
        assert str(raised.value) == message.format(url=api.url)

    def test_nobody_there(self, api: FakeApi, cluster: Cluster) -> None:
        api.close()
        with pytest.raises(FactsUnavailable, match=r"^cannot read storageclasses from http://127.0.0.1:.*refused$"):
            cluster.read_facts()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(None, "No configuration found", id="no-file"),
            pytest.param("", "empty", id="empty"),
            pytest.param("[]", "", id="no-map"),
            pytest.param("a: b: c", "mapping values are not allowed here", id="no-yaml"),
            pytest.param('{"current-context": "a"}', "", id="no-context"),
        ],
    )
    def test_an_unusable_kubeconfig(self, tmp_path: Path, text: str | None, message: str) -> None:
        file = tmp_path / "kubeconfig"
        if text is not None:
            file.write_text(text)
        with pytest.raises(FactsUnavailable, match=rf"^cannot use kubeconfig {file}: .*{message}.*$"):
            Cluster.from_kubeconfig(str(file))

    def test_not_in_a_pod(self) -> None:
        with pytest.raises(
            FactsUnavailable, match=r"^cannot use the pod's service account: Service host/port is not set\.$"
        ):
            Cluster.in_cluster()

    def test_an_odd_object_is_passed_over(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [{"metadata": {"name": "odd", "labels": []}}, node("good")]
        assert list(cluster.read_facts(["nodes"]).nodes) == ["good"]


class TestCredentials:
    def test_a_token_is_sent(self, api: FakeApi, cluster: Cluster) -> None:
        cluster.read_facts(["nodes"])
        assert api.requests[0][3]["Authorization"] == "Bearer sesame"

    def test_a_service_accounts_token_is_read_again(
        self, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token, certificate = tmp_path / "token", tmp_path / "ca.crt"
        token.write_text("old")
        certificate.write_text("unused over plain HTTP")

        class OverHttp(incluster.InClusterConfigLoader):
            def _load_config(self) -> None:
                super()._load_config()
                self.host = api.url
                self.token_expires_at = incluster.datetime.datetime.min

        monkeypatch.setattr(incluster, "InClusterConfigLoader", OverHttp)
        monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(certificate))
        monkeypatch.setitem(incluster.os.environ, "KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setitem(incluster.os.environ, "KUBERNETES_SERVICE_PORT", "443")
        cluster = Cluster.in_cluster()
        token.write_text("new")
        cluster.read_facts(["nodes"])
        assert api.requests[0][3]["Authorization"] == "bearer new"

    def test_a_replaced_token_file_is_read_again_when_it_is_no_longer_accepted(
        self, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "_RECONNECT_SECONDS", 0)
        (tmp_path / "token").write_text("old")
        cluster = Cluster.from_kubeconfig(api.kubeconfig(tmp_path, tokenFile=str(tmp_path / "token")))
        (tmp_path / "token").write_text("new")
        api.script("list", "nodes", refuse(401, "Unauthorized"))
        with watching(cluster, "nodes") as watch:
            eventually(lambda: watch.synced)
        assert [headers["Authorization"] for verb, _, _, headers in api.requests if verb == "list"] == [
            "Bearer old",
            "Bearer new",
        ]


class TestWatch:
    def test_takes_in_what_changes(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node("a"), node("b")]
        with watching(cluster, "nodes") as watch:
            eventually(lambda: watch.synced)
            before = watch.facts
            api.send(
                "nodes", ("ADDED", node("c", 101)), ("MODIFIED", node("a", 102, x="y")), ("DELETED", node("b", 103))
            )
            eventually(lambda: set(watch.facts.nodes) == {"a", "c"})
            assert watch.facts.nodes["a"].labels == {"x": "y"}
            assert set(before.nodes) == {"a", "b"}, "a value that was handed out changed"

    def test_only_wanted_kinds_are_read(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, "nodes", "limitranges") as watch:
            eventually(lambda: watch.synced)
            assert watch.facts.known == {"nodes", "limitranges"}
            assert {plural for _, plural, _, _ in api.requests} == {"nodes", "limitranges"}

    def test_nothing_wanted_is_synced(self, cluster: Cluster) -> None:
        with watching(cluster) as watch:
            eventually(lambda: watch.synced)

    def test_an_event_in_pieces(self, api: FakeApi, cluster: Cluster) -> None:
        line = json.dumps({"type": "ADDED", "object": node("ä", 101)}, ensure_ascii=False).encode() + b"\n"
        with watching(cluster, "nodes") as watch:
            api.send_bytes("nodes", *(line[index : index + 1] for index in range(len(line))))
            eventually(lambda: "ä" in watch.facts.nodes)

    def test_a_bookmark_moves_the_version_and_the_date(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, "nodes") as watch:
            eventually(lambda: watch.synced)
            listed_at = watch.facts.read_at
            api.send("nodes", ("BOOKMARK", {"metadata": {"resourceVersion": "500"}}))
            eventually(lambda: watch.facts.read_at != listed_at)
            api.hang_up("nodes")
            eventually(lambda: api.count("watch", "nodes") == 2)
        assert api.requests[-1][2]["resourceVersion"] == "500"
        assert api.requests[-1][2]["allowWatchBookmarks"] == "true"

    def test_a_dropped_connection_goes_on_where_it_was(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, "nodes") as watch:
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.nodes)
            api.hang_up("nodes")
            eventually(lambda: api.count("watch", "nodes") == 2)
            eventually(lambda: not watch.unread)  # the new connection is enough, without any event
            api.send("nodes", ("ADDED", node("b", 102)))
            eventually(lambda: set(watch.facts.nodes) == {"a", "b"})
        assert [query["resourceVersion"] for verb, _, query, _ in api.requests if verb == "watch"] == ["100", "101"]
        assert api.count("list", "nodes") == 1

    @pytest.mark.parametrize("as_event", [True, False], ids=["as-event", "as-status"])
    def test_410_gone_lists_again(self, api: FakeApi, cluster: Cluster, as_event: bool) -> None:
        api.objects["nodes"] = [node("a"), node("gone")]
        if not as_event:
            api.script("watch", "nodes", Request.behave, refuse(410, "too old resource version"))
        with watching(cluster, "nodes") as watch:
            eventually(lambda: "gone" in watch.facts.nodes)
            api.objects["nodes"] = [node("a"), node("b")]
            if as_event:
                api.send("nodes", ("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))
            else:
                api.hang_up("nodes")
            eventually(lambda: set(watch.facts.nodes) == {"a", "b"})
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
        with watching(cluster, "nodes") as watch:
            eventually(lambda: watch.unread)
            assert not watch.synced
            api.scripts.clear()
            eventually(lambda: watch.synced)
            eventually(lambda: not watch.unread)
            assert set(watch.facts.nodes) == {"a"}

    @pytest.mark.parametrize(
        "junk",
        [
            pytest.param(b"<html>\n", id="no-json"),
            pytest.param(b'{"type":"ADDED"}\n', id="no-object"),
            pytest.param(b'{"type":"ADDED","object":{"metadata":7}}\n', id="no-metadata"),
            pytest.param(b'{"type":"ERROR","object":{"code":500,"message":"no"}}\n', id="error"),
        ],
    )
    def test_a_broken_event_does_not_end_it(self, api: FakeApi, cluster: Cluster, junk: bytes) -> None:
        with watching(cluster, "nodes") as watch:
            api.send_bytes("nodes", junk)
            eventually(lambda: api.count("watch", "nodes") == 2)
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.nodes)

    def test_a_forbidden_kind_does_not_hold_up_the_others(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("list", "nodes", *[refuse(403, "nodes is forbidden")] * 1000)
        with watching(cluster, "nodes", "namespaces") as watch:
            eventually(lambda: watch.synced)
            assert watch.facts.known == {"namespaces"}
            assert watch.unread == {"nodes": "nodes is forbidden (403)"}
            api.scripts.clear()
            eventually(lambda: watch.facts.known == {"nodes", "namespaces"})
            eventually(lambda: not watch.unread)

    def test_what_is_refused_for_good_is_forgotten(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "_FORGET_AFTER", 2)
        api.objects["nodes"] = [node("a")]
        api.script("watch", "nodes", *[refuse(403)] * 1000)
        api.script("list", "nodes", Request.behave, *[refuse(403)] * 1000)
        with watching(cluster, "nodes") as watch:
            eventually(lambda: "a" in watch.facts.nodes)
            eventually(lambda: watch.facts.known == set() and not watch.facts.nodes)
            assert watch.synced
            eventually(lambda: watch.facts.read_at is None)

    def test_limit_ranges_of_one_namespace_are_kept_apart(self, api: FakeApi, cluster: Cluster) -> None:
        def limits(name: str, size: str, version: int) -> Object:
            item = {"type": "Container", "max": {"memory": size}}
            metadata = {"name": name, "namespace": "shop", "resourceVersion": str(version)}
            return {"metadata": metadata, "spec": {"limits": [item]}}

        def seen(watch: Watch) -> list[tuple[str, int | None]]:
            return [(item.name, item.max) for item in watch.facts.limit_ranges.get("shop", ())]

        api.objects["limitranges"] = [limits("one", "1Mi", 1), limits("two", "2Mi", 2)]
        with watching(cluster, "limitranges") as watch:
            eventually(lambda: seen(watch) == [("one", 2**20), ("two", 2**21)])
            api.send("limitranges", ("MODIFIED", limits("one", "4Mi", 101)))
            eventually(lambda: seen(watch) == [("two", 2**21), ("one", 2**22)])
            api.send("limitranges", ("DELETED", limits("two", "2Mi", 102)), ("DELETED", limits("one", "4Mi", 103)))
            eventually(lambda: watch.facts.limit_ranges == {})

    def test_a_connection_that_is_dead_without_a_word_is_given_up(
        self, api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "_WATCH_SECONDS", (0, 0))
        monkeypatch.setattr(under_test, "_GRACE_SECONDS", 0.2)
        api.script("watch", "nodes", lambda request: request.server.api.closing.wait(20))
        with watching(cluster, "nodes") as watch:
            api.send("nodes", ("ADDED", node("a", 101)))
            eventually(lambda: "a" in watch.facts.nodes)

    def test_stop_ends_the_threads(self, api: FakeApi, cluster: Cluster) -> None:
        with watching(cluster, "nodes") as watch:
            eventually(lambda: api.count("watch", "nodes") == 1)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("watch")] == []
        assert watch.unread == {}


class TestLookUp:
    def test_found_absent_and_neither(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["persistentvolumeclaims"] = [claim("data", "pv-1")]
        api.script("get", "storageclasses", refuse(403, "forbidden"))
        references = [
            claim_reference("data"),
            claim_reference("missing"),
            Reference("StorageClass", "", "fast"),
            claim_reference("data"),
        ]
        found, absent = cluster.look_up(references, 5)
        assert found == [claim("data", "pv-1")]
        assert absent == [claim_reference("missing")]
        assert api.count("get", "persistentvolumeclaims") == 2

    @pytest.mark.parametrize("name", ["", "..", ".", "../../secrets/x", "a/b", "a?b", "A", "-a", "a" * 254])
    def test_an_impossible_name_is_absent_without_asking(self, api: FakeApi, cluster: Cluster, name: str) -> None:
        assert cluster.look_up([claim_reference(name)], 5) == ([], [claim_reference(name)])
        assert api.requests == []

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(Request.drop, id="dropped"),
            pytest.param(refuse(500), id="500"),
            pytest.param(refuse(401), id="401"),
            pytest.param(lambda request: request.send(200, ["no object"]), id="nonsense"),
        ],
    )
    def test_failures_are_neither(self, api: FakeApi, cluster: Cluster, answer: Callable[[Request], None]) -> None:
        api.script("get", "persistentvolumeclaims", answer)
        assert cluster.look_up([claim_reference("data")], 5) == ([], [])

    @pytest.mark.parametrize("count", [1, 40], ids=["one", "more-than-threads"])
    def test_a_trickling_answer_is_given_up(self, api: FakeApi, cluster: Cluster, count: int) -> None:
        api.script("get", "persistentvolumeclaims", *[Request.stall] * count)
        began = time.monotonic()
        assert cluster.look_up([claim_reference(f"data-{index}") for index in range(count)], 0.3) == ([], [])
        assert time.monotonic() - began < 5, "it waited for the answer rather than for the deadline"
        api.scripts.clear()
        eventually(lambda: cluster.look_up([claim_reference("data")], 1) == ([], [claim_reference("data")]))

    def test_no_time_left(self, api: FakeApi, cluster: Cluster) -> None:
        assert cluster.look_up([claim_reference("data")], 0) == ([], [])

    def test_connections_are_kept(self, api: FakeApi, cluster: Cluster) -> None:
        for _ in range(20):
            cluster.look_up([claim_reference("data")], 5)
        assert len(api.ports) == 1


class TestCalls:
    @pytest.mark.parametrize(
        ("headers", "warnings"),
        [
            pytest.param([], [], id="none"),
            pytest.param(['299 - "be careful"'], ["be careful"], id="one"),
            pytest.param(['299 - "one"', '299 - "two"'], ["one", "two"], id="two-headers"),
            pytest.param(['299 - "one", 299 - "two"'], ["one", "two"], id="two-in-one-header"),
            pytest.param([r'299 - "say \"a, b\", or a\\b"'], [r'say "a, b", or a\b'], id="escaped"),
            pytest.param(['110 proxy "Response is Stale"'], [], id="a-proxy-s"),
        ],
    )
    def test_warnings(self, headers: list[str], warnings: list[str]) -> None:
        assert list(under_test._warnings(headers)) == warnings

    def test_no_answer(self, api: FakeApi, cluster: Cluster) -> None:
        api.close()
        with pytest.raises(FactsUnavailable, match=r"^GET /api/v1/nodes/a: no answer from http://127.0.0.1:.*refused$"):
            cluster.get("/api/v1/nodes/a")

    def test_an_answer_without_a_reason(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("get", "nodes", refuse(503))
        with pytest.raises(ClusterRefused, match=r"^GET /api/v1/nodes/a: HTTP status 503 \(503\)$"):
            cluster.get("/api/v1/nodes/a")

    def test_an_answer_of_something_else(self, api: FakeApi, cluster: Cluster) -> None:
        api.script("get", "nodes", lambda request: request.send(200, "proxy's login page"))
        with pytest.raises(FactsUnavailable, match="Expected `object`, got `str`"):
            cluster.get("/api/v1/nodes/a")

    def test_lists_come_in_pages(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [node(f"node-{index}") for index in range(1001)]
        assert [each["metadata"]["name"] for each in cluster.list("/api/v1/nodes", labels="a=b")] == [
            f"node-{index}" for index in range(1001)
        ]
        assert [query for _, _, query, _ in api.requests] == [
            {"limit": "500", "labelSelector": "a=b"},
            {"limit": "500", "labelSelector": "a=b", "continue": "500"},
            {"limit": "500", "labelSelector": "a=b", "continue": "1000"},
        ]

    def test_a_write_without_its_version_is_a_bug(self, cluster: Cluster) -> None:
        with pytest.raises(ValueError, match="which version"):
            cluster.replace("/api/v1/namespaces/a/configmaps/b", {"metadata": {"name": "b"}})


def test_a_forked_worker_that_ends_leaves_the_others_their_certificates(api: FakeApi, tmp_path: Path) -> None:
    """The kubernetes package keeps inline certificates in files that it removes at exit, in each fork."""
    script = """
import os, sys
from webhook.cluster import Cluster
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
cluster = Cluster.from_kubeconfig(sys.argv[1])
if os.fork() == 0:
    sys.exit(0)
os.wait()
assert not os.path.exists(cluster._connection[1].ssl_ca_cert), "the trap is gone, so this test can go"
try:
    cluster.read_facts()
except FactsUnavailable as error:
    print(error)
"""
    certificate = certifi.contents().split("\n\n")[1].encode()
    cluster = {
        "server": api.url.replace("http", "https"),
        "certificate-authority-data": b64encode(certificate).decode(),
    }
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(cluster))
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "WRONG_VERSION_NUMBER" in done.stdout, "it did not come as far as the handshake, which plain HTTP ends"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.mark.e2e
class TestRealControlPlane:
    def test_what_kubectl_applies_is_seen(self, plane: ControlPlane) -> None:
        with watching(Cluster.from_kubeconfig(str(plane.kubeconfig)), *EVERY_KIND) as watch:
            eventually(lambda: watch.synced)
            assert watch.facts.known == EVERY_KIND
            assert {each.zone for each in watch.facts.nodes.values()} == {"zone-a", "zone-b", "zone-c"}
            plane.kubectl("create", "namespace", "seen")
            eventually(lambda: "seen" in watch.facts.namespaces)
            plane.kubectl("label", "namespace", "seen", "team=sre")
            eventually(lambda: watch.facts.namespaces["seen"].get("team") == "sre")
            plane.kubectl("delete", "namespace", "seen")
            eventually(lambda: "seen" not in watch.facts.namespaces)

    def test_an_api_server_restart_is_survived(self, plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
        with watching(Cluster.from_kubeconfig(str(plane.kubeconfig)), "namespaces", "nodes") as watch:
            eventually(lambda: watch.synced)
            plane.stop_api_server()
            eventually(lambda: set(watch.unread) == {"namespaces", "nodes"})
            assert watch.synced
            assert len(watch.facts.nodes) == 3, "what was seen before must stand meanwhile"
            plane.start_api_server()
            for index in range(3):
                plane.kubectl("create", "namespace", f"after-{index}")
            eventually(lambda: {"after-0", "after-1", "after-2"} <= set(watch.facts.namespaces))
            eventually(lambda: not watch.unread)

    def test_a_watch_from_a_compacted_version_lists_again(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        watch = cluster.watch(["namespaces"])
        kind = watch._kinds[0]
        watch._list(kind)
        plane.kubectl("create", "namespace", "compacted-away")
        plane.compact_etcd()
        plane.restart_api_server()
        with pytest.raises(under_test._ApiError, match="too old resource version") as raised:
            watch._follow(kind)
        assert raised.value.is_expired
        watch.start()
        eventually(lambda: "compacted-away" in watch.facts.namespaces)
        watch.stop()

    def test_a_user_without_rights(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.dev_kubeconfig))
        facts = cluster.read_facts(["nodes"])
        forbidden = (
            'nodes is forbidden: User "dev" cannot list resource "nodes" in API group "" at the cluster scope (403)'
        )
        assert (facts.known, cluster.unread) == (frozenset(), {"nodes": forbidden})
        with watching(cluster, "nodes") as watch:
            eventually(lambda: watch.synced)
            assert watch.unread == {"nodes": forbidden}
            plane.kubectl("create", "clusterrole", "node-reader", "--verb=list,watch", "--resource=nodes")
            plane.kubectl("create", "clusterrolebinding", "dev", "--clusterrole=node-reader", "--user=dev")
            eventually(lambda: len(watch.facts.nodes) == 3)
            eventually(lambda: not watch.unread)

    def test_look_up(self, plane: ControlPlane) -> None:
        body = claim("data", namespace="default")
        body["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        plane.kubectl("apply", "-f", "-", input=json.dumps(body))
        there, missing = (Reference("PersistentVolumeClaim", "default", name) for name in ("data", "missing"))
        found, absent = Cluster.from_kubeconfig(str(plane.kubeconfig)).look_up([there, missing], 5)
        assert [(obj["apiVersion"], obj["kind"], obj["metadata"]["name"]) for obj in found] == [
            ("v1", "PersistentVolumeClaim", "data")
        ]
        assert absent == [missing]
        assert Cluster.from_kubeconfig(str(plane.dev_kubeconfig)).look_up([there, missing], 5) == ([], [])

    def test_a_hanging_store_holds_nothing_up(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        with plane.etcd_paused():
            began = time.monotonic()
            assert cluster.look_up([claim_reference("data")], 0.5) == ([], [])
            assert time.monotonic() - began < 5

    def test_writes(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        maps = "/api/v1/namespaces/default/configmaps"
        body = {"metadata": {"name": "written", "labels": {"made-by": "test"}}, "data": {"is": "new"}}
        cluster.create(maps, body, dry_run=True)
        assert cluster.get(f"{maps}/written") is None
        made = cluster.create(maps, body).object
        with pytest.raises(Conflict, match='configmaps "written" already exists') as raised:
            cluster.create(maps, body)
        assert (raised.value.status, raised.value.reason) == (409, "AlreadyExists")
        changed = cluster.replace(f"{maps}/written", {**made, "data": {"is": "changed"}})
        assert cluster.get(f"{maps}/written") == changed
        with pytest.raises(Conflict, match="the object has been modified") as raised:
            cluster.replace(f"{maps}/written", {**made, "data": {"is": "stale"}})
        assert raised.value.reason == "Conflict"
        assert [each["data"] for each in cluster.list(maps, labels="made-by=test")] == [{"is": "changed"}]
        with pytest.raises(Conflict):
            cluster.delete(f"{maps}/written", "00000000-0000-0000-0000-000000000000")
        with pytest.raises(Conflict):
            cluster.delete(f"{maps}/written", version=made["metadata"]["resourceVersion"])
        cluster.delete(f"{maps}/written", made["metadata"]["uid"], changed["metadata"]["resourceVersion"])
        cluster.delete(f"{maps}/written")
        assert cluster.get(f"{maps}/written") is None

    def test_warnings_of_a_write(self, plane: ControlPlane) -> None:
        container = {"name": "a", "image": "a"}
        twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
        pod = {"metadata": {"name": "warned"}, "spec": {"containers": [{**container, "env": twice}]}}
        cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        assert cluster.create("/api/v1/namespaces/default/pods", pod, dry_run=True).warnings == (
            'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
        )

    @pytest.mark.parametrize(
        ("user", "body", "status", "reason", "message"),
        [
            pytest.param("dev", {"metadata": {"name": "a"}}, 403, "Forbidden", 'User "dev" cannot create', id="403"),
            pytest.param("admin", {"metadata": {"name": "A"}}, 422, "Invalid", "Invalid value", id="422"),
        ],
    )
    def test_refusals(
        self, plane: ControlPlane, user: str, body: Object, status: int, reason: str, message: str
    ) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.folder / f"{user}.kubeconfig"))
        with pytest.raises(ClusterRefused, match=message) as raised:
            cluster.create("/api/v1/namespaces/default/configmaps", body)
        assert (raised.value.status, raised.value.reason) == (status, reason)

    def test_a_write_that_hangs(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        with plane.etcd_paused(), pytest.raises(FactsUnavailable, match="no answer"):
            cluster.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "hangs"}}, timeout=0.5)
