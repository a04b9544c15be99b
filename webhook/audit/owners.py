"""Who answers for a stored object: whoever made it, or the object's owner, at which it is judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from webhook.cluster.lists import Reader
from webhook.cluster.paths import path_of
from webhook.cluster.stored import Stored
from webhook.config import Config
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.fields import items, mapping
from webhook.objects.names import SERVICE_ACCOUNT, is_object_name
from webhook.objects.owners import ControllerReference, controller_of
from webhook.objects.pods import POD
from webhook.policy import AdmissionRequest

_OPERATOR = f"{SERVICE_ACCOUNT}:unknown"
"""Who made an object of an owner that isn't judged, as far as a stored object tells: a ServiceAccount of no namespace
that anybody has workloads in."""
_NODE = ("", "Node")
_CLAIM = ("", "PersistentVolumeClaim")

_MOST_GONE = 10_000
"""Owners that are remembered as gone, so that the next object of theirs asks for none of them again."""

_Template = tuple[str, str]
"""Namespace, and the name without its ordinal, of the claims that a StatefulSet makes from one of its templates."""


def _templates_of(request: AdmissionRequest) -> Iterator[_Template]:
    if request.kind != "StatefulSet":
        return
    for template in items(mapping(request.object or {}, "spec", ""), "volumeClaimTemplates", "spec"):
        yield request.namespace, f"{mapping(template, 'metadata', '').get('name')}-{request.name}"


class Owners:
    """The stored objects that may own others. Whoever tells it of objects begins with the owners."""

    def __init__(self, cluster: Reader, config: Config, stored: Stored) -> None:
        """`stored` says in which version a kind is listed, and what could not be."""
        self._cluster = cluster
        self._config = config
        self._stored = stored
        self._living: set[str] = set()
        """The uids of the existing objects that may own others."""
        self._gone: set[str] = set()
        self._makers: defaultdict[_Template, set[str]] = defaultdict(set)
        """Template -> the uids of the StatefulSets that have it."""
        self._templates: dict[str, frozenset[_Template]] = {}

    def take(self, request: AdmissionRequest) -> bool:
        """Take in an object as it is now; whether claims are from a template now that weren't, or no longer are.

        Raises BadObject.
        """
        if (request.group, request.kind) == POD[:2]:
            return False
        self._living.add(request.uid)
        return self._take_templates(request.uid, frozenset(_templates_of(request)))

    def forget(self, uid: str) -> bool:
        """Take in that an object is gone, or over. Returns the same as `take`."""
        self._living.discard(uid)
        return self._take_templates(uid, frozenset())

    def _take_templates(self, uid: str, templates: frozenset[_Template]) -> bool:
        before = self._templates.pop(uid, frozenset())
        if templates:
            self._templates[uid] = templates
        for template in before - templates:
            self._makers[template].discard(uid)
            if not self._makers[template]:
                del self._makers[template]
        for template in templates:
            self._makers[template].add(uid)
        return templates != before

    def as_asked(self, request: AdmissionRequest) -> AdmissionRequest | None:
        """The request as whoever made the object sent it; None if its owner answers for it.

        Raises BadObject.
        """
        owner = controller_of(request.object or {})
        if owner is None:
            return None if self._is_from_template(request) else request
        if owner.uid in self._living:
            return None
        key = owner.group, owner.kind
        if key not in self._config.judged:
            # A pod that a node owns mirrors a file on that node.
            groups = ("system:nodes",) if key == _NODE else ()
            return msgspec.structs.replace(request, user=_OPERATOR, groups=groups)
        return None if self._lives(owner, request.namespace) else request

    def _is_from_template(self, request: AdmissionRequest) -> bool:
        """Whether the object is a claim that a StatefulSet made: such claims name no owner."""
        above, _, ordinal = request.name.rpartition("-")
        is_claim = (request.group, request.kind) == _CLAIM
        return is_claim and ordinal.isdigit() and (request.namespace, above) in self._makers

    def _lives(self, owner: ControllerReference, namespace: str) -> bool:
        """Whether an owner that was not among those listed is there all the same: it is newer than their list, or could
        not be listed. An owner that can't be read counts as existing: its objects aren't judged."""
        kind = self._config.judged[owner.group, owner.kind].kind
        # The name is what somebody wrote: it must not lead to another path, nor ask for a watch that never ends.
        if owner.uid in self._gone or not is_object_name(owner.name):
            return False
        if kind.full_resource in self._stored.unseen.resources:
            return True
        try:
            version = self._stored.versions.of(kind)
            obj = version and self._cluster.get(path_of(kind, version, namespace, owner.name))
        except (ClusterRefused, FactsUnavailable):
            return True
        if obj and obj["metadata"].get("uid") == owner.uid:
            self._living.add(owner.uid)
            return True
        if len(self._gone) >= _MOST_GONE:
            self._gone.clear()
        self._gone.add(owner.uid)
        return False
