"""What a volume is tied to: nodes with certain labels, one of the groups that a label makes of nodes, or nothing.

A volume that is there says so itself: its node affinity and its zone label, else what backs it. Before that its class
decides, by provisioner (provisioners.py) and parameters. Every Tie tells the way to it: "claim data → class gp2 →
ebs.csi.aws.com → one zone".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from webhook.objects.facts import (
    CLAIMS,
    NODES,
    STORAGE_CLASSES,
    VOLUMES,
    Claim,
    ClusterFacts,
    Requirement,
    StorageClass,
    Term,
    Volume,
    claim_class,
)
from webhook.objects.nodes import all_nodes, node_labels
from webhook.objects.provisioners import Rule, makes_disks, may_share_files, rule_of, rule_of_source
from webhook.objects.topology import (
    HOST_LABEL,
    REGION_LABELS,
    ZONE_LABEL,
    admits,
    called,
    is_node_key,
    is_region_key,
    is_zone_key,
    label_of,
    shown,
)
from webhook.policy import FactReference

Extent = Literal["nodes", "group", "nothing", "unknown"]

_MULTI_ZONE_DELIMITER = "__"
_MOST_CLASSES = 100


class Tie(msgspec.Struct, frozen=True, gc=False):
    """What a volume is tied to, and how we know.

    extent   "nodes": those for which one of `terms` holds reach it; "group": it is in `count` of the groups of nodes
             that the first of `keys` makes which they carry, and among those for which `terms` hold if there are any
    keys     the labels that tell the nodes that reach it from the others
    no_place values of those labels that are no place: the volume then goes to any node
    binds    "Immediate" if the volume is made before its pod has a node
    is_made  the volume exists
    is_kept  its claim exists, and keeps its class whatever a template says
    unseen   the cluster objects that would have to be seen to tell
    """

    extent: Extent
    chain: tuple[str, ...]
    terms: tuple[Term, ...] = ()
    keys: tuple[str, ...] = ()
    count: int = 1
    no_place: frozenset[str] = frozenset()
    binds: str = ""
    is_made: bool = False
    is_kept: bool = False
    unseen: tuple[FactReference, ...] = ()

    def __str__(self) -> str:
        if self.extent != "unknown":
            return " → ".join((*self.chain, self.says))
        *seen, missing = self.chain
        return f"{' → '.join(seen)}, {missing}" if seen else missing

    @property
    def asked(self) -> frozenset[str]:
        """The labels that a node must be asked for."""
        return frozenset([*self.keys, *(requirement.key for term in self.terms for requirement in term)])

    @property
    def places(self) -> frozenset[str]:
        """The values of its first label that the terms name, where they do nothing but name some."""
        return _named(self.terms, self.keys[0]) if self.keys else frozenset()

    @property
    def says(self) -> str:
        if self.extent in ("nothing", "unknown"):
            return "not tied to a zone" if self.extent == "nothing" else "something unknown"
        # Azure's zone-redundant disks list an empty zone beside the real ones.
        places = (self.places - {""}) or self.places
        if self.extent == "group" and len(places) != self.count:
            what = called(self.keys[-1], self.count)
            return f"{self.count} {what}" if self.count > 1 else f"one {what}"
        if not places:
            return "the nodes that its node affinity admits"
        named = f"{called(self.keys[0], len(places))} {', '.join(map(shown, sorted(places)))}"
        return f"{len(places)} {named}" if len(places) > 1 else named

    @property
    def without_chain(self) -> Tie:
        """This tie without its chain: ties that are known by different ways then compare equal."""
        return msgspec.structs.replace(self, chain=(), unseen=())

    def after(self, *steps: str) -> Tie:
        """This tie, with these steps at the beginning of its chain."""
        return msgspec.structs.replace(self, chain=(*steps, *self.chain))


def tie_of_claim(namespace: str, name: str, facts: ClusterFacts) -> Tie:
    """What the volume of an existing claim is tied to."""
    claim, step = facts.of(CLAIMS).get((namespace, name)), f"claim {name}"
    if claim is None:
        return _unseen(FactReference(CLAIMS, namespace, name), facts).after(step)
    return _tie_of_asking(claim, facts).after(step)


def tie_of_new(
    namespace: str, name: str, metadata: Mapping[str, Any], spec: Mapping[str, Any], facts: ClusterFacts
) -> Tie:
    """What the volume of a claim that asks for this is going to be tied to; an empty name is one that nobody knows."""
    asked = Claim(
        namespace=namespace,
        name=name,
        volume=str(spec.get("volumeName") or ""),
        storage_class=claim_class(metadata, spec),
        has_selector=spec.get("selector") is not None,
    )
    return _tie_of_asking(asked, facts)


def _tie_of_asking(claim: Claim, facts: ClusterFacts) -> Tie:
    if volume := claim.volume or kept_volume(claim.namespace, claim.name, facts):
        return tie_of_bound(volume, facts)
    if claim.has_selector:
        return Tie("unknown", ("a selector", "which picks a volume made by hand, known once it is bound"))
    return tie_of_class(claim.storage_class, facts)


# Of a snapshot's volumes, those that are kept for a claim; asked only of claims that aren't bound yet.
_last_kept: tuple[Mapping[str, Volume], Mapping[tuple[str, str], str]] | None = None


def kept_volume(namespace: str, name: str, facts: ClusterFacts) -> str:
    """The PersistentVolume whose claimRef keeps it for a claim; empty if there is none."""
    global _last_kept  # noqa: PLW0603
    volumes = facts.of(VOLUMES)
    if _last_kept is None or _last_kept[0] is not volumes:
        _last_kept = volumes, {volume.claim: volume.name for volume in volumes.values() if volume.claim is not None}
    return _last_kept[1].get((namespace, name), "")


def tie_of_bound(name: str, facts: ClusterFacts) -> Tie:
    """What the PersistentVolume of that name is tied to."""
    volume = facts.of(VOLUMES).get(name)
    if volume is not None:
        return tie_of_volume(volume, facts)
    return _unseen(FactReference(VOLUMES, "", name), facts).after(f"volume {name}")


def _unseen(reference: FactReference, facts: ClusterFacts) -> Tie:
    """The tie of a volume that an object would tell of which the facts lack."""
    missing = facts.missing(reference)
    return Tie("unknown", (missing.why,), unseen=missing.unseen)


def tie_of_class(name: str | None, facts: ClusterFacts) -> Tie:
    """What a volume that a class is going to make is tied to; None is the cluster's default class."""
    if name == "":
        return Tie("unknown", ("no class", "a volume made by hand, known once it is bound"))
    if name is None:
        default = default_class(facts)
        if default is None:
            is_known = STORAGE_CLASSES in facts.known
            why = "of which there is none" if is_known else "unseen: storageclasses could not be read"
            return Tie("unknown", ("the default class", why))
        return _tie_of_found(default, facts).after(f"default class {default.name}")
    found = facts.of(STORAGE_CLASSES).get(name)
    if found is not None:
        return _tie_of_found(found, facts).after(f"class {name}")
    return _unseen(FactReference(STORAGE_CLASSES, "", name), facts).after(f"class {name}")


