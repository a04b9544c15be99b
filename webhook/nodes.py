"""Which nodes, and so which zones, a pod may use: its own selectors and affinity, the nodes' taints.

Only what the scheduler requires counts, not what it prefers. A passing state of a node, such as a cordon, doesn't hide
its zone: the pod may be sent there tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from webhook.facts import ClusterFacts, Node, Requirement, Taint, Term, read_terms
from webhook.pods import Workload, items, mapping

ZONE_LABEL = "topology.kubernetes.io/zone"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_FIELD = "metadata.name"
_ODD_ZONE_KEYS = frozenset({"csi.hetzner.cloud/location", "topology.csi.vmware.com/k8s-zone"})
_ODD_NODE_KEYS = frozenset({"kubernetes.io/hostname", "openebs.io/nodeid", "openebs.io/nodename", _FIELD})
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


def is_zone_key(key: str) -> bool:
    """Whether a label of nodes and volumes names a zone: the well-known keys, and those that CSI drivers bring."""
    return key.endswith("/zone") or key in _ODD_ZONE_KEYS


def is_node_key(key: str) -> bool:
    """Whether a label, or the field metadata.name, names one node."""
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
        return all(_holds(each, zone) for each in self.selector if is_zone_key(each.key)) and (
            self.terms is None
            or any(term and all(_holds(each, zone) for each in term if is_zone_key(each.key)) for term in self.terms)
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
        return self._only(is_zone_key)

    @property
    def pinned_node(self) -> str:
        """The one node that the pod binds itself to; empty if it doesn't."""
        return self.node_name or self._only(is_node_key)

    def _only(self, is_meant: Callable[[str], bool]) -> str:
        """The one value that every alternative allows for the keys that are meant; empty if there are several."""
        allowed: set[str] = set()
        for term in ((),) if self.terms is None else self.terms:
            named = [
                set(each.values) for each in (*self.selector, *term) if each.operator == "In" and is_meant(each.key)
            ]
            if not named:
                return ""
            allowed |= set.intersection(*named)
        return allowed.pop() if len(allowed) == 1 else ""


ANYWHERE = Placement()
"""A pod that asks for nothing; taints still keep it away."""


def read_placement(workload: Workload) -> Placement:
    """What the workload's pods require of a node; raises BadObject if its fields are of the wrong kind."""
    spec, path = workload.spec, workload.spec_path
    selector = mapping(spec, "nodeSelector", path)
    affinity = mapping(mapping(spec, "affinity", path), "nodeAffinity", f"{path}.affinity")
    required = mapping(affinity, _REQUIRED, f"{path}.affinity.nodeAffinity")
    return Placement(
        node_name=spec.get("nodeName") or "",
        selector=tuple(Requirement(key, "In", (str(value),)) for key, value in selector.items()),
        terms=None if affinity.get(_REQUIRED) is None else read_terms(required),
        tolerations=tuple(_read_toleration(each) for each in items(spec, "tolerations", path)),
    )


def _read_toleration(toleration: Mapping[str, Any]) -> Toleration:
    return Toleration(
        key=toleration.get("key") or "",
        operator=toleration.get("operator") or "Equal",
        value=toleration.get("value") or "",
        effect=toleration.get("effect") or "",
    )


def eligible_nodes(placement: Placement, facts: ClusterFacts) -> list[Node]:
    """The nodes that are there today and that a pod may use."""
    is_anywhere = not (placement.node_name or placement.selector) and placement.terms is None
    return [
        node
        for node in facts.nodes.values()
        if (is_anywhere or placement.admits(node.labels, node.name))
        and (not node.taints or placement.tolerates(node.taints))
    ]


def usable_zones(placement: Placement, facts: ClusterFacts, key: str = "") -> frozenset[str]:
    """The zones of those nodes; `key` is the label that names them, if it isn't the usual one."""
    zones = {node.labels.get(key, "") if key else node.zone for node in eligible_nodes(placement, facts)}
    return frozenset(zones - {""})


def largest_node(workload: Workload, facts: ClusterFacts) -> Node | None:
    """Of the nodes that the workload's pods may use, the one with the most memory; None if none is known."""
    return max(eligible_nodes(read_placement(workload), facts), key=lambda node: node.memory, default=None)


def _all_hold(requirements: Iterable[Requirement], labels: Mapping[str, str], name: str) -> bool:
    return all(_holds(each, name if each.key == _FIELD else labels.get(each.key)) for each in requirements)


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
