"""What a volume's data is tied to: one node, one zone, several zones, nothing, or unknown.

A bound volume says so itself: its node affinity first, then its zone label, then what backs it. Before that its class
decides, by provisioner and parameters. What is known of provisioners is data, in provisioners.json, whose "about" says
how to add one. Every Tie tells the way to it: "claim data → class gp2 → ebs.csi.aws.com → one zone".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from webhook.objects.facts import (
    CLAIMS,
    NODES,
    STORAGE_CLASSES,
    VOLUMES,
    Claim,
    ClusterFacts,
    StorageClass,
    Term,
    Volume,
)
from webhook.objects.nodes import is_node_key, is_zone_key
from webhook.policy import FactReference

Extent = Literal["node", "zone", "zones", "nothing", "unknown"]

_MULTI_ZONE_DELIMITER = "__"
_SEVERITY: Mapping[Extent, int] = {"nothing": 0, "zones": 1, "unknown": 2, "zone": 3, "node": 4}


class Tie(msgspec.Struct, frozen=True, gc=False):
    """What a volume is tied to, and how we know.

    zones   the zones that it can be reached from, where they are known
    count   how many they are; 0 if that isn't known
    key     the node label that names them, if it isn't the usual one
    binds   "Immediate" if the volume is made before its pod has a node
    unseen  what would have to be seen to tell
    """

    extent: Extent
    chain: tuple[str, ...]
    zones: frozenset[str] = frozenset()
    count: int = 0
    key: str = ""
    binds: str = ""
    unseen: tuple[FactReference, ...] = ()

    def __str__(self) -> str:
        if self.extent != "unknown":
            return " → ".join((*self.chain, self.says))
        *seen, missing = self.chain
        return f"{' → '.join(seen)}, {missing}" if seen else missing

    @property
    def severity(self) -> int:
        """How much it may hold pods back: of several ties the worst counts."""
        return _SEVERITY[self.extent]

    @property
    def says(self) -> str:
        named = f" {', '.join(sorted(self.zones))}" if self.zones else ""
        match self.extent:
            case "node":
                return "one node"
            case "zone":
                return f"zone{named}" if named else "one zone"
            case "zones":
                return f"{self.count} zones{named}"
            case "nothing":
                return "not tied to a zone"
            case _:
                return "something unknown"

    def after(self, *steps: str) -> Tie:
        """The same, reached by `steps`."""
        return msgspec.structs.replace(self, chain=(*steps, *self.chain))


class _Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a parameter of the class changes."""

    parameter: str
    values: tuple[str, ...] = msgspec.field(name="is")
    tied: Literal["node", "zone", "zones", "nothing"]
    count: int = 0


class _Rule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One line of provisioners.json."""

    tied: Literal["node", "zone", "zones", "nothing", "topology"]
    count: int = 0
    unless: tuple[_Case, ...] = ()
    any_case: bool = False
    zone: str = ""
    key: str = ""
    why: str = ""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: tuple[str, ...]
    provisioners: Mapping[str, _Rule]
    sources: Mapping[str, _Rule]


_TABLE = msgspec.json.decode(Path(__file__).with_name("provisioners.json").read_bytes(), type=_Table)
PLUGINS = frozenset(_TABLE.sources)
"""The volume plugins that the table knows, by the field that a volume names them in: "nfs", "hostPath"."""
_BY_SUFFIX = tuple((name[1:], rule) for name, rule in _TABLE.provisioners.items() if name.startswith("*"))


@lru_cache(maxsize=256)
def _rule_of(provisioner: str) -> _Rule | None:
    if exact := _TABLE.provisioners.get(provisioner):
        return exact
    return next((rule for suffix, rule in _BY_SUFFIX if provisioner.endswith(suffix)), None)


def tie_of_claim(namespace: str, name: str, facts: ClusterFacts) -> Tie:
    """What the volume of an existing claim is tied to."""
    claim = facts.of(CLAIMS).get((namespace, name))
    step = f"claim {name}"
    if claim is not None:
        return _tie_of(claim, facts).after(step)
    reference = FactReference(CLAIMS, namespace, name)
    return _unseen(reference, facts).after(step)


def _tie_of(claim: Claim, facts: ClusterFacts) -> Tie:
    return tie_of_bound(claim.volume, facts) if claim.volume else tie_of_class(claim.storage_class, facts)


def tie_of_bound(name: str, facts: ClusterFacts) -> Tie:
    """What the PersistentVolume of that name is tied to."""
    volume = facts.of(VOLUMES).get(name)
    if volume is not None:
        return tie_of_volume(volume, facts)
    reference = FactReference(VOLUMES, "", name)
    return _unseen(reference, facts).after(f"volume {name}")


def _unseen(reference: FactReference, facts: ClusterFacts) -> Tie:
    """It may be absent, or newer than what we have seen: only a look-up tells."""
    if reference in facts.absent:
        return Tie("unknown", ("which does not exist",))
    if reference in facts.unreadable:
        return Tie("unknown", ("which can't be read",))
    is_known = reference.kind in facts.known
    why = "which is not in the cluster" if is_known else f"unseen: {reference.kind.resource} could not be read"
    return Tie("unknown", (why,), unseen=(reference,))


def tie_of_class(name: str | None, facts: ClusterFacts) -> Tie:
    """What a volume that a class is going to make is tied to; None is the cluster's default class."""
    if name == "":
        return Tie("unknown", ("no class", "a volume made by hand, known once it is bound"))
    if name is None:
        default = _default_class(facts)
        if default is None:
            is_known = STORAGE_CLASSES in facts.known
            why = "of which there is none" if is_known else "unseen: storageclasses could not be read"
            return Tie("unknown", ("the default class", why))
        return _tie_of_found(default, facts).after(f"default class {default.name}")
    found = facts.of(STORAGE_CLASSES).get(name)
    if found is not None:
        return _tie_of_found(found, facts).after(f"class {name}")
    reference = FactReference(STORAGE_CLASSES, "", name)
    return _unseen(reference, facts).after(f"class {name}")


