"""A running `forestall auditor`, with the chart's arguments and rights, on a real control plane."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually, free_ports
from webhook.policy import Object

LIMITED = {"name": "web", "image": "nginx:1.29", "resources": {"limits": {"memory": "64Mi"}}}
UNLIMITED = {"name": "web", "image": "nginx:1.29"}
WITHIN = 10
"""Seconds in which a change of an object has to be seen."""
_SERIES = re.compile(
    r'forestall_audit_findings\{enforcement="(\w+)",namespace="([^"]*)",policy="([^"]+)",[^}]*\} (\d+)'
)


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
        (self.port,) = free_ports(1)
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


def make_namespace(plane: ControlPlane, name: str) -> None:
    """Create a namespace, and wait until pods can be made in it."""
    plane.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", "-n", name)
    eventually(lambda: plane.try_kubectl(*account).returncode == 0, f"no ServiceAccount in {name}")


def apply(plane: ControlPlane, *objects: Object) -> None:
    plane.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
