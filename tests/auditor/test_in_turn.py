"""Of several namespaces one after the other has its turn, whatever one of them holds."""

from __future__ import annotations

import pytest

from webhook.auditor.in_turn import InTurn, in_turn


@pytest.mark.parametrize(
    ("items", "order"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["a1", "a2"], ["a1", "a2"], id="of-one-namespace"),
        pytest.param(["a1", "a2", "a3", "b1", "c1", "c2"], ["a1", "b1", "c1", "a2", "c2", "a3"], id="of-three"),
    ],
)
def test_items_come_in_turn(items: list[str], order: list[str]) -> None:
    assert list(in_turn(items, lambda item: item[0])) == order
    waiting: InTurn[str] = InTurn(10)
    for item in items:
        waiting.add(item[0], item)
    assert list(waiting) == order
    assert [waiting.pop() for _ in items] == order
    assert not waiting


def test_a_namespace_whose_turn_it_was_comes_last() -> None:
    waiting: InTurn[str] = InTurn(10)
    for item in ("a1", "a2", "a3"):
        waiting.add("a", item)
    assert waiting.pop() == "a1"
    waiting.add("b", "b1")
    assert [waiting.pop() for _ in range(3)] == ["a2", "b1", "a3"]


def test_whoever_has_most_loses_the_oldest() -> None:
    waiting: InTurn[str] = InTurn(3)
    for item in ("b1", "a1", "a2", "a3", "a4"):
        waiting.add(item[0], item)
    assert list(waiting) == ["b1", "a3", "a4"]
