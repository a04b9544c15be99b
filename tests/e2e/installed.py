"""The chart, installed on a real control plane and at work.

No container runs there and no pod network exists, so each Deployment's container is a process here, with the
Deployment's arguments, the ConfigMap's and the Secret's files, and a token of the Deployment's ServiceAccount.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_fixture import ControlPlane
from tests.e2e.replicas import SYSTEM, lead_service_to
from tests.loopback import eventually, is_ready
from webhook.controller.registration import STAGES
from webhook.policy import Object


def try_helm(plane: ControlPlane, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [plane.assets / "helm", *arguments, "--namespace", SYSTEM]
    return subprocess.run(command, env=plane.environment, capture_output=True, text=True, timeout=180, check=False)


def helm(plane: ControlPlane, *arguments: str | Path) -> str:
    done = try_helm(plane, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def typed(plane: ControlPlane, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a person does in this folder who has kubectl, helm and forestall; both streams are in stdout."""
    programs = Path(sys.executable).parent
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=plane.environment | {"PATH": f"{programs}:{plane.environment['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


class Installation:
    """What stands for the kubelet and the network; `folder` holds what is mounted, and DEPLOYMENT.log."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        for name in ("config", "tls"):
            (folder / name).mkdir()

    def get(self, *what: str) -> Any:
        """An object, or a list of them; None if there is no such object."""
        command = ("get", *what, f"--namespace={SYSTEM}", "--ignore-not-found", "--output=json")
        return json.loads(self.plane.kubectl(*command) or "null")

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[int]:
        """The server, to which the Service leads; yields its port."""
        self.mount_configuration()
        with self.process("forestall", f"--port={port}"):
            (found,) = eventually(lambda: re.findall(r'"port":(\d+)', self.log("forestall")))
            self.lead_service_to(int(found))
            yield int(found)

    @contextmanager
    def process(self, deployment: str, *further: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Deployment's first container; ends it as the kubelet does, and not otherwise than well."""
        spec = self.get("deployment", deployment)["spec"]["template"]["spec"]
        container = spec["containers"][0]
        token = self.plane.kubectl("create", "token", spec["serviceAccountName"], f"--namespace={SYSTEM}").strip()
        arguments = [argument.replace("/etc/forestall", str(self.folder)) for argument in container["args"]]
        arguments += [f"--kubeconfig={self.plane.write_kubeconfig(deployment, token)}", "--metrics-port=0", *further]
        arguments += ["--console-port=0"] if "controller" in arguments else []
        command = [Path(sys.executable).with_name("forestall"), *arguments]
        with (self.folder / f"{deployment}.log").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0, self.log(deployment)

    def forestall(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The program, as the administrator runs it."""
        command = [Path(sys.executable).with_name("forestall"), *arguments]
        return subprocess.run(
            command, env=self.plane.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def is_ready(self) -> bool:
        """Whether the server says so: it has its certificate, and knows the cluster."""
        ports = re.findall(r'"metrics_port":(\d+)', self.log("forestall"))
        return bool(ports) and is_ready(int(ports[0]))

    def log(self, deployment: str) -> str:
        return (self.folder / f"{deployment}.log").read_text()

    def mount_configuration(self) -> None:
        """Write the ConfigMap's files, as the kubelet does."""
        (self.folder / "config" / "config.yaml").write_text(
            self.get("configmap", "forestall-config")["data"]["config.yaml"]
        )

    def mount_certificate(self) -> bool:
        """Write the Secret's files, as the kubelet does, once it exists and has a certificate."""
        data = (self.get("secret", "forestall-tls") or {}).get("data") or {}
        if not data.get("tls.crt"):
            return False
        for name in ("tls.key", "tls.crt"):
            (self.folder / "tls" / name).write_bytes(base64.b64decode(data[name]))
        return True

    def lead_service_to(self, port: int) -> None:
        lead_service_to(self.plane, port)

    def name_endpoints(self, port: int, nodes: Sequence[str] = ("node-0", "node-1")) -> None:
        """Say in EndpointSlices that a replica is on each of the nodes; the one server here answers for all of them.

        Those of the Service as Helm made it name addresses of pods that don't run, and must not be dialled.
        """
        self.plane.kubectl("delete", "endpoints,endpointslices", "--all", f"--namespace={SYSTEM}")
        # The API takes none on loopback.
        endpoint = {"addresses": [own_address()], "conditions": {"ready": True}}
        made: Object = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "forestall-local",
                "namespace": SYSTEM,
                "labels": {"kubernetes.io/service-name": "forestall"},
            },
            "addressType": "IPv4",
            "endpoints": [{**endpoint, "nodeName": node} for node in nodes],
            "ports": [{"name": "webhook", "port": port}],
        }
        self.plane.kubectl("create", "--filename=-", input=json.dumps(made))

    def is_asked(self) -> bool:
        """Whether every webhook of both configurations is there, and could be trusted."""
        bundles = self.bundles()
        return len(bundles) == 1 and "" not in bundles

    def bundles(self) -> set[str]:
        """The caBundles of our webhooks; empty is none, and a configuration that isn't there has none."""
        hooks = [self.get(kind, "forestall") or {"webhooks": [{"clientConfig": {}}]} for kind in STAGES.values()]
        return {webhook["clientConfig"].get("caBundle", "") for hook in hooks for webhook in hook["webhooks"]}


def own_address() -> str:
    """Of this machine, from itself: nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        try:
            unused.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback, which the API takes for no endpoint")
        return str(unused.getsockname()[0])
