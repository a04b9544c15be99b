"""Which nodes, and so which zones, a pod may use: its own selectors and affinity, the nodes' taints.

Only what the scheduler requires counts, not what it prefers. A passing state of a node, such as a cordon, doesn't hide
its zone: the pod may be sent there tomorrow. Requirements longer than anybody needs read as none, so that nobody can
make them too slow to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from webhook.objects.facts import NODES, ClusterFacts, Node, Requirement, Taint, Term, read_terms
from webhook.objects.facts.selectors import holds
from webhook.objects.fields import items, mapping, text
from webhook.objects.pods import Workload
from webhook.objects.topology import HOST_LABEL, NAME_FIELD, ZONE_KEYS, ZONE_LABEL, is_node_key

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PINNING_NODE_KEYS = frozenset({HOST_LABEL, NAME_FIELD})
_PASSING_TAINTS = frozenset(
    {
        "DeletionCandidateOfClusterAutoscaler",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "karpenter.sh/unregistered",
        "node.cilium.io/agent-not-ready",
        "node.cloudprovider.kubernetes.io/shutdown",
        "node.cloudprovider.kubernetes.io/uninitialized",
    }
)
_PASSING_PREFIX = "node.kubernetes.io/"
_MOST_TERMS = 100
_MOST_EXPRESSIONS = 100
_MOST_VALUES = 1000
_MOST_TOLERATIONS = 100
# A label with more values than these, such as the host's name, tells nodes apart that are alike in all others.
_MOST_LABEL_VALUES = 32


class Toleration(msgspec.Struct, frozen=True, gc=False):
    """An empty key tolerates every key, an empty effect every effect."""

    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        return self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)


class Placement(msgspec.Struct, frozen=True, gc=False):
    """What a pod requires of its node. The terms are alternatives; None means that it has no required affinity."""

    node_name: str = ""
    selector: Term = ()
    terms: tuple[Term, ...] | None = None
    tolerations: tuple[Toleration, ...] = ()

    def admits(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether selector and affinity let the pod onto a node, whatever its taints."""
        if self.node_name:
            return self.node_name == name
        if not _all_hold(self.selector, labels, name):
            return False
        return self.terms is None or any(term and _all_hold(term, labels, name) for term in self.terms)

    def admits_zone(self, zone: str) -> bool:
        """Whether it could run on some node of the zone, as far as its requirements on zones tell."""
        return _zone_holds(self.selector, zone) and (
            self.terms is None or any(term and _zone_holds(term, zone) for term in self.terms)
        )

    def tolerates(self, taints: Iterable[Taint]) -> bool:
        return all(
            taint.effect not in ("NoSchedule", "NoExecute")
            or taint.key in _PASSING_TAINTS
            or taint.key.startswith(_PASSING_PREFIX)
            or any(toleration.tolerates(taint) for toleration in self.tolerations)
            for taint in taints
        )

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the labels that the pod requires of its node."""
        terms = self.terms or ()
        return frozenset(
            [requirement.key for requirement in self.selector]
            + [requirement.key for term in terms for requirement in term]
        )

    @property
    def pinned_node(self) -> str:
        """The one node that the pod binds itself to; empty if it doesn't."""
        return self.node_name or self.pinned_by(_PINNING_NODE_KEYS)

    def pinned_by(self, keys: frozenset[str]) -> str:
        """The one value that every alternative allows for these keys; empty if there are several."""
        selected = _named(self.selector, keys)
        allowed: set[str] = set()
        for term in ((),) if self.terms is None else self.terms:
            named = [*selected, *_named(term, keys)]
            if not named:
                return ""
            allowed |= set.intersection(*named)
        return allowed.pop() if len(allowed) == 1 else ""


def _named(requirements: Iterable[Requirement], keys: frozenset[str]) -> list[set[str]]:
    return [
        set(requirement.values)
        for requirement in requirements
        if requirement.operator == "In" and requirement.key in keys
    ]


def _zone_holds(requirements: Iterable[Requirement], zone: str) -> bool:
    # Nodes needn't have the other keys, and a label that isn't there satisfies NotIn and DoesNotExist.
    return all(
        holds(requirement, zone)
        for requirement in requirements
        if requirement.key == ZONE_LABEL or (requirement.operator == "In" and requirement.key in ZONE_KEYS)
    )


ANYWHERE = Placement()
"""The placement of a pod without requirements; taints still keep it from nodes."""


# Policies ask for the same workload's placement, and its nodes, for each container and volume: the last is kept.
_last_placement: tuple[Workload, Placement] | None = None
_last_nodes: tuple[Placement, tuple[Alike, ...], tuple[Alike, ...]] | None = None


def read_placement(workload: Workload) -> Placement:
    """What the workload's pods require of a node; raises BadObject if its fields are of the wrong kind."""
    global _last_placement  # noqa: PLW0603
    last = _last_placement
    if last is not None and last[0] is workload:
        return last[1]
    placement = _read_placement(workload)
    _last_placement = workload, placement
    return placement


def _read_placement(workload: Workload) -> Placement:
    spec, path = workload.spec, workload.spec_path
    selector = mapping(spec, "nodeSelector", path)
    affinity = mapping(mapping(spec, "affinity", path), "nodeAffinity", f"{path}.affinity")
    required_path = f"{path}.affinity.nodeAffinity.{_REQUIRED}"
    required = mapping(affinity, _REQUIRED, f"{path}.affinity.nodeAffinity")
    return Placement(
        node_name=text(spec, "nodeName", path),
        selector=tuple(Requirement(key, "In", (str(value),)) for key, value in selector.items()),
        terms=None if affinity.get(_REQUIRED) is None else _bounded(read_terms(required, required_path)),
        tolerations=_read_tolerations(items(spec, "tolerations", path), f"{path}.tolerations"),
    )


