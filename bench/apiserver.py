"""The time that admission adds to a request through a real API server: dry-run creates of a Deployment, one by one."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.figures import Figure, Skipped, interleaved
from bench.inputs import shared
from bench.programs import CertificateFiles, Served, program, serving_echo, serving_forestall, wait_until_ready, wrk
from tests.cluster_fixture import ControlPlane, control_plane, missing_programs

_SECONDS = 2.0
_ROUNDS = 5
_SERVICE = "webhook"
_PATHS = {"MutatingWebhookConfiguration": "/mutate", "ValidatingWebhookConfiguration": "/validate"}


def measure() -> list[Figure]:
    program("wrk")
    if reason := missing_programs():
        raise Skipped(reason)
    with tempfile.TemporaryDirectory() as name, _guarded(Path(name)) as cluster:
        found = interleaved(
            {
                "none": lambda: cluster.p50("none"),
                "echo": lambda: cluster.p50("echo"),
                "forestall": lambda: cluster.p50("forestall"),
                "patched": lambda: cluster.p50("forestall", limit=None),
            },
            _ROUNDS,
        )
        cluster.require_calls()
    none, echo = found["none"], found["echo"]
    return [
        Figure("p50 of a dry-run create; without any webhook", found["forestall"], "ms", none),
        Figure("added to it; by an echo", found["forestall"] - none, "ms", echo - none, ratio_at_most=1.5),
        Figure("added where two limits are patched in; by an echo", found["patched"] - none, "ms", echo - none),
    ]


class _Cluster:
    """A control plane in which each webhook has a namespace of its own, and one namespace has none."""

    def __init__(self, plane: ControlPlane, certificate: CertificateFiles) -> None:
        self._plane = plane
        self._bundle = base64.b64encode(certificate.cert.read_bytes()).decode()
        self._token = (plane.folder / "tokens.csv").read_text().partition(",")[0]
        self._requests: defaultdict[str, float] = defaultdict(float)
        self._plane.kubectl("create", "namespace", "none")

    def guard(self, name: str, served: Served) -> None:
        """Send the Deployments of a new namespace through a webhook, first to mutate and then to validate."""
        self._plane.kubectl("create", "namespace", name)
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": name, "name": _SERVICE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        objects = [service, *(self._configuration(name, served.port, kind, path) for kind, path in _PATHS.items())]
        self._plane.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, objects)))

    def _configuration(self, name: str, port: int, kind: str, path: str) -> dict[str, Any]:
        service = {"namespace": name, "name": _SERVICE, "path": path, "port": port}
        rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
        webhook = {
            "name": _webhook(name),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 3,
            "failurePolicy": "Fail",
            "clientConfig": {"service": service, "caBundle": self._bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [rule],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": [webhook],
        }

    def p50(self, namespace: str, limit: str | None = "64Mi") -> float:
        """The median of a create in this namespace, in milliseconds; `limit` is the memory limit of both containers."""
        environment = {"TOKEN": self._token, "NAMESPACE": namespace} | ({"MEMORY": limit} if limit else {})
        load = wrk(self._plane.server, shared("bench/create.lua"), environment, connections=1, seconds=_SECONDS)
        self._requests[namespace] += load.requests_per_second * _SECONDS
        return load.p50_ms

    def require_calls(self) -> None:
        """Raise RuntimeError if requests went past their webhooks: the API server counts its calls."""
        metrics = self._plane.kubectl("get", "--raw", "/metrics").splitlines()
        calls = [line for line in metrics if line.startswith("apiserver_admission_webhook_request_total{")]
        for name in ("echo", "forestall"):
            total = sum(float(line.rpartition(" ")[2]) for line in calls if f'"{_webhook(name)}"' in line)
            if total < len(_PATHS) * self._requests[name]:
                raise RuntimeError(
                    f"{self._requests[name]:.0f} requests made {total:.0f} calls of the {name}'s webhooks"
                )


def _webhook(name: str) -> str:
    return f"{name}.bench.forestall.dev"


@contextmanager
def _guarded(folder: Path) -> Iterator[_Cluster]:
    certificate = CertificateFiles.write(folder, *(f"{_SERVICE}.{name}.svc" for name in ("echo", "forestall")))
    (folder / "plane").mkdir()
    with ExitStack() as stack:
        plane = stack.enter_context(control_plane(folder / "plane"))
        cluster = _Cluster(plane, certificate)
        cluster.guard("echo", stack.enter_context(serving_echo(folder, certificate)))
        forestall = stack.enter_context(serving_forestall(folder, certificate, f"--kubeconfig={plane.kubeconfig}"))
        wait_until_ready(forestall)
        cluster.guard("forestall", forestall)
        time.sleep(2)  # until the API server has read the webhook configuration
        yield cluster
