"""Who may mount a claim's volume at one time: what the claim asks for, and what its volume is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from webhook.errors import BadObject
from webhook.objects.facts import Claim, ClusterFacts, claim_class
from webhook.objects.fields import mapping
from webhook.objects.storage import disk_of

_ONCE, _ONE_POD, _MANY = "ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"
# Any number of pods, on any number of nodes, may mount a volume that has one of these.
_SHARED = frozenset({_MANY, "ReadOnlyMany"})


class Access(NamedTuple):
    """What holds a claim's volume at one time.

    holder      "one node", "one pod", or "" if any number of pods may mount it
    told        as the claim's predicate: "is ReadWriteOnce, which one node holds at a time"
    is_certain  the claim says so itself, rather than what makes its volume
    is_written  any number of pods may write to it
    """

    holder: str
    told: str
    is_certain: bool = True
    is_written: bool = False


def access_of(claim: Claim, facts: ClusterFacts, *, is_raw: bool = False) -> Access | None:
    """The access that pods have to a claim's volume; None where nothing tells.

    `is_raw`: the pods take the volume as a device, which several nodes may share even if it is a disk.
    """
    modes = frozenset(claim.access_modes)
    disk = "" if is_raw or modes - {_MANY} else disk_of(claim, facts)
    if disk:
        asks = f"asks for {_MANY}, but" if modes else "names no accessModes, and"
        told = f"{asks} {disk} makes disks, which one node holds at a time"
        return Access("one node", told, is_certain=not modes)
    if not modes:
        return None
    if modes & _SHARED:
        return Access("", f"is {_MANY if _MANY in modes else 'ReadOnlyMany'}", is_written=_MANY in modes)
    mode, holder = (_ONE_POD, "one pod") if _ONE_POD in modes else (_ONCE, "one node")
    return Access(holder, f"is {mode}, which {holder} holds at a time")


def access_of_template(
    template: Mapping[str, Any], path: str, facts: ClusterFacts, *, is_operated: bool = False
) -> Access | None:
    """The access that a pod has to the claim that is made for it from this template."""
    spec, metadata = mapping(template, "spec", path), mapping(template, "metadata", path)
    modes = spec.get("accessModes")
    if modes is not None and not (isinstance(modes, list) and all(isinstance(mode, str) for mode in modes)):
        raise BadObject(f"{path}.spec.accessModes is {modes!r}, not a list of strings")
    if is_operated and not modes:
        modes = [_ONCE]  # prometheus-operator fills it in (pkg/prometheus/server/statefulset.go)
    return access_of(Claim("", "", "", claim_class(metadata, spec), access_modes=tuple(modes or ())), facts)
