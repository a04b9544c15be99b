"""Who answers for an object: the person who asked, or the controller whose own object it is.

An object with an owner reference `controller: true`, requested by that owner's known identity, was judged at its
owner. A reference that a person typed proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from webhook.objects.pods import is_workload, items, mapping
from webhook.policy import AdmissionRequest, Object

_KUBE_SYSTEM = "system:serviceaccount:kube-system:"
IDENTITIES: Mapping[tuple[str, str], str] = {
    ("apps", "DaemonSet"): _KUBE_SYSTEM + "daemon-set-controller",
    ("apps", "Deployment"): _KUBE_SYSTEM + "deployment-controller",
    ("apps", "ReplicaSet"): _KUBE_SYSTEM + "replicaset-controller",
    ("apps", "StatefulSet"): _KUBE_SYSTEM + "statefulset-controller",
    ("batch", "CronJob"): _KUBE_SYSTEM + "cronjob-controller",
    ("batch", "Job"): _KUBE_SYSTEM + "job-controller",
    ("", "ReplicationController"): _KUBE_SYSTEM + "replication-controller",
}
CONTROLLER_MANAGER = "system:kube-controller-manager"


class Owner(NamedTuple):
    """The controller that an object names; `is_known` if the request came from that very controller."""

    kind: str
    name: str
    is_known: bool


def owner_of(
    request: AdmissionRequest, controllers: Collection[str], kinds: Collection[tuple[str, str]]
) -> Owner | None:
    """The object's controller, or None.

    `controllers` are users that the configuration trusts besides, as far as their objects were judged at an owner:
    `kinds` are those (group and kind) that only the configuration knows to be judged.
    """
    reference = _controller_reference(request.object)
    if reference is None:
        return None
    group = str(reference.get("apiVersion") or "").rpartition("/")[0]
    kind = str(reference.get("kind") or "")
    identity = IDENTITIES.get((group, kind))
    is_known = identity is not None and request.user in (identity, CONTROLLER_MANAGER)
    is_trusted = request.user in controllers and (is_workload(group, kind) or (group, kind) in kinds)
    return Owner(kind, str(reference.get("name") or ""), is_known or is_trusted)


def metadata_of(obj: Object | None) -> Mapping[str, Any]:
    return mapping(obj or {}, "metadata", "")


def _controller_reference(obj: Object | None) -> Mapping[str, Any] | None:
    references = items(metadata_of(obj), "ownerReferences", "metadata")
    return next((reference for reference in references if reference.get("controller") is True), None)


def top_level(request: AdmissionRequest, owner: Owner | None) -> Iterator[tuple[str, str]]:
    """The kind and name of the workload that a person made, as far as the object can tell.

    A ReplicaSet's name is its Deployment's with a hash, a CronJob's Job's name the CronJob's with a time: both
    readings are given, since the ReplicaSet or Job may also stand alone.
    """
    if owner is None or not owner.is_known:
        # At /mutate what only has a generateName is called by that.
        yield request.kind, request.name or str(metadata_of(request.object).get("generateName") or "")
        return
    yield owner.kind, owner.name
    above, _, suffix = owner.name.rpartition("-")
    labels = mapping(metadata_of(request.object), "labels", "metadata")
    if owner.kind == "ReplicaSet" and suffix and suffix == labels.get("pod-template-hash"):
        yield "Deployment", above
    if owner.kind == "Job" and suffix.isdigit() and above:
        yield "CronJob", above
