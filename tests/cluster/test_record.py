"""State of ours in a ConfigMap: what is read back, what is lost, who may write."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.memory_cluster import MemoryCluster
from webhook.cluster.record import MOST_BYTES, VERSION, Record, read_value
from webhook.errors import BadObject, Conflict
from webhook.installation import LABELS
from webhook.policy import Object

PATH = "/api/v1/namespaces/ns/configmaps/state"


class Value(msgspec.Struct, frozen=True):
    names: tuple[str, ...] = ()


def record(cluster: MemoryCluster, key: str = "names") -> Record[Value]:
    return Record(cluster, "ns", "state", key, Value)


def test_a_value_is_read_back_as_it_was_written() -> None:
    cluster = MemoryCluster()
    kept = record(cluster).read()
    assert kept == (Value(), None, "")
    written = record(cluster).write(kept, Value(("a", "b")))
    assert written.object == cluster.objects[PATH]
    assert record(cluster).read() == written
    assert cluster.objects[PATH]["metadata"]["labels"] == LABELS
    assert cluster.objects[PATH]["data"] == {"names": '{"names":["a","b"]}', "version": VERSION}


def test_what_was_deleted_meanwhile_is_a_conflict() -> None:
    cluster = MemoryCluster()
    kept = record(cluster).write(record(cluster).read(), Value(("a",)))
    del cluster.objects[PATH]
    with pytest.raises(Conflict, match=r"not found"):
        record(cluster).write(kept, Value(("b",)))
    assert record(cluster).write(record(cluster).read(), Value(("b",))).value == Value(("b",))


def test_what_is_so_already_is_not_written() -> None:
    cluster = MemoryCluster()
    kept = record(cluster).write(record(cluster).read(), Value(("a",)))
    assert record(cluster).write(kept, Value(("a",))) == kept
    assert cluster.writes == 1


def test_other_keys_and_what_others_added_stay() -> None:
    cluster = MemoryCluster()
    record(cluster, "one").write(record(cluster, "one").read(), Value(("a",)), beside={"report": "text"})
    cluster.objects[PATH]["metadata"]["labels"]["team"] = "sre"
    record(cluster, "two").write(record(cluster, "two").read(), Value(("b",)))
    data = cluster.objects[PATH]["data"]
    assert (data["report"], record(cluster, "one").read().value) == ("text", Value(("a",)))
    assert record(cluster, "two").read().value == Value(("b",))
    assert cluster.objects[PATH]["metadata"]["labels"]["team"] == "sre"


def test_of_two_writers_one_is_told_to_look_again() -> None:
    cluster = MemoryCluster()
    first = record(cluster).write(record(cluster).read(), Value(("a",)))
    record(cluster).write(first, Value(("b",)))
    with pytest.raises(Conflict):
        record(cluster).write(first, Value(("c",)))
    with pytest.raises(Conflict):
        record(cluster).write(first._replace(object=None), Value(("c",)))


def test_whose_value_it_is_alone_overwrites_what_somebody_wrote() -> None:
    cluster = MemoryCluster()
    first = record(cluster).write(record(cluster).read(), Value(("a",)))
    record(cluster).write(first, Value(("b",)))
    written = record(cluster).overwrite(first, Value(("c",)))
    assert written == record(cluster).read() == (Value(("c",)), cluster.objects[PATH], "")


def test_it_goes_with_its_owner() -> None:
    cluster = MemoryCluster()
    owner = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u", "labels": {}}, "spec": {}}
    kept = record(cluster).write(record(cluster).read(), Value())
    record(cluster).write(kept, Value(), owner=owner)
    references = [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]
    assert cluster.objects[PATH]["metadata"]["ownerReferences"] == references


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        pytest.param(None, "", id="no-data"),
        pytest.param({"other": "x"}, "", id="other-keys-alone"),
        pytest.param({"names": "{}", "version": VERSION}, "", id="of-this-version"),
        pytest.param({"names": "nonsense"}, "JSON is malformed: invalid character (byte 4)", id="no-json"),
        pytest.param({"names": '{"names":5}'}, "Expected `array`, got `int` - at `$.names`", id="another-type"),
        pytest.param(
            {"names": '{"names":["a"],"x":' + "[" * 9_000}, "maximum recursion depth exceeded", id="nested-deeply"
        ),
        pytest.param({"names": '{"names":["a"]}', "version": "2"}, "it is of version 2, not 1", id="a-later-version"),
    ],
)
def test_what_can_be_read(data: Any, lost: str) -> None:
    obj: Object = {"metadata": {"name": "state"}, "data": data}
    kept = read_value(obj, "names", Value)
    assert (kept.value, kept.object) == (Value(), obj)
    assert lost in kept.lost
    assert bool(kept.lost) == bool(lost)


def test_a_value_that_does_not_fit_is_not_sent() -> None:
    cluster = MemoryCluster()
    with pytest.raises(BadObject, match=f"^ConfigMap ns/state: [0-9]+ bytes are more than the {MOST_BYTES} that fit$"):
        record(cluster).write(record(cluster).read(), Value(("a" * MOST_BYTES,)))
    assert cluster.writes == 0
