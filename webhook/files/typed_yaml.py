"""YAML into typed values: every refusal names file, line, field and value, and the nearest right spelling.

The types are msgspec Structs, so that the JSON Schema comes from the same declarations. msgspec itself would do the
conversion, but its errors know neither lines nor the keys of maps.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import types
from collections.abc import Callable, Iterable
from datetime import date
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

from webhook.errors import BadConfig
from webhook.objects.quantities import Memory, Quantity

T = TypeVar("T")
R = TypeVar("R")


class Duration(int):
    """Seconds, written as days, hours, minutes or seconds: 90d, 12h, 30m, 10s."""

    PATTERN: ClassVar[str] = "^[0-9]+[dhms]$"
    _SECONDS: ClassVar[dict[str, int]] = {"d": 86400, "h": 3600, "m": 60, "s": 1}

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(cls.PATTERN, text, re.ASCII) or not int(text[:-1]):
            raise ValueError(f"{text!r} is not a length of time such as 90d, 12h, 30m or 10s")
        return cls(int(text[:-1]) * cls._SECONDS[text[-1]])

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in self._SECONDS.items() if not self % seconds)
        return f"{int(self) // self._SECONDS[unit]}{unit}"


class _Loader(yaml.CSafeLoader):
    """YAML in which `off` and `no` are text, and so is a date: the types say what each field is."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_BOOLEANS = {"true": True, "false": False}

_MOST_NODES = 1_000_000
"""Values in a document: a ConfigMap's 1 MiB holds fewer, unless aliases multiply them."""


class YamlNode(NamedTuple):
    """A YAML node and where it stands: `field` is its path, empty for the whole document."""

    yaml: yaml.Node
    file: str
    field: str

    def error(self, message: str) -> BadConfig:
        where = f"{self.field}: " if self.field else ""
        return BadConfig(f"{self.file}:{self.yaml.start_mark.line + 1}: {where}{message}")

    def entries(self) -> list[tuple[str, YamlNode]]:
        """The map's keys and values; raises BadConfig for no map, and for keys that are given twice or are no text."""
        if not isinstance(self.yaml, yaml.MappingNode):
            raise self.error(f"{self.shown()} is not a map")
        entries: dict[str, YamlNode] = {}
        for key, value in self.yaml.value:
            if not isinstance(key, yaml.ScalarNode):  # as `policies: {{ .Values.policies }}` that nothing filled in
                raise self._replace(yaml=key).error(
                    f"{YamlNode(key, '', '').shown()} cannot be a key: is a template unfilled?"
                )
            child = YamlNode(value, self.file, f"{self.field}.{key.value}" if self.field else str(key.value))
            if key.value in entries:
                raise child._replace(yaml=key).error("is given twice")
            entries[key.value] = child
        return list(entries.items())

    def items(self) -> list[YamlNode]:
        """The list's items; raises BadConfig for another kind of node."""
        if not isinstance(self.yaml, yaml.SequenceNode):
            raise self.error(f"{self.shown()} is not a list")
        return [YamlNode(item, self.file, f"{self.field}[{index}]") for index, item in enumerate(self.yaml.value)]

    def shown(self) -> str:
        if isinstance(self.yaml, yaml.ScalarNode):
            return repr(self.yaml.value) if self.yaml.value else "nothing"
        return "a map" if isinstance(self.yaml, yaml.MappingNode) else "a list"

    @property
    def is_null(self) -> bool:
        return isinstance(self.yaml, yaml.ScalarNode) and self.yaml.tag == "tag:yaml.org,2002:null"


def compose(text: bytes, file: str) -> YamlNode | None:
    """The document's root, None if it is empty; raises BadConfig if it is no single YAML document."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadConfig(f"{file}:{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{file}:1: not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        return None
    document = YamlNode(root, file, "")
    if (count := _count(root, {})) > _MOST_NODES:
        found = "contains itself" if math.isinf(count) else f"repeats values, {count:,} in all"
        raise document.error(f"the document {found}, by an alias (*)")
    return document


def _count(node: yaml.Node, counted: dict[yaml.Node, float]) -> float:
    """The values in a node, those behind aliases each time; infinite if it contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node not in counted:
        counted[node] = math.inf  # an alias within its own anchor comes back here before the count is known
        children = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        counted[node] = 1 + sum(_count(child, counted) for child in children)
    return counted[node]


def convert(node: YamlNode, wanted: Any) -> Any:
    """The node's value as `wanted`: a Struct, tuple[T, ...], dict[str, T], Literal, a union of such, or a scalar.

    Raises BadConfig.
    """
    origin = get_origin(wanted)
    if origin is Annotated:
        value = convert(node, get_args(wanted)[0])
        if isinstance(value, str):
            check_text(node, value, wanted)
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(node, get_args(wanted))
    if origin is Literal:
        return _convert_literal(node, get_args(wanted))
    if origin is tuple:
        return tuple(each_of(node.items(), lambda item: convert(item, get_args(wanted)[0])))
    if origin is dict:
        return dict(each_of(node.entries(), lambda entry: _entry(*entry, *get_args(wanted))))
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return convert_struct(node, wanted)
    return _convert_scalar(node, wanted)


@cache
def _fields(wanted: type[Any]) -> dict[str, msgspec.structs.FieldInfo]:
    """A type's fields by their names in a file. Cached: asking msgspec takes longer than converting a value."""
    return {field.encode_name: field for field in msgspec.structs.fields(wanted)}