def _default_class(facts: ClusterFacts) -> StorageClass | None:
    """Of several defaults the API server takes the newest, and of equally new ones the first by name."""
    defaults = sorted(
        (each for each in facts.of(STORAGE_CLASSES).values() if each.is_default), key=lambda each: each.name
    )
    return max(defaults, key=lambda each: each.created, default=None)


def _tie_of_found(found: StorageClass, facts: ClusterFacts) -> Tie:
    tie = _tie_by_rule(_rule_of(found.provisioner), found.parameters).after(found.provisioner)
    tie = msgspec.structs.replace(tie, binds=found.binding_mode)
    allowed = _tie_by_terms(found.allowed_topologies, facts)
    if allowed is None:
        return tie
    if allowed.extent == "node" or (allowed.extent == "zone" and tie.extent != "node"):
        chain = (*tie.chain, "allowedTopologies")
        return msgspec.structs.replace(
            tie, extent=allowed.extent, chain=chain, zones=allowed.zones, count=allowed.count
        )
    # Several zones only limit the choice, unless they are as many as the disk has replicas.
    is_whole = tie.extent == "zones" and allowed.count == tie.count
    return msgspec.structs.replace(tie, zones=allowed.zones) if is_whole else tie


def tie_of_volume(volume: Volume, facts: ClusterFacts) -> Tie:
    """What a PersistentVolume is tied to. Its node affinity is what the scheduler obeys, whatever backs it."""
    step = f"volume {volume.name}"
    if tie := _tie_by_terms(volume.node_affinity, facts):
        return tie.after(step, "node affinity")
    if zones := _non_empty(volume.zone_label.split(_MULTI_ZONE_DELIMITER)):
        return _tie_to_zones(zones).after(step, "zone label")
    if volume.driver:
        return _tie_by_rule(_rule_of(volume.driver), volume.attributes, is_made=True).after(step, volume.driver)
    return tie_of_source(volume.source).after(step)


def tie_of_source(source: str) -> Tie:
    """What a volume plugin's volume is tied to: "awsElasticBlockStore", "nfs", "hostPath"."""
    return _tie_by_rule(_TABLE.sources.get(source), {}, is_made=True).after(source or "no source")


def _tie_by_rule(rule: _Rule | None, parameters: Mapping[str, str], *, is_made: bool = False) -> Tie:
    """By the table; a volume that is made and has no node affinity isn't tied by its driver's topology."""
    if rule is None:
        return Tie("unknown", ("not in the table of provisioners",))
    if rule.any_case:
        parameters = {name.lower(): value.lower() for name, value in parameters.items()}
    case = next((each for each in rule.unless if _fits(each, parameters.get(each.parameter))), None)
    tied, count = (rule.tied, rule.count) if case is None else (case.tied, case.count)
    chain = () if case is None else (f"{case.parameter} {parameters[case.parameter]}",)
    if tied == "topology":
        return Tie("nothing", chain) if is_made else Tie("unknown", (*chain, "tied if its driver knows zones"))
    if tied == "zone" and (zone := parameters.get(rule.zone)):
        return _tie_to_zones(frozenset({zone})).after(*chain)
    return Tie(tied, chain, count=1 if tied == "zone" else count, key=rule.key)


def _fits(case: _Case, value: str | None) -> bool:
    return value is not None and any(
        value.endswith(each[1:]) if each.startswith("*") else value == each for each in case.values
    )


def _tie_by_terms(terms: Iterable[Term], facts: ClusterFacts) -> Tie | None:
    """What alternative node selector terms tie a volume to; None if some alternative names neither zone nor node."""
    terms = tuple(terms)
    nodes, known = _named_by_all(terms, is_node_key), facts.of(NODES)
    if len(nodes) == 1:
        return Tie("node", (), _non_empty(known[name].zone for name in nodes if name in known))
    if nodes:
        zones = _non_empty(known[name].zone if name in known else "" for name in nodes)
        return _tie_to_zones(zones).after(f"{len(nodes)} nodes") if zones else Tie("unknown", (f"{len(nodes)} nodes",))
    zones = _named_by_all(terms, is_zone_key)
    key = next((each.key for term in terms for each in term if is_zone_key(each.key)), "")
    return msgspec.structs.replace(_tie_to_zones(zones), key="" if key.endswith("/zone") else key) if zones else None


def _named_by_all(terms: Iterable[Term], is_meant: Callable[[str], bool]) -> frozenset[str]:
    """The values that the terms allow for the keys that are meant; empty if one of them leaves it open."""
    allowed: frozenset[str] = frozenset()
    for term in terms:
        named = [frozenset(each.values) for each in term if each.operator == "In" and is_meant(each.key)]
        # Azure's zone-redundant disks list an empty zone beside the real ones.
        values = _non_empty(frozenset.intersection(*named)) if named else frozenset()
        if not values:
            return values
        allowed |= values
    return allowed


def _non_empty(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for each in names if (name := each.strip()))


def _tie_to_zones(zones: frozenset[str]) -> Tie:
    return Tie("zone" if len(zones) == 1 else "zones", (), zones, len(zones))
