"""The scan that finds values in JSON which the decoder can't take."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.objects.wire import ITEM, MANAGED_FIELDS, UNDECODABLE, cut, decode, find


@pytest.mark.parametrize(
    ("body", "paths", "found"),
    [
        pytest.param(b'{"a": 1, "b": 2}', [("b",)], [b" 2"], id="number"),
        pytest.param(b'{"a":{"b":[1]},"b":2}', [("a", "b")], [b"[1]"], id="the-path-counts-not-the-name"),
        pytest.param(b'{"a":"\\"},b\\\\","b":2}', [("b",)], [b"2"], id="signs-in-strings"),
        pytest.param(b'{"a":["b",{"b":1}],"b":2}', [("b",)], [b"2"], id="a-value-is-no-key"),
        pytest.param(b'{"i":[{"m":1},{},{"m":[]}]}', [("i", ITEM, "m")], [b"1", b"[]"], id="in-every-item"),
        pytest.param(b'{"i":[1,[2],{}]}', [("i", ITEM)], [b"1", b"[2]", b"{}"], id="items"),
        pytest.param(b'{"i":[ ],"j":{}}', [("i", ITEM), ("j", ITEM)], [], id="no-items"),
        pytest.param(b'{"i":{"a":1}}', [("i", ITEM)], [], id="an-object-has-no-items"),
        pytest.param(b'{"i":["a"]}', [("i", "a")], [], id="a-list-has-no-keys"),
        pytest.param(b'{"a":1,"b":2,"c":{"d":3}}', [("a",), ("c", "d")], [b"1", b"3"], id="two-paths"),
        pytest.param(b'{"\xff":{"\xff":1},"b":"\xfe"}', [("b",)], [b'"\xfe"'], id="no-utf-8"),
        pytest.param(b'{"a":[1,2', [("a", ITEM)], [b"1"], id="cut-off"),
        pytest.param(b"]}{", [("a",)], [], id="closed-before-opened"),
        pytest.param(b'{"a":{"b', [("c",)], [], id="cut-off-in-what-is-passed-over"),
    ],
)
def test_found(body: bytes, paths: list[tuple[str, ...]], found: list[bytes]) -> None:
    assert [body[begins:ends] for begins, ends in find(body, *paths)] == found


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["a", "b", 'c"{'],
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(document=_JSON, indent=st.sampled_from([None, 1]))
def test_what_is_cut_is_what_json_has_there(document: object, indent: int | None) -> None:
    body = json.dumps({"top": document, "after": 1}, indent=indent).encode()
    expected = json.loads(body)
    for item in expected["top"] if isinstance(expected["top"], list) else ():
        if isinstance(item, dict) and "a" in item:
            item["a"] = None
    assert json.loads(cut(body, ("top", ITEM, "a"))) == expected


class Named(msgspec.Struct):
    metadata: dict[str, msgspec.Raw]


def _with_managed_fields(managed: bytes) -> bytes:
    return b'{"metadata":{"name":"x","managedFields":' + managed + b'},"spec":{"a":1}}'


@pytest.mark.parametrize(
    "managed",
    [
        pytest.param(b'[{"fieldsV1":{"f:\xff":{}}}]', id="a-byte-that-is-no-utf-8"),
        pytest.param(b'[{"fieldsV1":' + b'{"f:a":' * 9_000 + b"{}" + b"}" * 9_000 + b"}]", id="9000-levels"),
    ],
)
def test_managed_fields_cost_nothing_else(managed: bytes) -> None:
    body = _with_managed_fields(managed)
    assert decode(body, dict[str, msgspec.Raw], MANAGED_FIELDS).keys() == {"metadata", "spec"}
    assert bytes(decode(body, Named, MANAGED_FIELDS).metadata["name"]) == b'"x"'
    assert json.loads(cut(body, MANAGED_FIELDS)) == {"metadata": {"name": "x", "managedFields": None}, "spec": {"a": 1}}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        pytest.param(b'{"metadata":{"\xff":1}}', {"\ufffd"}, id="a-byte-that-is-no-utf-8"),
        pytest.param(b'{"metadata":{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}}", {"a"}, id="9000-levels"),
    ],
)
def test_what_is_read_is_repaired(body: bytes, names: set[str]) -> None:
    assert decode(body, Named, MANAGED_FIELDS).metadata.keys() == names


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b'{"metadata":1}', msgspec.ValidationError, id="another-type"),
        pytest.param(b'{"metadata":{', msgspec.DecodeError, id="cut-off"),
    ],
)
def test_anything_else_stays_an_error(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(UNDECODABLE) as raised:
        decode(body, Named, MANAGED_FIELDS)
    assert raised.type is error


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b'{"a":', id="objects"),
        pytest.param(b"[", id="lists"),
        pytest.param(b'"', id="strings"),
        pytest.param(b'\\"', id="escaped-quotes"),
        pytest.param(b'{"i":["', id="mixed"),
        pytest.param(b"1,", id="numbers"),
    ],
)
def test_a_million_signs_are_no_more_than_a_million_steps(part: bytes) -> None:
    """It would take hours if each sign were looked for in all that follows it."""
    assert list(find(b'{"i":[' + part * 1_000_000, ("j",))) == []
    list(find(b'{"i":[' + part * 100_000, ("i", ITEM, "i", ITEM)))
