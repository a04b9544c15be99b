"""Reports on a cluster in memory: what they say, how often they are written, and whatever becomes of them."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from tests.auditor.conftest import Logged
from tests.auditor.findings import drop, finding, put
from tests.auditor.world import OWN, World
from tests.builders import ROOT
from tests.memory_cluster import MemoryCluster
from webhook.auditor.kept import Kept
from webhook.auditor.places import CUSTOM
from webhook.auditor.report import MOST_BYTES, report_content
from webhook.auditor.reports import Reports, delete_all
from webhook.auditor.severity import result_of
from webhook.auditor.uninstall import remove_all
from webhook.cluster.client import Cluster
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.findings import Finding
from webhook.installation import AUDITOR, HISTORY, NOTIFIED, REPORT_LABEL, SEEN
from webhook.messages import incident
from webhook.policy import Object

WG = "/apis/wgpolicyk8s.io/v1alpha2"
OPEN = "/apis/openreports.io/v1alpha1"
SHOP = f"{WG}/namespaces/shop/policyreports/forestall"
IN_CONFIG_MAP = f"/api/v1/namespaces/{OWN}/configmaps/forestall-report.shop"


def serve(cluster: MemoryCluster, root: str, *resources: str) -> None:
    cluster.objects[root] = {"metadata": {}, "resources": [{"name": resource} for resource in resources]}


class Reported(World):
    """A cluster that serves these groups of reports, and the reports of what is found in it."""

    def __init__(self, *roots: str) -> None:
        self.most = 100
        super().__init__()
        if WG in roots:
            serve(self.cluster, WG, "policyreports", "clusterpolicyreports")
        if OPEN in roots:
            serve(self.cluster, OPEN, "reports", "clusterreports")

    def make(self, cluster: Cluster) -> Reports:
        return Reports(cluster, OWN, self.seen, self.most, self.clock)

    def written(self) -> list[str]:
        """The writes of reports since the last time."""
        calls = [f"{verb} {path}" for verb, path in self.cluster.calls if verb in ("create", "replace", "delete")]
        self.cluster.calls.clear()
        return [call for call in calls if not call.endswith("configmaps") and "audit-seen" not in call]

    def paths(self) -> set[str]:
        return {path for path in self.cluster.objects if "report" in path and path not in (WG, OPEN)}

    def report(self, path: str = SHOP) -> Object:
        return self.cluster.objects[path]


def world(*roots: str) -> Reported:
    """A cluster with one finding in namespace shop, whose report is written."""
    made = Reported(*(roots or (WG,)))
    put(made.kept, finding())
    made.take()
    made.written()
    return made


@pytest.mark.parametrize(
    ("roots", "paths"),
    [
        pytest.param([WG], {SHOP, f"{WG}/clusterpolicyreports/forestall"}, id="policy-reports"),
        pytest.param(
            [OPEN], {f"{OPEN}/namespaces/shop/reports/forestall", f"{OPEN}/clusterreports/forestall"}, id="reports"
        ),
        pytest.param([WG, OPEN], {SHOP, f"{WG}/clusterpolicyreports/forestall"}, id="both"),
        pytest.param([], {IN_CONFIG_MAP, IN_CONFIG_MAP.replace(".shop", ".of.cluster")}, id="neither"),
    ],
)
def test_reports_are_what_the_cluster_serves(roots: list[str], paths: set[str]) -> None:
    here = Reported(*roots)
    put(here.kept, finding(), finding("team-a", namespace=""))
    here.take()
    assert here.paths() == paths


def test_a_report_says_what_policy_reporter_reads() -> None:
    report = world().report()
    identity = report["results"][0]["properties"].pop("resultID")
    assert len(identity) == 16
    assert report["results"] == [
        {
            "source": "forestall",
            "policy": "memory-limits",
            "category": incident("memory-limits"),
            "result": "fail",
            "severity": "high",
            "scored": True,
            "message": "no limit (would be denied)",
            "resources": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "shop"}],
            "properties": {
                "outcome": "audited",
                "enforcement": "deny",
                "path": "spec.app.memory",
                "container": "app",
                "team": "red",
            },
            "timestamp": {"seconds": 1795780800, "nanos": 0},
        }
    ]
    assert report["summary"] == {"pass": 0, "fail": 1, "warn": 0, "error": 0, "skip": 0}


@pytest.mark.parametrize(
    ("found", "result"),
    [
        pytest.param(finding(), "fail", id="would-be-denied"),
        pytest.param(finding(enforced="patch"), "fail", id="would-be-patched"),
        pytest.param(finding(outcome="patched", enforced=None), "fail", id="patched"),
        pytest.param(finding(enforced=None), "warn", id="enforcing-changes-nothing"),
        pytest.param(finding(outcome="exempted", enforced=None), "skip", id="exempted"),
        pytest.param(finding(outcome="unknown"), "error", id="unknown"),
        pytest.param(finding(outcome="failed"), "error", id="failed"),
    ],
)
def test_results(found: Finding, result: str) -> None:
    assert result_of(found.verdict.outcome, found.enforcement) == result


def content_of(found: list[Finding], most: int) -> Object:
    kept = Kept()
    put(kept, *found)
    return report_content(kept.by_namespace["shop"], kept.counts_of("shop"), {}, lambda _: 0, most)


def test_of_an_object_with_thousands_of_findings_all_are_counted() -> None:
    found = [finding(subject=f"app-{index}", enforced="deny" if index == 2999 else "patch") for index in range(3000)]
    content = content_of(found, 500)
    assert len(content["results"]) == 100
    assert content["results"][0]["properties"]["container"] == "app-2999"
    assert content["summary"] == {"pass": 0, "fail": 3000, "warn": 0, "error": 0, "skip": 0}


def test_the_worst_come_first_and_the_rest_is_counted() -> None:
    found = [
        finding("d", outcome="exempted", enforced=None),
        finding("c", enforced=None),
        finding("b", enforced="patch"),
        finding("a", enforced="patch"),
        finding("z"),
    ]
    content = content_of(found, 4)
    assert [result["resources"][0]["name"] for result in content["results"]] == ["z", "a", "b", "c"]
    assert content["summary"] == {"pass": 0, "fail": 3, "warn": 1, "error": 0, "skip": 1}


def test_what_is_left_out_is_said_and_a_new_size_is_followed() -> None:
    here = world()
    put(here.kept, *(finding(f"web-{index}") for index in range(4)))
    here.most = 2
    here.lead()
    here.pass_time(6)
    assert here.report()["metadata"]["annotations"] == {"forestall.dev/left-out": "3"}
    here.most = 10
    here.lead()
    here.pass_time(6)
    assert (len(here.report()["results"]), "annotations" in here.report()["metadata"]) == (5, False)


def test_results_never_outgrow_an_object() -> None:
    wide = "\U0001f4a3" * 2000
    found = [finding(f"web-{index}", message=wide, path=wide, hint=wide) for index in range(500)]
    content = content_of(found, 500)
    sizes = [len(msgspec.json.encode(result)) for result in content["results"]]
    assert sum(sizes) <= MOST_BYTES < sum(sizes) + max(sizes)
    assert content["summary"]["fail"] == 500


def test_an_unchanged_verdict_is_not_written_again() -> None:
    here = world()
    here.kept.changed = {"shop"}
    here.pass_time(120)
    assert here.written() == []
    here.lead()
    here.pass_time(120)
    assert here.written() == []


def test_a_timestamp_stays_whatever_happens_and_whoever_leads() -> None:
    here = world()
    begun = here.report()["results"][0]["timestamp"]
    here.pass_time(90)
    put(here.kept, finding(), finding(subject="sidecar"))
    here.pass_time(90)
    here.lead()
    here.pass_time(90)
    times = {result["properties"]["container"]: result["timestamp"] for result in here.report()["results"]}
    assert times == {"app": begun, "sidecar": {"seconds": begun["seconds"] + 91, "nanos": 0}}


def test_a_namespace_is_written_every_five_seconds_at_most() -> None:
    here = world()
    for number in range(1, 13):
        put(here.kept, finding(message=f"no limit {number}"))
        here.pass_time(1)
    assert here.written() == [f"replace {SHOP}"] * 2
    here.pass_time(5)
    assert here.report()["results"][0]["message"] == "no limit 12 (would be denied)"


def test_ten_reports_are_written_in_a_second() -> None:
    here = Reported(WG)
    put(here.kept, *(finding(namespace=f"ns-{number:02}") for number in range(25)))
    here.take()
    here.take()
    assert len(here.written()) == 10
    here.pass_time(1)
    assert len(here.written()) == 10
    here.pass_time(1)
    assert len(here.written()) == 5


@pytest.mark.parametrize("is_dropped", [True, False], ids=["mended", "of-a-leader-before"])
def test_no_report_stays_without_findings(is_dropped: bool) -> None:
    here = world()
    here.pass_time(6)
    if is_dropped:
        drop(here.kept)
    else:
        here.kept = Kept()
        here.lead()
    here.pass_time(1)
    assert (here.paths(), here.written()) == (set(), [f"delete {SHOP}"])


def edit(report: Object) -> None:
    report["results"] = []


def strip(report: Object) -> None:
    report["metadata"]["labels"] = {}


def garble(report: Object) -> None:
    report["results"] = [{"policy": "x", "timestamp": "yesterday"}]
    report["summary"] = "fine"


@pytest.mark.parametrize("change", [edit, strip, garble, None], ids=["edited", "labels-gone", "garbled", "deleted"])
def test_what_somebody_does_to_a_report_is_undone(change: Any) -> None:
    here = world()
    before = here.report()
    results = before["results"]
    if change is None:
        del here.cluster.objects[SHOP]
    else:
        edited = {**before, "metadata": {**before["metadata"]}}
        change(edited)
        here.cluster.put({**edited, "kind": "PolicyReport"})
    here.pass_time(31)
    assert here.report()["results"] == results
    assert here.report()["metadata"]["labels"]["forestall.dev/report"] == "true"


def test_labels_and_annotations_of_others_stay() -> None:
    here = world()
    metadata = {**here.report()["metadata"], "annotations": {"theirs": "1"}}
    metadata["labels"] = {**metadata["labels"], "theirs": "1"}
    here.cluster.put({**here.report(), "metadata": metadata})
    put(here.kept, finding(message="another"))
    here.pass_time(6)
    metadata = here.report()["metadata"]
    assert (metadata["annotations"], metadata["labels"]["theirs"]) == ({"theirs": "1"}, "1")
    assert here.report()["results"][0]["message"] == "another (would be denied)"


def theirs(name: str, labels: dict[str, str]) -> Object:
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return {"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport", "metadata": metadata, "results": []}


def test_reports_of_others_are_left_alone() -> None:
    here = Reported(WG)
    taken = here.cluster.put(theirs("forestall", {"app.kubernetes.io/managed-by": "kyverno"}))
    other = here.cluster.put(theirs("cpol-x", {"app.kubernetes.io/managed-by": "kyverno"}))
    copied = here.cluster.put(theirs("mine", {"forestall.dev/report": "true"}))
    put(here.kept, finding())
    here.pass_time(40)
    drop(here.kept)
    here.pass_time(40)
    delete_all(cast("Cluster", here.cluster), OWN)
    assert here.written() == []
    assert [here.report(SHOP), here.report(f"{SHOP[:-9]}cpol-x"), here.report(f"{SHOP[:-9]}mine")] == [
        taken,
        other,
        copied,
    ]


def test_a_kind_that_goes_and_comes_back_leaves_nothing_behind() -> None:
    here = world()
    times = here.report()["results"][0]["timestamp"]
    del here.cluster.objects[WG], here.cluster.objects[SHOP]
    here.pass_time(31)
    assert here.paths() == {IN_CONFIG_MAP}
    serve(here.cluster, OPEN, "reports", "clusterreports")
    here.pass_time(31)
    assert here.paths() == {f"{OPEN}/namespaces/shop/reports/forestall"}
    serve(here.cluster, WG, "policyreports", "clusterpolicyreports")
    here.pass_time(31)
    assert (here.paths(), here.report()["results"][0]["timestamp"]) == ({SHOP}, times)


def test_a_namespace_that_is_being_deleted_gets_no_report() -> None:
    here = Reported(WG)
    going = {"name": "shop", "deletionTimestamp": "2026-11-27T12:00:00Z"}
    here.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": going})
    here.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN}})
    put(here.kept, finding())
    here.pass_time(60)
    assert here.paths() == set()
    assert 0 < len(here.written()) < 15


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(FactsUnavailable("no answer"), id="gone"),
        pytest.param(ClusterRefused(429, "TooManyRequests", "busy", retry_after=7), id="busy"),
        pytest.param(ClusterRefused(403, "Forbidden", "no"), id="forbidden"),
        pytest.param(ClusterRefused(500, "InternalError", "oops"), id="failing"),
    ],
)
def test_an_api_server_in_trouble_is_asked_again(error: Exception, logged: Logged) -> None:
    here = Reported(WG)
    here.take()
    put(here.kept, finding())
    here.seen.take(here.kept, here.now)
    here.cluster.trouble = error
    here.pass_time(60)
    assert len(here.cluster.calls) < 30
    told = [(line["about"], line["error"]) for line in logged.lines if line["event"] == "no report"]
    assert told
    assert len(told) == len(set(told))
    here.cluster.trouble = None
    here.pass_time(31)
    assert here.paths() == {SHOP}


REFUSALS = [
    pytest.param(ClusterRefused(413, "RequestEntityTooLarge", "too large"), id="too-large"),
    pytest.param(ClusterRefused(500, "InternalError", "etcdserver: request is too large"), id="too-large-for-etcd"),
    pytest.param(ClusterRefused(429, "TooManyRequests", "busy"), id="busy"),
    pytest.param(FactsUnavailable("no answer"), id="no-answer"),
]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_report_that_is_never_taken_holds_up_no_other(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write a namespace's reports can make theirs too large to be written."""
    here = Reported(WG)
    create = here.cluster.create

    def create_others(path: str, obj: Object, **options: Any) -> Any:
        if "/evil/" in path:
            raise error
        return create(path, obj, **options)

    monkeypatch.setattr(here.cluster, "create", create_others)
    put(here.kept, finding(namespace="evil"), finding(namespace="shop"))
    here.pass_time(20)
    put(here.kept, finding(namespace="later"))
    here.pass_time(20)
    assert here.paths() == {SHOP, SHOP.replace("/shop/", "/later/")}


