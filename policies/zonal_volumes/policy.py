"""Monitoring software doesn't keep its data on a volume that its pods can leave behind in another zone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from webhook.objects.facts import CLAIMS, NODES, STORAGE_CLASSES, VOLUMES, ClusterFacts, claim_class
from webhook.objects.helm_values import helm_value
from webhook.objects.monitoring import is_monitoring, is_monitoring_claim
from webhook.objects.names import ObjectName
from webhook.objects.nodes import ANYWHERE, ZONE_LABEL, Placement, eligible_nodes, read_placement, usable_zones
from webhook.objects.pods import Workload, items, mapping, read_workload
from webhook.objects.quantities import Quantity
from webhook.objects.storage import Tie, tie_of_bound, tie_of_class
from webhook.objects.volumes import StoredVolume, volumes_of
from webhook.objects.workloads import Workloads
from webhook.policy import AdmissionRequest, FactReference, GroupKind, Mode, Policy, Set, Violation

CLAIM = GroupKind("", "PersistentVolumeClaim", "persistentvolumeclaims")

# Each is a live look-up within 500 ms before a template may become an emptyDir.
_MOST_LOOK_UPS = 10
# Who makes claims of templates and of ephemeral volumes, which were judged where they are written.
_CLAIM_MAKERS = frozenset(
    {
        "system:kube-controller-manager",
        "system:serviceaccount:kube-system:ephemeral-volume-controller",
        "system:serviceaccount:kube-system:statefulset-controller",
    }
)
# What a claim gets its data or its volume from: another class, or an emptyDir, would come without it.
_SOURCES = ("dataSource", "dataSourceRef", "selector", "volumeName")


class Replacement(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a new claim or template gets instead: one of the two."""

    storage_class: Annotated[ObjectName, Meta(description="A class whose disks are reachable from every zone.")] = ""
    empty_dir: Annotated[bool, Meta(description="For templates whose claims don't exist yet.")] = False
    size_limit: Annotated[
        Quantity | None, Meta(description="The emptyDir's; without it, what the template asks for.")
    ] = None

    def __post_init__(self) -> None:
        if self.empty_dir == bool(self.storage_class):
            raise ValueError("name either storageClass or emptyDir: true")
        if self.size_limit is not None and not self.empty_dir:
            raise ValueError("sizeLimit belongs to emptyDir: true")


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    zones: Annotated[
        tuple[str, ...], Meta(description="Every zone that nodes may come up in; without it, those of today's nodes.")
    ] = ()
    workloads: Annotated[
        Literal["monitoring", "all"] | Workloads, Meta(description="Which are judged; a map adds to monitoring.")
    ] = "monitoring"
    replacement: Replacement | None = None


class _Where(NamedTuple):
    """Where a workload's pods may run, told once for all of their volumes."""

    placement: Placement
    pinned_node: str
    pinned_zone: str
    zones: Callable[[str], frozenset[str]]
    """The zones by the node label that names them; empty for the usual one."""


class _Finding(NamedTuple):
    """What is wrong with a volume, as the message begins."""

    wrong: str
    at_most: Mode = "deny"
    is_unknown: bool = False


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    if (request.group, request.kind) == (CLAIM.group, CLAIM.kind):
        yield from _examine_claim(request, facts, params)
        return
    workload = read_workload(request)
    if workload is None or not _is_meant(workload, params):
        return
    where = _where(read_placement(workload), facts, params)
    for volume in volumes_of(workload, facts):
        if finding := _find_in(volume, where, facts, params):
            yield _violation(request, workload, volume, finding, facts, params)


def _is_meant(workload: Workload, params: Params) -> bool:
    if params.workloads == "all" or is_monitoring(workload):
        return True
    if params.workloads == "monitoring":
        return False
    return params.workloads.name(workload)


def _where(placement: Placement, facts: ClusterFacts, params: Params) -> _Where:
    @cache
    def zones(key: str) -> frozenset[str]:
        """Of the zones that the parameters name, or of today's nodes'."""
        if params.zones:
            return frozenset(zone for zone in params.zones if placement.admits_zone(zone))
        return usable_zones(placement, facts, key)

    return _Where(placement, placement.pinned_node, placement.pinned_zone, zones)


def _find_in(volume: StoredVolume, where: _Where, facts: ClusterFacts, params: Params) -> _Finding | None:
    what = f"volume {volume.name!r}"
    if volume.route == "ephemeral":
        # Made anew with each pod; only one that is made before its pod has a node can be in the wrong zone.
        if volume.tie.binds == "WaitForFirstConsumer":
            return None
        what = f"ephemeral {what}"
    finding = _find(what, volume.tie, where, facts, params)
    # A hostPath doesn't keep a pod from starting elsewhere: it starts without its data.
    is_mild = volume.route == "ephemeral" or (volume.route == "inline" and volume.tie.extent == "node")
    return finding._replace(at_most="warn") if finding and is_mild and finding.at_most == "deny" else finding