def default_class(facts: ClusterFacts) -> StorageClass | None:
    """The class of claims that name none: of several defaults the API server takes the newest, and of equally new ones
    the first by name."""
    defaults = sorted(
        (storage_class for storage_class in facts.of(STORAGE_CLASSES).values() if storage_class.is_default),
        key=lambda storage_class: storage_class.name,
    )
    return max(defaults, key=lambda storage_class: storage_class.created, default=None)


def classes_to_choose(facts: ClusterFacts, *, takes_files: bool) -> list[str]:
    """The cluster's classes by name, the default one first, of which data may get one; of very many the first hundred.

    Without `takes_files` none is among them whose volumes are, or may be, shares of a file system or a bucket:
    Prometheus supports none for its own data.
    """
    known = facts.of(STORAGE_CLASSES).values()
    classes = sorted(known, key=lambda storage_class: (not storage_class.is_default, storage_class.name))
    return [found.name for found in classes[:_MOST_CLASSES] if takes_files or not may_share_files(found.provisioner)]


def disk_of(claim: Claim, facts: ClusterFacts) -> str:
    """What makes the claim's volume a disk, whose file system one node mounts at a time whatever the claim asks for:
    "class gp2 (ebs.csi.aws.com)"; empty if it isn't known to be one."""
    volume = facts.of(VOLUMES).get(claim.volume) if claim.volume else None
    if volume is not None and volume.driver:
        return f"volume {volume.name} ({volume.driver})" if makes_disks(volume.driver) else ""
    named = facts.of(STORAGE_CLASSES).get(claim.storage_class) if claim.storage_class else None
    found = default_class(facts) if claim.storage_class is None else named
    return f"class {found.name} ({found.provisioner})" if found and makes_disks(found.provisioner) else ""


def _tie_of_found(found: StorageClass, facts: ClusterFacts) -> Tie:
    rule = rule_of(found.provisioner)
    tie = _tie_by_rule(rule, found.parameters, facts)
    tie = msgspec.structs.replace(tie.after(found.provisioner), binds=found.binding_mode)
    allowed = _told(found.allowed_topologies, facts)
    key = next((key for key in _keys_of(allowed) if is_zone_key(key) or is_node_key(key)), "")
    if tie.extent == "group":
        keys = (key, *tie.keys) if is_zone_key(key) and not is_node_key(tie.keys[0]) else tie.keys
        return msgspec.structs.replace(tie, terms=allowed, keys=keys)
    # Of a volume that any node reaches, several allowed places say nothing; a single one is where it will be.
    if tie.extent in ("nothing", "unknown") and len(_named(allowed, key)) == 1:
        chain = (*tie.chain, "allowedTopologies")
        return msgspec.structs.replace(tie, extent="nodes", chain=chain, terms=allowed, keys=(key,))
    return tie


