"""The Helm chart on a real control plane: installed as it is, upgraded, rolled back, and taken out.

KWOK says that containers run, so the server is a process here, with a token of the chart's ServiceAccount.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generate import CHART
from tests.builders import SHARED
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.installed import Installation, helm, try_helm
from tests.e2e.replicas import SYSTEM
from tests.e2e.test_cert_manager import ASSETS as CERT_MANAGER
from tests.loopback import eventually
from tests.test_chart import VARIANTS, render
from webhook.certs import make_self_signed
from webhook.config import load_config
from webhook.controller.registration import configurations
from webhook.policy import Object

SERVER = f"system:serviceaccount:{SYSTEM}:forestall-server"
CONTROLLER = f"system:serviceaccount:{SYSTEM}:forestall-controller"
# The charts of earlier releases, as packages; the present one goes there when it is released.
RELEASED = sorted((Path(__file__).parents[1] / "data" / "charts").glob("*.tgz"))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """Where the restricted Pod Security Standard is enforced; gone afterwards, with what was installed."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": labels}}
    plane.kubectl("create", "--filename=-", input=json.dumps(made))
    yield SYSTEM
    try_helm(plane, "uninstall", "forestall")
    plane.kubectl("delete", "namespace", SYSTEM, "--timeout=60s")


def get(plane: ControlPlane, *what: str) -> Any:
    return json.loads(plane.kubectl("get", *what, "--output=json"))


def may(plane: ControlPlane, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    where = ("--namespace", namespace) if namespace else ("--all-namespaces",)
    return plane.try_kubectl("auth", "can-i", verb, resource, "--as", user, *where).stdout.strip() == "yes"


def images_of(plane: ControlPlane) -> set[str]:
    deployments = get(plane, "deployments", f"--namespace={SYSTEM}")["items"]
    return {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].partition(":")[2] for deployment in deployments
    }


def packaged(folder: Path, version: str) -> Path:
    """The present chart as if it were another release."""
    copy = folder / "forestall"
    shutil.copytree(CHART, copy)
    chart = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump({**chart, "version": version, "appVersion": version}))
    return copy


# Installed


def test_installs_as_it_is(plane: ControlPlane, namespace: str) -> None:
    notes = helm(plane, "install", "forestall", CHART, "--wait", "--timeout=60s")
    assert "kubectl rollout status deployment/forestall" in notes
    pods = get(plane, "pods", f"--namespace={namespace}")["items"]
    nodes: dict[str, list[str]] = {}
    for pod in pods:
        nodes.setdefault(pod["metadata"]["labels"]["app.kubernetes.io/component"], []).append(pod["spec"]["nodeName"])
    assert {component: len(set(names)) for component, names in nodes.items()} == {"server": 2, "controller": 2}
    assert "already exists" not in helm(plane, "upgrade", "forestall", CHART)


@pytest.fixture(scope="module")
def served(plane: ControlPlane) -> set[str]:
    """Every apiVersion, those of the Prometheus operator and of cert-manager among them where they can be had."""
    for crds in (SHARED / "cluster" / "crds", CERT_MANAGER / "crds.yaml"):
        if crds.exists():
            plane.kubectl("apply", "--server-side", f"--filename={crds}")
            plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return set(plane.kubectl("api-versions").split())


@pytest.mark.parametrize("variant", VARIANTS)
def test_api_server_takes_the_variant(plane: ControlPlane, served: set[str], variant: str) -> None:
    """Kinds that this cluster doesn't have aside."""
    objects = [obj for obj in render(variant) if obj["apiVersion"] in served]
    plane.try_kubectl("create", "namespace", SYSTEM)
    strict = ("--dry-run=server", "--validate=strict", "--filename=-")
    plane.kubectl("apply", *strict, input=json.dumps(listed(objects)))
    plane.kubectl("delete", "namespace", SYSTEM, "--timeout=60s")


