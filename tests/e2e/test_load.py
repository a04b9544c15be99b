"""What happens to requests while everything around them is replaced: nobody is refused for it, nothing is unchecked."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from charts.generate import CHART
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.e2e.installed import SYSTEM, Balancer, Kubelet, Replica, lead_service_to
from tests.e2e.load import Calls, How, Load, Row, read_calls, show
from tests.served import eventually
from webhook.certs import read_certificates
from webhook.cluster import Cluster

SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/forestall-tls"
FAIL = "--set=config.webhooks.failurePolicy=Fail"
PATIENCE = 60


class Cloud:
    """The installation under load: two servers behind the Service, two controllers, and what befalls them."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.cluster = Cluster.from_kubeconfig(str(plane.kubeconfig))
        self.helm("install", "--create-namespace")
        self.servers = [Replica(plane, folder / f"server-{index}", "forestall") for index in range(2)]
        endpoints = "--endpoints=" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        self.controllers = [
            Replica(plane, folder / f"controller-{index}", "forestall-controller", endpoints) for index in range(2)
        ]

    def helm(self, *arguments: str) -> str:
        command = [self.plane.assets / "helm", *arguments, "forestall", CHART, f"--namespace={SYSTEM}", FAIL]
        done = subprocess.run(
            command, env=self.plane.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, *values: str, controllers_first: bool = False) -> None:
        """What `helm upgrade` with these values does, the Service aside; each kubelet brings it in its own time."""
        arguments = [f"--set={value}" for value in values]
        rendered = self.helm("template", "--show-only=templates/configmap.yaml", *arguments)
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=rendered)
        replicas = [*self.servers, *self.controllers]
        for replica in reversed(replicas) if controllers_first else replicas:
            eventually(lambda replica=replica: replica.mount("config"))
            time.sleep(2)  # as long as the leader takes to follow
        time.sleep(2)

    @property
    def leader(self) -> Replica:
        return eventually(lambda: next(filter(self.leads, self.controllers), None), PATIENCE)

    def leads(self, controller: Replica) -> bool:
        return "forestall_controller_leading 1.0" in controller.get("/metrics")

    def secret(self) -> dict[str, str]:
        secret = self.cluster.get(SECRET)
        assert secret
        return dict(secret["data"])


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (tmp_path / "plane").mkdir()
    with control_plane(tmp_path / "plane") as plane, ExitStack() as stack:
        cloud = Cloud(plane, tmp_path)
        lead_service_to(plane, stack.enter_context(Balancer(cloud.servers)).port)
        for server in cloud.servers:
            stack.enter_context(server.running())
        for controller in cloud.controllers:
            stack.enter_context(controller.running())
        stack.enter_context(Kubelet(cloud.servers))
        hooks = "mutatingwebhookconfiguration,validatingwebhookconfiguration"
        eventually(lambda: plane.try_kubectl("get", hooks, "forestall").returncode == 0, PATIENCE)
        eventually(lambda: all(server.is_ready() for server in cloud.servers), PATIENCE)
        time.sleep(2)  # until the Service and the API server know
        yield cloud


# Events


def nothing(_: Cloud) -> None:
    time.sleep(5)


def servers_restarted(cloud: Cloud) -> None:
    """One after the other, and none in excess: while one restarts, the other answers alone."""
    for server in cloud.servers:
        server.end()
        server.start()
        eventually(server.is_ready, PATIENCE)
        time.sleep(1)  # until the Service knows


def leader_ended(cloud: Cloud) -> None:
    _replace(cloud, cloud.leader.end)


def leader_killed(cloud: Cloud) -> None:
    """Its Lease has to run out first."""
    _replace(cloud, cloud.leader.kill)