@pytest.mark.parametrize("error", REFUSALS)
def test_a_report_that_can_t_be_deleted_holds_up_no_other(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Reported(WG)
    delete = here.cluster.delete

    def delete_others(path: str, *conditions: str) -> None:
        if "/evil/" in path:
            raise error
        delete(path, *conditions)

    monkeypatch.setattr(here.cluster, "delete", delete_others)
    put(here.kept, finding(namespace="evil"), finding())
    here.pass_time(2)
    here.kept = Kept()
    here.lead()
    here.pass_time(80)
    assert here.paths() == {SHOP.replace("/shop/", "/evil/")}


def test_nothing_is_written_before_it_is_known_when_findings_were_seen() -> None:
    here = Reported(WG)
    put(here.kept, finding())
    here.taker.take(here.kept, here.now)
    assert (here.cluster.calls, here.paths()) == ([], set())
    here.pass_time(1)
    assert here.paths() == {SHOP}


def test_an_answer_that_is_lost_doubles_nothing() -> None:
    here = Reported(WG)
    put(here.kept, finding())
    create = here.cluster.create

    def lost(path: str, obj: Object, **options: Any) -> Any:
        create(path, obj, **options)
        here.cluster.create = create  # type: ignore[method-assign]
        raise FactsUnavailable("killed in the middle")

    here.seen.take(here.kept, here.now)
    here.cluster.create = lost  # type: ignore[method-assign]
    here.pass_time(10)
    assert here.paths() == {SHOP}
    assert here.written() == [f"create {SHOP.rpartition('/')[0]}"]


def test_an_uninstallation_deletes_all_of_them() -> None:
    here = world()
    serve(here.cluster, OPEN, "reports", "clusterreports")
    put(here.kept, finding("team-a", namespace=""))
    here.pass_time(6)
    assert delete_all(cast("Cluster", here.cluster), OWN) == 2
    assert here.paths() == set()


def test_a_report_that_can_t_be_deleted_is_told_once_all_others_are_gone() -> None:
    here = world()
    put(here.kept, finding(namespace="also"), finding(namespace="last"))
    here.pass_time(6)
    here.cluster.fail["delete", "/shop/policyreports/forestall"] = [ClusterRefused(403, "Forbidden", "no")]
    with pytest.raises(ClusterRefused, match="no"):
        delete_all(cast("Cluster", here.cluster), OWN)
    assert here.paths() == {SHOP}


def lease(holder: str) -> Object:
    metadata = {"name": "forestall-auditor", "namespace": OWN}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"holderIdentity": holder},
    }


