"""Containers that were killed since they, or their node, had no memory left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from webhook.objects.commands import kubectl
from webhook.objects.containers import Container
from webhook.objects.helm_values import helm_value
from webhook.objects.live.pods import ContainerTrouble, LivePod
from webhook.objects.live.snapshot import Live
from webhook.objects.pods import Workload
from webhook.objects.quantities import format_memory
from webhook.objects.wording import utc
from webhook.policy import Observation, Reference

RECENT = timedelta(days=1)
_OOM = "OOMKilled"


class Killed(NamedTuple):
    """A container of a workload's pods that was OOM-killed in the last day.

    pod       the one in which it was killed last
    workload  that pod's containers and placement
    at        when it was killed last
    restarts  those of all pods together
    pods      how many pods it was killed in
    is_down   it doesn't run now in one of them; down_since is since when that pod isn't ready
    """

    owner: Reference
    pod: LivePod
    workload: Workload
    container: Container
    at: datetime
    restarts: int
    pods: int
    is_down: bool
    down_since: datetime | None

    @property
    def limit(self) -> str:
        """The limit that it reached, as it was written: its own or the pod's; empty if there is none."""
        limits = (self.container.memory("limits"), self.workload.memory("limits"))
        return next((str(limit) for limit in limits if limit is not None), "")

    @property
    def limit_bytes(self) -> int | None:
        return self.container.amount("limits") or self.workload.amount("limits")

    @property
    def told(self) -> str:
        """At which limit, where and when, how often: "at its limit 512Mi, last in pod web-0 at …, after 3 restarts"."""
        at = f"at its limit {self.limit}" if self.limit else "without a limit"
        pods = f", in {self.pods} pods" if self.pods > 1 else ""
        restarts = f"{self.restarts} restart{'s' if self.restarts != 1 else ''}"
        down = ", and is down now" if self.is_down else ""
        return f"{at}{pods}, last in pod {self.pod.name} at {utc(self.at)}, {restarts}{down}"

    @property
    def logs(self) -> str:
        """The command that shows what it did before it was killed."""
        return kubectl("logs", self.pod.name, "-c", self.container.name, "--previous", namespace=self.pod.namespace)

    def observation(self, message: str, *run: str) -> Observation:
        """What is told of the container; commands to `run` that help come before the one that shows its logs."""
        # The labels tell the chart that it is from.
        labelled = {"kind": self.owner.kind, "metadata": {"labels": self.workload.labels}}
        return Observation(
            self.owner,
            self.container.name,
            message,
            run=(*run, self.logs),
            since=self.down_since,
            value=self.restarts,
            hint=helm_value(labelled, self.container.name, "resources"),
            severity="error" if self.is_down else "warning",
        )


_RESIZABLE = ("Deployment", "StatefulSet", "DaemonSet")


def set_memory(owner: Reference, container: str, **amounts: int) -> tuple[str, ...]:
    """The command that sets a container's memory ("limits", "requests"), where kubectl can: an operator's resource is
    changed where it is written."""
    if owner.kind not in _RESIZABLE:
        return ()
    given = [f"--{part}=memory={format_memory(amount)}" for part, amount in amounts.items()]
    of = f"{owner.kind.lower()}/{owner.name}"
    return (kubectl("set", "resources", of, "-c", container, *given, namespace=owner.namespace),)


def doubled(killed: Killed) -> tuple[str, ...]:
    """The command that gives the container twice the limit that it reached."""
    limit = killed.container.amount("limits")
    return set_memory(killed.owner, killed.container.name, limits=2 * limit) if limit else ()


def kills(live: Live) -> Iterator[Killed]:
    """The containers that were OOM-killed, each once for its workload."""
    found: dict[tuple[Reference, str], Killed] = {}
    for pod in live.troubled():
        for trouble in pod.trouble.containers:
            if (killed := _killed(live, pod, trouble)) is None:
                continue
            key = killed.owner, trouble.name
            if (known := found.get(key)) is not None:
                latest = max(known, killed, key=lambda kill: kill.at)
                killed = latest._replace(
                    restarts=known.restarts + killed.restarts,
                    pods=known.pods + 1,
                    is_down=known.is_down or killed.is_down,
                    down_since=min(filter(None, (known.down_since, killed.down_since)), default=None),
                )
            found[key] = killed
    yield from found.values()


def _killed(live: Live, pod: LivePod, trouble: ContainerTrouble) -> Killed | None:
    last = trouble.last
    if last is None or last.reason != _OOM or last.at is None or live.now - last.at > RECENT:
        return None
    workload = pod.shape.workload
    container = next((container for container in workload.containers if container.name == trouble.name), None)
    if container is None:  # an ephemeral one
        return None
    is_down = bool(trouble.waiting) or pod.phase == "Failed"
    unready = pod.trouble.unready if is_down else None
    since = unready.since if unready else None
    return Killed(live.owner_of(pod), pod, workload, container, last.at, trouble.restarts, 1, is_down, since)