def tie_of_volume(volume: Volume, facts: ClusterFacts) -> Tie:
    """What a PersistentVolume is tied to. Its node affinity is what the scheduler obeys, whatever backs it."""
    step = f"volume {volume.name}"
    zones = _non_empty(volume.zone_label.split(_MULTI_ZONE_DELIMITER))
    labelled = _in_zones(zones, facts) if zones else ()
    affinity = _told(volume.node_affinity, facts)
    if affinity and any(affinity):
        tie = Tie("nodes", ("node affinity",), affinity, _keys_of(affinity))
        # The scheduler asks for both; as a rule they say the same.
        if labelled and not (tie.places and tie.places <= zones):
            terms = tuple((*term, *other) for term in affinity if term for other in labelled)
            tie = msgspec.structs.replace(tie, terms=terms)
    elif labelled:
        tie = Tie("nodes", ("zone label",), labelled, (ZONE_LABEL,))
    elif volume.driver:
        tie = _tie_by_rule(rule_of(volume.driver), volume.attributes, facts, is_made=True).after(volume.driver)
    else:
        return tie_of_source(volume.source, facts).after(step)
    return msgspec.structs.replace(tie.after(step), is_made=True)


def tie_of_source(source: str, facts: ClusterFacts) -> Tie:
    """What a volume plugin's volume is tied to: "awsElasticBlockStore", "nfs", "hostPath"."""
    tie = _tie_by_rule(rule_of_source(source), {}, facts, is_made=True).after(source or "no source")
    return msgspec.structs.replace(tie, is_made=True)


def _tie_by_rule(
    rule: Rule | None, parameters: Mapping[str, str], facts: ClusterFacts, *, is_made: bool = False
) -> Tie:
    """The tie by the table of provisioners; an existing volume's parameters are what its attributes still tell."""
    if rule is None:
        return Tie("unknown", ("not in the table of provisioners",))
    if rule.any_case:
        parameters = {name.lower(): value.lower() for name, value in parameters.items()}
    case = next((case for case in rule.unless if case.fits(parameters)), None)
    chain = () if case is None else (f"{case.parameter} {parameters[case.parameter]}",)
    tied = rule.tied if case is None else case.tied
    if is_made and case is None and rule.made == "unknown":
        return Tie("unknown", ("made without node affinity, which may mean any node",))
    if tied == "unknown":
        return Tie("unknown", (*chain, "tied if its driver knows zones"))
    if tied == "nothing":
        return Tie("nothing", chain)
    if tied == "node":
        return Tie("group", chain, keys=(*rule.keys, HOST_LABEL), count=rule.copies_of(parameters))
    keys = (*rule.keys, ZONE_LABEL)
    zone = parameters.get(rule.zone)
    if zone is None:
        return Tie("group", chain, keys=keys, count=1 if case is None else case.count, no_place=rule.no_zone)
    key = next((key for key in keys if key in node_labels(facts)), ZONE_LABEL)
    if rule.made == "unknown" and not any(label_of(node, key) == zone for node in facts.of(NODES).values()):
        return Tie("unknown", (*chain, f"in zone {zone}, which is no node's: its driver may ignore zones"))
    return Tie("nodes", chain, ((Requirement(key, "In", (zone,)),),), (key,))


def _told(terms: Iterable[Term], facts: ClusterFacts) -> tuple[Term, ...]:
    """The terms without what they ask of regions, where no node says anything of its region."""
    if not node_labels(facts).isdisjoint(REGION_LABELS):
        return tuple(terms)
    return tuple(
        tuple(requirement for requirement in term if requirement.key not in REGION_LABELS) or term for term in terms
    )


def _keys_of(terms: Iterable[Term]) -> tuple[str, ...]:
    """The labels that the terms ask for, regions last: a zone says more."""
    keys = dict.fromkeys(requirement.key for term in terms for requirement in term)
    return tuple(sorted(keys, key=is_region_key))


def _named(terms: tuple[Term, ...], key: str) -> frozenset[str]:
    """The values of a label that the terms name, if that is all they ask for besides regions; else empty."""
    values: frozenset[str] = frozenset()
    for term in terms:
        named = [
            frozenset(requirement.values)
            for requirement in term
            if requirement.operator == "In" and requirement.key == key
        ]
        if not named or len(named) < sum(not is_region_key(requirement.key) for requirement in term):
            return frozenset()
        values |= frozenset.intersection(*named)
    return values


def _in_zones(zones: frozenset[str], facts: ClusterFacts) -> tuple[Term, ...]:
    """What the scheduler makes of a volume's zone label: a node that says nothing of where it is isn't asked.

    Source: kube-scheduler's plugin VolumeZone.
    """
    inside = (Requirement(ZONE_LABEL, "In", tuple(sorted(zones))),)
    nowhere = tuple(Requirement(key, "DoesNotExist", ()) for key in (ZONE_LABEL, REGION_LABELS[0]))
    is_any_nowhere = any(admits((nowhere,), group[0]) for group in all_nodes(facts, frozenset()))
    return (inside, nowhere) if is_any_nowhere else (inside,)


def _non_empty(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for text in names if (name := text.strip()))
