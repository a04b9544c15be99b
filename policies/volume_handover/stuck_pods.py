"""Pods that a lost node keeps, or that should have gone long ago, and the workloads that lack pods for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from policies.volume_handover.lost_nodes import FREED, TWO_WRITERS, LostNode, LostNodes
from webhook.objects.commands import kubectl
from webhook.objects.live import LIVE_DEPLOYMENTS, LIVE_STATEFUL_SETS, Live, LivePod, LiveWorkload, TopLevel
from webhook.objects.wording import listed, utc
from webhook.policy import Observation, Reference

_STUCK = timedelta(minutes=1)
"""How long after its time a StatefulSet's pod may still be there on a lost node."""
_EVICTED = timedelta(minutes=6)
"""How long a workload may lack pods of a lost node: five minutes later they are made anew elsewhere."""
_LONG_AGO = timedelta(minutes=10)
"""How long after its time a pod may still be there."""
_MOST_NAMED = 3
_UNREACHABLE = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")


class _LostPod(NamedTuple):
    pod: LivePod
    node: LostNode


def observe_stuck(live: Live, lost: LostNodes, told: Collection[Reference]) -> Iterator[Observation]:
    """What `told` workloads are told of already is left out."""
    seen = set(told)
    lost_pods = _lost_pods(live, lost)
    for observation in _lacking(live, lost_pods, seen):
        seen.add(observation.reference)
        yield observation
    yield from _long_ago(live, lost, seen)


def _lost_pods(live: Live, lost: LostNodes) -> Mapping[tuple[str, TopLevel], list[_LostPod]]:
    """The pods on lost nodes that aren't over, by namespace and owner."""
    found: dict[tuple[str, TopLevel], list[_LostPod]] = {}
    for pod in live.troubled():
        node = lost.get(pod.node)
        if node is not None and not pod.is_over:
            found.setdefault((pod.namespace, pod.owner), []).append(_LostPod(pod, node))
    return found


def _lacking(
    live: Live, lost_pods: Mapping[tuple[str, TopLevel], list[_LostPod]], told: Collection[Reference]
) -> Iterator[Observation]:
    """Workloads below their replicas because of pods on lost nodes."""
    for kind in (LIVE_DEPLOYMENTS, LIVE_STATEFUL_SETS):
        for lacking in live.of(kind).values():
            owner = TopLevel("apps", lacking.kind, lacking.name)
            pods = lost_pods.get((lacking.namespace, owner), [])
            if lacking.ready >= lacking.desired or not pods or lacking.reference in told:
                continue
            if lacking.kind == "StatefulSet" and any(lost.pod.trouble.deleted_at for lost in pods):
                yield _stuck(lacking, [lost for lost in pods if lost.pod.trouble.deleted_at])
            else:
                yield _below(live, lacking, pods)


def _stuck(lacking: LiveWorkload, pods: Sequence[_LostPod]) -> Observation:
    """A StatefulSet, which makes no other pod of a name while one of that name is there."""
    pod = pods[0].pod
    return Observation(
        lacking.reference,
        pod.name,
        f"{_count(lacking)}, and {_named(pods)} should have gone, but {_where(pods)}: no other takes its place until "
        f"the node is back, or {FREED}",
        run=(*_steps(pods), _force(pod)),
        since=min(filter(None, (lost.pod.trouble.deleted_at for lost in pods)), default=None),
        hold=_STUCK,
        value=lacking.ready,
        severity="error",
    )


def _below(live: Live, lacking: LiveWorkload, pods: Sequence[_LostPod]) -> Observation:
    pod = pods[0].pod
    message = f"{_count(lacking)}, and {_named(pods)} {_where(pods)}"
    run = _steps(pods)
    waiting = _in_place(live, lacking, pods)
    if waiting is not None:
        message += f": pod {waiting.name} in its place {_fares(waiting)}"
        run = (kubectl("describe", f"pod/{waiting.name}", namespace=waiting.namespace), *run)
    elif not pod.trouble.deleted_at and _stays_for_ever(pod):
        message += ": it tolerates that for ever, so that no other takes its place"
        why = "another is made elsewhere"
        run = (kubectl("delete", f"pod/{pod.name}", namespace=pod.namespace, why=why), *run)
    return Observation(
        lacking.reference,
        pod.name,
        message,
        run=run,
        since=pods[0].node.since or pod.trouble.deleted_at or _unready_since(pod) or live.now,
        hold=_EVICTED,
        value=lacking.ready,
        severity="error",
    )