def listed(objects: list[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


# Permissions


PERMISSIONS = {
    SERVER: {
        True: """
            list nodes
            watch persistentvolumes
            get persistentvolumeclaims
            watch limitranges
            list storageclasses.storage.k8s.io
        """,
        False: """
            list secrets
            list pods
            update nodes
            delete persistentvolumeclaims
            get validatingwebhookconfigurations.admissionregistration.k8s.io/forestall
            get secrets/forestall-tls forestall-system
            get configmaps forestall-system
            create events forestall-system
            get leases.coordination.k8s.io forestall-system
        """,
    },
    CONTROLLER: {
        True: """
            create mutatingwebhookconfigurations.admissionregistration.k8s.io
            update validatingwebhookconfigurations.admissionregistration.k8s.io/forestall
            delete mutatingwebhookconfigurations.admissionregistration.k8s.io/forestall
            get clusterroles.rbac.authorization.k8s.io/forestall-controller
            watch namespaces
            list persistentvolumeclaims
            create limitranges default
            delete limitranges default
            list deployments.apps default
            list pods default
            create events default
            create events.events.k8s.io default
            create leases.coordination.k8s.io forestall-system
            update leases.coordination.k8s.io/forestall-controller forestall-system
            create secrets forestall-system
            update secrets/forestall-tls forestall-system
            create configmaps forestall-system
            update configmaps/forestall-state forestall-system
            list endpointslices.discovery.k8s.io forestall-system
            watch deployments.apps default
            get replicasets.apps default
            watch volumeattachments.storage.k8s.io
            update leases.coordination.k8s.io/forestall-auditor forestall-system
            update configmaps/forestall-report.shop forestall-system
        """,
        False: """
            delete validatingwebhookconfigurations.admissionregistration.k8s.io/others
            update mutatingwebhookconfigurations.admissionregistration.k8s.io/others
            update namespaces
            update clusterroles.rbac.authorization.k8s.io/forestall-controller
            create secrets default
            create configmaps default
            create pods default
            delete pods default
            update deployments.apps default
            get secrets/forestall-ca forestall-system
            list secrets forestall-system
            create serviceaccounts/token forestall-system
        """,
    },
}


def test_service_accounts_may_do_what_they_do(plane: ControlPlane, namespace: str) -> None:
    helm(plane, "install", "forestall", CHART)
    wrong = [
        (user, line.strip(), "is denied" if allowed else "is allowed")
        for user, table in PERMISSIONS.items()
        for allowed, lines in table.items()
        for line in lines.strip().splitlines()
        if may(plane, user, *line.split()) != allowed
    ]
    assert wrong == []


def test_without_an_audit_only_named_objects_can_be_written(plane: ControlPlane, namespace: str) -> None:
    helm(plane, "install", "forestall", CHART, "--set", "audit.enabled=false")
    for right in (
        "update configmaps/forestall-config forestall-system",
        "list configmaps forestall-system",
        "update leases.coordination.k8s.io/forestall-auditor forestall-system",
        "watch deployments.apps default",
    ):
        assert not may(plane, CONTROLLER, *right.split()), right


def test_server_becomes_ready_with_its_role(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """The arguments of the Deployment, the certificate not yet there; nothing that it reads is refused."""
    helm(plane, "install", "forestall", CHART)
    installation = Installation(plane, tmp_path)
    with installation.serving():
        chain, key = make_self_signed()
        (tmp_path / "tls" / "tls.key").write_bytes(key)
        (tmp_path / "tls" / "tls.crt").write_bytes(chain)
        eventually(installation.is_ready)
    assert re.findall("forbidden.*", installation.log("forestall")) == []


# Upgraded


@pytest.mark.parametrize("previous", [*RELEASED, "0.0.1"], ids=lambda version: getattr(version, "stem", version))
def test_upgrade_and_rollback(plane: ControlPlane, namespace: str, previous: Path | str, tmp_path: Path) -> None:
    """From every released chart, and from the present one under an older name: nothing immutable may hold a version."""
    old = previous if isinstance(previous, Path) else packaged(tmp_path, previous)
    helm(plane, "install", "forestall", old)
    before = images_of(plane)
    helm(plane, "upgrade", "forestall", CHART, "--set", "config.mode=audit")
    assert images_of(plane) != before
    helm(plane, "rollback", "forestall", "1")
    assert images_of(plane) == before
    config = get(plane, "configmap", "forestall-config", f"--namespace={namespace}")["data"]["config.yaml"]
    assert yaml.safe_load(config)["mode"] == "deny"


# Taken out

HOOKS = "mutatingwebhookconfigurations,validatingwebhookconfigurations"
OURS = "--selector=app.kubernetes.io/name=forestall"
DEPLOY = ("create", "deployment", "web", "--image=web", "--namespace=default", "--dry-run=server")


def block(plane: ControlPlane, namespace: str) -> None:
    """Webhook configurations as the controller writes them, which fail closed, and nobody to answer."""
    owner = get(plane, "clusterrole", "forestall-controller")
    bundle = base64.b64encode(make_self_signed()[0]).decode()
    config = load_config(b"webhooks: {failurePolicy: Fail}", "config.yaml")
    hooks = configurations(config, bundle, namespace=namespace, owner=owner)
    plane.kubectl("create", "--filename=-", input=json.dumps(listed(list(hooks))))
    eventually(lambda: plane.try_kubectl(*DEPLOY).returncode == 1)


def test_what_the_uninstall_job_runs_unblocks(plane: ControlPlane, namespace: str) -> None:
    (job,) = (obj for obj in render() if obj["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    helm(plane, "install", "forestall", CHART)
    block(plane, namespace)
    token = plane.kubectl("create", "token", "forestall-controller", f"--namespace={namespace}").strip()
    kubeconfig = plane.write_kubeconfig("job", token)
    command = [Path(sys.executable).with_name("forestall"), *container["args"], f"--kubeconfig={kubeconfig}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert get(plane, HOOKS, OURS)["items"] == []
    eventually(lambda: plane.try_kubectl(*DEPLOY).returncode == 0)


@pytest.mark.parametrize("options", [(), ("--no-hooks",)], ids=["uninstall", "uninstall-without-hooks"])
def test_uninstall_leaves_nothing_that_blocks(plane: ControlPlane, namespace: str, options: tuple[str, ...]) -> None:
    """Even if `forestall hooks off` does nothing, as here, where no container runs."""
    helm(plane, "install", "forestall", CHART)
    block(plane, namespace)
    helm(plane, "uninstall", "forestall", "--timeout=60s", *options)
    eventually(lambda: get(plane, f"{HOOKS},clusterroles,clusterrolebindings", OURS)["items"] == [])
    eventually(lambda: plane.try_kubectl(*DEPLOY).returncode == 0)
    kinds = "services,deployments,jobs,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies"
    assert get(plane, f"{kinds},poddisruptionbudgets", f"--namespace={namespace}", OURS)["items"] == []
