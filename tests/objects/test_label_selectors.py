"""Label selectors: what they select, what labels lack, and which can't be read."""

from __future__ import annotations

from typing import Any

import pytest

from webhook.errors import BadObject
from webhook.objects.label_selectors import read_selector
from webhook.policy import Object


@pytest.mark.parametrize(
    ("selector", "labels", "selects"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"}, True),
        ({"matchLabels": {"a": "b"}}, {"a": "c"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_selectors(selector: Object, labels: dict[str, str], selects: bool) -> None:
    read = read_selector({"selector": selector}, "selector", "spec")
    assert read is not None
    assert read.selects(labels) is selects


def test_none_is_read_where_none_is_written() -> None:
    assert read_selector({}, "selector", "spec") is None


@pytest.mark.parametrize(
    ("labels", "lacking"),
    [
        ({"app": "web", "tier": "a", "team": ""}, []),
        ({"app": "db", "tier": "c"}, ["app=web", "tier in (a, b)", "team"]),
        ({"app": "web", "tier": "b", "team": "x", "old": "1"}, ["!old"]),
    ],
    ids=["nothing", "three", "one-too-many"],
)
def test_what_labels_lack_is_told_as_kubectl_writes_it(labels: dict[str, str], lacking: list[str]) -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "team", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": expressions}
    read = read_selector({"selector": selector}, "selector", "spec")
    assert read is not None
    assert list(read.lacking(labels)) == lacking


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        pytest.param(
            {"matchLabels": {"app": 1}},
            "spec.selector.matchLabels.app is 1, not a string: write it in quotes",
            id="a-number",
        ),
        pytest.param(
            {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Gt", "values": ["1"]}]},
            "spec.selector.matchExpressions[1].operator is 'Gt', none of In, NotIn, Exists, DoesNotExist",
            id="a-node-selectors-operator",
        ),
        pytest.param(
            {"matchExpressions": [{"key": "a"}]},
            "spec.selector.matchExpressions[0].operator is None, none of In, NotIn, Exists, DoesNotExist",
            id="no-operator",
        ),
        pytest.param([], "spec.selector: Expected `object`, got `array`", id="a-list"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_path(selector: Any, message: str) -> None:
    with pytest.raises(BadObject) as raised:
        read_selector({"selector": selector}, "selector", "spec")
    assert str(raised.value) == message
