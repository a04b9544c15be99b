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
from webhook.objects.pods import Workload, items, mapping

ZONE_LABEL = "topology.kubernetes.io/zone"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_FIELD = "metadata.name"
_ODD_ZONE_KEYS = frozenset({"csi.hetzner.cloud/location", "topology.csi.vmware.com/k8s-zone"})
# Whose values are those of ZONE_LABEL.
_SAME_ZONE_KEYS = frozenset(
    {
        ZONE_LABEL,
        "failure-domain.beta.kubernetes.io/zone",
        "topology.cinder.csi.openstack.org/zone",
        "topology.disk.csi.azure.com/zone",
        "topology.ebs.csi.aws.com/zone",
        "topology.gke.io/zone",
    }
)
_HOSTNAME = "kubernetes.io/hostname"
_ODD_NODE_KEYS = frozenset({_HOSTNAME, "openebs.io/nodeid", "openebs.io/nodename", _FIELD})
# Any label can be put on nodes and asked for, whatever it ends in: only these bind a pod to what they say.
_PINNING_ZONE_KEYS = _SAME_ZONE_KEYS | _ODD_ZONE_KEYS
_PINNING_NODE_KEYS = frozenset({_HOSTNAME, _FIELD})
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


def is_zone_key(key: str) -> bool:
    """Whether a label that a volume is tied to names a zone: the well-known keys, and those that CSI drivers bring."""
    return key.endswith("/zone") or key in _ODD_ZONE_KEYS


def is_node_key(key: str) -> bool:
    """Whether a label that a volume is tied to names one node."""
    return key.endswith("/node") or key in _ODD_NODE_KEYS


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
    def pinned_zone(self) -> str:
        """The one zone that the pod binds itself to; empty if it doesn't."""
        return self._only(_PINNING_ZONE_KEYS)

    @property
    def pinned_node(self) -> str:
        """The one node that the pod binds itself to; empty if it doesn't."""
        return self.node_name or self._only(_PINNING_NODE_KEYS)

    def _only(self, keys: frozenset[str]) -> str:
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
    return [set(each.values) for each in requirements if each.operator == "In" and each.key in keys]


def _zone_holds(requirements: Iterable[Requirement], zone: str) -> bool:
    # Nodes needn't have the other keys, and a label that isn't there satisfies NotIn and DoesNotExist.
    return all(
        _holds(each, zone)
        for each in requirements
        if each.key == ZONE_LABEL or (each.operator == "In" and each.key in _SAME_ZONE_KEYS)
    )


ANYWHERE = Placement()
"""A pod that asks for nothing; taints still keep it away."""


# Policies ask for the same workload's placement, and its nodes, for each container and volume: the last is kept.
_last_placement: tuple[Workload, Placement] | None = None
_last_nodes: tuple[Placement, Mapping[str, Node], list[Node]] | None = None


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
    required = mapping(affinity, _REQUIRED, f"{path}.affinity.nodeAffinity")
    return Placement(
        node_name=spec.get("nodeName") or "",
        selector=tuple(Requirement(key, "In", (str(value),)) for key, value in selector.items()),
        terms=None if affinity.get(_REQUIRED) is None else _bounded(read_terms(required)),
        tolerations=_read_tolerations(items(spec, "tolerations", path)),
    )


def _bounded(terms: tuple[Term, ...]) -> tuple[Term, ...] | None:
    """The terms, or no requirement at all, which is the strict reading, where they are too many."""
    expressions = [each for term in terms for each in term]
    is_bounded = (
        len(terms) <= _MOST_TERMS
        and len(expressions) <= _MOST_EXPRESSIONS
        and sum(len(each.values) for each in expressions) <= _MOST_VALUES
    )
    return tuple(tuple(map(_read_requirement, term)) for term in terms) if is_bounded else None


def _read_requirement(requirement: Requirement) -> Requirement:
    """The same, but without what could be a label called metadata.name, which no node has: only In proves the field."""
    is_doubtful = requirement.key == _FIELD and requirement.operator != "In"
    return Requirement(_FIELD, "NotIn", ()) if is_doubtful else requirement


def _read_tolerations(tolerations: list[Mapping[str, Any]]) -> tuple[Toleration, ...]:
    """The tolerations, or one of every taint, which is the strict reading, where they are too many."""
    if len(tolerations) > _MOST_TOLERATIONS:
        return (Toleration("", "Exists", "", ""),)
    return tuple(map(_read_toleration, tolerations))


def _read_toleration(toleration: Mapping[str, Any]) -> Toleration:
    return Toleration(
        key=toleration.get("key") or "",
        operator=toleration.get("operator") or "Equal",
        value=toleration.get("value") or "",
        effect=toleration.get("effect") or "",
    )


def eligible_nodes(placement: Placement, facts: ClusterFacts) -> list[Node]:
    """The nodes that are there today and that a pod may use."""
    global _last_nodes  # noqa: PLW0603
    last, known = _last_nodes, facts.of(NODES)
    # A patched object is another, with the same placement as a rule; facts are replaced and never changed.
    if last is not None and last[1] is known and last[0] == placement:
        return last[2]
    is_anywhere = not (placement.node_name or placement.selector) and placement.terms is None
    nodes = [
        node
        for node in known.values()
        if (is_anywhere or placement.admits(node.labels, node.name))
        and (not node.taints or placement.tolerates(node.taints))
    ]
    _last_nodes = placement, known, nodes
    return nodes


def usable_zones(placement: Placement, facts: ClusterFacts, key: str = "") -> frozenset[str]:
    """The zones of those nodes; `key` is the label that names them, if it isn't the usual one."""
    zones = {node.labels.get(key, "") if key else node.zone for node in eligible_nodes(placement, facts)}
    return frozenset(zones - {""})


def largest_node(workload: Workload, facts: ClusterFacts) -> Node | None:
    """Of the nodes that the workload's pods may use, the one with the most memory; None if none is known."""
    return max(eligible_nodes(read_placement(workload), facts), key=lambda node: node.memory, default=None)


def _all_hold(requirements: Iterable[Requirement], labels: Mapping[str, str], name: str) -> bool:
    # Asked for each node: a generator takes twice as long.
    for each in requirements:  # noqa: SIM110
        if not _holds(each, name if each.key == _FIELD else labels.get(each.key)):
            return False
    return True


def _holds(requirement: Requirement, value: str | None) -> bool:
    """One expression against a label's value; None is a label that isn't there.

    Source: k8s.io/component-helpers/scheduling/corev1/nodeaffinity.
    """
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None and len(requirement.values) == 1:
            return _compares(requirement.operator, value, requirement.values[0])
        case _:
            return False


def _compares(operator: str, value: str, bound: str) -> bool:
    try:
        return int(value) > int(bound) if operator == "Gt" else int(value) < int(bound)
    except ValueError:
        return False
