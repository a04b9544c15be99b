"""Stored objects whose managedFields no ordinary decoder reads: they are read all the same, and so are all others."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.builders import KINDS, config
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import claim, deployment
from tests.e2e.test_hostile_bytes import FIELDS_V1, VALUES, with_bytes
from tests.loopback import eventually
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch, list_facts
from webhook.cluster.stored import Stored
from webhook.cluster.unseen import Unseen
from webhook.controller.contents import ContentsReader
from webhook.objects.facts import CLAIMS, LIMIT_RANGES
from webhook.policy import Object
from webhook.scope import judged_kinds

PATHS = {
    "PersistentVolumeClaim": "/api/v1/namespaces/default/persistentvolumeclaims",
    "LimitRange": "/api/v1/namespaces/default/limitranges",
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
}
ATTACKS = {name: VALUES[name] for name in ("no-utf-8-in-a-key", "deep-maps")}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        yield running


def plain(kind: str, name: str) -> Object:
    match kind:
        case "PersistentVolumeClaim":
            obj = claim(name, "default")
        case "LimitRange":
            limits = [{"type": "Container", "default": {"memory": "1Gi"}}]
            metadata = {"name": name, "namespace": "default"}
            obj = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": {"limits": limits}}
        case _:
            obj = deployment(name, "default", {"name": "web", "image": "nginx:1.27"}, replicas=0)
    entry = {"manager": "me", "operation": "Update", "apiVersion": obj["apiVersion"], "fieldsType": "FieldsV1"}
    obj["metadata"]["managedFields"] = [{**entry, "fieldsV1": {}, "time": "2026-11-21T11:00:00Z"}]
    return obj


def post(plane: ControlPlane, kind: str, body: bytes) -> bytes:
    user: Any = json.loads(plane.kubeconfig.read_text())["users"][0]["user"]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {user['token']}"}
    request = urllib.request.Request(plane.server + PATHS[kind], body, headers, method="POST")
    context = ssl.create_default_context(cafile=str(plane.folder / "certs/apiserver.crt"))
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        stored: bytes = answer.read()
    return stored


@pytest.mark.parametrize("attack", ATTACKS)
def test_facts_go_on(plane: ControlPlane, attack: str) -> None:
    cluster = Cluster.from_kubeconfig(plane.kubeconfig)
    watch = Watch(cluster, [CLAIMS, LIMIT_RANGES])
    watch.start()
    try:
        eventually(lambda: len(watch.listed) == 2)
        for kind in ("PersistentVolumeClaim", "LimitRange"):
            stored = post(plane, kind, with_bytes(plain(kind, attack), FIELDS_V1, ATTACKS[attack]))
            assert ATTACKS[attack] in stored, "the API server no longer keeps it: nothing is tested"
            post(plane, kind, json.dumps(plain(kind, f"{attack}-after")).encode())
        names = {attack, f"{attack}-after"}
        eventually(lambda: {("default", name) for name in names} <= watch.facts.of(CLAIMS).keys())
        eventually(lambda: names <= {item.name for item in watch.facts.of(LIMIT_RANGES).get("default", ())})
        assert (watch.unread, watch.facts.unreadable) == ({}, {})
    finally:
        watch.stop()
    again = list_facts(cluster, KINDS)  # as after a restart
    assert {("default", name) for name in names} <= again.facts.of(CLAIMS).keys()
    assert (again.unseen.resources, again.facts.unreadable) == ({}, {})


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_lists_goes_on(plane: ControlPlane, attack: str) -> None:
    cluster = Cluster.from_kubeconfig(plane.kubeconfig)
    stored = post(plane, "Deployment", with_bytes(plain("Deployment", f"{attack}-web"), FIELDS_V1, ATTACKS[attack]))
    assert ATTACKS[attack] in stored
    found = Stored(cluster, judged_kinds(config("")))
    (request,) = [request for request in found if request.name == f"{attack}-web"]
    assert request.object
    assert request.object["metadata"]["managedFields"][0] == {"manager": "me", "time": "2026-11-21T11:00:00Z"}
    assert found.unseen == Unseen()
    contents = ContentsReader(cluster).look("default", config(""), datetime.now(UTC))
    assert contents.unseen == ""
    assert f"Deployment {attack}-web" in {seen.owner for seen in contents.seen}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_read_can_be_written_back(plane: ControlPlane, attack: str) -> None:
    cluster = Cluster.from_kubeconfig(plane.kubeconfig)
    post(plane, "LimitRange", with_bytes(plain("LimitRange", f"{attack}-own"), FIELDS_V1, ATTACKS[attack]))
    path = f"{PATHS['LimitRange']}/{attack}-own"
    obj = cluster.get(path)
    assert obj
    changed = cluster.replace(path, {**obj, "metadata": {**obj["metadata"], "labels": {"a": "b"}}})
    assert changed["metadata"]["labels"] == {"a": "b"}
