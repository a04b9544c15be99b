"""Reports and notifications of a running `forestall auditor`, with the chart's rights, on a real control plane."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.builders import SHARED
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.auditing import LIMITED, UNLIMITED, WITHIN, apply, auditing, grant
from tests.e2e.guarded import claim, deployment, has_helm, storage_class, volume
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from tests.receiver import receiver
from webhook.audit.history import read_history
from webhook.policy import Object

CRDS = SHARED / "cluster" / "crds"
WG = ("policyreports.wgpolicyk8s.io", "clusterpolicyreports.wgpolicyk8s.io")
OPEN = ("reports.openreports.io", "clusterreports.openreports.io")
_MOVED_WITHIN = 45
"""Seconds in which reports follow the kinds that are served, and what somebody does to them."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    if not CRDS.is_dir():
        pytest.skip("the CustomResourceDefinitions of reports aren't there")
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        grant(running, "config.notifications.secret.name=hook")
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("mode: audit\n")
    return file


def serve(plane: ControlPlane, resources: tuple[str, str]) -> None:
    for resource in resources:
        plural, _, group = resource.partition(".")
        plane.kubectl("apply", "--server-side", "-f", str(CRDS / f"{group}_{plural}.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{one}" for one in resources))


def unserve(plane: ControlPlane, resources: tuple[str, ...]) -> None:
    plane.kubectl("delete", "crd", *resources, "--ignore-not-found")


def reports(plane: ControlPlane, resource: str) -> dict[str, Object]:
    """Namespace, or "" -> Forestall's report, of the kinds that are served."""
    if "." in resource and f"crd/{resource}" not in plane.kubectl("get", "crd", "-o=name").replace(
        "customresourcedefinition.apiextensions.k8s.io", "crd"
    ):
        return {}
    text = plane.kubectl("get", resource, "--all-namespaces", "-l", "forestall.dev/report=true", "-o", "json")
    items = json.loads(text)["items"]
    if resource == "configmaps":
        return {
            item["metadata"]["name"].removeprefix("forestall-report."): json.loads(item["data"]["report.json"])
            for item in items
        }
    return {item["metadata"].get("namespace", ""): item for item in items}


def objects(report: Object | None) -> list[str]:
    return sorted(result["resources"][0]["name"] for result in (report or {}).get("results", ()))


def test_reports_follow_what_is_found(plane: ControlPlane, config: Path) -> None:
    serve(plane, WG)
    plane.kubectl("create", "namespace", "shop")
    apply(plane, deployment("old", "shop", UNLIMITED), deployment("good", "shop", LIMITED))

    def shop() -> Object | None:
        return reports(plane, WG[0]).get("shop")

    with auditing(plane, config) as auditor:
        eventually(lambda: objects(shop()) == ["old"], "no report")
        apply(plane, deployment("new", "shop", UNLIMITED))
        eventually(lambda: objects(shop()) == ["new", "old"], "not reported", WITHIN)
        eventually(
            lambda: violations_told(plane, "shop") == ["new"], "no Event, or one of what was there before", WITHIN
        )
        assert "PolicyViolation" in plane.kubectl("describe", "deployment", "new", "-n", "shop")
        history = json.loads(plane.kubectl("get", "configmap", "forestall-audit-history", "-n", SYSTEM, "-o", "json"))
        assert [day.day for day in read_history(history).days] == [datetime.now(UTC).date()]
        time.sleep(6)  # a report is written again every five seconds at most
        apply(plane, deployment("new", "shop", LIMITED))
        eventually(lambda: objects(shop()) == ["old"], "a mended object is still reported", WITHIN)
        report = shop()
        assert report is not None
        assert report["summary"] == {"pass": 0, "fail": 1, "warn": 0, "error": 0, "skip": 0}
        plane.kubectl("patch", WG[0], "forestall", "-n", "shop", "--type=merge", "-p", '{"results": [], "summary": {}}')
        eventually(lambda: objects(shop()) == ["old"], "an edited report stays edited", _MOVED_WITHIN)
        cluster_wide = reports(plane, WG[1])[""]
        assert {result["policy"] for result in cluster_wide["results"]} == {"namespace-defaults"}
        before = {namespace: one["metadata"]["resourceVersion"] for namespace, one in reports(plane, WG[0]).items()}
        timestamp = shop_timestamp(shop())
    with auditing(plane, config, "again") as auditor:
        eventually(lambda: auditor.metric("forestall_audit_last_whole_timestamp_seconds") > 0, "no audit")
        time.sleep(5)
        after = {namespace: one["metadata"]["resourceVersion"] for namespace, one in reports(plane, WG[0]).items()}
        assert after == before
        assert shop_timestamp(shop()) == timestamp
        plane.kubectl("delete", "namespace", "shop")
        eventually(lambda: "shop" not in reports(plane, WG[0]), "a report of a namespace that is gone", WITHIN)
        time.sleep(3)
        assert "shop" not in reports(plane, WG[0])
        assert [line for line in auditor.events("no report") if "shop" in line["about"]] == []


