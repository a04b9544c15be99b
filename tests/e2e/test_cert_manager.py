"""Certificates by cert-manager: the chart's Certificate and issuer, its CA injector, and a kubectl that meets both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from charts.generate import CHART
from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.installed import Installation, helm
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from webhook.certs import read_certificates

ASSETS = Path(os.environ.get("CERT_MANAGER_ASSETS", "/nowhere"))


@contextmanager
def cert_manager(plane: ControlPlane) -> Iterator[None]:
    """As the cluster's administrator installs it, in so far as a test needs it: tests/e2e/cert_manager."""
    plane.kubectl("apply", "--server-side", f"--filename={ASSETS / 'crds.yaml'}")
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    with (plane.folder / "cert-manager.log").open("w") as log:
        process = subprocess.Popen(
            [ASSETS / "cert-manager", f"--kubeconfig={plane.kubeconfig}"], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(not ASSETS.exists(), reason="CERT_MANAGER_ASSETS isn't set: tests/e2e/cert_manager/build")
def test_its_certificate_is_served_and_trusted(tmp_path: Path) -> None:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as plane, cert_manager(plane), ExitStack() as stack:
        plane.kubectl("create", "namespace", "kubecost")
        settings = ("--set=config.certificates.mode=certManager", "--set=config.webhooks.failurePolicy=Fail")
        helm(plane, "install", "forestall", CHART, "--create-namespace", *settings)
        installation = Installation(plane, tmp_path)
        port = stack.enter_context(installation.serving())
        installation.name_endpoints(port, nodes=())  # until it has its certificate
        stack.enter_context(installation.process("forestall-controller"))

        ready = "--for=condition=Ready"
        plane.kubectl("wait", ready, "certificate/forestall-tls", f"--namespace={SYSTEM}", "--timeout=45s")
        eventually(installation.mount_certificate)
        eventually(installation.is_ready)
        installation.name_endpoints(port)
        eventually(installation.is_asked)
        secret = installation.get("secret", "forestall-tls")
        (leaf,) = read_certificates((installation.folder / "tls" / "tls.crt").read_bytes())
        assert "forestall.forestall-system.svc" in leaf.names
        # The injector's, which the controller lets stand.
        assert installation.bundles() == {secret["data"]["ca.crt"]}
        # From the installation to the first probe after it there was a gap; and the webhook fails closed last of all.
        eventually(lambda: "\nNothing needs doing\n" in installation.forestall("doctor").stdout)
        hook = installation.get("validatingwebhookconfiguration", "forestall")["webhooks"][0]
        assert hook["failurePolicy"] == "Fail"

        web = ("create", "deployment", "web", "--image=nginx:1.29", "--namespace=default")
        assert "patched to limits.memory=512Mi" in plane.try_kubectl(*web).stderr
        denied = plane.try_kubectl("apply", f"--filename={ROOT / 'demo' / 'prometheus-too-small.yaml'}")
        assert (denied.returncode, "prometheus-memory: Prometheus container" in denied.stderr) == (1, True)
