"""From fixes to JSON Patch operations."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest

from tests.builders import container, request, sized, workload
from webhook.fixes import apply_sets, can_change, compatible, fails_again, parse_path
from webhook.policy import Object, Set

MEMORY = "spec.template.spec.containers[0].resources.limits.memory"
CLASS = "spec.volumeClaimTemplates[0].spec.storageClassName"


@pytest.mark.parametrize(
    ("obj", "fix", "operation"),
    [
        pytest.param({"a": {"b": 1}}, Set("a.b", 2), {"op": "replace", "path": "/a/b", "value": 2}, id="replace"),
        pytest.param({"a": {}}, Set("a.b", 2), {"op": "add", "path": "/a/b", "value": 2}, id="add"),
        pytest.param({}, Set("a.b.c", 2), {"op": "add", "path": "/a", "value": {"b": {"c": 2}}}, id="maps-above"),
        pytest.param({"a": None}, Set("a.b", 2), {"op": "add", "path": "/a", "value": {"b": 2}}, id="null-above"),
        pytest.param({"a": {"b": None}}, Set("a.b", 2), {"op": "add", "path": "/a/b", "value": 2}, id="null"),
        pytest.param(
            {"a": [{}, {"b": {}}]}, Set("a[1].b.c", 2), {"op": "add", "path": "/a/1/b/c", "value": 2}, id="index"
        ),
        pytest.param(
            {"a": {}}, Set("a.x/y~z", 2), {"op": "add", "path": "/a/x~1y~0z", "value": 2}, id="slash-and-tilde"
        ),
    ],
)
def test_operations(obj: Object, fix: Set, operation: Object) -> None:
    before = copy.deepcopy(obj)
    operations, patched = apply_sets(obj, [fix])
    assert operations == [operation]
    assert obj == before, "the object that was given stays as it is"
    assert patched == jsonpatch.apply_patch(before, operations)


def test_later_fixes_see_earlier_ones() -> None:
    operations, patched = apply_sets({}, [Set("a.limits", 2), Set("a.requests", 1)])
    assert [operation["path"] for operation in operations] == ["/a", "/a/requests"]
    assert patched == {"a": {"limits": 2, "requests": 1}}


def test_what_is_not_touched_is_shared() -> None:
    obj: Object = {"a": {"b": 1}, "c": {"d": 1}}
    _, patched = apply_sets(obj, [Set("a.b", 2)])
    assert patched["c"] is obj["c"]


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ("spec.containers[0].image", ("spec", "containers", 0, "image")),
        ("a", ("a",)),
        ("a[10]", ("a", 10)),
        ('a["b.c/d"].e', ("a", "b.c/d", "e")),
    ],
)
def test_paths(path: str, tokens: tuple[Any, ...]) -> None:
    assert parse_path(path) == tokens


@pytest.mark.parametrize(
    ("path", "other", "clash"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", True),
        ("a", "a.b", True),
        ("a", "a[0]", True),
        ("a[0].b.c", "a[0]", True),
        ("a.b", "a.bc", False),
        ("a[1]", "a[10]", False),
        ("a.b", "a.c", False),
    ],
)
def test_which_fixes_clash(path: str, other: str, clash: bool) -> None:
    first, second = Set(path, 1), Set(other, 2)
    assert compatible([(first,), (second,)]) == ([first] if clash else [first, second])


def test_a_fix_that_has_to_wait_waits_whole() -> None:
    first, clashing, other = (Set("a.b", 1), Set("a.c", 1)), (Set("x", 2), Set("a.c", 2)), (Set("d", 2),)
    assert compatible([first, clashing, other]) == [*first, *other]


@pytest.mark.parametrize(
    ("group", "kind", "subresource", "path", "expected"),
    [
        ("apps", "StatefulSet", "", "spec.template.spec.containers[0].resources.limits.memory", True),
        ("apps", "StatefulSet", "", "spec.volumeClaimTemplates[0].spec.storageClassName", False),
        ("apps", "Deployment", "", "spec.template.spec.containers[0].resources.limits.memory", True),
        ("batch", "Job", "", "spec.template.spec.containers[0].resources.limits.memory", False),
        ("batch.volcano.sh", "Job", "", "spec.tasks[0].template.spec.containers[0].resources", True),
        ("", "Pod", "", "spec.containers[0].resources.limits.memory", False),
        ("", "Pod", "resize", "spec.containers[0].image", True),
        ("", "Pod", "resize", "spec.containers[0].resources.limits.memory", False),
        ("", "PersistentVolumeClaim", "", "spec.storageClassName", False),
    ],
)
def test_what_an_update_may_change(group: str, kind: str, subresource: str, path: str, expected: bool) -> None:
    obj = workload(kind)
    update = request(obj, obj, group=group, subresource=subresource)
    assert can_change(update, [Set(path, "1Gi")]) is expected
    assert can_change(request(obj), [Set(path, "1Gi")]) is True


TEMPLATED: Object = {"volumeClaimTemplates": [{"spec": {"accessModes": ["ReadWriteOnce"]}}]}


@pytest.mark.parametrize(
    ("obj", "path", "expected"),
    [
        pytest.param(workload(), MEMORY, False, id="a-deployment"),
        pytest.param(workload("Deployment", container(**sized("0"))), MEMORY, False, id="what-a-deployment-says"),
        pytest.param(workload("StatefulSet"), MEMORY, False, id="a-stateful-set's-pods"),
        pytest.param({**workload("StatefulSet"), "spec": TEMPLATED}, "spec.volumeClaimTemplates", True, id="templates"),
        pytest.param({**workload("StatefulSet"), "spec": TEMPLATED}, CLASS, True, id="a-template's-class"),
        pytest.param(workload("Job"), MEMORY, False, id="what-a-job-doesn't-say"),
        pytest.param(workload("Job", container(**sized("0"))), MEMORY, True, id="what-a-job-says"),
    ],
)
def test_what_is_refused_when_it_is_applied_again(obj: Object, path: str, expected: bool) -> None:
    assert fails_again(request(obj), [Set(path, "x")]) is expected
