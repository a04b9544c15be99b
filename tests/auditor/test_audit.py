"""What the auditor keeps while a cluster changes, and what it asks for meanwhile; on a clock of the test's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.audit.test_judge import owned, with_uid
from tests.auditor.conftest import Logged
from tests.auditor.watched_cluster import Response, WatchedCluster
from tests.builders import config, config_map, container, custom, every_policy, limit_range, sized, workload
from tests.loopback import eventually
from tests.test_corpus import manifests
from webhook.audit.judge import Judgement, audit, judge
from webhook.auditor.audit import Auditor
from webhook.auditor.inventory import Inventory, kinds_to_judge
from webhook.auditor.kept import Kept
from webhook.auditor.watching import Followed
from webhook.cluster.lists import METADATA_LIST, METADATA_OBJECT
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.findings import Finding
from webhook.objects.operated import OPERATED
from webhook.policy import GroupKind, Object, Reference

DENY = every_policy(memory_limits="mode: deny")
FINE = container(**sized("1Gi", "1Gi"))
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SHOP = "/apis/apps/v1/namespaces/shop"
PLURALS = {kind.kind: kind.resource for kind in OPERATED}


def named(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


class Auditing:
    """An auditor that is called as its loop does; `now` and `clock` are the test's."""

    def __init__(self, cluster: WatchedCluster, text: str = DENY) -> None:
        self.cluster = cluster
        self.seconds = 1000.0
        self.beats = 0
        self.during: Callable[[], None] = lambda: None
        self.now = NOW
        self.kept = Kept()
        self.auditor = Auditor(cluster, config(text), self.kept, self._beat, lambda: self.seconds)

    def _beat(self) -> None:
        self.beats += 1
        self.during()

    def reconcile(self) -> None:
        self.auditor.reconcile(self.now)

    def served(self) -> list[str]:
        """The plurals of the kinds to judge that the cluster serves."""
        groups = ("", *self.cluster.groups)
        return [kind.resource for kind in self.auditor.inventory.kinds if kind.group in groups]

    def whole(self) -> None:
        """The first audit of everything, to its end, with every watch open."""

        def is_done() -> bool:
            self.reconcile()
            return bool(self.kept.whole_at) and all(map(self.cluster.is_watched, self.served()))

        eventually(is_done, "nothing was audited", 10)

    def found(self) -> list[str]:
        return sorted(
            f"{reference.kind} {reference.namespace}/{reference.name}"
            for findings in self.kept.by_namespace.values()
            for reference in findings
        )

    def sees(self, *objects: str) -> None:
        """Fail unless these objects, and no others, have findings before long."""

        def is_so() -> bool:
            self.reconcile()
            return self.found() == sorted(objects)

        eventually(is_so, f"not {objects}", 5)

    def pass_time(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def audit_of() -> Iterator[Callable[..., Auditing]]:
    running: list[Auditing] = []

    def audit(*objects: Object, text: str = DENY, cluster: WatchedCluster | None = None) -> Auditing:
        cluster = cluster or WatchedCluster()
        for obj in (named("shop"), *objects):
            cluster.put(obj, PLURALS.get(obj["kind"], ""))
        running.append(Auditing(cluster, text))
        running[-1].whole()
        return running[-1]

    yield audit
    for auditing in running:
        auditing.auditor.stop()


AuditOf = Callable[..., Auditing]


class TestChanges:
    def test_a_new_violator_is_found_a_mended_one_forgotten(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload(), workload("Deployment", FINE, name="fine"))
        assert audited.found() == ["Deployment shop/web"]
        audited.cluster.put(workload(name="new"))
        audited.sees("Deployment shop/web", "Deployment shop/new")
        audited.cluster.put(workload("Deployment", FINE, name="web"))
        audited.sees("Deployment shop/new")
        audited.cluster.remove(f"{SHOP}/deployments/new")
        audited.sees()

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"status": {"readyReplicas": 1}}, id="status"),
            pytest.param({"metadata": {"managedFields": [{"manager": "x"}]}}, id="managed-fields"),
            pytest.param({"metadata": {"generation": 2}}, id="generation"),
        ],
    )
    def test_a_status_update_is_not_decided_on(
        self, audit_of: AuditOf, monkeypatch: pytest.MonkeyPatch, change: Object
    ) -> None:
        audited = audit_of(workload(), workload(name="other"))
        decided: list[str] = []
        decide = audited.auditor.inventory._decide

        def spy(followed: Followed, key: Any, *rest: Any, **named: Any) -> None:
            decided.append(key[1])
            decide(followed, key, *rest, **named)

        monkeypatch.setattr(audited.auditor.inventory, "_decide", spy)
        web = workload()
        stored = audited.cluster.objects[f"{SHOP}/deployments/web"]["metadata"]
        audited.cluster.put({**web, **change, "metadata": {**web["metadata"], **stored, **change.get("metadata", {})}})
        audited.cluster.put(workload("Deployment", FINE, name="other"))
        audited.sees("Deployment shop/web")
        assert decided == ["other"]

    @pytest.mark.parametrize(
        ("obj", "over"),
        [
            pytest.param(workload("Pod", name="one"), {"status": {"phase": "Succeeded"}}, id="pod"),
            pytest.param(
                workload("Job", name="one"),
                {"status": {"conditions": [{"type": "Complete", "status": "True"}]}},
                id="job",
            ),
            pytest.param(
                workload(name="one"), {"metadata": {"deletionTimestamp": "2026-11-27T12:00:00Z"}}, id="deleted"
            ),
        ],
    )
    def test_what_is_over_has_no_findings(self, audit_of: AuditOf, obj: Object, over: Object) -> None:
        audited = audit_of(obj)
        assert audited.found() == [f"{obj['kind']} shop/one"]
        audited.cluster.put({**obj, **over, "metadata": {**obj["metadata"], **over.get("metadata", {})}})
        audited.sees()

    def test_an_object_that_becomes_unreadable_costs_itself_alone(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload(), workload(name="other"))
        broken = workload(name="other")
        broken["spec"]["template"]["spec"]["containers"] = "none"
        audited.cluster.put(broken)
        audited.sees("Deployment shop/web")
        assert [str(reference.name) for reference in audited.auditor.inventory.unreadable] == ["other"]
        audited.cluster.put(workload(name="other"))
        audited.sees("Deployment shop/web", "Deployment shop/other")
        assert audited.auditor.inventory.unreadable == {}

    def test_bytes_that_are_no_json_are_named(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload())
        watch = next(watch for watch in audited.cluster.watches if watch.path.endswith("/deployments"))
        watch.tell_bytes(
            b'{"type":"MODIFIED","object":{"metadata":{"namespace":"shop","name":"web","resourceVersion":"9"},"spec":\xff}}'
        )
        audited.sees()
        assert [reference.name for reference in audited.auditor.inventory.unreadable] == ["web"]


