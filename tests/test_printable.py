"""What objects hold is quoted in messages, and obeyed by no terminal that shows them."""

from __future__ import annotations

import pytest

from webhook.objects.owners import operator_of
from webhook.policy import Observation, Reference, Violation, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("container 'ä…→' has no limit", "container 'ä…→' has no limit", id="letters-and-signs"),
        pytest.param("first\nsecond", "first\nsecond", id="lines"),
        pytest.param("\x1b[31mred\x07", r"\x1b[31mred\x07", id="escape-sequence-and-bell"),
        pytest.param("a\rb\tc", r"a\rb\tc", id="carriage-return-and-tab"),
        pytest.param("\u202eabc\u2028\x9b", r"\u202eabc\u2028\x9b", id="direction-separator-c1"),
        pytest.param("\ud800", r"\ud800", id="half-a-pair"),
    ],
)
def test_every_message_is_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert Violation("spec", "web", text).message == shown
    assert Observation(Reference("Pod", "shop", "web"), "web", text).message == shown


def test_an_owner_s_name_is_printable() -> None:
    reference = {"apiVersion": "x.example/v1", "kind": "\x1b[31m", "name": "\x07", "controller": True}
    assert operator_of({"metadata": {"ownerReferences": [reference]}}) == r"\x1b[31m \x07"
