"""Lists of the API server, page by page: what expires, what is large, what is no list."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.cluster.test_stored import MAPS, config_map
from tests.memory_cluster import MemoryCluster
from webhook.cluster.lists import PAGE, PAGE_BYTES
from webhook.cluster.stored import read_objects, readable
from webhook.errors import ClusterRefused, FactsUnavailable, TooLarge
from webhook.policy import Object


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
