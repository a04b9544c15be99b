"""The checks of what runs: controller, endpoints, spread."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.controller.test_run import named
from tests.doctor.surveys import FORBIDDEN, NOW, healthy, replica, said
from webhook.controller.endpoints import Endpoint, ServerEndpoint, list_endpoints
from webhook.policy import Object


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        (None, ("fail", "no controller leads")),
        ({"spec": {"holderIdentity": "", "renewTime": "2026-11-21T12:00:00Z"}}, ("fail", "no controller leads")),
        (
            {"spec": {"holderIdentity": "c", "renewTime": "2026-11-21T11:58:00Z"}},
            ("fail", "the controller has said nothing for 120 s"),
        ),
        ({"spec": {"holderIdentity": "c_u", "renewTime": "2026-11-21T11:59:30Z"}}, ("ok", "c leads")),
    ],
)
def test_controller(lease: Object | None, expected: tuple[str, str]) -> None:
    assert said("controller", healthy(lease=lease)) == [expected]
    # A Lease is written by the controllers' clocks: this machine's own is another matter.
    assert said("controller", healthy(lease=lease, now=NOW + timedelta(hours=1))) == [expected]


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([], ("fail", "0 of 0 endpoints of Service forestall are ready: nobody answers")),
        ([replica(is_ready=False)], ("fail", "0 of 1 endpoints of Service forestall are ready: nobody answers")),
        ([replica(), replica("b", is_ready=False)], ("warn", "1 of 2 endpoints of Service forestall are ready")),
        ([replica()], ("warn", "1 of 1 endpoints of Service forestall are ready")),
        ([replica(), replica("b")], ("ok", "2 of 2 endpoints of Service forestall are ready")),
    ],
)
def test_endpoints(replicas: list[ServerEndpoint], expected: tuple[str, str]) -> None:
    assert said("endpoints", healthy(replicas=replicas)) == [expected]


def test_no_service() -> None:
    assert said("endpoints", healthy(service=None)) == [("fail", "there is no Service forestall-system/forestall")]


@pytest.mark.parametrize(
    ("replicas", "nodes", "expected"),
    [
        ([replica(node="a"), replica(node="b")], 3, ("ok", "2 replicas on 2 nodes")),
        ([replica(), replica()], 3, ("warn", "all ready replicas are on node a: they go when it goes")),
        ([replica(), replica()], 1, ("ok", "2 replicas on the only node")),
        (
            [replica(), replica(node="b", is_ready=False)],
            3,
            ("warn", "all ready replicas are on node a: they go when it goes"),
        ),
        ([replica(), replica()], FORBIDDEN, ("unknown", "cannot tell: it is forbidden (403)")),
        ([replica(node="")], 3, ("unknown", "cannot tell: no endpoint says on which node it is")),
        ([], 3, ("unknown", "cannot tell: no endpoint says on which node it is")),
    ],
)
def test_spread(replicas: list[ServerEndpoint], nodes: Any, expected: tuple[str, str]) -> None:
    assert said("spread", healthy(replicas=replicas, nodes=nodes)) == [expected]


def test_endpoints_of_endpoint_slices() -> None:
    conditions = [{"ready": True}, {"ready": False}, {}]
    endpoints: list[Object] = [
        {"addresses": [f"10.0.0.{index}"], "conditions": condition} for index, condition in enumerate(conditions)
    ]
    endpoints[0]["nodeName"] = "a"
    cluster = named({"endpoints": endpoints, "ports": [{"name": "https", "port": 8443}]}, {"endpoints": None})
    assert list(list_endpoints(cluster, "ns")) == [
        ServerEndpoint(Endpoint("10.0.0.0", 8443), True, "a"),
        ServerEndpoint(Endpoint("10.0.0.1", 8443), False),
        ServerEndpoint(Endpoint("10.0.0.2", 8443)),
    ]
