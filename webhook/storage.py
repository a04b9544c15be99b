"""What a volume's data is tied to: one node, one zone, several zones, nothing, or unknown; and a workload's volumes.

A bound volume says so itself: its node affinity first, then its zone label, then what backs it. Before that its class
decides, by provisioner and parameters. What is known of provisioners is data, in provisioners.json, whose "about" says
how to add one. Every Tie tells the way to it: "claim data → class gp2 → ebs.csi.aws.com → one zone".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from webhook.errors import BadObject
from webhook.facts import Claim, ClusterFacts, StorageClass, Term, Volume, claim_class
from webhook.nodes import is_node_key, is_zone_key
from webhook.pods import Workload, items, mapping
from webhook.policy import Reference, Set

Extent = Literal["node", "zone", "zones", "nothing", "unknown"]

_MULTI_ZONE_DELIMITER = "__"
# More are not looked at: `replicas` is whatever somebody typed.
_MOST_CLAIMS = 1000
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
    unseen: tuple[Reference, ...] = ()

    def __str__(self) -> str:
        if self.extent != "unknown":
            return " → ".join((*self.chain, self.says))
        *seen, missing = self.chain
        return f"{' → '.join(seen)}, {missing}" if seen else missing

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
_BY_SUFFIX = tuple((name[1:], rule) for name, rule in _TABLE.provisioners.items() if name.startswith("*"))


@lru_cache(maxsize=256)
def _rule_of(provisioner: str) -> _Rule | None:
    if exact := _TABLE.provisioners.get(provisioner):
        return exact
    return next((rule for suffix, rule in _BY_SUFFIX if provisioner.endswith(suffix)), None)


def tie_of_claim(namespace: str, name: str, facts: ClusterFacts) -> Tie:
    """What the volume of an existing claim is tied to."""
    claim = facts.claims.get((namespace, name))
    step = f"claim {name}"
    if claim is not None:
        return _tie_of(claim, facts).after(step)
    reference = Reference("PersistentVolumeClaim", namespace, name)
    return _unseen(reference, facts, "persistentvolumeclaims").after(step)


def _tie_of(claim: Claim, facts: ClusterFacts) -> Tie:
    return tie_of_bound(claim.volume, facts) if claim.volume else tie_of_class(claim.storage_class, facts)


def tie_of_bound(name: str, facts: ClusterFacts) -> Tie:
    """What the PersistentVolume of that name is tied to."""
    volume = facts.volumes.get(name)
    if volume is not None:
        return tie_of_volume(volume, facts)
    reference = Reference("PersistentVolume", "", name)
    return _unseen(reference, facts, "persistentvolumes").after(f"volume {name}")


def _unseen(reference: Reference, facts: ClusterFacts, plural: str) -> Tie:
    """It may be absent, or newer than what we have seen: only a look-up tells."""
    if reference in facts.absent:
        return Tie("unknown", ("which does not exist",))
    why = "which is not in the cluster" if plural in facts.known else f"unseen: {plural} could not be read"
    return Tie("unknown", (why,), unseen=(reference,))


def tie_of_class(name: str | None, facts: ClusterFacts) -> Tie:
    """What a volume that a class is going to make is tied to; None is the cluster's default class."""
    if name == "":
        return Tie("unknown", ("no class", "a volume made by hand, known once it is bound"))
    if name is None:
        default = _default_class(facts)
        if default is None:
            is_known = "storageclasses" in facts.known
            why = "of which there is none" if is_known else "unseen: storageclasses could not be read"
            return Tie("unknown", ("the default class", why))
        return _tie_of_found(default, facts).after(f"default class {default.name}")
    found = facts.storage_classes.get(name)
    if found is not None:
        return _tie_of_found(found, facts).after(f"class {name}")
    reference = Reference("StorageClass", "", name)
    return _unseen(reference, facts, "storageclasses").after(f"class {name}")


def _default_class(facts: ClusterFacts) -> StorageClass | None:
    """Of several defaults the API server takes the newest, and of equally new ones the first by name."""
    defaults = sorted((each for each in facts.storage_classes.values() if each.is_default), key=lambda each: each.name)
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
    nodes = _named_by_all(terms, is_node_key)
    if len(nodes) == 1:
        return Tie("node", (), _non_empty(facts.nodes[name].zone for name in nodes if name in facts.nodes))
    if nodes:
        zones = _non_empty(facts.nodes[name].zone if name in facts.nodes else "" for name in nodes)
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


