"""Helm against a guarded cluster: the requests that it sends, and the text that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.guarded import Guarded, memory_of
from tests.e2e.texts import MANY_ZONES, PIN, small_limit, small_request, told

CHART = {
    "Chart.yaml": "{apiVersion: v2, name: metering, version: 1.0.0}",
    "values.yaml": "{storageClass: ebs-regional, request: 4Gi, limit: 6Gi, replicas: 1}",
    "templates/claim.yaml": """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: {{ .Release.Name }}-data}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: {{ .Values.storageClass }}
  resources: {requests: {storage: 8Gi}}
""",
    "templates/deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: prometheus}}
  template:
    metadata: {labels: {app: prometheus}}
    spec:
      containers:
        - name: prometheus
          image: prom/prometheus:v3.1.0
          resources: {requests: {memory: {{ .Values.request }}}, limits: {memory: {{ .Values.limit }}}}
        - {name: reloader, image: "jimmidyson/configmap-reload:v0.15.0"}
      volumes: [{name: data, persistentVolumeClaim: {claimName: {{ .Release.Name }}-data}}]
""",
}
PATCHED = (
    "Deployment kube, container reloader: memory-limits: no memory limit: patched to limits.memory=512Mi, "
    "requests.memory=256Mi"
)


@pytest.fixture
def chart(tmp_path: Path) -> str:
    for name, text in CHART.items():
        file = tmp_path / "metering" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(tmp_path / "metering")


def test_install_upgrade_and_rollback(helm: Guarded, namespace: str, chart: str) -> None:
    installed = helm.helm("install", "kube", chart, "-n", namespace)
    assert (installed.returncode, PATCHED in installed.stderr) == (0, True)
    deployment = helm.get("deployment", "kube", namespace)
    assert (memory_of(deployment, 0), memory_of(deployment, 1)) == (("4Gi", "6Gi"), ("256Mi", "512Mi"))

    upgraded = helm.helm("upgrade", "kube", chart, "-n", namespace, "--set", "replicas=2")
    assert (upgraded.returncode, "memory-limits" in upgraded.stderr) == (0, False)
    now = helm.get("deployment", "kube", namespace)
    assert (now["spec"]["replicas"], memory_of(now, 1)) == (2, ("256Mi", "512Mi"))

    shrunk = helm.helm("upgrade", "kube", chart, "-n", namespace, "--set", "request=2Gi,limit=3Gi")
    assert shrunk.returncode == 1
    assert told(shrunk.stderr) == [small_request("2Gi"), small_limit("3Gi")]
    assert memory_of(helm.get("deployment", "kube", namespace)) == ("4Gi", "6Gi")
    back = helm.helm("rollback", "kube", "1", "-n", namespace)
    assert (back.returncode, helm.get("deployment", "kube", namespace)["spec"]["replicas"]) == (0, 1)


def test_a_release_is_judged_with_the_claim_that_it_brings(helm: Guarded, namespace: str, chart: str) -> None:
    """Several, since one claim may have been seen in time by chance."""
    for release in ("one", "two", "three", "four", "five"):
        done = helm.helm("install", release, chart, "-n", namespace, "--set", "storageClass=ebs")
        chain = f"claim {release}-data → class ebs → ebs.csi.aws.com → one zone"
        wrong = f"volume 'data' is tied to one zone, {MANY_ZONES} ({chain})"
        assert (done.returncode, told(done.stderr)) == (1, [f"zonal-volumes: {wrong}: {PIN}"])
