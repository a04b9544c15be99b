"""From fixes to JSON Patch operations, and what they make of an object.

The operations come from the fixes themselves, not from comparing two documents, and jsonpatch applies those very
operations: what is examined afterwards is what the API server will make of the object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jsonpatch
import msgspec

from webhook.policy import AdmissionRequest, Object, Set, Violation

Operation = dict[str, Any]
Token = str | int

FIXED_AT_CREATION = frozenset({("", "Pod"), ("batch", "Job"), ("", "PersistentVolumeClaim")})
"""Kinds (group, kind) in which the API lets nothing be changed later that fixes are about, pods/resize aside."""

_OPERATIONS = {"add": jsonpatch.AddOperation, "replace": jsonpatch.ReplaceOperation}
_TEMPLATES_FIELD = re.compile(r"^(spec\.volumeClaimTemplates)\b.*")
_TOKEN = re.compile(r'\["([^"]*)"\]|([^.\[\]]+)|\[(\d+)\]')


def sets_of(violation: Violation) -> tuple[Set, ...]:
    fix = violation.fix
    if fix is None:
        return ()
    return fix if isinstance(fix, tuple) else (fix,)


def can_change(request: AdmissionRequest, sets: Iterable[Set]) -> bool:
    """Whether the API lets these fields be changed by this operation; if not, the patch would fail the request."""
    if request.operation == "CREATE":
        return True
    if request.kind == "Pod" and request.subresource == "resize":
        # pods/resize can't add a request or limit that is absent: that would change the pod's QoS class.
        return all(_exists(request.old_object, fix.path) for fix in sets)
    if (request.group, request.kind) in FIXED_AT_CREATION:
        return False
    return request.kind != "StatefulSet" or all(fix.path.startswith("spec.template.") for fix in sets)


def fails_again(request: AdmissionRequest, sets: Iterable[Set]) -> bool:
    """Whether the manifest, applied again as it is, is refused once these sets have been made.

    That is so where they replace what it says in fields that nobody can change later. kubectl sends a list of claim
    templates as a whole.
    """
    sets = [msgspec.structs.replace(fix, path=_TEMPLATES_FIELD.sub(r"\1", fix.path)) for fix in sets]
    later = msgspec.structs.replace(request, operation="UPDATE", old_object=request.object)
    return not can_change(later, sets) and any(_exists(request.object, fix.path) for fix in sets)


def _exists(obj: Object | None, path: str) -> bool:
    value: Any = obj
    for token in parse_path(path):
        try:
            value = value[token]
        except (KeyError, IndexError, TypeError):
            return False
    return value is not None


@lru_cache(2048)
def parse_path(path: str) -> tuple[Token, ...]:
    """ "spec.containers[0].image" as ("spec", "containers", 0, "image"); a key with dots stands in brackets and quotes:
    'nodeSelector["topology.kubernetes.io/zone"]'."""
    return tuple(quoted or key or int(index) for quoted, key, index in _TOKEN.findall(path))


def apply_sets(obj: Object, sets: Iterable[Set]) -> tuple[list[Operation], Object]:
    """The operations for `sets`, and a copy of `obj` after them; what they don't touch is shared with `obj`."""
    operations: list[Operation] = []
    obj = obj.copy()
    copied: dict[int, Any] = {id(obj): obj}
    for fix in sets:
        tokens = parse_path(fix.path)
        _copy_along(obj, tokens, copied)
        operation = _operation(obj, tokens, fix.value)
        obj = _OPERATIONS[operation["op"]]({**operation, "path": _parsed(operation["path"])}).apply(obj)
        operations.append(operation)
    return operations, obj


def _copy_along(root: Object, tokens: tuple[Token, ...], copied: dict[int, Any]) -> None:
    """Replace every map and list on the way to `tokens` by a copy; `copied` holds those that were copied already."""
    parent: Any = root
    for token in tokens[:-1]:
        child = parent.get(token) if isinstance(parent, dict) else parent[token]
        if child is None:
            return
        if id(child) not in copied:
            child = parent[token] = child.copy()
            copied[id(child)] = child
        parent = child


def _operation(obj: Object, tokens: tuple[Token, ...], value: Any) -> Operation:
    """Put `value` at `tokens`: "add" below an absent or null map fails, so the map is added with the value in it."""
    parent: Any = obj
    for depth, token in enumerate(tokens):
        child = parent.get(token) if isinstance(parent, dict) else parent[token]
        is_leaf = depth == len(tokens) - 1
        if child is None or is_leaf:
            for missing in reversed(tokens[depth + 1 :]):
                value = {missing: value}
            exists = is_leaf and child is not None
            return {"op": "replace" if exists else "add", "path": _pointer(tokens[: depth + 1]), "value": value}
        parent = child
    raise ValueError("a fix without a path")


@lru_cache(2048)
def _pointer(tokens: tuple[Token, ...]) -> str:
    return "".join(_escaped(token) for token in tokens)


@lru_cache(2048)
def _parsed(pointer: str) -> jsonpatch.JsonPointer:
    return jsonpatch.JsonPointer(pointer)


def _escaped(token: Token) -> str:
    return "/" + str(token).replace("~", "~0").replace("/", "~1")


def compatible(fixes: Iterable[tuple[Set, ...]]) -> list[Set]:
    """The fixes that can be applied together, each all or nothing; the others' turn comes when the result is examined.

    Two clash if one sets what the other sets, or something above or below it.
    """
    chosen: list[Set] = []
    taken: set[tuple[Token, ...]] = set()
    above_taken: set[tuple[Token, ...]] = set()
    for sets in fixes:
        paths = [parse_path(fix.path) for fix in sets]
        if any(path in above_taken or not taken.isdisjoint(_and_above(path)) for path in paths):
            continue
        chosen += sets
        for path in paths:
            taken.add(path)
            above_taken.update(_and_above(path)[1:])
    return chosen


@lru_cache(2048)
def _and_above(path: tuple[Token, ...]) -> tuple[tuple[Token, ...], ...]:
    """The path, then each path above it, up to the root."""
    return tuple(path[:length] for length in range(len(path), 0, -1))