def _in_place(live: Live, lacking: LiveWorkload, pods: Sequence[_LostPod]) -> LivePod | None:
    """The pod that was made in place of a lost one, and isn't ready either."""
    owner, gone = TopLevel("apps", lacking.kind, lacking.name), {lost.pod.name for lost in pods}
    for pod in live.troubled():
        is_its = (pod.namespace, pod.owner) == (lacking.namespace, owner) and pod.name not in gone
        if (
            is_its
            and not pod.is_over
            and not pod.trouble.deleted_at
            and (pod.phase == "Pending" or _unready_since(pod))
        ):
            return pod
    return None


def _fares(pod: LivePod) -> str:
    unscheduled = pod.trouble.unscheduled
    if unscheduled is not None:
        return f"is Pending{f' (the scheduler: {unscheduled.message!r})' if unscheduled.message else ''}"
    waiting = next((container for container in pod.trouble.containers if container.waiting), None)
    return f"isn't ready{f', container {waiting.name!r} waits: {waiting.waiting}' if waiting else ''}"


def _stays_for_ever(pod: LivePod) -> bool:
    """Whether the pod tolerates a node that isn't ready without an end: the API gives all others 300 seconds."""
    tolerations = pod.shape.workload.spec.get("tolerations") or ()
    return any(
        toleration.get("key") in (None, "", *_UNREACHABLE)
        and toleration.get("effect") in (None, "", "NoExecute")
        and toleration.get("tolerationSeconds") is None
        for toleration in tolerations
        if isinstance(toleration, dict)
    )


def _long_ago(live: Live, lost: LostNodes, told: Collection[Reference]) -> Iterator[Observation]:
    """Pods that are being deleted and don't go, those of one owner together."""
    by_owner: dict[Reference, list[_LatePod]] = {}
    for pod in live.troubled():
        owner = live.owner_of(pod)
        deleted_at = pod.trouble.deleted_at
        if deleted_at is not None and live.now - deleted_at >= _LONG_AGO and owner not in told:
            by_owner.setdefault(owner, []).append(_LatePod(deleted_at, pod))
    for owner, pods in by_owner.items():
        yield _of_owner(owner, pods, lost)


class _LatePod(NamedTuple):
    """A pod, and when it should have gone."""

    deleted_at: datetime
    pod: LivePod


def _of_owner(owner: Reference, pods: Sequence[_LatePod], lost: LostNodes) -> Observation:
    deleted_at, pod = min(pods, key=lambda late: (late.deleted_at, late.pod.name))
    node = lost.get(pod.node)
    more = f", and {len(pods) - 1} more of its pods" if len(pods) > 1 else ""
    if node is not None:
        where, run = f"on {node.told}", (*node.steps, _force(pod))
    else:
        where = f"on node {pod.node}, which is ready" if pod.node else "and has no node"
        get = "get", f"pod/{pod.name}", "-o", "jsonpath={.metadata.finalizers}"
        ends = "else: a volume or a container that doesn't end"
        run = (
            kubectl(*get, namespace=pod.namespace, why="who has to let it go, if anybody"),
            kubectl("describe", f"pod/{pod.name}", namespace=pod.namespace, why=ends),
            _force(pod),
        )
    return Observation(
        owner,
        pod.name,
        f"pod {pod.name} should have gone at {utc(deleted_at)}{more}, and is still there {where}",
        run=run,
        since=deleted_at,
        hold=_LONG_AGO,
        value=len(pods),
    )


def _unready_since(pod: LivePod) -> datetime | None:
    unready = pod.trouble.unready
    return unready.since if unready else None


def _count(lacking: LiveWorkload) -> str:
    return f"{lacking.ready} of {lacking.desired} pods {'is' if lacking.ready == 1 else 'are'} ready"


def _named(pods: Sequence[_LostPod]) -> str:
    names = listed(sorted(lost.pod.name for lost in pods), _MOST_NAMED)
    return f"{'pods' if len(pods) > 1 else 'pod'} {names}"


def _where(pods: Sequence[_LostPod]) -> str:
    told = [node.told for node in _nodes(pods)]
    more = f" and {len(told) - _MOST_NAMED} more lost nodes" if len(told) > _MOST_NAMED else ""
    return f"{'are' if len(pods) > 1 else 'is'} on {'; on '.join(told[:_MOST_NAMED])}{more}"


def _steps(pods: Sequence[_LostPod]) -> tuple[str, ...]:
    return tuple(step for node in _nodes(pods)[:_MOST_NAMED] for step in node.steps)


def _nodes(pods: Sequence[_LostPod]) -> list[LostNode]:
    return sorted({lost.node for lost in pods}, key=lambda node: node.name)


def _force(pod: LivePod) -> str:
    why = f"last resort, its containers may still run: {TWO_WRITERS}"
    delete = "delete", f"pod/{pod.name}", "--force", "--grace-period=0"
    return kubectl(*delete, namespace=pod.namespace, why=why)
