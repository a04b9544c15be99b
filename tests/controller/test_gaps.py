"""Gaps: when one begins and ends, what is remembered of it, what was let through; and on a real control plane."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from tests.builders import TODAY, config, container, every_policy, sized, workload
from tests.cluster_fixture import control_plane
from tests.e2e.guarded import Server, deployment, prepare
from tests.loopback import eventually
from tests.memory_cluster import MemoryCluster
from webhook.cluster.client import Cluster
from webhook.cluster.gap_record import Gap, GapRecord, Reason, read_record
from webhook.cluster.stored import Stored, request_of
from webhook.controller.gaps import (
    KEPT,
    Gaps,
    Probed,
    Unchecked,
    admitted_unchecked,
    observe,
    told_undecided,
    unanswered,
)
from webhook.controller.hooks import HooksState
from webhook.controller.registration import configuration_path, configurations
from webhook.engine import decide
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.facts import NO_FACTS
from webhook.objects.pods import POD
from webhook.policy import GroupKind, Object, Stage
from webhook.scope import judged_kinds

START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
BOTH: tuple[Stage, ...] = ("mutate", "validate")
FINE = Probed()
LOST = Probed(BOTH)
OFF = Probed(BOTH, "hooks off")
STATE = "/api/v1/namespaces/forestall-system/configmaps/forestall-state"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def gap(began: float, ended: float | None, *stages: Stage, reason: Reason = "no answer", refused: bool = False) -> Gap:
    return Gap(stages or BOTH, at(began), reason, None if ended is None else at(ended), refused=refused)


@pytest.mark.parametrize(
    ("probes", "gaps"),
    [
        pytest.param([FINE, FINE], [], id="all is well"),
        pytest.param([LOST], [gap(0, None)], id="begins with the first probe that wasn't answered"),
        pytest.param([FINE, LOST, LOST, FINE, FINE], [gap(10, 30)], id="ends with the first that was"),
        pytest.param([LOST, FINE, LOST], [gap(0, 10), gap(20, None)], id="each is one of its own"),
        pytest.param(
            [LOST, Probed(("mutate",)), FINE],
            [gap(0, 10), gap(10, 20, "mutate")],
            id="one stage is back before another",
        ),
        pytest.param([OFF, LOST], [gap(0, 10, reason="hooks off"), gap(10, None)], id="another reason is another gap"),
        pytest.param(
            [Probed(BOTH, refused=True), LOST], [gap(0, 10, refused=True), gap(10, None)], id="let through from then on"
        ),
    ],
)
def test_observe(probes: list[Probed], gaps: list[Gap]) -> None:
    record = GapRecord()
    for number, probed in enumerate(probes):
        record = observe(record, at(10 * number), probed)
    assert record == GapRecord(tuple(gaps))


def undecided(began: float, ended: float, stage: Stage = "validate") -> Gap:
    return gap(began, ended, stage, reason="undecided")


@pytest.mark.parametrize(
    ("told", "gaps"),
    [
        pytest.param([[undecided(1, 2)], [undecided(1, 2)]], [undecided(1, 2)], id="the same again"),
        pytest.param([[undecided(1, 2)], [undecided(1, 15)]], [undecided(1, 15)], id="longer by now"),
        pytest.param([[undecided(1, 2)], [undecided(5, 6)]], [undecided(1, 2), undecided(5, 6)], id="another one"),
        pytest.param([[undecided(1, 5), undecided(4, 8)]], [undecided(1, 8)], id="of two workers"),
        pytest.param(
            [[undecided(1, 5), undecided(1, 5, "mutate")]],
            [undecided(1, 5), undecided(1, 5, "mutate")],
            id="at both stages",
        ),
    ],
)
def test_what_passed_undecided_is_a_gap(told: list[list[Gap]], gaps: list[Gap]) -> None:
    record = GapRecord()
    for number, gaps_now in enumerate(told):
        record = observe(record, at(10 * number), Probed(undecided=tuple(gaps_now)))
    assert record == GapRecord(tuple(gaps))


def test_an_open_gap_stays_the_last() -> None:
    record = observe(GapRecord(), at(0), LOST)
    record = observe(record, at(10), LOST._replace(undecided=(undecided(5, 9),)))
    assert record == GapRecord((undecided(5, 9), gap(0, None)))
    assert observe(record, at(20), FINE) == GapRecord((undecided(5, 9), gap(0, 20)))


def test_told_undecided() -> None:
    told = [
        "forestall probe n1 validate",
        "forestall undecided validate 1795402800 1795402860",
        "forestall undecided x",
    ]
    began = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
    assert told_undecided(told) == (Gap(("validate",), began, "undecided", began + timedelta(minutes=1)),)


@pytest.mark.parametrize("record", [GapRecord(), GapRecord((gap(0, 10),)), GapRecord((gap(0, None),))])
def test_nothing_new_is_the_same_record(record: GapRecord) -> None:
    assert observe(record, at(20), LOST if record.open else FINE) is record


def test_only_the_newest_are_kept() -> None:
    record = GapRecord()
    for number in range(KEPT + 3):
        record = observe(observe(record, at(20 * number), LOST), at(20 * number + 10), FINE)
    assert len(record.gaps) == KEPT
    assert record.forgotten == 3
    assert record.gaps[0] == gap(60, 70)


def test_a_clock_that_was_set_back_makes_no_negative_gap() -> None:
    assert observe(GapRecord((gap(100, None),)), at(50), FINE) == GapRecord((gap(100, 100),))


@pytest.mark.parametrize(
    ("warnings", "missing"),
    [
        pytest.param(["forestall probe n1 mutate", "forestall probe n1 validate"], (), id="both"),
        pytest.param(["forestall probe n1 validate"], ("mutate",), id="validate alone"),
        pytest.param(["forestall probe n0 mutate", "forestall probe n1x validate"], BOTH, id="answers to other probes"),
        pytest.param(["would violate PodSecurity"], BOTH, id="what others say"),
        pytest.param([], BOTH, id="nothing"),
    ],
)
def test_unanswered(warnings: list[str], missing: tuple[Stage, ...]) -> None:
    assert unanswered(warnings, "n1") == missing


@pytest.mark.parametrize("text", ['{"gaps": 5}', "nonsense", '{"gaps": [{"stages": ["audit"]}]}'])
def test_an_edited_record_is_begun_anew(text: str) -> None:
    record = read_record({"data": {"gaps": text}})
    assert record == GapRecord(lost=True)
    assert observe(record, at(0), Probed(BOTH)) == GapRecord((gap(0, None),), lost=True)


CLUSTER_ROLE = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}


class Probing:
    """Gaps on a cluster of which everything can be said, at any time."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.gaps = Gaps(self.cluster, "forestall-system")
        self.register()
        self.cluster.put({**CLUSTER_ROLE, "metadata": {"name": "forestall-controller", "uid": "role"}})
        self.remember(HooksState("role", dict.fromkeys(BOTH, "uid")))

    def remember(self, state: HooksState) -> None:
        """What the controller knows of the webhook configurations."""
        metadata = {"name": "forestall-state", "namespace": "forestall-system"}
        data = {"hooks": msgspec.json.encode(state).decode()}
        self.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    def register(self, text: str = "") -> None:
        mutating, validating = configurations(config(text), "LS0t", namespace="forestall-system")
        for obj in (mutating, validating):
            self.cluster.put(obj)

    def at(self, seconds: float, *answers: Stage) -> GapRecord:
        self.cluster.answering = set(answers)
        self.gaps.reconcile(at(seconds))
        return read_record(self.cluster.objects.get(STATE))


