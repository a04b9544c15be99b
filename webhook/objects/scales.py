"""Changes of a Deployment's scale: the API server sends a Scale, which holds replicas and no template."""

from __future__ import annotations

import msgspec

from webhook.errors import BadObject
from webhook.objects.facts import ClusterFacts
from webhook.objects.facts.deployments import DEPLOYMENTS
from webhook.objects.fields import mapping
from webhook.policy import AdmissionRequest, Brief, FactReference, Object, Violation


def is_more_than_one(request: AdmissionRequest) -> bool:
    """Whether the Scale asks for more than one replica, and for more than there were."""
    wanted = replicas_of(request.object)
    return wanted > 1 and wanted > replicas_of(request.old_object)


def replicas_of(scale: Object | None) -> int:
    """The replicas of a Scale; raises BadObject for another shape than the API's."""
    replicas = mapping(scale or {}, "spec", "").get("replicas")
    if replicas is None:  # the API writes no field for 0
        return 0
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise BadObject(f"spec.replicas is {replicas!r}, not a whole number")
    return replicas


def scaled(request: AdmissionRequest, facts: ClusterFacts) -> AdmissionRequest | None:
    """The request as a change of the Deployment itself; None where that wasn't seen."""
    found = facts.of(DEPLOYMENTS).get((request.namespace, request.name))
    if found is None:
        return None
    return msgspec.structs.replace(
        request, object=_with_replicas(found, request.object), old_object=_with_replicas(found, request.old_object)
    )


def _with_replicas(deployment: Object, scale: Object | None) -> Object:
    return {**deployment, "spec": {**deployment["spec"], "replicas": replicas_of(scale)}}


def unseen_scale(request: AdmissionRequest, facts: ClusterFacts) -> Violation:
    """For a Scale whose Deployment wasn't seen: it may still be looked up, unless it is known to be absent."""
    reference = FactReference(DEPLOYMENTS, request.namespace, request.name)
    replicas = replicas_of(request.object)
    wrong = f"cannot tell whether there may be {replicas} replicas: Deployment {request.name!r} could not be read"
    return Violation(
        "spec.replicas",
        request.name,
        wrong,
        brief=Brief(wrong),
        at_most="warn",
        is_unknown=True,
        unseen=facts.missing(reference).unseen,
    )
