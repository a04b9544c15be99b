"""A stored object as it was written: without the fields that scheduler, admission, defaulting and binding put into it.

Only pods and claims get such fields: a template is stored as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from webhook.policy import Object

_ACCOUNT_VOLUME = "kube-api-access-"
_ACCOUNT_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECONDS = 300
"""How long admission (DefaultTolerationSeconds) lets a pod stay on a node that is lost."""
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

_LIMIT_RANGER = "kubernetes.io/limit-ranger"
_GIVEN = re.compile(r"([^;]+) (request|limit) for (?:init )?container ([^ ;]+)")
"""A part of the annotation, as in "LimitRanger plugin set: cpu, memory request for container web; …"
(kubernetes plugin/pkg/admission/limitranger, mergePodResourceRequirements)."""

_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"


def as_written(group: str, kind: str, obj: Object) -> Object:
    """The stored object as a manifest would have it; the same one where nothing was put into objects of its kind."""
    if (group, kind) == ("", "Pod"):
        return _pod(obj)
    if (group, kind) == ("", "PersistentVolumeClaim"):
        return _claim(obj)
    return obj


def _pod(pod: Object) -> Object:
    spec = {field: value for field, value in (pod.get("spec") or {}).items() if field != "nodeName"}
    if tolerations := spec.get("tolerations"):
        spec["tolerations"] = [toleration for toleration in tolerations if not _is_default(toleration)]
    if volumes := spec.get("volumes"):
        spec["volumes"] = [volume for volume in volumes if not _is_account_volume(volume)]
    given = dict(_given_by_limit_ranges(pod))
    for field in ("containers", "initContainers"):
        if containers := spec.get(field):
            spec[field] = [_container(container, given) for container in containers]
    return {**pod, "spec": spec}


def _is_default(toleration: Mapping[str, Any]) -> bool:
    return toleration.get("tolerationSeconds") == _SECONDS and toleration.get("key") in _LOST


def _is_account_volume(volume: Mapping[str, Any]) -> bool:
    return str(volume.get("name")).startswith(_ACCOUNT_VOLUME) and volume.get("projected") is not None


def _container(container: Mapping[str, Any], given: Mapping[tuple[str, str], set[str]]) -> Object:
    kept = dict(container)
    if mounts := kept.get("volumeMounts"):
        kept["volumeMounts"] = [mount for mount in mounts if mount.get("mountPath") != _ACCOUNT_MOUNT]
    resources = dict(kept.get("resources") or {})
    for part in ("limits", "requests"):
        names = given.get((str(kept.get("name")), part), set())
        if amounts := {name: amount for name, amount in (resources.get(part) or {}).items() if name not in names}:
            resources[part] = amounts
        else:
            resources.pop(part, None)
    return {**kept, "resources": resources}


def _given_by_limit_ranges(pod: Object) -> Iterator[tuple[tuple[str, str], set[str]]]:
    """(container, "limits" or "requests") -> the resources of which the amounts are a LimitRange's."""
    annotation = ((pod.get("metadata") or {}).get("annotations") or {}).get(_LIMIT_RANGER) or ""
    for resources, part, container in _GIVEN.findall(annotation.partition(":")[2]):
        yield (container, f"{part}s"), {name.strip() for name in resources.split(",")}


def _claim(claim: Object) -> Object:
    annotations = (claim.get("metadata") or {}).get("annotations") or {}
    if _BOUND_BY_CONTROLLER not in annotations:  # the claim's author named the volume
        return claim
    spec = {field: value for field, value in (claim.get("spec") or {}).items() if field != "volumeName"}
    return {**claim, "spec": spec}