@pytest.mark.parametrize(
    ("holder", "waited"),
    [
        pytest.param("a", [11.0], id="one-leads"),
        pytest.param("", [], id="nobody-leads"),
        pytest.param(None, [], id="no-lease"),
    ],
)
def test_nothing_is_left_once_no_auditor_leads(holder: str | None, waited: list[float]) -> None:
    here = world()
    if holder is not None:
        here.cluster.put(lease(holder))
    here.cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": OWN}})
    sleeps: list[float] = []
    assert remove_all(cast("Cluster", here.cluster), OWN, sleeps.append) == 1
    assert sleeps == waited
    here.cluster.objects.pop(WG)
    leases = [obj["spec"]["holderIdentity"] for path, obj in here.cluster.objects.items() if "leases" in path]
    assert leases == ([] if holder is None else ["uninstall"])
    assert {path.rpartition("/")[2] for path in here.cluster.objects if "leases" not in path} == {"mine"}


def test_a_lease_that_is_renewed_meanwhile_is_taken_all_the_same() -> None:
    here = world()
    here.cluster.put(lease("a"))
    here.cluster.fail["replace", "forestall-auditor"] = [Conflict(409, "Conflict", "modified")] * 2
    assert remove_all(cast("Cluster", here.cluster), OWN, lambda _: None) == 1


def test_the_page_deletes_every_kind_of_report_and_every_record() -> None:
    page = (ROOT / "docs" / "auditor.md").read_text()
    for group in {form.group for form in CUSTOM}:
        resources = ",".join(f"{form.resource}.{group}" for form in CUSTOM if form.group == group)
        options = f"--all-namespaces \\\n  --selector {REPORT_LABEL}=true --wait=false"
        assert f"kubectl delete {resources} {options}\n" in page
    assert f"kubectl delete configmaps --namespace {OWN} --selector {REPORT_LABEL}=true\n" in page
    assert all(f"configmap/{name}" in page for name in (HISTORY, SEEN, NOTIFIED))
    assert f"lease/{AUDITOR}" in page
