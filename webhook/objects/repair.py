"""JSON that a decoder refuses although the API server took it, written so that any decoder reads it.

The API server reads with Go, which goes on where Python's decoders stop: at a byte that is no UTF-8, at half a
surrogate pair, after a thousand levels of nesting. All of that is stored, and forwarded. What is done about it here are
loops over bytes, in time proportional to their number: nothing recurses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

DEPTH = 100
"""Levels of nesting that are kept: no field that anybody reads lies so deep, and any decoder goes there."""

# Nothing in these may be tried twice: they run over what an attacker wrote.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+"
NEXT_BRACKET = re.compile(rb"(?:" + _FLAT + rb"[\[{]" + _FLAT + rb"[\]}])*+" + _FLAT + rb"([\[\]{}])", re.DOTALL)
"""Matches up to the next bracket; a map or list that holds no others, as most do, is passed over as a whole."""
# A pair is taken as a whole, and so is an escaped backslash: what remains of \ud800 to \udfff is half a pair.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
_PLAIN = rb"-?[0-9]{1,200}+(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]{1,2}+)?+(?![0-9eE])"
_NUMBER = rb"(-?[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+(?![0-9.eE]))"
_HUGE = re.compile(rb'((?:[^"0-9-]++|' + _STRING + rb"|" + _PLAIN + rb")*+)" + _NUMBER, re.DOTALL)
_CONTROLS = bytes(max(byte, 0x20) for byte in range(256))


def repair(body: bytes | bytearray) -> bytes:
    """The same JSON, with null for maps and lists at DEPTH that hold others.

    As Go does it, bytes that are no UTF-8 and half surrogate pairs become U+FFFD. Numbers that no float holds become
    strings, which to a quantity are the same amount. What is no JSON remains none.
    """
    text = bytes(body).translate(_CONTROLS).decode("utf-8", "replace").encode()
    return b"".join(_quoted_numbers(_ESCAPE.sub(_whole, b"".join(_shallow(text)))))


def _shallow(text: bytes) -> Iterator[bytes]:
    kept = start = level = position = 0
    while bracket := NEXT_BRACKET.match(text, position):
        position = bracket.end()
        if bracket[1] in b"[{":
            level += 1
            if level == DEPTH:
                start = position - 1
        else:
            if level == DEPTH:
                yield text[kept:start] + b"null"
                kept = position
            level -= 1
    yield text[kept:]


def _whole(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


def _quoted_numbers(text: bytes) -> Iterator[bytes]:
    position = 0
    while match := _HUGE.match(text, position):
        yield b'%b"%b"' % match.groups()
        position = match.end()
    yield text[position:]
