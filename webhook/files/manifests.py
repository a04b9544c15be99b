"""Kubernetes objects in files: the documents in them, what is unfolded, and what can't be read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import msgspec
import yaml
from yaml.nodes import SequenceNode

from webhook.errors import BadManifest
from webhook.files.kubectl_yaml import Builder, UnreadableError, compose, decode_json
from webhook.files.lines import Document
from webhook.files.lists import LARGE, cut_json, cut_yaml
from webhook.files.templates import is_template, unfold
from webhook.policy import Object

STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file, unfolded from its List or Template.

    is_listed  it is an item of a List, as a cluster's dump is
    open       the parameters of its Template that have no value, and that stand in it as they were written
    """

    file: str
    _object: Object | bytes = field(repr=False)
    _document: Document = field(repr=False, compare=False)
    _line: int | None = field(repr=False, compare=False)
    _path: str = field(repr=False, compare=False)
    is_listed: bool = False
    open: frozenset[str] = frozenset()

    @property
    def object(self) -> Object:
        return msgspec.json.decode(self._object) if isinstance(self._object, bytes) else self._object

    def packed(self) -> Manifest:
        """From a very large file, the manifest in a quarter of the memory, without its status; else itself."""
        if not isinstance(self._document.text, memoryview) or isinstance(self._object, bytes):
            return self
        return replace(self, _object=msgspec.json.encode({**self._object, "status": None}))

    def forget_lines(self) -> None:
        """Drop the nodes in which lines are looked up: of a very large file they take fifteen times its size."""
        if isinstance(self._document.text, memoryview):
            self._document.root = None

    @property
    def line(self) -> int:
        """Its first line, counted from one."""
        return self._document.line_of(self._path) if self._line is None else self._line

    def line_of(self, path: str) -> int:
        """The line of "spec.containers[0].image", or of its nearest ancestor that the file has."""
        return self._document.line_of(".".join(part for part in (self._path, path) if part))


Take = Callable[[Manifest], None]


class ForeignError(UnreadableError):
    """A document that holds something else than a Kubernetes object."""


# Documents -----------------------------------------------------------------------------------------------------------

_SEPARATOR = re.compile(rb"\n(?=---|\.\.\.[ \t\r]*(?:\n|\Z))")
_START = re.compile(rb"(?:---|\.\.\.)?(?:[ \t\r\n]+|#[^\n]*)*")
_SAME_LINE = re.compile(rb"---[ \t]*[^ \t\r\n#]")
_JSON = re.compile(rb'\s*\{\s*"')
_PULLED = re.compile(rb"Pulled: [^\n]*\n(?:Digest: [^\n]*\n)?")
"""Lines that `helm template oci://…` of Helm 4 prints before the first document."""
_TEMPLATE_LINE = re.compile(rb"^[ \t]*(?:- +)?\{\{", re.MULTILINE)
_HINT: Final = "; looks like a template: render it first (helm template … | forestall check -)"


def read_file(file: str) -> tuple[list[Manifest], list[BadManifest]]:
    """Read a file, or standard input ("-"); see `read_manifests`."""
    manifests: list[Manifest] = []
    return manifests, take_file(file, manifests.append)


def take_file(file: str, take: Take, stdin_name: str = "<stdin>") -> list[BadManifest]:
    """As `read_file`, but every object is handed to `take` once it is read: of a large List nothing else is kept."""
    try:
        if file == STDIN:
            if sys.stdin is None:
                return [BadManifest(stdin_name, 1, "not readable: standard input is closed")]
            return _take_manifests(sys.stdin.buffer.read(), stdin_name, take)
        with open(file, "rb") as stream:  # noqa: PTH123
            return _take_manifests(stream.read(), file, take)
    except OSError as error:
        return [BadManifest(file, 1, f"not readable: {error.strerror}")]


def read_manifests(text: bytes, file: str) -> tuple[list[Manifest], list[BadManifest]]:
    """Read every object of a file, and say of each document that can't be read where and why.

    Lists and Templates are unfolded, empty documents are nothing. It makes many objects and no garbage: on many files,
    reading with the collector off takes a sixth less time.
    """
    manifests: list[Manifest] = []
    return manifests, _take_manifests(text, file, manifests.append)


def _take_manifests(text: bytes, file: str, take: Take) -> list[BadManifest]:
    reader = _Reader(file, take)
    try:
        text = _as_utf8(text, file)
    except BadManifest as error:
        return [error]
    line = 1
    for chunk in _split(text):
        reader.read(chunk, line)
        line += chunk.count(b"\n")
    return reader.errors


