"""What is seen in a running cluster: pods that wait for a volume which another pod, or a lost node, holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from policies.volume_handover.access import Access, access_of
from policies.volume_handover.databases import HUB, database_of
from policies.volume_handover.lost_nodes import FREED, TWO_WRITERS, LostNode, LostNodes
from policies.volume_handover.notes import ELSEWHERE
from policies.volume_handover.rollout import recreate_command
from policies.volume_handover.stuck_pods import observe_stuck
from webhook.objects.commands import kubectl
from webhook.objects.facts import CLAIMS, ClusterFacts
from webhook.objects.live import ATTACHMENTS, LIVE_DEPLOYMENTS, LIVE_PODS, Attachment, Live, LivePod, condition_of
from webhook.policy import Observation, Reference

_WAITS = timedelta(minutes=2)
"""How long a pod may wait for a volume: a pod that ends, and a disk that moves, take a moment."""
_DETACHED = timedelta(minutes=7)
"""How long it may wait for one that a removed node still has: after six minutes the volume is detached by force."""
_Claim = tuple[str, str]
"""Namespace and name."""


def observe(live: Live, facts: ClusterFacts, _params: object) -> Iterator[Observation]:
    lost = LostNodes(live)
    told: set[Reference] = set()
    for observation in _waiting(live, facts, lost):
        told.add(observation.reference)
        yield observation
    yield from observe_stuck(live, lost, told)


class _Wait(NamedTuple):
    """A pod that isn't ready, a claim that it mounts, and who else mounts that: `pods` aren't over, and not waiting."""

    pod: LivePod
    claim: str
    volume: str
    access: Access
    pods: tuple[LivePod, ...]
    attached: tuple[Attachment, ...] | None
    """Where the volume is attached; None where attachments could not be seen."""


def _waiting(live: Live, facts: ClusterFacts, lost: LostNodes) -> Iterator[Observation]:
    told: set[tuple[Reference, str]] = set()
    for wait in _waits(live, facts):
        key = live.owner_of(wait.pod), wait.claim
        if key not in told and (observation := _observation(live, wait, lost)) is not None:
            told.add(key)
            yield observation


def _waits(live: Live, facts: ClusterFacts) -> Iterator[_Wait]:
    by_claim = _by_claim(live)
    attached: dict[str, list[Attachment]] = {}
    for attachment in live.of(ATTACHMENTS).values():
        if attachment.is_attached:
            attached.setdefault(attachment.volume, []).append(attachment)
    for (namespace, name), pods in by_claim.items():
        claim = facts.of(CLAIMS).get((namespace, name))
        access = access_of(claim, facts) if claim is not None else None
        if claim is None or access is None or not access.holder:
            continue
        waiting = [pod for pod in pods if _is_new_and_unready(pod)]
        holding = tuple(pod for pod in pods if pod.node and pod not in waiting)
        where = tuple(attached.get(claim.volume, ())) if live.sees(ATTACHMENTS) else None
        for pod in waiting:
            yield _Wait(pod, name, claim.volume, access, holding, where)


def _by_claim(live: Live) -> Mapping[_Claim, list[LivePod]]:
    """The pods that mount a claim and aren't over, of the claims for which some pod may be waiting."""
    waiting = (pod for pod in live.troubled() if _is_new_and_unready(pod))
    pods: dict[_Claim, list[LivePod]] = {(pod.namespace, claim): [] for pod in waiting for claim in pod.claims}
    for pod in live.of(LIVE_PODS).values() if pods else ():
        for claim in pod.claims:
            if (pod.namespace, claim) in pods and not pod.is_over:
                pods[pod.namespace, claim].append(pod)
    return pods


def _is_new_and_unready(pod: LivePod) -> bool:
    """Whether the pod hasn't begun to run yet, or runs and has never been ready since."""
    trouble = pod.trouble
    if trouble.deleted_at is not None or pod.is_over:
        return False
    unready = trouble.unready
    if pod.phase == "Pending":
        return True
    # Since it was made, within what a kubelet needs: a pod that was ready once has a later transition.
    return bool(
        unready and unready.since and trouble.created and unready.since - trouble.created < timedelta(minutes=1)
    )


def _observation(live: Live, wait: _Wait, lost: LostNodes) -> Observation | None:
    if (held := _held_by_lost(wait, lost)) is not None:
        return held.observation(live, wait)
    holder = next((pod for pod in wait.pods if _blocks(pod, wait)), None)
    if holder is not None:
        return _of_holder(live, wait, holder)
    return _beside(live, wait)


class _Lost(NamedTuple):
    """A lost node that keeps a claim from a pod: by a pod that it had, by an attachment of the volume, or by both."""

    node: LostNode
    holder: LivePod | None
    attachment: Attachment | None

    def observation(self, live: Live, wait: _Wait) -> Observation:
        pod, node = wait.pod, self.node
        by = f"pod {self.holder.name} holds on {node.told}" if self.holder else f"is attached to {node.told}"
        message = f"pod {pod.name} waits for claim {wait.claim!r}, which {by}"
        if self.attachment is not None and self.holder is not None:
            message += f"; its volume {wait.volume} is attached there"
        message += f": until six minutes after the lost pod was to be gone at best, or {FREED}"
        run = node.steps
        if node.is_gone and self.attachment is not None:
            why = f"only once the machine of {node.name} is known to be gone: {TWO_WRITERS}"
            run = (kubectl("delete", f"volumeattachment/{self.attachment.name}", why=why),)
        if any(database_of(container.image) is HUB for container in pod.shape.workload.containers):
            message += f"; {ELSEWHERE}"
        return Observation(
            live.owner_of(pod),
            wait.claim,
            message,
            run=run,
            since=pod.trouble.created,
            hold=_DETACHED if node.is_gone else _WAITS,
            severity="error",
        )


