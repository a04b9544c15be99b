"""Monitoring software that is down: no policy of its own, since whatever breaks it, nobody is told of anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from webhook.objects.commands import kubectl
from webhook.objects.containers import Container
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import (
    LIVE_PODS,
    LIVE_WORKLOADS,
    ContainerTrouble,
    Live,
    LivePod,
    LiveWorkload,
    Trouble,
    condition_of,
)
from webhook.objects.monitoring import is_monitoring
from webhook.objects.pods import Workload
from webhook.objects.wording import utc
from webhook.policy import Observation

NAME = "monitoring-down"
LIVES = (LIVE_PODS, *LIVE_WORKLOADS)

_START = timedelta(minutes=5)
"""How long a start may take where no startup probe gives it longer."""
_LOOPING = "CrashLoopBackOff"
_RESTARTS = 5
"""Restarts after which a crash loop has lasted at least five minutes: 10 s are waited first, then each time twice."""

_Key = tuple[str, str, str]
"""Namespace, and kind and name of the owner."""


def observe_monitoring(live: Live, _facts: ClusterFacts) -> Iterator[Observation]:
    pods: dict[_Key, list[LivePod]] = {}
    for pod in live.troubled():
        if not pod.is_over:
            pods.setdefault((pod.namespace, pod.owner.kind, pod.owner.name or pod.name), []).append(pod)
    for lacking in live.workloads():
        own = pods.pop((lacking.namespace, lacking.kind, lacking.name), [])
        workload = lacking.workload
        if workload is not None and (sign := is_monitoring(workload)):
            yield from _of_workload(live, lacking, workload, own, sign)
    for of_others in pods.values():  # bare pods, and those of kinds whose status isn't read
        yield from _of_pods(live, of_others)


def _of_workload(
    live: Live, lacking: LiveWorkload, workload: Workload, pods: Sequence[LivePod], sign: str
) -> Iterator[Observation]:
    if lacking.ready:
        yield from _of_pods(live, pods)
        return
    looping = _worst(pods)
    yield Observation(
        lacking.reference,
        looping[1].name if looping else "",
        f"none of {lacking.desired} pods is ready, and it monitors ({sign}): {_why(lacking, pods, looping)}",
        run=_commands(lacking, pods, looping),
        since=_since(lacking, pods),
        hold=_hold(workload, looping),
        value=looping[1].restarts if looping else 0,
        severity="error",
    )


def _of_pods(live: Live, pods: Sequence[LivePod]) -> Iterator[Observation]:
    """The pods that are in a crash loop, while others of the workload may be ready."""
    if (looping := _worst(pods)) is None:
        return
    pod, container = looping
    workload = pod.shape.workload
    if not (sign := is_monitoring(workload)):
        return
    unready = pod.trouble.unready
    yield Observation(
        live.owner_of(pod),
        container.name,
        f"pod {pod.name} doesn't stay up, and it monitors ({sign}): {_loop(container)}",
        run=(_logs(pod, container),),
        since=unready.since if unready else None,
        hold=_hold(workload, looping),
        value=container.restarts,
    )


def _worst(pods: Sequence[LivePod]) -> tuple[LivePod, ContainerTrouble] | None:
    """The container in a crash loop that has restarted most."""
    found = [(pod, container) for pod in pods for container in pod.trouble.containers if container.waiting == _LOOPING]
    return max(found, key=lambda looping: (looping[1].restarts, looping[0].name), default=None)


def _why(lacking: LiveWorkload, pods: Sequence[LivePod], looping: tuple[LivePod, ContainerTrouble] | None) -> str:
    if looping is not None:
        return _loop(looping[1])
    if not lacking.there:
        return "it has no pod"
    for pod in pods:
        unscheduled = pod.trouble.unscheduled
        if unscheduled is not None:
            said = f" (the scheduler: {unscheduled.message!r})" if unscheduled.message else ""
            return f"pod {pod.name} is Pending{said}"
        for container in pod.trouble.containers:
            if container.waiting:
                return f"container {container.name!r} waits: {container.waiting}"
    return "its readiness probe fails, or its containers are still starting"


def _loop(container: ContainerTrouble) -> str:
    last = container.last
    ended = ""
    if last is not None and last.at is not None:
        ended = f", it ended last at {utc(last.at)}{f' ({last.reason})' if last.reason else ''}"
    return f"container {container.name!r} is in {_LOOPING} after {container.restarts} restarts{ended}"


def _commands(
    lacking: LiveWorkload, pods: Sequence[LivePod], looping: tuple[LivePod, ContainerTrouble] | None
) -> tuple[str, ...]:
    namespace = lacking.namespace
    if looping is not None:
        return (_logs(*looping),)
    about = f"pod/{pods[0].name}" if pods else f"{lacking.kind.lower()}/{lacking.name}"
    return (kubectl("describe", about, namespace=namespace),)


def _logs(pod: LivePod, container: ContainerTrouble) -> str:
    return kubectl("logs", pod.name, "-c", container.name, "--previous", namespace=pod.namespace)


def _since(lacking: LiveWorkload, pods: Sequence[LivePod]) -> datetime | None:
    """When the last of its pods ceased to be ready, or was made."""
    found = [since for pod in pods if (since := _down_since(pod.trouble))]
    if found:
        return max(found)
    available = condition_of(lacking.conditions, "Available")
    return (available.since if available else None) or lacking.created


def _down_since(trouble: Trouble) -> datetime | None:
    condition = trouble.unready or trouble.unscheduled  # a pod that was never on a node isn't called unready
    return (condition.since if condition else None) or trouble.created


def _hold(workload: Workload, looping: tuple[LivePod, ContainerTrouble] | None) -> timedelta:
    if looping is not None and looping[1].restarts >= _RESTARTS:
        return timedelta()
    return max([_START, *(_start_of(container) for container in workload.containers)])


def _start_of(container: Container) -> timedelta:
    """How long its startup probe lets the container start; its fields have defaults of the API's."""
    probe: Mapping[str, Any] = container.spec.get("startupProbe") or {}
    if not probe:
        return timedelta()
    period, failures = probe.get("periodSeconds") or 10, probe.get("failureThreshold") or 3
    return timedelta(seconds=(probe.get("initialDelaySeconds") or 0) + period * failures)
