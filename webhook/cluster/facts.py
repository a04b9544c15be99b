"""The facts of a running cluster: read once, or kept current by a watch of every kind that they are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
import urllib3

from webhook.cluster.client import Cluster
from webhook.cluster.lists import Body, Reader, read_at_once
from webhook.cluster.paths import fact_path
from webhook.cluster.unseen import Unreadable, Unseen, unreadable
from webhook.cluster.watch_stream import backoff, hang_up, is_expired, is_lasting, is_refusal, watch_events
from webhook.errors import ClusterRefused, FactsUnavailable, one_line
from webhook.objects.facts import ClusterFacts, decode_fact
from webhook.objects.facts.snapshot import drop_fact, put_fact
from webhook.policy import FactKind, FactReference

_COALESCE_SECONDS = 0.1
_LONGEST_PAUSE = {False: 10.0, True: 60.0}
"""Seconds between two attempts, at most; True is for a kind that may not be read, until somebody changes RBAC."""
_FORGET_AFTER = 7
_NEVER = datetime.fromtimestamp(0, UTC)
"""A cluster that was not heard of isn't one that is empty, or none at all."""

log = structlog.get_logger()


class FactsRead(NamedTuple):
    """Facts, and which kinds can't be read; what of the others can't is in the facts themselves."""

    facts: ClusterFacts
    unseen: Unseen


def list_facts(cluster: Cluster, kinds: Iterable[FactKind[Any, Any]], namespaces: Sequence[str] = ()) -> FactsRead:
    """List the objects of these kinds; a kind that we may not read is left out of `known`, and `unseen` says why.

    Where `namespaces` are given, namespaced kinds are listed in these alone.

    Raises FactsUnavailable if the cluster cannot be reached or doesn't know us.
    """
    records: dict[FactKind[Any, Any], Mapping[Any, Any]] = {}
    unseen = Unseen()
    odd: dict[FactReference, str] = {}
    for kind in kinds:
        resource = kind.full_resource
        parts: list[Listed] = []
        wanted = (kind.is_namespaced and namespaces) or ("",)
        for namespace in wanted:
            try:
                parts.append(list_kind(cluster, kind, namespace))
            except ClusterRefused as answer:
                if _is_unserved(kind, answer):
                    parts.append(Listed({}, {}, ""))
                    continue
                if not is_refusal(answer):
                    raise FactsUnavailable(f"{cluster.host} does not list {resource}: {answer}") from answer
                unseen.note(resource, answer, namespace)
        if len(parts) == len(wanted):
            records[kind] = {key: record for part in parts for key, record in part.records.items()}
            for part in parts:
                odd |= part.unreadable
    known = frozenset(kind for kind in records if not (namespaces and kind.spans))
    facts = ClusterFacts(records, known=known, unreadable=odd, read_at=datetime.now(UTC))
    return FactsRead(facts, unseen)


class Listed(NamedTuple):
    """The list of one kind: its records by their key, what can't be read and why, and the version to watch it from."""

    records: dict[Any, Any]
    unreadable: dict[FactReference, str]
    version: str


def list_kind(cluster: Reader, kind: FactKind[Any, Any], namespace: str = "") -> Listed:
    """List all of one kind, in a namespace or in all. Raises ClusterRefused or FactsUnavailable."""
    listed = Listed({}, {}, "")
    for page in read_at_once(cluster, fact_path(kind, namespace)):
        if page.begins:
            listed = Listed({}, {}, page.version)
        for item in page.items:
            _put(listed.records, listed.unreadable, kind, item)
    return listed


def _is_unserved(kind: FactKind[Any, Any], answer: ClusterRefused) -> bool:
    """Whether the cluster lacks the kind's CustomResourceDefinition, so that it has no such object."""
    return kind.is_custom and answer.status == 404


def _put(records: dict[Any, Any], odd: dict[FactReference, str], kind: FactKind[Any, Any], body: Body) -> None:
    """Record an object as it is now; of one that can't be read the earlier record is dropped."""
    try:
        reference, fact = decode_fact(kind, body)
    except Exception as error:  # whatever it is: one object must not end the watch of all of its kind
        found = unreadable(kind.kind, body, error)
        reference = _reference(kind, found)
        if odd.get(reference) != found.why:
            log.warning("passed over", object=str(found))
        drop_fact(records, reference)
        odd[reference] = found.why
    else:
        put_fact(records, reference, fact)
        odd.pop(reference, None)


def _drop(records: dict[Any, Any], odd: dict[FactReference, str], kind: FactKind[Any, Any], body: Body) -> None:
    try:
        reference, _ = decode_fact(kind, body)
    except Exception as error:
        reference = _reference(kind, unreadable(kind.kind, body, error))
    drop_fact(records, reference)
    odd.pop(reference, None)


def _reference(kind: FactKind[Any, Any], found: Unreadable) -> FactReference:
    return FactReference(kind, found.reference.namespace, found.reference.name)


class _Followed:
    """One watched kind; its `records`, by their key, are guarded by the watch's lock."""

    def __init__(self, kind: FactKind[Any, Any]) -> None:
        self.kind = kind
        self.resource = kind.full_resource
        self.records: dict[Any, Any] = {}
        self.unreadable: dict[FactReference, str] = {}
        self.is_listed = False
        self.is_changed = False
        self.is_refused = False
        self.is_absent = False
        self.is_unserved = False
        """Whether no such object can be in the cluster; one that isn't served may be, if it isn't custom."""
        self.version = ""
        """Where to watch from; empty if it has to be listed."""
        self.heard_at: datetime | None = None
        self.trouble = ""
        self.response: urllib3.BaseHTTPResponse | None = None


