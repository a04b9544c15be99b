"""What is asked about a workload's pods for each of their stores, and told once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from policies.metrics_durability.stores import thanos_command
from webhook.objects.facts import ClusterFacts
from webhook.objects.images import base_of
from webhook.objects.nodes import read_placement
from webhook.objects.pods import Workload
from webhook.objects.products import product_of
from webhook.objects.prometheus import flag_value
from webhook.objects.reach import Reach, reach_of
from webhook.objects.storage import Tie, classes_to_choose, tie_of_class
from webhook.objects.topology import Pin
from webhook.objects.volumes import Template, claim_templates

OBJECT_STORES = ("objstore.config-file", "objstore.config")
"""Thanos' flags that give it object storage."""
_BACKUPS = frozenset({"vmbackup", "vmbackupmanager"})


class Reached(NamedTuple):
    """How a new volume is one that the pods reach: by its class, the first of the cluster that does it, or else by a
    label that keeps the pods where a volume of the default class is. Without either nothing is known to help."""

    storage_class: str = ""
    pin: Pin | None = None


class Pod:
    """The pods of a workload, in a cluster of which these facts are known."""

    def __init__(self, workload: Workload, facts: ClusterFacts) -> None:
        self.workload, self.facts = workload, facts

    @cached_property
    def templates(self) -> Mapping[str, Template]:
        """The templates of claims, by the name of the volume that they make."""
        return {template.name: template for template in claim_templates(self.workload)}

    @cached_property
    def has_thanos_sidecar(self) -> bool:
        """Whether a Thanos sidecar uploads blocks to object storage."""
        return any(
            product_of(container.image).name == "thanos"
            and thanos_command(container) == "sidecar"
            and flag_value(container, *OBJECT_STORES)
            for container in self.workload.containers
        )

    @cached_property
    def has_backup(self) -> bool:
        """Whether VictoriaMetrics' own backup runs beside it."""
        return any(base_of(container.image) in _BACKUPS for container in self.workload.containers)

    @cached_property
    def reached(self) -> Reached:
        """How a new volume is one that the pods reach wherever they run."""
        return self._reached(takes_files=True)

    @cached_property
    def reached_by_disks(self) -> Reached:
        """The same without file shares, of which Prometheus supports none."""
        return self._reached(takes_files=False)

    def _reached(self, *, takes_files: bool) -> Reached:
        for name in classes_to_choose(self.facts, takes_files=takes_files):
            tie = tie_of_class(name, self.facts)
            reach = self._reach(tie)
            if tie.extent == "nothing" or (reach.extent == "all" and not reach.elsewhere):
                return Reached(name)
        reach = self._reach(tie_of_class(None, self.facts))
        return Reached(pin=reach.pin if reach.extent == "some" and reach.pin and reach.pin.value else None)

    def _reach(self, tie: Tie) -> Reach:
        if tie.extent not in ("group", "nodes"):
            return Reach("unknown")
        return reach_of(tie, read_placement(self.workload), self.facts, ())
