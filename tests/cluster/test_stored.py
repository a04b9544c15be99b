"""Stored objects, one by one: those that can't be read, those that could not be listed, owners first."""

from __future__ import annotations

import json

import pytest

from tests.builders import config
from tests.memory_cluster import MemoryCluster
from webhook.cluster.stored import Stored, read_objects, readable
from webhook.cluster.unseen import Unreadable
from webhook.errors import ClusterRefused
from webhook.policy import Object, Reference
from webhook.scope import judged_kinds

MAPS = "/api/v1/namespaces/a/configmaps"
DEEP = b'{"f:a":' * 9_000 + b"{}" + b"}" * 9_000
RAW_BYTE = b'{"f:\xff":{}}'


def config_map(name: str, **fields: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, **fields}


def with_fields(obj: Object, fields: bytes) -> bytes:
    """The object's JSON, with what the API server stores of a patch of managedFields."""
    managed = [{"manager": "kubectl", "time": "2026-11-21T11:00:00Z", "fieldsV1": "HERE"}]
    text = json.dumps({**obj, "metadata": {**obj["metadata"], "managedFields": managed}}).encode()
    return text.replace(b'"HERE"', fields)


@pytest.mark.parametrize("fields", [pytest.param(RAW_BYTE, id="raw-byte"), pytest.param(DEEP, id="9000-levels")])
def test_whatever_managed_fields_hold_the_object_is_read(fields: bytes) -> None:
    cluster = MemoryCluster(config_map("after"))
    cluster.bodies[f"{MAPS}/before"] = with_fields(config_map("before", data={"a": "b"}), fields)
    after, before = readable(read_objects(cluster, MAPS, "ConfigMap"))
    assert before["data"] == {"a": "b"}
    assert before["metadata"]["managedFields"] == [{"manager": "kubectl", "time": "2026-11-21T11:00:00Z"}]
    assert after["metadata"]["name"] == "after"


@pytest.mark.parametrize(
    ("body", "unreadable"),
    [
        pytest.param(
            b'{"metadata":{"name":"b","namespace":"a"},"spec":nonsense}',
            Unreadable(Reference("ConfigMap", "a", "b"), "JSON is malformed: invalid character (byte 49)"),
            id="a-field",
        ),
        pytest.param(
            b'{"metadata":{"name":5},"spec":nonsense}',
            Unreadable(Reference("ConfigMap", "", ""), "JSON is malformed: invalid character (byte 31)"),
            id="not-even-its-name",
        ),
        pytest.param(
            b"7", Unreadable(Reference("ConfigMap", "", ""), "Expected `object`, got `int`"), id="no-object-at-all"
        ),
    ],
)
def test_an_unreadable_object_costs_itself_alone(body: bytes, unreadable: Unreadable) -> None:
    cluster = MemoryCluster(config_map("c"), config_map("a"))
    cluster.bodies[f"{MAPS}/b"] = body
    found = list(read_objects(cluster, MAPS, "ConfigMap"))
    assert [obj if isinstance(obj, Unreadable) else obj["metadata"]["name"] for obj in found] == ["a", unreadable, "c"]


@pytest.mark.parametrize(
    ("unreadable", "text"),
    [
        pytest.param(
            Unreadable(Reference("Node", "", "a"), "why"), "Node a can't be read: why", id="without-a-namespace"
        ),
        pytest.param(
            Unreadable(Reference("LimitRange", "web", ""), "why"), "LimitRange web/? can't be read: why", id="nameless"
        ),
    ],
)
def test_what_it_says(unreadable: Unreadable, text: str) -> None:
    assert str(unreadable) == text


GROUPS = {"apps": "v1", "batch": "v1", "monitoring.coreos.com": "v1"}


def test_owners_come_first() -> None:
    kinds = {"v1": ["Pod"], "apps/v1": ["ReplicaSet", "Deployment", "StatefulSet"], "batch/v1": ["Job", "CronJob"]}
    cluster = MemoryCluster(groups=GROUPS)
    for version, names in kinds.items():
        for kind in names:
            metadata = {"name": f"{kind.lower()}s", "namespace": "a"}
            cluster.put({"apiVersion": version, "kind": kind, "metadata": metadata})
    metadata = {"name": "prometheuses", "namespace": "a"}
    prometheus = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata}
    cluster.put(prometheus, "prometheuses")
    names = [request.name for request in Stored(cluster, judged_kinds(config("")))]
    for owner, owned in [
        ("deployments", "replicasets"),
        ("replicasets", "pods"),
        ("cronjobs", "jobs"),
        ("jobs", "pods"),
        ("prometheuses", "statefulsets"),
        ("statefulsets", "pods"),
    ]:
        assert names.index(owner) < names.index(owned)


def test_what_could_not_be_listed_is_said() -> None:
    cluster = MemoryCluster(groups=GROUPS)
    cluster.fail["list", "/deployments"] = [ClusterRefused(403, "Forbidden", "it is forbidden")]
    cluster.fail["list", "/prometheuses"] = [ClusterRefused(404, "NotFound", "not found")]
    stored = Stored(cluster, judged_kinds(config("")))
    assert list(stored) == []
    assert stored.unseen.resources == {"deployments.apps": "it is forbidden (403)"}


def test_what_could_not_be_read_is_said() -> None:
    cluster = MemoryCluster(groups=GROUPS)
    cluster.bodies["/apis/apps/v1/namespaces/a/deployments/b"] = (
        b'{"metadata":{"name":"b","namespace":"a"},"spec":nonsense}'
    )
    stored = Stored(cluster, judged_kinds(config("")))
    assert list(stored) == []
    assert [odd.reference for odd in stored.unseen.objects] == [Reference("Deployment", "a", "b")]


def test_only_what_is_judged_is_asked_for() -> None:
    cluster = MemoryCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}}, groups=GROUPS)
    assert list(Stored(cluster, judged_kinds(config("")))) == []