@pytest.fixture
def probing() -> Probing:
    return Probing()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class TestProbing:
    def test_a_probe_is_a_dry_run_in_our_own_namespace(self, probing: Probing) -> None:
        probing.at(0, *BOTH)
        probing.at(10, *BOTH)
        first, second = (probe["metadata"] for probe in probing.cluster.probes)
        assert first["namespace"] == "forestall-system"
        assert first["labels"] != second["labels"]
        assert probing.cluster.writes == 0

    def test_every_ten_seconds_however_often_it_is_called(self, probing: Probing) -> None:
        for second in range(31):
            probing.at(second, *BOTH)
        assert len(probing.cluster.probes) == 4

    def test_a_clock_that_is_set_back_holds_up_no_probe(self, probing: Probing) -> None:
        probing.at(1000, *BOTH)
        probing.at(0, *BOTH)
        assert len(probing.cluster.probes) == 2

    def test_a_gap(self, probing: Probing) -> None:
        seconds = metric("forestall_gap_seconds_total", stage="mutate")
        probing.at(0, *BOTH)
        assert probing.at(10) == GapRecord((gap(10, None),))
        assert metric("forestall_gap", stage="mutate") == 1
        assert probing.at(20) == GapRecord((gap(10, None),))
        assert probing.at(30, *BOTH) == GapRecord((gap(10, 30),))
        assert metric("forestall_gap", stage="mutate") == 0
        assert metric("forestall_gap_seconds_total", stage="mutate") - seconds == 20
        assert probing.cluster.writes == 4  # the record, and an Event, twice
        assert [(told["reason"], told["type"]) for told in probing.cluster.events()] == [
            ("GapBegan", "Warning"),
            ("GapEnded", "Normal"),
        ]

    @pytest.mark.parametrize(
        ("state", "gaps"),
        [
            pytest.param(HooksState(), (), id="nothing-was-written-yet"),
            pytest.param(HooksState("before", {"mutate": "uid"}), (), id="by-an-earlier-installation-only"),
            pytest.param(HooksState("role", {"mutate": "uid"}), (gap(0, None, reason="hooks off"),), id="deleted"),
            pytest.param(
                HooksState("role", {}, {"mutate": "switched off"}),
                (gap(0, None, reason="hooks off"),),
                id="switched-off",
            ),
        ],
    )
    def test_a_new_installation_has_no_gap(self, probing: Probing, state: HooksState, gaps: tuple[Gap, ...]) -> None:
        for stage in BOTH:
            probing.cluster.objects.pop(configuration_path(stage))
        probing.remember(state)
        assert probing.at(0).gaps == gaps
        assert metric("forestall_gap", stage="mutate") == bool(gaps)

    def test_an_open_gap_goes_on_until_the_hooks_are_there_again(self, probing: Probing) -> None:
        for stage in BOTH:
            probing.cluster.objects.pop(configuration_path(stage))
        probing.at(0)
        state = probing.cluster.objects[STATE]
        probing.cluster.put({**state, "data": {**state["data"], "hooks": '{"owner": "role"}'}})  # `forestall hooks on`
        assert probing.at(10) == GapRecord((gap(0, None, reason="hooks off"),))

    def test_one_stage(self, probing: Probing) -> None:
        assert probing.at(0, "validate") == GapRecord((gap(0, None, "mutate"),))
        assert (metric("forestall_gap", stage="mutate"), metric("forestall_gap", stage="validate")) == (1, 0)

    @pytest.mark.parametrize(
        ("removed", "answers", "text", "found"),
        [
            pytest.param(BOTH, (), "", gap(0, None, reason="hooks off"), id="off"),
            pytest.param(
                ("validate",), ("mutate",), "", gap(0, None, "validate", reason="hooks off"), id="one of them is off"
            ),
            pytest.param((), (), "webhooks: {failurePolicy: Fail}", gap(0, None, refused=True), id="fails closed"),
            pytest.param(
                (), ("validate",), "webhooks: {failurePolicy: Fail}", gap(0, None, "mutate"), id="mutating never does"
            ),
            pytest.param(
                BOTH, (), "webhooks: {failurePolicy: Fail}", gap(0, None, reason="hooks off"), id="off, not closed"
            ),
        ],
    )
    def test_reasons(
        self, probing: Probing, removed: tuple[Stage, ...], answers: tuple[Stage, ...], text: str, found: Gap
    ) -> None:
        probing.register(text)
        for stage in removed:
            del probing.cluster.objects[configuration_path(stage)]
        assert probing.at(0, *answers) == GapRecord((found,))

    def test_without_a_webhook_nothing_is_refused(self, probing: Probing) -> None:
        """Somebody took the webhooks out of the configuration that fails closed."""
        probing.register("webhooks: {failurePolicy: Fail}")
        probing.cluster.objects[configuration_path("validate")]["webhooks"] = []
        assert probing.at(0, "mutate") == GapRecord((gap(0, None, "validate"),))

    @pytest.mark.parametrize(
        "trouble",
        [FactsUnavailable("no answer"), ClusterRefused(403, "Forbidden", "exceeded quota")],
        ids=["no answer", "no"],
    )
    def test_no_answer_from_the_api_server_is_no_gap(self, probing: Probing, trouble: Exception) -> None:
        unknown = metric("forestall_probes_total", result="unknown")
        probing.cluster.trouble = trouble
        assert probing.at(0) == GapRecord()
        assert metric("forestall_probes_total", result="unknown") - unknown == 1

    def test_nor_does_it_end_one(self, probing: Probing) -> None:
        seconds = metric("forestall_gap_seconds_total", stage="validate")
        probing.at(0)
        probing.cluster.trouble = FactsUnavailable("no answer")
        assert probing.at(10) == GapRecord((gap(0, None),))
        probing.cluster.trouble = None
        assert probing.at(20, *BOTH) == GapRecord((gap(0, 20),))
        # Nothing was let through by an API server that didn't answer.
        assert metric("forestall_gap_seconds_total", stage="validate") == seconds

    def test_a_new_leader_goes_on_with_the_same_gap(self, probing: Probing) -> None:
        probing.at(0)
        probing.gaps = Gaps(probing.cluster, "forestall-system")
        assert probing.at(15) == GapRecord((gap(0, None),))
        assert probing.at(25, *BOTH) == GapRecord((gap(0, 25),))

    def test_what_others_keep_in_the_state_stays(self, probing: Probing) -> None:
        metadata = {"name": "forestall-state", "resourceVersion": "7", "namespace": "forestall-system"}
        probing.cluster.objects[STATE] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"hooks": "{}"},
        }
        probing.at(0)
        assert probing.cluster.objects[STATE]["data"]["hooks"] == "{}"

    def test_only_who_leads_probes(self, probing: Probing) -> None:
        stopped = threading.Event()
        leads = iter([False, True, False])

        def is_leading() -> bool:
            leading = next(leads)
            if stopped.is_set() or (len(probing.cluster.probes) == 1 and not leading):
                stopped.set()
            return leading

        waits: list[float] = []
        stopped.wait = lambda timeout=None: waits.append(timeout or 0) or stopped.is_set()  # type: ignore[method-assign]
        probing.cluster.answering = set()
        probing.gaps.run(is_leading, stopped)
        assert len(probing.cluster.probes) == 1
        # What is so now is for the new leader to say.
        assert REGISTRY.get_sample_value("forestall_gap", {"stage": "mutate"}) is None

    def test_nothing_ends_the_thread(self, probing: Probing, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped = threading.Event()
        calls = []

        def fail(*_: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                stopped.set()
            raise (ZeroDivisionError if len(calls) == 1 else FactsUnavailable)("what it says")

        monkeypatch.setattr(probing.gaps, "reconcile", fail)
        monkeypatch.setattr(stopped, "wait", lambda timeout=None: stopped.is_set())
        probing.gaps.run(lambda: True, stopped)
        assert len(calls) == 2


DEPLOYMENT, REPLICA_SET = GroupKind("apps", "Deployment", "deployments"), GroupKind("apps", "ReplicaSet", "replicasets")
CLAIM = GroupKind("", "PersistentVolumeClaim", "persistentvolumeclaims")


def stored(
    kind: GroupKind, name: str, created: float, changed: float | None = None, owner: str = "", **how: Any
) -> Object:
    """An object as the API server has it: without a memory limit, unless `how` says so."""
    made = workload(kind.kind, container(**how.pop("resources", {})), name=name, **how.pop("spec", {}))
    metadata: Object = {
        "name": name,
        "namespace": "shop",
        "uid": f"{kind.kind} {name}",
        "creationTimestamp": at(created).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if changed is not None:
        when = at(changed).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["managedFields"] = [{"manager": "kubectl", "operation": "Update", "time": when, **how}]
    if owner:
        metadata["ownerReferences"] = [{"kind": owner.split(maxsplit=1)[0], "uid": owner, "controller": True}]
    return {**made, "metadata": metadata}


def unchecked(gaps: list[Gap], *objects: tuple[GroupKind, Object], text: str = "") -> list[Unchecked]:
    judge = partial(decide, facts=NO_FACTS, config=config(text), today=TODAY)
    requests = [request_of(kind, "v1", obj) for kind, obj in objects]
    return list(admitted_unchecked(gaps, requests, config(text), judge))


class TestAdmittedUnchecked:
    @pytest.mark.parametrize(
        ("obj", "how"),
        [
            pytest.param(stored(DEPLOYMENT, "web", 110), ["created"], id="created in the gap"),
            pytest.param(stored(DEPLOYMENT, "web", 90), ["created"], id="after the last probe that was answered"),
            pytest.param(stored(DEPLOYMENT, "web", 210), ["created"], id="calls come back a moment after the probe"),
            pytest.param(stored(DEPLOYMENT, "web", 80), [], id="before"),
            pytest.param(stored(DEPLOYMENT, "web", 220), [], id="after"),
            pytest.param(stored(DEPLOYMENT, "web", 0, 150), ["changed"], id="changed in the gap"),
            pytest.param(stored(DEPLOYMENT, "web", 0, 300), [], id="changed again since, which was judged"),
            pytest.param(stored(DEPLOYMENT, "web", 0, 150, subresource="status"), [], id="its status changed"),
            pytest.param(stored(POD, "web", 0, 150, subresource="resize"), ["changed"], id="a pod was resized"),
            pytest.param(stored(POD, "web", 0, 30), [], id="a pod before the gap"),
            pytest.param(stored(CLAIM, "data", 150), ["created"], id="a claim was created"),
            pytest.param(stored(CLAIM, "data", 0, 150), [], id="a claim changed, which is never judged"),
        ],
    )
    def test_what_was_touched(self, obj: Object, how: list[str]) -> None:
        kind = next(kind for kind in (POD, CLAIM, DEPLOYMENT) if kind.kind == obj["kind"])
        assert [admitted.how for admitted in unchecked([gap(100, 200)], (kind, obj))] == how

    def test_verdicts(self) -> None:
        bad, good = stored(DEPLOYMENT, "bad", 150), stored(DEPLOYMENT, "good", 150, resources=sized("1Gi", "1Gi"))
        found = unchecked([gap(100, 200)], (DEPLOYMENT, bad), (DEPLOYMENT, good))
        assert [
            (admitted.object.name, [finding.verdict.policy for finding in admitted.findings]) for admitted in found
        ] == [
            ("bad", ["memory-limits"]),
            ("good", []),
        ]

    def test_an_open_gap_reaches_until_now(self) -> None:
        assert unchecked([gap(100, None)], (DEPLOYMENT, stored(DEPLOYMENT, "web", 10**6)))

    def test_what_was_refused_was_not_admitted(self) -> None:
        assert not unchecked([gap(100, 200, refused=True)], (DEPLOYMENT, stored(DEPLOYMENT, "web", 150)))

    def test_nobody_judges_an_excluded_namespace(self) -> None:
        obj = stored(DEPLOYMENT, "web", 150)
        assert not unchecked([gap(100, 200)], (DEPLOYMENT, obj), text="excludeNamespaces: [shop]")

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("mode: 'off'", id="everything-is-off"),
            pytest.param(
                f"overrides: [{{match: {{namespaces: [shop]}}, {every_policy()}}}]",
                id="off-in-the-namespace",
            ),
        ],
    )
    def test_nothing_is_unchecked_where_no_policy_is_on(self, text: str) -> None:
        assert not unchecked([gap(100, 200)], (DEPLOYMENT, stored(DEPLOYMENT, "web", 150)), text=text)

    def test_what_the_owner_says_is_said_once(self) -> None:
        owner = stored(DEPLOYMENT, "web", 0)  # long before: only its pods were made in the gap
        replica_set = stored(REPLICA_SET, "web-1", 0, owner="Deployment web")
        pod = stored(POD, "web-1-a", 150, owner="ReplicaSet web-1")
        assert not unchecked([gap(100, 200)], (DEPLOYMENT, owner), (REPLICA_SET, replica_set), (POD, pod))

    @pytest.mark.parametrize("owner", ["ReplicaSet fine", "ReplicaSet nowhere"])
    def test_an_owner_that_says_nothing_of_it_hides_nothing(self, owner: str) -> None:
        fine = stored(REPLICA_SET, "fine", 0, resources=sized("1Gi", "1Gi"))
        pod = stored(POD, "typed", 150, owner=owner)
        found = unchecked([gap(100, 200)], (REPLICA_SET, fine), (POD, pod))
        assert [admitted.object.name for admitted in found] == ["typed"]


class Installed:
    """A control plane that asks a real server, and Gaps beside it, as the controller runs it."""

    def __init__(self, folder: Path, kubeconfig: Path, kubectl: Callable[..., str]) -> None:
        self.kubectl = kubectl
        self.server = Server(folder, kubeconfig)
        self.cluster = Cluster.from_kubeconfig(str(folder / "admin.kubeconfig"))

    def register(self) -> None:
        port, bundle = self.server.port, base64.b64encode(self.server.certificate).decode()
        service = ("externalname", "forestall", "--external-name=localhost", "-n", "forestall-system")
        self.kubectl("create", "service", *service)
        for obj in configurations(config(""), bundle, namespace="forestall-system", port=port):
            self.kubectl("apply", "-f", "-", input=json.dumps(obj))

    def record(self) -> GapRecord:
        return read_record(self.cluster.get(STATE))


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    with control_plane(tmp_path, nodes=0) as plane:
        installation = Installed(tmp_path, prepare(plane), plane.kubectl)
        stopped = threading.Event()
        gaps = Gaps(installation.cluster, "forestall-system")
        thread = threading.Thread(target=gaps.run, args=[lambda: True, stopped])
        installation.server.start()
        thread.start()
        try:
            yield installation
        finally:
            stopped.set()
            thread.join(30)
            installation.server.stop()


def probes_answered() -> float:
    return metric("forestall_probes_total", result="answered")


@pytest.mark.e2e
def test_on_a_real_control_plane(installed: Installed) -> None:
    answered = probes_answered()
    installed.register()
    eventually(lambda: probes_answered() > answered, "the server was never asked")
    assert installed.record().gaps == ()

    installed.server.kill()
    died = datetime.now(UTC)
    time.sleep(15)
    installed.kubectl("apply", "-f", "-", input=json.dumps(deployment("slipped", "default", container())))
    time.sleep(15)
    installed.server.start()
    back = datetime.now(UTC)

    eventually(lambda: installed.record().open is None and len(installed.record().gaps) == 1, "the gap did not end")
    assert datetime.now(UTC) - back < timedelta(minutes=1)
    (found,) = installed.record().gaps
    assert (found.stages, found.reason) == (BOTH, "no answer")
    assert found.ended is not None
    assert timedelta(seconds=-1) < found.began - died < timedelta(seconds=15)
    assert found.ended - back < timedelta(seconds=15)
    events = installed.kubectl("get", "events", "-n", "forestall-system", "-o", "jsonpath={.items[*].reason}").split()
    assert (events.count("GapBegan"), events.count("GapEnded")) == (1, 1)

    checked = deployment("checked", "default", container())
    installed.kubectl("apply", "-f", "-", input=json.dumps(checked))  # patched, now that it is judged again
    objects = Stored(installed.cluster, judged_kinds(config("")))
    judge = partial(decide, facts=NO_FACTS, config=config(""), today=TODAY)
    listed = [
        admitted
        for admitted in admitted_unchecked([found], objects, config(""), judge)
        if admitted.object.namespace == "default"
    ]
    (slipped,) = [admitted for admitted in listed if admitted.findings]
    assert (slipped.object.kind, slipped.object.name, slipped.how) == ("Deployment", "slipped", "created")
    assert [(finding.verdict.policy, finding.verdict.outcome) for finding in slipped.findings] == [
        ("memory-limits", "patched")
    ]
