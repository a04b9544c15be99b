"""The owner of an object: the person who asked for it, or the controller that made it.

An object may name a controller (an owner reference with `controller: true`). Objects of a built-in controller have one
maker, a user known by name. For other controllers the user who asks decides. An owner reference that a person typed
proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from webhook.objects.fields import items, mapping
from webhook.objects.names import SERVICE_ACCOUNT
from webhook.policy import AdmissionRequest, Object, printable

_KUBE_SYSTEM = f"{SERVICE_ACCOUNT}kube-system:"
IDENTITIES: Mapping[tuple[str, str], str] = {
    ("apps", "DaemonSet"): _KUBE_SYSTEM + "daemon-set-controller",
    ("apps", "Deployment"): _KUBE_SYSTEM + "deployment-controller",
    ("apps", "ReplicaSet"): _KUBE_SYSTEM + "replicaset-controller",
    ("apps", "StatefulSet"): _KUBE_SYSTEM + "statefulset-controller",
    # Kinds of a group that is no longer served; listed so that they don't count as an operator's.
    ("extensions", "DaemonSet"): _KUBE_SYSTEM + "daemon-set-controller",
    ("extensions", "Deployment"): _KUBE_SYSTEM + "deployment-controller",
    ("extensions", "ReplicaSet"): _KUBE_SYSTEM + "replicaset-controller",
    # openshift/origin, pkg/cmd/openshift-controller-manager/controller/serviceaccounts.go
    ("apps.openshift.io", "DeploymentConfig"): f"{SERVICE_ACCOUNT}openshift-infra:deploymentconfig-controller",
    ("batch", "CronJob"): _KUBE_SYSTEM + "cronjob-controller",
    ("batch", "Job"): _KUBE_SYSTEM + "job-controller",
    ("", "ReplicationController"): _KUBE_SYSTEM + "replication-controller",
}
"""By group and kind of a built-in owner: who makes what it owns."""
CONTROLLER_MANAGER = "system:kube-controller-manager"
AUTOSCALER = _KUBE_SYSTEM + "horizontal-pod-autoscaler"
AUTOSCALERS = frozenset({AUTOSCALER, CONTROLLER_MANAGER})
"""The users as which Scales are written by autoscalers; the second where controllers have no accounts of their own."""

Maker = Literal["controller", "operator", "resident", "anybody"]
"""The user who asked for an object that names a controller: "controller", that controller itself, whose objects pass;
"operator", a ServiceAccount of another namespace, which is taken for an operator; "resident", a ServiceAccount of the
same namespace, which may be an operator's or a person's; "anybody", a user who may have typed the controller's name."""


class Owner(NamedTuple):
    """The controller that an object names, and who asked for the object.

    is_built_in  it is one of Kubernetes' own, or OpenShift's
    is_judged    it is of a kind that is judged itself
    """

    kind: str
    name: str
    maker: Maker
    is_built_in: bool
    is_judged: bool

    def __str__(self) -> str:
        return printable(f"{self.kind} {self.name}")


def owner_of(
    request: AdmissionRequest, controllers: Collection[str], workloads: Collection[tuple[str, str]]
) -> Owner | None:
    """The object's controller, or None.

    `controllers` are users that the configuration takes for operators, `workloads` the kinds (group and kind) that
    carry a pod, and so are judged themselves.
    """
    reference = _controller_reference(request.object)
    if reference is None:
        return None
    key = _key(reference)
    is_judged = key in workloads
    maker = _maker(request, key, is_judged=is_judged)
    if request.user in controllers:
        maker = "controller"
    return Owner(key[1], str(reference.get("name") or ""), maker, key in IDENTITIES, is_judged)


def _maker(request: AdmissionRequest, key: tuple[str, str], *, is_judged: bool) -> Maker:
    if (identity := IDENTITIES.get(key)) is not None:
        return "controller" if request.user in (identity, CONTROLLER_MANAGER) else "anybody"
    if not request.user.startswith(SERVICE_ACCOUNT):
        return "anybody"
    if request.user.startswith(f"{SERVICE_ACCOUNT}{request.namespace}:"):
        return "resident"
    return "controller" if is_judged else "operator"


def operator_of(obj: Object | None) -> str:
    """The resource that the object belongs to, as "Observatory obs", if that is no built-in one; else empty."""
    reference = _controller_reference(obj)
    if reference is None or _key(reference) in IDENTITIES:
        return ""
    return printable(f"{reference.get('kind') or ''} {reference.get('name') or ''}")


class ControllerReference(NamedTuple):
    """The controller that an object names."""

    group: str
    kind: str
    name: str
    uid: str


def controller_of(obj: Object) -> ControllerReference | None:
    """The controller that the object names, or None. Raises BadObject."""
    if (reference := _controller_reference(obj)) is None:
        return None
    return ControllerReference(*_key(reference), str(reference.get("name") or ""), str(reference.get("uid") or ""))


def _key(reference: Mapping[str, Any]) -> tuple[str, str]:
    """The reference's group and kind."""
    return str(reference.get("apiVersion") or "").rpartition("/")[0], str(reference.get("kind") or "")


def metadata_of(obj: Object | None) -> Mapping[str, Any]:
    return mapping(obj or {}, "metadata", "")


def is_mirror(pod: Object | None) -> bool:
    """Whether the kubelet made the pod, from a file on its node. Raises BadObject."""
    return "kubernetes.io/config.mirror" in mapping(metadata_of(pod), "annotations", "metadata")


def _controller_reference(obj: Object | None) -> Mapping[str, Any] | None:
    references = items(metadata_of(obj), "ownerReferences", "metadata")
    return next((reference for reference in references if reference.get("controller") is True), None)


def top_level(request: AdmissionRequest, owner: Owner | None) -> Iterator[tuple[str, str]]:
    """The kind and name of the workload that a person made, as far as the object can tell.

    A ReplicaSet's name is its Deployment's with a hash, a CronJob's Job's name the CronJob's with a time: both
    readings are given, since the ReplicaSet or Job may also stand alone.
    """
    if owner is None or owner.maker != "controller":
        # At /mutate what only has a generateName is called by that.
        yield request.kind, request.name or str(metadata_of(request.object).get("generateName") or "")
        return
    yield owner.kind, owner.name
    labels = mapping(metadata_of(request.object), "labels", "metadata")
    if made := made_for(owner.kind, owner.name, labels):
        yield made


def made_for(kind: str, name: str, labels: Mapping[str, Any]) -> tuple[str, str] | None:
    """The kind and name of what made a ReplicaSet or Job, if its own name and the labels of its pod tell."""
    above, _, suffix = name.rpartition("-")
    if kind == "ReplicaSet" and suffix and suffix == labels.get("pod-template-hash"):
        return "Deployment", above
    if kind == "Job" and suffix.isdigit() and above:
        return "CronJob", above
    return None
