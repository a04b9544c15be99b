"""What is seen in a running cluster: a Prometheus that is killed over and over since its series don't fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from policies.prometheus_memory.floor import Params, find_series, floor_of
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import Killed, Live, kills, set_memory
from webhook.objects.quantities import format_memory
from webhook.policy import Observation

_REPLAY = "each start replays the write-ahead log, which may take more than it had before"


def observe(live: Live, _facts: ClusterFacts, params: Params) -> Iterator[Observation]:
    for _, of_pod in groupby(kills(live), key=lambda killed: (killed.pod.namespace, killed.pod.name)):
        killed_together = list(of_pod)
        series = {container.path for container in find_series(killed_together[0].workload, params.workloads)}
        yield from (_observation(killed, params) for killed in killed_together if killed.container.path in series)


def _observation(killed: Killed, params: Params) -> Observation:
    container, floor = killed.container, floor_of(params)
    limit = killed.limit_bytes
    request = max(floor.request, container.amount("requests") or 0)
    if limit and limit >= floor.limit:
        enough = 2 * limit
        known = f"{killed.limit} is no less than what is enough{floor.reason or ' as a rule'}, and it needs more: "
        remedy = f"{known}set limits.memory to {format_memory(enough)}, or have it scrape and keep fewer series"
    else:
        enough = floor.limit
        remedy = f"set requests.memory to {format_memory(request)} and limits.memory to {format_memory(enough)} or more"
        remedy += floor.reason
    message = f"Prometheus container {container.name!r} was OOM-killed {killed.told}; {_REPLAY}: {remedy}"
    return killed.observation(message, *set_memory(killed.owner, container.name, requests=request, limits=enough))
