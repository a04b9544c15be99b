"""Where a store's files are: on what outlives its pod, or on what doesn't."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from policies.metrics_durability.pod import Pod
from policies.metrics_durability.stores import Kept
from webhook.objects.facts import CLAIMS
from webhook.objects.fields import bytes_at, mapping, text
from webhook.objects.memory_volumes import size_limit
from webhook.objects.mounts import Mount, mount_at, mounts_of
from webhook.objects.pods import Workload
from webhook.objects.volumes import operated_storage

Lifetime = Literal["kept", "emptyDir", "memory", "ephemeral", "inline", "container", "unknown"]
"""How long a place lasts; "kept" outlives the pod, and of "unknown" the pod doesn't tell."""
TOLD: Mapping[Lifetime, str] = {
    "emptyDir": "on an emptyDir",
    "memory": "on an emptyDir in memory",
    "ephemeral": "on an ephemeral volume",
    "inline": "on a volume of the pod itself",
    "container": "in the container's own file system",
}
# What a container only reads.
_READ = frozenset({"configMap", "secret", "downwardAPI", "projected", "image", "gitRepo"})


class Place(NamedTuple):
    """Where data is.

    path      the field that says where it is; of an operator's resource its storage, which need not be there
    size      bytes that it holds, as far as that is known; None without a limit, too
    size_path the field that says how large it is
    medium    the field that says whether an emptyDir is in memory
    """

    lifetime: Lifetime
    path: str
    size: int | None = None
    size_path: str = ""
    medium: str = ""
    is_operated: bool = False

    @property
    def told(self) -> str:
        return TOLD[self.lifetime]

    @property
    def owner(self) -> str:
        """The thing with which the data is gone."""
        return "container" if self.lifetime == "container" else "pod"


def place_of(pod: Pod, kept: Kept) -> Place:
    """Where the files of a store are. Raises BadObject for a field of the wrong kind, or a size that is none."""
    if pod.workload.is_operated:
        return _operated(pod.workload)
    if kept.folder:
        mount = mount_at(kept.container, kept.folder)
        return _of_mount(pod, mount) if mount else Place("container", f"{kept.container.path}.volumeMounts")
    return _likeliest(pod, kept)


def _likeliest(pod: Pod, kept: Kept) -> Place:
    """The place of a store whose folder nothing tells: of the volumes that it writes to one that outlives the pod, if
    there is one."""
    places = [
        _of_mount(pod, mount)
        for mount in mounts_of(kept.container)
        if not mount.is_read_only and mount.folder != "/tmp"  # noqa: S108 - where others keep what they don't need
    ]
    written = [place for place in places if place.lifetime != "unknown"]
    outliving = [place for place in written if place.lifetime == "kept"]
    return next(iter(outliving or written), Place("container", f"{kept.container.path}.volumeMounts"))


def _of_mount(pod: Pod, mount: Mount) -> Place:
    # A StatefulSet's template replaces the pod's volume of the same name.
    if template := pod.templates.get(mount.volume):
        return _of_template("kept", template.template, template.path)
    if found := pod.workload.volumes.get(mount.volume):
        return _of_volume(pod, *found)
    return Place("unknown", mount.path)


def _of_volume(pod: Pod, volume: Mapping[str, Any], path: str) -> Place:
    if volume.get("emptyDir") is not None:
        return _of_directory(mapping(volume, "emptyDir", path), f"{path}.emptyDir")
    if ephemeral := mapping(volume, "ephemeral", path):
        template = mapping(ephemeral, "volumeClaimTemplate", f"{path}.ephemeral")
        return _of_template("ephemeral", template, f"{path}.ephemeral.volumeClaimTemplate")
    if claim := mapping(volume, "persistentVolumeClaim", path):
        name = text(claim, "claimName", f"{path}.persistentVolumeClaim")
        known = pod.facts.of(CLAIMS).get((pod.workload.namespace, name))
        size = (known.size or None) if known else None
        return Place("kept", f"{path}.persistentVolumeClaim", size, f"{path}.persistentVolumeClaim")
    sources = [name for name in volume if name != "name" and volume[name] is not None]
    if not sources:  # the API server makes it an emptyDir
        return _of_directory({}, f"{path}.emptyDir")
    if not _READ.isdisjoint(sources):
        return Place("unknown", path)
    return Place("inline" if "csi" in sources else "kept", path)


def _of_directory(directory: Mapping[str, Any], path: str) -> Place:
    lifetime: Lifetime = "memory" if directory.get("medium") else "emptyDir"
    return Place(lifetime, path, size_limit(directory, path), f"{path}.sizeLimit", f"{path}.medium")


def _of_template(lifetime: Lifetime, template: Mapping[str, Any], path: str) -> Place:
    spec = mapping(template, "spec", path)
    resources = mapping(spec, "resources", f"{path}.spec")
    requests = mapping(resources, "requests", f"{path}.spec.resources")
    size_path = f"{path}.spec.resources.requests.storage"
    asked = requests.get("storage")
    return Place(lifetime, path, None if asked is None else bytes_at(asked, size_path), size_path)


def _operated(workload: Workload) -> Place:
    field, value, path = operated_storage(workload)
    if field == "emptyDir":
        place = _of_directory(value, path)
    elif field == "ephemeral":
        template = mapping(value, "volumeClaimTemplate", path)
        place = _of_template("ephemeral", template, f"{path}.volumeClaimTemplate")
    else:
        place = _of_template("kept", value, path)
    # Whichever field says so, and whether there is one yet: it is the same storage.
    return place._replace(path=f"{workload.spec_path}.storage", is_operated=True)
