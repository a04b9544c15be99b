"""Leader election: client-go's rules on a clock of the test's, and two candidates on a real control plane."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_fixture import ControlPlane, control_plane
from tests.loopback import eventually
from tests.memory_cluster import MemoryCluster
from webhook.cluster.client import Cluster
from webhook.controller.lease import RENEW_SECONDS, Candidate, Election
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.policy import Object

WALL = datetime(2026, 11, 21, 9, 0, 0, 123456, UTC)
WRITTEN = "2026-11-21T09:00:00.123456Z"


def lease(holder: str, seconds: int = 15, transitions: int = 3, renewed: str = "2026-01-01T00:00:00.000000Z") -> Object:
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": "2025-12-31T00:00:00.000000Z",
        "renewTime": renewed,
        "leaseTransitions": transitions,
    }
    return {"metadata": {"name": "forestall-controller", "resourceVersion": "7"}, "spec": spec}


def ours(acquired: str, transitions: int) -> Object:
    return {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": acquired,
        "renewTime": WRITTEN,
        "leaseTransitions": transitions,
    }


@pytest.mark.parametrize(
    ("seen", "now", "spec"),
    [
        pytest.param(None, 100.0, ours(WRITTEN, 0), id="there-is-none"),
        pytest.param(lease("you"), 100.0, None, id="held-however-old-its-times-are"),
        pytest.param(lease("you"), 114.9, None, id="held-until-it-was-silent-for-its-time"),
        pytest.param(lease("you"), 115.0, ours(WRITTEN, 4), id="silent-for-its-time"),
        pytest.param(lease("you", 60), 159.9, None, id="its-holder-says-how-long"),
        pytest.param(lease("you", 60), 160.0, ours(WRITTEN, 4), id="silent-for-its-longer-time"),
        pytest.param(lease("", 1), 100.0, ours(WRITTEN, 4), id="given-back"),
        pytest.param(lease("", transitions=2**31 - 1), 100.0, ours(WRITTEN, 2**31 - 1), id="int32"),
        pytest.param(lease("me"), 100.0, ours("2025-12-31T00:00:00.000000Z", 3), id="ours-still"),
        pytest.param({"metadata": {}}, 100.0, ours(WRITTEN, 1), id="without-a-spec"),
        pytest.param({"metadata": {}, "spec": {"holderIdentity": "you"}}, 114.9, None, id="without-a-duration"),
    ],
)
def test_bids(seen: Object | None, now: float, spec: Object | None) -> None:
    candidate = Candidate("me")
    candidate.see(seen, 100.0)
    bid = candidate.bid(now, WALL)
    assert (bid and bid["spec"]) == spec
    assert (bid or {}).get("metadata") == (seen["metadata"] if seen and bid else None)


@pytest.mark.parametrize(
    ("second", "is_free"),
    [
        pytest.param(lease("you"), True, id="nothing-changed"),
        pytest.param({**lease("you"), "metadata": {"resourceVersion": "8"}}, True, id="not-its-holder-s-words"),
        pytest.param(lease("you", renewed="2026-01-01T00:00:10.000000Z"), False, id="renewed"),
        pytest.param(lease("they"), False, id="another-holder"),
    ],
)
def test_a_holder_is_alive_while_it_writes(second: Object, is_free: bool) -> None:
    candidate = Candidate("me")
    candidate.see(lease("you"), 100.0)
    candidate.see(second, 110.0)
    assert (candidate.bid(116.0, WALL) is not None) == is_free


def test_a_leader_leads_for_the_renew_deadline_from_the_beginning_of_its_last_renewal() -> None:
    candidate = Candidate("me")
    assert not candidate.is_leading(100.0)
    candidate.won(lease("me"), 100.0, 104.0)
    assert [candidate.is_leading(now) for now in (104.0, 109.9, 110.0)] == [True, True, False]


def test_resigning() -> None:
    candidate = Candidate("me")
    candidate.won(lease("me"), 100.0, 100.0)
    resigned = candidate.resign(WALL)
    assert resigned is not None
    assert resigned["spec"] == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": WRITTEN,
        "renewTime": WRITTEN,
        "leaseTransitions": 3,
    }
    assert not candidate.is_leading(100.0)


def test_nobody_resigns_for_another() -> None:
    candidate = Candidate("me")
    candidate.see(lease("you"), 100.0)
    assert candidate.resign(WALL) is None


PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/forestall-controller"


class OneLease(MemoryCluster):
    """A cluster of which the Lease is of interest."""

    @property
    def lease(self) -> Object:
        return self.objects[PATH]

    @property
    def spec(self) -> Any:
        return self.lease["spec"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestElection:
    @pytest.fixture
    def api(self) -> OneLease:
        return OneLease()

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def join(self, api: OneLease, clock: Clock) -> Callable[[str], Election]:
        return lambda identity: Election(api, "ns", "forestall-controller", identity, clock)

    def test_the_second_waits_until_the_first_is_silent(
        self, api: OneLease, clock: Clock, join: Callable[[str], Election]
    ) -> None:
        first, second = join("a"), join("b")
        first.step()
        second.step()
        for _ in range(10):  # the first renews, the second waits
            clock.now += 2
            first.step()
            second.step()
            assert (first.is_leading, second.is_leading) == (True, False)
        silent_since = clock.now
        while not second.is_leading:
            clock.now += 2
            assert not (clock.now < silent_since + RENEW_SECONDS and not first.is_leading)
            second.step()
        assert clock.now - silent_since == 16
        assert (first.is_leading, api.spec["holderIdentity"], api.spec["leaseTransitions"]) == (False, "b", 1)

    def test_renewing_is_one_request(self, api: OneLease, clock: Clock, join: Callable[[str], Election]) -> None:
        election = join("a")
        election.step()
        api.verbs()
        for _ in range(3):
            clock.now += 2
            election.step()
        assert api.verbs() == {"replace": 3}
        assert max(api.timeouts) <= RENEW_SECONDS / 2, "a call that hangs must leave time for another"

    def test_a_released_lease_is_taken_at_once(self, api: OneLease, join: Callable[[str], Election]) -> None:
        first, second = join("a"), join("b")
        first.step()
        first.release()
        assert (first.is_leading, api.spec["holderIdentity"]) == (False, "")
        second.step()
        assert second.is_leading

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(FactsUnavailable("no answer"), id="no-answer"),
            pytest.param(ClusterRefused(500, "", "etcdserver: request timed out"), id="an-error"),
            pytest.param(RuntimeError("a bug"), id="a-bug"),
        ],
    )
    def test_without_the_api_server_it_stops_leading_and_comes_back(
        self, api: OneLease, clock: Clock, join: Callable[[str], Election], error: Exception
    ) -> None:
        election = join("a")
        election.step()
        api.trouble = error
        led = []
        for _ in range(60):
            clock.now += 2
            election.step()
            led.append(election.is_leading)
        assert led == [True] * 4 + [False] * 56
        api.trouble = None
        election.step()
        assert election.is_leading
        assert api.spec["leaseTransitions"] == 0

    def test_a_leader_that_was_replaced_meanwhile_waits(
        self, api: OneLease, clock: Clock, join: Callable[[str], Election]
    ) -> None:
        first, second = join("a"), join("b")
        first.step()
        second.step()
        clock.now += 16
        second.step()
        first.step()
        assert (first.is_leading, second.is_leading) == (False, True)

    def test_one_of_two_bids_at_once_is_refused(self, api: OneLease, join: Callable[[str], Election]) -> None:
        first, second = join("a"), join("b")
        second._candidate.see(None, 1000.0)
        first.step()
        assert second._bid() is False
        assert (first.is_leading, second.is_leading) == (True, False)

    def test_somebody_edits_the_lease(self, api: OneLease, clock: Clock, join: Callable[[str], Election]) -> None:
        election = join("a")
        election.step()
        api.replace(PATH, {**api.lease, "metadata": {**api.lease["metadata"], "labels": {"edited": "yes"}}})
        clock.now += 2
        election.step()
        clock.now += 9
        assert election.is_leading
        assert api.lease["metadata"]["labels"] == {"edited": "yes"}

    def test_a_namespace_that_is_not_there_is_told(
        self, api: OneLease, join: Callable[[str], Election], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        monkeypatch.setattr("webhook.controller.lease.log.warning", lambda _event, error: told.append(error))
        api.fail["create", "/leases"] = [ClusterRefused(404, "NotFound", 'namespaces "ns" not found')]
        election = join("a")
        election.step()
        assert (election.is_leading, told) == (False, ['namespaces "ns" not found (404)'])

    def test_somebody_deletes_the_lease(self, api: OneLease, clock: Clock, join: Callable[[str], Election]) -> None:
        election = join("a")
        election.step()
        api.delete(PATH)
        clock.now += 2
        election.step()
        clock.now += 9
        assert election.is_leading
        assert api.spec["holderIdentity"] == "a"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        yield running


class Running:
    """A candidate in a thread."""

    def __init__(self, kubeconfig: Path, identity: str) -> None:
        self.election = Election(Cluster.from_kubeconfig(kubeconfig), "default", "forestall-controller", identity)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self.election.run, args=[self._stopped])
        self._thread.start()

    @property
    def is_leading(self) -> bool:
        return self.election.is_leading

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.mark.e2e
def test_two_candidates_on_a_real_control_plane(plane: ControlPlane) -> None:
    def spec() -> Any:
        return json.loads(plane.kubectl("get", "lease", "forestall-controller", "-o", "json"))["spec"]

    first = Running(plane.kubeconfig, "first")
    eventually(lambda: first.is_leading)
    second = Running(plane.kubeconfig, "second")
    try:
        held = spec()
        assert (held["holderIdentity"], held["leaseDurationSeconds"]) == ("first", 15)
        first.stop()
        assert spec()["holderIdentity"] in ("", "second")
        eventually(lambda: second.is_leading, seconds=10)
        first = Running(plane.kubeconfig, "third")
        plane.stop_api_server()
        eventually(lambda: not second.is_leading, seconds=30)
        assert not first.is_leading
        plane.start_api_server()
        eventually(lambda: first.is_leading or second.is_leading)
        assert not (first.is_leading and second.is_leading)
        assert spec()["leaseTransitions"] in (1, 2)
    finally:
        first.stop()
        second.stop()
    assert spec()["holderIdentity"] == ""
