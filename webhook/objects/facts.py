"""What policies may know of the cluster: slim records of the few fields that they read, in one frozen value.

The records are read from objects as the API prints them, whether they come from a watch (`decode_fact`), from
`kubectl get storageclass,pv,pvc,nodes,limitranges,namespaces -A -o yaml` (`facts_of`), or from the files being checked
(`ClusterFacts.with_objects`). Ten thousand of them must fit in a few megabytes, so what repeats is kept once.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, Literal, NamedTuple, cast

import msgspec

from webhook.errors import BadObject, BadQuantity
from webhook.objects.quantities import parse_memory, parse_quantity
from webhook.policy import Object, Reference

FACT_KINDS: Mapping[str, str] = {
    "StorageClass": "storageclasses",
    "PersistentVolume": "persistentvolumes",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Node": "nodes",
    "LimitRange": "limitranges",
    "Namespace": "namespaces",
}
"""Kind -> plural, of every kind that facts are made of."""

FACT_FIELDS: Mapping[str, str] = {
    "StorageClass": "storage_classes",
    "PersistentVolume": "volumes",
    "PersistentVolumeClaim": "claims",
    "Node": "nodes",
    "LimitRange": "limit_ranges",
    "Namespace": "namespaces",
}
"""Kind -> field of ClusterFacts."""


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One expression of a node selector term; a field expression has the key "metadata.name"."""

    key: str
    operator: str
    values: tuple[str, ...]


Term = tuple[Requirement, ...]
"""Expressions that must all hold; terms beside each other are alternatives."""


class StorageClass(msgspec.Struct, frozen=True, gc=False):
    name: str
    provisioner: str
    parameters: Mapping[str, str]
    binding_mode: str
    """"Immediate", also where the class doesn't say, or "WaitForFirstConsumer"."""
    allowed_topologies: tuple[Term, ...]
    is_default: bool
    created: str
    """RFC 3339, which sorts as text: of several defaults the newest counts. Empty in a file."""


class Volume(msgspec.Struct, frozen=True, gc=False):
    """A PersistentVolume."""

    name: str
    source: str
    """The field of the spec that says what backs it: "csi", "awsElasticBlockStore", "local", "nfs", …"""
    driver: str
    """The CSI driver's name, else empty."""
    attributes: Mapping[str, str]
    node_affinity: tuple[Term, ...]
    zone_label: str
    """The zone label's value, which may hold several zones joined by "__"."""
    storage_class: str


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    volume: str
    """The bound PersistentVolume's name; empty while unbound."""
    storage_class: str | None
    """None: the default class is meant. Empty: no class at all, on purpose."""


class Taint(msgspec.Struct, frozen=True, gc=False):
    key: str
    value: str
    effect: str


class Node(msgspec.Struct, frozen=True, gc=False):
    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    memory: int
    """Allocatable bytes; 0 where the node doesn't say."""

    @property
    def zone(self) -> str:
        return zone_of(self.labels)


class LimitRange(msgspec.Struct, frozen=True, gc=False):
    """The memory that one item of a LimitRange names, in bytes; None where it names none.

    `default` and `default_request` are those in force: the API fills them from `max`, `default` and `min`.
    """

    namespace: str
    name: str
    type: Literal["Container", "Pod"]
    default: int | None
    default_request: int | None
    min: int | None
    max: int | None
    max_ratio: float | None


Fact = StorageClass | Volume | Claim | Node | tuple[LimitRange, ...] | Mapping[str, str]
"""What one cluster object is to policies: a LimitRange its items, a Namespace its labels."""

_NAMESPACED = frozenset({"PersistentVolumeClaim", "LimitRange"})
_ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_NOT_YET_CREATED = "9999-12-31T23:59:59Z"


def zone_of(labels: Mapping[str, str]) -> str:
    """The zone that a node's or volume's labels name; empty if none."""
    for key in _ZONE_LABELS:
        if zone := labels.get(key):
            return zone
    return ""


