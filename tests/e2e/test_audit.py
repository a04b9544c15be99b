"""`forestall audit` on a real control plane: the verdicts of `forestall check`, and what enforcement would refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.builders import ROOT, SHARED, container, sized, workload
from tests.cluster_fixture import ControlPlane
from tests.e2e.guarded import UNGUARDED, Guarded, deployment
from tests.loopback import eventually
from webhook.check import check_files
from webhook.cli import main
from webhook.cluster import Cluster
from webhook.config import load_config
from webhook.files.manifests import read_manifests
from webhook.findings import Finding
from webhook.loader import fact_kinds
from webhook.policy import Object
from webhook.watch import list_facts

CONFIG = "policies: {memory-limits: {mode: deny}, namespace-defaults: {mode: 'off'}}\n"
_REFUSED = re.compile(r"violations? in (\w+) [^/ ]+/(\S+)")
_CLUSTER_WIDE = ("Namespace", "StorageClass", "PersistentVolume", "Node")
_NEEDED = ("ServiceAccount", "PersistentVolumeClaim")

Row = tuple[str, str, str, str, str, str, str]
"""Namespace, kind, name, policy, outcome, container, path."""


def row_of(finding: Finding) -> Row:
    judged, verdict = finding.object, finding.verdict
    subject = finding.container or ""
    return judged.namespace, judged.kind, judged.name, verdict.policy, verdict.outcome, subject, verdict.violation.path


def audit(plane: ControlPlane, capsys: pytest.CaptureFixture[str], *arguments: str, user: str = "admin") -> Object:
    """The exit code, and what is said as JSON and on standard error."""
    kubeconfig = str(plane.folder / f"{user}.kubeconfig")
    code = main(["audit", f"--kubeconfig={kubeconfig}", "--output=json", *arguments])
    said = capsys.readouterr()
    return {"code": code, "err": said.err, **(json.loads(said.out) if said.out else {})}


def rows(audited: Object, namespaces: set[str]) -> set[Row]:
    return {
        (
            *(finding["namespace"], finding["kind"], finding["name"], finding["policy"], finding["outcome"]),
            *(finding["container"] or "", finding["path"]),
        )
        for finding in audited["results"]
        if finding["namespace"] in namespaces
    }


def sources() -> Iterator[tuple[str, Path]]:
    """Namespace of its own for every manifest: the policies' examples, and the corpus where it is."""
    files = [*sorted((ROOT / "policies").glob("*/*/*.yaml")), *sorted((SHARED / "corpus").glob("*/*.yaml"))]
    for number, file in enumerate(files):
        yield f"audit-{number}", file


def as_applied(file: Path, namespace: str, config_kinds: set[tuple[str, str]]) -> list[Object]:
    """What of the file is judged, or needed by it, in this namespace."""
    manifests, _ = read_manifests(file.read_bytes(), str(file))
    objects = []
    for manifest in manifests:
        obj = manifest.object
        key = str(obj["apiVersion"]).rpartition("/")[0], obj["kind"]
        if obj["kind"] not in _CLUSTER_WIDE and (key in config_kinds or obj["kind"] in _NEEDED):
            objects.append(obj | {"metadata": (obj.get("metadata") or {}) | {"namespace": namespace}})
    return objects


def test_the_verdicts_are_those_of_check_on_the_same_manifests(
    cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = load_config(CONFIG.encode(), "config")
    (tmp_path / "config.yaml").write_text(CONFIG)
    made = {
        namespace: objects
        for namespace, file in sources()
        if (objects := as_applied(file, namespace, set(config.judged)))
    }
    cluster.apply(*map(_unguarded, made))
    for namespace in made:
        account = ("get", "serviceaccount", "default", "-n", namespace)
        eventually(lambda account=account: cluster.try_kubectl(*account).returncode == 0, f"none in {namespace}")
    for objects in made.values():
        # What the API server itself refuses stays away, and counts neither here nor there.
        cluster.try_apply(*objects, arguments=("--server-side", "--force-conflicts"))
    stored = _stored(cluster, [obj for objects in made.values() for obj in objects])
    files = {namespace: tmp_path / f"{namespace}.yaml" for namespace in made}
    for namespace, objects in made.items():
        kept = [obj for obj in objects if (namespace, obj["kind"], obj["metadata"].get("name")) in stored]
        files[namespace].write_text("\n---\n".join(json.dumps(obj) for obj in kept))
    facts = list_facts(Cluster.from_kubeconfig(str(cluster.plane.kubeconfig)), fact_kinds()).facts
    expected: set[Row] = set()
    for namespace, file in files.items():
        report = check_files([str(file)], config, facts, today=datetime.now(UTC).date(), namespace=namespace)
        # The simulated nodes end Jobs and pods at once: what is over isn't judged.
        expected |= {row_of(finding) for finding in report.findings if finding.object.kind not in ("Job", "Pod")}
    audited = audit(cluster.plane, capsys, f"--config={tmp_path / 'config.yaml'}")
    found = {row for row in rows(audited, set(files)) if row[1] not in ("Job", "Pod")}
    assert found == expected
    assert (audited["code"], audited["clusters"][0]["unseen"]) == (1, [])
    assert len(expected) > 100 or not SHARED.is_dir()


def _unguarded(namespace: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {UNGUARDED: ""}}}


