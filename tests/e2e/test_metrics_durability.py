"""metrics-durability on a real control plane: ConfigMaps are looked up with the right to get them, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.guarded import Guarded, Object, deployment
from tests.loopback import eventually
from webhook.cli import main

CONFIG = """
policies:
  memory-limits: {mode: "off"}
  metrics-durability: {mode: deny, params: {readConfigMaps: true}}
  namespace-defaults: {mode: "off"}
  prometheus-memory: {mode: "off"}
"""
ROLE = "reads-config-maps"
MOUNTS = [{"name": "data", "mountPath": "/prometheus"}, {"name": "config", "mountPath": "/etc/prometheus"}]
VOLUMES = [
    {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
    {"name": "config", "configMap": {"name": "prometheus"}},
]


def prometheus(namespace: str) -> Object:
    server = {"name": "prometheus", "image": "prom/prometheus:v3.9.1", "volumeMounts": MOUNTS}
    return deployment("prometheus", namespace, server, volumes=VOLUMES)


def configuration(namespace: str, text: str) -> Object:
    metadata = {"name": "prometheus", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"prometheus.yml": text}}


def answer(cluster: Guarded, namespace: str) -> tuple[int, str]:
    done = cluster.try_apply(prometheus(namespace), arguments=("--dry-run=server",))
    return done.returncode, done.stderr


def checked(cluster: Guarded, namespace: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The outcomes of metrics-durability by `check --cluster` and by `audit`, as an administrator."""
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "prometheus.json").write_text(json.dumps(prometheus(namespace)))
    common = [f"--config={folder / 'config.yaml'}", f"--kubeconfig={cluster.plane.kubeconfig}", "--output=json"]
    capsys.readouterr()
    main(["check", "--cluster", f"--namespace={namespace}", *common, str(folder / "prometheus.json")])
    found = [json.loads(capsys.readouterr().out)]
    main(["audit", f"--namespace={namespace}", *common])
    found.append(json.loads(capsys.readouterr().out))
    return [result["outcome"] for of in found for result in of["results"] if result["policy"] == "metrics-durability"]


def test_a_config_map_is_looked_up(
    cluster: Guarded, old_namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = old_namespace
    cluster.apply(configuration(namespace, "global: {}"), prometheus(namespace))
    cluster.guard(namespace)
    with cluster.server.configured(CONFIG):
        try:
            cluster.kubectl("delete", "deployment", "prometheus", "-n", namespace)
            code, said = answer(cluster, namespace)
            assert (code, "cannot tell whether Prometheus" in said) == (0, True)
            cluster.kubectl("create", "clusterrole", ROLE, "--verb=get", "--resource=configmaps")
            account = "--serviceaccount=forestall-system:forestall"
            cluster.kubectl("create", "clusterrolebinding", ROLE, f"--clusterrole={ROLE}", account)
            lost = "keeps its series on an emptyDir, gone with its pod, and nowhere else"
            eventually(lambda: answer(cluster, namespace)[0] == 1, "it is not looked up")
            assert lost in answer(cluster, namespace)[1]
            assert checked(cluster, namespace, tmp_path, capsys) == ["denied"]

            sends = "remote_write: [{url: https://example.com/push}]"
            cluster.apply(configuration(namespace, sends), prometheus(namespace))
            assert answer(cluster, namespace) == (0, "")
            assert checked(cluster, namespace, tmp_path, capsys) == []
            cluster.apply(configuration(namespace, "global: {}"))
            assert checked(cluster, namespace, tmp_path, capsys) == ["denied", "denied"]
        finally:
            cluster.try_kubectl("delete", f"clusterrole/{ROLE}", f"clusterrolebinding/{ROLE}")


PATCHING = """
policies:
  memory-limits: {mode: "off"}
  metrics-durability: {mode: patch, params: {remoteWrite: "https://example.com/push", emptyDirSize: 20Gi}}
  prometheus-memory: {mode: "off"}
"""


def test_a_resource_of_the_operator_is_patched(cluster: Guarded, namespace: str) -> None:
    """The CustomResourceDefinition takes what the fix sets, and a second look finds nothing to set."""
    metadata = {"name": "main", "namespace": namespace}
    obj = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata, "spec": {}}
    with cluster.server.configured(PATCHING):
        said = cluster.apply(obj)
        assert said.count("metrics-durability") == 2
        stored = cluster.get("prometheus", "main", namespace)["spec"]
        assert stored["remoteWrite"] == [{"url": "https://example.com/push"}]
        assert stored["storage"] == {"emptyDir": {"sizeLimit": "20Gi"}}
        assert "metrics-durability" not in cluster.apply({**obj, "spec": {"replicas": 2}})