class Watch:
    """Facts that stay current: `facts` is always a whole, frozen value, which nothing waits for.

    Each kind has a thread that lists and then watches it, for ever, whatever happens to the connection; another one
    turns what they heard into the next value, at most ten times a second.
    """

    def __init__(self, cluster: Cluster, kinds: Iterable[FactKind[Any, Any]]) -> None:
        self.facts = ClusterFacts(read_at=_NEVER)
        """The facts now; their `read_at` is when the kind that has been silent longest was last heard of, the year 1970
        while none was."""
        self.listed: frozenset[str] = frozenset()
        """The kinds, by their full resource, that were listed at least once since start(), whatever has become of them
        since, and those that the cluster doesn't serve."""
        self.unread: Mapping[str, str] = {}
        """Full resource -> what is wrong with reading it; what was seen before still stands in `facts`."""
        self._cluster = cluster
        self._kinds = [_Followed(kind) for kind in kinds]
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; they don't survive a fork."""
        self._changed.set()
        jobs = [(self._publish_changes, ())] + [(self._keep, (followed,)) for followed in self._kinds]
        for job, arguments in jobs:
            thread = threading.Thread(target=job, args=arguments, name=f"watch {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads, which takes a moment at most; `facts` stays as it is."""
        self._stopped.set()
        self._changed.set()
        for followed in self._kinds:
            if (response := followed.response) is not None:
                hang_up(response)
        deadline = time.monotonic() + 2
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _publish_changes(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            self._publish()
            self._stopped.wait(_COALESCE_SECONDS)

    def _publish(self) -> None:
        records = dict(self.facts.records)
        with self._lock:
            for followed in self._kinds:
                if followed.is_changed:
                    records[followed.kind] = dict(followed.records)
                    followed.is_changed = False
            known = frozenset(followed.kind for followed in self._kinds if followed.is_listed or followed.is_unserved)
            listed = frozenset(followed.resource for followed in self._kinds if followed.is_listed)
            absent = frozenset(followed.resource for followed in self._kinds if followed.is_absent)
            heard_at = [followed.heard_at for followed in self._kinds if followed.heard_at is not None]
            self.unread = {
                followed.resource: followed.trouble
                for followed in self._kinds
                if followed.trouble and not followed.is_unserved
            }
            odd = {reference: why for followed in self._kinds for reference, why in followed.unreadable.items()}
        self.facts = ClusterFacts(records, known, unreadable=odd, read_at=min(heard_at, default=_NEVER))
        self.listed |= listed | absent  # never before the facts themselves

    def _keep(self, followed: _Followed) -> None:
        """List and watch one kind until stopped. Nothing may end this thread: its facts would be frozen for good."""
        failures = 0
        while not self._stopped.is_set():
            began, pause = time.monotonic(), 0.0
            try:
                if not followed.version:
                    self._list(followed)
                self._follow(followed)
            except ClusterRefused as answer:
                pause, is_refused = answer.retry_after, is_refusal(answer)
                followed.is_absent = answer.status == 404
                followed.is_unserved = _is_unserved(followed.kind, answer)
                self._failed(followed, answer, is_refused, forget=is_refused and failures >= _FORGET_AFTER)
                if is_expired(answer):
                    followed.version = ""
            except Exception as error:
                self._failed(followed, error)
            failures = 0 if is_lasting(began) else failures + 1
            if failures:
                self._stopped.wait(max(pause, backoff(failures, _LONGEST_PAUSE[followed.is_refused])))

    def _list(self, followed: _Followed) -> None:
        listed = list_kind(self._cluster, followed.kind)
        with self._lock:
            followed.records, followed.unreadable = listed.records, listed.unreadable
            followed.is_listed, followed.is_changed = True, True
        followed.version = listed.version
        self._heard(followed)

    def _follow(self, followed: _Followed) -> None:
        """Record changes until the API server ends the watch; raise for any other end."""

        def opened(response: urllib3.BaseHTTPResponse) -> None:
            followed.response = response
            if self._stopped.is_set():  # stop() may have looked a moment too early
                hang_up(response)
            self._heard(followed)  # a connection may stay silent for a minute

        for event in watch_events(self._cluster, fact_path(followed.kind), followed.version, opened):
            self._take_in(followed, event.change, event.body)
            followed.version = event.version
            self._heard(followed)

    def _take_in(self, followed: _Followed, change: str, body: Body) -> None:
        if change == "BOOKMARK":
            return
        with self._lock:
            take_in = _drop if change == "DELETED" else _put
            take_in(followed.records, followed.unreadable, followed.kind, body)
            followed.is_changed = True

    def _heard(self, followed: _Followed) -> None:
        if followed.trouble:
            log.info("reading again", resource=followed.resource)
        followed.heard_at, followed.trouble, followed.is_refused = datetime.now(UTC), "", False
        followed.is_absent = followed.is_unserved = False
        self._changed.set()

    def _failed(self, followed: _Followed, error: Exception, is_refused: bool = False, *, forget: bool = False) -> None:
        if self._stopped.is_set():
            return
        trouble = one_line(error)
        if not followed.trouble and followed.is_unserved:
            log.info("not served", resource=followed.resource)
        elif not followed.trouble:
            log.warning("cannot read", resource=followed.resource, error=trouble)
        followed.trouble, followed.is_refused = trouble, is_refused
        if forget and followed.is_listed:
            # A starting API server refuses for seconds what it allows after; one that goes on means it, and what was
            # seen before it took the right away is no longer worth judging by.
            with self._lock:
                followed.records, followed.unreadable = {}, {}
                followed.is_listed, followed.is_changed = False, True
            followed.version, followed.heard_at = "", None
        self._changed.set()
