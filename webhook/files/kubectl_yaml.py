"""YAML and JSON read as kubectl reads them: text to nodes, and nodes to plain data.

libyaml composes the nodes, and this module makes plain data of them by go-yaml's rules, which are neither YAML 1.1 nor
1.2: `on` is true, 0777 and 0o777 are octal, 190:20:30 and 2001-12-14 are text, a number is a key's text, the last of
two equal keys wins. tests/data/manifests/kubectl.json holds what kubectl itself makes of each case. Three differences
are meant: anything after "..." is an error (kubectl drops it in silence), and so are bytes that are not UTF-8 (kubectl
puts U+FFFD in their place) and more than 200 levels of nesting (kubectl: 10,000).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from yaml.composer import Composer, ComposerError
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.error import Mark
from yaml.events import AliasEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.scanner import ScannerError

MAX_DEPTH: Final = 200
MAX_UNBOUNDED: Final = 10_000
"""Bytes that can't nest deep enough to harm libyaml's composer."""
MAX_ALIASED: Final = 400_000
"""Values that a document may unfold to by its aliases. Without aliases it can't hold more than it has bytes."""


class UnreadableError(Exception):
    """A document that cannot be used; `line` counts from the first of its chunk, which is 0."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _TooDeepError(UnreadableError):
    def __init__(self, mark: Mark | None) -> None:
        message = f"nested deeper than {MAX_DEPTH} levels, or an anchor contains itself"
        super().__init__(message, mark.line if mark else 0)


# Nodes to data -------------------------------------------------------------------------------------------------------


class _Composer(CParser):
    """Nodes without resolved tags: a node's tag is what was written, or empty."""

    def __init__(self, text: bytes) -> None:
        CParser.__init__(self, text)

    @staticmethod
    def resolve(_kind: type[Node], _value: str | None, _implicit: object) -> str:
        return ""

    def descend_resolver(self, parent: Node | None, index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


class _BoundedComposer(_Composer):
    """Counts the levels, a fifth slower: libyaml's composer overflows the C stack at some 50,000."""

    depth = 0

    def descend_resolver(self, parent: Node | None, index: object) -> None:  # noqa: ARG002 - libyaml's signature
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(parent.start_mark if parent else None)

    def ascend_resolver(self) -> None:
        self.depth -= 1


class _AnchorComposer(Composer, _BoundedComposer):
    """Composes more slowly what the one in C refuses: an anchor that is set again."""

    def __init__(self, text: bytes) -> None:
        _BoundedComposer.__init__(self, text)
        Composer.__init__(self)

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        if isinstance(event, NodeEvent) and not isinstance(event, AliasEvent):
            self.anchors.pop(event.anchor, None)
        return super().compose_node(parent, index)


def compose(text: bytes) -> Node | None:
    """Compose the document; None if it is empty."""
    try:
        composer = _BoundedComposer if len(text) > MAX_UNBOUNDED else _Composer
        return composer(text).get_single_node()
    except ComposerError as error:
        if "duplicate anchor" not in str(error.context):
            raise
        return _AnchorComposer(text).get_single_node()
    except ScannerError as error:
        if error.problem == "exceeded maximum nesting depth":  # libyaml's own bound, since 0.2.6
            raise _TooDeepError(error.problem_mark) from error
        raise


class _Plain(dict[str, Any]):
    """A cache: unquoted text -> its value."""

    def __missing__(self, text: str) -> Any:
        value = self[text] = _resolve(text)
        return value


class _Names(dict[str, str | None]):
    """A cache: unquoted key -> its name in JSON; None for the merge key."""

    def __missing__(self, text: str) -> str | None:
        name = self[text] = None if text == "<<" else _name(_resolve(text))
        return name


class Builder:
    """Makes plain data of nodes. Values that an alias repeats are made anew: the engine may change one of them."""

    def __init__(self) -> None:
        self.plain = _Plain()
        self.names = _Names()
        self.left = 0
        self.depth = 0

    def build_document(self, root: Node, size: int) -> Any:
        self.left = max(size, MAX_ALIASED)
        self.depth = 0
        return self.build(root)

    def build(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            if node.tag:
                return _resolve_tagged(node)
            return node.value if node.style else self.plain[node.value]
        self.left -= len(node.value)
        self.depth += 1
        if self.left < 0:
            raise UnreadableError(f"aliases unfold to more than {MAX_ALIASED:,} values", node.start_mark.line)
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(node.start_mark)
        built: Any
        if isinstance(node, SequenceNode):
            built = [self.build(value) for value in node.value]
        else:
            built = self._build_mapping(node.value)
        self.depth -= 1
        return built

    def _build_mapping(self, pairs: list[tuple[Node, Node]]) -> dict[str, Any]:
        names, plain = self.names, self.plain
        built: dict[str, Any] = {}
        key = None
        try:
            for key, value in pairs:
                if not isinstance(key, ScalarNode):
                    raise _ValueError("a mapping or list as a key")  # noqa: TRY301 - a call for each key costs
                if key.tag:
                    name: str | None = _name(_resolve_tagged(key))
                else:
                    name = key.value if key.style else names[key.value]
                if name is None:
                    self._merge(value, built)
                elif isinstance(value, ScalarNode) and not value.tag:
                    built[name] = value.value if value.style else plain[value.value]
                else:
                    built[name] = self.build(value)
        except _ValueError as error:
            raise UnreadableError(str(error), key.start_mark.line if key else None) from None
        return built

    def _merge(self, value: Node, into: dict[str, Any]) -> None:
        """Apply "<<" where it stands: kubectl lets it override the keys before it."""
        for source in sources(value):
            if not isinstance(source, MappingNode):
                raise _ValueError("'<<' takes a mapping, or a list of mappings")
            into.update(self.build(source))


def sources(merged: Node) -> list[Node]:
    """The maps that a "<<" key merges, in the order in which kubectl applies them."""
    return merged.value[::-1] if isinstance(merged, SequenceNode) else [merged]


# Scalars -------------------------------------------------------------------------------------------------------------

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NULL = ("", "~", "null", "Null", "NULL")
_WORDS: Final[dict[str, bool | None]] = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False) | dict.fromkeys(_NULL)
_NO_JSON = frozenset(sign + word for word in (".inf", ".Inf", ".INF") for sign in ("", "+", "-")) | {
    ".nan",
    ".NaN",
    ".NAN",
}
_NUMERIC = frozenset("0123456789+-.")
_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BASES = (16, 2, 8, 10)


class _ValueError(ValueError):
    """A value that JSON, and so Kubernetes, can't hold."""


def _resolve(text: str) -> Any:
    """Return what go-yaml makes of unquoted text: "0o17" -> 15, "on" -> True, "1.2.3" -> itself."""
    if text[:1] not in _NUMERIC:
        return _WORDS.get(text, text)
    if text in _NO_JSON:
        raise _ValueError(f"{text} is no value in JSON")
    digits = text if text[0] == "." else text.replace("_", "")
    if match := _INTEGER.fullmatch(digits):
        groups = match.groups()[1:]
        base, written = next((base, group) for base, group in zip(_BASES, groups, strict=True) if group)
        integer = int(match[1] + written, base) if len(written) < 65 else 2**64
        if -(2**63) <= integer < 2**64:
            return _as_json_number(integer)
    if _FLOAT.fullmatch(digits) and math.isfinite(number := float(digits)):
        return _as_json_number(number)
    return text


def _as_json_number(number: float) -> int | float:
    """Return what is left of a number when kubectl has passed it through JSON: 1.0 is 1, and 2⁶³ a float."""
    if abs(number) < 2**63 and number == int(number):
        return int(number)
    return number if number == -(2**63) and isinstance(number, int) else float(number)


def _name(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        raise _ValueError("null as a key")
    return str(value)


def _resolve_tagged(node: Node) -> Any:
    """Return the value of a scalar with a written tag; tags of one's own mean text."""
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag == "binary":
        return _decode_base64(node.value)
    accepted = {
        "int": lambda value: type(value) is int,
        "float": lambda value: type(value) in (int, float),
        "bool": lambda value: type(value) is bool,
        "null": lambda value: value is None,
    }.get(tag)
    if accepted is None:
        return node.value
    value = _resolve(node.value)
    if not accepted(value):
        raise _ValueError(f"cannot read {node.value!r} as !!{tag}")
    return value


def _decode_base64(text: str) -> str:
    import base64  # noqa: PLC0415 - hardly ever needed, and start-up counts

    try:
        return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
    except ValueError:
        raise _ValueError("!!binary that is not base64") from None


# JSON ----------------------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"(?:---[^\n]*)?\s*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decode_json(text: str) -> list[tuple[int, int, Any]]:
    """Return where each JSON value starts and ends, and the value; nothing if anything else is among them."""
    import json  # noqa: PLC0415 - most files are YAML

    decoder = json.JSONDecoder(parse_float=_json_float, parse_int=_json_integer, parse_constant=_json_float)
    decoded: list[tuple[int, int, Any]] = []
    try:
        start = _after_space(text, 0)
        while start < len(text):
            value, end = decoder.raw_decode(text, start)
            if _SURROGATE.search(text, start, end):
                json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can't be encoded as text
            decoded.append((start, end, value))
            start = _after_space(text, end)
    except (ValueError, OverflowError, RecursionError):
        return []
    return [] if any(_is_deep(value) for _, _, value in decoded) else decoded


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _json_float(text: str) -> int | float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return _as_json_number(number)


def _json_integer(text: str) -> int | float:
    return _as_json_number(int(text))


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ())
        ]
        if not level:
            return False
    return True
