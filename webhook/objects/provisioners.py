"""What is known of provisioners and volume plugins: provisioners.json, whose "about" says how to add one."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a parameter of the class changes."""

    parameter: str
    values: tuple[str, ...] = msgspec.field(name="is")
    tied: Literal["node", "zone", "nothing", "unknown"]
    count: int = 1

    def fits(self, parameters: Mapping[str, str]) -> bool:
        value = parameters.get(self.parameter)
        return value is not None and any(fnmatchcase(value, pattern) for pattern in self.values)


class Rule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One line of provisioners.json."""

    tied: Literal["node", "zone", "nothing", "unknown"]
    keys: tuple[str, ...] = ()
    unless: tuple[Case, ...] = ()
    any_case: bool = False
    zone: str = ""
    copies: tuple[str, ...] = ()
    no_zone: frozenset[str] = frozenset()
    made: Literal["", "unknown"] = ""
    files: bool = False
    disks: bool = False
    why: str = ""

    def copies_of(self, parameters: Mapping[str, str]) -> int:
        """On how many nodes a volume has a copy that its pods can use."""
        counts = [parameters[name] for name in self.copies if parameters.get(name, "").isdecimal()]
        return max(1, int(counts[0])) if counts else 1


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: tuple[str, ...]
    provisioners: Mapping[str, Rule]
    sources: Mapping[str, Rule]


_TABLE = msgspec.json.decode(Path(__file__).with_name("provisioners.json").read_bytes(), type=_Table)
PLUGINS = frozenset(_TABLE.sources)
"""The volume plugins that the table knows, by the field that a volume names them in: "nfs", "hostPath"."""
_BY_PATTERN = tuple((name, rule) for name, rule in _TABLE.provisioners.items() if "*" in name)


@lru_cache(maxsize=256)
def rule_of(provisioner: str) -> Rule | None:
    """The line for a provisioner or a CSI driver; None where nothing is known of it."""
    if exact := _TABLE.provisioners.get(provisioner):
        return exact
    return next((rule for pattern, rule in _BY_PATTERN if fnmatchcase(provisioner, pattern)), None)


def rule_of_source(source: str) -> Rule | None:
    """The line for a volume plugin, by the field that a volume names it in."""
    return _TABLE.sources.get(source)


def may_share_files(provisioner: str) -> bool:
    """Whether the volumes are, or may be, shares of a file system or a bucket."""
    rule = rule_of(provisioner)
    return rule is None or rule.files


def makes_disks(provisioner: str) -> bool:
    """Whether the volumes are known to be disks."""
    rule = rule_of(provisioner)
    return rule is not None and rule.disks
