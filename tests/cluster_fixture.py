"""A real Kubernetes control plane on loopback, with simulated nodes: for tests that must not trust a fake.

The programs are found by KUBEBUILDER_ASSETS, the convention of controller authors: etcd, kube-apiserver, kubectl, and
beside them kube-controller-manager, kube-scheduler, kwok and its stages.yaml.

No pod network exists: give a webhook's Service `type: ExternalName`, `externalName: localhost`. The API server then
calls localhost at the port that the webhook configuration names, and still verifies TLS against NAME.NAMESPACE.svc.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.builders import kubeconfig
from tests.loopback import free_ports

_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "stages.yaml")
_USERS = {
    "admin": "system:masters",
    "dev": "developers",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
}
_ZONES = ("zone-a", "zone-b", "zone-c")
_STARTING_SECONDS = 90.0
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
}


def missing_programs() -> str:
    """Why no control plane can be started here; empty if it can."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "KUBEBUILDER_ASSETS is not set"
    missing = [name for name in _PROGRAMS if not (Path(folder) / name).exists()]
    return f"KUBEBUILDER_ASSETS lacks {', '.join(missing)}" if missing else ""


class ControlPlane:
    """`folder` holds everything that it writes: NAME.log of each program, audit.log, kubeconfigs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.assets = Path(os.environ["KUBEBUILDER_ASSETS"])
        self.kubeconfig = folder / "admin.kubeconfig"
        self.dev_kubeconfig = folder / "dev.kubeconfig"
        """A user without rights, in the group developers, until a RoleBinding gives some."""
        self.audit_log = folder / "audit.log"
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}

    def start(self, nodes: int = 3) -> None:
        """Start everything and wait until the default namespace takes pods. Nodes are spread over three zones."""
        etcd, peer, self._api, manager, scheduler, kwok = free_ports(6)
        self._write_credentials()
        self._start_etcd(etcd, peer)
        self._start_api_server(etcd)
        self._wait_until_ready()
        loopback = ("--bind-address", "127.0.0.1", "--cert-dir", str(self.folder / "certs"), "--leader-elect=false")
        self._start(
            "kube-controller-manager",
            *loopback,
            f"--kubeconfig={self.folder / 'system:kube-controller-manager.kubeconfig'}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'certs/apiserver.crt'}",
            f"--secure-port={manager}",
        )
        self._start(
            "kube-scheduler",
            *loopback,
            f"--kubeconfig={self.folder / 'system:kube-scheduler.kubeconfig'}",
            f"--secure-port={scheduler}",
        )
        if nodes:
            self._start(
                "kwok",
                f"--kubeconfig={self.kubeconfig}",
                f"--config={self.assets / 'stages.yaml'}",
                "--manage-all-nodes",
                f"--server-address=127.0.0.1:{kwok}",
            )
            self.kubectl("apply", "-f", "-", input="\n".join(json.dumps(_node(index)) for index in range(nodes)))
        self._wait("the default service account", lambda: self._succeeds("get", "serviceaccount", "default"))

    def stop(self) -> None:
        """Stop what was started here, last started first, and nothing else."""
        for name in reversed(list(self._programs)):
            self._stop(name)

    def kubectl(self, *arguments: str, input: str | None = None, user: str = "admin") -> str:  # noqa: A002
        """Return what kubectl prints; raise CalledProcessError, with its stderr as a note, if it fails."""
        done = self.try_kubectl(*arguments, input=input, user=user)
        try:
            done.check_returncode()
        except subprocess.CalledProcessError as error:
            error.add_note(done.stderr)
            raise
        return done.stdout

    def try_kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        user: str = "admin",
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which may fail: its returncode, stdout and stderr."""
        command = [str(self.assets / "kubectl"), f"--kubeconfig={self.folder / f'{user}.kubeconfig'}", *arguments]
        return subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=60, check=False, env=self.environment
        )

    @property
    def environment(self) -> dict[str, str]:
        """For programs that find the cluster by KUBECONFIG, such as helm, and write their caches below HOME."""
        return {
            "PATH": f"{self.assets}:{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
        }

    def restart_api_server(self, *further: str) -> None:
        """Stop it as an upgrade does, and wait until it is ready again, with further arguments until the next start."""
        self.stop_api_server()
        self.start_api_server(*further)

    def stop_api_server(self) -> None:
        self._stop("kube-apiserver")

    def start_api_server(self, *further: str) -> None:
        arguments = self._commands["kube-apiserver"]
        self._start("kube-apiserver", *arguments, *further)
        self._commands["kube-apiserver"] = arguments
        self._wait_until_ready()

    def stop_kubelets(self) -> None:
        """From now on nodes and pods keep the status that they have until somebody writes another. After 40 seconds
        without a heartbeat the node controller does."""
        self._stop("kwok")

    def start_kubelets(self) -> None:
        self._start("kwok", *self._commands["kwok"])

    def compact_etcd(self) -> None:
        """Forget the past: whoever watches from a version before now gets 410 Gone, once the API server restarts."""
        now = self._etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": now, "physical": True})

    @contextmanager
    def etcd_paused(self) -> Iterator[None]:
        """The API server's store hangs meanwhile, as on a disk that does."""
        etcd = self._programs["etcd"]
        etcd.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            etcd.send_signal(signal.SIGCONT)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self._api}"

    def _etcd(self, path: str, body: object) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(self._etcd_url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def _write_credentials(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self.folder / "audit.json").write_text(json.dumps(_AUDIT_POLICY))
        with (self.folder / "tokens.csv").open("w", newline="") as file:
            for number, (user, group) in enumerate(_USERS.items()):
                token = secrets.token_hex(16)
                csv.writer(file).writerow([token, user, number, *([group] if group else [])])
                self.write_kubeconfig(user, token)

    def write_kubeconfig(self, user: str, token: str) -> Path:
        """A kubeconfig for a token, such as `kubectl create token` prints; kubectl(user=...) takes it by this name."""
        cluster = {"server": self.server, "certificate-authority": str(self.folder / "certs/apiserver.crt")}
        file = self.folder / f"{user}.kubeconfig"
        file.write_text(kubeconfig(cluster, {"token": token}, user))
        return file

    def _start_etcd(self, client: int, peer: int) -> None:
        self._etcd_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
        )

    def _start_api_server(self, etcd: int) -> None:
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._api}",
            f"--cert-dir={self.folder / 'certs'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--audit-policy-file={self.folder / 'audit.json'}",
            f"--audit-log-path={self.audit_log}",
            "--allow-privileged=true",
        )

    def _start(self, name: str, *arguments: str) -> None:
        self._commands[name] = list(arguments)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._programs[name] = subprocess.Popen(
                [str(self.assets / name), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _stop(self, name: str) -> None:
        program = self._programs.pop(name)
        program.terminate()
        try:
            program.wait(3)  # the API server would wait a minute for watches to end
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait(10)

    def _wait_until_ready(self) -> None:
        self._wait("the API server", lambda: self._succeeds("get", "--raw", "/readyz"))

    def _succeeds(self, *arguments: str) -> bool:
        return self.try_kubectl(*arguments).returncode == 0

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not is_there():
            for name, program in self._programs.items():
                if program.poll() is not None:
                    raise RuntimeError(f"{name} ended: see {self.folder / name}.log")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} is not there after {_STARTING_SECONDS:.0f} s: see {self.folder}/*.log")
            time.sleep(0.2)


@contextmanager
def control_plane(folder: Path, nodes: int = 3) -> Iterator[ControlPlane]:
    """A running control plane; skips the test, with the reason, where none can be started."""
    if reason := missing_programs():
        pytest.skip(reason)
    plane = ControlPlane(folder)
    with ExitStack() as stack:
        stack.callback(plane.stop)
        plane.start(nodes)
        yield plane


def _node(index: int) -> dict[str, object]:
    zone, room = _ZONES[index % len(_ZONES)], {"cpu": "16", "memory": "64Gi", "pods": "250"}
    labels = {
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": "region-1",
        "kubernetes.io/hostname": f"node-{index}",
        "kubernetes.io/os": "linux",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{index}", "labels": labels},
        "status": {"allocatable": room, "capacity": room},
    }
