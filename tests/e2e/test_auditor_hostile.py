"""Whoever may do as they like in one namespace changes what the auditor tells of that one, and of no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.auditing import UNLIMITED, WITHIN, Auditor, apply, auditing, grant, make_namespace
from tests.e2e.guarded import deployment, has_helm
from tests.e2e.replicas import SYSTEM
from tests.e2e.test_reports import CRDS, WG, objects, reports, serve
from tests.loopback import eventually
from webhook.policy import Object

MOST_MEGABYTES = 200
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")
"""Characters that a terminal would obey, but the ends of lines."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    if not CRDS.is_dir():
        pytest.skip("the CustomResourceDefinitions of reports aren't there")
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=1) as running:
        running.kubectl("create", "namespace", SYSTEM)
        grant(running)
        serve(running, WG)
        make_namespace(running, "evil")
        make_namespace(running, "shop")
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("mode: audit\nteamLabel: team\n")
    return file


def owned_by_a_query() -> list[Object]:
    """Pods whose owner's name, where it led to another path, would be a watch that never ends."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "?watch=true&x=", "controller": True}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"o{number}",
                "namespace": "evil",
                "ownerReferences": [{**owner, "uid": f"u{number}"}],
            },
            "spec": {"containers": [UNLIMITED]},
        }
        for number in range(5)
    ]


def of_many_teams() -> list[Object]:
    made = [deployment(f"t{number}", "evil", UNLIMITED, replicas=0) for number in range(250)]
    for number, obj in enumerate(made):
        obj["metadata"]["labels"] = {"team": f"team-{number}"}
    return made


def of_many_containers() -> list[Object]:
    containers = [{"name": f"c{number}", "image": "a"} for number in range(5000)]
    return [deployment(f"large-{number}", "evil", *containers, replicas=0) for number in range(3)]


def pods_of_many_containers() -> list[Object]:
    """Pods that no scheduler sees, each unlike the others."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"crowded-{pod}", "namespace": "evil"},
            "spec": {
                "schedulerName": "none",
                "containers": [{"name": f"c{number}", "image": f"a{pod}"} for number in range(3000)],
            },
        }
        for pod in range(20)
    ]


def own_report() -> Object:
    """What stands where the auditor's report belongs: nearly as large as can be, and never to go."""
    labels = {"forestall.dev/report": "true"} | {f"l{number:05}": "v" * 60 for number in range(15_000)}
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "11111111-1111-1111-1111-111111111111"}
    metadata = {"name": "forestall", "namespace": "evil", "labels": labels, "ownerReferences": [gone]}
    metadata["finalizers"] = ["evil.example/never"]
    return {"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport", "metadata": metadata, "results": []}


def create(plane: ControlPlane, folder: Path, *made: Object) -> None:
    file = folder / "made.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    plane.kubectl("create", "--filename", str(file))


def megabytes(auditor: Auditor) -> int:
    """The most memory that the process has had."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{auditor.process.pid}/status").read_text())
    return int(kilobytes) // 1024


def test_nothing_in_one_namespace_silences_another(plane: ControlPlane, config: Path) -> None:
    with auditing(plane, config) as auditor:
        create(plane, config.parent, own_report(), *owned_by_a_query(), *of_many_containers())
        create(plane, config.parent, *of_many_teams())
        create(plane, config.parent, *pods_of_many_containers())
        apply(plane, deployment("web", "shop", UNLIMITED))

        def shop() -> list[str]:
            return objects(reports(plane, WG[0]).get("shop"))

        eventually(lambda: auditor.findings("shop") == {"memory-limits: patch": 1}, "silent of another", 2 * WITHIN)
        eventually(lambda: shop() == ["web"], "no report of another", 2 * WITHIN)
        eventually(lambda: auditor.metrics().count('namespace="evil"') > 150, "it is not audited", 30)
        assert auditor.findings("shop") == {"memory-limits: patch": 1}
        assert megabytes(auditor) < MOST_MEGABYTES


def test_no_terminal_obeys_what_objects_hold(plane: ControlPlane, config: Path) -> None:
    hostile = "\x1b[31m\x07\u202e"
    obj = deployment("obeyed", "evil", UNLIMITED, replicas=0)
    owner = {"apiVersion": "x.example/v1", "kind": f"A{hostile}", "name": hostile, "uid": "u", "controller": True}
    obj["metadata"]["ownerReferences"] = [owner]
    create(plane, config.parent, obj)
    command = [Path(sys.executable).with_name("forestall"), "audit", "--namespace=evil", f"--config={config}"]
    done = subprocess.run(command, env=plane.environment, capture_output=True, text=True, timeout=60, check=False)
    assert "Deployment evil/obeyed" in done.stdout
    assert r"A\x1b[31m\x07\u202e" in done.stdout
    assert OBEYED.findall(done.stdout) == []


def test_the_page_s_commands_delete_what_an_auditor_wrote(plane: ControlPlane) -> None:
    page = (ROOT / "docs" / "auditor.md").read_text().partition("## Turning it off")[2]
    _helm, reports_of_wg, _reports_of_open, *of_own_namespace = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for command in (reports_of_wg, *of_own_namespace):
        subprocess.run(["bash", "-ec", command], env=plane.environment, capture_output=True, timeout=60, check=True)
    left = {namespace: one["metadata"].get("finalizers") for namespace, one in reports(plane, WG[0]).items()}
    assert left == {"evil": ["evil.example/never"]}
    assert reports(plane, WG[1]) == {}
    names = plane.kubectl("get", "configmaps,leases", f"--namespace={SYSTEM}", "--output=name").split()
    assert names == ["configmap/kube-root-ca.crt"]