class TestOwners:
    def test_a_pod_is_judged_at_its_owner_and_by_itself_once_that_is_gone(self, audit_of: AuditOf) -> None:
        deployment = with_uid(workload(), "u-web")
        replica_set = with_uid(owned(workload("ReplicaSet", name="web-1"), deployment, "u-web"), "u-1")
        audited = audit_of(deployment, replica_set, owned(workload("Pod", name="web-1-a"), replica_set, "u-1"))
        assert audited.found() == ["Deployment shop/web"]
        audited.cluster.put(workload("Pod", name="web-1-a"))  # orphaned
        audited.sees("Deployment shop/web", "Pod shop/web-1-a")

    def test_of_replica_sets_only_metadata_is_asked_for_and_a_bare_one_is_read_whole(self, audit_of: AuditOf) -> None:
        deployment = with_uid(workload(), "u-web")
        replica_set = with_uid(owned(workload("ReplicaSet", name="web-1"), deployment, "u-web"), "u-1")
        audited = audit_of(deployment, replica_set, workload("ReplicaSet", name="bare"))
        assert audited.found() == ["Deployment shop/web", "ReplicaSet shop/bare"]
        assert audited.cluster.accepts["replicasets"] == {METADATA_LIST, METADATA_OBJECT}
        reads = [path for verb, path in audited.cluster.calls if verb == "get" and "replicasets" in path]
        assert reads == [f"{SHOP}/replicasets/bare"]

    def test_another_object_of_its_owner_s_name_answers_for_nothing(self, audit_of: AuditOf) -> None:
        deployment = with_uid(workload("Deployment", FINE), "u-web")
        replica_set = with_uid(owned(workload("ReplicaSet", name="web-1"), deployment, "u-web"), "u-1")
        audited = audit_of(deployment, replica_set)
        assert audited.found() == []
        audited.cluster.put(with_uid(workload(), "u-again"))
        audited.sees("Deployment shop/web")  # watches of two kinds are in no order to each other
        replica_set["metadata"]["labels"] = {"changed": "yes"}
        audited.cluster.put(replica_set)
        audited.sees("Deployment shop/web", "ReplicaSet shop/web-1")

    def test_an_owner_that_is_heard_of_later_is_asked_for(self, audit_of: AuditOf) -> None:
        audited = audit_of()
        deployment = with_uid(workload("Deployment", FINE), "u-web")
        audited.cluster.objects[f"{SHOP}/deployments/web"] = deployment
        audited.cluster.put(owned(workload("ReplicaSet", name="web-1"), deployment, "u-web"))
        audited.cluster.put(workload(name="after"))
        audited.sees("Deployment shop/after")

    def test_a_claim_is_judged_by_itself_once_its_stateful_set_is_gone(
        self, audit_of: AuditOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judged: set[str] = set()
        keep = Inventory._keep

        def spy(self: Inventory, reference: Reference, group: str, judgement: Judgement | None) -> None:
            if judgement is not None:
                judged.add(str(judgement.object))
            keep(self, reference, group, judgement)

        monkeypatch.setattr(Inventory, "_keep", spy)
        database = workload("StatefulSet", FINE, name="db")
        database["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
        metadata = {"namespace": "shop", "name": "data-db-0"}
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}}
        audited = audit_of(claim, database, text=every_policy(zonal_volumes="mode: deny"))
        assert judged == {"StatefulSet shop/db"}
        audited.cluster.remove(f"{SHOP}/statefulsets/db")
        claimed = "PersistentVolumeClaim shop/data-db-0"
        eventually(lambda: audited.reconcile() or claimed in judged, "the claim is judged nowhere", 5)


