"""The text of a program's configuration file, read as YAML or as an ini file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

_LONGEST = 1 << 18
"""Characters of a text that is read. libyaml reads so many in a third of a second, of the half that a look-up has; a
ConfigMap may hold four times as many, and the longest Prometheus configurations of charts have 10,000."""
_MOST = 1 << 20
"""How much is held of a text, with its aliases written out."""
_DEEPEST = 200
"""Levels of a text that is read, with its aliases written out, except where one contains itself."""
_NONE: Mapping[str, Any] = MappingProxyType({})


class _Loader(yaml.CSafeLoader):
    """Counts the levels: before version 0.2.6 libyaml's composer overflows the C stack at some 50,000."""

    depth = 0

    def descend_resolver(self, parent: Any, index: Any) -> None:  # noqa: ARG002 - PyYAML's signature
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")

    def ascend_resolver(self) -> None:
        self.depth -= 1


# Both hooks, and the second look after a look-up, read the same few texts.
@lru_cache(maxsize=32)
def read_yaml(text: str) -> Mapping[str, Any] | None:
    """The mapping that a YAML text is; None for a text that is none, such as a template that is yet to be filled in,
    and for one that is too long."""
    if is_too_long(text):
        return None
    try:
        found = yaml.load(text, _Loader)  # noqa: S506 - it is the safe one, in C
    except Exception:  # a tag such as !!bool on a value that it doesn't fit has PyYAML raise anything
        return None
    if _extent(found, {}).size > _MOST:
        return None
    if found is None:
        return _NONE
    return found if isinstance(found, dict) else None


def is_too_long(text: str) -> bool:
    """Whether the text has more characters than are read of a YAML text: reading it would take too long."""
    return len(text) > _LONGEST


class _Extent(NamedTuple):
    """How much a value holds with its aliases written out, and how many levels."""

    size: int
    height: int


_TOO_MUCH = _Extent(_MOST + 1, 0)


def _extent(found: Any, seen: dict[int, _Extent]) -> _Extent:
    """The extent of a value, _TOO_MUCH if it is higher than may be; what stands under several aliases is walked once.

    A few lines of aliases to lists of aliases are gigabytes to whoever walks them, or makes a text of them.
    """
    if not isinstance(found, (dict, list)):
        return _Extent(len(found) if isinstance(found, str) else 1, 0)
    if (known := seen.get(id(found))) is not None:
        return known
    seen[id(found)] = _Extent(1, 0)  # one that contains itself is written out no further
    children = [*found, *found.values()] if isinstance(found, dict) else found
    extents = [_extent(child, seen) for child in children]
    size = 1 + sum(extent.size for extent in extents)
    height = 1 + max((extent.height for extent in extents), default=0)
    seen[id(found)] = _TOO_MUCH if height > _DEEPEST + 1 else _Extent(size, height)
    return seen[id(found)]


def inside(found: Any, *keys: str) -> Any:
    """What stands below these keys; None where something above is no mapping."""
    for key in keys:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def read_ini(text: str) -> dict[str, dict[str, str]]:
    """The keys of each section of an ini text; those above the first section are in one without a name."""
    sections: dict[str, dict[str, str]] = {}
    section = sections.setdefault("", {})
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = sections.setdefault(line[1:-1].strip(), {})
        elif not line.startswith(("#", ";")) and "=" in line:
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip().strip("\"'`")
    return sections
