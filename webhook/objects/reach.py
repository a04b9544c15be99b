"""Whether pods can follow a volume: which of the nodes that they may use reach it, and which label tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from webhook.objects.facts import ClusterFacts, Node, Requirement, zone_of
from webhook.objects.nodes import Placement, all_nodes, usable_nodes
from webhook.objects.storage import Tie
from webhook.objects.topology import (
    HOST_LABEL,
    ZONE_KEYS,
    ZONE_LABEL,
    Pin,
    admits,
    carried_key,
    is_node_key,
    is_region_key,
    label_of,
)

Coverage = Literal["all", "some", "none", "unknown"]


class Reach(msgspec.Struct, frozen=True, gc=False):
    """How many of the nodes that pods may use reach a volume.

    key       the label whose values are the places
    places    where the pods may run; empty if the nodes are in no place that could matter
    count     how many places reach the volume
    pin       the label that keeps the pods where the volume is reached from; of a volume that is there, but nobody
              knows where, its value is empty
    elsewhere whether the volume may be made in a place where the pods can't run
    """

    extent: Coverage
    key: str = ZONE_LABEL
    places: frozenset[str] = frozenset()
    count: int = 1
    pin: Pin | None = None
    elsewhere: bool = False


# The same workload is reviewed more than once, and most have the volumes of a few drivers in a few places.
_MOST_KEPT = 256
_kept: dict[tuple[Tie, Placement, tuple[str, ...]], Reach] = {}
_kept_for: object = None


def reach_of(tie: Tie, placement: Placement, facts: ClusterFacts, zones: tuple[str, ...]) -> Reach:
    """How many of the nodes that a pod may use reach the volume: today's, or those in the zones that are named."""
    global _kept_for  # noqa: PLW0603
    nodes = all_nodes(facts, frozenset())
    if _kept_for is not nodes or len(_kept) >= _MOST_KEPT:
        _kept.clear()
        _kept_for = nodes
    key = (tie.without_chain, placement, zones)
    if key not in _kept:
        _kept[key] = _reach_of(tie, placement, facts, zones)
    return _kept[key]


def _reach_of(tie: Tie, placement: Placement, facts: ClusterFacts, zones: tuple[str, ...]) -> Reach:
    nodes = [group[0] for group in usable_nodes(placement, facts, tie.asked)]
    to_come: list[Node] = []
    if zones:
        nodes = [node for node in nodes if zone_of(node.labels) in ("", *zones)]
        seen = {zone_of(node.labels) for node in nodes}
        to_come = [_in_zone(zone, tie) for zone in zones if zone not in seen and placement.admits_zone(zone)]
    elif not nodes and (zone := placement.pinned_by(ZONE_KEYS)):
        to_come = [_in_zone(zone, tie)]
    reach = _of_named if tie.extent == "nodes" else _of_group
    return reach(tie, nodes, to_come, [group[0] for group in all_nodes(facts, tie.asked)])


def _in_zone(zone: str, tie: Tie) -> Node:
    """A node that isn't there yet: of the labels that group nodes, each has a value of its own in a zone of its own."""
    labels = {key: zone for key in tie.keys if not is_node_key(key)} if tie.extent == "group" else {}
    return Node(f"a new one in zone {zone}", {**labels, ZONE_LABEL: zone}, (), 0)


def _of_named(tie: Tie, nodes: list[Node], to_come: list[Node], cluster: list[Node]) -> Reach:
    """The reach of a volume whose terms say, by labels, which nodes reach it."""
    near, far = _parted(tie.terms, nodes)
    if all(key in ZONE_KEYS or is_node_key(key) or is_region_key(key) for key in tie.asked):
        new = _parted(
            [[requirement for requirement in term if not is_region_key(requirement.key)] for term in tie.terms], to_come
        )
        near, far = near + new[0], far + new[1]
    if near and not far:
        return Reach("all")
    key = _telling(tie.keys, near, far)
    count = max(len(tie.places), len(_places(key, near)))
    if near:
        return Reach("some", key, _places(key, near + far), count, _pin(key, near))
    if not far:
        # Of nodes in a single zone that are yet to come, one is as good as the other.
        return Reach("all" if len(to_come) == 1 else "unknown", key)
    # No allowed node reaches it: the pin leads to the cluster's nodes that do.
    there, elsewhere = _parted(tie.terms, cluster)
    return Reach("none", key, _places(key, far), count, _pin(_telling(tie.keys, there, elsewhere), there))


def _parted(terms: Iterable[Sequence[Requirement]], nodes: Iterable[Node]) -> tuple[list[Node], list[Node]]:
    """The nodes for which one of the terms holds, and the others."""
    alternatives = [tuple(term) for term in terms]
    near: list[Node] = []
    far: list[Node] = []
    for node in nodes:
        (near if admits(alternatives, node) else far).append(node)
    return near, far


def _of_group(tie: Tie, nodes: list[Node], to_come: list[Node], cluster: list[Node]) -> Reach:
    """The reach of a volume that is in one or several of the places that a label makes of nodes."""
    key = next((key for key in tie.keys if any(key in node.labels for node in nodes)), tie.keys[-1])
    values = _places(key, nodes)
    if values and values <= {"", *tie.no_place}:
        return Reach("all")
    # OpenStack's "nova": to this driver the zones that the nodes are in are one.
    if key in ZONE_KEYS and len(values) == 1 < len(_places(ZONE_LABEL, nodes)):
        return Reach("all")
    allowed = _parted(tie.terms, nodes)[0] if tie.terms else nodes
    key = _usual(key, nodes)
    places, open_to = _places(key, nodes + to_come), _places(key, allowed + to_come)
    if not places:
        return Reach("unknown", key)
    if not open_to:
        return Reach("none", key, places, tie.count)
    pin = Pin(carried_key(key, nodes), "" if tie.is_made else min(open_to, key=lambda place: (not place, place)))
    made_in = _places(key, _parted(tie.terms, cluster)[0] if tie.terms else cluster)
    elsewhere = tie.binds == "Immediate" and not made_in <= open_to
    is_everywhere = len(open_to) <= tie.count and len(allowed) == len(nodes)
    return Reach("all" if is_everywhere else "some", key, places, tie.count, pin, elsewhere)


def _places(key: str, nodes: Iterable[Node]) -> frozenset[str]:
    """The places of these nodes by a label; a node without the label is in none, and gets no volume of that driver."""
    return frozenset(value for node in nodes if (value := label_of(node, key)) is not None)


def _telling(keys: Sequence[str], near: list[Node], far: list[Node]) -> str:
    """Of the labels that tell the nodes near a volume from those far from it, the one that people know best."""
    nodes = near + far
    for key in (*keys, ZONE_LABEL):
        here, there = ({label_of(node, key) for node in side} for side in (near, far))
        if None not in here | there and not here & there:
            return _usual(key, nodes)
    return HOST_LABEL


def _usual(key: str, nodes: list[Node]) -> str:
    """The well-known label if it groups these nodes just as this driver's own does, else the driver's."""
    usual = HOST_LABEL if is_node_key(key) else ZONE_LABEL
    return usual if all(label_of(node, key) == label_of(node, usual) for node in nodes) else key


def _pin(key: str, near: list[Node]) -> Pin | None:
    place = min(filter(None, _places(key, near)), default=None)
    return None if place is None else Pin(carried_key(key, near), place)
