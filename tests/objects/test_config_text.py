"""Configuration texts: what is read of them, and that nothing in one does harm."""

from __future__ import annotations

from typing import Any

import pytest

from webhook.objects.config_text import inside, read_ini, read_yaml


def _aliases(levels: int, aliases: int) -> str:
    """A list, and lists that hold the one above so many times."""
    lines = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * aliases)}]" for level in range(1, levels)]
    return "\n".join(["a0: &a0 [x]", *lines])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: {b: 1}", {"a": {"b": 1}}, id="a-mapping"),
        pytest.param("", {}, id="empty"),
        pytest.param("# nothing", {}, id="a-comment"),
        pytest.param("- a", None, id="a-list"),
        pytest.param("a: {{ .Values.b }}: c", None, id="a-template"),
        pytest.param("a: b\n---\nc: d", None, id="two-documents"),
        pytest.param("a: !!python/object:os.system x", None, id="a-python-object"),
        pytest.param("a: !!bool x", None, id="a-tag-that-does-not-fit"),
        pytest.param("a: !!int ''", None, id="an-empty-number"),
        pytest.param("a: 2001-99-99T00:00:00Z", None, id="a-day-that-never-was"),
        pytest.param("a: " + "[" * 201 + "]" * 201, None, id="nested-too-deeply"),
        pytest.param("a: " + "[" * 100_000, None, id="nested-far-too-deeply"),
        pytest.param("a: " + "x" * ((1 << 18) - 3), {"a": "x" * ((1 << 18) - 3)}, id="as-long-as-is-read"),
        pytest.param("a: " + "x" * ((1 << 18) - 2), None, id="longer-than-is-read"),
        pytest.param("a: &a [x]\nb: [*a, *a]", {"a": ["x"], "b": [["x"], ["x"]]}, id="aliases"),
        pytest.param(_aliases(levels=8, aliases=9), None, id="aliases-that-grow"),
        pytest.param(_aliases(levels=300, aliases=1), None, id="aliases-that-nest-too-deeply"),
    ],
)
def test_yaml(text: str, expected: Any) -> None:
    assert read_yaml(text) == expected


def test_an_anchor_that_contains_itself_is_no_trap() -> None:
    found = read_yaml("a: &a {b: *a}")
    assert inside(found, "a", "b", "b", "b", "c") is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param(("a", "b"), 1, id="there"),
        pytest.param(("a", "c"), None, id="not-there"),
        pytest.param(("a", "b", "c"), None, id="below-what-is-no-mapping"),
        pytest.param((), {"a": {"b": 1}}, id="itself"),
    ],
)
def test_inside(keys: tuple[str, ...], expected: Any) -> None:
    assert inside({"a": {"b": 1}}, *keys) == expected


def test_ini() -> None:
    text = """
app_mode = production
[database]
# type = sqlite3
; type = sqlite3
type = `postgres`
url=mysql://a:b=c@d/e
    host = "x"
no value
[half = open
closed] = half
[ server ]
type = mysql
"""
    assert read_ini(text) == {
        "": {"app_mode": "production"},
        "database": {"type": "postgres", "url": "mysql://a:b=c@d/e", "host": "x", "[half": "open", "closed]": "half"},
        "server": {"type": "mysql"},
    }
