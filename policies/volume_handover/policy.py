"""A Deployment can hand its volume over: the old pod lets go of it before the new one has to be ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from policies.volume_handover.access import Access, access_of
from policies.volume_handover.databases import database_on
from policies.volume_handover.notes import note_on_database, notes_on_set
from policies.volume_handover.observed import observe
from policies.volume_handover.rollout import Rollout, read_rollout, recreate_command
from policies.volume_handover.spreading import keeps_apart
from webhook.objects.facts import CLAIMS, STORAGE_CLASSES, VOLUMES, Claim, ClusterFacts
from webhook.objects.fields import items, mapping, text
from webhook.objects.helm_values import helm_value
from webhook.objects.live import ATTACHMENTS, LIVE_DEPLOYMENTS, LIVE_NODES, LIVE_PODS, LIVE_STATEFUL_SETS
from webhook.objects.pods import Workload, read_workload
from webhook.policy import AdmissionRequest, Brief, FactReference, Mode, Policy, Set, Violation

RECREATE = {"type": "Recreate"}
_STRATEGY = "spec.strategy"
_NEXT = "set spec.strategy to {type: Recreate}, without rollingUpdate"


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """It has none."""


class _Mount(NamedTuple):
    """A claim that the pods of a Deployment mount, by the name of their volume, and where it is named.

    is_raw  a container takes it as a device, not as a file system
    """

    volume: str
    name: str
    path: str
    is_raw: bool


def examine(request: AdmissionRequest, facts: ClusterFacts, _params: Params) -> Iterator[Violation]:
    is_deployment = (request.group, request.kind) == ("apps", "Deployment")
    workload = read_workload(request)
    if workload is None:
        return
    if is_deployment:
        is_scaled = request.subresource == "scale"
        for violation in _deployment(workload, facts, is_scaled=is_scaled):
            yield _with_command(violation, request) if violation.path == _STRATEGY else violation
    elif workload.kind == "StatefulSet" or workload.is_operated:
        yield from notes_on_set(workload, facts)


def _deployment(workload: Workload, facts: ClusterFacts, *, is_scaled: bool) -> Iterator[Violation]:
    mounts = list(_mounts(workload))
    if not mounts:
        return
    rollout = read_rollout(mapping(workload.object, "spec", ""))
    if rollout.replicas < 1:
        return
    if is_scaled:  # which begins no rollout
        rollout = rollout._replace(is_recreate=True)
    for mount in mounts:
        claim = facts.of(CLAIMS).get((workload.namespace, mount.name))
        access = access_of(claim, facts, is_raw=mount.is_raw) if claim is not None else None
        if access is None:
            yield from _unknown(workload, mount, rollout, claim, facts)
        elif access.holder:
            yield from _held(workload, mount, rollout, access)
        elif access.is_written:
            yield from _shared(workload, mount, rollout, access)


def _with_command(violation: Violation, request: AdmissionRequest) -> Violation:
    """The violation, with what has to be done before another strategy can be applied server-side to what is there."""
    there = request.old_object or request.object or {}
    strategy = mapping(mapping(there, "spec", ""), "strategy", "spec")
    # Only what the API server has stored has a version.
    if strategy.get("rollingUpdate") is None or not mapping(there, "metadata", "").get("resourceVersion"):
        return violation
    first = recreate_command(request.namespace, request.name)
    message = f"{violation.message}; if it is applied server-side (Helm 4, Argo CD, Flux), do this before: {first}"
    return msgspec.structs.replace(violation, message=message)


def _mounts(workload: Workload) -> Iterator[_Mount]:
    for name, (volume, path) in workload.volumes.items():
        source = mapping(volume, "persistentVolumeClaim", path)
        if claim := text(source, "claimName", f"{path}.persistentVolumeClaim") if source else "":
            yield _Mount(name, claim, f"{path}.persistentVolumeClaim.claimName", _is_raw(workload, name))


def _is_raw(workload: Workload, volume: str) -> bool:
    return any(
        device.get("name") == volume
        for container in workload.containers
        for device in items(container.spec, "volumeDevices", container.path)
    )


def _held(workload: Workload, mount: _Mount, rollout: Rollout, access: Access) -> Iterator[Violation]:
    """A claim that one node, or one pod, holds at a time."""
    named = f"claim {mount.name!r} {access.told}"
    if rollout.replicas > 1:
        is_one_pods, are_apart = access.holder == "one pod", keeps_apart(workload)
        apart = ", which keep away from each other's nodes" if are_apart and not is_one_pods else ""
        wrong = f"{named}, and {rollout.replicas} replicas{apart} mount it"
        is_certain = is_one_pods or are_apart
        why = "all but one never start" if is_certain else "those on another node than the first never start"
        remedy = f"{_ONE_REPLICA}, or use a StatefulSet, whose pods have a claim for themselves"
        # Pods that all land on one node do share a ReadWriteOnce volume.
        mode: Mode = "deny" if is_certain and access.is_certain else "warn"
        yield _replicas(mount, rollout, f"{wrong}: {why}: {remedy}", wrong, at_most=mode)
    if not rollout.is_recreate:
        yield _rolled(workload, mount, rollout, access, named)
    if rollout.replicas == 1 and (database := database_on(workload, mount.volume)) is not None:
        yield note_on_database(workload, mount.volume, mount.name, mount.path, database)


def _rolled(workload: Workload, mount: _Mount, rollout: Rollout, access: Access, named: str) -> Violation:
    holder = "the old pod" if access.holder == "one pod" else "the old pod's node"
    if rollout.keeps_the_old:
        wrong = f"{named}, and a rollout keeps the old pod until the new one is ready ({rollout.told})"
        message = f"{wrong}, which waits for the volume: it never ends"
        brief = f"a rollout never ends: its new pod waits for claim {mount.name!r}, which {holder} holds"
        mode: Mode = "deny" if access.is_certain else "warn"
    else:
        wrong = f"{named}, and a rollout may start the new pod before the old one is gone ({rollout.told})"
        message = f"{wrong}, so that it waits for the volume a while"
        brief = f"a rollout's new pod may wait a while for claim {mount.name!r}, which {holder} holds"
        mode = "warn"
    return _strategy(workload, mount, message, brief, rollout, at_most=mode)


_ONE_REPLICA = "set spec.replicas to 1"


def _replicas(mount: _Mount, rollout: Rollout, message: str, wrong: str, *, at_most: Mode) -> Violation:
    return Violation(
        "spec.replicas",
        mount.volume,
        message,
        value=1 - rollout.replicas,  # how many more it could be: less is worse
        advice=(Set("spec.replicas", 1),),
        brief=Brief(wrong, _ONE_REPLICA),
        at_most=at_most,
    )


def _strategy(
    workload: Workload, mount: _Mount, message: str, brief: str, rollout: Rollout, *, at_most: Mode
) -> Violation:
    value = helm_value(workload.object, mount.volume, "strategy")
    # Defaulting has filled rollingUpdate by now, which type Recreate forbids: the strategy is replaced as a whole.
    mend = Set(_STRATEGY, RECREATE)
    return Violation(
        _STRATEGY,
        mount.volume,
        f"{message}: {_NEXT}",
        value=rollout.told,
        fix=mend if at_most == "deny" else None,
        advice=() if at_most == "deny" else (mend,),
        brief=Brief(brief, _NEXT),
        hint=f"{value}: {{type: Recreate}}" if value else None,
        at_most=at_most,
    )


def _shared(workload: Workload, mount: _Mount, rollout: Rollout, access: Access) -> Iterator[Violation]:
    """A claim that many pods may write to, under a database of which only one process may write."""
    database = database_on(workload, mount.volume)
    if database is None or not database.is_single:
        return
    named = f"claim {mount.name!r} {access.told}, but only one process may write the data of {database.name}"
    if rollout.replicas > 1:
        wrong = f"{named}, and {rollout.replicas} replicas mount it"
        yield _replicas(mount, rollout, f"{wrong}: {_ONE_REPLICA}", wrong, at_most="warn")
    elif not rollout.is_recreate:
        wrong = f"{named}, and a rollout runs two at once ({rollout.told})"
        yield _strategy(workload, mount, wrong, wrong, rollout, at_most="warn")


def _unknown(
    workload: Workload, mount: _Mount, rollout: Rollout, claim: Claim | None, facts: ClusterFacts
) -> Iterator[Violation]:
    if rollout.is_recreate and rollout.replicas == 1:
        return
    if claim is None:
        why, unseen = facts.missing(FactReference(CLAIMS, workload.namespace, mount.name))
    else:
        why, unseen = "which names no accessModes", ()
    wrong = f"cannot tell whether the pods can hand over claim {mount.name!r}, {why}"
    yield Violation(
        mount.path,
        mount.volume,
        f"{wrong}: if it is ReadWriteOnce, set spec.replicas to 1 and spec.strategy to {{type: Recreate}}",
        value=rollout.told,
        brief=Brief(wrong),
        at_most="warn",
        is_unknown=True,
        unseen=unseen,
    )


POLICY = Policy(
    id="volume-handover",
    summary="A Deployment whose volume one node holds at a time can hand it over: its old pod goes first.",
    examine=examine,
    params=Params,
    incidents=("Binder 2018: the hub's replacement waited five hours for a claim that a lost node held",),
    subresources=("scale",),
    facts=(CLAIMS, STORAGE_CLASSES, VOLUMES),
    observe=observe,
    lives=(ATTACHMENTS, LIVE_NODES, LIVE_PODS, LIVE_DEPLOYMENTS, LIVE_STATEFUL_SETS),
    mode="off",
)
