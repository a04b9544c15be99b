"""A real control plane that asks a real `forestall serve`, which reads its facts with a ServiceAccount's rights."""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.builders import SHARED
from tests.cluster_fixture import ControlPlane, control_plane
from tests.loopback import eventually, free_ports
from webhook.certs import make_self_signed
from webhook.config import load_config
from webhook.controller.registration import STAGES, configurations

Object = dict[str, Any]

UNGUARDED = "test/unguarded"
"""Label of a namespace in which a test makes what was there before us."""

_MARKER = "test/registered"
_READS = {
    "": ["nodes", "namespaces", "limitranges", "persistentvolumes", "persistentvolumeclaims", "services"],
    "monitoring.coreos.com": [
        *("podmonitors", "probes", "prometheusagents", "prometheuses", "scrapeconfigs", "servicemonitors"),
    ],
    "storage.k8s.io": ["storageclasses"],
}
OPERATOR = "system:serviceaccount:operators:prometheus-operator"
CONFIG = f"controllers: [{OPERATOR}]\n"
# There is no other server that a change of the configuration could reach later.
_PROGRAM = (
    "from webhook import installation; installation.SETTLING = 0; "
    "from webhook.cli import main; raise SystemExit(main())"
)


class Server:
    """`forestall serve` as a process of its own; its log is in `log_file`."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.config_file = folder / "forestall.yaml"
        self.log_file = folder / "forestall.log"
        self.config_file.write_text(CONFIG)
        self.certificate, key = make_self_signed()
        (folder / "tls.crt").write_bytes(self.certificate)
        (folder / "tls.key").write_bytes(key)
        self.port, self._metrics_port = free_ports(2)
        self.on_configured: Callable[[str], None] = lambda _text: None
        """Called with every configuration that the server has taken over."""
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            *(sys.executable, "-c", _PROGRAM, "serve"),
            *("--config", str(self.config_file), "--kubeconfig", str(kubeconfig)),
            *("--tls-cert", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")),
            *("--port", str(self.port), "--metrics-port", str(self._metrics_port)),
        ]

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        eventually(self._is_ready, f"forestall serve did not become ready: see {self.log_file}")

    def launch(self) -> None:
        """Start it, ready or not."""
        with self.log_file.open("ab") as log:
            # A session of its own, so that its workers can be told together.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def processes(self) -> list[int]:
        """Of the server and what it started, the server's own first."""
        assert self._process
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def stop(self) -> int:
        """End it without the delay for readiness that SIGTERM alone brings; returns its exit code."""
        assert self._process
        self._process.terminate()
        time.sleep(0.2)
        self._process.terminate()
        return self._process.wait(30)

    def kill(self) -> None:
        """As if its node had lost power: parent and workers at once."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.log_file.read_text()[-2000:]
        try:
            return self.get("/readyz") == "ok\n"
        except OSError:
            return False

    def try_get(self, path: str) -> tuple[int, str]:
        """The answer's status and body, whatever the status; 0 while no server listens."""
        try:
            return 200, self.get(path)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    @contextmanager
    def configured(self, text: str) -> Iterator[None]:
        """Every worker follows this configuration meanwhile, as it would a changed ConfigMap."""
        self.configure(text)
        try:
            yield
        finally:
            self.configure(CONFIG)

    def configure(self, text: str) -> None:
        """Write a new configuration and wait until every worker has it."""
        before = time.time()
        self._write_config(text)
        name = "forestall_config_last_reload_success_timestamp_seconds"
        eventually(lambda: self.metric(name) >= before, "the configuration was not read again")
        self.on_configured(text)

    def refuse_configuration(self, text: str) -> Object:
        """Write a bad one and wait until every worker has refused it; returns what the log says of it."""
        self._write_config(text)
        eventually(lambda: self.metric("forestall_config_last_reload_successful") == 0, "it was not refused")
        lines: list[Object] = eventually(lambda: self.log("configuration refused, the last good one stays"))
        return lines[-1]

    def _write_config(self, text: str) -> None:
        new = self.config_file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config_file)

    def log(self, event: str = "review", **fields: Any) -> list[Object]:
        """The log's lines of this event that say all of this."""
        # The last line may be half written yet.
        whole = (line for line in self.log_file.read_text().splitlines(keepends=True) if line.endswith("\n"))
        lines = (json.loads(line) for line in whole if line.startswith("{"))
        return [line for line in lines if ({"event": event} | fields).items() <= line.items()]


