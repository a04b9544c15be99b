"""A server's facts: which kinds it can't read, what it says of that, and when it is ready."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders import config, every_policy
from tests.cluster.test_client import claim
from tests.fake_api import FakeApi, Request
from tests.loopback import eventually
from tests.served import Server, served
from webhook.objects.facts import CLAIMS, LIMIT_RANGES, NODES, ClusterFacts
from webhook.policy import FactReference
from webhook.scope import needed_facts
from webhook.server.metrics import count_facts

QUICK = "workers.BEAT_SECONDS = 0.1\n"
KINDS = {str(kind) for kind in needed_facts(config())}
OF_VOLUMES = {"Node", "PersistentVolume", "PersistentVolumeClaim", "StorageClass"}
IN_A_NAMESPACE = "\noverrides: [{match: {namespaces: [a]}, policies: {memory-limits: {mode: warn}}}]"


@pytest.fixture
def serve(api: FakeApi, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A server of this cluster, which becomes ready or not."""
    running = []

    def start(ready: int = 200) -> Server:
        settings = {"facts": None, "kubeconfig": Path(api.kubeconfig(tmp_path))}
        context = served(tmp_path, QUICK, ready=ready, **settings)
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)


def forbid(api: FakeApi, plural: str) -> None:
    api.script("list", plural, *[lambda request: Request.status(request, 403, f"{plural} is forbidden")] * 1000)


def by_kind(server: Server, metric: str) -> dict[str, int]:
    found = re.findall(rf'^{metric}{{kind="(\w+)"}} (\d)', server.get("/metrics")[1], flags=re.MULTILINE)
    return {kind: int(value) for kind, value in found}


def known(server: Server) -> dict[str, int]:
    """Of the kinds that the configuration needs, which could be read."""
    return {kind: value for kind, value in by_kind(server, "forestall_facts_known").items() if kind in KINDS}


def test_a_kind_that_may_not_be_read_keeps_a_server_from_being_ready(
    api: FakeApi, serve: Callable[..., Server]
) -> None:
    forbid(api, "limitranges")
    server = serve(503)
    eventually(lambda: server.get("/readyz") == (503, "limitranges can't be read: limitranges is forbidden (403)\n"))
    eventually(lambda: known(server) == dict.fromkeys(KINDS, 1) | {"LimitRange": 0})
    assert server.metric("forestall_facts_synced") == 0
    assert server.get("/healthz")[0] == 200
    api.scripts.clear()
    eventually(lambda: server.get("/readyz") == (200, "ok\n"))
    eventually(lambda: known(server) == dict.fromkeys(KINDS, 1))
    assert server.metric("forestall_facts_synced") == 1


def test_objects_that_can_not_be_read_keep_nobody_from_being_ready(api: FakeApi, serve: Callable[..., Server]) -> None:
    odd = claim("odd")
    odd["spec"]["volumeName"] = 7
    api.objects["persistentvolumeclaims"] = [claim("fine"), odd]
    server = serve()
    eventually(lambda: by_kind(server, "forestall_unreadable_objects").get("PersistentVolumeClaim") == 1)
    assert sum(by_kind(server, "forestall_unreadable_objects").values()) == 1
    assert by_kind(server, "forestall_facts_known")["PersistentVolumeClaim"] == 1
    why = "spec.volumeName is 7: expected `str | null`, got `int`"
    assert {line["object"] for line in server.logged("passed over")} == {
        f"PersistentVolumeClaim shop/odd can't be read: {why}"
    }


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        pytest.param("", KINDS, id="all-policies"),
        pytest.param("mode: audit", KINDS, id="audited-ones-as-well"),
        pytest.param("mode: 'off'", set(), id="none-under-a-ceiling-of-off"),
        pytest.param(every_policy(prometheus_memory="mode: warn"), {"LimitRange", "Node"}, id="of-those-that-are-on"),
        pytest.param(every_policy(zonal_volumes="mode: warn"), OF_VOLUMES, id="of-another"),
        pytest.param(
            every_policy() + IN_A_NAMESPACE,
            {"LimitRange"},
            id="of-one-that-is-on-in-a-namespace",
        ),
        pytest.param(every_policy(namespace_defaults="mode: audit"), set(), id="not-of-what-only-the-audit-judges"),
    ],
)
def test_which_kinds_are_needed(text: str, kinds: set[str]) -> None:
    assert {str(kind) for kind in needed_facts(config(text))} == kinds


def test_counts_by_kind() -> None:
    odd = dict.fromkeys([FactReference(CLAIMS, "a", "b"), FactReference(CLAIMS, "a", "c")], "why")
    assert count_facts(ClusterFacts(known=frozenset({CLAIMS, NODES}), unreadable=odd), [CLAIMS, LIMIT_RANGES]) == {
        "forestall_facts_known": {"PersistentVolumeClaim": 1, "Node": 1, "LimitRange": 0},
        "forestall_unreadable_objects": {"PersistentVolumeClaim": 2, "Node": 0, "LimitRange": 0},
    }
