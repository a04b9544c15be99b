"""Which nodes and zones a pod may use."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import facts, request, workload
from webhook.errors import BadObject
from webhook.objects.facts import NODES, ClusterFacts
from webhook.objects.nodes import Placement, largest_node, read_placement, usable_nodes
from webhook.objects.pods import Workload, read_workload
from webhook.objects.topology import PINNING_KEYS
from webhook.policy import Object

ZONE = "topology.kubernetes.io/zone"
GKE = "topology.gke.io/zone"


def node(name: str, zone: str = "", memory: str = "8Gi", taints: list[Object] | None = None, **labels: str) -> Object:
    labels = {"kubernetes.io/hostname": name, **({ZONE: zone} if zone else {}), **labels}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints or []},
        "status": {"allocatable": {"memory": memory}},
    }


CLUSTER = facts(
    node("a1", "a", pool="web", cores="4"),
    node(
        "a2",
        "a",
        memory="32Gi",
        pool="metrics",
        cores="16",
        taints=[{"key": "pool", "value": "metrics", "effect": "NoSchedule"}],
    ),
    node("b1", "b", pool="web", cores="8"),
    node("c1", "c", pool="gpu", taints=[{"key": "gpu", "effect": "NoExecute"}]),
)


def read(**spec: Any) -> Workload:
    found = read_workload(request(workload("Deployment", **spec)))
    assert found is not None
    return found


def names(cluster: ClusterFacts = CLUSTER, **spec: Any) -> list[str]:
    return sorted(node.name for group in usable_nodes(read_placement(read(**spec)), cluster) for node in group)


def required(*terms: Object) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def conjunction(key: str, count: int, operator: str, *values: str) -> Object:
    return {"matchExpressions": expression(key, operator, *values)["matchExpressions"] * count}


def field(operator: str, *values: str) -> Object:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": list(values)}]}


TOLERATE_ALL = [{"operator": "Exists"}]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, ["a1", "b1"], id="taints-keep-it-away"),
        pytest.param({"tolerations": TOLERATE_ALL}, ["a1", "a2", "b1", "c1"], id="an-empty-key-tolerates-all"),
        pytest.param({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, ["a1", "b1", "c1"], id="exists"),
        pytest.param({"tolerations": [{"key": "pool", "value": "metrics"}]}, ["a1", "a2", "b1"], id="equal-is-default"),
        pytest.param({"tolerations": [{"key": "pool", "value": "web"}]}, ["a1", "b1"], id="equal-to-another-value"),
        pytest.param({"tolerations": [{"value": "metrics"}]}, ["a1", "b1"], id="an-empty-key-needs-exists"),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]}, ["a1", "b1"], id="effect"
        ),
        pytest.param({"tolerations": None}, ["a1", "b1"], id="null-is-absent"),
        pytest.param({"nodeSelector": {"pool": "web"}}, ["a1", "b1"], id="node-selector"),
        pytest.param({"nodeSelector": {"pool": "none"}}, [], id="node-selector-without-a-node"),
        pytest.param({"nodeName": "c1", "tolerations": TOLERATE_ALL}, ["c1"], id="node-name"),
        pytest.param({"affinity": required(expression(ZONE, "In", "b", "c"))}, ["b1"], id="in"),
        pytest.param({"affinity": required(expression(ZONE, "NotIn", "b"))}, ["a1"], id="not-in"),
        pytest.param(
            {"affinity": required(expression("x", "NotIn", "b"))}, ["a1", "b1"], id="not-in-of-an-absent-label"
        ),
        pytest.param({"affinity": required(expression("pool", "Exists"))}, ["a1", "b1"], id="exists-label"),
        pytest.param({"affinity": required(expression("pool", "DoesNotExist"))}, [], id="does-not-exist"),
        pytest.param({"affinity": required(expression("cores", "Gt", "4"))}, ["b1"], id="gt"),
        pytest.param({"affinity": required(expression("cores", "Lt", "8"))}, ["a1"], id="lt"),
        pytest.param({"affinity": required(expression("pool", "Gt", "4"))}, [], id="gt-of-no-number"),
        pytest.param({"affinity": required(expression("x", "Gt", "4"))}, [], id="gt-of-an-absent-label"),
        pytest.param(
            {"affinity": required(field("In", "b1"))},
            ["b1"],
            id="match-fields",
        ),
        pytest.param(
            {"affinity": required(expression("metadata.name", "NotIn", "b1"))},
            ["a1", "b1"],
            id="a-label-like-the-field-not-in",
        ),
        pytest.param(
            {"affinity": required(expression("metadata.name", "DoesNotExist"))},
            ["a1", "b1"],
            id="a-label-like-the-field-absent",
        ),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a"), expression(ZONE, "In", "b"))},
            ["a1", "b1"],
            id="terms-are-alternatives",
        ),
        pytest.param({"affinity": required()}, [], id="no-terms-match-nothing"),
        pytest.param({"affinity": required({})}, [], id="an-empty-term-matches-nothing"),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a")), "nodeSelector": {"pool": "gpu"}},
            [],
            id="both-must-hold",
        ),
        pytest.param(
            {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}},
            ["a1", "b1"],
            id="preferences-don't-count",
        ),
    ],
)
def test_eligible_nodes(spec: Object, expected: list[str]) -> None:
    assert names(**spec) == expected


@pytest.mark.parametrize(
    "key",
    [
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
    ],
)
def test_a_passing_taint_hides_no_node(key: str) -> None:
    assert names(facts(node("a1", "a", taints=[{"key": key, "effect": "NoSchedule"}]))) == ["a1"]


def test_a_preferred_taint_keeps_nobody_away() -> None:
    assert names(facts(node("a1", "a", taints=[{"key": "spot", "effect": "PreferNoSchedule"}]))) == ["a1"]


@pytest.mark.parametrize(
    ("spec", "zone", "on"),
    [
        pytest.param({}, "", "", id="free"),
        pytest.param({"nodeSelector": {ZONE: "a"}}, "a", "", id="selector"),
        pytest.param({"nodeSelector": {"failure-domain.beta.kubernetes.io/zone": "a"}}, "a", "", id="beta-key"),
        pytest.param({"nodeSelector": {"pool": "a"}}, "", "", id="another-label"),
        pytest.param({"affinity": required(expression(ZONE, "In", "a"))}, "a", "", id="affinity"),
        pytest.param({"affinity": required(expression(ZONE, "In", "a", "b"))}, "", "", id="two-zones"),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a"), expression("pool", "In", "web"))}, "", "", id="a-way-out"
        ),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a"), expression(ZONE, "In", "a"))}, "a", "", id="same-twice"
        ),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a", "b")), "nodeSelector": {ZONE: "b"}}, "b", "", id="both"
        ),
        pytest.param({"affinity": required(expression(ZONE, "NotIn", "a"))}, "", "", id="not-in"),
        pytest.param({"nodeName": "b1"}, "", "b1", id="node-name"),
        pytest.param({"nodeSelector": {"kubernetes.io/hostname": "b1"}}, "", "b1", id="hostname"),
        pytest.param({"affinity": required(field("In", "b1"))}, "", "b1", id="the-field"),
        pytest.param({"nodeSelector": {"topology.ebs.csi.aws.com/zone": "a"}}, "a", "", id="a-driver's-key"),
        pytest.param({"nodeSelector": {"dedicated/node": "monitoring"}}, "", "", id="a-label-that-ends-in-node"),
        pytest.param({"nodeSelector": {"x.com/zone": "dmz"}}, "", "", id="a-label-that-ends-in-zone"),
    ],
)
def test_what_a_pod_pins_itself_to(spec: Object, zone: str, on: str) -> None:
    placement = read_placement(read(**spec))
    assert (placement.pinned_by(PINNING_KEYS), placement.pinned_node) == (zone, on)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, "abc", id="free"),
        pytest.param({"nodeSelector": {ZONE: "a", "pool": "web"}}, "a", id="selector"),
        pytest.param({"affinity": required(expression(ZONE, "NotIn", "a"))}, "bc", id="not-in"),
        pytest.param(
            {"affinity": required(expression(ZONE, "In", "a"), expression("pool", "In", "web"))},
            "abc",
            id="alternatives",
        ),
        pytest.param({"affinity": required()}, "", id="no-terms"),
        pytest.param({"affinity": required({})}, "", id="an-empty-term"),
        pytest.param({"affinity": required({}, expression(ZONE, "In", "b"))}, "b", id="an-empty-term-beside-another"),
        pytest.param({"affinity": required(expression(GKE, "In", "a", "b"))}, "ab", id="a-driver's-key"),
        pytest.param({"affinity": required(expression(GKE, "NotIn", "a", "b", "c"))}, "abc", id="a-driver's-not-in"),
        pytest.param({"affinity": required(expression(GKE, "DoesNotExist"))}, "abc", id="a-driver's-absent"),
        pytest.param({"affinity": required(expression("evil/zone", "DoesNotExist"))}, "abc", id="another-key-absent"),
        pytest.param({"affinity": required(expression("evil/zone", "In", "x"))}, "abc", id="another-key"),
        pytest.param({"nodeSelector": {"csi.hetzner.cloud/location": "x"}}, "abc", id="a-location-is-no-zone"),
    ],
)
def test_admits_zone(spec: Object, expected: str) -> None:
    placement = read_placement(read(**spec))
    assert "".join(zone for zone in "abc" if placement.admits_zone(zone)) == expected


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        pytest.param([expression("x", "In", "y")] * 100, [], id="100-terms"),
        pytest.param([expression("x", "In", "y")] * 101, ["a1", "b1"], id="101-terms"),
        pytest.param([{}] * 100, [], id="100-empty-terms"),
        pytest.param([{}] * 101, ["a1", "b1"], id="101-empty-terms"),
        pytest.param([conjunction("x", 100, "In", "y")], [], id="100-expressions"),
        pytest.param([conjunction("x", 101, "In", "y")], ["a1", "b1"], id="101-expressions"),
        pytest.param([expression("x", "In", *map(str, range(1000)))], [], id="1000-values"),
        pytest.param([expression("x", "In", *map(str, range(1001)))], ["a1", "b1"], id="1001-values"),
    ],
)
def test_more_affinity_than_anybody_needs_is_none(terms: list[Object], expected: list[str]) -> None:
    assert names(affinity=required(*terms)) == expected


@pytest.mark.parametrize(("count", "expected"), [(100, ["a1", "b1"]), (101, ["a1", "a2", "b1", "c1"])])
def test_more_tolerations_than_anybody_needs_are_all(count: int, expected: list[str]) -> None:
    assert names(tolerations=[{"key": f"k{index}"} for index in range(count)]) == expected


def test_answers_are_kept_for_their_question_alone() -> None:
    assert read_placement(first := read(nodeSelector={"pool": "web"})) is read_placement(first)
    other = facts(node("d1", "d"))
    asked = [
        ({"pool": "web"}, CLUSTER),
        ({"pool": "web"}, other),
        ({}, other),
        ({}, CLUSTER),
        ({"pool": "web"}, CLUSTER),
    ]
    found = [names(cluster, nodeSelector=selector) for selector, cluster in asked]
    assert found == [["a1", "b1"], [], ["d1"], ["a1", "b1"], ["a1", "b1"]]


MANY = [node(f"n{index}", "ab"[index % 2], memory=f"{index + 1}Gi", pool="web") for index in range(100)]


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        pytest.param([], 2, id="two-kinds"),
        pytest.param([ZONE, "pool", "x"], 2, id="by-what-they-share"),
        pytest.param(["kubernetes.io/hostname"], 100, id="by-the-host"),
        pytest.param(["metadata.name"], 100, id="by-the-name"),
        pytest.param(["topology.topolvm.io/node"], 100, id="by-a-driver's-name-for-the-host"),
    ],
)
def test_nodes_are_put_together_unless_somebody_tells_them_apart(keys: list[str], count: int) -> None:
    groups = usable_nodes(Placement(), facts(*MANY), frozenset(keys))
    assert (len(groups), sum(map(len, groups))) == (count, 100)


def test_taints_tell_nodes_apart() -> None:
    tainted = [node("t1", "a", pool="web", taints=[{"key": "gpu", "effect": "NoSchedule"}])]
    assert [len(group) for group in usable_nodes(Placement(), facts(*MANY, *tainted))] == [50, 50]


def test_a_selector_by_the_host() -> None:
    assert names(facts(*MANY), nodeSelector={"kubernetes.io/hostname": "n7"}) == ["n7"]
    assert names(facts(*MANY), nodeName="n8") == ["n8"]


def test_a_heartbeat_changes_nothing() -> None:
    cluster = facts(*MANY)
    groups = usable_nodes(Placement(), cluster)
    again = facts(*MANY)
    assert again.of(NODES) is not cluster.of(NODES)
    assert usable_nodes(Placement(), again) is groups


def test_largest_node() -> None:
    largest = largest_node(read(tolerations=TOLERATE_ALL), CLUSTER)
    assert largest is not None
    assert largest.name == "a2"
    largest = largest_node(read(), CLUSTER)
    assert largest is not None
    assert largest.memory == 8 * 2**30
    largest = largest_node(read(), facts(*MANY))
    assert largest is not None
    assert largest.name == "n99"
    assert largest_node(read(nodeSelector={"pool": "none"}), CLUSTER) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"nodeName": 5}, "nodeName is a number, not a string", id="node-name"),
        *(
            pytest.param(
                {"tolerations": [{"operator": "Exists"}, {field: ["pool"]}]},
                f"tolerations[1].{field} is a list, not a string",
                id=f"toleration-{field}",
            )
            for field in ("key", "operator", "value", "effect")
        ),
        pytest.param(
            {"affinity": required({"matchExpressions": [{"key": ZONE, "operator": "In", "values": "a"}]})},
            "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
            ".matchExpressions[0].values is 'a': expected `array | null`, got `str`",
            id="values-without-a-list",
        ),
    ],
)
def test_what_is_of_the_wrong_kind_is_named_by_its_path(spec: Object, message: str) -> None:
    with pytest.raises(BadObject) as raised:
        read_placement(read(**spec))
    assert str(raised.value) == f"spec.template.spec.{message}"