class Guarded:
    """The control plane with Forestall in front of it, and what tests do to both."""

    def __init__(self, plane: ControlPlane, server: Server) -> None:
        self.plane = plane
        self.server = server
        self._registered: tuple[Object, Object] | None = None
        self._registrations = 0

    def install(self) -> None:
        """Service and webhook configurations. They fail closed: nothing slips by in a test."""
        self.plane.kubectl(
            *("create", "service", "externalname", "forestall", "--external-name=localhost", "-n", "forestall-system")
        )
        self.register(CONFIG)
        self.server.on_configured = self.register

    def register(self, text: str) -> None:
        """Have the API server ask what the controller would have it ask by this configuration.

        It fails closed where the controller would have that: nothing slips by in a test.
        """
        config = load_config(text.encode(), "forestall.yaml")
        webhooks = msgspec.structs.replace(config.webhooks, failure_policy="Fail", timeout_seconds=5)
        bundle = base64.b64encode(self.server.certificate).decode()
        derived = configurations(
            replace(config, webhooks=webhooks), bundle, namespace="forestall-system", port=self.server.port
        )
        if derived == self._registered:
            return
        self._registered = copy.deepcopy(derived)
        self._registrations += 1
        for stage, obj in zip(STAGES, derived, strict=True):
            for webhook in obj["webhooks"]:
                expressions = webhook.setdefault("namespaceSelector", {}).setdefault("matchExpressions", [])
                expressions.append({"key": UNGUARDED, "operator": "DoesNotExist"})
            obj["webhooks"].append(_marker(stage, self._registrations))
        self.apply(*derived)
        for stage in STAGES:
            eventually(partial(self._is_registered, stage), f"the API server goes on as before at /{stage}")

    def _is_registered(self, stage: str) -> bool:
        """Whether the API server already goes by the last registration: it then fails to call the marker."""
        marked = _top("v1", "ConfigMap", "marked")
        marked["metadata"] |= {"namespace": "default", "labels": {_MARKER: stage}}
        done = self.try_kubectl("create", "-f", "-", "--dry-run=server", input=json.dumps(marked))
        return _marker(stage, self._registrations)["name"] in done.stderr

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return self.plane.kubectl(*arguments, **options)

    def try_kubectl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.plane.try_kubectl(*arguments, **options)

    def apply(self, *objects: Object, user: str = "admin") -> str:
        """Apply the objects, which must be let through; returns the warnings, as kubectl prints them."""
        done = self.try_apply(*objects, user=user)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def try_apply(
        self, *objects: Object, arguments: tuple[str, ...] = (), user: str = "admin"
    ) -> subprocess.CompletedProcess[str]:
        documents = "\n---\n".join(json.dumps(obj) for obj in objects)
        return self.try_kubectl("apply", "-f", "-", *arguments, input=documents, user=user)

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.plane.assets / "helm"), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.plane.environment,
        )

    def get(self, kind: str, name: str, namespace: str) -> Object:
        read: Object = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return read

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """The pods that are not being deleted."""
        listed = json.loads(self.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))
        return [item for item in listed["items"] if "deletionTimestamp" not in item["metadata"]]

    def running(self, namespace: str, count: int = 1, selector: str = "") -> list[Object]:
        """Wait until just so many pods run, and return them."""

        def all_run() -> list[Object]:
            pods = self.pods(namespace, selector)
            phases = [pod["status"].get("phase") for pod in pods]
            return pods if phases == ["Running"] * count else []

        pods: list[Object] = eventually(all_run, f"{count} pods in {namespace} don't run")
        return pods

    def rolled_out(self, workload: str, namespace: str) -> None:
        """Wait until a workload's pods are ready.

        The node controller marks pods as not ready while it hears nothing of their node. A kubelet marks them as ready
        again, KWOK doesn't: such pods are made anew.
        """
        status = ("rollout", "status", workload, "-n", namespace, "--timeout=50s")

        def is_rolled_out() -> bool:
            if self.try_kubectl(*status).returncode == 0:
                return True
            self.try_kubectl("delete", "pods", "--all", "-n", namespace, "--wait=false")
            return False

        try:
            eventually(is_rolled_out, f"{workload} is not rolled out", 150)
        except AssertionError as error:
            seen = self.try_kubectl("get", "nodes,deployments,replicasets,pods,events", "-n", namespace, "-o", "wide")
            raise AssertionError(f"{error}\n{seen.stdout}") from None

    def make_namespace(self, name: str, *, guarded: bool = True) -> None:
        labels = {} if guarded else {UNGUARDED: ""}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        eventually(
            lambda: self.try_kubectl("get", "serviceaccount", "default", "-n", name).returncode == 0,
            f"no service account in {name}",
        )

    def guard(self, namespace: str) -> None:
        """From now on what happens in a namespace that was made unguarded is judged."""
        self.kubectl("label", "namespace", namespace, f"{UNGUARDED}-")
        probe = ("run", "probe", "--image=probe", "--dry-run=server", "-n", namespace)
        # The API server sees the label's removal a moment later.
        eventually(lambda: "memory-limits" in self.try_kubectl(*probe).stderr, f"{namespace} is not guarded")

    def audited(self, **wanted: str) -> list[Object]:
        """What the API server's audit log says of requests on this resource, namespace, name, subresource."""
        events = (json.loads(line) for line in self.plane.audit_log.read_text().splitlines())
        return [event for event in events if wanted.items() <= event.get("objectRef", {}).items()]

    def annotations(self, **wanted: str) -> Mapping[str, str]:
        """Forestall's audit annotations of a person's last such request, by stage and outcome: "validate/denied"."""
        events = [event for event in self.audited(**wanted) if not event["user"]["username"].startswith("system:")]
        annotations = events[-1].get("annotations", {})
        return {
            key.replace(".forestall.dev/", "/"): value for key, value in annotations.items() if ".forestall.dev/" in key
        }


