"""Forestall's texts as kubectl prints them: warnings and denials."""

from __future__ import annotations

TEMPLATE = "spec.template.spec.containers[0]"
_POLICIES = ("memory-limits: ", "prometheus-memory: ", "zonal-volumes: ")
NO_DEFAULT = "set limits.memory to 6Gi or more, since no default is safe for a container that holds Prometheus' series"
PIN = "pin the pods to one zone (nodeSelector topology.kubernetes.io/zone: zone-a)"
MANY_ZONES = "but its pods may run in 3 zones: zone-a, zone-b, zone-c"
EARLIER = "it was so before this change"


def patched(
    container: str, who: str = "Deployment web", wrong: str = "no memory limit", *, with_request: bool = True
) -> str:
    """The warning that explains a patch of the default size."""
    sets = "limits.memory=512Mi" + (", requests.memory=256Mi" if with_request else "")
    return f"Warning: {who}, container {container}: memory-limits: {wrong}: patched to {sets}\n"


def warned(end: str, container: str = "web") -> str:
    """The warning of a container of Deployment web that has no limit."""
    wrong = "memory-limits: no memory limit: set limits.memory to 512Mi"
    return f"Warning: Deployment web, container {container}: {wrong}; {end}\n"


def ratcheted(container: str = "web") -> str:
    return warned(EARLIER, container)


def unlimited(container: str, wrong: str = "no memory limit", advice: str = "set limits.memory to 512Mi") -> str:
    return f"memory-limits: container '{container}' has {wrong}: {advice}"


def small_request(found: str, container: str = "prometheus") -> str:
    wrong = f"memory request {found}" if found else "no memory request"
    return f"prometheus-memory: Prometheus container '{container}' has {wrong}: set requests.memory to 4Gi or more"


def small_limit(found: str, container: str = "prometheus") -> str:
    wrong = f"memory limit {found}" if found else "no memory limit"
    return f"prometheus-memory: Prometheus container '{container}' has {wrong}: set limits.memory to 6Gi or more"


def zonal(tie: str, chain: str, advice: str) -> str:
    return f"zonal-volumes: volume 'data' is tied to {tie}, {MANY_ZONES} ({chain}): {advice}"


def told(stderr: str) -> list[str]:
    """The first line of each violation in a denial."""
    return [line for line in stderr.splitlines() if line.startswith(_POLICIES)]
