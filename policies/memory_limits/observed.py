"""What is seen in a running cluster: containers that were OOM-killed, and nodes whose pods may take too much."""

from __future__ import annotations

from collections.abc import Iterator

from policies.memory_limits.nodes import observe_nodes
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import Live, doubled, kills
from webhook.objects.products import product_of
from webhook.objects.prometheus import holds_series, is_agent
from webhook.policy import Observation

_ELASTALERT = frozenset({"elastalert", "elastalert2"})
_FEWER = "or have ElastAlert hold less: use_count_query: true in its rules, and a lower max_query_size"


def observe(live: Live, _facts: ClusterFacts, _params: object) -> Iterator[Observation]:
    yield from _killed(live)
    yield from observe_nodes(live)


def _killed(live: Live) -> Iterator[Observation]:
    for killed in kills(live):
        container = killed.container
        if holds_series(killed.workload, container) and not is_agent(killed.workload, container):
            continue  # prometheus-memory reports these, with the size that they need
        limit = killed.limit
        if limit:
            remedy = f"raise limits.memory above {limit}"
        else:
            remedy = "set limits.memory to what it may take: without a limit its node had no memory left"
        if product_of(container.image).name in _ELASTALERT:
            remedy += f", {_FEWER}"
        message = f"container {container.name!r} was OOM-killed {killed.told}: {remedy}"
        yield killed.observation(message, *doubled(killed))
