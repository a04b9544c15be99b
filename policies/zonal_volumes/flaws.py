"""What is wrong with a volume for pods that may run on certain nodes, and how the pods are kept where it is."""

from __future__ import annotations

from typing import NamedTuple

from webhook.objects.facts import NODES, ClusterFacts
from webhook.objects.nodes import Placement, usable_nodes
from webhook.objects.reach import Reach, reach_of
from webhook.objects.storage import Tie
from webhook.objects.topology import PINNING_KEYS, ZONE_LABEL, Pin, called, is_node_key, shown
from webhook.objects.volumes import StoredVolume
from webhook.objects.wording import listed
from webhook.policy import MODES, Mode

_MOST_NAMED = 10
_EARLY = "its class binds Immediate: it is made before its pods have a node, in any zone of the cluster"


class Flaw(NamedTuple):
    """What is wrong with a volume, as the message begins.

    brief          the same without the places, where room is scarce; empty if `wrong` names none
    pin            the label that keeps the pods where the volume is
    binds_early    its class had better wait for the pod, which is all that is wrong if there is no `pin`
    is_in_several  the volume is in several places, and the pods may run in more
    is_nowhere     none of the nodes that the pods may use reach the volume
    """

    tie: Tie
    wrong: str
    at_most: Mode = "deny"
    is_unknown: bool = False
    brief: str = ""
    pin: Pin | None = None
    binds_early: bool = False
    is_in_several: bool = False
    is_nowhere: bool = False

    @property
    def seen(self) -> str:
        """What is wrong, with the chain of what was seen."""
        return f"{self.wrong} ({self.tie})"

    @property
    def is_for_somebody(self) -> bool:
        """Whether there is something to do about it."""
        return self.at_most != "audit" and not self.is_unknown

    @property
    def severity(self) -> tuple[int, bool]:
        return MODES.index(self.at_most), not self.is_unknown


class Pods:
    """Where a workload's pods may run; `zones` are all that nodes may come up in, if they are named."""

    def __init__(self, placement: Placement, facts: ClusterFacts, zones: tuple[str, ...]) -> None:
        self._placement, self._facts, self._zones = placement, facts, zones

    def reach(self, tie: Tie) -> Reach:
        return reach_of(tie, self._placement, self._facts, self._zones)

    def pinned_to(self, tie: Tie) -> str:
        """The node, or the zone, that the pods bind themselves to by a label that says where a node is."""
        if node := self._placement.pinned_node:
            return f"node {shown(node)}"
        if tie.keys and is_node_key(tie.keys[-1]):
            return ""
        zone = self._placement.pinned_by(PINNING_KEYS.union(tie.keys))
        return f"zone {shown(zone)}" if zone else ""

    @property
    def knows_all_zones(self) -> bool:
        return bool(self._zones)

    @property
    def is_in_one_zone(self) -> bool:
        """Whether the parameter `zones` names only one zone in which the pods may run."""
        return sum(map(self._placement.admits_zone, self._zones)) == 1

    def why_unknown(self) -> str:
        nodes = self._facts.of(NODES)
        if not nodes:
            return "there are none" if NODES in self._facts.known else "nodes could not be read"
        is_open = usable_nodes(self._placement, self._facts)
        return "their nodes have no zone label" if is_open else "no node is open to them"


def flaw_of(volume: StoredVolume, pods: Pods) -> Flaw | None:
    """The worst of what is wrong with a workload's volume."""
    what = f"volume {volume.name!r}"
    if volume.route == "ephemeral":
        what = f"ephemeral {what}"
    found = (_flaw_of_one(volume, what, tie, pods) for tie in volume.ties)
    return max(filter(None, found), key=lambda flaw: flaw.severity, default=None)


def _flaw_of_one(volume: StoredVolume, what: str, tie: Tie, pods: Pods) -> Flaw | None:
    is_ephemeral = volume.route == "ephemeral"
    # An ephemeral volume is made with each pod. It can only be in the wrong zone if it is made before the pod has a
    # node.
    if is_ephemeral and tie.binds == "WaitForFirstConsumer":
        return None
    flaw = flaw_of_tie(what, tie, pods)
    if flaw is None:
        return None
    if is_ephemeral:
        flaw = flaw._replace(pin=None, binds_early=True)
    # A hostPath doesn't keep a pod from starting elsewhere: it starts without its data.
    is_mild = is_ephemeral or (volume.route == "inline" and is_node_key(tie.keys[-1] if tie.keys else ""))
    return flaw._replace(at_most="warn") if is_mild and flaw.at_most == "deny" else flaw


