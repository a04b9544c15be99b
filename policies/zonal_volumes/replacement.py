"""What the parameter `replacement` makes of templates and claims for new volumes: another class, or an emptyDir."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from policies.zonal_volumes.advice import has_source
from webhook.objects.facts import ClusterFacts, claim_class
from webhook.objects.fields import items, mapping
from webhook.objects.names import ObjectName
from webhook.objects.pods import Workload
from webhook.objects.quantities import Quantity
from webhook.objects.storage import tie_of_class
from webhook.objects.volumes import StoredVolume
from webhook.policy import FactReference, Set

# Claims that are looked up before a template may become an emptyDir; all within 500 ms.
_MOST_LOOK_UPS = 10


class Replacement(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The replacement for the volume of a new claim or template: a class or an emptyDir."""

    storage_class: Annotated[
        ObjectName,
        Meta(description="The class that a new claim or template gets: one whose disks are reached from every zone."),
    ] = ""
    empty_dir: Annotated[
        bool, Meta(description="Whether a template becomes an emptyDir where its claims don't exist yet.")
    ] = False
    size_limit: Annotated[
        Quantity | None,
        Meta(
            description="The sizeLimit of such an emptyDir; where it isn't given, the size that the template asks for."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.empty_dir == bool(self.storage_class):
            raise ValueError("name either storageClass or emptyDir: true")
        if self.size_limit is not None and not self.empty_dir:
            raise ValueError("sizeLimit belongs to emptyDir: true")


class Mends(NamedTuple):
    """What mends a template of new claims, and the claims that must be looked up before that is safe."""

    fix: Set | tuple[Set, ...] | None = None
    unseen: tuple[FactReference, ...] = ()


def mends_of(
    workload: Workload, volumes: Sequence[StoredVolume], facts: ClusterFacts, replacement: Replacement | None
) -> Mapping[str, Mends]:
    """What mends these templates, by path. What turns them into emptyDirs does so with all of them at once."""
    if replacement is None:
        return {}
    if not replacement.empty_dir:
        return {volume.path: Mends(as_class(volume.path, volume.source, facts, replacement)) for volume in volumes}
    mends = {}
    sizes: dict[str, tuple[StoredVolume, Any]] = {}
    for volume in volumes:
        is_block = (volume.source.get("spec") or {}).get("volumeMode") == "Block"
        # OpenKruise's reserved ordinals make other claims than these.
        if is_block or has_source(volume.source) or workload.group == "apps.kruise.io":
            continue
        # A reinstallation is a CREATE too: a claim that may be there may hold data.
        doubtful = tuple(claim for claim in volume.claims if claim not in facts.absent)
        if doubtful or not volume.claims:
            mends[volume.path] = Mends(unseen=doubtful if len(volume.claims) <= _MOST_LOOK_UPS else ())
        elif (size := _size(volume, replacement.size_limit)) is not None:
            sizes[volume.path] = volume, size
    fix = _as_empty_dirs(workload, sizes.values())
    return mends | dict.fromkeys(sizes, Mends(fix))


def _size(volume: StoredVolume, size_limit: Quantity | None) -> Any:
    """What the template asks, unless `size_limit` says; nothing where neither does: it could fill the node's disk."""
    spec = volume.source.get("spec") or {}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    return asked if size_limit is None else str(size_limit)


def _as_empty_dirs(workload: Workload, sized: Collection[tuple[StoredVolume, Any]]) -> tuple[Set, ...]:
    """What turns templates into emptyDirs of the pods, with these sizes."""
    made = [{"name": volume.name, "emptyDir": {"sizeLimit": size}} for volume, size in sized]
    if workload.is_operated:
        return tuple(Set("spec.storage", {"emptyDir": volume["emptyDir"]}) for volume in made)
    replaced, names = {id(volume.source) for volume, _ in sized}, {volume.name for volume, _ in sized}
    templates = items(mapping(workload.object, "spec", ""), "volumeClaimTemplates", "spec")
    volumes = [volume for name, (volume, _) in workload.volumes.items() if name not in names]
    return (
        Set("spec.volumeClaimTemplates", [template for template in templates if id(template) not in replaced]),
        Set(f"{workload.spec_path}.volumes", [*volumes, *made]),
    )


def as_class(path: str, claim: Mapping[str, Any], facts: ClusterFacts, replacement: Replacement | None) -> Set | None:
    """What gives a claim, or the template of one, the replacement's class; None where it has that already, where an old
    annotation would outvote it, and where it says itself what its data comes from."""
    name = class_of(replacement, facts)
    metadata, spec = claim.get("metadata") or {}, claim.get("spec") or {}
    is_named_before = claim_class(metadata, spec) == name or claim_class(metadata, {}) is not None
    return None if not name or is_named_before or has_source(claim) else Set(path, name)


def class_of(replacement: Replacement | None, facts: ClusterFacts) -> str:
    """The class that the replacement names; empty if it names none, or one whose volumes are tied themselves."""
    name = replacement.storage_class if replacement else ""
    tie = tie_of_class(name, facts) if name else None
    is_tied = tie is not None and (tie.extent == "nodes" or (tie.extent == "group" and tie.count == 1))
    return "" if is_tied else name
