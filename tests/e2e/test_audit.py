"""`forestall audit` on a real control plane: the verdicts of `forestall check`, and what enforcement would refuse."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.builders import ROOT, SHARED, workload
from tests.cluster_fixture import ControlPlane
from tests.e2e.guarded import UNGUARDED, Guarded, deployment
from tests.loopback import eventually, free_ports
from webhook.certs import make_self_signed
from webhook.check import check_files
from webhook.cli import main
from webhook.cluster.client import Cluster
from webhook.cluster.facts import list_facts
from webhook.config import load_config
from webhook.files.manifests import read_manifests
from webhook.findings import Finding
from webhook.loader import watched_kinds
from webhook.policy import Object

CONFIG = "policies: {memory-limits: {mode: deny}, namespace-defaults: {mode: deny}}\n"
_PROBE = workload("Pod", name="probe")
_REFUSED = re.compile(r"violations? in (\w+) [^/ ]+/(\S+)")
_CLUSTER_WIDE = ("Namespace", "StorageClass", "PersistentVolume", "Node")
_NEEDED = ("ServiceAccount", "PersistentVolumeClaim")

Row = tuple[str, str, str, str, str, str, str]
"""Namespace, kind, name, policy, outcome, container, path."""


def row_of(finding: Finding) -> Row:
    judged, verdict = finding.object, finding.verdict
    subject = finding.container or ""
    return (
        judged.namespace or judged.name,
        judged.kind,
        judged.name,
        verdict.policy,
        verdict.outcome,
        subject,
        verdict.violation.path,
    )


def audit(plane: ControlPlane, capsys: pytest.CaptureFixture[str], *arguments: str, user: str = "admin") -> Object:
    """The exit code, and what is said as JSON and on standard error."""
    kubeconfig = str(plane.folder / f"{user}.kubeconfig")
    code = main(["audit", f"--kubeconfig={kubeconfig}", "--output=json", *arguments])
    said = capsys.readouterr()
    return {"code": code, "err": said.err, **(json.loads(said.out) if said.out else {})}


def place_of(finding: Object) -> str:
    """The finding's namespace, or which it is."""
    return str(finding["namespace"] or finding["name"])


