"""Kubernetes objects in files: which files are meant, the documents in them, and the lines to look at."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from webhook.errors import BadManifest
from webhook.files.kubectl_yaml import Builder, UnreadableError, compose, decode_json, sources
from webhook.policy import Object

STDIN: Final = "-"
SUFFIXES: Final = (".yaml", ".yml", ".json")


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

    A folder that can't be read is among them, for `read_file` to say so: it must not hide what can be. Raises
    BadManifest for what doesn't exist, or holds no manifests: a typo must not pass as "no violations".
    """
    return list(dict.fromkeys(file for path in paths for file in _files_of(path)))


def _files_of(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if os.path.isdir(path):  # noqa: PTH112 - pathlib would drop the "./" that the user typed
        return _files_in(path)
    if os.path.exists(path):  # noqa: PTH110
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

    def keep(error: OSError) -> None:
        found.append(error.filename)

    for parent, folders, names in os.walk(folder, onerror=keep):
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
            if sys.stdin is None:
                return [], [BadManifest("<stdin>", 1, "not readable: standard input is closed")]
            return read_manifests(sys.stdin.buffer.read(), "<stdin>")
        with open(file, "rb") as stream:  # noqa: PTH123
            return read_manifests(stream.read(), file)
    except OSError as error:
        return [], [BadManifest(file, 1, f"not readable: {error.strerror}")]


# Documents -----------------------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(rb"\n(?=---|\.\.\.[ \t\r]*(?:\n|\Z))")
_START = re.compile(rb"(?:---|\.\.\.)?(?:[ \t\r\n]+|#[^\n]*)*")
_SAME_LINE = re.compile(rb"---[ \t]*[^ \t\r\n#]")
_JSON = re.compile(rb'\s*\{\s*"')
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
        raise UnreadableError("text after the separator '---': put it on a line of its own")
    start = _START.match(chunk)
    return start.end() if start else 0


class _Reader:
    """Reads one file, chunk by chunk."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.manifests: list[Manifest] = []
        self.errors: list[BadManifest] = []
        self.builder = Builder()

    def read(self, chunk: bytes, line: int) -> None:
        start = 0
        try:
            start = _start_of(chunk)
            if start < len(chunk):
                self._read(chunk, line, start)
        except UnreadableError as error:
            self._refuse(chunk, line, chunk.count(b"\n", 0, start) if error.line is None else error.line, str(error))
        except yaml.YAMLError as error:
            self._refuse(chunk, line, *_explain(error, chunk))

    def _read(self, chunk: bytes, line: int, start: int) -> None:
        if chunk.startswith(b"..."):
            raise UnreadableError("text after '...': begin a document with '---'")
        if not (chunk.startswith(b"{", start) and self._read_json(chunk, line)):
            self._read_yaml(chunk, line)

    def _read_yaml(self, chunk: bytes, line: int) -> None:
        root = compose(chunk)
        if root is None or (built := self.builder.build_document(root, len(chunk))) is None:
            return
        document = _Document(chunk, line, root)
        self._add(built, document, line + root.start_mark.line)
        document.root = None

    def _read_json(self, chunk: bytes, line: int) -> bool:
        """Read JSON objects, one after the other; False if there is anything else, which may be YAML."""
        text = chunk.decode()
        decoded = decode_json(text)
        for start, end, value in decoded:
            skipped = text.count("\n", 0, start)
            try:
                self._add(value, _Document(text[start:end].encode(), line + skipped), line + skipped)
            except UnreadableError as error:
                self._refuse(chunk, line, skipped, str(error))
        return bool(decoded)

    def _add(self, built: Any, document: _Document, line: int | None, path: str = "") -> None:
        """Add the object, or the items of a list, each under its own line; None is a line to look up if asked for."""
        where = f"{path}: " if path else ""
        if not isinstance(built, dict):
            raise UnreadableError(f"{where}not a Kubernetes object: {_describe(built)}, not a mapping")
        for name in ("kind", "apiVersion"):
            if not isinstance(built.get(name), str) or not built[name]:
                raise UnreadableError(f"{where}not a Kubernetes object: no '{name}'")
        if built["apiVersion"].count("/") > 1:
            raise UnreadableError(f"{where}not a Kubernetes object: apiVersion {built['apiVersion']!r}")
        kind, items = built["kind"], built.get("items")
        if isinstance(items, list) or (kind == "List" and items is None):
            self._add_items(built, document, path)
        elif kind.endswith("List") and items is not None:
            raise UnreadableError(f"{where}'items' of {kind} is {_describe(items)}, not a list")
        elif not isinstance(built.get("metadata") or {}, dict):
            raise UnreadableError(f"{where}'metadata' of {kind} is {_describe(built['metadata'])}, not a mapping")
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
            except UnreadableError as error:
                self.errors.append(BadManifest(self.file, line or document.line_of(at), str(error)))

    def _refuse(self, chunk: bytes, line: int, relative: int, message: str) -> None:
        near = b"\n".join(chunk.split(b"\n")[max(relative - 1, 0) : relative + 1])
        hint = _HINT if b"{{" in near or _TEMPLATE_LINE.search(chunk) else ""
        self.errors.append(BadManifest(self.file, line + relative, message + hint))


def _describe(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _explain(error: yaml.YAMLError, chunk: bytes) -> tuple[int, str]:
    """Return the line, from 0, and what the parser of what it looks like says, in one line of text."""
    if _JSON.match(chunk):
        try:
            json.loads(chunk)
        except json.JSONDecodeError as broken:
            return broken.lineno - 1, f"broken JSON: {broken.msg}"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        return (mark.line if mark else 0), f"broken YAML: {said}"
    position = getattr(error, "position", 0)  # yaml.reader.ReaderError counts bytes
    return chunk.count(b"\n", 0, position), f"broken YAML: {getattr(error, 'reason', error)}"


# Lines ---------------------------------------------------------------------------------------------------------------

_INDEX = re.compile(r"\[([0-9]+)\]\.?")
_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def _compose_again(text: bytes) -> Node | None:
    """Compose a document for its lines; None for what only a JSON parser takes, such as very long keys."""
    if text.startswith(b"{"):
        # JSON writes 😀 as two escapes, which YAML refuses; they have no part in the lines.
        text = _SURROGATES.sub(rb"\\u0020", text)
    try:
        return compose(text)
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
    merged = (source for key, value in node.value if key.value == "<<" for source in sources(value))
    return next((step for source in merged if (step := _step(source, path))), None)


def _leads(key: Node, path: str) -> bool:
    return isinstance(key, ScalarNode) and path.startswith(key.value) and path[len(key.value) :][:1] in ("", ".", "[")
