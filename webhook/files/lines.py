"""The line of a field in a document: "spec.containers[0].image" is looked up in the nodes that YAML composes to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from webhook.files.kubectl_yaml import compose, sources

_INDEX = re.compile(r"\[([0-9]+)\]\.?")
_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


@dataclass(slots=True)
class Document:
    """The text that lines are looked up in. Composing it again when somebody asks costs less than keeping its nodes."""

    text: bytes | memoryview
    first_line: int
    root: Node | None = None

    def line_of(self, path: str) -> int:
        if self.root is None:
            self.root = _compose_again(bytes(self.text))
        return self.first_line + (_find_line(self.root, path) if self.root else 0)


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
