"""Certificates of seconds on a real API server, which verifies them and fails closed: no call may fail."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster_fixture import control_plane
from tests.controller.test_rotation import HOOKS, NAMESPACE, SECRET, config, decoded
from tests.loopback import eventually
from tests.mounted import Mount
from tests.served import Server, served
from webhook.certs import read_certificates
from webhook.cluster.client import Cluster
from webhook.controller.rotation import Rotation
from webhook.errors import Conflict, ForestallError

CONFIG_MAPS = "/api/v1/namespaces/shop/configmaps"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as plane:
        cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        for name in (NAMESPACE, "shop"):
            cluster.create("/api/v1/namespaces", {"metadata": {"name": name}})
        service = {"metadata": {"name": "forestall"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
        cluster.create(f"/api/v1/namespaces/{NAMESPACE}/services", service)
        yield cluster


class Caller(threading.Thread):
    """Creates what both webhooks are asked about."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.ended = threading.Event()
        self.answered = 0
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.ended.wait(0.02):
            try:
                self.cluster.create(CONFIG_MAPS, {"metadata": {"generateName": "x-"}}, dry_run=True)
                self.answered += 1
            except ForestallError as error:
                self.failed.append(str(error))


def test_no_request_fails_while_everything_is_replaced(plane: Cluster, tmp_path: Path) -> None:
    lives = config("30s", "12s")
    mounts = [Mount(tmp_path / name / "tls") for name in ("mutating", "validating")]
    with contextlib.ExitStack() as stack:
        servers = []
        for mount in mounts:
            files = {"tls_cert": mount.folder / "tls.crt", "tls_key": mount.folder / "tls.key"}
            servers.append(stack.enter_context(served(mount.folder.parent, ready=503, drain_delay=0, **files)))
        keeper = Rotation(plane, NAMESPACE, lambda: [("127.0.0.1", server.port) for server in servers])
        keeper.reconcile(lives, datetime.now(UTC))
        secret = plane.get(SECRET)
        assert secret
        assert secret["type"] == "kubernetes.io/tls"
        for mount in mounts:
            mount.sync(decoded(secret))
        eventually(lambda: all(server.get("/readyz")[0] == 200 for server in servers))
        for path, server in zip(HOOKS, servers, strict=True):
            _create_hook(plane, path, server.port, secret["data"]["ca.crt"])
        bundles = [secret["data"]["ca.crt"]]

        def go_on() -> bool:
            keeper.reconcile(lives, datetime.now(UTC))
            for path in HOOKS:
                hook, secret = plane.get(path), plane.get(SECRET)
                assert hook
                assert secret
                if hook["webhooks"][0]["clientConfig"]["caBundle"] != secret["data"]["ca.crt"]:
                    hook["webhooks"][0]["clientConfig"]["caBundle"] = secret["data"]["ca.crt"]
                    plane.replace(path, hook)
            for mount in mounts:
                mount.sync(decoded(secret))
            if secret["data"]["ca.crt"] != bundles[-1]:
                bundles.append(secret["data"]["ca.crt"])
            time.sleep(0.2)
            return len(bundles) == 3

        # The API server learns of its hooks a moment later; from then on nothing is let through unasked.
        eventually(lambda: _asks(plane, servers))
        callers = [Caller(plane) for _ in range(2)]
        for caller in callers:
            caller.start()
        try:
            eventually(go_on, seconds=90)
        finally:
            for caller in callers:
                caller.ended.set()
            for caller in callers:
                caller.join()
    assert [len(read_certificates(base64.b64decode(bundle))) for bundle in bundles] == [1, 2, 1]
    assert [caller.failed for caller in callers] == [[], []]
    assert all(caller.answered > 200 for caller in callers)


def _create_hook(plane: Cluster, path: str, port: int, bundle: str) -> None:
    stage = "mutate" if "mutating" in path else "validate"
    service = {"name": "forestall", "namespace": NAMESPACE, "path": f"/{stage}", "port": port}
    webhook = {
        "name": f"{stage}.forestall.dev",
        "clientConfig": {"service": service, "caBundle": bundle},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    plane.create(path.rpartition("/")[0], {"metadata": {"name": "forestall"}, "webhooks": [webhook]})


def _asks(plane: Cluster, servers: list[Server]) -> bool:
    plane.create(CONFIG_MAPS, {"metadata": {"generateName": "x-"}}, dry_run=True)
    return all(server.logged("review") for server in servers)


def test_the_api_server_takes_a_secret_that_waits_for_its_certificate(plane: Cluster) -> None:
    """Which is what is made of one that was lost while replicas serve: without tls.crt it would be refused."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    data = {"tls.crt": "", "tls.key": "", "ca.crt": "eA=="}
    made = plane.create(path, {"metadata": {"name": "lost"}, "type": "kubernetes.io/tls", "data": data}).object
    assert made["data"] == data
    with pytest.raises(Conflict):
        plane.create(path, {"metadata": {"name": "lost"}, "type": "kubernetes.io/tls", "data": data})
