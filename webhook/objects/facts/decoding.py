"""Cluster objects as they arrive: typed, so that only the fields that are read are ever built.

Every field is optional and nullable, since Helm charts write explicit nulls. `decode_fact` reads the API server's JSON,
`read_fact` an object from a file; both give the same record for the same object.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadObject, BadQuantity
from webhook.objects.wire import MANAGED_FIELDS, decode
from webhook.policy import FactKind, FactRecord, FactReference, Object


class WirePart(msgspec.Struct, gc=False, rename="camel"):
    """A part of an object, of which only the fields named here are read."""


class Metadata(WirePart):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    creation_timestamp: str | None = None


class Wire(WirePart):
    """The fields of a whole object that are read: the base of every FactKind's `wire`."""

    metadata: Metadata | None = None


def read_fact(
    obj: Object, kinds: Iterable[FactKind[Any, Any]], *, namespace: str = "default"
) -> tuple[FactReference, Any] | None:
    """The record of an object as a file holds it; None if it is of none of the kinds.

    `namespace` is that of objects that need one and name none. Raises BadObject or BadQuantity, which name the object
    and the field.
    """
    # The group is compared, too: Longhorn has a kind Node of its own.
    group, kind = str(obj.get("apiVersion")).rpartition("/")[0], obj.get("kind", "")
    for known in kinds:
        if known.kind == kind and known.group == group:
            return _read(known, lambda type_: msgspec.convert(obj, type_), namespace)
    return None


def record_of(kind: FactKind[Any, FactRecord], obj: Object, namespace: str) -> FactRecord:
    """The record of an object that is known to be of the kind: in a list its apiVersion and kind are left out.

    Raises as read_fact, and TypeError for an object of which nothing has to be known.
    """
    found = _read(kind, lambda type_: msgspec.convert(obj, type_), namespace)
    if found[1] is None:
        raise TypeError(f"{found[0]} has no record")
    return found[1]


def decode_fact(
    kind: FactKind[Any, FactRecord], body: bytes | bytearray | msgspec.Raw
) -> tuple[FactReference, FactRecord | None]:
    """The record of an object as JSON, with or without its kind and apiVersion, as items of lists are.

    Raises BadObject or BadQuantity, which name the object and the field, or one of wire.UNDECODABLE.
    """
    return _read(kind, lambda type_: decode(body, type_, MANAGED_FIELDS))


def _read(
    kind: FactKind[Any, FactRecord], parse: Callable[[Any], Any], namespace: str = "default"
) -> tuple[FactReference, FactRecord | None]:
    """An object's reference, and its record or None; `parse` reads the object as the type that it is given."""
    try:
        wired = parse(kind.wire)
    except msgspec.ValidationError as error:
        obj = parse(Any)
        raise BadObject(f"{_called(kind.kind, obj)}: {explain_validation(error, obj)}") from error
    # A kind may read more of the metadata than Metadata has.
    metadata: Metadata = wired.metadata or msgspec.convert({"metadata": {}}, kind.wire).metadata
    namespace = intern(metadata.namespace or namespace) if kind.is_namespaced else ""
    # No reference can mean a name that the API server has yet to complete: names don't end in "-".
    reference = FactReference(kind, namespace, metadata.name or metadata.generate_name or "")
    try:
        return reference, kind.read(reference, metadata, wired)
    except (BadObject, BadQuantity) as error:
        raise type(error)(f"{reference}: {error}") from error


def _called(kind: str, obj: Any) -> str:
    """The object's kind and name for an error message; its name may be what is wrong."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    names = (metadata.get("namespace"), metadata.get("name")) if isinstance(metadata, dict) else ()
    return " ".join(filter(None, (kind, "/".join(str(name) for name in names if name))))


def explain_validation(error: msgspec.ValidationError, obj: Any) -> str:
    """Expected `str | null`, got `int` - at `$.spec.volumeName` -> spec.volumeName is 5: expected `str | null`, …"""
    complaint, _, path = str(error).partition(" - at `$")
    value = obj
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        value = value[int(index)] if index else value[key]
    return f"{path.strip('.`') or 'it'} is {reprlib.repr(value)}: {complaint[:1].lower()}{complaint[1:]}"


def read_texts(texts: Mapping[str, Any] | None, path: str) -> Mapping[str, str]:
    """As `written_texts`; equal strings are kept once."""
    return {intern(key): intern(value) for key, value in written_texts(texts, path).items()}


def written_texts(texts: Mapping[str, Any] | None, path: str) -> Mapping[str, str]:
    """A map of strings such as labels, null values as empty ones; raises BadObject for a value that is no string."""
    for key, value in (texts or {}).items():
        if not isinstance(value, str | None):
            raise BadObject(f"{path}.{key} is {value!r}, not a string: write it in quotes")
    return {key: value or "" for key, value in (texts or {}).items()}


# Thousands of volumes share the few names of drivers.
@lru_cache(maxsize=1024)
def shared_texts(texts: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """A map of these entries; equal maps are kept once."""
    return dict(texts)