def violations_told(plane: ControlPlane, namespace: str) -> list[str]:
    """The objects of the namespace on which an Event tells of a violation."""
    events = json.loads(plane.kubectl("get", "events.v1.events.k8s.io", "-n", namespace, "-o", "json"))["items"]
    return [event["regarding"]["name"] for event in events if event["reason"] == "PolicyViolation"]


def shop_timestamp(report: Object | None) -> Any:
    return (report or {})["results"][0]["timestamp"]


def test_reports_are_of_the_kind_that_is_served(plane: ControlPlane, config: Path) -> None:
    unserve(plane, (*WG, *OPEN))
    plane.kubectl("create", "namespace", "moved")
    apply(plane, deployment("web", "moved", UNLIMITED))

    def are_only(resource: str, name: str = "moved") -> Callable[[], bool]:
        kinds = ("configmaps", WG[0], OPEN[0])
        return lambda: (
            all(bool(reports(plane, kind)) == (kind == resource) for kind in kinds)
            and objects(reports(plane, resource).get(name)) == ["web"]
        )

    with auditing(plane, config):
        eventually(are_only("configmaps"), "no ConfigMap")
        serve(plane, OPEN)
        eventually(are_only(OPEN[0]), "no Report, or a ConfigMap that stays", _MOVED_WITHIN)
        serve(plane, WG)
        eventually(are_only(WG[0]), "no PolicyReport, or a Report that stays", _MOVED_WITHIN)
        unserve(plane, WG)
        eventually(are_only(OPEN[0]), "no Report once PolicyReports are gone", _MOVED_WITHIN)


def test_what_is_broken_is_told_within_a_minute(plane: ControlPlane, config: Path) -> None:
    plane.kubectl("create", "namespace", "monitoring")
    with receiver() as receiving:
        data = {"url": base64.b64encode(receiving.url.encode()).decode()}
        metadata = {"name": "hook", "namespace": SYSTEM}
        apply(plane, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        config.write_text("mode: audit\nnotifications: {secret: {name: hook}, when: change}\n")
        with auditing(plane, config) as auditor:
            apply(plane, storage_class("ebs", "ebs.csi.aws.com"), *lost_prometheus())

            def told() -> bool:
                return any("pod prometheus-0 is Pending" in posted["text"] for posted in receiving.posted)

            eventually(told, f"not told: see {auditor.log}", 240)
            seconds = (datetime.now(UTC) - unscheduled_since(plane)).total_seconds()
            print(f"told {seconds:.0f} s after PodScheduled=False")
            assert seconds < 60
            assert "s3cret" not in auditor.log.read_text()


def unscheduled_since(plane: ControlPlane) -> datetime:
    pod = json.loads(plane.kubectl("get", "pod", "prometheus-0", "-n", "monitoring", "-o", "json"))
    (condition,) = (one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
    assert condition["status"] == "False"
    return datetime.fromisoformat(condition["lastTransitionTime"])


def lost_prometheus() -> list[Object]:
    """A Prometheus whose data is in a zone that has no node."""
    labels = {"app.kubernetes.io/name": "prometheus"}
    container = {
        "name": "prometheus",
        "image": "quay.io/prometheus/prometheus:v3.5.0",
        "resources": {"limits": {"memory": "2Gi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/prometheus"}],
    }
    template = claim("data", "monitoring")
    return [
        volume("prometheus", "monitoring", "data-prometheus-0", ["gone"]),
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "prometheus", "namespace": "monitoring"},
            "spec": {
                "replicas": 1,
                "serviceName": "prometheus",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": template["spec"]}],
            },
        },
    ]


# Last: no auditor leads for two minutes afterwards.
def test_uninstalling_leaves_no_report_behind(plane: ControlPlane, config: Path) -> None:
    unserve(plane, WG)
    serve(plane, OPEN)
    plane.kubectl("create", "namespace", "left")
    apply(plane, deployment("web", "left", UNLIMITED))
    with auditing(plane, config) as auditor:
        eventually(lambda: "left" in reports(plane, OPEN[0]), "no report")
        token = plane.kubectl("create", "token", "forestall-controller", "-n", SYSTEM, "--duration=1h").strip()
        kubeconfig = plane.write_kubeconfig("uninstall", token)
        done = subprocess.run(
            [Path(sys.executable).with_name("forestall"), "hooks", "off", "--with-reports", f"--namespace={SYSTEM}"],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"reports deleted: [1-9]", done.stdout)
        assert auditor.metric("forestall_audit_leading") == 0
        time.sleep(3)
        assert reports(plane, OPEN[0]) == {}
        names = plane.kubectl("get", "configmaps", "-n", SYSTEM, "-o=name")
        assert "forestall-audit" not in names
