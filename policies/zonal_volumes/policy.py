"""Monitoring software doesn't keep its data on a volume that its pods can leave behind in another zone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from policies.zonal_volumes.advice import Advice, Remedy
from policies.zonal_volumes.flaws import Flaw, Pods, flaw_of, flaw_of_tie
from policies.zonal_volumes.observed import observe
from policies.zonal_volumes.replacement import Mends, Replacement, as_class, class_of, mends_of
from webhook.objects.facts import CLAIMS, NODES, STORAGE_CLASSES, VOLUMES, ClusterFacts
from webhook.objects.fields import mapping
from webhook.objects.live import LIVE_NODES, LIVE_PODS, LIVE_STATEFUL_SETS
from webhook.objects.monitoring import is_monitoring, is_monitoring_claim
from webhook.objects.nodes import ANYWHERE, read_placement
from webhook.objects.pods import Workload, read_workload
from webhook.objects.storage import tie_of_claim, tie_of_new
from webhook.objects.volumes import StoredVolume, volumes_of
from webhook.objects.workloads import Workloads
from webhook.policy import AdmissionRequest, Brief, GroupKind, Policy, Violation

CLAIM = GroupKind("", "PersistentVolumeClaim", "persistentvolumeclaims")

# The controllers that make claims from templates and ephemeral volumes, which were judged in the workload.
_CLAIM_MAKERS = frozenset(
    {
        "system:kube-controller-manager",
        "system:serviceaccount:kube-system:ephemeral-volume-controller",
        "system:serviceaccount:kube-system:statefulset-controller",
    }
)


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    zones: Annotated[
        tuple[str, ...],
        Meta(
            description="Every zone that nodes may come up in; where none is named, the zones of today's nodes count."
        ),
    ] = ()
    workloads: Annotated[
        Literal["monitoring", "all"] | Workloads,
        Meta(
            description="Whose volumes are judged: those of monitoring software, of all workloads, or of monitoring "
            "software and the workloads that a map names."
        ),
    ] = "monitoring"
    replacement: Replacement | None = None


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    if (request.group, request.kind) == (CLAIM.group, CLAIM.kind):
        yield from _examine_claim(request, facts, params)
        return
    workload = read_workload(request)
    if workload is None or not _is_meant(workload, params):
        return
    pods = Pods(read_placement(workload), facts, params.zones)
    found = _together([(volume, flaw) for volume in volumes_of(workload, facts) if (flaw := flaw_of(volume, pods))])
    mendable = [volume for volume, flaw in found if _is_mendable(request, volume, flaw)]
    mends = mends_of(workload, mendable, facts, params.replacement)
    advice = _advice(request, pods, facts, params, workload)
    for volume, flaw in found:
        yield _violation(volume, flaw, mends.get(volume.path, Mends()), advice)


def _together(found: list[tuple[StoredVolume, Flaw]]) -> list[tuple[StoredVolume, Flaw]]:
    """The flaws, all with the same pin: that of an existing volume, since pods can be pinned to one place only."""
    there = {flaw.pin.key: flaw.pin for _, flaw in found if flaw.pin and flaw.tie.is_made}
    return [
        (volume, flaw._replace(pin=there.get(flaw.pin.key, flaw.pin)) if flaw.pin else flaw) for volume, flaw in found
    ]


def _advice(
    request: AdmissionRequest, pods: Pods, facts: ClusterFacts, params: Params, workload: Workload | None = None
) -> Advice:
    replacement = params.replacement
    is_empty_dir = replacement is not None and replacement.empty_dir
    name = class_of(replacement, facts)
    return Advice(request, facts, pods, workload, replacement=name, empty_dir=is_empty_dir)


def _is_meant(workload: Workload, params: Params) -> bool:
    if params.workloads == "all" or is_monitoring(workload):
        return True
    if params.workloads == "monitoring":
        return False
    return params.workloads.name(workload)


def _is_mendable(request: AdmissionRequest, volume: StoredVolume, flaw: Flaw) -> bool:
    """Whether it is a template from which new claims are still to be made, and which is denied."""
    is_new = request.operation == "CREATE" and volume.route == "template"
    return is_new and not (flaw.tie.is_made or flaw.tie.is_kept) and flaw.at_most == "deny"


def _violation(volume: StoredVolume, flaw: Flaw, mends: Mends, advice: Advice) -> Violation:
    remedies = advice.remedies(volume, flaw, has_fix=mends.fix is not None) if flaw.is_for_somebody else []
    return _told(
        Violation(
            volume.path,
            volume.name,
            flaw.seen,
            value=str(flaw.tie),
            fix=mends.fix,
            at_most=flaw.at_most,
            is_unknown=flaw.is_unknown,
            unseen=flaw.tie.unseen + mends.unseen,
        ),
        flaw,
        remedies,
    )


def _told(violation: Violation, flaw: Flaw, remedies: Sequence[Remedy]) -> Violation:
    """The violation with what mends it: all of the ways in words, the first one to be followed."""
    # The chain in the message says what could not be seen.
    wrong = flaw.seen if flaw.is_unknown else flaw.brief or flaw.wrong
    if not remedies:
        return msgspec.structs.replace(violation, brief=Brief(wrong))
    first = remedies[0]
    return msgspec.structs.replace(
        violation,
        message=f"{violation.message}: {', or '.join(remedy.words for remedy in remedies)}",
        brief=Brief(wrong, first.brief or first.words),
        advice=first.sets,
        deletes=first.deletes,
        hint=first.hint,
    )


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
    if seen is not None and seen.volume:
        tie = tie_of_claim(request.namespace, request.name, facts)
    else:
        tie = tie_of_new(request.namespace, request.name, metadata, spec, facts)
    pods = Pods(ANYWHERE, facts, params.zones)
    flaw = flaw_of_tie(f"claim {request.name!r}", tie, pods)
    if flaw is None:
        return
    is_bound = bool(spec.get("volumeName"))
    is_fixed = flaw.at_most == "deny" and not tie.is_made
    path = f"spec.{'volumeName' if is_bound else 'storageClassName'}"
    fix = as_class(path, claim, facts, params.replacement) if is_fixed else None
    volume = StoredVolume(request.name, "template", path, (tie,), claim)
    violation = Violation(
        path,
        request.name,
        flaw.seen,
        value=str(tie),
        fix=fix,
        at_most="patch" if flaw.at_most == "deny" else flaw.at_most,
        is_unknown=flaw.is_unknown,
        unseen=tie.unseen,
    )
    remedies = _advice(request, pods, facts, params).remedies(volume, flaw, has_fix=fix is not None)
    yield _told(violation, flaw, remedies if flaw.is_for_somebody else [])


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
    observe=observe,
    lives=(LIVE_PODS, LIVE_NODES, LIVE_STATEFUL_SETS),
    # The denial belongs to the workload that mounts the claim.
    patched_kinds=lambda params: (CLAIM,) if params.replacement and params.replacement.storage_class else (),
)