def _find(what: str, tie: Tie, where: _Where, facts: ClusterFacts, params: Params) -> _Finding | None:
    """What is wrong with a volume that is tied like this, for pods that are placed like this."""
    if tie.extent == "nothing":
        return None
    if where.pinned_node or where.pinned_zone:
        return _find_pinned(what, tie, where)
    zones = where.zones(tie.key)
    seen = ", ".join(sorted(zones))
    if params.zones and len(zones) == 1 and (tie.key or tie.zones <= zones):
        return None
    if tie.extent == "unknown":
        return _Finding(f"cannot tell whether {what} is tied to a zone", "warn", is_unknown=True)
    if not zones:
        why = _why_no_zones(where.placement, facts)
        return _Finding(f"cannot tell in which zones pods with {what} may run: {why}", "warn", is_unknown=True)
    if tie.extent == "zones":
        is_everywhere = zones <= tie.zones if tie.zones else len(zones) <= tie.count
        wrong = f"{what} is in {tie.says}, but its pods may run in {len(zones)}: {seen}"
        return None if is_everywhere else _Finding(wrong, "warn")
    if len(zones) > 1:
        return _Finding(f"{what} is tied to {tie.says}, but its pods may run in {len(zones)} zones: {seen}")
    if tie.zones and not tie.zones & zones:
        return _Finding(f"{what} is tied to {tie.says}, but its pods may only run in zone {seen}", "warn")
    # An autoscaler may bring nodes in other zones tomorrow; the parameter `zones` would tell.
    return _Finding(f"{what} is tied to {tie.says}, and only zone {seen} is seen today", "warn")


def _find_pinned(what: str, tie: Tie, where: _Where) -> _Finding:
    """A pod that binds itself is fine, and noted; unless its volume is known to be elsewhere."""
    if where.pinned_node:
        return _Finding(f"{what} is tied to {tie.says}, and its pods to node {where.pinned_node}", "audit")
    zone = where.pinned_zone
    if tie.zones and not tie.key and zone not in tie.zones:
        return _Finding(f"{what} is tied to {tie.says}, but its pods to zone {zone}: they stay Pending", "warn")
    # Made before its pod has a node, it may come to be in another zone than the pod's.
    doubt = ", but its class binds Immediate" if tie.binds == "Immediate" and not tie.zones else ""
    return _Finding(f"{what} is tied to {tie.says}, and its pods to zone {zone}{doubt}", "audit")


def _why_no_zones(placement: Placement, facts: ClusterFacts) -> str:
    if not facts.of(NODES):
        return "there are none" if NODES in facts.known else "nodes could not be read"
    return "their nodes have no zone label" if eligible_nodes(placement, facts) else "no node is open to them"


def _violation(
    request: AdmissionRequest,
    workload: Workload,
    volume: StoredVolume,
    finding: _Finding,
    facts: ClusterFacts,
    params: Params,
) -> Violation:
    is_new = request.operation == "CREATE" and volume.route == "template" and not volume.is_made
    fix, to_look_up = _fix(workload, volume, facts, params) if is_new and finding.at_most == "deny" else (None, ())
    has_class = volume.route in ("claim", "template") and finding.at_most != "audit"
    return Violation(
        volume.path,
        volume.name,
        f"{finding.wrong} ({volume.tie}){_advice(volume, finding, facts, params)}",
        value=str(volume.tie),
        fix=fix,
        hint=helm_value(workload.object, volume.name, "storageClass") if has_class else None,
        at_most=finding.at_most,
        is_unknown=finding.is_unknown,
        unseen=volume.tie.unseen + to_look_up,
    )


def _fix(
    workload: Workload, volume: StoredVolume, facts: ClusterFacts, params: Params
) -> tuple[Set | tuple[Set, ...] | None, tuple[FactReference, ...]]:
    """What mends a template of new claims, and the claims that must be looked up before that is safe."""
    replacement = params.replacement
    if replacement is None:
        return None, ()
    if not replacement.empty_dir:
        return _as_class(volume.path, volume.source, facts, params), ()
    is_block = (volume.source.get("spec") or {}).get("volumeMode") == "Block"
    # OpenKruise's reserved ordinals make other claims than these.
    if is_block or _has_source(volume.source) or workload.group == "apps.kruise.io":
        return None, ()
    # A reinstallation is a CREATE too: a claim that may be there may hold data.
    doubtful = tuple(each for each in volume.claims if each not in facts.absent)
    if doubtful or not volume.claims:
        return None, doubtful if len(volume.claims) <= _MOST_LOOK_UPS else ()
    return _as_empty_dir(workload, volume, replacement.size_limit) or None, ()


def _has_source(claim: Mapping[str, Any]) -> bool:
    spec = claim.get("spec") or {}
    return any(spec.get(field) for field in _SOURCES)