class TestFacts:
    def test_a_limit_range_lists_its_namespace_again(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload(), named("other"))
        audited.cluster.calls.clear()
        audited.cluster.put(limit_range(default="1Gi"))
        audited.sees()
        lists = {path for verb, path in audited.cluster.calls if verb == "list"}
        assert {path for path in lists if "/namespaces/shop/" not in path} == set()
        assert f"{SHOP}/deployments" in lists
        audited.pass_time(6)
        audited.cluster.remove("/api/v1/namespaces/shop/limitranges/defaults")
        audited.sees("Deployment shop/web")

    def test_a_namespace_is_listed_at_most_every_five_seconds(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload())
        audited.auditor.inventory.stale.add("shop")
        audited.reconcile()
        audited.auditor.inventory.stale.add("shop")
        audited.cluster.calls.clear()
        audited.reconcile()
        assert audited.cluster.calls == []
        audited.pass_time(5.1)
        audited.reconcile()
        assert ("list", f"{SHOP}/deployments") in audited.cluster.calls
        assert audited.auditor.inventory.stale == set()

    def test_a_large_namespace_that_is_stale_all_the_time_holds_up_no_other(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload(), named("a-large-one"))

        def change() -> None:
            audited.auditor.inventory.stale.add("a-large-one")
            if any(verb == "list" and "/a-large-one/" in path for verb, path in audited.cluster.calls):
                audited.pass_time(20)
            audited.cluster.calls.clear()

        audited.during = change
        audited.auditor.inventory.stale |= {"a-large-one", "shop"}
        for _ in range(5):
            audited.reconcile()
            audited.auditor.inventory.stale.add("a-large-one")
        assert audited.auditor.inventory.stale == {"a-large-one"}

    def test_changed_nodes_judge_everything_again_at_most_every_five_minutes(self, audit_of: AuditOf) -> None:
        text = every_policy(prometheus_memory="mode: deny")
        audited = audit_of(workload(), text=text)
        first = audited.kept.whole_at
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "a"},
            "status": {"allocatable": {"memory": "8Gi"}},
        }
        audited.cluster.put(node)
        eventually(lambda: audited.reconcile() or audited.auditor._is_stale, "the node is not seen", 5)
        audited.pass_time(298)
        audited.reconcile()
        assert audited.kept.whole_at == first
        audited.pass_time(3)
        audited.reconcile()
        assert audited.kept.whole_at > first