def _held_by_lost(wait: _Wait, lost: LostNodes) -> _Lost | None:
    """The lost node that keeps the claim from the pod: by an attachment, or by a pod where none could be seen."""
    is_placed = bool(wait.pod.node) or wait.access.holder == "one pod"
    if wait.pod.phase != "Pending" or not is_placed or lost.get(wait.pod.node) is not None:
        return None
    attached = {attachment.node: attachment for attachment in wait.attached or ()}
    for pod in wait.pods:
        node = lost.get(pod.node)
        if node is not None and (wait.attached is None or pod.node in attached or wait.access.holder == "one pod"):
            return _Lost(node, pod, attached.get(pod.node))
    for attachment in attached.values():
        node = lost.get(attachment.node)
        if node is not None and attachment.node != wait.pod.node:
            return _Lost(node, None, attachment)
    return None


def _blocks(pod: LivePod, wait: _Wait) -> bool:
    """Whether this pod, which isn't being deleted, keeps the volume from the one that waits."""
    if wait.pod.phase != "Pending" or pod.trouble.deleted_at:
        return False
    if wait.access.holder == "one pod":
        return True
    if not wait.pod.node or pod.node == wait.pod.node:
        return False
    if wait.attached is None:
        return True
    # A volume that needs no attaching is mounted on any number of nodes, whatever its claim says.
    nodes = {attachment.node for attachment in wait.attached}
    return pod.node in nodes and wait.pod.node not in nodes


def _of_holder(live: Live, wait: _Wait, holder: LivePod) -> Observation:
    pod, owner = wait.pod, live.owner_of(wait.pod)
    where = f" on node {holder.node}" if holder.node else ""
    message = f"pod {pod.name} waits for claim {wait.claim!r}, which {wait.access.holder} holds at a time"
    if _is_old(holder, pod):
        message += (
            f": pod {holder.name}, of the version before, has it{where}, and stays until the new one is ready: "
            "the rollout never ends"
        )
        run = _recreate(owner)
    else:
        message += f": pod {holder.name} has it{where}"
        run = _let_go(owner, live.owner_of(holder), holder)
    return Observation(
        owner,
        wait.claim,
        message,
        run=run,
        since=pod.trouble.created,
        hold=_WAITS,
        severity="error",
    )


def _beside(live: Live, wait: _Wait) -> Observation | None:
    """A rollout that has passed its deadline: on the node of the old pod the new one doesn't become ready."""
    pod, owner = wait.pod, live.owner_of(wait.pod)
    deployment = live.of(LIVE_DEPLOYMENTS).get((owner.namespace, owner.name)) if owner.kind == "Deployment" else None
    progressing = condition_of(deployment.conditions, "Progressing") if deployment else None
    old = next((other for other in wait.pods if _is_old(other, pod) and other.is_healthy), None)
    if progressing is None or progressing.reason != "ProgressDeadlineExceeded" or old is None:
        return None
    return Observation(
        owner,
        wait.claim,
        f"pod {pod.name} isn't ready beside pod {old.name}, of the version before, which has claim {wait.claim!r} on "
        f"node {old.node} as well, and stays until the new one is ready: if both write to it, the rollout never ends",
        run=(kubectl("logs", pod.name, "--all-containers", namespace=pod.namespace), *_recreate(owner)),
        since=progressing.since,
        severity="error",
    )


def _is_old(pod: LivePod, new: LivePod) -> bool:
    """Whether both pods are of one Deployment, and of different ReplicaSets."""
    return pod.owner == new.owner and pod.owner.kind == "Deployment" and _version(pod) != _version(new)


def _version(pod: LivePod) -> str | None:
    """The hash of the ReplicaSet's template that a Deployment's pod is made from."""
    return pod.shape.workload.labels.get("pod-template-hash")


def _recreate(owner: Reference) -> tuple[str, ...]:
    return (
        recreate_command(owner.namespace, owner.name, why="the old pod goes first"),
        kubectl("rollout", "status", f"deployment/{owner.name}", namespace=owner.namespace),
    )


_SCALED = ("Deployment", "StatefulSet", "ReplicaSet")


def _let_go(owner: Reference, holders: Reference, holder: LivePod) -> tuple[str, ...]:
    """The commands that end the wait of one of several pods which all want the claim."""
    namespace = holder.namespace
    if owner == holders and owner.kind in _SCALED:
        return (kubectl("scale", f"{owner.kind.lower()}/{owner.name}", "--replicas=1", namespace=namespace),)
    let_go = ["delete", f"pod/{holder.name}"]
    if holders.kind in _SCALED:
        let_go = ["scale", f"{holders.kind.lower()}/{holders.name}", "--replicas=0"]
    return (
        kubectl("describe", f"pod/{holder.name}", namespace=namespace),
        kubectl(*let_go, namespace=namespace, why="if the one that waits is to have it"),
    )
