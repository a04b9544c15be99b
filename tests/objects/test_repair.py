"""What Python's decoders refuse of what the API server forwards, made readable."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.objects.repair import DEPTH, repair


def nested(levels: int, inner: bytes = b"1") -> bytes:
    return b"[" * levels + inner + b"]" * levels


def read(body: bytes) -> object:
    return msgspec.json.decode(repair(body))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b'"a\xffb"', "a\ufffdb", id="no-utf-8"),
        pytest.param(b'{"a\xff": 1}', {"a\ufffd": 1}, id="no-utf-8-in-a-key"),
        pytest.param(b'"a\xed\xa0\x80"', "a\ufffd\ufffd\ufffd", id="half-a-pair-in-utf-8"),
        pytest.param(rb'"a\ud800"', "a\ufffd", id="first-half-of-a-pair"),
        pytest.param(rb'"\udc00a"', "\ufffda", id="second-half-of-a-pair"),
        pytest.param(rb'"\ud800\ud83d\ude00"', "\ufffd\U0001f600", id="half-a-pair-before-a-whole-one"),
        pytest.param(rb'"\\ud800"', r"\ud800", id="an-escaped-backslash"),
        pytest.param(rb'"\\\uD800"', "\\\ufffd", id="an-escaped-backslash-before-half-a-pair"),
        pytest.param(rb'"\u0000"', "\0", id="escaped-nul"),
        pytest.param(b'"a\0\x1fb"', "a  b", id="raw-control-characters"),
        pytest.param(b"[1e400, -1e5000]", ["1e400", "-1e5000"], id="above-what-floats-hold"),
        pytest.param(
            b"[1e99, 1.5e-9, -0, 12345678901234567890]", [1e99, 1.5e-9, 0, 12345678901234567890], id="numbers"
        ),
        pytest.param(b"[" + b"9" * 5000 + b"]", ["9" * 5000], id="more-digits-than-python-reads"),
        pytest.param(b'["1e400", "-"]', ["1e400", "-"], id="a-number-in-a-string"),
        pytest.param(b"[1e-400]", ["1e-400"], id="below-what-floats-hold"),
    ],
)
def test_unreadable_values_are_written_anew(body: bytes, value: object) -> None:
    assert read(body) == value


@pytest.mark.parametrize(
    ("levels", "kept"),
    [
        pytest.param(DEPTH - 3, DEPTH - 3, id="just-so-deep"),
        pytest.param(DEPTH - 2, DEPTH - 3, id="a-level-deeper"),
        pytest.param(100_000, DEPTH - 3, id="far-deeper"),
    ],
)
def test_depth(levels: int, kept: int) -> None:
    """Two levels lead to the lists, the map in them is the last one."""
    metadata = read(b'{"metadata": {"a": ' + nested(levels, b"{}") + b', "b": 1}}')["metadata"]
    assert metadata["b"] == 1
    value, depth = metadata["a"], 0
    while isinstance(value, list):
        (value,), depth = value, depth + 1
    assert (value, depth) == ({} if levels == kept else None, kept)


@pytest.mark.parametrize("body", [b"", b"{", b"}", b'{"a"', b'{"a":', b'["', b"[1 2", b'{"a" 1}', b"1e1e1", b"]" * 200])
def test_what_is_no_json_remains_none(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(body)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(_JSON)
def test_readable_texts_keep_their_meaning(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert read(text.encode()) == json.loads(text)


@given(st.binary() | st.text('[]{}",:\\ 1e-.0ud8', max_size=60).map(str.encode))
def test_any_bytes_end(body: bytes) -> None:
    repair(body)


@pytest.mark.parametrize(
    "part", [b"[", b'{"a":', b'"', b"\\", b'["a",', b"1.", b"1e1", b"-", b"\\ud800", b"\xff", b"[]"]
)
def test_a_million_signs_are_no_more_than_a_million_steps(part: bytes) -> None:
    """It would take hours if each were tried at every byte that follows."""
    repair(part * 300_000)
    repair(b'{"a":"' + part * 300_000)