@contextmanager
def guarded_plane(folder: Path) -> Iterator[Guarded]:
    """A control plane of one's own with Forestall in front of it."""
    with control_plane(folder) as plane:
        server = Server(plane.folder, prepare(plane))
        server.start()
        try:
            guarded = Guarded(plane, server)
            guarded.install()
            yield guarded
        finally:
            server.stop()


def prepare(plane: ControlPlane) -> Path:
    """Make Forestall's namespace and a ServiceAccount that may read facts; returns its kubeconfig."""
    rules = [
        {"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]}
        for group, resources in _READS.items()
    ]
    rules.append({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})  # whose scale changes
    account = {"name": "forestall", "namespace": "forestall-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "forestall"}
    objects = [
        _top("v1", "Namespace", "forestall-system"),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {**_top("rbac.authorization.k8s.io/v1", "ClusterRole", "forestall"), "rules": rules},
        {
            **_top("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "forestall"),
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
        *map(storage_class, ("ebs", "ebs-regional"), ("ebs.csi.aws.com", "efs.csi.aws.com")),
    ]
    plane.kubectl("apply", "-f", "-", input="\n---\n".join(json.dumps(obj) for obj in objects))
    if (crds := SHARED / "cluster" / "crds").is_dir():
        plane.kubectl("apply", "--server-side", "-f", str(crds))
    token = plane.kubectl("create", "token", "forestall", "-n", "forestall-system", "--duration=24h").strip()
    return plane.write_kubeconfig("forestall", token)


def _marker(stage: str, number: int) -> Object:
    """A webhook that nobody answers, for labelled ConfigMaps: its name in the error tells which registration counts."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    return {
        "name": f"registration-{number}.{stage}.test",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "objectSelector": {"matchLabels": {_MARKER: stage}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }


def _top(version: str, kind: str, name: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def storage_class(name: str, provisioner: str) -> Object:
    return {
        **_top("storage.k8s.io/v1", "StorageClass", name),
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def claim(name: str, namespace: str, class_name: str = "ebs", **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class_name,
            "resources": {"requests": {"storage": "8Gi"}},
        },
    }


def volume(name: str, namespace: str, claimed_by: str, zones: list[str], class_name: str = "ebs") -> Object:
    """A disk that only nodes of these zones reach, as a provisioner would have made it for the claim."""
    key = "topology.kubernetes.io/zone"
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": zones}]}]
    return {
        **_top("v1", "PersistentVolume", name),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "8Gi"},
            "storageClassName": class_name,
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": name},
            "claimRef": {"namespace": namespace, "name": claimed_by},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }


def deployment(name: str, namespace: str, *containers: Object, replicas: int = 1, **spec: Any) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": list(containers), **spec}},
        },
    }


def memory_of(obj: Object, index: int = 0) -> tuple[str | None, str | None]:
    """The memory request and limit of a pod's, or a template's, container."""
    spec = obj["spec"]
    if job := spec.get("jobTemplate"):
        spec = job["spec"]
    if template := spec.get("template"):
        spec = template["spec"]
    resources = spec["containers"][index].get("resources", {})
    return resources.get("requests", {}).get("memory"), resources.get("limits", {}).get("memory")


def uids(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def has_helm() -> bool:
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    return shutil.which("helm", path=folder) is not None
