"""What is seen in a running cluster: pods that are Pending as no usable node reaches their volume, and who is next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

from webhook.objects.commands import kubectl
from webhook.objects.facts import CLAIMS, NODES, VOLUMES, ClusterFacts, Node, Term
from webhook.objects.live import LIVE_NODES, LIVE_PODS, Live, LiveNode, LivePod
from webhook.objects.nodes import all_nodes, read_placement, usable_nodes
from webhook.objects.storage import Tie, tie_of_claim
from webhook.objects.topology import ZONE_LABEL, admits, is_node_key, label_of, shown
from webhook.objects.wording import listed
from webhook.policy import Observation, Reference

_PENDING = timedelta(seconds=30)
"""How long a pod must be Pending before it is reported: binding a volume and labelling a new node take a moment."""
_LOST = timedelta(minutes=5)
"""How long a node may be NotReady before it counts as gone."""
_MOST_NAMED = 5
# As old and present schedulers say it, and as they say it of a zone label.
_SCHEDULER = re.compile(
    r"\d+ node\(s\) (?:had volume node affinity conflict|didn't match PersistentVolume's node affinity"
    r"|had no available volume zone)"
)
_NODES = kubectl("get", "nodes", "-L", ZONE_LABEL)


def observe(live: Live, facts: ClusterFacts, _params: object) -> Iterator[Observation]:
    if not {NODES, CLAIMS, VOLUMES} <= facts.known:
        return
    open_now = _with_nodes(facts, live, lambda node: node.takes_pods)
    told: set[tuple[str, str]] = set()
    for pod in live.troubled():
        if not pod.node and not pod.is_over and not pod.trouble.deleted_at and pod.trouble.unscheduled:
            for observation in _pending(live, pod, open_now):
                told.add((pod.namespace, observation.subject))
                yield observation
    yield from _unreachable(live, _with_nodes(facts, live, lambda node: not _is_lost(node, live)), told)


def _with_nodes(facts: ClusterFacts, live: Live, is_there: Callable[[LiveNode], bool]) -> ClusterFacts:
    """The facts without the nodes that are not there for a pod; all of them, where their state was not seen."""
    if not live.sees(LIVE_NODES):
        return facts
    states = live.of(LIVE_NODES)
    nodes = {name: node for name, node in facts.of(NODES).items() if name in states and is_there(states[name])}
    return replace(facts, records={**facts.records, NODES: nodes})


def _is_lost(node: LiveNode, live: Live) -> bool:
    ready = node.ready
    return ready is not None and ready.status != "True" and ready.since is not None and live.now - ready.since >= _LOST


def _pending(live: Live, pod: LivePod, facts: ClusterFacts) -> Iterator[Observation]:
    """The claims whose volumes none of the nodes that the pod may use reaches."""
    placement = read_placement(pod.shape.workload)
    for claim in pod.claims:
        tie = tie_of_claim(pod.namespace, claim, facts)
        if not _is_placed(tie):
            continue
        usable = [node for group in usable_nodes(placement, facts, tie.asked) for node in group]
        if any(admits(tie.terms, node) for node in usable):
            continue
        there = [node for group in all_nodes(facts, tie.asked) for node in group if admits(tie.terms, node)]
        scheduler = pod.trouble.unscheduled
        said = _SCHEDULER.search(scheduler.message) if scheduler else None
        yield Observation(
            live.owner_of(pod),
            claim,
            f"pod {pod.name} is Pending: {_volume(claim, facts, pod.namespace, tie)}, and {_where(tie, usable)}"
            f"{f' (the scheduler: {said[0]!r})' if said else ''}: {_remedy(tie, there)}",
            run=(_NODES, _anew(pod.namespace, claim, pod.name)),
            since=scheduler.since if scheduler else None,
            hold=_PENDING,
            severity="error",
        )


def _is_placed(tie: Tie) -> bool:
    """Whether the volume is there, and says which nodes reach it."""
    return tie.is_made and tie.extent == "nodes"


def _volume(claim: str, facts: ClusterFacts, namespace: str, tie: Tie) -> str:
    bound = facts.of(CLAIMS)[namespace, claim].volume
    return f"claim {claim!r} has its data on volume {bound}, which only {_reaching(tie)} can use"


def _reaching(tie: Tie) -> str:
    """The nodes that reach a volume: "nodes in zone zone-a", "node n1"."""
    if tie.places and is_node_key(tie.keys[0]):
        return tie.says
    return f"nodes in {tie.says}" if tie.places else tie.says


def _where(tie: Tie, usable: Sequence[Node]) -> str:
    if not usable:
        return "there is no node that the pod may use"
    key = tie.keys[0] if tie.keys and not is_node_key(tie.keys[0]) else ZONE_LABEL
    places = sorted({place for node in usable if (place := label_of(node, key))})
    if not places:
        return f"the {len(usable)} nodes that the pod may use are none of these"
    what = "zone" if key == ZONE_LABEL else key
    return f"the nodes that the pod may use are in {what} {listed(map(shown, places), _MOST_NAMED)}"


def _remedy(tie: Tie, there: Iterable[Node]) -> str:
    """What helps: where nodes reach the volume, something keeps the pod from them."""
    names = sorted(node.name for node in there)
    if names:
        keeps = "its nodeSelector, affinity or tolerations keep it away"
        return f"let it onto {listed(names, _MOST_NAMED)}, where it is reached: {keeps}"
    lost = "if the data may be lost, delete claim and pod, and both are made anew where there are nodes"
    return f"bring up a node there ({tie.says}), or, {lost}"


def _anew(namespace: str, claim: str, pod: str = "") -> str:
    pods = [f"pod/{pod}"] if pod else []
    return kubectl("delete", f"persistentvolumeclaim/{claim}", *pods, namespace=namespace, why="its data is lost")


def _unreachable(live: Live, facts: ClusterFacts, told: set[tuple[str, str]]) -> Iterator[Observation]:
    """Bound claims that no node reaches any more: the next pod that mounts one stays Pending."""
    mounted = _mounted(live)

    # Cached by places: thousands of volumes are in a few zones.
    @cache
    def is_reached(terms: tuple[Term, ...], asked: frozenset[str]) -> bool:
        return any(admits(terms, group[0]) for group in all_nodes(facts, asked))

    for (namespace, name), claim in facts.of(CLAIMS).items():
        if not claim.volume or (namespace, name) in told:
            continue
        tie = tie_of_claim(namespace, name, facts)
        if not _is_placed(tie) or is_reached(tie.terms, tie.asked):
            continue
        pod = mounted.get((namespace, name))
        by = f"; pod {pod.name} mounts it, and is Pending once it is made anew" if pod else ""
        yield Observation(
            Reference("PersistentVolumeClaim", namespace, name) if pod is None else live.owner_of(pod),
            name,
            f"{_volume(name, facts, namespace, tie)}, and no such node is left{by}: {_remedy(tie, ())}",
            run=(_NODES,),
        )


def _mounted(live: Live) -> Mapping[tuple[str, str], LivePod]:
    pods = live.of(LIVE_PODS).values()
    return {(pod.namespace, claim): pod for pod in pods if not pod.is_over for claim in pod.claims}
