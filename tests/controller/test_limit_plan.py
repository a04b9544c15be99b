"""The plan for LimitRanges, by the configuration and the LimitRanges that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders import config, container, limit_range, workload
from tests.controller.test_dangers import GREEDY, seen
from webhook.controller.contents import Contents
from webhook.controller.limit_plan import Action, Delete, Made, Replace, Skip, digest_of, plan, wanted
from webhook.policy import Object

OURS = "forestall-system"
LABEL = {"forestall.dev/defaults": "true"}
RULE = (
    "{namespaceSelector: {forestall.dev/defaults: 'true'}, default: {memory: 512Mi}, defaultRequest: {memory: 256Mi}}"
)
CONFIG = config(f"limitRanges: [{RULE}]")
FORCED = config(f"limitRanges: [{RULE[:-1]}, force: true}}]")
LABELS = {"app.kubernetes.io/name": "forestall", "app.kubernetes.io/managed-by": "forestall"}
NAME = "forestall-defaults"
KEY = ("shop", NAME)


def namespace(name: str = "shop", labels: Mapping[str, str] = LABEL, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": dict(labels), **metadata},
    }


def made(**changes: Any) -> Object:
    """Ours, as the API server has it."""
    obj = wanted(CONFIG.limit_ranges[0], "shop")
    obj["metadata"] |= {"uid": "ours", "resourceVersion": "7", **changes.pop("metadata", {})}
    obj["spec"]["limits"][0] |= changes
    return obj


def foreign(name: str = "theirs", **item: Any) -> Object:
    obj = limit_range(name, **item)
    obj["metadata"]["uid"] = "theirs"
    return obj


DIGEST = digest_of(made())
RECORD = {KEY: Made("ours", DIGEST)}


def planned(*limit_ranges: Object, cfg: Any = CONFIG, **given: Any) -> list[Action]:
    contents = given.get("contents", Contents())
    return plan(
        cfg,
        given.get("own", OURS),
        given.get("namespaces", [namespace()]),
        limit_ranges,
        given.get("made", RECORD),
        given.get("look", lambda _name: contents),
    )


def told(action: Action) -> tuple[str, ...]:
    """An action in a few words."""
    kind = type(action).__name__
    match action:
        case Replace(edited=edited):
            return kind, edited or "new"
        case Delete(why=why) | Skip(why=why):
            return kind, why
    return (kind,)


GONE = "no rule of limitRanges selects the namespace any more"
GIVEN = "LimitRange theirs already gives a memory default"
OF_ZERO = "LimitRange theirs gives a memory default of 0, which means none, and of two Kubernetes takes either"
TAKEN = "there is a LimitRange of this name that Forestall didn't make"


@pytest.mark.parametrize(
    ("limit_ranges", "given", "actions"),
    [
        pytest.param([], {}, [("Create",)], id="none-there"),
        pytest.param([made()], {}, [], id="as-it-should-be"),
        pytest.param([made(default={"memory": "0.5Gi"})], {}, [], id="the-same-amount-in-other-words"),
        pytest.param(
            [made(metadata={"labels": {**LABELS, "team": "a"}})], {}, [], id="further-labels-are-nobody-s-business"
        ),
        pytest.param(
            [made(default={"memory": "1Gi"})],
            {},
            [("Replace", "default.memory 1Gi, not 512Mi")],
            id="edited-by-hand",
        ),
        pytest.param(
            [made(min={"cpu": "50m"})],
            {},
            [("Replace", "defaultRequest.cpu 50m, not none; min.cpu 50m, not none")],
            id="added-by-hand",
        ),
        pytest.param(
            [made(metadata={"labels": {}})],
            {},
            [
                (
                    "Replace",
                    (
                        "label app.kubernetes.io/name None, not forestall; "
                        "label app.kubernetes.io/managed-by None, not forestall"
                    ),
                )
            ],
            id="labels-taken-away",
        ),
        pytest.param([made()], {"made": {KEY: Made("ours", "old")}}, [("Note",)], id="the-configuration-says-the-same"),
        pytest.param(
            [made(default={"memory": "1Gi"})],
            {"made": {KEY: Made("ours", "old")}},
            [("Replace", "new")],
            id="the-configuration-has-changed",
        ),
        pytest.param([made()], {"namespaces": [namespace(labels={})]}, [("Delete", GONE)], id="label-removed"),
        pytest.param([made()], {"cfg": config()}, [("Delete", GONE)], id="rule-removed"),
        pytest.param(
            [],
            {"namespaces": [namespace(deletionTimestamp="2026-11-21T12:00:00Z")]},
            [],
            id="a-namespace-that-goes",
        ),
        pytest.param([], {"namespaces": [namespace("kube-system")]}, [], id="system-namespace"),
        pytest.param([], {"own": "shop"}, [], id="own-namespace"),
        pytest.param(
            [], {"cfg": config(f"limitRanges: [{RULE}]\nexcludeNamespaces: [sh*]")}, [], id="excluded-namespace"
        ),
        pytest.param(
            [],
            {"cfg": config("limitRanges: [{namespaces: [sh*], max: {memory: 1Gi}}]")},
            [("Create",)],
            id="by-glob",
        ),
        # Others' LimitRanges
        pytest.param([foreign(default="1Gi")], {}, [("Skip", GIVEN)], id="another-gives-a-default"),
        pytest.param([foreign(max="1Gi")], {}, [("Skip", GIVEN)], id="a-maximum-is-a-default"),
        pytest.param([foreign(min="1Mi")], {}, [("Create",)], id="another-gives-none"),
        pytest.param([foreign(default="0")], {}, [("Skip", OF_ZERO)], id="another-gives-0"),
        pytest.param(
            [foreign(default="1Gi"), made()], {}, [("Skip", GIVEN), ("Delete", GIVEN)], id="somebody-made-one-since"
        ),
        pytest.param(
            [foreign(default="1Gi")],
            {"cfg": config("limitRanges: [{namespaces: [shop], min: {memory: 1Mi}}]")},
            [("Create",)],
            id="a-rule-without-default-goes-with-any",
        ),
        pytest.param([foreign(NAME, min="1Mi")], {}, [("Skip", TAKEN)], id="the-name-is-taken"),
        pytest.param(
            [made(metadata={"uid": "theirs", "labels": {}}, default={}, defaultRequest={})],
            {},
            [("Skip", TAKEN)],
            id="made-anew-by-somebody-else",
        ),
        # A label says nothing: who may edit theirs can't have us delete it.
        pytest.param(
            [made(metadata={"uid": "theirs", "name": "theirs"})],
            {"cfg": config()},
            [],
            id="theirs-with-our-labels-stays",
        ),
        pytest.param(
            [made(metadata={"uid": "theirs"})], {"cfg": config()}, [], id="theirs-with-our-name-and-labels-stays"
        ),
        # We ended between the record and the LimitRange, or right after it.
        pytest.param(
            [made()], {"made": {KEY: Made("", DIGEST)}, "cfg": config()}, [("Delete", GONE)], id="ours-after-all"
        ),
        pytest.param(
            [made(default={"memory": "1Gi"})],
            {"made": {KEY: Made("", DIGEST)}, "cfg": config()},
            [],
            id="not-what-we-were-about-to-make",
        ),
        pytest.param([], {"made": {KEY: Made("", DIGEST)}}, [("Create",)], id="not-made-after-all"),
        # Several rules
        pytest.param(
            [],
            {"cfg": config(f"limitRanges: [{RULE}, {{namespaces: [shop], name: more, default: {{memory: 1Gi}}}}]")},
            [("Create",), ("Skip", f"LimitRange {NAME} already gives a memory default")],
            id="the-first-default-counts",
        ),
        pytest.param(
            [],
            {"cfg": config(f"limitRanges: [{RULE}, {{namespaces: [shop], max: {{cpu: '1'}}}}]")},
            [("Create",)],
            id="the-first-of-a-name-counts",
        ),
        pytest.param(
            [],
            {"cfg": config(f"limitRanges: [{RULE}, {{namespaces: [shop], name: more, max: {{cpu: '1'}}}}]")},
            [("Create",), ("Create",)],
            id="two-that-go-together",
        ),
        # What is there
        pytest.param([], {"look": lambda _name: None}, [("Later",)], id="not-looked-at-now"),
        pytest.param(
            [],
            {"contents": Contents((seen(workload("Deployment", container(**GREEDY))),))},
            [("Skip", "pods would be refused or killed at their next start")],
            id="pods-would-be-refused",
        ),
        pytest.param(
            [],
            {"contents": Contents((seen(workload("Deployment", container(**GREEDY))),)), "cfg": FORCED},
            [("Create",)],
            id="force",
        ),
        pytest.param(
            [],
            {"contents": Contents(unseen="pods is forbidden (403)")},
            [("Skip", "cannot tell whether pods could start: pods is forbidden (403)")],
            id="what-cannot-be-seen-is-not-fine",
        ),
        pytest.param(
            [made(default={"memory": "2Gi"})],
            {
                "contents": Contents((seen(workload("Deployment", container(**GREEDY))),)),
                "made": {KEY: Made("ours", "old")},
            },
            [("Skip", "pods would be refused or killed at their next start")],
            id="nor-is-a-smaller-default-given",
        ),
        pytest.param(
            [made(default={"memory": "2Gi"})],
            {"contents": Contents((seen(workload("Deployment", container(**GREEDY))),))},
            [("Replace", "default.memory 2Gi, not 512Mi")],
            id="what-was-decided-before-comes-back",
        ),
    ],
)
def test_plan(limit_ranges: list[Object], given: dict[str, Any], actions: list[tuple[str, ...]]) -> None:
    assert [told(action) for action in planned(*limit_ranges, **given)] == actions


def test_only_namespaces_that_need_a_decision_are_looked_at() -> None:
    looked: list[str] = []

    def look(name: str) -> Contents:
        looked.append(name)
        return Contents()

    edited = made(default={"memory": "1Gi"})
    planned(edited, namespaces=[namespace(), namespace("new"), namespace("other", {})], look=look)
    assert looked == ["new"]


def test_a_replacement_keeps_what_is_not_ours_to_say() -> None:
    edited = made(default={"memory": "1Gi"}, metadata={"labels": {"team": "a"}, "annotations": {"a": "b"}})
    (action,) = planned(edited)
    assert isinstance(action, Replace)
    metadata = action.limit_range["metadata"]
    assert metadata["labels"] == {**LABELS, "team": "a"}
    assert (metadata["annotations"], metadata["resourceVersion"]) == ({"a": "b"}, "7")
    assert action.limit_range["spec"] == wanted(CONFIG.limit_ranges[0], "shop")["spec"]
