"""What is seen of nodes: that pods may take more than they have, that the system has nothing, that they come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from webhook.objects.commands import kubectl
from webhook.objects.live import LIVE_NODES, LIVE_PODS, Live, LiveNode, LivePod
from webhook.objects.quantities import format_memory
from webhook.objects.wording import listed, utc
from webhook.policy import Observation, Reference, Severity

_NOT_READY = timedelta(minutes=2)
_NEW = timedelta(minutes=10)
"""How long a node that has never been ready may take to start."""
_FLAPPED = timedelta(minutes=15)
"""How long after it came back a node is still told of."""
_EVICTION = 100 << 20
"""Bytes that a kubelet keeps free for itself unless it is told otherwise (memory.available<100Mi): no reservation."""
_WORST = 3
# Whose limits nobody but the cluster's maker can set.
_SYSTEM = "kube-system"


def observe_nodes(live: Live) -> Iterator[Observation]:
    nodes = list(live.of(LIVE_NODES).values())
    for node in nodes:
        yield from _not_ready(live, node)
    yield from _unreserved(nodes)
    if live.sees(LIVE_PODS):
        yield from _crowded(live, nodes)


def _not_ready(live: Live, node: LiveNode) -> Iterator[Observation]:
    ready = node.ready
    since = (ready.since if ready else None) or node.created
    if since is None:
        return
    pods = live.pods_by_node.get(node.name, [])
    if not node.is_ready:
        is_new = node.created is not None and since - node.created < _NOT_READY
        reason = f" ({ready.reason})" if ready and ready.reason else ""
        yield _of_node(
            node,
            f"node {node.name} is not ready{reason}{_blamed(pods)}",
            since=since,
            hold=_NEW if is_new else _NOT_READY,
            severity="error",
        )
    elif live.now - since < _FLAPPED and any(0 < pod.started < since.timestamp() - 60 for pod in pods):
        # After a reboot all of its containers would be younger.
        back = f"node {node.name} was not ready, and is again since {utc(since)}, without a reboot"
        yield _of_node(node, f"{back}{_blamed(pods)}", since=since)


def _of_node(
    node: LiveNode,
    message: str,
    *,
    since: datetime | None = None,
    hold: timedelta = timedelta(),
    value: int | None = None,
    severity: Severity = "warning",
) -> Observation:
    reference, run = Reference("Node", "", node.name), (kubectl("describe", "node", node.name),)
    return Observation(reference, "", message, run, since=since, hold=hold, value=value, severity=severity)


def _blamed(pods: Sequence[LivePod]) -> str:
    """The containers on a node that may take all of its memory."""
    unlimited = _without_limit(pods)
    if not unlimited:
        return ""
    count = sum(len(pod.shape.unlimited) for pod in unlimited)
    what = "1 container" if count == 1 else f"{count} containers"
    named = _named(unlimited, lambda pod: ", ".join(pod.shape.unlimited))
    return f"; {what} without a memory limit on it may take all of its memory: {named}: give them one"


def _named(pods: Sequence[LivePod], told: Callable[[LivePod], str]) -> str:
    return listed((f"{pod.namespace}/{pod.name} ({told(pod)})" for pod in pods), _WORST)


def _unreserved(nodes: Sequence[LiveNode]) -> Iterator[Observation]:
    """Nodes that give their pods all that they have, told of once."""
    found = [node for node in nodes if node.capacity and node.capacity - node.allocatable <= _EVICTION]
    if not found:
        return
    found.sort(key=lambda node: node.name)
    first, *others = found
    alike = f", nor do {listed((node.name for node in others), _WORST - 1)}" if others else ""
    kept = f"pods may have {format_memory(first.allocatable)} of its {format_memory(first.capacity)}"
    yield _of_node(
        first,
        f"node {first.name} reserves no memory for the system ({kept}){alike}: pods that take what they may take the "
        "kubelet's: set kubeReserved and systemReserved in the kubelet's configuration",
    )


def _crowded(live: Live, nodes: Sequence[LiveNode]) -> Iterator[Observation]:
    """The worst of the nodes whose pods may take more than there is."""
    crowds = [_crowd(node, live.pods_by_node.get(node.name, [])) for node in nodes if node.allocatable]
    crowds = [crowd for crowd in crowds if crowd.limits > crowd.node.allocatable or crowd.unlimited]
    crowds.sort(key=lambda crowd: (-crowd.unlimited, -crowd.limits / crowd.node.allocatable, crowd.node.name))
    more = len(crowds) - _WORST
    for number, crowd in enumerate(crowds[:_WORST], 1):
        node = crowd.node
        worst = sorted(crowd.pods, key=_weight, reverse=True)
        without = f", and {crowd.unlimited} of them have no limit at all" if crowd.unlimited else ""
        rest = f"; {more} more node{'s are' if more > 1 else ' is'} like it" if number == _WORST and more > 0 else ""
        yield _of_node(
            node,
            f"the memory limits of the pods on node {node.name} add up to {format_memory(crowd.limits)}, where they "
            f"may have {format_memory(node.allocatable)} together{without}: {_named(worst, _limit_of)}{rest}",
            value=crowd.limits,
        )


class _Crowd(NamedTuple):
    """The pods on a node: the bytes that they may take together, and how many of them may take all that there is."""

    node: LiveNode
    pods: Sequence[LivePod]
    limits: int
    unlimited: int


def _crowd(node: LiveNode, pods: Sequence[LivePod]) -> _Crowd:
    return _Crowd(node, pods, sum(pod.shape.limit for pod in pods), len(_without_limit(pods)))


def _without_limit(pods: Iterable[LivePod]) -> list[LivePod]:
    return [pod for pod in pods if pod.shape.unlimited and pod.namespace != _SYSTEM]


def _weight(pod: LivePod) -> tuple[bool, int, str]:
    return bool(_without_limit([pod])), pod.shape.limit, pod.name


def _limit_of(pod: LivePod) -> str:
    return "no limit" if pod.shape.unlimited else format_memory(pod.shape.limit)