def _stored(cluster: Guarded, objects: list[Object]) -> set[tuple[str, str, str]]:
    """Namespace, kind and name of what is stored of these objects' kinds."""
    kinds = set()
    for obj in objects:
        group, _, version = str(obj["apiVersion"]).rpartition("/")
        kinds.add(f"{obj['kind']}.{version}.{group}" if group else obj["kind"])
    columns = "custom-columns=N:.metadata.namespace,K:.kind,M:.metadata.name"
    found = set()
    for kind in sorted(kinds):
        done = cluster.try_kubectl("get", kind, "-A", "--no-headers", "-o", columns)  # some are not served
        found |= {tuple(line.split()) for line in done.stdout.splitlines()}
    return found


def test_as_if_deny_names_what_the_api_server_would_refuse(
    cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What runs in one namespace, and a dry run of the same manifests in another once the mode is raised."""
    raised = "policies: {memory-limits: {mode: deny}}\n"
    (tmp_path / "config.yaml").write_text(f"mode: audit\n{raised}")
    cluster.make_namespace("what-runs", guarded=False)
    cluster.make_namespace("what-would-run")
    objects = [
        workload(name="unlimited"),
        workload("StatefulSet", name="unlimited-too"),
        workload("Deployment", container(**sized("1Gi", "1Gi")), name="in-order"),
        workload("Pod", name="bare"),
        workload("CronJob", name="nightly"),
        workload("Deployment", container("prometheus", "prom/prometheus:v3.1.0", **sized("1Gi", "1Gi")), name="prom"),
    ]
    for obj in objects:
        _complete(obj)
        obj["metadata"]["namespace"] = "what-runs"
    cluster.apply(*objects)
    cluster.running("what-runs", 1, "app!=unlimited,app!=in-order,app!=prom,app!=unlimited-too")
    audited = audit(
        cluster.plane, capsys, f"--config={tmp_path / 'config.yaml'}", "--as-if=deny", "--namespace=what-runs"
    )
    denied = {(finding["kind"], finding["name"]) for finding in audited["results"] if finding["outcome"] == "denied"}
    with cluster.server.configured(raised):
        again = [obj | {"metadata": obj["metadata"] | {"namespace": "what-would-run"}} for obj in objects]
        text = "\n---\n".join(json.dumps(obj) for obj in again)
        done = cluster.try_kubectl("create", "--dry-run=server", "-f", "-", input=text)
    assert denied == set(_REFUSED.findall(done.stderr))
    assert denied == {
        *(("Deployment", "unlimited"), ("StatefulSet", "unlimited-too"), ("Pod", "bare"), ("CronJob", "nightly")),
        ("Deployment", "prom"),
    }


def _complete(obj: Object) -> None:
    """What the API server wants besides."""
    if obj["kind"] in ("Deployment", "StatefulSet"):
        obj["spec"]["selector"] = {"matchLabels": {"app": obj["metadata"]["name"]}}
    if obj["kind"] == "CronJob":
        obj["spec"]["schedule"] = "@yearly"
        obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Never"


def test_what_a_controller_made_is_its_owners(
    cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    cluster.make_namespace("owners-audited", guarded=False)
    cluster.apply(deployment("web", "owners-audited", {"name": "web", "image": "nginx"}))
    cluster.running("owners-audited")
    arguments = f"--config={tmp_path / 'config.yaml'}", "--namespace=owners-audited"
    found = {(finding["kind"], finding["name"]) for finding in audit(cluster.plane, capsys, *arguments)["results"]}
    assert found == {("Deployment", "web")}


@pytest.mark.parametrize("resource", ["deployments.apps", "nodes", "configmaps"])
def test_one_right_taken_away(cluster: Guarded, capsys: pytest.CaptureFixture[str], resource: str) -> None:
    """It says which, once, and grants it by the line that it prints."""
    name = f"reads-all-but-{resource.partition('.')[0]}"
    rules = _rules_without(cluster, resource)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dev"}],
    }
    cluster.apply(role | {"rules": rules}, binding)
    try:
        eventually(lambda: _unseen(cluster, capsys) == [resource], f"{resource} is not all that is missing")
        said = audit(cluster.plane, capsys, "--strict", user="dev")
        assert said["code"] == 2
        (line,) = said["clusters"][0]["unseen"]
        for command in line.partition("grant it: ")[2].split(" && "):
            cluster.kubectl(*command.split()[1:])
        eventually(lambda: _unseen(cluster, capsys) == [], "the line grants nothing")
    finally:
        cluster.try_kubectl("delete", "clusterrolebinding", name, "forestall-audit")
        cluster.try_kubectl("delete", "clusterrole", name, "forestall-audit")
        eventually(lambda: len(_unseen(cluster, capsys)) > 1, "the rights are not gone")


def _unseen(cluster: Guarded, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The resources that a user without more rights could not list."""
    lines = audit(cluster.plane, capsys, user="dev")["clusters"][0]["unseen"]
    return [name for line in lines for name in re.findall(r"[\w.]+", line.partition(": ")[2].partition(";")[0])]


def _rules_without(cluster: Guarded, resource: str) -> list[Object]:
    every = [_split(name) for name in cluster.kubectl("api-resources", "-o", "name", "--verbs=list").split()]
    return [
        {"apiGroups": [group], "resources": [plural], "verbs": ["get", "list"]}
        for plural, group in every
        if (plural, group) != _split(resource)
    ]


def _split(resource: str) -> tuple[str, str]:
    plural, _, group = resource.partition(".")
    return plural, group