class TestWhole:
    def whole_at(self, audited: Auditing) -> float:
        audited.reconcile()
        return audited.kept.whole_at

    def test_everything_is_audited_every_six_hours(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload())
        audited.now = NOW.replace(hour=0)
        first = audited.kept.whole_at
        audited.pass_time(6 * 3600)
        assert self.whole_at(audited) == first
        audited.pass_time(1)
        assert self.whole_at(audited) > first

    def test_on_a_new_day_exemptions_end(self, audit_of: AuditOf) -> None:
        exemption = "{policy: memory-limits, match: {namespaces: [shop]}, owner: a, reason: b, until: 2026-11-27}"
        audited = audit_of(workload(), text=f"{DENY}\nexemptions: [{exemption}]")
        outcomes = [counted.outcome for counted in audited.kept.counts]
        audited.pass_time(12 * 3600 - 1)
        audited.reconcile()
        outcomes += [counted.outcome for counted in audited.kept.counts]
        audited.pass_time(1)
        audited.reconcile()
        outcomes += [counted.outcome for counted in audited.kept.counts]
        assert outcomes == ["exempted", "exempted", "denied"]

    def test_what_vanished_unheard_is_forgotten(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload(), workload(name="other"))
        del audited.cluster.objects[f"{SHOP}/deployments/other"]
        audited.pass_time(6 * 3600 + 1)
        audited.sees("Deployment shop/web")

    def test_a_kind_that_ceases_to_be_served_leaves_nothing(self, audit_of: AuditOf) -> None:
        cluster = WatchedCluster(groups={"apps": "v1", "batch": "v1", "monitoring.coreos.com": "v1"})
        audited = audit_of(custom("Prometheus", {}), cluster=cluster)
        assert audited.found() == ["Prometheus shop/main"]

        def is_of_prometheus(watch: Response) -> bool:
            return watch.is_open and watch.path.endswith("/prometheuses")

        gone = ClusterRefused(404, "NotFound", "the server could not find the requested resource")
        cluster.fail["list", "/prometheuses"] = [gone] * 9
        audited.pass_time(6 * 3600 + 1)
        audited.sees()
        cluster.fail.clear()
        audited.pass_time(61)
        audited.sees("Prometheus shop/main")
        eventually(lambda: sum(map(is_of_prometheus, cluster.watches)) == 1, "the watch before goes on", 5)

    def test_an_audit_of_many_objects_beats_among_them(self, audit_of: AuditOf) -> None:
        audited = audit_of(*(workload(name=f"web-{number}") for number in range(120)))
        assert audited.beats == len(audited.served()) + 2

    def test_a_whole_audit_beats_on_every_page(self, audit_of: AuditOf) -> None:
        audited = audit_of(*(workload(name=f"web-{number}") for number in range(3)))
        assert audited.beats == len(audited.served())


