"""What happens to requests while everything around them is replaced: nobody is refused for it, nothing is unchecked."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.load import Calls, How, Load, Row, read_calls, show
from tests.e2e.replicas import SYSTEM, ReplicaPod, Replicated, installed
from tests.e2e.violators import IN_EACH, fill
from tests.loopback import eventually
from webhook.certs import read_certificates

NAMESPACES = int(os.environ.get("FORESTALL_NAMESPACES", "100"))
"""Namespaces with objects to be audited."""
SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/forestall-tls"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Replicated]:
    with installed(tmp_path, "config.webhooks.failurePolicy=Fail", servers=2, controllers=2) as made:
        yield made


def leader(installation: Replicated) -> ReplicaPod:
    found: ReplicaPod = eventually(lambda: next(filter(leads, installation.controllers), None))
    return found


def leads(controller: ReplicaPod) -> bool:
    return "forestall_controller_leading 1.0" in controller.get("/metrics")


def secret(installation: Replicated) -> dict[str, str]:
    found = installation.cluster.get(SECRET)
    assert found
    return dict(found["data"])


# Events


def nothing(_: Replicated) -> None:
    time.sleep(5)


def servers_restarted(installation: Replicated) -> None:
    """One after the other, and none in excess: while one restarts, the other answers alone."""
    for server in installation.servers:
        server.end()
        server.start()
        eventually(server.is_ready)
        time.sleep(1)  # until the Service knows


def leader_ended(installation: Replicated) -> None:
    _replace(installation, leader(installation).end)


def leader_killed(installation: Replicated) -> None:
    """Its Lease has to run out first."""
    _replace(installation, leader(installation).kill)


def _replace(installation: Replicated, leave: Callable[[], None]) -> None:
    old = leader(installation)
    leave()
    (new,) = (controller for controller in installation.controllers if controller is not old)
    acts = 'forestall_controller_last_success_timestamp_seconds{part="hooks"}'
    eventually(lambda: leads(new) and acts in new.get("/metrics"))
    old.start()
    eventually(old.is_ready)


def api_server_restarted(installation: Replicated) -> Calls:
    """Returns what it had counted until then."""
    calls = read_calls(installation.plane)
    installation.plane.restart_api_server()
    time.sleep(5)
    return calls


def etcd_paused(installation: Replicated) -> None:
    """For longer than a leader may go without renewing its Lease."""
    with installation.plane.etcd_paused():
        time.sleep(12)
    assert leader(installation)


def certificate_rotated(installation: Replicated) -> None:
    """First for the shorter life, then at two thirds of it."""
    served = {secret(installation)["tls.crt"]}
    installation.configure("config.certificates.servingLife=30s")
    eventually(lambda: served.add(secret(installation)["tls.crt"]) or len(served) == 3)


def authority_rotated(installation: Replicated) -> None:
    bundles = [secret(installation)["ca.crt"]]

    def is_replaced() -> bool:
        if (now := secret(installation)["ca.crt"]) != bundles[-1]:
            bundles.append(now)
        return len(bundles) == 3

    installation.configure("config.certificates.servingLife=30s", "config.certificates.caLife=10m")
    eventually(is_replaced)
    assert [len(read_certificates(base64.b64decode(bundle))) for bundle in bundles] == [1, 2, 1]


def certificate_rotated_while_everything_is_audited(installation: Replicated) -> None:
    """Each time that there is a new one, every auditor is killed, as it is where it needs more memory than its limit,
    and the one that leads then audits everything anew."""
    served = {secret(installation)["tls.crt"]}
    installation.configure("config.certificates.servingLife=30s")
    for count in (2, 3):
        eventually(lambda count=count: served.add(secret(installation)["tls.crt"]) or len(served) >= count)
        for auditor in installation.auditors:
            auditor.kill()
            auditor.start()
    eventually(lambda: any(audited(auditor) >= NAMESPACES * IN_EACH for auditor in installation.auditors))


def audited(auditor: ReplicaPod) -> int:
    """How many objects the last audit of everything has seen, since the auditor was started."""
    lines = auditor.log()
    begun = max((index for index, line in enumerate(lines) if line["event"] == "serving"), default=0)
    return max((line["objects"] for line in lines[begun:] if line["event"] == "audited"), default=0)


def mode_lowered_and_raised(installation: Replicated) -> None:
    """memory-limits from patch to warn and back; the servers are faster than the controllers."""
    installation.configure("config.policies.memory-limits.mode=warn")
    installation.configure()


def policy_turned_off_and_on(installation: Replicated) -> None:
    """The controllers are faster."""
    installation.configure("config.policies.memory-limits.mode=off", controllers_first=True)
    installation.configure(controllers_first=True)


class Event(NamedTuple):
    name: str
    happens: Callable[[Replicated], Calls | None]
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
    Event("serving certificate rotated, twice", certificate_rotated),
    Event("the same, and auditors killed as they audit everything", certificate_rotated_while_everything_is_audited),
    Event("CA rotated", authority_rotated),
)


def test_no_request_is_lost(installation: Replicated, capsys: pytest.CaptureFixture[str]) -> None:
    """The load is all that webhooks are asked about: so the API server's counts are its counts."""
    installation.plane.kubectl("create", "namespace", "shop")
    fill(installation.cluster, NAMESPACES)
    rows, strange = [], []
    try:
        for event in EVENTS:
            before = read_calls(installation.plane)
            with Load(installation.plane, "shop", event.admitted) as load:
                time.sleep(1)
                forgotten = event.happens(installation)
                time.sleep(1)
            rows.append(Row(event.name, load.counted, read_calls(installation.plane) - before + (forgotten or Calls())))
            strange += [] if event.is_api_server_s and not any(rows[-1].lost) else load.strange
    finally:
        with capsys.disabled():  # the table is to be seen where all went well, too
            print("", show(rows), *strange, sep="\n")
    assert [(row.event, row.lost) for row in rows if any(row.lost)] == []
    for event, row in zip(EVENTS, rows, strict=True):
        assert row.counted["answered"] > 20, event.name
        if not event.is_api_server_s:
            assert row.counted["answered"] == row.counted.total() == row.calls.asked, event.name
