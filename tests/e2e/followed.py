"""A program that does what a denial says: the first alternative's commands and `set` lines, in their order.

It knows no more than a reader does: kubectl's text, and the manifests that were applied.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

from tests.e2e.guarded import Object
from webhook.fixes import apply_sets
from webhook.policy import Set

_DENIED = re.compile(r"denied the request: \d+ violations? in (?P<kind>\w+) (?P<namespace>[^/\s]+)/(?P<name>\S+)\n")
_REFUSED = re.compile(r"^(?=Error from server)", re.MULTILINE)
_LINE = re.compile(r"^  (?P<label>run|set) +(?P<text>.*)$", re.MULTILINE)
# 'spec.nodeSelector["a.b/c"]: x', 'persistentvolumeclaim/data spec.storageClassName: x'
_SET = re.compile(r"(?:(?P<of>\S+/\S+) )?(?P<path>[\w.]+(?:\[[^\]]*\][\w.]*)*): (?P<value>.*)")


class Key(NamedTuple):
    """An object, as kubectl names it: its kind in small letters."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Denial(NamedTuple):
    key: Key
    text: str

    @property
    def lines(self) -> Iterator[tuple[str, str]]:
        """Label and text of what there is to do."""
        return ((found["label"], found["text"]) for found in _LINE.finditer(self.text))


def key_of(obj: Object) -> Key:
    return Key(obj["kind"].lower(), obj["metadata"]["namespace"], obj["metadata"]["name"])


def denials(stderr: str) -> dict[Key, Denial]:
    """Of each object that Forestall denied, what kubectl prints."""
    parts = ((found, part) for part in _REFUSED.split(stderr) if (found := _DENIED.search(part)))
    keyed = ((Key(found["kind"].lower(), found["namespace"], found["name"]), part) for found, part in parts)
    return {key: Denial(key, part) for key, part in keyed}


def follow(denial: Denial, manifests: dict[Key, Object], kubectl: Callable[..., str]) -> list[Object]:
    """The manifests to apply once the denial's commands have been run: those of other objects first.

    What no manifest holds is read from the cluster before anything is deleted. Raises ValueError for a denial that
    says nothing to do.
    """
    lines = list(denial.lines)
    if not lines:
        raise ValueError("it says nothing to type")
    changed = {denial.key: manifests[denial.key]}
    sets = [(key, fix) for label, text in lines if label == "set" for key, fix in [_read_set(text, denial.key)]]
    for key, _ in sets:
        if key not in changed:
            changed[key] = manifests.get(key) or _read(key, kubectl)
    for label, text in lines:
        if label == "run":
            program, *arguments = shlex.split(text)
            if program != "kubectl":
                raise ValueError(f"{program} isn't there")
            kubectl(*arguments)
    for key, fix in sets:
        _, changed[key] = apply_sets(changed[key], [fix])
    return [*(obj for key, obj in changed.items() if key != denial.key), changed[denial.key]]


def _read_set(text: str, key: Key) -> tuple[Key, Set]:
    found = _SET.fullmatch(text)
    if not found:
        raise ValueError(f"not to be followed: set {text}")
    kind, _, name = (found["of"] or "").partition("/")
    # As it would be typed into a manifest.
    return key._replace(kind=kind, name=name) if kind else key, Set(found["path"], yaml.safe_load(found["value"]))


def _read(key: Key, kubectl: Callable[..., str]) -> Object:
    stored: dict[str, Any] = json.loads(kubectl("get", key.kind, key.name, "-n", key.namespace, "-o", "json"))
    kept = {field: stored["metadata"].get(field) for field in ("name", "namespace", "labels")}
    spec = {field: value for field, value in stored["spec"].items() if field != "volumeName"}
    return {"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": kept, "spec": spec}
