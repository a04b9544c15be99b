"""Containers for which no default is safe, and the size that their owner is told to set."""

from __future__ import annotations

from policies.memory_limits.pod import Pod, meant_request
from webhook.objects.containers import Container
from webhook.objects.memory_volumes import size_limit_path, written_by
from webhook.objects.products import AGENTS, product_of
from webhook.objects.prometheus import LEAST_LIMIT, LEAST_REQUEST, holds_series, is_agent
from webhook.objects.quantities import format_memory
from webhook.objects.sizes import Size
from webhook.policy import Set

_AGENT = Size(2 * 2**30, 2**30)
"""Some 10 KB for each of 200,000 series: https://grafana.com/docs/alloy/latest/set-up/deploy/"""
_VOLUME = 2**30
"""Bytes that are advised as the size limit of a memory volume."""


def why_no_default(pod: Pod, container: Container) -> str:
    """Why no limit that isn't meant for this very container is safe for it, and what to set; empty if one is."""
    is_server = holds_series(pod.workload, container)
    if (is_server or product_of(container.image).name in AGENTS) and is_agent(pod.workload, container):
        return (
            f"set limits.memory to {format_memory(_AGENT.limit)}, which some 200,000 series need, or to what it uses "
            "at its busiest, since no default is safe for an agent: it keeps what it can't send in a write-ahead log, "
            "and reads all of that when it starts"
        )
    if is_server:
        return (
            f"set limits.memory to {LEAST_LIMIT} or more, since no default is safe for a container that holds "
            "Prometheus' series"
        )
    if boundless := _boundless(pod, container):
        names = " and ".join(map(repr, boundless))
        return (
            f"set limits.memory to {format_memory(_with_volumes(pod, container).limit)} and the sizeLimit of volume "
            f"{names} to {format_memory(_VOLUME)}, or to what it needs, since no default is safe beside memory "
            "(emptyDir.medium) without a sizeLimit"
        )
    return ""


def _boundless(pod: Pod, container: Container) -> list[str]:
    """The memory volumes that the container writes to and that have no size limit."""
    written = written_by(container, pod.workload, pod.memory_volumes)
    return [name for name, size in written.items() if size is None]


def _with_volumes(pod: Pod, container: Container) -> Size:
    """What the container needs once its memory volumes are as large as is advised."""
    written = written_by(container, pod.workload, pod.memory_volumes)
    volumes = sum(_VOLUME if size is None else size for size in written.values())
    request = meant_request(container) or pod.params.default_request
    return Size(max(pod.params.default_limit, request) + volumes, request)


def advised(pod: Pod, container: Container) -> tuple[Set, ...]:
    """The sets that a person may make where no size is safe enough to patch in."""
    workload = pod.workload
    if is_agent(workload, container):
        return _at_least(_AGENT, container)
    if holds_series(workload, container):
        return _at_least(Size(LEAST_LIMIT, LEAST_REQUEST), container)
    if (whole := limit_of_whole(pod)) and workload.amount("limits") is None:
        return (Set(workload.memory_path("limits"), whole),)
    if boundless := _boundless(pod, container):
        volumes = [Set(size_limit_path(name, workload), format_memory(_VOLUME)) for name in boundless]
        return (*_at_least(_with_volumes(pod, container), container), *volumes)
    if pod.unread and pod.bounds.default is None:
        return _at_least(Size(pod.params.default_limit, pod.params.default_request), container)
    return ()


def _at_least(size: Size, container: Container) -> tuple[Set, ...]:
    """This size, but no limit below the request that the container has."""
    requested = meant_request(container)
    limit = max(size.limit, requested)
    return Size(limit, requested or min(size.request, limit)).sets(container, None)


def limit_of_whole(pod: Pod) -> str:
    """The limit of a pod that has a request of its own; empty if it has none."""
    request = pod.workload.amount("requests")
    return "" if request is None else format_memory(max(request, pod.params.default_limit))