def _as_utf8(text: bytes, file: str) -> bytes:
    """Return the text in UTF-8 and without byte order mark; kubectl too takes UTF-16 by its mark."""
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return text.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise BadManifest(file, line, "not UTF-16, as its first bytes say: save the file as UTF-8") from None
    start = 0
    while start < len(text):
        # Line by line or so, since decoding a large file at once takes up to four times its size.
        end = text.find(b"\n", start + LARGE) + 1 or len(text)
        try:
            text[start:end].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            line = text.count(b"\n", 0, at) + 1
            raise BadManifest(file, line, f"not UTF-8: byte 0x{text[at]:02x}; save the file as UTF-8") from None
        start = end
    return text.removeprefix(b"\xef\xbb\xbf")


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

    def __init__(self, file: str, take: Take) -> None:
        self.file = file
        self.take = take
        self.errors: list[BadManifest] = []
        self.builder = Builder()

    def read(self, chunk: bytes, line: int) -> None:
        if line == 1 and _PULLED.fullmatch(chunk):
            return
        start = 0
        try:
            start = _start_of(chunk)
            if start < len(chunk):
                self._read(chunk, line, start)
        except UnreadableError as error:
            self._refuse(chunk, line, chunk.count(b"\n", 0, start) if error.line is None else error.line, error)
        except yaml.YAMLError as error:
            self._refuse(chunk, line, *_explain(error, chunk))

    def _read(self, chunk: bytes, line: int, start: int) -> None:
        if chunk.startswith(b"..."):
            raise UnreadableError("text after '...': begin a document with '---'")
        if chunk.startswith(b"{", start):
            if not (self._read_long_json(chunk, line) or self._read_json(chunk, line)):
                self._read_yaml(chunk, line)
        else:
            self._read_yaml(chunk, line, self._read_long_yaml(chunk, line))

    def _read_yaml(self, chunk: bytes, line: int, done: int | None = 0) -> None:
        """Read the document but for the `done` items of its List that are read already; None: nothing is left."""
        if done is None or (root := compose(chunk)) is None:
            return
        if (built := self.builder.build_document(root, len(chunk))) is None:
            return
        document = Document(chunk, line, root)
        if done and isinstance(built, dict) and isinstance(built.get("items"), list):
            built["items"][:done] = [None] * done
            self._add_items(built, document, "", done)
        else:
            self._add(built, document, line + root.start_mark.line)
        document.root = None

    def _read_long_yaml(self, chunk: bytes, line: int) -> int | None:
        """Read a long List item by item; how many have been read where it can't go on, None if all have."""
        if len(chunk) < LARGE or (parts := cut_yaml(chunk)) is None:
            return 0
        try:
            frame = self.builder.build_document(compose(parts.frame), len(parts.frame))  # type: ignore[arg-type]
        except (yaml.YAMLError, UnreadableError):
            return 0
        if not _is_list(frame):
            return 0
        view, at, line_at = memoryview(chunk), 0, line
        for index, (start, end) in enumerate(parts.items):
            line_at, at = line_at + chunk.count(b"\n", at, start), start
            try:
                root = compose(chunk[start:end])
            except (yaml.YAMLError, UnreadableError):
                return index  # the document as a whole tells what is wrong, or that the cut was
            if not isinstance(root, SequenceNode) or len(root.value) != 1:
                return index
            document = Document(view[start:end], line_at)
            try:
                item = self.builder.build_document(root.value[0], end - start)
                self._add(_completed(item, frame), document, line_at, "[0]", is_listed=True)
            except UnreadableError as error:
                message = str(error).replace("[0]", f"items[{index}]", 1)
                self.errors.append(BadManifest(self.file, line_at + (error.line or 0), message))
        return None

    def _read_long_json(self, chunk: bytes, line: int) -> bool:
        """Read a long List item by item; False if it isn't one."""
        if len(chunk) < LARGE or (parts := cut_json(chunk)) is None or not _is_list(parts.frame):
            return False
        view, at, line_at = memoryview(chunk), 0, line
        for index, (start, end) in enumerate(parts.items):
            line_at, at = line_at + chunk.count(b"\n", at, start), start
            text = chunk[start:end]
            try:
                decoded = decode_json(text.decode())
                item = decoded[0][2] if decoded else self.builder.build_document(compose(text), len(text))  # type: ignore[arg-type]
                self._add(_completed(item, parts.frame), Document(view[start:end], line_at), line_at, is_listed=True)
            except (yaml.YAMLError, UnreadableError) as error:
                self.errors.append(BadManifest(self.file, line_at, f"items[{index}]: {error}"))
        return True

    def _read_json(self, chunk: bytes, line: int) -> bool:
        """Read JSON objects, one after the other; False if there is anything else, which may be YAML."""
        text = chunk.decode()
        decoded = decode_json(text)
        for start, end, value in decoded:
            skipped = text.count("\n", 0, start)
            try:
                self._add(value, Document(text[start:end].encode(), line + skipped), line + skipped)
            except UnreadableError as error:
                self._refuse(chunk, line, skipped, error)
        return bool(decoded)

    def _add(
        self,
        built: Any,
        document: Document,
        line: int | None,
        path: str = "",
        *,
        is_listed: bool = False,
        left_open: frozenset[str] = frozenset(),
    ) -> None:
        """Add the object, or the items of a list, each under its own line; None is a line to look up if asked for."""
        where = f"{path}: " if path else ""
        if not isinstance(built, dict):
            raise ForeignError(f"{where}not a Kubernetes object: {_describe(built)}, not a mapping")
        for name in ("kind", "apiVersion"):
            if not isinstance(built.get(name), str) or not built[name]:
                raise _nameless(built)(f"{where}not a Kubernetes object: no '{name}'")
        if built["apiVersion"].count("/") > 1:
            raise UnreadableError(f"{where}not a Kubernetes object: apiVersion {built['apiVersion']!r}")
        kind, items = built["kind"], built.get("items")
        if isinstance(items, list) or (kind == "List" and items is None):
            self._add_items(built, document, path)
        elif kind.endswith("List") and items is not None:
            raise UnreadableError(f"{where}'items' of {kind} is {_describe(items)}, not a list")
        elif not isinstance(built.get("metadata") or {}, dict):
            raise UnreadableError(f"{where}'metadata' of {kind} is {_describe(built['metadata'])}, not a mapping")
        elif is_template(built):
            for index, unfolded in enumerate(unfold(built)):
                self._add_part(unfolded.object, document, f"{path}.objects[{index}]".removeprefix("."), unfolded.open)
        else:
            self.take(Manifest(self.file, built, document, line, path, is_listed, left_open))

    def _add_items(self, listed: Object, document: Document, path: str, start: int = 0) -> None:
        for index, item in enumerate((listed.get("items") or ())[start:], start):
            at = f"{path}.items[{index}]" if path else f"items[{index}]"
            self._add_part(_completed(item, listed), document, at, is_listed=True)

    def _add_part(
        self,
        part: Any,
        document: Document,
        path: str,
        left_open: frozenset[str] = frozenset(),
        *,
        is_listed: bool = False,
    ) -> None:
        """Add an object that stands in another one; what is wrong with it doesn't keep the others from being read."""
        # Nodes are at hand for YAML; composing JSON for lines that nobody may want takes longer than reading it.
        line = document.line_of(path) if document.root else None
        try:
            self._add(part, document, line, path, is_listed=is_listed, left_open=left_open)
        except UnreadableError as error:
            self.errors.append(BadManifest(self.file, line or document.line_of(path), str(error)))

    def _refuse(self, chunk: bytes, line: int, relative: int, error: UnreadableError | str) -> None:
        near = b"\n".join(chunk.split(b"\n")[max(relative - 1, 0) : relative + 1])
        hint = _HINT if b"{{" in near or _TEMPLATE_LINE.search(chunk) else ""
        # Text without these words holds no object, even if it can't be parsed.
        is_foreign = isinstance(error, ForeignError) or (b"apiVersion" not in chunk and b"kind" not in chunk)
        self.errors.append(BadManifest(self.file, line + relative, f"{error}{hint}", is_foreign=is_foreign))


def _is_list(frame: Any) -> bool:
    """Whether this is a List as kubectl prints it, but for its items."""
    return (
        isinstance(frame, dict)
        and isinstance(kind := frame.get("kind"), str)
        and kind.endswith("List")
        and isinstance(frame.get("apiVersion"), str)
        and "items" not in frame
    )


def _completed(item: Any, listed: Object) -> Any:
    """A list's item, with the kind and version that the API server leaves out of a PodList's items."""
    if isinstance(item, dict) and listed["kind"] != "List":
        return {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List"), **item}
    return item


def _nameless(built: Object) -> type[UnreadableError]:
    """What is wrong with a mapping without kind or apiVersion: it is something else, or an object with a slip."""
    is_object = "metadata" in built and ("kind" in built or "apiVersion" in built or "spec" in built)
    return UnreadableError if is_object else ForeignError


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
