"""What a cluster stores, judged kind by kind or object by object: what is found on it is kept, its specs aren't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date

import structlog

from webhook import log as logs
from webhook.audit.judge import Judgement, judge
from webhook.audit.owners import Owners
from webhook.audit.tally import team_of
from webhook.auditor.kept import Kept
from webhook.auditor.watching import Followed, Following, Key
from webhook.cluster.client import Cluster
from webhook.cluster.lists import Body, MetadataReader, Page, Reader, read_at_once
from webhook.cluster.lookups import LookUps
from webhook.cluster.paths import path_of
from webhook.cluster.served import served_versions
from webhook.cluster.stored import Stored, is_namespace, owner_first, request_of
from webhook.cluster.unseen import Unseen, unreadable
from webhook.config import Config
from webhook.errors import UNREADABLE, ClusterRefused, FactsUnavailable
from webhook.findings import bugs_of
from webhook.objects.ended import is_over
from webhook.objects.facts import NAMESPACES, NO_FACTS, ClusterFacts
from webhook.objects.wire import UNDECODABLE, read_object
from webhook.policy import AdmissionRequest, GroupKind, Reference
from webhook.scope import active_policies

_BEAT_EVERY = 50
"""Objects that are judged between two signs of life at most: each may be large, and one of ReplicaSets is asked for."""

log = structlog.get_logger()


def kinds_to_judge(config: Config) -> list[GroupKind]:
    """The kinds that active policies judge, owners before what they own.

    What the API server is never asked about isn't among them: locks in ConfigMaps change every second.
    """
    active = {one.policy.id for one in active_policies(config)}
    kinds = {
        judged.kind
        for judged in config.judged.values()
        if any(one.policy.id in active and judged.kind not in one.policy.unasked for one in judged.policies)
    }
    return sorted(kinds, key=owner_first)


class Inventory:
    """The stored objects of the kinds that one configuration judges, kept current from lists and watches.

    facts       what objects are judged by, as is `today`
    stale       namespaces whose objects have to be judged again, since what they are judged by has changed
    unreadable  object -> why it can't be read
    """

    def __init__(self, cluster: Cluster, config: Config, kept: Kept) -> None:
        self._cluster = cluster
        self._config = config
        self._kept = kept
        self._stored = Stored(cluster, kinds_to_judge(config))
        self._owners = Owners(cluster, config, self._stored)
        self._following = Following(cluster)
        self._followed: dict[GroupKind, Followed] = {}
        self._touched: set[tuple[GroupKind, Key]] | None = None
        """While something is listed, the objects that have changed since it was begun: what the list says of them is
        old."""
        self._bugs: set[str] = set()
        self.facts: ClusterFacts = NO_FACTS
        self.today = date.min
        self.stale: set[str] = set()
        self.unreadable: dict[Reference, str] = {}

    @property
    def kinds(self) -> list[GroupKind]:
        """The kinds to list, owners before what they own."""
        return list(self._stored.kinds)

    @property
    def unread(self) -> Mapping[GroupKind, str]:
        """Kind -> why it could not be listed."""
        resources = self._stored.unseen.resources
        return {kind: resources[kind.full_resource] for kind in self.kinds if kind.full_resource in resources}

    @property
    def count(self) -> int:
        """How many objects there are."""
        return sum(len(followed.objects) for followed in self._followed.values())

    @property
    def troubles(self) -> Mapping[GroupKind, str]:
        """Kind -> why it can't be listed, or isn't watched now."""
        unwatched = {kind: followed.trouble for kind, followed in list(self._followed.items()) if followed.trouble}
        return {**unwatched, **self.unread}

    def is_current(self, kind: GroupKind) -> bool:
        """Whether every change of the kind's objects is heard of."""
        return kind in self._followed and bool(self._followed[kind].since)

    def stop(self) -> None:
        for followed in self._followed.values():
            followed.stop()

    def learn_versions(self) -> None:
        """Ask in which version kinds are served. Raises ClusterRefused or FactsUnavailable."""
        self._stored.versions = served_versions(self._cluster)

    def list(self, kind: GroupKind, beat: Callable[[], None]) -> None:
        """Judge every object of the kind, whether or not it has changed, and forget those that are gone.

        Raises ClusterRefused or FactsUnavailable; a kind that isn't served has no objects.
        """
        followed = self._follow(kind)
        if followed is None:
            return
        try:
            self._list(followed, "", beat)
        except ClusterRefused as answer:
            if answer.status != 404:
                self._note_unread(kind, answer)
                raise
            self._forget_kind(kind)
        except FactsUnavailable as error:
            self._note_unread(kind, error)
            raise
        else:
            self._stored.unseen.resources.pop(kind.full_resource, None)

    def list_namespace(self, namespace: str, beat: Callable[[], None]) -> None:
        """Judge every object in a namespace, and the Namespace itself. Raises ClusterRefused or FactsUnavailable."""
        for kind in self.kinds:
            if self.is_current(kind):
                self._list(self._followed[kind], namespace, beat)

    def take_changes(self, beat: Callable[[], None]) -> None:
        """Take in the changes that the watches have heard of."""
        for number, change in enumerate(self._following.take(), 1):
            if not number % _BEAT_EVERY:
                beat()
            followed, key, known = change.followed, change.key, change.known
            if self._touched is not None:
                self._touched.add((followed.kind, key))
            if change.is_deleted:
                self._forget(followed, key)
            elif followed.objects.get(key) != known:
                self._take(followed, change.body, is_change=True)

    def sweep(self) -> None:
        """Forget the findings of kinds that are no longer judged, or no longer there."""
        kinds = {(kind.group, kind.kind) for kind in (*self._followed, *self.unread)}
        for namespace in list(self._kept.by_namespace):
            for reference, group in self._kept.objects(namespace):
                if (group, reference.kind) not in kinds:
                    self._kept.drop(reference, group)

    def _follow(self, kind: GroupKind) -> Followed | None:
        """The kind as it is served; None if it isn't."""
        if kind not in self._followed:
            version = self._stored.versions.of(kind)
            if not version:
                return None
            self._followed[kind] = Followed(kind, version)
        return self._followed[kind]

    def _list(self, followed: Followed, namespace: str, beat: Callable[[], None]) -> None:
        self._touched = set()
        try:
            since = self._take_list(followed, namespace, beat)
        finally:
            self._touched = None
        if not namespace and not self.is_current(followed.kind):
            self._following.follow(followed, since)

    def _take_list(self, followed: Followed, namespace: str, beat: Callable[[], None]) -> str:
        """Judge all that is listed, forget all that isn't; returns the list's version."""
        seen: set[Key] = set()
        since = ""
        for page in self._pages(followed, namespace):
            if page.begins:
                seen.clear()
                since = page.version
            for number, body in enumerate(page.items, 1):
                seen.add(self._take(followed, body, is_change=False))
                if not number % _BEAT_EVERY:
                    beat()
            beat()
            self.take_changes(beat)
        for key in followed.objects.keys() - seen:
            is_meant = not namespace or namespace == _namespace_of(followed.kind, key)
            if is_meant and not self._is_touched(followed, key):
                self._forget(followed, key)
        return since

    def _is_touched(self, followed: Followed, key: Key) -> bool:
        return self._touched is not None and (followed.kind, key) in self._touched

    def _pages(self, followed: Followed, namespace: str) -> Iterator[Page]:
        reader: Reader = MetadataReader(self._cluster) if followed.is_partial else self._cluster
        kind = followed.kind
        if namespace and is_namespace(kind.group, kind.kind):
            return read_at_once(reader, followed.path, fields=f"metadata.name={namespace}")
        return read_at_once(reader, path_of(kind, followed.version, namespace))

    def _take(self, followed: Followed, body: Body, *, is_change: bool) -> Key:
        """Judge an object, and return its name.

        `is_change`: a watch tells of it, so that claims which it makes were judged before it. What a list tells of an
        object that has changed since is passed over.
        """
        key, known = followed.read_known(body)
        if not is_change and self._is_touched(followed, key):
            return key
        before = followed.objects.get(key)
        if before is not None and before.uid != known.uid:
            self._mark_claims(key[0], self._owners.forget(before.uid) and is_change)
        followed.objects[key] = known
        self._decide(followed, key, body, is_change=is_change)
        return key

    def _decide(self, followed: Followed, key: Key, body: Body, *, is_change: bool) -> None:
        kind = followed.kind
        reference = Reference(kind.kind, *key)
        try:
            request = request_of(kind, followed.version, read_object(body))
            judgement = self._judge(followed, request, is_change=is_change)
        except UNDECODABLE as error:
            self._pass_over(kind, reference, unreadable(kind.kind, body, error).why)
        except UNREADABLE as error:
            self._pass_over(kind, reference, str(error))
        except (ClusterRefused, FactsUnavailable):
            self.stale.add(reference.namespace)
        else:
            self.unreadable.pop(reference, None)
            self._keep(reference, kind.group, judgement)

    def _judge(self, followed: Followed, request: AdmissionRequest, *, is_change: bool) -> Judgement | None:
        """The object's judgement; None if there is nothing to say of it. Raises one of UNREADABLE, ClusterRefused or
        FactsUnavailable."""
        kind = followed.kind
        if is_over(kind.group, kind.kind, request.object or {}):
            self._mark_claims(request.namespace, self._owners.forget(request.uid) and is_change)
            return None
        self._mark_claims(request.namespace, self._owners.take(request) and is_change)
        asked = self._owners.as_asked(request)
        if asked is not None and followed.is_partial:
            obj = self._cluster.get(path_of(kind, followed.version, request.namespace, request.name))
            whole = obj and request_of(kind, followed.version, obj)
            is_there = whole and not is_over(kind.group, kind.kind, whole.object or {})
            asked = self._owners.as_asked(whole) if whole and is_there else None
        if asked is None:
            return None
        return judge(asked, self.facts, self._config, self.today, LookUps(self._cluster, Unseen()))

    def _mark_claims(self, namespace: str, have_changed: bool) -> None:
        """Have a namespace's claims judged again, where StatefulSets make others now than before."""
        if have_changed and any(kind.kind == "PersistentVolumeClaim" for kind in self._followed):
            self.stale.add(namespace)

    def _keep(self, reference: Reference, group: str, judgement: Judgement | None) -> None:
        if judgement is None:
            self._kept.drop(reference, group)
            return
        team = team_of(judgement.asked, self._config.team_label, self.facts.of(NAMESPACES))
        self._kept.put(reference, group, team, judgement.findings)
        for policy_id, bug in bugs_of(judgement.decision).items():
            if policy_id not in self._bugs:
                self._bugs.add(policy_id)
                log.error("policy failed", policy=policy_id, object=str(reference), exception=logs.describe(bug))

    def _forget(self, followed: Followed, key: Key) -> None:
        known = followed.objects.pop(key, None)
        reference = Reference(followed.kind.kind, *key)
        self._kept.drop(reference, followed.kind.group)
        self.unreadable.pop(reference, None)
        if known is not None:
            self._mark_claims(reference.namespace, self._owners.forget(known.uid))

    def _forget_kind(self, kind: GroupKind) -> None:
        followed = self._followed.pop(kind)
        followed.stop()
        for key in list(followed.objects):
            self._forget(followed, key)
        self._stored.unseen.resources.pop(kind.full_resource, None)

    def _note_unread(self, kind: GroupKind, error: ClusterRefused | FactsUnavailable) -> None:
        if self.unread.get(kind) != str(error):
            log.warning("cannot list", resource=kind.full_resource, error=str(error))
        self._stored.unseen.resources[kind.full_resource] = str(error)

    def _pass_over(self, kind: GroupKind, reference: Reference, why: str) -> None:
        if self.unreadable.get(reference) != why:
            log.warning("passed over", object=str(reference), error=why)
        self.unreadable[reference] = why
        self._kept.drop(reference, kind.group)


def _namespace_of(kind: GroupKind, key: Key) -> str:
    """The namespace that an object is in, or is."""
    return key[1] if is_namespace(kind.group, kind.kind) else key[0]
