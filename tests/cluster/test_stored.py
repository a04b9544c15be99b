"""Stored objects, page by page: lists that expire, and objects that can't be read."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.builders import config
from tests.memory_cluster import MemoryCluster
from webhook.cluster.lists import PAGE, PAGE_BYTES
from webhook.cluster.served import served_versions
from webhook.cluster.stored import Stored, read_objects, readable
from webhook.cluster.unseen import Unreadable
from webhook.errors import ClusterRefused, FactsUnavailable, TooLarge
from webhook.policy import GroupKind, Object, Reference
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


class Expiring(MemoryCluster):
    """A cluster whose lists expire at their second page, and say where they go on, or not."""

    def __init__(self, *objects: Object, token: bool, again: int = 1) -> None:
        super().__init__(*objects)
        self.token, self.again = token, again
        self.queries: list[Mapping[str, str]] = []

    def read(self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytes:
        self.queries.append(query)
        if query.get("continue") and self.again:
            self.again -= 1
            # As somebody deletes the first one and adds another behind the first page meanwhile.
            self.objects.pop(f"{MAPS}/map-0000", None)
            self.put(config_map("map-9999"))
            token = query["continue"] if self.token else ""
            raise ClusterRefused(410, "Expired", "The provided continue parameter is too old", token=token)
        return super().read(path, query, timeout, most)


@pytest.mark.parametrize(
    ("token", "limits"),
    [
        pytest.param(True, ["500", "500", "500", "500"], id="goes-on-where-it-was"),
        pytest.param(False, ["500", "500", "0"], id="all-at-once"),
    ],
)
def test_a_list_that_expires_in_the_middle_names_nothing_twice(token: bool, limits: list[str]) -> None:
    cluster = Expiring(*(config_map(f"map-{number:04}") for number in range(2 * PAGE + 10)), token=token)
    names = [obj["metadata"]["name"] for obj in readable(read_objects(cluster, MAPS, "ConfigMap"))]
    assert names == [f"map-{number:04}" for number in range(2 * PAGE + 10)] + ["map-9999"]
    assert [query.get("limit", "0") for query in cluster.queries] == limits


def test_a_list_is_read_as_it_is_consumed() -> None:
    cluster = MemoryCluster(*(config_map(f"map-{number:04}") for number in range(3 * PAGE)))
    objects = read_objects(cluster, MAPS, "ConfigMap")
    next(objects)
    assert cluster.verbs() == {"list": 1}
    for _ in range(PAGE):
        next(objects)
    assert cluster.verbs() == {"list": 1}


class Measured(MemoryCluster):
    """A cluster that notes of each list how many objects were asked for, and how many bytes were handed out."""

    def __init__(self, *objects: Object) -> None:
        super().__init__(*objects)
        self.limits: list[int] = []
        self.sizes: list[int] = []

    def read(self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytes:
        self.limits.append(int(query["limit"]))
        body = super().read(path, query, timeout, most)
        self.sizes.append(len(body))
        return body


@pytest.mark.parametrize(
    ("sizes", "limits"),
    [
        pytest.param([100] * 600, [500, 500], id="small-ones"),
        pytest.param([1 << 20] * 16, [500, 62, 7, 7, 7], id="large-ones"),
        pytest.param([9 << 20] * 2, [500, 62, 7, 1, 1], id="none-of-which-fits"),
        pytest.param([3 << 20] * 3 + [100] * 70, [500, 62, 7, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64], id="small-ones-behind"),
    ],
)
def test_a_page_of_large_objects_holds_fewer(sizes: list[int], limits: list[int]) -> None:
    cluster = Measured(*(config_map(f"map-{at:04}", data={"a": "x" * size}) for at, size in enumerate(sizes)))
    names = [obj["metadata"]["name"] for obj in readable(read_objects(cluster, MAPS, "ConfigMap"))]
    assert names == [f"map-{at:04}" for at in range(len(sizes))]
    assert cluster.limits == limits
    assert max(cluster.sizes) <= max(PAGE_BYTES, max(sizes) + 1000)


def test_what_expires_is_read_whole_only_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.cluster.lists.WHOLE_BYTES", 1000)
    cluster = Expiring(*(config_map(f"map-{number:04}") for number in range(PAGE + 1)), token=False)
    with pytest.raises(TooLarge, match=rf"^GET {MAPS}: the answer has more than 1000 bytes$"):
        list(read_objects(cluster, MAPS, "ConfigMap"))


def test_an_expired_first_page_is_a_refusal() -> None:
    cluster = MemoryCluster()
    cluster.fail["list", "configmaps"] = [ClusterRefused(410, "Expired", "too old")]
    with pytest.raises(ClusterRefused, match="too old"):
        list(read_objects(cluster, MAPS, "ConfigMap"))


def test_labels_select() -> None:
    ours = config_map("ours")
    ours["metadata"]["labels"] = {"a": "b"}
    cluster = MemoryCluster(ours, config_map("other"))
    found = [obj["metadata"]["name"] for obj in readable(read_objects(cluster, MAPS, "ConfigMap", labels="a=b"))]
    assert found == ["ours"]


def test_no_list() -> None:
    cluster = MemoryCluster()
    cluster.read = lambda *_: b'"a login page"'  # type: ignore[method-assign]
    with pytest.raises(FactsUnavailable, match=r"^GET /a: no list: Expected `object`, got `str`"):
        list(read_objects(cluster, "/a", "A"))


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


GROUP = "monitoring.coreos.com"
SERVED: dict[str, Object] = {
    "/apis": {
        "groups": [
            {
                "name": GROUP,
                "preferredVersion": {"version": "v1"},
                "versions": [{"version": "v1"}, {"version": "v1alpha1"}],
            },
            {"name": "apps", "preferredVersion": {"version": "v1"}, "versions": [{"version": "v1"}]},
        ]
    },
    f"/apis/{GROUP}/v1": {"resources": [{"name": "servicemonitors"}]},
    f"/apis/{GROUP}/v1alpha1": {"resources": [{"name": "scrapeconfigs"}]},
}


class Discovery:
    """An API server that tells what it serves, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, path: str) -> Object | None:
        self.asked.append(path)
        return SERVED.get(path)

    def read(self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "version", "asked"),
    [
        pytest.param(GroupKind(GROUP, "ServiceMonitor", "servicemonitors"), "v1", 1, id="the-preferred-one"),
        pytest.param(GroupKind(GROUP, "ScrapeConfig", "scrapeconfigs"), "v1alpha1", 2, id="the-only-one-that-has-it"),
        pytest.param(GroupKind(GROUP, "Probe", "probes"), "v1", 2, id="in-none"),
        pytest.param(GroupKind("apps", "Deployment", "deployments"), "v1", 0, id="built-in"),
        pytest.param(GroupKind("argoproj.io", "Rollout", "rollouts"), None, 0, id="no-such-group"),
    ],
)
def test_the_version_in_which_a_kind_is_served(kind: GroupKind, version: str | None, asked: int) -> None:
    cluster = Discovery()
    versions = served_versions(cluster)
    assert [versions.of(kind), versions.of(kind)] == [version, version]
    assert len(cluster.asked) - 1 == asked
