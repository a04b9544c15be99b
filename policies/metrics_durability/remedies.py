"""What mends a store whose data is gone with its pod: it is sent elsewhere, or its volume stays.

A volume must be one that its pods reach wherever they may run, else zonal-volumes denies it.
"""

from __future__ import annotations

from typing import Any

from policies.metrics_durability.pod import Pod, Reached
from policies.metrics_durability.retention import Retention
from policies.metrics_durability.space import volume_for
from policies.metrics_durability.stores import ALERTMANAGER, PROMETHEUS, Kept
from webhook.objects.helm_values import helm_value
from webhook.objects.quantities import Memory
from webhook.objects.topology import called
from webhook.policy import Set, join_path

_USUAL = Memory.parse("50Gi")
_SMALL = Memory.parse("1Gi")


class Remedies:
    """The ways to mend one store. `remote_write` is the address that the configuration names, empty for none."""

    def __init__(self, pod: Pod, kept: Kept, retention: Retention | None, remote_write: str, where: str = "") -> None:
        """`where` is where it is written that data is elsewhere, if that is known."""
        self._workload, self._kept = pod.workload, kept
        self._retention, self._remote_write = retention, remote_write
        self._pod, self._where = pod, where

    @property
    def first(self) -> str:
        """The first way alone, which asks for no volume."""
        where = f" ({self._where})" if self._where else ""
        to = f" to {self._remote_write}" if self._is_prometheus and self._remote_write else ""
        return self._kept.store.remedy.format(where=f"{where}{to}")

    @property
    def brief(self) -> str:
        """The way that goes by the Helm value that `hint` names first; the first way where it names none."""
        is_by_volume = self._value("persistence") and not self._value("remoteWrite")
        return self._on_a_volume if is_by_volume else self.first

    @property
    def words(self) -> str:
        return f"{self.first}, or {self._on_a_volume}"

    @property
    def _on_a_volume(self) -> str:
        name, pin = self._reached
        reached = f" of class {name}" if name else " that its pods reach in every zone"
        if pin:
            reached = f", with its pods pinned to one {called(pin.key, 1)} ({pin})"
        return f"keep them on a persistent volume{reached}"

    @property
    def fix(self) -> Set | None:
        """What mode patch does: the address that the configuration names, in an operator's resource."""
        if not (self._remote_write and self._is_prometheus and self._workload.is_operated):
            return None
        return Set(f"{self._workload.spec_path}.remoteWrite", [{"url": self._remote_write}])

    @property
    def advice(self) -> tuple[Set, ...]:
        if not self._workload.is_operated:
            return ()
        if self._kept.store is ALERTMANAGER:
            return (Set(f"{self._workload.spec_path}.replicas", 2),)
        stored = Set(f"{self._workload.spec_path}.storage", self._storage)
        _, pin = self._reached
        if not pin:
            return (stored,)
        return stored, Set(join_path(f"{self._workload.spec_path}.nodeSelector", pin.key), pin.value)

    @property
    def hint(self) -> str | None:
        address = self._remote_write or "URL"
        remote, volume = self._value("remoteWrite"), self._value("persistence")
        ways = [f"{remote}: [{{url: {address}}}]"] if remote else []
        if volume:
            ways.append(volume if ": " in volume else f"{volume}: {_flow(self._storage)}")
        return ", or ".join(ways) or None

    def size_hint(self, size: str) -> str | None:
        found = self._value("sizeLimit")
        return f"{found}: {size}" if found else None

    @property
    def known_size(self) -> Memory | None:
        """The size of a volume that holds what the store keeps, where its retention says that."""
        return volume_for(self._retention.size) if self._retention and self._retention.size else None

    @property
    def size(self) -> Memory:
        """That size, or else a usual one."""
        return self.known_size or (_USUAL if self._kept.store.grows else _SMALL)

    def _value(self, what: Any) -> str | None:
        return helm_value(self._workload.object, self._kept.container.name, what)

    @property
    def _is_prometheus(self) -> bool:
        return self._kept.store is PROMETHEUS

    @property
    def _storage(self) -> dict[str, Any]:
        name, _ = self._reached
        named = {"storageClassName": name} if name else {}
        return {"volumeClaimTemplate": {"spec": {**named, "resources": {"requests": {"storage": str(self.size)}}}}}

    @property
    def _reached(self) -> Reached:
        return self._pod.reached_by_disks if self._is_prometheus else self._pod.reached


def _flow(value: Any) -> str:
    """The value as one types it into a values file, in one line."""
    if not isinstance(value, dict):
        return str(value)
    return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in value.items())}}}"
