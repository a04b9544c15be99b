"""Dumps of a cluster (`kubectl get all -A -o yaml`): which of their objects are judged at the one that made them.

No user asks for the objects of a file. An owner reference counts where the owner is in the same input, and is judged
there: whoever types one can't get an object past it that the owner wouldn't answer for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from webhook.files.manifests import Manifest
from webhook.objects.owners import ControllerReference, controller_of, metadata_of
from webhook.policy import Object


class Identity(NamedTuple):
    """A workload by group, kind, namespace and name."""

    group: str
    kind: str
    namespace: str
    name: str


class Member(NamedTuple):
    """The facts about a workload that decide whether it is judged at its owner, or is the owner of another.

    is_listed  it is an item of a List, where a dump without uids (`kubectl neat`) is believed, too
    is_old     a ReplicaSet that a Deployment has left behind, or its like: nothing runs of it
    """

    uid: str
    controller: ControllerReference | None
    is_listed: bool
    is_old: bool


Members = Mapping[Identity, Member]


def identity_of(obj: Object, namespace: str) -> Identity:
    metadata = metadata_of(obj)
    return Identity(str(obj["apiVersion"]).rpartition("/")[0], obj["kind"], namespace, str(metadata.get("name") or ""))


def member_of(manifest: Manifest, obj: Object) -> Member:
    """The workload as a Member. Raises BadObject."""
    uid, controller = str(metadata_of(obj).get("uid") or ""), controller_of(obj)
    spec = obj.get("spec")
    is_old = (
        obj["kind"] in ("ReplicaSet", "ReplicationController")
        and controller is not None
        and isinstance(spec, dict)
        and spec.get("replicas") == 0
        and bool(uid)
    )
    return Member(uid, controller, manifest.is_listed, is_old)


def is_judged_elsewhere(identity: Identity, member: Member, members: Members) -> bool:
    """Whether the object is judged at its owner among these, or is an old one, which is nobody's."""
    return member.is_old or _has_answering_owner(identity, member, members)


def _has_answering_owner(identity: Identity, member: Member, members: Members) -> bool:
    seen = {identity}
    is_answered = False
    while (controller := member.controller) is not None:
        above = Identity(controller.group, controller.kind, identity.namespace, controller.name)
        owner = members.get(above)
        if owner is None or not _is_meant(controller, owner, member):
            break
        if above in seen:  # objects that name each other as owners are each judged themselves
            return False
        seen.add(above)
        is_answered, member = True, owner
    return is_answered and not member.is_old


def _is_meant(controller: ControllerReference, owner: Member, owned: Member) -> bool:
    if owner.uid:
        return owner.uid == controller.uid
    return owner.is_listed and owned.is_listed