class StoredVolume(msgspec.Struct, frozen=True, gc=False):
    """A volume of a workload's pods that may hold data.

    route     "claim" names a claim, "template" makes one for each pod, "ephemeral" makes one anew with each pod,
              "inline" is a plugin's volume in the pod itself
    path      where its class, or its claim, is named
    source    the volume or the template, as written
    is_made   the volume is there already, and stays what it is whatever the workload says
    claims    the claims that a template's pods will look for; empty if their names can't be known
    """

    name: str
    route: Literal["claim", "template", "ephemeral", "inline"]
    path: str
    tie: Tie
    source: Mapping[str, Any]
    is_made: bool = False
    claims: tuple[Reference, ...] = ()


def volumes_of(workload: Workload, facts: ClusterFacts) -> Iterator[StoredVolume]:
    """The volumes of a workload's pods that may hold data; raises BadObject if its fields are of the wrong kind."""
    templates = list(_templates(workload))
    for name, path, template, claims in templates:
        yield _from_template(name, path, template, claims, facts)
    yield from _ephemeral_storage(workload, facts)
    templated = {name for name, *_ in templates}
    for index, volume in enumerate(items(workload.spec, "volumes", workload.spec_path)):
        # A StatefulSet's template replaces the pod's volume of the same name.
        if volume.get("name") not in templated:
            yield from _from_pod(workload, volume, f"{workload.spec_path}.volumes[{index}]", facts)


def _from_pod(workload: Workload, volume: Mapping[str, Any], path: str, facts: ClusterFacts) -> Iterator[StoredVolume]:
    name = volume.get("name") or ""
    if claim := mapping(volume, "persistentVolumeClaim", path):
        claim_name = claim.get("claimName") or ""
        tie = tie_of_claim(workload.namespace, claim_name, facts)
        seen = facts.claims.get((workload.namespace, claim_name))
        is_made = seen is not None and bool(seen.volume)
        yield StoredVolume(name, "claim", f"{path}.persistentVolumeClaim.claimName", tie, volume, is_made)
    elif ephemeral := mapping(volume, "ephemeral", path):
        yield _ephemeral(name, f"{path}.ephemeral", ephemeral, facts)
    elif _keeps_data(workload, name):
        for source in filter(_TABLE.sources.__contains__, volume):
            yield StoredVolume(name, "inline", f"{path}.{source}", tie_of_source(source), volume, is_made=True)


def _keeps_data(workload: Workload, volume: str) -> bool:
    """Whether a container writes to it; a DaemonSet's pods read and write their own node's files by design."""
    owners = (workload.object.get("metadata") or {}).get("ownerReferences") or ()
    if "DaemonSet" in (workload.kind, *(owner.get("kind") for owner in owners)):
        return False
    return any(
        mount.get("name") == volume and not mount.get("readOnly")
        for container in workload.containers
        for mount in items(container.spec, "volumeMounts", container.path)
    )


def _ephemeral(name: str, path: str, ephemeral: Mapping[str, Any], facts: ClusterFacts) -> StoredVolume:
    template = mapping(ephemeral, "volumeClaimTemplate", path)
    spec = mapping(template, "spec", f"{path}.volumeClaimTemplate")
    tie = tie_of_class(claim_class(template.get("metadata") or {}, spec), facts)
    path = f"{path}.volumeClaimTemplate.spec.storageClassName"
    return StoredVolume(name, "ephemeral", path, tie.after("ephemeral volume"), template)


def _from_template(
    name: str, path: str, template: Mapping[str, Any], claims: tuple[Reference, ...], facts: ClusterFacts
) -> StoredVolume:
    """The worst of what its pods will get: the claims that exist are used again, the class makes the others."""
    spec = mapping(template, "spec", path)
    existing = [each for each in claims if (each.namespace, each.name) in facts.claims]
    worst = max(
        (tie_of_claim(each.namespace, each.name, facts) for each in existing),
        key=lambda tie: _SEVERITY[tie.extent],
        default=None,
    )
    is_made = worst is not None
    if len(existing) < len(claims) or worst is None:
        made = tie_of_class(claim_class(template.get("metadata") or {}, spec), facts).after(f"template {name}")
        if worst is None or _SEVERITY[made.extent] > _SEVERITY[worst.extent]:
            worst, is_made = made, False
    return StoredVolume(name, "template", f"{path}.spec.storageClassName", worst, template, is_made, claims)


_Template = tuple[str, str, Mapping[str, Any], tuple[Reference, ...]]
"""Name, path, template, claims."""