@dataclass(frozen=True)
class ClusterFacts:
    """What policies may know of the cluster, as of `read_at` (UTC).

    `known` holds the plurals that could be read: a kind that isn't in it was not seen, which is not the same as empty.
    `absent` holds objects that were looked up one by one and are provably not there.
    """

    storage_classes: Mapping[str, StorageClass] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    claims: Mapping[tuple[str, str], Claim] = field(default_factory=dict)
    """By namespace and name."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    limit_ranges: Mapping[str, tuple[LimitRange, ...]] = field(default_factory=dict)
    """By namespace: the items of all its LimitRanges."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    absent: frozenset[Reference] = frozenset()
    read_at: datetime | None = None

    def with_objects(self, objects: Iterable[Object], *, absent: Iterable[Reference] = ()) -> ClusterFacts:
        """These facts as they will be once `objects` are applied; objects of other kinds are passed over.

        Raises BadObject or BadQuantity for one that cannot be read.
        """
        added = [record for obj in objects if (record := read_fact(obj)) is not None]
        changed: dict[str, Any] = {}
        for reference, fact in added:
            name = FACT_FIELDS[reference.kind]
            if name not in changed:
                changed[name] = dict(getattr(self, name))
            put_fact(changed[name], reference, _as_applied(fact, changed[name].get(_key(reference))))
        not_there = self.absent.union(absent).difference(reference for reference, _ in added)
        return replace(self, **changed, absent=not_there) if changed or not_there != self.absent else self


NO_FACTS = ClusterFacts()


def facts_of(objects: Iterable[Object], *, read_at: datetime | None = None) -> ClusterFacts:
    """The facts that a dump of a cluster's objects holds: what isn't in it isn't in the cluster.

    Raises BadObject or BadQuantity for an object that cannot be read.
    """
    return ClusterFacts(known=frozenset(FACT_KINDS.values()), read_at=read_at).with_objects(objects)


def read_fact(obj: Object) -> tuple[Reference, Fact] | None:
    """The record of a cluster object as the API prints it; None for a kind that no fact is made of.

    Raises BadObject or BadQuantity, which name the object and the field.
    """
    kind = obj.get("kind", "")
    # The group counts: Longhorn has a Node of its own.
    if kind not in FACT_KINDS or str(obj.get("apiVersion")).rpartition("/")[0] != _SHAPES[kind].group:
        return None
    return _read(kind, lambda wire: msgspec.convert(obj, wire))


def decode_fact(kind: str, body: bytes | msgspec.Raw) -> tuple[Reference, Fact]:
    """The record of an object of a kind in FACT_KINDS as JSON, with or without its kind, as items of lists are.

    Raises BadObject or BadQuantity, which name the object and the field.
    """
    return _read(kind, lambda wire: msgspec.json.decode(body, type=wire))


def put_fact(mapping: MutableMapping[Any, Any], reference: Reference, fact: Fact) -> None:
    """Add or replace a record in a mapping keyed as the field of ClusterFacts is."""
    if reference.kind == "LimitRange":
        drop_fact(mapping, reference)
        fact = (*mapping.get(reference.namespace, ()), *cast("tuple[LimitRange, ...]", fact))
    mapping[_key(reference)] = fact


def drop_fact(mapping: MutableMapping[Any, Any], reference: Reference) -> None:
    """Remove a record, if it is there, from a mapping keyed as the field of ClusterFacts is."""
    key = _key(reference)
    others = reference.kind == "LimitRange" and tuple(
        item for item in mapping.get(key, ()) if item.name != reference.name
    )
    if others:
        mapping[key] = others
    else:
        mapping.pop(key, None)


def _key(reference: Reference) -> str | tuple[str, str]:
    """What the field of ClusterFacts is keyed by."""
    if reference.kind == "PersistentVolumeClaim":
        return reference.namespace, reference.name
    return reference.namespace if reference.kind == "LimitRange" else reference.name