def _as_empty_dir(workload: Workload, volume: StoredVolume, size_limit: Quantity | None) -> tuple[Set, ...]:
    """What turns a template into an emptyDir of the pods, as large as the template asks unless `size_limit` says.

    Empty where neither names a size: it could fill the node's disk.
    """
    spec = volume.source.get("spec") or {}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    size = asked if size_limit is None else str(size_limit)
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


def _advice(volume: StoredVolume, finding: _Finding, facts: ClusterFacts, params: Params) -> str:
    """What to set, after the chain of what was seen."""
    if finding.at_most == "audit" or finding.is_unknown:
        return ""
    if volume.route == "ephemeral":
        return ": use a class that binds WaitForFirstConsumer"
    if volume.route == "inline":
        return ": keep the data on a claim whose class spans zones"
    wanted = _replacement_class(volume.source, facts, params)
    wanted = f"class {wanted}" if wanted else "a class whose disks span zones"
    pin = f"pin the pods to one zone (nodeSelector {ZONE_LABEL})"
    if volume.is_made:  # neither its claim nor a template can be changed any more
        zone = f"{ZONE_LABEL}: {next(iter(volume.tie.zones))}" if len(volume.tie.zones) == 1 else ZONE_LABEL
        return f": move the data to a claim of {wanted}, or pin the pods to the volume's zone (nodeSelector {zone})"
    if volume.route == "claim":
        return f": give the claim {wanted}, or {pin}"
    if params.replacement and params.replacement.empty_dir:
        return f": use an emptyDir with a sizeLimit, or {pin}"
    return f": set storageClassName to {wanted}, or {pin}"


def _as_class(path: str, template: Mapping[str, Any], facts: ClusterFacts, params: Params) -> Set | None:
    """The replacement's class, unless the old annotation would outvote it."""
    name = _replacement_class(template, facts, params)
    is_outvoted = claim_class(template.get("metadata") or {}, {}) is not None
    return None if not name or is_outvoted or _has_source(template) else Set(path, name)


def _replacement_class(claim: Mapping[str, Any], facts: ClusterFacts, params: Params) -> str:
    """The replacement's class; empty if the claim, or the template of one, has it already, or it is tied itself."""
    name = params.replacement.storage_class if params.replacement else ""
    is_there = name and claim_class(claim.get("metadata") or {}, claim.get("spec") or {}) == name
    return "" if not name or is_there or tie_of_class(name, facts).extent in ("node", "zone") else name


def _examine_claim(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    """A claim by itself, while its class can still be changed; where its pods may run is not known here.

    The denial belongs to the workload that mounts it.
    """
    claim = request.object or {}
    metadata, spec = mapping(claim, "metadata", ""), mapping(claim, "spec", "")
    is_made = request.user in _CLAIM_MAKERS
    if request.operation != "CREATE" or is_made or not _is_meant_claim(metadata, params):
        return
    seen = facts.of(CLAIMS).get((request.namespace, request.name))
    bound = spec.get("volumeName") or (seen.volume if seen else "")
    tie = tie_of_bound(bound, facts) if bound else tie_of_class(claim_class(metadata, spec), facts)
    finding = _find(f"claim {request.name!r}", tie, _where(ANYWHERE, facts, params), facts, params)
    if finding is None:
        return
    path = "spec.volumeName" if spec.get("volumeName") else "spec.storageClassName"
    volume = StoredVolume(request.name, "template", path, tie, claim, is_made=bool(bound))
    yield Violation(
        path,
        request.name,
        f"{finding.wrong} ({tie}){_advice(volume, finding, facts, params)}",
        value=str(tie),
        fix=None if bound or finding.at_most != "deny" else _as_class(path, claim, facts, params),
        hint=helm_value(claim, request.name, "storageClass"),
        at_most="patch" if finding.at_most == "deny" else finding.at_most,
        is_unknown=finding.is_unknown,
        unseen=tie.unseen,
    )


def _is_meant_claim(metadata: Mapping[str, Any], params: Params) -> bool:
    if params.workloads == "all" or is_monitoring_claim(metadata):
        return True
    return params.workloads != "monitoring" and params.workloads.name_labels(mapping(metadata, "labels", "metadata"))


POLICY = Policy(
    id="zonal-volumes",
    summary="Monitoring software doesn't keep its data on a volume of one zone while its pods may run in several.",
    examine=examine,
    params=Params,
    incidents=("Kubecost incident 3: Prometheus Pending after its node was replaced in another zone, metering lost",),
    kinds=(CLAIM,),
    facts=(NODES, CLAIMS, VOLUMES, STORAGE_CLASSES),
    # The denial belongs to the workload that mounts the claim.
    patched_kinds=lambda params: (CLAIM,) if params.replacement and params.replacement.storage_class else (),
)