def each_of(parts: Iterable[T], read: Callable[[T], R]) -> list[R]:
    """What `read` makes of each part; raises the BadConfigs of all of them as one."""
    values: list[R] = []
    errors: list[str] = []
    for part in parts:
        try:
            values.append(read(part))
        except BadConfig as error:
            errors += error.errors
    if errors:
        raise BadConfig(*errors)
    return values


def all_of(*reads: Callable[[], Any]) -> list[Any]:
    """What each of these returns; raises the BadConfigs of all of them as one."""
    return each_of(reads, lambda read: read())


def convert_struct(node: YamlNode, wanted: type[T]) -> T:
    """The map as a Struct. Raises BadConfig with every error in it."""
    fields = _fields(wanted)  # type: ignore[arg-type]  # a type is hashable
    entries = [] if node.is_null else node.entries()
    given = {key for key, _ in entries}
    missing = [field.encode_name for field in fields.values() if field.required and field.encode_name not in given]

    def read(part: tuple[str, YamlNode | None]) -> tuple[str, Any]:
        key, value = part
        if value is None:
            raise node.error(f"{key} is missing")
        if key not in fields:
            raise value.error(f"unknown field{suggest(key, fields)}")
        return fields[key].name, convert(value, fields[key].type)

    values = dict(each_of([*entries, *((name, None) for name in missing)], read))
    try:
        return wanted(**values)
    except Exception as error:  # a type's own checks, such as those of a policy's parameters, may raise anything
        raise node.error(str(error)) from error


def _entry(key: str, value: YamlNode, wanted_key: Any, wanted: Any) -> tuple[str, Any]:
    check_text(value, key, wanted_key)
    return key, convert(value, wanted)


def check_text(node: YamlNode, text: str, wanted: Any) -> None:
    """Raise BadConfig for text that is not of the pattern of an Annotated type, whose title says what is, or that
    something in its annotation does not parse."""
    for meta in getattr(wanted, "__metadata__", ()):
        if hasattr(meta, "parse"):
            _parsed(node, text, meta)
        elif meta.pattern and not re.fullmatch(meta.pattern, text, re.ASCII):
            first, slash, _ = text.partition("/")  # as in an apiVersion that is given for a group
            is_first = slash and re.fullmatch(meta.pattern, first, re.ASCII)
            mended = first if is_first else re.sub(r"[^a-z0-9.*?\[\]!]+", "-", text.lower()).strip("-")
            near = [mended] if mended and re.fullmatch(meta.pattern, mended, re.ASCII) else meta.examples or ()
            raise node.error(f"{text!r} is not {meta.title}{suggest(text, near)}")


def suggest(value: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known spelling (": did you mean 'deny'?"), or all known ones."""
    known = sorted(known)
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.5)
    if near:
        return f": did you mean {folded[near[0]]!r}?"
    return f" (known: {', '.join(known)})" if known else ""


def _convert_union(node: YamlNode, members: tuple[Any, ...]) -> Any:
    if node.is_null:
        if type(None) in members:
            return None
        raise node.error("has no value")
    members = tuple(member for member in members if member is not type(None))
    fitting = [member for member in members if _shape(member) is type(node.yaml)]
    if not fitting:
        raise node.error(f"{node.shown()} is not what belongs here")
    return convert(node, fitting[0])


def _shape(wanted: Any) -> type[yaml.Node]:
    origin = get_origin(wanted)
    if origin is tuple:
        return yaml.SequenceNode
    if origin is dict or (isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)):
        return yaml.MappingNode
    return yaml.ScalarNode


def _convert_literal(node: YamlNode, allowed: tuple[str, ...]) -> str:
    value = node.yaml.value if isinstance(node.yaml, yaml.ScalarNode) else None
    if value == "false" and "off" in allowed:
        return "off"  # what Helm, whose YAML knows `off` as a truth value, makes of it
    if value not in allowed:
        hint = suggest(value, allowed) if value else ""
        raise node.error(f"{node.shown()} is not one of {', '.join(allowed)}{hint if '?' in hint else ''}")
    return str(value)


def _convert_scalar(node: YamlNode, wanted: Any) -> Any:
    if not isinstance(node.yaml, yaml.ScalarNode) or node.is_null:
        raise node.error(f"{node.shown()} is not {_NAMES[wanted]}")
    text = node.yaml.value
    try:
        if wanted is str:
            return text
        if wanted is bool:
            return _BOOLEANS[text.lower()]
        if wanted is date:
            return date.fromisoformat(text)
        if hasattr(wanted, "parse"):
            return _parsed(node, text, wanted)
        return wanted(text)
    except (ValueError, KeyError) as error:
        raise node.error(f"{node.shown()} is not {_NAMES[wanted]}") from error


def _parsed(node: YamlNode, text: str, wanted: Any) -> Any:
    """The text as a type that has a `parse`, whose ValueError says what is wrong with it."""
    try:
        return wanted.parse(text)
    except ValueError as error:
        raise node.error(str(error)) from error


_NAMES: dict[Any, str] = {
    bool: "true or false",
    date: "a date such as 2027-03-31",
    Duration: "a length of time such as 90d, 12h, 30m or 10s",
    float: "a number",
    int: "a whole number",
    Memory: "an amount of memory such as 512Mi",
    Quantity: "a quantity such as 512Mi",
    str: "text",
}