def _as_applied(fact: Fact, seen: Any) -> Fact:
    """The record of an object from a file, with what the API server keeps of, or adds to, the one that it has."""
    match fact:
        case Claim(volume="") if seen is not None:
            # A chart's claim never names its volume, and applying it doesn't unbind the one that is there.
            storage_class = seen.storage_class if fact.storage_class is None else fact.storage_class
            return msgspec.structs.replace(fact, volume=seen.volume, storage_class=storage_class)
        case StorageClass(created=""):
            return msgspec.structs.replace(fact, created=seen.created if seen is not None else _NOT_YET_CREATED)
        case dict():
            return fact if seen is None else {**seen, **fact}
        case _:
            return fact


# What follows are the objects as they arrive: of each only what we read, every field optional and nullable, since Helm
# charts love explicit nulls. The same shapes decode the API server's JSON without building what nobody reads.


class _Part(msgspec.Struct, gc=False, rename="camel"):
    pass


class _Metadata(_Part):
    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    creation_timestamp: str | None = None


class _Expression(_Part):
    key: str = ""
    operator: str = "In"
    values: list[str] | None = None


class _SelectorTerm(_Part):
    match_label_expressions: list[_Expression] | None = None
    match_expressions: list[_Expression] | None = None
    match_fields: list[_Expression] | None = None


class _NodeSelector(_Part):
    node_selector_terms: list[_SelectorTerm] | None = None


class _StorageClass(_Part):
    metadata: _Metadata | None = None
    provisioner: str | None = None
    parameters: dict[str, Any] | None = None
    volume_binding_mode: str | None = None
    allowed_topologies: list[_SelectorTerm] | None = None


class _CSISource(_Part):
    driver: str | None = None
    volume_attributes: dict[str, Any] | None = None


class _VolumeAffinity(_Part):
    required: _NodeSelector | None = None


class _VolumeSpec(_Part):
    csi: _CSISource | None = None
    node_affinity: _VolumeAffinity | None = None
    storage_class_name: str | None = None


class _Volume(_Part):
    metadata: _Metadata | None = None
    spec: dict[str, Any] | None = None


class _SpecOfVolume(_Part):
    spec: _VolumeSpec


class _ClaimSpec(_Part):
    volume_name: str | None = None
    storage_class_name: str | None = None


class _Claim(_Part):
    metadata: _Metadata | None = None
    spec: _ClaimSpec | None = None


class _Taint(_Part):
    key: str = ""
    value: str | None = None
    effect: str | None = None


class _NodeSpec(_Part):
    taints: list[_Taint] | None = None


class _NodeStatus(_Part):
    allocatable: dict[str, Any] | None = None


class _Node(_Part):
    metadata: _Metadata | None = None
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


class _Limits(_Part):
    type: str | None = None
    default: dict[str, Any] | None = None
    default_request: dict[str, Any] | None = None
    min: dict[str, Any] | None = None
    max: dict[str, Any] | None = None
    max_limit_request_ratio: dict[str, Any] | None = None


class _LimitRangeSpec(_Part):
    limits: list[_Limits] | None = None


class _LimitRange(_Part):
    metadata: _Metadata | None = None
    spec: _LimitRangeSpec | None = None


class _Namespace(_Part):
    metadata: _Metadata | None = None


class _Shape(NamedTuple):
    group: str
    wire: type[Any]
    read: Callable[[Reference, _Metadata, Any], Fact]


def _read(kind: str, parse: Callable[[Any], Any]) -> tuple[Reference, Fact]:
    """The record of what `parse` makes of an object when given a type."""
    shape = _SHAPES[kind]
    try:
        wired = parse(shape.wire)
    except msgspec.ValidationError as error:
        obj = parse(Any)
        raise BadObject(f"{_called(kind, obj)}: {_explain(error, obj)}") from error
    metadata: _Metadata = wired.metadata or _Metadata()
    namespace = intern(metadata.namespace or "default") if kind in _NAMESPACED else ""
    # No reference can mean a name that the API server has yet to complete: names don't end in "-".
    reference = Reference(kind, namespace, metadata.name or metadata.generate_name or "")
    try:
        return reference, shape.read(reference, metadata, wired)
    except (BadObject, BadQuantity) as error:
        raise type(error)(f"{kind} {'/'.join(filter(None, reference[1:]))}: {error}") from error