def rows(audited: Object, namespaces: set[str]) -> set[Row]:
    return {
        (
            *(place_of(finding), finding["kind"], finding["name"], finding["policy"], finding["outcome"]),
            *(finding["container"] or "", finding["path"]),
        )
        for finding in audited["results"]
        if place_of(finding) in namespaces
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
        if obj["kind"] == "Job":  # the simulated nodes would end it at once, and what is over isn't judged
            obj = obj | {"spec": obj["spec"] | {"suspend": True}}
        key = str(obj["apiVersion"]).rpartition("/")[0], obj["kind"]
        if obj["kind"] not in _CLUSTER_WIDE and (key in config_kinds or obj["kind"] in _NEEDED):
            objects.append(obj | {"metadata": (obj.get("metadata") or {}) | {"namespace": namespace}})
    return objects


@pytest.fixture(scope="module")
def applied(cluster: Guarded) -> dict[str, list[Object]]:
    """The manifests that the API server took with the hooks off, by their namespace."""
    judged = set(load_config(CONFIG.encode(), "config").judged)
    made = {namespace: as_applied(file, namespace, judged) for namespace, file in sources()}
    cluster.apply(*(_namespace(namespace, {UNGUARDED: ""}) for namespace in made))
    for namespace in made:
        account = ("get", "serviceaccount", "default", "-n", namespace)
        eventually(lambda account=account: cluster.try_kubectl(*account).returncode == 0, f"none in {namespace}")
    for objects in made.values():
        cluster.try_apply(*objects, arguments=("--server-side", "--force-conflicts"))
    stored = _stored(cluster, [obj for objects in made.values() for obj in objects])
    return {
        namespace: [obj for obj in objects if (namespace, obj["kind"], obj["metadata"].get("name")) in stored]
        for namespace, objects in made.items()
    }


def test_the_verdicts_are_those_of_check_on_the_same_manifests(
    cluster: Guarded, applied: dict[str, list[Object]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    facts = list_facts(Cluster.from_kubeconfig(cluster.plane.kubeconfig), watched_kinds()).facts
    expected: set[Row] = set()
    for namespace, objects in applied.items():
        file = tmp_path / f"{namespace}.yaml"
        file.write_text("\n---\n".join(map(json.dumps, [_namespace(namespace), *objects])))
        config, today = load_config(CONFIG.encode(), "config"), datetime.now(UTC).date()
        report = check_files([str(file)], config, facts, today=today, namespace=namespace)
        assert report.errors == []
        expected |= set(map(row_of, report.findings))
    audited = audit(cluster.plane, capsys, f"--config={tmp_path / 'config.yaml'}")
    assert rows(audited, set(applied)) == expected
    assert (audited["code"], audited["clusters"][0]["unseen"]) == (1, [])
    assert {row[1] for row in expected} >= {"Job", "Pod", "Deployment"}
    assert len(expected) > 100 or not SHARED.is_dir()


def test_as_if_deny_names_what_the_api_server_would_refuse(
    cluster: Guarded, applied: dict[str, list[Object]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of the same manifests, tried once more where they run, once the mode is raised."""
    (tmp_path / "config.yaml").write_text(f"mode: audit\n{CONFIG}")
    audited = audit(cluster.plane, capsys, f"--config={tmp_path / 'config.yaml'}", "--as-if=deny")
    # About Namespaces the API server asks nobody.
    denied = {row[:3] for row in rows(audited, set(applied)) if row[4] == "denied" and row[1] != "Namespace"}
    refused = set()
    with cluster.server.configured(CONFIG):
        cluster.kubectl("label", "namespace", *applied, UNGUARDED + "-")
        try:
            probe = _PROBE | {"metadata": {"name": "probe", "namespace": next(iter(applied))}}
            eventually(lambda: _refused(cluster, [probe]), "the namespaces are not guarded")
            for namespace, objects in applied.items():
                refused |= {(namespace, *named) for named in _refused(cluster, objects)}
        finally:
            cluster.kubectl("label", "namespace", *applied, UNGUARDED + "=")
    assert refused == denied
    assert len(denied) > 100 or not SHARED.is_dir()


def _refused(cluster: Guarded, objects: list[Object]) -> list[tuple[str, str]]:
    """Kind and name of those that Forestall refuses; that the others are there already is found out after it."""
    text = "\n---\n".join(map(json.dumps, objects))
    return _REFUSED.findall(cluster.try_kubectl("create", "--dry-run=server", "-f", "-", input=text).stderr)


def _namespace(name: str, labels: Mapping[str, str] = MappingProxyType({})) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


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
        found |= {(namespace, kind, name) for namespace, kind, name in map(str.split, done.stdout.splitlines())}
    return found


def test_what_a_controller_made_is_its_owners(
    cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    cluster.make_namespace("owners-audited", guarded=False)
    cluster.apply(deployment("web", "owners-audited", {"name": "web", "image": "nginx"}))
    cluster.running("owners-audited")
    arguments = f"--config={tmp_path / 'config.yaml'}", "--namespace=owners-audited"
    found = {(finding["kind"], finding["name"]) for finding in audit(cluster.plane, capsys, *arguments)["results"]}
    assert found == {("Deployment", "web"), ("Namespace", "owners-audited")}


def test_one_right_after_the_other_taken_away(cluster: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which, once, and grants it by the line that it prints."""
    name = "reads-all-but-one"
    every = _unseen(cluster, capsys)
    assert {"deployments.apps", "nodes", "pods", "limitranges", "prometheuses.monitoring.coreos.com"} <= set(every)
    try:
        for resource in every:
            cluster.apply(*_role(name, _rules_without(cluster, resource)))
            missing = [resource]
            eventually(lambda: _unseen(cluster, capsys) == missing, f"{resource} is not all that is missing")  # noqa: B023
        said = audit(cluster.plane, capsys, "--strict", user="dev")
        assert said["code"] == 2
        (line,) = said["clusters"][0]["unseen"]
        _grant(cluster, line)
        eventually(lambda: _unseen(cluster, capsys) == [], "the line grants nothing")
    finally:
        cluster.try_kubectl("delete", "clusterrolebinding", name, "forestall-audit")
        cluster.try_kubectl("delete", "clusterrole", name, "forestall-audit")
        eventually(lambda: len(_unseen(cluster, capsys)) > 1, "the rights are not gone")


def test_rights_in_one_namespace_of_two(cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The one is judged as by somebody who may see all; the line gives rights in the other, and nowhere else."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    mine, other = "mine-audited", "other-audited"
    for namespace in (mine, other):
        cluster.make_namespace(namespace, guarded=False)
        cluster.apply(deployment("web", namespace, {"name": "web", "image": "nginx"}))
    listed = [resource for resource in _unseen(cluster, capsys) if resource != "configmaps"]
    of_cluster = {"namespaces", "nodes", "persistentvolumes", "storageclasses.storage.k8s.io"}
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    role, _ = _role("reads-a-namespace", rules)
    binding = _binding("RoleBinding", "reads-a-namespace", namespace=mine)
    cluster.apply(role, binding)
    arguments = f"--config={tmp_path / 'config.yaml'}", f"--namespace={mine}", f"--namespace={other}"

    def judged_by(user: str) -> set[tuple[str, ...]]:
        results = audit(cluster.plane, capsys, *arguments, user=user)["results"]
        return {(of["kind"], of["name"], of["policy"]) for of in results if of["namespace"] == mine}

    try:
        eventually(lambda: judged_by("dev") == judged_by("admin"), "the namespace isn't judged whole")
        (line,) = audit(cluster.plane, capsys, *arguments, user="dev")["clusters"][0]["unseen"]
        lacking = {f"{resource} in namespace {other}" for resource in listed if resource not in of_cluster}
        assert lacking < set(line.partition(": ")[2].partition(";")[0].split(", "))
        _grant(cluster, line)
        eventually(
            lambda: not audit(cluster.plane, capsys, *arguments, user="dev")["clusters"][0]["unseen"], "nothing granted"
        )
        assert cluster.try_kubectl("auth", "can-i", "list", "pods", "-A", "--as=dev").stdout.strip() == "no"
    finally:
        cluster.try_kubectl("delete", "clusterrolebinding", "forestall-audit")
        cluster.try_kubectl("delete", "clusterrole", "reads-a-namespace", "forestall-audit")
        for namespace in (mine, other, "forestall-system"):
            cluster.try_kubectl("delete", "rolebinding,role", "--all", "-n", namespace)


def _grant(cluster: Guarded, line: str) -> None:
    """Type what the line says."""
    for command in line.partition("grant it: ")[2].split(" && "):
        cluster.kubectl(*command.split()[1:])


def _role(name: str, rules: list[Object]) -> tuple[Object, Object]:
    """A ClusterRole, and its binding to user dev in the whole cluster."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
    return role | {"rules": rules}, _binding("ClusterRoleBinding", name)


def _binding(kind: str, name: str, **metadata: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dev"}],
    }


def _unseen(cluster: Guarded, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The resources that a user without more rights could not list."""
    lines = audit(cluster.plane, capsys, user="dev")["clusters"][0]["unseen"]
    lacking = (line.partition(": ")[2].partition(";")[0] for line in lines)
    return [name.partition(" in ")[0] for names in lacking for name in names.split(", ")]


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


class Metrics(BaseHTTPRequestHandler):
    """What metrics-server answers: the pods' metrics that its server holds, whatever the namespace."""

    def do_GET(self) -> None:
        resource = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["list"]}
        body: Object = {"kind": "APIResourceList", "groupVersion": "metrics.k8s.io/v1beta1", "resources": [resource]}
        if self.path.partition("?")[0].endswith("/pods"):
            body = {"kind": "PodMetricsList", "metadata": {}, "items": self.server.metrics}  # type: ignore[attr-defined]
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def metrics(cluster: Guarded, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """An aggregated API on loopback, which the API server takes for metrics-server; `metrics` are what it lists."""
    certificate, key = make_self_signed()
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        server.metrics = []  # type: ignore[attr-defined]
        port = server.server_address[1]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        cluster.apply(_service("metrics"), _api_service("v1beta1", "metrics.k8s.io", "metrics", port))
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            cluster.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")


def _service(name: str) -> Object:
    spec = {"type": "ExternalName", "externalName": "localhost"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _api_service(version: str, group: str, service: str, port: int) -> Object:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "service": {"namespace": "default", "name": service, "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }


def test_use_against_size(
    cluster: Guarded, metrics: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    cluster.make_namespace("used", guarded=False)
    cluster.apply(deployment("web", "used", {"name": "web", "image": "nginx"}))
    (pod,) = cluster.running("used")
    used = {"name": "web", "usage": {"cpu": "1m", "memory": "798720Ki"}}
    metadata = {"name": pod["metadata"]["name"], "namespace": "used"}
    metrics.metrics = [{"metadata": metadata, "containers": [used]}]  # type: ignore[attr-defined]
    raw = ("get", "--raw", "/apis/metrics.k8s.io/v1beta1/pods")
    eventually(lambda: metadata["name"] in cluster.try_kubectl(*raw).stdout, "the API server doesn't ask for metrics")
    audited = audit(cluster.plane, capsys, f"--config={tmp_path / 'config.yaml'}", "--namespace=used")
    uses = {finding["name"]: finding["uses"] for finding in audited["results"] if finding["kind"] == "Deployment"}
    assert uses == {"web": "780Mi, would be given 512Mi: killed"}


def test_an_aggregated_api_that_is_down(cluster: Guarded, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of what it serves nothing is seen, which is said; the rest is judged."""
    kinds = "kinds: [{group: down.example.com, kind: Thing, resource: things, podSpec: spec.template.spec}]\n"
    (tmp_path / "config.yaml").write_text(f"{CONFIG}{kinds}")
    cluster.apply(_service("down"), _api_service("v1", "down.example.com", "down", free_ports(1)[0]))
    arguments = f"--config={tmp_path / 'config.yaml'}", "--strict"
    try:
        available = ("get", "apiservice", "v1.down.example.com", "-o", "jsonpath={.status.conditions[0].status}")
        eventually(lambda: cluster.try_kubectl(*available).stdout == "False", "the API server doesn't look")
        audited = audit(cluster.plane, capsys, *arguments)
    finally:
        cluster.kubectl("delete", "apiservice", "v1.down.example.com")
    assert audited["code"] == 2
    (line,) = audited["clusters"][0]["unseen"]
    assert line.startswith("not seen: things.down.example.com: ")
    assert audited["results"]
