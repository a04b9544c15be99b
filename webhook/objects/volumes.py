"""A workload's volumes that may hold data, and the claims that its pods look for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile
from posixpath import normpath
from typing import Any, Literal, NamedTuple

import msgspec

from webhook.errors import BadObject
from webhook.objects.facts import CLAIMS, ClusterFacts
from webhook.objects.fields import items, mapping, text
from webhook.objects.mounts import mounts_of
from webhook.objects.pods import Workload
from webhook.objects.provisioners import PLUGINS
from webhook.objects.storage import Tie, kept_volume, tie_of_claim, tie_of_new, tie_of_source
from webhook.policy import FactReference

# Claims of all templates together that are looked at: `replicas` may be any number that somebody typed.
_MOST_CLAIMS = 1000
_NAME_LENGTH = 253


class StoredVolume(msgspec.Struct, frozen=True, gc=False):
    """A volume of a workload's pods that may hold data.

    route     "claim" names a claim, "template" makes one for each pod, "ephemeral" makes one anew with each pod,
              "inline" is a plugin's volume in the pod itself
    path      where its class, or its claim, is named
    ties      what it is tied to; a template's claims may get volumes that differ
    source    the volume or the template, as written
    claims    the claims that a template's pods will look for; empty if their names can't be known
    """

    name: str
    route: Literal["claim", "template", "ephemeral", "inline"]
    path: str
    ties: tuple[Tie, ...]
    source: Mapping[str, Any]
    claims: tuple[FactReference, ...] = ()


def volumes_of(workload: Workload, facts: ClusterFacts) -> Iterator[StoredVolume]:
    """The volumes of a workload's pods that may hold data; raises BadObject if its fields are of the wrong kind."""
    templates = list(claim_templates(workload))
    for template in templates:
        yield _from_template(template, facts)
    yield from _ephemeral_storage(workload, facts)
    templated = {template.name for template in templates}
    written = _written(workload)
    for name, (volume, path) in workload.volumes.items():
        # A StatefulSet's template replaces the pod's volume of the same name.
        if name not in templated:
            yield from _from_pod(workload, name, volume, path, written, facts)


def _written(workload: Workload) -> frozenset[str]:
    """The volumes that a container writes to; a DaemonSet reads and writes its own node's files by design."""
    if workload.kind == "DaemonSet":
        return frozenset()
    return frozenset(
        mount.volume for container in workload.containers for mount in mounts_of(container) if not mount.is_read_only
    )


def _from_pod(
    workload: Workload, name: str, volume: Mapping[str, Any], path: str, written: frozenset[str], facts: ClusterFacts
) -> Iterator[StoredVolume]:
    if claim := mapping(volume, "persistentVolumeClaim", path):
        claim_name = text(claim, "claimName", f"{path}.persistentVolumeClaim")
        tie = tie_of_claim(workload.namespace, claim_name, facts)
        yield StoredVolume(name, "claim", f"{path}.persistentVolumeClaim.claimName", (tie,), volume)
    elif ephemeral := mapping(volume, "ephemeral", path):
        yield _ephemeral(workload, name, f"{path}.ephemeral", ephemeral, facts)
    elif name in written:
        for source in filter(PLUGINS.__contains__, volume):
            if source == "hostPath" and not _may_hold_data(mapping(volume, source, path), f"{path}.{source}"):
                continue
            yield StoredVolume(name, "inline", f"{path}.{source}", (tie_of_source(source, facts),), volume)


_SINGLE_FILES = frozenset({"CharDevice", "File", "Socket"})
_OF_THE_NODE = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr/lib",
    "/usr/local/share/ca-certificates",
    "/usr/share",
    "/usr/src",
    "/var/lib/ca-certificates",
    "/var/lib/dbus",
    "/var/lib/docker/containers",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/journal",
    "/var/log/pods",
    "/var/run",
)
"""The system's own files, which each node has: the time zone, certificates, sockets, devices, the kubelet's and the
containers' logs. /var/log isn't one of them: collectors keep buffers there."""
_FILE_SUFFIXES = (".crt", ".cer", ".key", ".pem", ".sock", ".socket")


def _may_hold_data(host_path: Mapping[str, Any], at: str) -> bool:
    """Whether a hostPath may hold data that isn't on every node: not a file of the system, a socket, a certificate."""
    kind, place = text(host_path, "type", at), normpath(f"/{text(host_path, 'path', at).lstrip('/')}")
    if kind == "BlockDevice":
        return True
    is_of_the_node = place.startswith(tuple(f"{folder}/" for folder in _OF_THE_NODE)) or place in _OF_THE_NODE
    return kind not in _SINGLE_FILES and not is_of_the_node and not place.endswith(_FILE_SUFFIXES)


def _ephemeral(
    workload: Workload, name: str, path: str, ephemeral: Mapping[str, Any], facts: ClusterFacts
) -> StoredVolume:
    template = mapping(ephemeral, "volumeClaimTemplate", path)
    path = f"{path}.volumeClaimTemplate"
    tie = _tie_of_template(workload.namespace, "", template, path, facts).after("ephemeral volume")
    return StoredVolume(name, "ephemeral", f"{path}.spec.storageClassName", (tie,), template)


def _tie_of_template(namespace: str, claim: str, template: Mapping[str, Any], path: str, facts: ClusterFacts) -> Tie:
    metadata = mapping(template, "metadata", path)
    annotations = mapping(metadata, "annotations", f"{path}.metadata")
    return tie_of_new(namespace, claim, {"annotations": annotations}, mapping(template, "spec", path), facts)


class Template(NamedTuple):
    """A template of claims, and where it stands; `claims` are all that its pods will look for, if `is_whole`."""

    name: str
    path: str
    template: Mapping[str, Any]
    claims: tuple[FactReference, ...]
    is_whole: bool


