"""Which nodes reach a volume: what the real scheduler said, and what is kept for many nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import DATA, facts
from webhook.objects.facts import NODES
from webhook.objects.nodes import ANYWHERE
from webhook.objects.reach import reach_of
from webhook.objects.storage import tie_of_bound
from webhook.objects.topology import HOST_LABEL, ZONE_LABEL, called, is_node_key, is_zone_key, label_of
from webhook.policy import Object

SAID: dict[str, Any] = json.loads((DATA / "volume_affinity.json").read_text())


def node(name: str, /, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def made(asked: Object) -> Object:
    affinity = {"required": {"nodeSelectorTerms": asked["terms"]}} if "terms" in asked else None
    spec = {"nfs": {}, "nodeAffinity": affinity}
    metadata = {"name": "pv", "labels": asked.get("labels")}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("asked", SAID["volumes"], ids=[asked["id"] for asked in SAID["volumes"]])
def test_as_the_scheduler_says(asked: Object) -> None:
    """Asked by tests/oracle/volume_affinity.py."""
    nodes = [node(name, **labels, **{HOST_LABEL: name}) for name, labels in SAID["nodes"].items()]
    cluster = facts(*nodes, made(asked))
    tie = tie_of_bound("pv", cluster)
    reached = [
        name
        for name in SAID["nodes"]
        if tie.extent == "nothing"
        or reach_of(tie, ANYWHERE, facts(*(node for node in nodes if node["metadata"]["name"] == name)), ()).extent
        == "all"
    ]
    assert reached == asked["reached"]


OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"


@pytest.mark.parametrize(
    ("labels", "key", "value"),
    [
        pytest.param({ZONE_LABEL: "a"}, ZONE_LABEL, "a", id="it-carries-it"),
        pytest.param({ZONE_LABEL: "a"}, OLD_ZONE, "a", id="the-present-label-answers-for-the-old-one"),
        pytest.param({OLD_ZONE: "a"}, ZONE_LABEL, "a", id="and-the-old-one-for-it"),
        pytest.param({ZONE_LABEL: "a"}, "topology.ebs.csi.aws.com/zone", "a", id="and-for-a-driver's"),
        pytest.param(
            {ZONE_LABEL: "0", "topology.disk.csi.azure.com/zone": ""},
            "topology.disk.csi.azure.com/zone",
            "",
            id="empty",
        ),
        pytest.param(
            {ZONE_LABEL: "1"}, "topology.com.tencent.cloud.csi.cbs/zone", None, id="not-for-one-of-other-values"
        ),
        pytest.param({}, ZONE_LABEL, None, id="none"),
        pytest.param({}, HOST_LABEL, "n1", id="the-host-is-the-node's-name"),
        pytest.param({HOST_LABEL: "ip-10"}, HOST_LABEL, "ip-10", id="unless-it-has-another"),
        pytest.param({}, "topology.topolvm.io/node", "n1", id="a-driver's-name-for-the-node"),
        pytest.param(
            {"topology.kubernetes.io/region": "r"}, "failure-domain.beta.kubernetes.io/region", "r", id="region"
        ),
    ],
)
def test_what_a_node_says_of_itself(labels: dict[str, str], key: str, value: str | None) -> None:
    assert label_of(facts(node("n1", **labels)).of(NODES)["n1"], key) == value


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (ZONE_LABEL, ("zone", "zones")),
        ("csi.hetzner.cloud/location", ("zone", "zones")),
        ("topology.csi.vmware.com/openshift-zone", ("zone", "zones")),
        (HOST_LABEL, ("node", "nodes")),
        ("topology.topolvm.io/node", ("node", "nodes")),
        ("linbit.com/hostname", ("node", "nodes")),
        ("example.com/site", ("example.com/site", "example.com/site")),
        ("topology.kubernetes.io/region", ("topology.kubernetes.io/region", "topology.kubernetes.io/region")),
    ],
)
def test_what_a_labels_values_are_called(key: str, words: tuple[str, str]) -> None:
    assert (called(key, 1), called(key, 2)) == words
    assert (is_zone_key(key), is_node_key(key)) == (words[0] == "zone", words[0] == "node")
