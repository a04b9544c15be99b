"""What LimitRanges do to pods, asked of a real API server: it and we refuse the same."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import request
from tests.cluster_fixture import ControlPlane, control_plane
from webhook.cluster.client import Cluster
from webhook.errors import ClusterRefused
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.limit_range_validation import wrong_with
from webhook.objects.limitranger import Given, given, read_amounts, refusals, show_amount
from webhook.objects.pods import read_workload
from webhook.objects.quantities import parse_quantity
from webhook.policy import Object

NAMESPACES, PODS = 12, 25
AMOUNTS = {
    "memory": ["64Mi", "128Mi", "256Mi", "512Mi", "1Gi", "2Gi", "0", None],
    "cpu": ["50m", "100m", "200m", "500m", "1", "2"],
    "ephemeral-storage": ["100Mi", "1Gi"],
}
CHANCES = {"memory": 0.5, "cpu": 0.3, "ephemeral-storage": 0.1}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        yield running


class Dice:
    """Random objects, the same each time."""

    def __init__(self) -> None:
        self._random = random.Random(20261121)

    def chance(self, of: float) -> bool:
        return self._random.random() < of

    def amounts(self, *, shared: bool = False) -> Object:
        names = [
            name for name in AMOUNTS if self.chance(CHANCES[name]) and not (shared and name == "ephemeral-storage")
        ]
        return {name: self._random.choice(AMOUNTS[name]) for name in names}

    def limit_range(self, kind: str) -> Object:
        chances = {"default": 0.6, "defaultRequest": 0.6, "min": 0.25, "max": 0.25}
        parts = {part for part in chances if self.chance(chances[part]) and (kind == "Container" or len(part) == 3)}
        item = {part: amounts for part in sorted(parts) if (amounts := self.amounts())}
        if self.chance(0.2):
            item["maxLimitRequestRatio"] = {self._random.choice(["memory", "cpu"]): self._random.choice("124")}
        return {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": kind.lower()},
            "spec": {"limits": [{"type": kind, **item}]},
        }

    def _sized(self, fields: Object, *, shared: bool = False) -> Object:
        resources = {
            part: amounts
            for part, chance in (("limits", 0.5), ("requests", 0.4))
            if self.chance(chance) and (amounts := self.amounts(shared=shared))
        }
        return {**fields, **({"resources": resources} if resources else {})}

    def pod(self, namespace: str) -> Object:
        spec: Object = {
            "containers": [self._sized({"name": f"c{i}", "image": "x"}) for i in range(self._random.randint(1, 3))],
            "initContainers": [
                self._sized(
                    {"name": f"i{i}", "image": "x", **({"restartPolicy": "Always"} if self.chance(0.4) else {})}
                )
                for i in range(self._random.choice([0, 0, 1, 2]))
            ],
        }
        spec = self._sized(spec, shared=True) if self.chance(0.4) else spec
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}


def asked(cluster: Cluster, path: str, obj: Object, **options: Any) -> tuple[Object | None, str]:
    """The object that was made, or why it was refused."""
    try:
        return cluster.create(path, obj, **options).object, ""
    except ClusterRefused as answer:
        return None, str(answer)


def as_made(pod: Object) -> dict[str, Given]:
    """What a pod's containers have, by path, as the API server answered it."""
    read = read_workload(request(pod))
    assert read is not None
    return {
        container.path: Given(
            read_amounts(container.resources.get("requests")), read_amounts(container.resources.get("limits"))
        )
        for container in read.containers
    }