class AsItWas(WatchedCluster):
    """Every page of a list shows the cluster as it was at the first one, as an API server's does."""

    was: dict[str, Object]

    def read(self, path: str, query: Mapping[str, str], *rest: Any, **named: Any) -> bytes:
        if "continue" not in query:
            self.was = dict(self.objects)
        now, self.objects = self.objects, self.was
        try:
            return super().read(path, query, *rest, **named)
        finally:
            self.objects = now


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(lambda cluster: cluster.put(workload("Deployment", FINE, name="b")), ["a"], id="mended"),
        pytest.param(lambda cluster: cluster.remove(f"{SHOP}/deployments/b"), ["a"], id="deleted"),
        pytest.param(lambda cluster: cluster.put(workload(name="c")), ["a", "b", "c"], id="made"),
    ],
)
def test_what_changes_while_a_list_is_read_is_newer_than_the_list(
    audit_of: AuditOf, monkeypatch: pytest.MonkeyPatch, change: Callable[[WatchedCluster], object], left: list[str]
) -> None:
    monkeypatch.setattr("webhook.cluster.lists.PAGE", 1)
    audited = audit_of(workload(name="a"), workload(name="b"), cluster=AsItWas())
    lists = 0

    def during() -> None:
        nonlocal lists
        listed = [path for verb, path in audited.cluster.calls if verb == "list" and path.endswith("/deployments")]
        if lists == 0 and listed:  # after the first page of the Deployments
            lists = 1
            change(audited.cluster)
            following = audited.auditor.inventory._following
            eventually(lambda: following._waiting, "the change isn't heard", 5)

    audited.cluster.calls.clear()
    audited.during = during
    audited.pass_time(6 * 3600 + 1)
    audited.reconcile()
    assert lists == 1
    assert audited.found() == [f"Deployment shop/{name}" for name in left]


