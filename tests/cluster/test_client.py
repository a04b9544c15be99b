import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import certifi
import kubernetes.config.incluster_config as incluster
import pytest

from tests.builders import KINDS, kubeconfig
from tests.cluster_fixture import ControlPlane, control_plane
from tests.fake_api import FakeApi, Object, Request
from tests.loopback import eventually
from webhook.cluster import client as under_test
from webhook.cluster.client import Cluster
from webhook.cluster.facts import list_facts
from webhook.cluster.stored import read_objects, readable
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable, TooLarge
from webhook.objects.facts import CLAIMS, NODES, STORAGE_CLASSES, Claim
from webhook.policy import FactReference

EVERY_KIND = frozenset(KINDS)


def node(name: str, version: int = 1, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels, "resourceVersion": str(version)}}


def claim(name: str, volume: str = "", namespace: str = "shop") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"volumeName": volume},
    }


def claim_reference(name: str) -> FactReference:
    return FactReference(CLAIMS, "shop", name)


def refuse(code: int, message: str = "", **headers: str) -> Callable[[Request], None]:
    return lambda request: request.status(code, message, **headers)


class TestCredentials:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(None, "there is none", id="no-file"),
            pytest.param("", ".*empty.*", id="empty"),
            pytest.param("[]", "it is no kubeconfig", id="no-map"),
            pytest.param("root:x:0:0", "it is no kubeconfig", id="another-file"),
            pytest.param("a: b: c", ".*mapping values are not allowed here.*", id="no-yaml"),
            pytest.param('{"current-context": "a"}', "it has no context 'a'", id="no-contexts"),
            pytest.param('{"current-context": "a", "contexts": []}', "it has no context 'a'", id="no-context"),
        ],
    )
    def test_an_unusable_kubeconfig(self, tmp_path: Path, text: str | None, message: str) -> None:
        file = tmp_path / "kubeconfig"
        if text is not None:
            file.write_text(text)
        with pytest.raises(FactsUnavailable, match=rf"^cannot use kubeconfig {file}: {message}$"):
            Cluster.from_kubeconfig(file)

    def test_no_default_kubeconfig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent"))
        with pytest.raises(FactsUnavailable) as refused:
            Cluster.from_kubeconfig()
        assert str(refused.value) == (
            "cannot use the default kubeconfig (KUBECONFIG, else ~/.kube/config; --kubeconfig names another): "
            "there is none"
        )

    def test_not_in_a_pod(self) -> None:
        with pytest.raises(
            FactsUnavailable,
            match=r"^cannot use the pod's service account: this runs in no cluster: name one with --kubeconfig$",
        ):
            Cluster.in_cluster()

    def test_a_token_is_sent(self, api: FakeApi, cluster: Cluster) -> None:
        list_facts(cluster, [NODES])
        assert api.requests[0][3]["Authorization"] == "Bearer sesame"

    def test_a_service_accounts_token_is_read_again(
        self, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token, certificate = tmp_path / "token", tmp_path / "ca.crt"
        token.write_text("old")
        certificate.write_text("unused over plain HTTP")

        class OverHttp(incluster.InClusterConfigLoader):
            def _load_config(self) -> None:
                super()._load_config()  # type: ignore[no-untyped-call]
                self.host = api.url
                self.token_expires_at = datetime.min

        monkeypatch.setattr(incluster, "InClusterConfigLoader", OverHttp)
        monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(certificate))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        cluster = Cluster.in_cluster()
        token.write_text("new")
        list_facts(cluster, [NODES])
        assert api.requests[0][3]["Authorization"] == "bearer new"

    def test_a_replaced_token_file_is_read_again_when_it_is_no_longer_accepted(
        self, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "_RECONNECT_SECONDS", 0)
        (tmp_path / "token").write_text("old")
        cluster = Cluster.from_kubeconfig(api.kubeconfig(tmp_path, tokenFile=str(tmp_path / "token")))
        (tmp_path / "token").write_text("new")
        api.script("list", "nodes", refuse(401, "Unauthorized"))
        with pytest.raises(ClusterRefused, match="Unauthorized"):
            cluster.read("/api/v1/nodes", {}, 5)
        cluster.read("/api/v1/nodes", {}, 5)
        assert [headers["Authorization"] for verb, _, _, headers in api.requests if verb == "list"] == [
            "Bearer old",
            "Bearer new",
        ]


class TestLookUp:
    def test_found_absent_and_neither(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["persistentvolumeclaims"] = [claim("data", "pv-1")]
        api.script("get", "storageclasses", refuse(403, "forbidden"))
        references = [
            claim_reference("data"),
            claim_reference("missing"),
            FactReference(STORAGE_CLASSES, "", "fast"),
            claim_reference("data"),
        ]
        found, absent = cluster.look_up(references, 5)
        assert found == [(claim_reference("data"), Claim("shop", "data", "pv-1", None))]
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
    def test_no_more_than_asked_for_is_read(self, api: FakeApi, cluster: Cluster) -> None:
        api.objects["nodes"] = [{"metadata": {"name": "large", "annotations": {"a": "x" * (4 << 20)}}}]
        with pytest.raises(TooLarge, match=r"^GET /api/v1/nodes: the answer has more than 100 bytes$"):
            cluster.read("/api/v1/nodes", {}, 5, 100)
        assert len(cluster.read("/api/v1/nodes", {}, 5)) > 4 << 20

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

    def test_a_write_without_its_version_is_a_bug(self, cluster: Cluster) -> None:
        with pytest.raises(ValueError, match="which version"):
            cluster.replace("/api/v1/namespaces/a/configmaps/b", {"metadata": {"name": "b"}})


def test_a_forked_worker_that_ends_leaves_the_others_their_certificates(api: FakeApi, tmp_path: Path) -> None:
    """The kubernetes package keeps inline certificates in files that it removes at exit, in each fork."""
    script = """
import os, sys
from webhook.cluster.client import Cluster
from webhook.errors import FactsUnavailable
from webhook.objects.facts import NODES
from webhook.cluster.facts import list_facts
cluster = Cluster.from_kubeconfig(sys.argv[1])
if os.fork() == 0:
    sys.exit(0)
os.wait()
assert not os.path.exists(cluster._connection[1].ssl_ca_cert), "the trap is gone, so this test can go"
try:
    list_facts(cluster, [NODES])
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
    def test_look_up(self, plane: ControlPlane) -> None:
        body = claim("data", namespace="default")
        body["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        plane.kubectl("apply", "-f", "-", input=json.dumps(body))
        there, missing = (FactReference(CLAIMS, "default", name) for name in ("data", "missing"))
        found, absent = Cluster.from_kubeconfig(plane.kubeconfig).look_up([there, missing], 5)
        assert ([reference for reference, _ in found], absent) == ([there], [missing])
        assert Cluster.from_kubeconfig(plane.dev_kubeconfig).look_up([there, missing], 5) == ([], [])

    def test_a_hanging_store_holds_nothing_up(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        with plane.etcd_paused():
            began = time.monotonic()
            assert cluster.look_up([claim_reference("data")], 0.5) == ([], [])
            assert time.monotonic() - began < 5

    def test_writes(self, plane: ControlPlane) -> None:
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
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
        listed = read_objects(cluster, maps, "ConfigMap", labels="made-by=test")
        assert [obj["data"] for obj in readable(listed)] == [{"is": "changed"}]
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
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
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
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        with plane.etcd_paused(), pytest.raises(FactsUnavailable, match="no answer"):
            cluster.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "hangs"}}, timeout=0.5)
