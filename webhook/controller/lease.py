"""Leader election over a Lease, with client-go's rules and times (tools/leaderelection).

Clocks of different machines are never compared: a Lease counts as held until nothing in it has changed, as seen from
here, for as long as it says. The Lease doesn't stop a leader that was paused: it may write once more before it notices
that another one leads.
So every write of the controller carries the version that it was decided on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.installation import LABELS
from webhook.policy import Object

LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
"""Seconds for which a leader leads after its last renewal: fewer than the Lease holds, so that two never overlap."""
RETRY_SECONDS = 2.0

_MOST_TRANSITIONS = 2**31 - 1  # the largest number that the API takes, from an edit by hand: one more would be refused

log = structlog.get_logger()


class Candidate:
    """The election as one candidate sees it. It does no I/O: the caller tells it what was read and written, and when
    (monotonic seconds)."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.lease: Object | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def see(self, lease: Object | None, now: float) -> None:
        """Take in the Lease as it was read, None if there is none, at `now`."""
        # As in client-go only a change of the holder's own fields proves it alive, not any other change of the object.
        if _spec(lease) != _spec(self.lease) or self.lease is None:
            self._seen_at = now
        self.lease = lease

    def bid(self, now: float, wall: datetime) -> Object | None:
        """The Lease as it is to be written so that we hold it; None while somebody else does."""
        spec = _spec(self.lease)
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self.identity) and now < self._seen_at + _seconds(spec):
            return None
        acquired, transitions = wall_text(wall), int(spec.get("leaseTransitions") or 0)
        if holder == self.identity:
            acquired = spec.get("acquireTime") or acquired
        elif self.lease is not None:
            transitions = min(transitions + 1, _MOST_TRANSITIONS)
        return self._with(self.identity, LEASE_SECONDS, acquired, wall, transitions)

    def won(self, lease: Object, began: float, now: float) -> None:
        """Take in that the API server stored this candidate's bid as `lease`; the bid was begun at `began`."""
        self.see(lease, now)
        self._renewed_at = began

    def is_leading(self, now: float) -> bool:
        return self._renewed_at is not None and now < self._renewed_at + RENEW_SECONDS

    def resign(self, wall: datetime) -> Object | None:
        """The Lease as it is to be written so that the next candidate need not wait; None if it isn't ours."""
        self._renewed_at = None
        spec = _spec(self.lease)
        if spec.get("holderIdentity") != self.identity:
            return None
        return self._with("", 1, wall_text(wall), wall, int(spec.get("leaseTransitions") or 0))

    def _with(self, holder: str, seconds: int, acquired: str, wall: datetime, transitions: int) -> Object:
        spec = {
            **_spec(self.lease),
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": acquired,
            "renewTime": wall_text(wall),
            "leaseTransitions": transitions,
        }
        return {**(self.lease or {}), "spec": spec}


def _spec(lease: Object | None) -> dict[str, Any]:
    return (lease or {}).get("spec") or {}


def _seconds(spec: dict[str, Any]) -> float:
    return float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)


def wall_text(wall: datetime) -> str:
    """A time as Kubernetes' MicroTime."""
    return wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Cluster(Protocol):
    """The methods of webhook.cluster.client.Cluster that are needed here."""

    def get(self, path: str, *, timeout: float) -> Object | None: ...
    def create(self, path: str, obj: Object, *, timeout: float) -> Any: ...
    def replace(self, path: str, obj: Object, *, timeout: float) -> Object: ...


class Election:
    """Takes part in the election, in a thread of its own, since the leader's work may take long."""

    def __init__(
        self,
        cluster: _Cluster,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
        annotations: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`annotations` are what the leader says of itself, with every renewal."""
        self._cluster = cluster
        self._annotations = annotations
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._clock = clock
        self._candidate = Candidate(identity)
        self._was_leading = False
        self._trouble = ""

    @property
    def is_leading(self) -> bool:
        """Whether this candidate leads now; answers at once, whatever the thread is waiting for."""
        return self._candidate.is_leading(self._clock())

    def run(self, stopped: threading.Event) -> None:
        """Hold the Lease, or wait for it, until stopped; then give it back."""
        while not stopped.is_set():
            self.step()
            stopped.wait(RETRY_SECONDS)
        self.release()

    def step(self) -> None:
        """Take or renew the Lease, if that is possible; errors are logged, and the next step tries again."""
        trouble = ""
        try:
            self._step()
        except (ClusterRefused, FactsUnavailable) as error:
            trouble = str(error)
        except Exception:
            # The thread must go on: without it this replica would never lead again, and nothing would show it.
            log.exception("the election failed")
        self._tell(trouble)

    def _step(self) -> None:
        # A leader renews the Lease that it has in memory, as client-go does since 1.30: that halves the requests.
        if self.is_leading and self._bid():
            return
        self._candidate.see(self._cluster.get(f"{self._path}/{self._name}", timeout=RENEW_SECONDS / 2), self._clock())
        self._bid()

    def _bid(self) -> bool:
        """Try to take or renew the Lease; whether it is held by this candidate now."""
        began = self._clock()
        bid = self._candidate.bid(began, datetime.now(UTC))
        if bid is None:
            return False
        try:
            lease = self._write(bid)
        except Conflict:
            return False
        except ClusterRefused as answer:
            if answer.status == 404 and "metadata" in bid:  # the Lease was deleted since it was read
                return False
            raise
        self._candidate.won(lease, began, self._clock())
        return True

    def _write(self, lease: Object) -> Object:
        if "metadata" in lease:
            metadata = lease["metadata"]
            if said := self._annotations():
                metadata = {**metadata, "annotations": {**(metadata.get("annotations") or {}), **said}}
            lease = {**lease, "metadata": metadata}
            return self._cluster.replace(f"{self._path}/{self._name}", lease, timeout=RENEW_SECONDS / 2)
        made = {"metadata": {"name": self._name, "labels": dict(LABELS)}, **lease}
        written: Object = self._cluster.create(self._path, made, timeout=RENEW_SECONDS / 2).object
        return written

    def release(self) -> None:
        """Give the Lease back, so that the next candidate may take it at once."""
        lease = self._candidate.resign(datetime.now(UTC))
        if lease is not None:
            try:
                self._write(lease)
            except (ClusterRefused, FactsUnavailable) as error:
                log.warning("the Lease was not given back", error=str(error))
        self._tell("")

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("the Lease cannot be had", error=trouble)
        self._trouble = trouble
        if self.is_leading != self._was_leading:
            self._was_leading = not self._was_leading
            log.info("leading" if self._was_leading else "no longer leading")