def _bounded(terms: tuple[Term, ...]) -> tuple[Term, ...] | None:
    """The terms, or no requirement at all, which is the strict reading, where they are too many."""
    expressions = [requirement for term in terms for requirement in term]
    is_bounded = (
        len(terms) <= _MOST_TERMS
        and len(expressions) <= _MOST_EXPRESSIONS
        and sum(len(requirement.values) for requirement in expressions) <= _MOST_VALUES
    )
    return tuple(tuple(map(_read_requirement, term)) for term in terms) if is_bounded else None


def _read_requirement(requirement: Requirement) -> Requirement:
    """The requirement; one on a field is read only with In, as otherwise it could be a label called metadata.name,
    which no node has."""
    is_doubtful = requirement.key == NAME_FIELD and requirement.operator != "In"
    return Requirement(NAME_FIELD, "NotIn", ()) if is_doubtful else requirement


def _read_tolerations(tolerations: list[Mapping[str, Any]], path: str) -> tuple[Toleration, ...]:
    """The tolerations, or one of every taint, which is the strict reading, where they are too many."""
    if len(tolerations) > _MOST_TOLERATIONS:
        return (Toleration("", "Exists", "", ""),)
    return tuple(_read_toleration(toleration, f"{path}[{index}]") for index, toleration in enumerate(tolerations))


def _read_toleration(toleration: Mapping[str, Any], path: str) -> Toleration:
    return Toleration(
        key=text(toleration, "key", path),
        operator=text(toleration, "operator", path) or "Equal",
        value=text(toleration, "value", path),
        effect=text(toleration, "effect", path),
    )


Alike = tuple[Node, ...]
"""Nodes with the same taints, and the same labels as far as anybody has asked, so that what holds for one holds for
all; the one with the most memory is the first."""


class _Table:
    """A snapshot's nodes in groups of equal ones, made once for a snapshot: a thousand nodes are a few dozen kinds."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self.single = tuple((node,) for node in nodes.values())
        values: dict[str, set[str]] = {}
        for node in nodes.values():
            for key, value in node.labels.items():
                values.setdefault(key, set()).add(value)
        self.labels = frozenset(values)
        self._own = frozenset(key for key, found in values.items() if len(found) > _MOST_LABEL_VALUES)
        alike: dict[Any, list[Node]] = {}
        for node in nodes.values():
            labels = frozenset(item for item in node.labels.items() if item[0] not in self._own)
            alike.setdefault((labels, node.taints), []).append(node)
        self._alike = tuple(tuple(sorted(group, key=lambda node: -node.memory)) for group in alike.values())

    def groups(self, keys: frozenset[str]) -> tuple[Alike, ...]:
        """The nodes, in groups that are equal in taints and in these labels."""
        is_of_each = any(is_node_key(key) or key in self._own for key in keys)
        return self.single if is_of_each else self._alike


_last_table = _Table({})


def _table_of(facts: ClusterFacts) -> _Table:
    global _last_table  # noqa: PLW0603
    nodes = facts.of(NODES)
    if _last_table.nodes is not nodes:
        if _last_table.nodes == nodes:  # each heartbeat of a node makes a new mapping of equal records
            _last_table.nodes = nodes
        else:
            _last_table = _Table(nodes)
    return _last_table


def usable_nodes(placement: Placement, facts: ClusterFacts, keys: frozenset[str] = frozenset()) -> tuple[Alike, ...]:
    """The nodes that are there today and that a pod may use, in groups that these labels don't tell apart."""
    global _last_nodes  # noqa: PLW0603
    table, last = _table_of(facts), _last_nodes
    groups = table.groups(placement.keys | keys if not placement.node_name else _PINNING_NODE_KEYS)
    # A patched object is another request, as a rule with the same placement.
    if last is not None and last[1] is groups and last[0] == placement:
        return last[2]
    usable = tuple(
        group
        for group in groups
        if placement.admits(group[0].labels, group[0].name)
        and (not group[0].taints or placement.tolerates(group[0].taints))
    )
    _last_nodes = placement, groups, usable
    return usable


def all_nodes(facts: ClusterFacts, keys: frozenset[str]) -> tuple[Alike, ...]:
    """Every node that is there today, in groups that these labels don't tell apart."""
    return _table_of(facts).groups(keys)


def node_labels(facts: ClusterFacts) -> frozenset[str]:
    """The labels that any node carries."""
    return _table_of(facts).labels


def largest_node(workload: Workload, facts: ClusterFacts) -> Node | None:
    """Of the nodes that the workload's pods may use, the one with the most memory; None if none is known."""
    groups = usable_nodes(read_placement(workload), facts)
    return max((group[0] for group in groups), key=lambda node: node.memory, default=None)


def _all_hold(requirements: Iterable[Requirement], labels: Mapping[str, str], name: str) -> bool:
    # A loop, since this runs for each node and a generator takes twice as long.
    for requirement in requirements:
        if not holds(requirement, name if requirement.key == NAME_FIELD else labels.get(requirement.key)):
            return False
    return True
