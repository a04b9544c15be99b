"""Fields of Kubernetes objects, read with the path at which they stand: every error names it.

Explicit nulls, which Helm charts write, read as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.errors import BadObject, BadQuantity
from webhook.objects.quantities import parse_memory
from webhook.policy import Object, join_path

_NOTHING: Mapping[str, Any] = {}


def mapping(parent: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    """The map at `parent[key]`, empty if absent or null; raises BadObject for anything else."""
    value = parent.get(key)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise BadObject(f"{join_path(path, key)} is {_kind_of(value)}, not a map")
    return value


def items(parent: Mapping[str, Any], key: str, path: str) -> list[Mapping[str, Any]]:
    """The maps in the list at `parent[key]`, empty if absent or null; raises BadObject for anything else."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadObject(f"{join_path(path, key)} is {_kind_of(value)}, not a list")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadObject(f"{join_path(path, key)}[{index}] is {_kind_of(item)}, not a map")
    return value


def text(parent: Mapping[str, Any], key: str, path: str) -> str:
    """The text at `parent[key]`, empty if absent or null; raises BadObject for anything else, such as `name: on`."""
    value = parent.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadObject(f"{join_path(path, key)} is {_kind_of(value)}, not a string")
    return value


def map_at(obj: Object, path: str) -> Mapping[str, Any]:
    """The map at a path without [*], empty where there is none. Raises BadObject for anything else."""
    value: Mapping[str, Any] = obj
    above = ""
    for part in filter(None, path.split(".")):
        key, _, index = part.partition("[")
        if index:
            listed = items(value, key, above)
            position = int(index.removesuffix("]"))
            value = listed[position] if position < len(listed) else _NOTHING
        else:
            value = mapping(value, key, above)
        above = join_path(above, part)
    return value


def bytes_at(quantity: Any, path: str) -> int:
    """An amount that stands at this path, in bytes; raises BadObject for no quantity."""
    try:
        return parse_memory(quantity)
    except BadQuantity as error:
        raise BadObject(f"{path}: {error}") from error


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    kinds: Mapping[type, str] = {str: "a string", bool: "a boolean", list: "a list", dict: "a map"}
    return f"{kinds.get(type(value), 'a number')}{f' ({value!r})' if isinstance(value, str) else ''}"