class TestTrouble:
    def test_a_kind_that_is_refused_costs_itself_alone_and_is_tried_again(self, audit_of: AuditOf) -> None:
        cluster = WatchedCluster()
        cluster.fail["list", "/deployments"] = [ClusterRefused(403, "Forbidden", "no")] * 2
        for obj in (named("shop"), workload(), workload("Pod", name="one")):
            cluster.put(obj)
        audited = Auditing(cluster)

        def asked() -> int:
            return cluster.calls.count(("list", "/apis/apps/v1/deployments"))

        try:
            eventually(lambda: audited.reconcile() or audited.kept.whole_at, "it waits for what is refused", 10)
            assert audited.found() == ["Pod shop/one"]
            assert audited.auditor.troubles == {"deployments.apps": "no (403)"}
            audited.pass_time(59)
            audited.reconcile()
            assert asked() == 1
            audited.pass_time(2)
            audited.reconcile()
            assert (asked(), audited.found()) == (2, ["Pod shop/one"])
            audited.pass_time(62)
            audited.sees("Deployment shop/web", "Pod shop/one")
            assert "deployments.apps" not in audited.auditor.troubles
        finally:
            audited.auditor.stop()

    def test_findings_stay_while_no_answer_comes_and_nothing_is_missed(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload())
        first = audited.kept.whole_at
        audited.pass_time(6 * 3600 + 1)
        audited.cluster.trouble = FactsUnavailable("no answer")
        audited.reconcile()
        audited.pass_time(10)
        audited.reconcile()
        assert (audited.found(), audited.kept.whole_at) == (["Deployment shop/web"], first)
        audited.cluster.trouble = None
        del audited.cluster.objects[f"{SHOP}/deployments/web"]
        audited.cluster.objects[f"{SHOP}/deployments/new"] = workload(name="new") | {
            "metadata": {"name": "new", "namespace": "shop", "uid": "u-new", "resourceVersion": "1"}
        }
        audited.pass_time(61)
        audited.sees("Deployment shop/new")
        assert audited.kept.whole_at > first

    def test_an_expired_watch_lists_its_kind_again(self, audit_of: AuditOf) -> None:
        audited = audit_of(workload())
        watch = next(watch for watch in audited.cluster.watches if watch.path.endswith("/deployments"))
        del audited.cluster.objects[f"{SHOP}/deployments/web"]
        audited.cluster.objects[f"{SHOP}/deployments/new"] = workload(name="new") | {
            "metadata": {"name": "new", "namespace": "shop", "uid": "u-new", "resourceVersion": "1"}
        }
        watch.tell("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        audited.sees("Deployment shop/new")


def row(finding: Finding) -> tuple[str, ...]:
    verdict = finding.verdict
    return str(finding.object), verdict.policy, verdict.outcome, verdict.violation.path, verdict.violation.message


def test_it_finds_what_forestall_audit_finds(audit_of: AuditOf) -> None:
    """Of the corpus, as it would be stored in one namespace."""
    cluster = WatchedCluster(groups={"apps": "v1", "batch": "v1", "monitoring.coreos.com": "v1"})
    objects = [{**of.object, "metadata": {"namespace": "shop", **of.object["metadata"]}} for of in manifests()]
    audited = audit_of(*objects, text="mode: audit", cluster=cluster)
    facts = audited.auditor.inventory.facts
    by_command = audit(cluster, config("mode: audit"), facts, lambda of: of.namespace, today=NOW.date())
    found = [row(finding) for _, findings in by_command.by_team() for finding in findings]
    kept = [
        row(finding) for of in audited.kept.by_namespace.values() for findings in of.values() for finding in findings
    ]
    assert sorted(kept) == sorted(found)
    assert len(found) > 100


def test_what_is_judged_is_what_active_policies_judge() -> None:
    assert kinds_to_judge(config("mode: off")) == []
    only = kinds_to_judge(config(every_policy(namespace_defaults="mode: audit")))
    assert only == [GroupKind("", "Namespace", "namespaces")]
    kinds = [kind.kind for kind in kinds_to_judge(config(every_policy(zonal_volumes="mode: deny")))]
    assert kinds.index("Prometheus") < kinds.index("StatefulSet") < kinds.index("PersistentVolumeClaim")
    assert kinds.index("Deployment") < kinds.index("ReplicaSet") < kinds.index("Pod")


def test_what_an_object_names_is_looked_up_when_it_is_judged(audit_of: AuditOf) -> None:
    """A Prometheus on an emptyDir, whose ConfigMap says that it sends its series elsewhere."""
    mounts = [{"name": "data", "mountPath": "/prometheus"}, {"name": "config", "mountPath": "/etc/prometheus"}]
    volumes = [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "config", "configMap": {"name": "it"}}]
    server = container("prometheus", "prom/prometheus:v3.9.1", volumeMounts=mounts)
    sends = config_map("it", prometheus_yml="remote_write: [{url: https://example.com}]")
    keeps = config_map("it2", prometheus_yml="global: {}")
    text = every_policy(metrics_durability="mode: deny, params: {readConfigMaps: true}")
    audited = audit_of(workload("Deployment", server, name="sends", volumes=volumes), sends, keeps, text=text)
    assert audited.found() == []
    volumes = [volumes[0], {"name": "config", "configMap": {"name": "it2"}}]
    audited.cluster.put(workload("Deployment", server, name="keeps", volumes=volumes))
    audited.sees("Deployment shop/keeps")


def test_a_policy_s_bug_is_logged_once_and_quotes_no_object(
    audit_of: AuditOf, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    def failing(*given: Any) -> Judgement | None:
        found = judge(*given)
        failures = {"memory-limits": ValueError("s3cret" * 1000)}
        return found and found._replace(decision=msgspec.structs.replace(found.decision, failures=failures))

    monkeypatch.setattr("webhook.auditor.inventory.judge", failing)
    audit_of(workload(), workload(name="other"))
    (line,) = (line for line in logged.lines if line["event"] == "policy failed")
    assert (line["policy"], line["object"]) == ("memory-limits", "Deployment shop/other")
    assert line["exception"] == f"ValueError: {'s3cret' * 1000}"[:500] + "\n"
