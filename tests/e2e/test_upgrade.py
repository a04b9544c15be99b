"""`helm upgrade` and `helm rollback` of the installed chart at work, under load: nobody notices.

What a new image changes is another matter: here the same server and controller go on.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from charts.generate import CHART
from tests.builders import workload
from tests.cluster_fixture import control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.installed import Installation, helm
from tests.e2e.test_chart import RELEASED
from tests.loopback import eventually, free_ports
from webhook.cluster.client import Cluster
from webhook.controller.registration import STAGES
from webhook.errors import ForestallError
from webhook.policy import Object

FAIL = ("--set", "config.webhooks.failurePolicy=Fail")
OURS = r'name="(?:mutate|validate)\.forestall\.dev"'
CALLS = "apiserver_admission_webhook_request_total"
OPEN = "apiserver_admission_webhook_fail_open_count"
REFUSED = "apiserver_admission_webhook_rejection_count"


def led_to(port: int, chart: Path, folder: Path) -> Path:
    """The chart, with a Service that leads to a server here: one that were patched later would be Helm's again."""
    if chart.suffix == ".tgz":
        shutil.unpack_archive(chart, folder, filter="data")
    else:
        shutil.copytree(chart, folder / chart.name)
    services = folder / "forestall" / "templates" / "services.yaml"
    before, found, after = services.read_text().partition("  selector: ")
    rest = after.partition("---")[2]
    assert found
    spec = f"  type: ExternalName\n  externalName: localhost\n  ports:\n    - {{name: webhook, port: {port}}}\n---"
    services.write_text(before + spec + rest)
    return folder / "forestall"


class Load(threading.Thread):
    """Dry-run creates of what is patched: `asked` of them were, and what became of the others."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__()
        self._cluster = Cluster.from_kubeconfig(kubeconfig)
        self._ended = threading.Event()
        self.asked = 0
        self.lost: list[str] = []

    def run(self) -> None:
        web = workload()
        web["spec"] |= {"selector": {"matchLabels": {"app": "web"}}}
        while not self._ended.wait(0.01):
            try:
                warnings = self._cluster.create("/apis/apps/v1/namespaces/shop/deployments", web, dry_run=True).warnings
            except ForestallError as error:
                self.lost.append(str(error))
                continue
            if any("patched to limits.memory=512Mi" in warning for warning in warnings):
                self.asked += 1
            else:
                self.lost.append(f"unchecked: {warnings}")

    def end(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def loaded(kubeconfig: Path) -> Iterator[list[Load]]:
    loads = [Load(kubeconfig) for _ in range(2)]
    for load in loads:
        load.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.end()


@pytest.mark.parametrize("previous", RELEASED, ids=lambda file: file.stem)
def test_nobody_notices(previous: Path, tmp_path: Path) -> None:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (port,) = free_ports(1)
    old, new = (led_to(port, chart, tmp_path / name) for chart, name in ((previous, "old"), (CHART, "new")))
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as plane:
        helm(plane, "install", "forestall", old, "--create-namespace", "--wait", "--timeout=60s", *FAIL)
        plane.kubectl("create", "namespace", "shop")
        installation = Installation(plane, tmp_path)
        installation.mount_configuration()

        def fails_closed() -> bool:
            hook = installation.get("validatingwebhookconfiguration", "forestall")
            return bool(hook["webhooks"][0]["failurePolicy"] == "Fail")

        def kept() -> list[Object]:
            names = [(kind, "forestall") for kind in STAGES.values()]
            return [installation.get(*name) for name in (*names, ("secret", "forestall-tls"))]

        with ExitStack() as stack:
            stack.enter_context(installation.process("forestall", f"--port={port}"))
            stack.enter_context(installation.process("forestall-controller", f"--endpoints=127.0.0.1:{port}"))
            eventually(installation.mount_certificate)
            eventually(installation.is_ready)
            eventually(lambda: installation.is_asked() and fails_closed())
            before = kept()
            with loaded(plane.kubeconfig) as loads:
                eventually(lambda: all(load.asked > 10 for load in loads))
                helm(plane, "upgrade", "forestall", new, "--wait", "--timeout=60s", *FAIL)
                upgraded = kept()
                helm(plane, "rollback", "forestall", "1", "--wait", "--timeout=60s")
                rolled_back = kept()
                so_far = [load.asked for load in loads]
                eventually(lambda: all(load.asked > many + 10 for load, many in zip(loads, so_far, strict=True)))
        assert [load.lost for load in loads] == [[], []]
        assert upgraded == before
        assert rolled_back == before
        metrics = plane.kubectl("get", "--raw", "/metrics")
        assert re.findall(f"^(?:{OPEN}|{REFUSED}){{.*{OURS}.*", metrics, re.MULTILINE) == []
        assert set(re.findall(f'^{CALLS}{{code="(.*?)".*{OURS}', metrics, re.MULTILINE)) == {"200"}
        print(f"dry-run creates: {sum(load.asked for load in loads)} asked, 0 lost")