def flaw_of_tie(what: str, tie: Tie, pods: Pods) -> Flaw | None:
    """What is wrong with a volume that is tied like this, for pods that may run there."""
    if tie.extent == "nothing":
        return None
    pinned = pods.pinned_to(tie)
    if tie.extent == "unknown":
        return _judge_unknown(what, tie, pods, pinned)
    reach = pods.reach(tie)
    is_early = tie.binds == "Immediate" and tie.extent == "group" and not tie.is_made
    if reach.extent == "unknown" and not pinned:
        where = "on which nodes" if is_node_key(reach.key) else "in which zones"
        return Flaw(tie, f"cannot tell {where} pods with {what} may run: {pods.why_unknown()}", "warn", True)
    if reach.extent == "none":
        where = _where(reach.key, reach.places, "may only run")
        return Flaw(
            tie,
            f"{what} is tied to {tie.says}, but its pods {where}: they stay Pending",
            "warn",
            brief=f"{what} is tied to {tie.says}, where its pods may not run: they stay Pending",
            pin=reach.pin,
            is_nowhere=True,
        )
    if reach.extent == "some":
        return _judge_some(what, tie, reach, is_early)
    if pinned:
        return _judge_pinned(what, tie, pinned, is_early)
    if reach.elsewhere:
        where = _where(reach.key, reach.places, "may only run")
        return Flaw(tie, f"{what} is tied to {tie.says}, and its pods {where}, but {_EARLY}", "warn", binds_early=True)
    # An autoscaler may bring nodes in other zones tomorrow; the parameter `zones` would tell.
    is_seen_today = tie.extent == "group" and reach.count == 1 and reach.places and not pods.knows_all_zones
    if not is_seen_today:
        return None
    only = f"{called(reach.key, 1)} {', '.join(map(shown, reach.places))}"
    return Flaw(tie, f"{what} is tied to {tie.says}, and only {only} is seen today", "warn", pin=reach.pin)


def _judge_unknown(what: str, tie: Tie, pods: Pods, pinned: str) -> Flaw | None:
    if pinned:
        return _judge_pinned(what, tie, pinned, is_early=False)
    if pods.is_in_one_zone:
        return None
    return Flaw(tie, f"cannot tell whether {what} is tied to a zone", "warn", is_unknown=True)


def _judge_pinned(what: str, tie: Tie, pinned: str, is_early: bool) -> Flaw:
    """The flaw for pods that are pinned already: only recorded, unless their volume may be made elsewhere."""
    wrong = f"{what} is tied to {tie.says}, and its pods to {pinned}"
    if is_early:
        return Flaw(tie, f"{wrong}, but {_EARLY}", "warn", binds_early=True)
    return Flaw(tie, wrong, "audit")


def _judge_some(what: str, tie: Tie, reach: Reach, is_early: bool) -> Flaw:
    """Some of the nodes that the pods may use reach it."""
    is_in_several = reach.count > 1
    where = _where(reach.key, reach.places, "may run")
    wrong = f"{what} is {'in' if is_in_several else 'tied to'} {tie.says}, but its pods may run "
    return Flaw(
        tie,
        f"{wrong}{where.removeprefix('may run ')}" + (f"; {_EARLY}" if is_early else ""),
        "warn" if is_in_several else "deny",
        brief=f"{wrong}{_roughly(reach.key, reach.places)}",
        pin=reach.pin,
        binds_early=is_early,
        is_in_several=is_in_several,
    )


def _roughly(key: str, places: frozenset[str]) -> str:
    """ "in 3 zones", "on 2 nodes", "elsewhere"."""
    what = called(key, len(places))
    if what == key or len(places) < 2:
        return "elsewhere"
    return f"{'on' if is_node_key(key) else 'in'} {len(places)} {what}"


def _where(key: str, places: frozenset[str], may: str) -> str:
    """'may run in 2 zones: a, b', 'may only run on node n1', 'may run where example.com/site is x, y'."""
    what = called(key, len(places))
    text = listed(map(shown, sorted(places)), _MOST_NAMED)
    if what == key:
        return f"{may} where {key} is {text}"
    by = "" if key == ZONE_LABEL or is_node_key(key) else f" by {key}"
    count = f" {len(places)} {what}{by}:" if len(places) > 1 else f" {what}"
    return f"{may} {'on' if is_node_key(key) else 'in'}{count} {text}"
