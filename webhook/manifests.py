"""Kubernetes objects in files: which files are meant, and YAML and JSON read as kubectl reads them.

libyaml composes the nodes, and this module makes plain data of them by go-yaml's rules, which are neither YAML 1.1 nor
1.2: `on` is true, 0777 and 0o777 are octal, 190:20:30 and 2001-12-14 are text, a number is a key's text, the last of
two equal keys wins. tests/data/manifests/kubectl.json holds what kubectl itself makes of each case. Three differences
are meant: anything after "..." is an error (kubectl drops it in silence), and so are bytes that are not UTF-8 (kubectl
puts U+FFFD in their place) and more than 200 levels of nesting (kubectl: 10,000).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import yaml
from yaml.composer import Composer, ComposerError
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.events import AliasEvent, NodeEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from webhook.errors import BadManifest
from webhook.policy import Object

STDIN: Final = "-"
SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_DEPTH: Final = 200
MAX_UNBOUNDED: Final = 10_000
"""Bytes that can't nest deep enough to harm libyaml's composer."""
MAX_ALIASED: Final = 400_000
"""Values that a document may unfold to by its aliases. Without aliases it can't hold more than it has bytes."""


@dataclass(slots=True)
class _Document:
    """The text that lines are looked up in. Composing it again when somebody asks costs less than keeping its nodes."""

    text: bytes
    first_line: int
    root: Node | None = None

    def line_of(self, path: str) -> int:
        if self.root is None:
            self.root = _compose_again(self.text)
        return self.first_line + (_find_line(self.root, path) if self.root else 0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file, unfolded from its List."""

    file: str
    object: Object
    _document: _Document = field(repr=False, compare=False)
    _line: int | None = field(repr=False, compare=False)
    _path: str = field(repr=False, compare=False)

    @property
    def line(self) -> int:
        """Its first line, counted from one."""
        return self._document.line_of(self._path) if self._line is None else self._line

    def line_of(self, path: str) -> int:
        """The line of "spec.containers[0].image", or of its nearest ancestor that the file has."""
        return self._document.line_of(".".join(part for part in (self._path, path) if part))


# Files ---------------------------------------------------------------------------------------------------------------


def find_files(paths: Sequence[str]) -> list[str]:
    """Return the files meant by files, folders, globs and "-", each once, in the order given; folders are sorted.

    Raises BadManifest for what doesn't exist, can't be read, or holds no manifests: a typo must not pass as "no
    violations".
    """
    return list(dict.fromkeys(file for path in paths for file in _files_of(path)))


def _files_of(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if os.path.isdir(path):  # noqa: PTH112 - pathlib would drop the "./" that the user typed
        return _files_in(path)
    if os.path.exists(path):  # noqa: PTH110
        if not os.access(path, os.R_OK):
            raise BadManifest(path, 1, "not readable: permission denied")
        return [path]
    if any(sign in path for sign in "*?["):
        import glob  # noqa: PLC0415 - hardly ever needed, and start-up counts

        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if "**" in path:  # It meets every folder by the way, empty ones too, and their files besides.
            matches = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
        if not matches:
            raise BadManifest(path, 1, "no file matches this pattern")
        return [file for match in matches for file in _files_of(match)]
    raise BadManifest(path, 1, "no such file or folder")


def _files_in(folder: str) -> list[str]:
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise BadManifest(error.filename, 1, f"not readable: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)  # noqa: PTH118
            for name in names
            if name.endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not found:
        raise BadManifest(folder, 1, "no *.yaml, *.yml or *.json file in this folder")
    return sorted(found)


def read_file(file: str) -> tuple[list[Manifest], list[BadManifest]]:
    """Read one of `find_files`' answers; see `read_manifests`."""
    try:
        if file == STDIN:
            return read_manifests(sys.stdin.buffer.read(), "<stdin>")
        with open(file, "rb") as stream:  # noqa: PTH123
            return read_manifests(stream.read(), file)
    except OSError as error:
        return [], [BadManifest(file, 1, f"not readable: {error.strerror}")]


# Documents -----------------------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(rb"\n(?=---|\.\.\.[ \t\r]*(?:\n|\Z))")
_START = re.compile(rb"(?:---|\.\.\.)?(?:[ \t\r\n]+|#[^\n]*)*")
_SAME_LINE = re.compile(rb"---[ \t]*[^ \t\r\n#]")
_TEMPLATE_LINE = re.compile(rb"^[ \t]*(?:- +)?\{\{", re.MULTILINE)
_HINT: Final = "; looks like a template: render it first (helm template … | forestall check -)"


def read_manifests(text: bytes, file: str) -> tuple[list[Manifest], list[BadManifest]]:
    """Read every object of a file, and say of each document that can't be read where and why.

    Lists are unfolded, empty documents are nothing. It makes many objects and no garbage: on many files, reading with
    the collector off takes a sixth less time.
    """
    reader = _Reader(file)
    try:
        text = _as_utf8(text, file)
    except BadManifest as error:
        return [], [error]
    line = 1
    for chunk in _split(text):
        reader.read(chunk, line)
        line += chunk.count(b"\n")
    return reader.manifests, reader.errors


def _as_utf8(text: bytes, file: str) -> bytes:
    """Return the text in UTF-8 and without byte order mark; kubectl too takes UTF-16 by its mark."""
    encoding = "utf-16" if text.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        decoded = text.decode(encoding)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise BadManifest(file, line, f"not UTF-8: byte 0x{text[error.start]:02x}; save the file as UTF-8") from None
    return text.removeprefix(b"\xef\xbb\xbf") if encoding == "utf-8" else decoded.encode()


def _split(text: bytes) -> Iterator[bytes]:
    """Cut before every line that starts with "---", as kubectl does before it parses: one broken document leaves the
    others whole."""
    cuts = [0, *(match.end() for match in _SEPARATOR.finditer(text)), len(text)]
    return (text[start:end] for start, end in pairwise(cuts) if start < end)


def _start_of(chunk: bytes) -> int:
    """Where the document itself starts, behind its separator, blank lines and comments."""
    if _SAME_LINE.match(chunk):
        raise _UnreadableError("text after the separator '---': put it on a line of its own")
    start = _START.match(chunk)
    return start.end() if start else 0


class _Reader:
    """Reads one file, chunk by chunk."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.manifests: list[Manifest] = []
        self.errors: list[BadManifest] = []
        self.builder = _Builder()

    def read(self, chunk: bytes, line: int) -> None:
        start = 0
        try:
            start = _start_of(chunk)
            if start < len(chunk):
                self._read(chunk, line, start)
        except _UnreadableError as error:
            self._refuse(chunk, line, chunk.count(b"\n", 0, start) if error.line is None else error.line, str(error))
        except yaml.YAMLError as error:
            self._refuse(chunk, line, *_explain(error, chunk))

    def _read(self, chunk: bytes, line: int, start: int) -> None:
        if chunk.startswith(b"..."):
            raise _UnreadableError("text after '...': begin a document with '---'")
        if not (chunk.startswith(b"{", start) and self._read_json(chunk, line)):
            self._read_yaml(chunk, line)

    def _read_yaml(self, chunk: bytes, line: int) -> None:
        root = _compose(chunk)
        if root is None or (built := self.builder.build_document(root, len(chunk))) is None:
            return
        document = _Document(chunk, line, root)
        self._add(built, document, line + root.start_mark.line)
        document.root = None

    def _read_json(self, chunk: bytes, line: int) -> bool:
        """Read JSON objects, one after the other; False if there is anything else, which may be YAML."""
        text = chunk.decode()
        decoded = _decode_json(text)
        for start, end, value in decoded:
            skipped = text.count("\n", 0, start)
            try:
                self._add(value, _Document(text[start:end].encode(), line + skipped), line + skipped)
            except _UnreadableError as error:
                self._refuse(chunk, line, skipped, str(error))
        return bool(decoded)

    def _add(self, built: Any, document: _Document, line: int | None, path: str = "") -> None:
        """Add the object, or the items of a list, each under its own line; None is a line to look up if asked for."""
        where = f"{path}: " if path else ""
        if not isinstance(built, dict):
            raise _UnreadableError(f"{where}not a Kubernetes object: {_describe(built)}, not a mapping")
        for name in ("kind", "apiVersion"):
            if not isinstance(built.get(name), str) or not built[name]:
                raise _UnreadableError(f"{where}not a Kubernetes object: no '{name}'")
        if built["apiVersion"].count("/") > 1:
            raise _UnreadableError(f"{where}not a Kubernetes object: apiVersion {built['apiVersion']!r}")
        kind, items = built["kind"], built.get("items")
        if isinstance(items, list) or (kind == "List" and items is None):
            self._add_items(built, document, path)
        elif kind.endswith("List") and items is not None:
            raise _UnreadableError(f"{where}'items' of {kind} is {_describe(items)}, not a list")
        elif not isinstance(built.get("metadata") or {}, dict):
            raise _UnreadableError(f"{where}'metadata' of {kind} is {_describe(built['metadata'])}, not a mapping")
        else:
            self.manifests.append(Manifest(self.file, built, document, line, path))

    def _add_items(self, listed: Object, document: _Document, path: str) -> None:
        for index, item in enumerate(listed.get("items") or ()):
            at = f"{path}.items[{index}]" if path else f"items[{index}]"
            # Nodes are at hand for YAML; composing JSON for lines that nobody may want takes longer than reading it.
            line = document.line_of(at) if document.root else None
            # The API server leaves kind and version out of a PodList's items.
            if isinstance(item, dict) and listed["kind"] != "List":
                item = {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List"), **item}  # noqa: PLW2901
            try:
                self._add(item, document, line, at)
            except _UnreadableError as error:
                self.errors.append(BadManifest(self.file, line or document.line_of(at), str(error)))

    def _refuse(self, chunk: bytes, line: int, relative: int, message: str) -> None:
        near = b"\n".join(chunk.split(b"\n")[max(relative - 1, 0) : relative + 1])
        hint = _HINT if b"{{" in near or _TEMPLATE_LINE.search(chunk) else ""
        self.errors.append(BadManifest(self.file, line + relative, message + hint))


class _UnreadableError(Exception):
    """A document that cannot be used; `line` counts from the first of its chunk, which is 0."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _TooDeepError(_UnreadableError):
    def __init__(self, node: Node | None) -> None:
        message = f"nested deeper than {MAX_DEPTH} levels, or an anchor contains itself"
        super().__init__(message, node.start_mark.line if node else 0)


def _describe(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _explain(error: yaml.YAMLError, chunk: bytes) -> tuple[int, str]:
    """Return the line, from 0, and what libyaml says, in one line of text."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        return (mark.line if mark else 0), f"broken YAML: {said}"
    position = getattr(error, "position", 0)  # yaml.reader.ReaderError counts bytes
    return chunk.count(b"\n", 0, position), f"broken YAML: {getattr(error, 'reason', error)}"


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
            raise _TooDeepError(parent)

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


def _compose(text: bytes) -> Node | None:
    """Compose the document; None if it is empty."""
    try:
        composer = _BoundedComposer if len(text) > MAX_UNBOUNDED else _Composer
        return composer(text).get_single_node()
    except ComposerError as error:
        if "duplicate anchor" not in str(error.context):
            raise
        return _AnchorComposer(text).get_single_node()


class _Plain(dict[str, Any]):
    """Unquoted text -> its value."""

    def __missing__(self, text: str) -> Any:
        value = self[text] = _resolve(text)
        return value


class _Names(dict[str, str | None]):
    """Unquoted key -> its name in JSON; None for the merge key."""

    def __missing__(self, text: str) -> str | None:
        name = self[text] = None if text == "<<" else _name(_resolve(text))
        return name


class _Builder:
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
            raise _UnreadableError(f"aliases unfold to more than {MAX_ALIASED:,} values", node.start_mark.line)
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(node)
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
            raise _UnreadableError(str(error), key.start_mark.line if key else None) from None
        return built

    def _merge(self, value: Node, into: dict[str, Any]) -> None:
        """Apply "<<" where it stands: kubectl lets it override the keys before it."""
        for source in _sources(value):
            if not isinstance(source, MappingNode):
                raise _ValueError("'<<' takes a mapping, or a list of mappings")
            into.update(self.build(source))


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


def _decode_json(text: str) -> list[tuple[int, int, Any]]:
    """Return where each JSON value starts and ends, and the value; nothing if anything else is among them."""
    import json  # noqa: PLC0415 - most files are YAML

    decoder = json.JSONDecoder(parse_float=_json_float, parse_int=_json_integer, parse_constant=_json_float)
    decoded: list[tuple[int, int, Any]] = []
    try:
        start = _after_space(text, 0)
        while start < len(text):
            value, end = decoder.raw_decode(text, start)
            if _SURROGATE.search(text, start, end):
                json.dumps(value, ensure_ascii=False).encode()  # half a character is no text
            decoded.append((start, end, value))
            start = _after_space(text, end)
    except (ValueError, RecursionError):
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


# Lines ---------------------------------------------------------------------------------------------------------------

_INDEX = re.compile(r"\[([0-9]+)\]\.?")
_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def _compose_again(text: bytes) -> Node | None:
    """Compose a document for its lines; None for what only a JSON parser takes, such as very long keys."""
    if text.startswith(b"{"):
        # JSON writes 😀 as two escapes, which YAML refuses; they have no part in the lines.
        text = _SURROGATES.sub(rb"\\u0020", text)
    try:
        return _compose(text)
    except yaml.YAMLError:
        return None


def _find_line(root: Node, path: str) -> int:
    """Return the line, from 0, of what the path names, or of its nearest ancestor that is there."""
    node, rest, line = root, path, root.start_mark.line
    while rest and (step := _step(node, rest)):
        named, node, rest = step
        line = named.start_mark.line
    return line


def _step(node: Node, path: str) -> tuple[Node, Node, str] | None:
    """Go one key or index down: what names the child, the child, and the rest of the path."""
    if isinstance(node, SequenceNode):
        index = _INDEX.match(path)
        if index is None or int(index[1]) >= len(node.value):
            return None
        child = node.value[int(index[1])]
        return child, child, path[index.end() :]
    if not isinstance(node, MappingNode):
        return None
    # Keys may hold dots themselves, and the last of two equal ones counts: the longest that fits, from the end.
    named = [(key, value) for key, value in reversed(node.value) if _leads(key, path)]
    if named:
        key, value = max(named, key=lambda pair: len(pair[0].value))
        return key, value, path[len(key.value) :].removeprefix(".")
    merged = (source for key, value in node.value if key.value == "<<" for source in _sources(value))
    return next((step for source in merged if (step := _step(source, path))), None)


def _leads(key: Node, path: str) -> bool:
    return isinstance(key, ScalarNode) and path.startswith(key.value) and path[len(key.value) :][:1] in ("", ".", "[")


def _sources(merged: Node) -> list[Node]:
    """What "<<" names, in the order in which kubectl applies it."""
    return merged.value[::-1] if isinstance(merged, SequenceNode) else [merged]
