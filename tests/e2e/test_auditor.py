"""`forestall auditor` with the chart's rights on a real control plane: within seconds it keeps what is stored."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import deployment, has_helm
from tests.loopback import eventually
from webhook.policy import Object

SYSTEM = "forestall-system"
LIMITED = {"name": "web", "image": "nginx:1.29", "resources": {"limits": {"memory": "64Mi"}}}
UNLIMITED = {"name": "web", "image": "nginx:1.29"}
WITHIN = 10
"""Seconds in which a change of an object has to be seen."""
_SERIES = re.compile(
    r'forestall_audit_findings\{enforcement="(\w+)",namespace="([^"]*)",policy="([^"]+)",[^}]*\} (\d+)'
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        grant(running)
        yield running


def grant(plane: ControlPlane, *settings: str) -> None:
    """Give the controller's ServiceAccount what the chart with these settings gives it."""
    plane.kubectl("apply", "-f", "-", input=rendered(plane, "controller-rbac", *settings))


def rendered(plane: ControlPlane, template: str, *settings: str) -> str:
    command = [str(plane.assets / "helm"), "template", "forestall", str(ROOT / "charts" / "forestall"), "-n", SYSTEM]
    arguments = ["--show-only", f"templates/{template}.yaml", *(f"--set={setting}" for setting in settings)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, env=plane.environment)
    return done.stdout


class Auditor:
    """The container that the chart has for it, as a process; its log is in `log`."""

    def __init__(self, plane: ControlPlane, config: Path, name: str) -> None:
        token = plane.kubectl("create", "token", "forestall-controller", "-n", SYSTEM, "--duration=24h").strip()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = config.parent / f"{name}.log"
        pod = yaml.safe_load(rendered(plane, "controller-deployment"))["spec"]["template"]["spec"]
        (given,) = (container["args"] for container in pod["containers"] if container["name"] == "auditor")
        arguments = [argument for argument in given if not argument.startswith(("--config=", "--metrics-port="))]
        arguments += [f"--config={config}", f"--metrics-port={self.port}"]
        arguments += [f"--kubeconfig={plane.write_kubeconfig(name, token)}"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("forestall"), *arguments], stdout=out, stderr=out
            )

    def metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.metrics(), re.MULTILINE)
        return float(found[1]) if found else -1.0

    def findings(self, namespace: str) -> dict[str, int]:
        """Policy and what enforcing it would do -> findings in a namespace."""
        return {
            f"{policy}: {enforcement}": int(count)
            for enforcement, where, policy, count in _SERIES.findall(self.metrics())
            if where == namespace
        }

    @property
    def is_whole(self) -> bool:
        return self.metric("forestall_audit_last_whole_timestamp_seconds") > 0

    def events(self, event: str) -> list[Object]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log.read_text()


@contextmanager
def auditing(plane: ControlPlane, config: Path, name: str = "auditor") -> Iterator[Auditor]:
    """An auditor that has audited everything."""
    auditor = Auditor(plane, config, name)
    try:
        eventually(lambda: auditor.is_whole, f"nothing was audited: see {auditor.log}")
        yield auditor
    finally:
        if auditor.process.poll() is None:
            auditor.stop()
    assert auditor.events("failed") == []
    assert "Traceback" not in auditor.log.read_text()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("mode: audit\n")
    return file


def make_namespace(plane: ControlPlane, name: str) -> None:
    """Create a namespace, and wait until pods can be made in it."""
    plane.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", "-n", name)
    eventually(lambda: plane.try_kubectl(*account).returncode == 0, f"no ServiceAccount in {name}")


def apply(plane: ControlPlane, *objects: Object) -> None:
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def test_findings_follow_what_is_stored(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "shop")
    apply(plane, deployment("old", "shop", UNLIMITED), deployment("good", "shop", LIMITED))
    plane.kubectl("rollout", "status", "deployment/old", "-n", "shop", "--timeout=60s")
    one = {"memory-limits: patch": 1}
    with auditing(plane, config) as auditor:
        assert auditor.findings("shop") == one
        apply(plane, deployment("new", "shop", UNLIMITED))
        eventually(lambda: auditor.findings("shop") == {"memory-limits: patch": 2}, "not seen", WITHIN)
        apply(plane, deployment("new", "shop", LIMITED))
        eventually(lambda: auditor.findings("shop") == one, "not gone", WITHIN)
        plane.kubectl("delete", "deployment", "old", "-n", "shop")
        eventually(lambda: auditor.findings("shop") == {}, "not gone with its object", WITHIN)
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": "shop"}}
        apply(plane, {**bare, "spec": {"containers": [UNLIMITED]}})
        eventually(lambda: auditor.findings("shop") == one, "a bare pod is not seen", WITHIN)
        labels = {"app": "alone"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [UNLIMITED]}}
        alone = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "alone", "namespace": "shop"}}
        apply(plane, {**alone, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}})
        eventually(lambda: auditor.findings("shop") == {"memory-limits: patch": 2}, "a ReplicaSet is not seen", WITHIN)
        template["spec"] = {"containers": [LIMITED]}
        apply(plane, {**alone, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}})
        eventually(lambda: auditor.findings("shop") == one, "a ReplicaSet's finding stays", WITHIN)
        plane.kubectl("delete", "namespace", "shop")
        eventually(lambda: auditor.findings("shop") == {}, "not gone with the namespace", WITHIN)


