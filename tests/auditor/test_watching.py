"""What makes an object one that has to be decided on again, and how a watch ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.auditor.watched_cluster import WatchedCluster
from tests.builders import workload
from tests.loopback import eventually
from webhook.auditor import watching
from webhook.auditor.watching import Followed, Following, Known
from webhook.policy import GroupKind, Object

DEPLOYMENTS = GroupKind("apps", "Deployment", "deployments")
REPLICA_SETS = GroupKind("apps", "ReplicaSet", "replicasets")
PODS = GroupKind("", "Pod", "pods")
JOBS = GroupKind("batch", "Job", "jobs")
TEMPLATES = GroupKind("", "PodTemplate", "podtemplates")
SPEC = {"replicas": 1}


def obj(metadata: Object | None = None, **fields: Any) -> Object:
    own = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 1}
    return {"metadata": {**own, **(metadata or {})}, "spec": SPEC, **fields}


def known(kind: GroupKind, of: Object) -> Known:
    (key, found) = Followed(kind, "v1").read_known(json.dumps(of).encode())
    assert key == ("shop", "web")
    return found


@pytest.mark.parametrize(
    ("kind", "other", "is_other"),
    [
        pytest.param(DEPLOYMENTS, obj(), False, id="the-same"),
        pytest.param(DEPLOYMENTS, obj(kind="Deployment", apiVersion="apps/v1"), False, id="a-list-s-item"),
        pytest.param(DEPLOYMENTS, obj(status={"readyReplicas": 1}), False, id="status"),
        pytest.param(DEPLOYMENTS, obj({"resourceVersion": "2"}), False, id="version"),
        pytest.param(DEPLOYMENTS, obj({"managedFields": [{"manager": "x"}]}), False, id="managed-fields"),
        pytest.param(DEPLOYMENTS, obj({"generation": 2}), False, id="generation"),
        pytest.param(DEPLOYMENTS, obj(spec={"replicas": 2}), True, id="spec"),
        pytest.param(DEPLOYMENTS, obj({"labels": {"a": "b"}}), True, id="labels"),
        pytest.param(DEPLOYMENTS, obj({"annotations": {"a": "b"}}), True, id="annotations"),
        pytest.param(DEPLOYMENTS, obj({"ownerReferences": []}), True, id="owners"),
        pytest.param(DEPLOYMENTS, obj({"deletionTimestamp": "2026-11-27T12:00:00Z"}), True, id="being-deleted"),
        pytest.param(DEPLOYMENTS, obj({"uid": "v"}), True, id="another-of-its-name"),
        pytest.param(TEMPLATES, obj(template={"spec": {}}), True, id="a-template-beside-the-spec"),
        pytest.param(REPLICA_SETS, obj({"generation": 2}), True, id="generation-where-the-spec-is-not-sent"),
        pytest.param(PODS, obj(status={"phase": "Succeeded"}), True, id="a-pod-s-phase"),
        pytest.param(PODS, obj(status={"conditions": []}), False, id="a-pod-s-conditions"),
        pytest.param(JOBS, obj(status={"conditions": []}), True, id="a-job-s-conditions"),
        pytest.param(JOBS, obj(status={"active": 1}), False, id="a-job-s-pods"),
    ],
)
def test_digest(kind: GroupKind, other: Object, is_other: bool) -> None:
    assert (known(kind, obj()) != known(kind, other)) == is_other


@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param(b'{"metadata":{"namespace":"shop","name":"web"},"spec":\xff}', ("shop", "web"), id="no-utf-8"),
        pytest.param(b'{"metadata":{"namespace":"shop","name":"web"},"spec":', ("shop", "web"), id="cut-off"),
        pytest.param(b'{"metadata":{"namespace":"shop","name":"web","uid":5}}', ("shop", "web"), id="another-type"),
        pytest.param(b'{"spec":{}}', ("", ""), id="no-metadata"),
    ],
)
def test_what_can_t_be_decoded_is_never_taken_for_unchanged(body: bytes, key: tuple[str, str]) -> None:
    assert Followed(DEPLOYMENTS, "v1").read_known(body) == (key, Known("", b""))


class TestFollowing:
    @pytest.fixture
    def cluster(self) -> WatchedCluster:
        return WatchedCluster(workload())

    @pytest.fixture
    def followed(self, cluster: WatchedCluster) -> Followed:
        return Followed(DEPLOYMENTS, "v1")

    def follow(self, cluster: WatchedCluster, followed: Followed) -> Following:
        following = Following(cluster)
        following.follow(followed, "1")
        eventually(lambda: cluster.is_watched("deployments"), "it isn't watched", 5)
        return following

    def test_the_last_change_of_an_object_waits_in_its_place(self, cluster: WatchedCluster, followed: Followed) -> None:
        following = self.follow(cluster, followed)
        cluster.put(workload(name="new"))
        cluster.put(workload(name="other"))
        cluster.remove("/apis/apps/v1/namespaces/shop/deployments/new")
        cluster.put(workload(name="last"))
        eventually(lambda: followed.since == "4", "changes are lost", 5)
        assert [(of.key[1], of.is_deleted) for of in following.take()] == [
            ("new", True),
            ("other", False),
            ("last", False),
        ]
        assert list(following.take()) == []
        followed.stop()

    @pytest.mark.parametrize(
        ("most", "limit", "first"),
        [
            pytest.param("_WAITING", 2, ["one", "two"], id="objects"),
            pytest.param("_WAITING_BYTES", 1, ["one"], id="bytes-but-one-object-always-fits"),
        ],
    )
    def test_no_more_is_read_than_there_is_room_for(
        self,
        cluster: WatchedCluster,
        followed: Followed,
        monkeypatch: pytest.MonkeyPatch,
        most: str,
        limit: int,
        first: list[str],
    ) -> None:
        monkeypatch.setattr(watching, most, limit)
        following = self.follow(cluster, followed)
        for name in ("one", "two", "three"):
            cluster.put(workload(name=name))
        eventually(lambda: followed.since == str(1 + len(first)), "changes aren't heard", 5)
        taken = [change.key[1] for change in following.take()]
        assert taken == first
        eventually(lambda: taken.extend(of.key[1] for of in following.take()) or len(taken) == 3, "some are lost", 5)
        assert taken == ["one", "two", "three"]
        followed.stop()

    @pytest.mark.parametrize("code", [410, 404], ids=["expired", "no-longer-served"])
    def test_a_watch_that_only_a_list_helps_ends(self, cluster: WatchedCluster, followed: Followed, code: int) -> None:
        self.follow(cluster, followed)
        assert followed.since
        cluster.watches[0].tell("ERROR", {"kind": "Status", "code": code, "reason": "", "message": "no"})
        eventually(lambda: not followed.since, "it goes on", 5)
        assert len(cluster.watches) == 1

    def test_a_watch_that_breaks_goes_on_from_where_it_was(self, cluster: WatchedCluster, followed: Followed) -> None:
        following = self.follow(cluster, followed)
        cluster.put(workload(name="new"))
        eventually(lambda: followed.since == "2", "the change isn't heard", 5)
        cluster.watches[0].shutdown()
        eventually(lambda: len(cluster.watches) == 2, "it isn't watched again", 5)
        cluster.put(workload(name="after"))
        eventually(lambda: followed.since == "3", "the next change isn't heard", 5)
        names = [json.loads(bytes(change.body))["metadata"]["name"] for change in following.take()]
        assert names == ["new", "after"]
        followed.stop()

    def test_what_is_stopped_hands_nothing_on(self, cluster: WatchedCluster, followed: Followed) -> None:
        following = self.follow(cluster, followed)
        cluster.put(workload(name="new"))
        eventually(lambda: followed.since == "2", "the change isn't heard", 5)
        followed.stop()
        assert list(following.take()) == []
        eventually(lambda: not followed.since, "it goes on", 5)