def _replace(cloud: Cloud, leave: Callable[[], None]) -> None:
    old = cloud.leader
    leave()
    (new,) = (each for each in cloud.controllers if each is not old)
    acts = 'forestall_controller_last_success_timestamp_seconds{part="hooks"}'
    eventually(lambda: cloud.leads(new) and acts in new.get("/metrics"), PATIENCE)
    old.start()
    eventually(old.is_ready)


def api_server_restarted(cloud: Cloud) -> Calls:
    """Returns what it had counted until then."""
    calls = read_calls(cloud.plane)
    cloud.plane.restart_api_server()
    time.sleep(5)
    return calls


def etcd_paused(cloud: Cloud) -> None:
    """For longer than a leader may go without renewing its Lease."""
    with cloud.plane.etcd_paused():
        time.sleep(12)
    assert cloud.leader


def certificate_rotated(cloud: Cloud) -> None:
    """Three times: first for the shorter life, then at two thirds of it."""
    served = {cloud.secret()["tls.crt"]}
    cloud.configure("config.certificates.servingLife=20s")
    eventually(lambda: served.add(cloud.secret()["tls.crt"]) or len(served) == 4, PATIENCE)


def authority_rotated(cloud: Cloud) -> None:
    bundles = [cloud.secret()["ca.crt"]]

    def is_replaced() -> bool:
        if (now := cloud.secret()["ca.crt"]) != bundles[-1]:
            bundles.append(now)
        return len(bundles) == 3

    cloud.configure("config.certificates.servingLife=20s", "config.certificates.caLife=10m")
    eventually(is_replaced, PATIENCE)
    assert [len(read_certificates(base64.b64decode(bundle))) for bundle in bundles] == [1, 2, 1]


def mode_lowered_and_raised(cloud: Cloud) -> None:
    """memory-limits from patch to warn and back; the servers are faster than the controllers."""
    cloud.configure("config.policies.memory-limits.mode=warn")
    cloud.configure()


def policy_turned_off_and_on(cloud: Cloud) -> None:
    """The controllers are faster."""
    cloud.configure("config.policies.memory-limits.mode=off", controllers_first=True)
    cloud.configure(controllers_first=True)


class Event(NamedTuple):
    name: str
    happens: Callable[[Cloud], Calls | None]
    admitted: tuple[How, ...] = ("patched",)
    is_api_server_s: bool = False
    """Whether the API server itself may refuse requests meanwhile."""


EVENTS = (
    Event("nothing", nothing),
    Event("servers restarted, one by one", servers_restarted),
    Event("a policy from patch to warn and back", mode_lowered_and_raised, ("patched", "warned")),
    Event("a policy off and on", policy_turned_off_and_on, ("patched", "unjudged")),
    Event("leading controller ended", leader_ended),
    Event("leading controller killed", leader_killed),
    Event("API server restarted", api_server_restarted, is_api_server_s=True),
    Event("etcd paused for 12 s", etcd_paused, is_api_server_s=True),
    Event("serving certificate rotated, four times", certificate_rotated),
    Event("CA rotated", authority_rotated),
)


def test_no_request_is_lost(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """The load is all that webhooks are asked about: so the API server's counts are its counts."""
    cloud.plane.kubectl("create", "namespace", "shop")
    rows, strange = [], []
    for event in EVENTS:
        before = read_calls(cloud.plane)
        with Load(cloud.plane, "shop", event.admitted) as load:
            time.sleep(1)
            forgotten = event.happens(cloud)
            time.sleep(1)
        rows.append(Row(event.name, load.counted, read_calls(cloud.plane) - before + (forgotten or Calls())))
        strange += [] if event.is_api_server_s and not any(rows[-1].lost) else load.strange
    with capsys.disabled():
        print("", show(rows), *strange, sep="\n")
    assert [(row.event, row.lost) for row in rows if any(row.lost)] == []
    for event, row in zip(EVENTS, rows, strict=True):
        assert row.counted["answered"] > 100, event.name
        if not event.is_api_server_s:
            assert row.counted["answered"] == row.counted.total() == row.calls.asked, event.name
