"""What policies may know of the cluster: slim records of the few fields that they read, in one frozen value.

The records are read by `read_fact` from objects as the API prints them, whether they come from a watch, from
`kubectl get storageclass,pv,pvc,nodes,limitranges,namespaces -A -o yaml`, or from the files being checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from webhook.errors import BadQuantity
from webhook.policy import Object, Reference
from webhook.quantities import parse_memory

FACT_KINDS: Mapping[str, str] = {
    "StorageClass": "storageclasses",
    "PersistentVolume": "persistentvolumes",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Node": "nodes",
    "LimitRange": "limitranges",
    "Namespace": "namespaces",
}
"""Kind -> plural, of every kind that facts are made of."""


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
    """RFC 3339, which sorts as text: of several defaults the newest counts."""


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

_ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


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
    nodes: Mapping[str, Node] = field(default_factory=dict)
    limit_ranges: Mapping[str, tuple[LimitRange, ...]] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    absent: frozenset[Reference] = frozenset()
    read_at: datetime | None = None

    def with_objects(self, objects: Iterable[Object], *, absent: Iterable[Reference] = ()) -> ClusterFacts:
        """These facts and what `objects` add or replace; objects of other kinds are passed over.

        Raises BadQuantity for a quantity that cannot be read.
        """
        added = [(obj, fact) for obj in objects if (fact := read_fact(obj)) is not None]
        classes, volumes, claims = dict(self.storage_classes), dict(self.volumes), dict(self.claims)
        nodes, namespaces = dict(self.nodes), dict(self.namespaces)
        limit_ranges = {key: list(items) for key, items in self.limit_ranges.items()} if added else {}
        for obj, fact in added:
            match fact:
                case StorageClass():
                    classes[fact.name] = fact
                case Volume():
                    volumes[fact.name] = fact
                case Claim():
                    claims[fact.namespace, fact.name] = fact
                case Node():
                    nodes[fact.name] = fact
                case tuple():
                    name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace") or "default"
                    kept = [item for item in limit_ranges.get(namespace, []) if item.name != name]
                    limit_ranges[namespace] = kept + list(fact)
                case _:
                    namespaces[obj["metadata"]["name"]] = fact
        return replace(
            self,
            storage_classes=classes,
            volumes=volumes,
            claims=claims,
            nodes=nodes,
            namespaces=namespaces,
            limit_ranges={key: tuple(items) for key, items in limit_ranges.items()} if added else self.limit_ranges,
            absent=self.absent | frozenset(absent),
        )


NO_FACTS = ClusterFacts()


def read_fact(obj: Object) -> Fact | None:
    """The record of a cluster object as the API prints it; None for a kind that no fact is made of.

    Raises BadQuantity for a quantity that cannot be read.
    """
    reader = _READERS.get(obj.get("kind", ""))
    return reader(obj) if reader else None


def _metadata(obj: Object) -> dict[str, Any]:
    return obj.get("metadata") or {}


def _read_storage_class(obj: Object) -> StorageClass:
    metadata = _metadata(obj)
    annotations = metadata.get("annotations") or {}
    return StorageClass(
        name=metadata.get("name", ""),
        provisioner=obj.get("provisioner") or "",
        parameters=obj.get("parameters") or {},
        binding_mode=obj.get("volumeBindingMode") or "Immediate",
        allowed_topologies=tuple(
            tuple(
                Requirement(expression["key"], "In", tuple(expression.get("values") or ()))
                for expression in term.get("matchLabelExpressions") or ()
            )
            for term in obj.get("allowedTopologies") or ()
        ),
        is_default=any(annotations.get(key) == "true" for key in _DEFAULT_ANNOTATIONS),
        created=str(metadata.get("creationTimestamp") or ""),
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
        "volumeMode",
        "volumeAttributesClassName",
    }
)


def _read_volume(obj: Object) -> Volume:
    metadata, spec = _metadata(obj), obj.get("spec") or {}
    csi = spec.get("csi") or {}
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    return Volume(
        name=metadata.get("name", ""),
        source=next((key for key in spec if key not in _NOT_SOURCES), ""),
        driver=csi.get("driver", ""),
        attributes=csi.get("volumeAttributes") or {},
        node_affinity=read_terms(required),
        zone_label=zone_of(metadata.get("labels") or {}),
        storage_class=spec.get("storageClassName") or "",
    )


def read_terms(selector: Mapping[str, Any]) -> tuple[Term, ...]:
    """The terms of a NodeSelector: alternatives, each with expressions that must all hold."""
    return tuple(
        tuple(
            Requirement(expression.get("key", ""), expression.get("operator", ""), tuple(expression.get("values") or ()))
            for part in ("matchExpressions", "matchFields")
            for expression in term.get(part) or ()
        )
        for term in selector.get("nodeSelectorTerms") or ()
    )


def _read_claim(obj: Object) -> Claim:
    metadata, spec = _metadata(obj), obj.get("spec") or {}
    return Claim(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name", ""),
        volume=spec.get("volumeName") or "",
        storage_class=claim_class(metadata, spec),
    )


def claim_class(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """The class that a claim, or a template of one, names: None if it leaves it to the default, "" if it wants none."""
    annotated = (metadata.get("annotations") or {}).get(_CLASS_ANNOTATION)
    if annotated is not None:
        return str(annotated)
    name = spec.get("storageClassName")
    return None if name is None else str(name)


def _read_node(obj: Object) -> Node:
    metadata, spec = _metadata(obj), obj.get("spec") or {}
    allocatable = (obj.get("status") or {}).get("allocatable") or {}
    return Node(
        name=metadata.get("name", ""),
        labels=metadata.get("labels") or {},
        taints=tuple(
            Taint(taint.get("key", ""), taint.get("value") or "", taint.get("effect", ""))
            for taint in spec.get("taints") or ()
        ),
        memory=parse_memory(allocatable.get("memory", 0)),
    )


def _read_limit_range(obj: Object) -> tuple[LimitRange, ...]:
    metadata, spec = _metadata(obj), obj.get("spec") or {}
    return tuple(
        _read_limits(metadata, item) for item in spec.get("limits") or () if item.get("type") in ("Container", "Pod")
    )


def _read_limits(metadata: Mapping[str, Any], item: Mapping[str, Any]) -> LimitRange:
    def memory(field_name: str) -> int | None:
        value = (item.get(field_name) or {}).get("memory")
        return None if value is None else parse_memory(value)

    # The API does this defaulting itself when it stores a LimitRange (SetDefaults_LimitRangeItem); one that comes
    # from a chart has not been there yet.
    minimum, maximum = memory("min"), memory("max")
    default, request = memory("default"), memory("defaultRequest")
    if item["type"] == "Container":
        default = maximum if default is None else default
        request = next((value for value in (request, default, minimum) if value is not None), None)
    ratio = (item.get("maxLimitRequestRatio") or {}).get("memory")
    return LimitRange(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name", ""),
        type=item["type"],
        default=default,
        default_request=request,
        min=minimum,
        max=maximum,
        max_ratio=None if ratio is None else _read_ratio(ratio),
    )


def _read_ratio(value: str | int | float) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise BadQuantity(f"maxLimitRequestRatio {value!r} is no number") from error


def _read_namespace(obj: Object) -> Mapping[str, str]:
    return _metadata(obj).get("labels") or {}


_READERS: Mapping[str, Any] = {
    "StorageClass": _read_storage_class,
    "PersistentVolume": _read_volume,
    "PersistentVolumeClaim": _read_claim,
    "Node": _read_node,
    "LimitRange": _read_limit_range,
    "Namespace": _read_namespace,
}
