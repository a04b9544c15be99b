"""Which objects start no more pods."""

from __future__ import annotations

from webhook.objects.fields import items, mapping
from webhook.objects.owners import controller_of
from webhook.policy import Object

_FINISHED = ("Complete", "Failed")
_ENDED = ("Succeeded", "Failed")


def is_over(group: str, kind: str, obj: Object) -> bool:
    """Whether the object has finished, is being deleted, or is a ReplicaSet that was replaced.

    Raises BadObject if its metadata or status aren't what the API says.
    """
    if mapping(obj, "metadata", "").get("deletionTimestamp"):
        return True
    status = mapping(obj, "status", "")
    match group, kind:
        case "", "Pod":
            return status.get("phase") in _ENDED
        case "batch", "Job":
            conditions = items(status, "conditions", "status")
            return any(
                condition.get("type") in _FINISHED and condition.get("status") == "True" for condition in conditions
            )
        case "apps", "ReplicaSet":
            return controller_of(obj) is not None and mapping(obj, "spec", "").get("replicas") == 0
    return False
