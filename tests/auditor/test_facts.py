"""Which objects are judged again when the facts change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import KINDS, config, every_policy, facts_of, limit_range
from webhook.auditor.facts import Concerned, concerned, facts_to_watch
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.policy import Object


def named(kind: str, name: str, namespace: str = "", version: str = "v1", **fields: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


SHOP, OTHER = (named("Namespace", name) for name in ("shop", "other"))
LABELLED = named("Namespace", "shop", metadata={"labels": {"team": "red"}})
CLAIM = named("PersistentVolumeClaim", "data", "shop", spec={"storageClassName": "gp3"})
BOUND = named("PersistentVolumeClaim", "data", "shop", spec={"storageClassName": "gp3", "volumeName": "pv"})
VOLUME = named("PersistentVolume", "pv", spec={"nfs": {}})
TAKEN = named("PersistentVolume", "pv", spec={"nfs": {}, "claimRef": {"namespace": "shop", "name": "data"}})
ZONED = named("PersistentVolume", "pv", metadata={"labels": {"topology.kubernetes.io/zone": "a"}}, spec=TAKEN["spec"])
NODE = named("Node", "a")
HEARTBEAT = named("Node", "a", status={"conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-11-27T12:00:00Z"}]})
TAINTED = named("Node", "a", spec={"taints": [{"key": "k", "effect": "NoSchedule"}]})
POD = named("Pod", "web", "shop")
MADE = named("Pod", "web", "shop", metadata={"ownerReferences": [{"kind": "Job", "name": "j", "controller": True}]})
CLASS = named("StorageClass", "gp3", version="storage.k8s.io/v1", provisioner="ebs.csi.aws.com")


@pytest.mark.parametrize(
    ("before", "after", "namespaces", "everything"),
    [
        pytest.param([], [], [], False, id="nothing"),
        pytest.param([], [limit_range(default="1Gi")], ["shop"], False, id="a-limit-range"),
        pytest.param([limit_range(default="1Gi")], [], ["shop"], False, id="a-limit-range-that-is-gone"),
        pytest.param([limit_range(default="1Gi")], [limit_range(default="1Gi")], [], False, id="the-same"),
        pytest.param([CLAIM], [BOUND], ["shop"], False, id="a-claim"),
        pytest.param([VOLUME], [VOLUME], [], False, id="the-same-volume"),
        pytest.param([], [VOLUME], [], True, id="a-volume-for-anybody"),
        pytest.param([VOLUME], [TAKEN], [], True, id="a-volume-that-is-taken"),
        pytest.param([TAKEN], [ZONED], ["shop"], False, id="a-bound-volume"),
        pytest.param([NODE], [HEARTBEAT], [], False, id="a-node-s-heartbeat"),
        pytest.param([NODE], [TAINTED], [], True, id="a-node"),
        pytest.param([], [CLASS], [], True, id="a-class"),
        pytest.param([], [POD], ["shop"], False, id="a-pod-by-itself"),
        pytest.param([], [MADE], [], False, id="a-pod-that-a-workload-made"),
        pytest.param([limit_range(namespace="gone", default="1Gi")], [], [], False, id="a-namespace-that-is-gone"),
    ],
)
def test_what_changes(before: list[Object], after: list[Object], namespaces: list[str], everything: bool) -> None:
    old, new = (facts_of([SHOP, OTHER, *objects]) for objects in (before, after))
    assert concerned(old, new) == Concerned(frozenset(namespaces), everything)


def test_a_namespace_s_labels_are_its_own_objects_matter() -> None:
    assert concerned(facts_of([SHOP, OTHER]), facts_of([LABELLED, OTHER])) == Concerned(frozenset({"shop"}), False)


def test_a_kind_that_becomes_known_may_change_everything() -> None:
    known = facts_of([SHOP])
    assert concerned(known.without([LIMIT_RANGES]), known).everything


def test_the_facts_of_active_policies_are_watched_and_namespaces() -> None:
    assert facts_to_watch(config("mode: off")) == {NAMESPACES}
    assert facts_to_watch(config(every_policy(memory_limits="mode: warn"))) == {NAMESPACES, LIMIT_RANGES}
    assert facts_to_watch(config()) <= set(KINDS)
