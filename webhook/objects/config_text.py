"""The text of a program's configuration file, read as YAML or as an ini file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import yaml

_MOST = 1 << 20
"""Characters of a text that is read: no ConfigMap has more."""
_DEEPEST = 200
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
    """The mapping that a YAML text is; None for a text that is none, such as a template that is yet to be filled in."""
    if len(text) > _MOST:
        return None
    try:
        found = yaml.load(text, _Loader)  # noqa: S506 - it is the safe one, in C
    except Exception:  # a tag such as !!bool on a value that it doesn't fit has PyYAML raise anything
        return None
    if found is None:
        return _NONE
    return found if isinstance(found, dict) else None


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