def _templates(workload: Workload) -> Iterator[_Template]:
    if workload.is_operated:
        yield from _operated_template(workload)
        return
    spec = mapping(workload.object, "spec", "")
    for index, template in enumerate(items(spec, "volumeClaimTemplates", "spec")):
        name = (template.get("metadata") or {}).get("name") or ""
        start = _number(mapping(spec, "ordinals", "spec"), "start", 0)
        # A CloneSet gives its claims random names.
        sets = [workload.name] if workload.kind == "StatefulSet" and workload.name else []
        claims = _claims(workload.namespace, name, sets, start, _number(spec, "replicas", 1))
        yield name, f"spec.volumeClaimTemplates[{index}]", template, claims


def _number(parent: Mapping[str, Any], key: str, default: int) -> int:
    value = parent.get(key)
    if value is None:
        return default
    if not isinstance(value, int):
        raise BadObject(f"{key} is {value!r}, not a whole number")
    return value


def _claims(namespace: str, template: str, sets: Iterable[str], start: int, replicas: int) -> tuple[Reference, ...]:
    """TEMPLATE-SET-ORDINAL for each pod, at least one: what is scaled to nothing is scaled up again."""
    ordinals = range(start, start + max(1, replicas))
    names = (f"{template}-{name}-{ordinal}" for name in sets for ordinal in ordinals)
    return tuple(Reference("PersistentVolumeClaim", namespace, name) for name in islice(names, _MOST_CLAIMS))


_OPERATED_NAMES: Mapping[str, tuple[str, str]] = {
    "Alertmanager": ("alertmanager", "db"),
    "Prometheus": ("prometheus", "db"),
    "PrometheusAgent": ("prom-agent", "db"),
    "ThanosRuler": ("thanos-ruler", "data"),
}
"""Kind -> what the operator puts before a resource's name, and after that to name the volume.

Source: prometheus-operator pkg/{prometheus,alertmanager,thanos}, prefixedName and volumeName.
"""


def _operated_template(workload: Workload) -> Iterator[_Template]:
    """The operator takes the first of emptyDir, ephemeral, volumeClaimTemplate; without storage it is an emptyDir."""
    storage = workload.spec.get("storage")
    if storage is None:
        return
    storage = mapping(workload.spec, "storage", "spec")
    if storage.get("emptyDir") is not None or storage.get("ephemeral") is not None:
        return
    path = "spec.storage.volumeClaimTemplate"
    template = mapping(storage, "volumeClaimTemplate", "spec.storage")
    prefix, suffix = _OPERATED_NAMES[workload.kind]
    base = f"{prefix}-{workload.name}"
    name = mapping(template, "metadata", path).get("name") or f"{base}-{suffix}"
    shards = max(1, _number(workload.spec, "shards", 1))
    sets = (f"{base}-shard-{shard}" if shard else base for shard in range(shards))
    yield name, path, template, _claims(workload.namespace, name, sets, 0, _number(workload.spec, "replicas", 1))


def _ephemeral_storage(workload: Workload, facts: ClusterFacts) -> Iterator[StoredVolume]:
    storage = mapping(workload.spec, "storage", "spec") if workload.is_operated else {}
    if storage.get("emptyDir") is None and (ephemeral := mapping(storage, "ephemeral", "spec.storage")):
        prefix, suffix = _OPERATED_NAMES[workload.kind]
        yield _ephemeral(f"{prefix}-{workload.name}-{suffix}", "spec.storage.ephemeral", ephemeral, facts)


def as_empty_dir(workload: Workload, volume: StoredVolume, size_limit: str) -> tuple[Set, ...]:
    """What turns a template into an emptyDir of the pods, as large as the template asks unless `size_limit` says.

    Empty where neither names a size: it could fill the node's disk.
    """
    spec = volume.source.get("spec") or {}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    size = size_limit or asked
    if size is None:
        return ()
    empty_dir = {"emptyDir": {"sizeLimit": size}}
    if workload.is_operated:
        return (Set("spec.storage", empty_dir),)
    templates = items(mapping(workload.object, "spec", ""), "volumeClaimTemplates", "spec")
    volumes = [each for each in items(workload.spec, "volumes", workload.spec_path) if each.get("name") != volume.name]
    return (
        Set("spec.volumeClaimTemplates", [each for each in templates if each is not volume.source]),
        Set(f"{workload.spec_path}.volumes", [*volumes, {"name": volume.name, **empty_dir}]),
    )