def test_a_limit_range_and_a_label_are_followed(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "given")
    apply(plane, deployment("web", "given", UNLIMITED))
    item = {"type": "Container", "default": {"memory": "128Mi"}}
    metadata = {"name": "defaults", "namespace": "given"}
    with auditing(plane, config) as auditor:
        before = auditor.findings("given")
        apply(plane, {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [item]}})
        eventually(lambda: auditor.findings("given") == {}, "the LimitRange's default is not seen", WITHIN)
        plane.kubectl("delete", "limitrange", "defaults", "-n", "given")
        eventually(lambda: auditor.findings("given") == before, "the LimitRange is not gone", WITHIN)
    assert before == {"memory-limits: patch": 1}


def test_a_new_configuration_is_audited_by(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "followed")
    apply(plane, deployment("web", "followed", UNLIMITED))
    with auditing(plane, config) as auditor:
        assert auditor.findings("followed") == {"memory-limits: patch": 1}
        config.write_text("mode: audit\npolicies: {memory-limits: {mode: deny, otherwise: deny}}\n")
        eventually(lambda: auditor.findings("followed") == {"memory-limits: deny": 1}, "not followed", WITHIN)
        config.write_text("mode: audit\nexcludeNamespaces: [followed]\n")
        eventually(lambda: auditor.findings("followed") == {}, "an excluded namespace is judged", WITHIN)
        config.write_text("mode: adit\n")
        eventually(lambda: auditor.events("configuration refused, the last good one stays"), "not refused", WITHIN)
        assert auditor.findings("followed") == {}


def status(plane: ControlPlane) -> Object:
    """What the Lease tells of the audit."""
    lease = json.loads(plane.kubectl("get", "lease", "forestall-auditor", "-n", SYSTEM, "-o", "json"))
    told: Object = json.loads(lease["metadata"]["annotations"]["forestall.dev/audit"])
    return told


def test_of_two_one_leads_and_the_other_takes_over(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "taken")
    apply(plane, deployment("web", "taken", UNLIMITED))
    with auditing(plane, config, "one") as one:
        two = Auditor(plane, config, "two")
        try:
            eventually(lambda: two.metric("forestall_audit_leading") == 0, "it doesn't answer")
            assert (one.metric("forestall_audit_leading"), two.findings("taken")) == (1, {})
            one.kill()
            eventually(lambda: two.findings("taken") == {"memory-limits: patch": 1}, "nobody took over", 40)
            eventually(lambda: status(plane).get("findings"), "the Lease doesn't tell", WITHIN)
            assert (status(plane)["wholeAt"] > 0, status(plane).get("unread")) == (True, None)
        finally:
            two.stop()


def test_an_api_server_that_is_gone_for_a_while_costs_nothing(plane: ControlPlane, config: Path) -> None:
    make_namespace(plane, "patient")
    apply(plane, deployment("old", "patient", UNLIMITED))
    with auditing(plane, config) as auditor:
        plane.stop_api_server()
        eventually(lambda: auditor.metric("forestall_audit_leading") == 0, "it leads without an API server")
        assert auditor.findings("patient") == {}
        plane.start_api_server()
        apply(plane, deployment("new", "patient", UNLIMITED))
        eventually(lambda: auditor.findings("patient") == {"memory-limits: patch": 2}, "it did not come back")
        assert auditor.metric("forestall_audit_unread_kinds") == 0


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_right_that_is_missing_costs_its_kind_alone(plane: ControlPlane, config: Path, verb: str) -> None:
    namespace = f"unseen-{verb}"
    make_namespace(plane, namespace)
    apply(plane, deployment("web", namespace, UNLIMITED))
    role = json.loads(plane.kubectl("get", "clusterrole", "forestall-controller", "-o", "json"))
    for rule in role["rules"]:
        if "deployments" in rule["resources"]:
            rule["verbs"] = [kept for kept in rule["verbs"] if kept != verb]
    plane.kubectl("replace", "-f", "-", input=json.dumps(role))
    try:
        with auditing(plane, config) as auditor:
            eventually(lambda: auditor.metric("forestall_audit_unread_kinds") > 0, "it is not told")
            refused = {line["resource"] for line in auditor.events(f"cannot {verb}")}
            assert "deployments.apps" in refused
            bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": namespace}}
            apply(plane, {**bare, "spec": {"containers": [UNLIMITED]}})
            seen = {"memory-limits: patch": 2 if verb == "watch" else 1}
            eventually(lambda: auditor.findings(namespace) == seen, "other kinds are not seen", WITHIN)
    finally:
        grant(plane)