def _called(kind: str, obj: Any) -> str:
    """What to call an object that has something wrong with it, perhaps its name."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    names = (metadata.get("namespace"), metadata.get("name")) if isinstance(metadata, dict) else ()
    return " ".join(filter(None, (kind, "/".join(str(name) for name in names if name))))


def _explain(error: msgspec.ValidationError, obj: Any) -> str:
    """Expected `str | null`, got `int` - at `$.spec.volumeName` -> spec.volumeName is 5: expected `str | null`, …"""
    complaint, _, path = str(error).partition(" - at `$")
    value = obj
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        value = value[int(index)] if index else value[key]
    return f"{path.strip('.`') or 'it'} is {reprlib.repr(value)}: {complaint[:1].lower()}{complaint[1:]}"


def _texts(texts: Mapping[str, Any] | None, path: str) -> Mapping[str, str]:
    """A map of strings, with strings that are kept once."""
    for key, value in (texts or {}).items():
        if not isinstance(value, str | None):
            raise BadObject(f"{path}.{key} is {value!r}, not a string: write it in quotes")
    return {intern(key): intern(value or "") for key, value in (texts or {}).items()}


# Thousands of volumes come from a few classes and drivers.
@lru_cache(maxsize=1024)
def _shared_texts(texts: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(texts)


@lru_cache(maxsize=1024)
def _shared_terms(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return terms


def read_terms(selector: Mapping[str, Any]) -> tuple[Term, ...]:
    """The terms of a NodeSelector: alternatives, each with expressions that must all hold. Raises BadObject."""
    try:
        return _terms(msgspec.convert(selector, _NodeSelector).node_selector_terms)
    except msgspec.ValidationError as error:
        raise BadObject(_explain(error, selector)) from error


def _terms(terms: list[_SelectorTerm] | None) -> tuple[Term, ...]:
    return tuple(
        tuple(
            Requirement(
                intern(expression.key), intern(expression.operator), tuple(map(intern, expression.values or ()))
            )
            for part in (term.match_label_expressions, term.match_expressions, term.match_fields)
            for expression in part or ()
        )
        for term in terms or ()
    )


def _read_storage_class(reference: Reference, metadata: _Metadata, wired: _StorageClass) -> StorageClass:
    annotations = metadata.annotations or {}
    return StorageClass(
        name=intern(reference.name),
        provisioner=intern(wired.provisioner or ""),
        parameters=_texts(wired.parameters, "parameters"),
        binding_mode=intern(wired.volume_binding_mode or "Immediate"),
        allowed_topologies=_terms(wired.allowed_topologies),
        is_default=any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS),
        created=metadata.creation_timestamp or "",
    )


def _read_volume(reference: Reference, metadata: _Metadata, wired: _Volume) -> Volume:
    written = wired.spec or {}
    try:
        spec = msgspec.convert({"spec": written}, _SpecOfVolume).spec
    except msgspec.ValidationError as error:
        raise BadObject(_explain(error, {"spec": written})) from error
    csi = spec.csi or _CSISource()
    attributes = _texts(csi.volume_attributes, "spec.csi.volumeAttributes")
    required = spec.node_affinity and spec.node_affinity.required
    return Volume(
        name=reference.name,
        source=intern(
            next((key for key, value in written.items() if key not in _NOT_SOURCES and value is not None), "")
        ),
        driver=intern(csi.driver or ""),
        attributes=_shared_texts(tuple(attributes.items())),
        node_affinity=_shared_terms(_terms(required.node_selector_terms)) if required else (),
        zone_label=zone_of(_texts(metadata.labels, "metadata.labels")),
        storage_class=intern(spec.storage_class_name or ""),
    )


_NOT_SOURCES = frozenset(
    {
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    }
)


def _read_claim(reference: Reference, metadata: _Metadata, wired: _Claim) -> Claim:
    spec = wired.spec or _ClaimSpec()
    storage_class = claim_class({"annotations": metadata.annotations}, {"storageClassName": spec.storage_class_name})
    return Claim(
        namespace=reference.namespace,
        name=reference.name,
        volume=spec.volume_name or "",
        storage_class=None if storage_class is None else intern(storage_class),
    )


def claim_class(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """The class that a claim, or a template of one, names: None if it leaves it to the default, "" if it wants none."""
    annotated = (metadata.get("annotations") or {}).get(_CLASS_ANNOTATION)
    name = spec.get("storageClassName") if annotated is None else annotated
    return None if name is None else str(name)


def _read_node(reference: Reference, metadata: _Metadata, wired: _Node) -> Node:
    spec, status = wired.spec or _NodeSpec(), wired.status or _NodeStatus()
    return Node(
        name=reference.name,
        labels=_texts(metadata.labels, "metadata.labels"),
        taints=tuple(
            Taint(intern(taint.key), intern(taint.value or ""), intern(taint.effect or ""))
            for taint in spec.taints or ()
        ),
        memory=_memory(status.allocatable, "status.allocatable") or 0,
    )


def _read_limit_range(reference: Reference, _: _Metadata, wired: _LimitRange) -> tuple[LimitRange, ...]:
    limits = wired.spec.limits if wired.spec else None
    return tuple(
        _read_limits(reference, item, f"spec.limits[{index}]")
        for index, item in enumerate(limits or ())
        if item.type in ("Container", "Pod")
    )


def _read_limits(reference: Reference, item: _Limits, path: str) -> LimitRange:
    minimum, maximum = _memory(item.min, f"{path}.min"), _memory(item.max, f"{path}.max")
    default, request = _memory(item.default, f"{path}.default"), _memory(item.default_request, f"{path}.defaultRequest")
    if item.type == "Container":
        # The API does this defaulting itself when it stores a LimitRange (SetDefaults_LimitRangeItem); one that comes
        # from a chart has not been there yet.
        default = maximum if default is None else default
        request = next((value for value in (request, default, minimum) if value is not None), None)
    return LimitRange(
        namespace=reference.namespace,
        name=reference.name,
        type="Container" if item.type == "Container" else "Pod",
        default=default,
        default_request=request,
        min=minimum,
        max=maximum,
        max_ratio=_ratio(item.max_limit_request_ratio, f"{path}.maxLimitRequestRatio"),
    )


def _memory(amounts: Mapping[str, Any] | None, path: str) -> int | None:
    if not amounts or "memory" not in amounts:
        return None
    try:
        # Null is 0 to the API server; one that comes from a chart has not been there yet.
        return parse_memory(0 if amounts["memory"] is None else amounts["memory"])
    except BadQuantity as error:
        raise BadQuantity(f"{path}.memory: {error}") from error


def _ratio(amounts: Mapping[str, Any] | None, path: str) -> float | None:
    value = (amounts or {}).get("memory")
    try:
        ratio = None if value is None else float(parse_quantity(value))
    except BadQuantity as error:
        raise BadQuantity(f"{path}.memory: {error}") from error
    if ratio is not None and ratio < 1:
        raise BadQuantity(f"{path}.memory: {value} is below 1, which the API server refuses")
    return ratio


def _read_namespace(reference: Reference, metadata: _Metadata, _: _Namespace) -> Mapping[str, str]:
    # The API server gives every namespace this label; one that comes from a chart has not been there yet.
    return {**_texts(metadata.labels, "metadata.labels"), _NAME_LABEL: reference.name}


_NAME_LABEL = "kubernetes.io/metadata.name"
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_SHAPES: Mapping[str, _Shape] = {
    "StorageClass": _Shape("storage.k8s.io", _StorageClass, _read_storage_class),
    "PersistentVolume": _Shape("", _Volume, _read_volume),
    "PersistentVolumeClaim": _Shape("", _Claim, _read_claim),
    "Node": _Shape("", _Node, _read_node),
    "LimitRange": _Shape("", _LimitRange, _read_limit_range),
    "Namespace": _Shape("", _Namespace, _read_namespace),
}

FACT_GROUPS: Mapping[str, str] = {FACT_KINDS[kind]: shape.group for kind, shape in _SHAPES.items()}
"""Plural -> API group, of every kind that facts are made of."""