def test_we_refuse_and_fill_in_what_a_real_api_server_does(plane: ControlPlane) -> None:
    cluster, dice = Cluster.from_kubeconfig(plane.kubeconfig), Dice()
    refused = 0
    for number in range(NAMESPACES):
        name = f"n{number}"
        path = f"/api/v1/namespaces/{name}"
        cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        kinds = ["Container", "Pod"] if dice.chance(0.4) else ["Container"]
        ranges = [dice.limit_range(kind) for kind in kinds]
        stored = [asked(cluster, f"{path}/limitranges", limit_range)[0] for limit_range in ranges]
        for limits, answer in zip(ranges, stored, strict=True):
            # Null is 0 to the API server.
            (item,) = read_items(json.loads(json.dumps(limits["spec"]).replace("null", '"0"')))
            assert bool(wrong_with(item)) == (answer is None), (limits, answer, wrong_with(item))
        items = [item for obj in stored if obj for item in read_items(obj["spec"])]
        while cluster.get(f"{path}/serviceaccounts/default") is None:
            time.sleep(0.05)
        time.sleep(0.3)  # for the API server's own cache of LimitRanges, which can't be asked
        for _ in range(PODS):
            pod = dice.pod(name)
            made, why = asked(cluster, f"{path}/pods", pod, dry_run=True)
            read = read_workload(request(pod))
            assert read is not None
            ours = [str(refusal) for refusal in refusals(read, items)]
            assert bool(ours) == bool(why), (pod["spec"], stored, why, ours)
            if made is not None:
                found = {path: amounts for path, amounts in given(read, items).items() if path}
                assert found == as_made(made), (pod["spec"], stored, made["spec"])
            refused += bool(why)
    print(f"\n{NAMESPACES * PODS} pods, {refused} of them refused, by both alike")
    assert 0.2 < refused / (NAMESPACES * PODS) < 0.8


@pytest.mark.parametrize(
    ("item", "wrong"),
    [
        pytest.param({"max": "1Gi", "min": "2Gi"}, "min.memory 2Gi is above max.memory 1Gi", id="min"),
        pytest.param({"max": "1Gi", "default": "2Gi"}, "default.memory 2Gi is above max.memory 1Gi", id="default"),
        pytest.param({"max": "1Gi", "defaultRequest": "1Gi", "min": "1Gi"}, "", id="all-alike"),
        pytest.param({"default": "1Gi", "maxLimitRequestRatio": "1"}, "", id="ratio"),
        pytest.param(
            {"default": "1Gi", "maxLimitRequestRatio": "0"},
            "maxLimitRequestRatio.memory 0 is below 1: no limit is below its request",
            id="ratio-of-nothing",
        ),
        pytest.param(
            {"max": "2Gi", "min": "1Gi", "maxLimitRequestRatio": "2.1"},
            "maxLimitRequestRatio.memory 2.1 is above max.memory / min.memory",
            id="ratio-that-cannot-be-reached",
        ),
        pytest.param({"max": "2Gi", "min": "1Gi", "maxLimitRequestRatio": "2"}, "", id="ratio-that-can"),
    ],
)
def test_limit_ranges_that_the_api_server_refuses(item: Object, wrong: str) -> None:
    limits = {part: {"memory": amount} for part, amount in item.items()}
    (read,) = read_items({"limits": [{"type": "Container", **limits}]})
    assert wrong_with(read) == wrong


@pytest.mark.parametrize(("request_", "is_wrong"), [("1", True), ("2", False)])
@pytest.mark.parametrize("resource", ["example.com/gpu", "hugepages-2Mi"])
def test_what_cannot_be_overcommitted(resource: str, request_: str, is_wrong: bool) -> None:
    limits = {"type": "Container", "default": {resource: "2"}, "defaultRequest": {resource: request_}}
    (read,) = read_items({"limits": [limits]})
    assert bool(wrong_with(read)) == is_wrong


@pytest.mark.parametrize(
    ("resource", "amount", "shown"),
    [
        pytest.param("memory", "1536Mi", "1536Mi", id="memory"),
        pytest.param("memory", "512m", "1", id="a-fraction-of-a-byte"),
        pytest.param("cpu", "0.25", "250m", id="thousandths"),
        pytest.param("cpu", "2000m", "2", id="whole"),
        pytest.param("cpu", "0.0001", "1m", id="rounded-up"),
        pytest.param("example.com/gpu", "4", "4", id="of-any-kind"),
    ],
)
def test_show_amount(resource: str, amount: str, shown: str) -> None:
    assert show_amount(resource, parse_quantity(amount)) == shown