def _from_template(written: Template, facts: ClusterFacts) -> StoredVolume:
    """The ties of a template's claims: those that exist keep their volumes, others get volumes that are reserved for
    them, or new ones of the class."""
    name, path, template, claims, is_whole = written
    ties: list[Tie] = []
    is_new = not claims or not is_whole
    for claim in claims:
        if (claim.namespace, claim.name) in facts.of(CLAIMS):
            used = tie_of_claim(claim.namespace, claim.name, facts)
            ties.append(msgspec.structs.replace(used, is_kept=True))
        elif kept_volume(claim.namespace, claim.name, facts):
            kept = _tie_of_template(claim.namespace, claim.name, template, path, facts)
            ties.append(kept.after(f"claim {claim.name}"))
        else:
            is_new = True
    if is_new:
        ties.append(_tie_of_template("", "", template, path, facts).after(f"template {name}"))
    return StoredVolume(name, "template", f"{path}.spec.storageClassName", tuple(ties), template, claims)


def claim_templates(workload: Workload) -> Iterator[Template]:
    """The templates of claims from which every pod of the workload gets claims of its own."""
    if workload.is_operated:
        yield from _operated_template(workload)
        return
    spec = mapping(workload.object, "spec", "")
    templates = items(spec, "volumeClaimTemplates", "spec")
    # The claims of a CloneSet have random names.
    sets = [workload.name] if workload.kind == "StatefulSet" and workload.name else []
    start = _number(mapping(spec, "ordinals", "spec"), "start", 0)
    replicas = _number(spec, "replicas", 1)
    most = _MOST_CLAIMS // max(1, len(templates))
    for index, template in enumerate(templates):
        path = f"spec.volumeClaimTemplates[{index}]"
        name = text(mapping(template, "metadata", path), "name", f"{path}.metadata")
        claims = _claims(workload.namespace, name, sets, start, replicas, most)
        yield Template(name, path, template, claims, replicas <= most)


def _number(parent: Mapping[str, Any], key: str, default: int) -> int:
    value = parent.get(key)
    if value is None:
        return default
    if not isinstance(value, int):
        raise BadObject(f"{key} is {value!r}, not a whole number")
    return value


def _claims(
    namespace: str, template: str, sets: Iterable[str], start: int, replicas: int, most: int
) -> tuple[FactReference, ...]:
    """The claims TEMPLATE-SET-ORDINAL, one for each pod, and at least one: a set of no replicas will be scaled up
    again.

    Where the name would be too long for a claim there is none.
    """
    ordinals = range(start, start + max(1, replicas))
    fitting = takewhile(lambda name: len(template) + len(name) <= _NAME_LENGTH, sets)
    names = (f"{template}-{name}-{ordinal}" for name in fitting for ordinal in ordinals)
    return tuple(FactReference(CLAIMS, namespace, name) for name in islice(names, most))


_OPERATED_NAMES: Mapping[str, tuple[str, str]] = {
    "Alertmanager": ("alertmanager", "db"),
    "Prometheus": ("prometheus", "db"),
    "PrometheusAgent": ("prom-agent", "db"),
    "ThanosRuler": ("thanos-ruler", "data"),
}
"""Kind -> what the operator puts before a resource's name, and after that to name the volume.

Source: prometheus-operator pkg/{prometheus,alertmanager,thanos}, prefixedName and volumeName.
"""


class OperatedStorage(NamedTuple):
    """Where an operator's resource has its data: a field of its storage, what stands there, and the field's path."""

    field: Literal["emptyDir", "ephemeral", "volumeClaimTemplate"]
    value: Mapping[str, Any]
    path: str


def operated_storage(workload: Workload) -> OperatedStorage:
    """The operator takes the first of emptyDir, ephemeral, volumeClaimTemplate; without storage it is an emptyDir."""
    path = f"{workload.spec_path}.storage"
    storage = mapping(workload.spec, "storage", workload.spec_path)
    if workload.spec.get("storage") is None or storage.get("emptyDir") is not None:
        return OperatedStorage("emptyDir", mapping(storage, "emptyDir", path), f"{path}.emptyDir")
    if storage.get("ephemeral") is not None:
        return OperatedStorage("ephemeral", mapping(storage, "ephemeral", path), f"{path}.ephemeral")
    template = mapping(storage, "volumeClaimTemplate", path)
    return OperatedStorage("volumeClaimTemplate", template, f"{path}.volumeClaimTemplate")


def _operated_template(workload: Workload) -> Iterator[Template]:
    field, template, path = operated_storage(workload)
    if field != "volumeClaimTemplate":
        return
    prefix, suffix = _OPERATED_NAMES[workload.kind]
    base = f"{prefix}-{workload.name}"
    name = text(mapping(template, "metadata", path), "name", f"{path}.metadata") or f"{base}-{suffix}"
    shards = max(1, _number(workload.spec, "shards", 1))
    sets = (f"{base}-shard-{shard}" if shard else base for shard in range(shards))
    replicas = _number(workload.spec, "replicas", 1)
    claims = _claims(workload.namespace, name, sets, 0, replicas, _MOST_CLAIMS)
    yield Template(name, path, template, claims, shards * replicas <= _MOST_CLAIMS)


def _ephemeral_storage(workload: Workload, facts: ClusterFacts) -> Iterator[StoredVolume]:
    storage = operated_storage(workload) if workload.is_operated else None
    if storage and storage.field == "ephemeral" and storage.value:
        prefix, suffix = _OPERATED_NAMES[workload.kind]
        yield _ephemeral(workload, f"{prefix}-{workload.name}-{suffix}", storage.path, storage.value, facts)
