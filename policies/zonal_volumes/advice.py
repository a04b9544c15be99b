"""What mends a volume that its pods can leave behind: what fits the situation stands first.

A volume that is there holds data, so its pods are kept where it is. What is still to be made gets a class whose volumes
every pod reaches, if the cluster has one. Prometheus' own data goes to no file share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from policies.zonal_volumes.flaws import Flaw, Pods, flaw_of_tie
from webhook.objects.facts import CLAIMS, ClusterFacts, claim_class
from webhook.objects.helm_values import Value, helm_value
from webhook.objects.pods import Workload
from webhook.objects.prometheus import is_agent, sends_elsewhere, series_containers
from webhook.objects.storage import Tie, classes_to_choose, default_class, kept_volume, tie_of_class
from webhook.objects.topology import Pin, as_yaml, called, is_node_key
from webhook.objects.volumes import StoredVolume
from webhook.policy import AdmissionRequest, Set, join_path

LATE = "a class that binds WaitForFirstConsumer"
_CLASS_FIELD = "spec.storageClassName"
_CLASS_ANNOTATION = 'metadata.annotations["volume.beta.kubernetes.io/storage-class"]'
# Fields that give a claim its data or its volume, which it would lack with another class or as an emptyDir.
_SOURCES = ("dataSource", "dataSourceRef", "selector", "volumeName")
_MOST_CLAIMS = 5


class Remedy(NamedTuple):
    """One way to mend it: in words, and what does it.

    sets     what has to be set
    brief    the words where room is scarce
    deletes  what has to be deleted before, which holds no data
    hint     the Helm value, with what to set it to
    """

    words: str
    sets: tuple[Set, ...] = ()
    deletes: tuple[str, ...] = ()
    hint: str | None = None
    brief: str = ""


class Advice:
    """What mends the volumes of one object; `workload` is None for a claim by itself.

    `replacement` is the class that the configuration names instead, `empty_dir` whether it names an emptyDir.
    """

    def __init__(
        self,
        request: AdmissionRequest,
        facts: ClusterFacts,
        pods: Pods,
        workload: Workload | None = None,
        *,
        replacement: str = "",
        empty_dir: bool = False,
    ) -> None:
        self._request, self._facts, self._pods, self._workload = request, facts, pods, workload
        self._replacement, self._empty_dir = replacement, empty_dir

    def remedies(self, volume: StoredVolume, flaw: Flaw, *, has_fix: bool = False) -> list[Remedy]:
        """The ways to mend it, the best first; `has_fix` if the first is what mode patch would do."""
        tie, pin = flaw.tie, flaw.pin
        if pin is None and flaw.binds_early:
            return [Remedy(f"use {LATE}")]
        moved = list(self._moved(volume, tie, has_fix=has_fix))
        if pin is None or self._is_scattered(volume):
            return moved or [self._unnamed(volume, tie, is_scattered=pin is not None)]
        pinned = self._pinned(volume, flaw, pin)
        is_pin_last = bool(moved) and not tie.is_made and (has_fix or self._is_done_at_once(moved[0]))
        return [*moved, pinned] if is_pin_last else [pinned, *moved]

    def _is_done_at_once(self, moved: Remedy) -> bool:
        """Whether the remedy can be followed at once: a claim that existing pods use can't be deleted."""
        return bool(moved.sets) and (not moved.deletes or self._request.operation == "CREATE")

    def _is_scattered(self, volume: StoredVolume) -> bool:
        """Whether the claims of one template have their volumes in several places, so that no pin keeps all pods."""
        tied = [tie for tie in volume.ties if tie.is_made and tie.extent in ("nodes", "group")]
        return len({pin for tie in tied if (pin := self._pods.reach(tie).pin)}) > 1

    def _pinned(self, volume: StoredVolume, flaw: Flaw, pin: Pin) -> Remedy:
        what = called(pin.key, 1)
        if what == pin.key:
            there = "the nodes that reach it"
        else:
            there = f"the volume's {what}" if flaw.tie.is_made else f"one {what}"
        late = f" and use {LATE}" if flaw.binds_early else ""
        words = f"pin the pods to {there} ({pin}){late}"
        # Somebody who can make a better class needs to know where it is set.
        class_value = None if flaw.tie.is_made else self._value(volume.name, "storageClass")
        class_hint = f"{class_value} (the class)" if class_value else None
        if self._workload is None or not pin.value or flaw.is_nowhere:
            return Remedy(words, hint=class_hint)
        path = join_path(f"{self._workload.spec_path}.nodeSelector", pin.key)
        hint = self._hint(volume.name, "nodeSelector", pin.value, pin.key)
        if class_value:
            hint = f"{hint} (the class: {class_value})" if hint else class_hint
        return Remedy(words, (Set(path, pin.value),), hint=hint, brief=f"pin the pods ({pin}){late}")

    def _moved(self, volume: StoredVolume, tie: Tie, *, has_fix: bool) -> Iterator[Remedy]:
        """What puts the data where every pod reaches it, as far as this cluster can."""
        if self._empty_dir and volume.route == "template" and not (tie.is_made or tie.is_kept):
            kept = ", and have the series sent elsewhere by remote_write" if self._loses_series else ""
            yield Remedy(f"use an emptyDir with a sizeLimit{kept}", brief="use an emptyDir with a sizeLimit")
            return
        # Where the claim, or the template of one, has it already, it is tied itself.
        own = self._class_of(volume)
        name = next((name for name in (self._replacement, self._spanning) if name and name != own), "")
        if name and (volume.route != "template" or tie.is_made or not has_source(volume.source)):
            yield self._with_class(volume, tie, name, has_fix=has_fix)
        elif volume.route == "template" and not (tie.is_made or tie.is_kept):
            yield from self._ephemeral(volume, tie)

    def _with_class(self, volume: StoredVolume, tie: Tie, name: str, *, has_fix: bool) -> Remedy:
        if volume.route == "inline":
            return Remedy(f"keep the data on a claim of class {name}")
        if tie.is_made:
            return Remedy(f"move the data to a claim of class {name}, by a copy that is made while the pods are down")
        hint = self._hint(volume.name, "storageClass", name)
        if volume.route == "template":
            path = volume.path if has_fix else _class_path(volume)
            sets = () if has_fix else (Set(path, name),)
            if not tie.is_kept:
                return Remedy(f"set storageClassName to class {name}", sets, hint=hint)
            words, claims = f"make the claim anew with class {name}", self._unbound(volume)
            # A claim that binds at once may hold data by the time that somebody deletes it.
            return Remedy(words, sets, claims, hint) if claims and tie.binds != "Immediate" else Remedy(words)
        claim = f"persistentvolumeclaim/{_claim_name(volume)}"
        words = f"give the claim class {name}"
        if tie.binds == "Immediate":
            return Remedy(words)
        return Remedy(words, (Set(_CLASS_FIELD, name, claim),), (claim,), hint)

    def _unbound(self, volume: StoredVolume) -> tuple[str, ...]:
        """The claims of a template that are there, if none of them has a volume, and there are few."""
        known = self._facts.of(CLAIMS)
        stored = [claim for claim in volume.claims if (claim.namespace, claim.name) in known]
        for claim in stored:
            if known[claim.namespace, claim.name].volume or kept_volume(claim.namespace, claim.name, self._facts):
                return ()
        return tuple(f"persistentvolumeclaim/{claim.name}" for claim in stored) if len(stored) <= _MOST_CLAIMS else ()

    def _ephemeral(self, volume: StoredVolume, tie: Tie) -> Iterator[Remedy]:
        """An ephemeral volume, where Prometheus sends its series elsewhere; an agent keeps nothing else."""
        workload = self._workload
        if workload is None or not workload.is_operated or tie.binds != "WaitForFirstConsumer":
            return
        if workload.kind == "PrometheusAgent":
            template = {"spec": volume.source.get("spec") or {}}
            sets = (Set("spec.storage", {"ephemeral": {"volumeClaimTemplate": template}}),)
            yield Remedy("use an ephemeral volume, since an agent sends its series elsewhere", sets)
        elif workload.kind == "Prometheus" and sends_elsewhere(workload.spec):
            yield Remedy("use an ephemeral volume, if what has been sent elsewhere may be lost here")

    def _unnamed(self, volume: StoredVolume, tie: Tie, *, is_scattered: bool) -> Remedy:
        """Where neither a pin nor a class of the cluster helps."""
        if is_scattered:
            return Remedy("its claims are in several places: make a workload for each, pinned to where its claim is")
        is_of_node = bool(tie.keys) and is_node_key(tie.keys[-1])
        wanted = f"a class {'whose volumes every node reaches' if is_of_node else 'whose disks span zones'}"
        if volume.route == "inline":
            return Remedy(f"keep the data on a claim of {wanted}")
        return Remedy(f"move the data to a claim of {wanted}" if tie.is_made else f"use {wanted}")

    def _class_of(self, volume: StoredVolume) -> str | None:
        """The class that the volume's claim, or the template of one, names, or else the default one."""
        claim = self._facts.of(CLAIMS).get((self._request.namespace, _claim_name(volume)))
        named = claim.storage_class if claim else _class_of(volume.source)
        if named is not None:
            return named
        default = default_class(self._facts)
        return default.name if default else None

    @cached_property
    def _spanning(self) -> str:
        """The class of the cluster whose volumes all of the pods reach, or else most; empty if there is none."""
        usable = classes_to_choose(self._facts, takes_files=self._takes_files)
        ties = [(name, tie_of_class(name, self._facts)) for name in usable]
        found = [(name, tie, flaw_of_tie("", tie, self._pods)) for name, tie in ties]
        for name, tie, flaw in found:
            if flaw is None and tie.extent != "unknown":
                return name
        return next((name for name, _, flaw in found if flaw is not None and flaw.is_in_several), "")

    @property
    def _loses_series(self) -> bool:
        """Whether Prometheus' series would be gone with the pod, as far as its object tells: metrics-durability denies
        that."""
        workload = self._workload
        if workload is None or (workload.is_operated and sends_elsewhere(workload.spec)):
            return False
        return any(not is_agent(workload, container) for container in series_containers(workload))

    @cached_property
    def _takes_files(self) -> bool:
        """Whether a file share is good enough for the data; of a claim by itself nobody knows whose it is."""
        return self._workload is not None and not series_containers(self._workload)

    def _value(self, name: str, what: Value) -> str | None:
        return helm_value(self._request.object or {}, name, what)

    def _hint(self, name: str, what: Value, value: str, key: str = "") -> str | None:
        found = self._value(name, what)
        return f"{join_path(found, key) if key else found}: {as_yaml(value)}" if found else None


def has_source(claim: Mapping[str, Any]) -> bool:
    """Whether a claim, or the template of one, says where its data or its volume comes from."""
    spec = claim.get("spec") or {}
    return any(spec.get(field) for field in _SOURCES)


def _claim_name(volume: StoredVolume) -> str:
    """The claim that a pod's volume names, empty if it names none."""
    return str((volume.source.get("persistentVolumeClaim") or {}).get("claimName") or "")


def _class_of(source: Mapping[str, Any]) -> str | None:
    """The class that a claim, or the template of one, names. A pod's volume is neither, whatever its unknown fields
    are called."""
    metadata, spec = source.get("metadata"), source.get("spec")
    return claim_class(metadata if isinstance(metadata, dict) else {}, spec if isinstance(spec, dict) else {})


def _class_path(volume: StoredVolume) -> str:
    """Where a template's class is written: the old annotation outvotes the field."""
    is_annotated = claim_class(volume.source.get("metadata") or {}, {}) is not None
    return volume.path.removesuffix(_CLASS_FIELD) + (_CLASS_ANNOTATION if is_annotated else _CLASS_FIELD)
