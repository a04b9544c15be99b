"""The controller's loop on a clock of the test's; two controllers with the chart's rights on a real control plane."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.builders import ROOT
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.loopback import eventually, free_ports
from tests.memory_cluster import MemoryCluster
from webhook.config import Config
from webhook.controller import run as under_test
from webhook.controller.endpoints import Endpoint, Endpoints, parse_endpoints
from webhook.controller.hooks import hooks_off
from webhook.controller.pages import serve_pages
from webhook.controller.parts import Loop, Part, errors
from webhook.controller.probes import create_probes
from webhook.controller.run import create_loop
from webhook.errors import BadConfig, FactsUnavailable
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts
from webhook.policy import FactReference, Object
from webhook.reloading import Reloaded, follow_config


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A part's work: when it was done, with which ceiling, and what it is to raise."""

    def __init__(self, clock: Clock, during: Callable[[], object] = lambda: None) -> None:
        self.clock = clock
        self.during = during
        self.done: list[float] = []
        self.modes: list[str] = []
        self.error: Exception | None = None

    def reconcile(self, config: Config, now: datetime) -> None:
        assert now.tzinfo is not None
        self.done.append(self.clock.now - 100)
        self.modes.append(config.mode)
        self.during()
        if self.error:
            raise self.error


class Leading:
    is_leading = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leading() -> Leading:
    return Leading()


def controller(clock: Clock, leading: Leading, *kept: Kept, config: Reloaded[Config] | None = None) -> Loop:
    def make_parts() -> list[Part]:
        return [Part(f"part-{number}", keeper.reconcile) for number, keeper in enumerate(kept)]

    config = config or follow_config(None)
    return create_loop(config, leading, make_parts, clock)


def let_pass(controller: Loop, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        controller.round()
        clock.now += 1


class TestLoop:
    def test_every_part_has_its_turn_every_five_seconds(self, clock: Clock, leading: Leading) -> None:
        one, two = Kept(clock), Kept(clock)
        let_pass(controller(clock, leading, one, two), clock, 16)
        assert one.done == two.done == [0, 5, 10, 15]

    def test_only_who_leads_does_anything(self, clock: Clock, leading: Leading) -> None:
        kept = Kept(clock)
        loop = controller(clock, leading, kept)
        leading.is_leading = False
        let_pass(loop, clock, 10)
        leading.is_leading = True
        let_pass(loop, clock, 3)
        assert kept.done == [10]

    def test_who_leads_again_does_not_wait(self, clock: Clock, leading: Leading) -> None:
        kept = Kept(clock)
        kept.error = FactsUnavailable("no answer")
        loop = controller(clock, leading, kept)
        let_pass(loop, clock, 30)
        leading.is_leading = False
        let_pass(loop, clock, 1)
        leading.is_leading = True
        let_pass(loop, clock, 1)
        assert kept.done == [0, 5, 25, 31]

    def test_who_no_longer_leads_says_nothing_of_the_cluster(self, clock: Clock, leading: Leading) -> None:
        loop = controller(clock, leading, Kept(clock, lambda: hooks_off.labels("a").set(1)))
        let_pass(loop, clock, 1)
        assert next(iter(hooks_off.collect())).samples != []
        leading.is_leading = False
        let_pass(loop, clock, 1)
        assert next(iter(hooks_off.collect())).samples == []

    def test_a_lease_that_is_lost_stops_the_parts_that_follow(self, clock: Clock, leading: Leading) -> None:
        def lose() -> None:
            leading.is_leading = False

        slow, after = Kept(clock, lose), Kept(clock)
        let_pass(controller(clock, leading, slow, after), clock, 10)
        assert (slow.done, after.done) == ([0], [])

    @pytest.mark.parametrize(
        "error", [pytest.param(FactsUnavailable("no answer"), id="no-answer"), pytest.param(KeyError("a"), id="a-bug")]
    )
    def test_a_part_that_fails_holds_up_no_other_and_is_tried_ever_more_rarely(
        self, clock: Clock, leading: Leading, error: Exception
    ) -> None:
        failing, other = Kept(clock), Kept(clock)
        failing.error = error
        loop = controller(clock, leading, failing, other)
        before = errors.labels("part-0")._value.get()
        let_pass(loop, clock, 216)
        assert failing.done == [0, 5, 25, 65, 125, 185]
        assert errors.labels("part-0")._value.get() - before == 6
        assert len(other.done) == 44
        failing.error = None
        let_pass(loop, clock, 45)
        assert failing.done[6:] == [245, 250, 255, 260]

    def test_the_configuration_is_followed_at_once_and_a_bad_one_is_not(
        self, clock: Clock, leading: Leading, tmp_path: Path
    ) -> None:
        file = tmp_path / "config.yaml"
        file.write_text("mode: audit")
        kept = Kept(clock)
        loop = controller(clock, leading, kept, config=follow_config(file))
        let_pass(loop, clock, 1)
        file.write_text("mode: warn # now")
        let_pass(loop, clock, 1)
        file.write_text("mode: no such mode")
        let_pass(loop, clock, 5)
        assert kept.modes == ["audit", "warn", "warn"]
        assert kept.done == [0, 1, 6]

    def test_it_is_alive_while_rounds_begin(self, clock: Clock, leading: Leading) -> None:
        loop = controller(clock, leading)
        loop.round()
        clock.now += 299
        assert loop.is_alive
        clock.now += 1
        assert not loop.is_alive
        loop.round()
        assert loop.is_alive


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        pytest.param("", (), id="none"),
        pytest.param("10.0.0.1:8443", (Endpoint("10.0.0.1", 8443),), id="one"),
        pytest.param("a:1,[::1]:2", (Endpoint("a", 1), Endpoint("::1", 2)), id="two"),
    ],
)
def test_endpoints(text: str, endpoints: tuple[Endpoint, ...]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:b", "a:1,b"])
def test_no_endpoints(text: str) -> None:
    with pytest.raises(BadConfig, match="is not HOST:PORT"):
        parse_endpoints(text)


def named(*slices: Object, service: str = "forestall") -> MemoryCluster:
    """A cluster with these EndpointSlices of the Service."""
    cluster = MemoryCluster()
    for index, obj in enumerate(slices):
        labels = {"kubernetes.io/service-name": service}
        metadata = {"name": f"{service}-{index}", "namespace": "ns", "labels": labels}
        cluster.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, **obj})
    return cluster


def a_slice(*endpoints: Object, port: int | None = 8443) -> Object:
    return {"endpoints": list(endpoints) or None, "ports": [{"name": "webhook", "port": port}]}


@pytest.mark.parametrize(
    ("slices", "hosts", "is_ready"),
    [
        pytest.param([], [], False, id="none"),
        pytest.param([a_slice()], [], False, id="no-endpoints"),
        pytest.param(
            [a_slice({"addresses": ["a"], "conditions": {"ready": True}}), a_slice({"addresses": ["b"]})],
            ["a", "b"],
            True,
            id="ready",
        ),
        pytest.param([a_slice({"addresses": ["a"], "conditions": {"ready": False}})], ["a"], False, id="not-ready"),
        pytest.param([a_slice({"addresses": ["a"], "conditions": {}})], ["a"], True, id="unknown-is-ready"),
        pytest.param([a_slice({"addresses": ["a"]}, port=None)], [], False, id="all-ports"),
    ],
)
def test_endpoint_slices(slices: list[Object], hosts: list[str], is_ready: bool) -> None:
    endpoints = Endpoints(named(*slices), "ns")
    assert [endpoint.host for endpoint in endpoints.all()] == hosts
    assert endpoints.is_any_ready() == is_ready


def test_another_service_s_slices_are_not_ours() -> None:
    assert Endpoints(named(a_slice({"addresses": ["a"]}), service="other"), "ns").all() == []


def test_given_endpoints_are_ready_while_they_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoints = Endpoints(named(), "ns", [Endpoint(*server.getsockname())])
        assert endpoints.is_any_ready()
    assert not endpoints.is_any_ready()


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics() -> None:
    alive = [True]
    port = serve_pages(create_probes(lambda: alive[0]), 0, "metrics")
    assert fetch(port, "/healthz") == (200, "ok\n")
    status, text = fetch(port, "/metrics")
    assert (status, "forestall_controller_leading" in text) == (200, True)
    assert fetch(port, "/config")[0] == 404
    alive[0] = False
    assert fetch(port, "/healthz") == (503, "stuck\n")


# On a real control plane ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        yield running


def rights(plane: ControlPlane) -> Path:
    """The chart's rights for the controller; a kubeconfig with a token that has no others."""
    plane.kubectl("create", "namespace", "forestall-system")
    template = [str(plane.assets / "helm"), "template", "forestall", str(ROOT / "charts" / "forestall")]
    arguments = ["-n", "forestall-system", "--show-only", "templates/controller-rbac.yaml"]
    rendered = subprocess.run(
        [*template, *arguments], capture_output=True, text=True, check=True, env=plane.environment
    )
    plane.kubectl("apply", "-f", "-", input=rendered.stdout)
    token = plane.kubectl("create", "token", "forestall-controller", "-n", "forestall-system", "--duration=24h")
    return plane.write_kubeconfig("forestall-controller", token.strip())


FORESTALL = (sys.executable, "-c", "from webhook.cli import main; raise SystemExit(main())")


class Process:
    """`forestall controller`; its log is in `log`."""

    def __init__(self, name: str, plane: ControlPlane, kubeconfig: Path, *arguments: str) -> None:
        (self.port,) = free_ports(1)
        self.log = plane.folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *FORESTALL,
                    "controller",
                    f"--kubeconfig={kubeconfig}",
                    f"--metrics-port={self.port}",
                    "--console-port=0",
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def is_leading(self) -> bool:
        try:
            return "forestall_controller_leading 1.0" in fetch(self.port, "/metrics")[1]
        except OSError:
            return False

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def lines(self, level: str) -> list[Object]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["level"] == level]


@pytest.mark.e2e
def test_two_controllers(plane: ControlPlane, tmp_path: Path) -> None:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    kubeconfig, file = rights(plane), tmp_path / "config.yaml"
    file.write_text("mode: audit\n")

    def webhooks() -> list[str]:
        kinds = "mutatingwebhookconfiguration,validatingwebhookconfiguration"
        listed = json.loads(plane.kubectl("get", kinds, "-o", "json"))["items"]
        return sorted(webhook["name"] for configuration in listed for webhook in configuration["webhooks"])

    probes = ["probe.mutate.forestall.dev", "probe.validate.forestall.dev"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = (f"--config={file}", f"--endpoints=127.0.0.1:{server.getsockname()[1]}")
        one, two = (Process(name, plane, kubeconfig, *arguments) for name in ("one", "two"))
        try:
            eventually(lambda: len(webhooks()) == 3, f"not registered: see {one.log}")
            assert webhooks() == [*probes, "validate.forestall.dev"]
            leader, other = (one, two) if one.is_leading else (two, one)
            assert (leader.is_leading, other.is_leading) == (True, False)
            file.write_text("mode: deny\n")
            eventually(lambda: len(webhooks()) == 4, "the configuration was not followed")
            file.write_text("mode: no\n")
            eventually(lambda: leader.lines("error"), "a bad configuration was not told")
            assert leader.lines("error")[0]["event"] == "configuration refused, the last good one stays"
            assert len(webhooks()) == 4
            assert leader.stop() == 0
            eventually(lambda: other.is_leading, "the Lease was not given back", 10)
            plane.stop_api_server()
            eventually(lambda: not other.is_leading, "it leads without the API server")
            plane.start_api_server()
            eventually(lambda: other.is_leading, "it did not come back")
            plane.kubectl(
                *("patch", "validatingwebhookconfiguration", "forestall", "--type=json"),
                *("-p", '[{"op": "remove", "path": "/webhooks/0"}]'),
            )
            eventually(lambda: len(webhooks()) == 4, "an edit was not put right")
            for command, count in (("off", 0), ("on", 4)):
                done = subprocess.run(
                    [*FORESTALL, "hooks", command, f"--kubeconfig={kubeconfig}"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
                eventually(lambda: len(webhooks()) == count, f"hooks {command} did nothing")  # noqa: B023
        finally:
            codes = [replica.stop() for replica in (one, two) if replica.process.poll() is None]
    assert codes == [0]
    refused = [line for replica in (one, two) for line in replica.lines("error") if "403" in line.get("error", "")]
    assert refused == [], "the chart's rights are too narrow"


def test_facts_by_kind_are_as_the_watch_has_them_when_scraped() -> None:
    class Watched:
        facts = ClusterFacts()

    watch = Watched()
    under_test._show_facts(watch)

    def value(metric: str, kind: str) -> float | None:
        return REGISTRY.get_sample_value(metric, {"kind": kind})

    assert value("forestall_facts_known", "LimitRange") == 0
    odd = {FactReference(LIMIT_RANGES, "a", "b"): "why"}
    watch.facts = ClusterFacts(known=frozenset({LIMIT_RANGES}), unreadable=odd)
    assert [value("forestall_facts_known", kind) for kind in ("LimitRange", "Namespace")] == [1, 0]
    assert [value("forestall_unreadable_objects", kind) for kind in ("LimitRange", "Namespace")] == [1, 0]


def test_when_exemptions_end(tmp_path: Path, clock: Clock, leading: Leading) -> None:
    file = tmp_path / "config.yaml"
    exemption = "{policy: memory-limits, match: {namespaces: [a]}, owner: sre, reason: moving, until: 2027-03-31}"
    file.write_text(f"exemptions: [{exemption}]")
    config = follow_config(file)
    under_way = controller(clock, leading, config=config)
    labels = {"exemption": "0", "policy": "memory-limits", "owner": "sre"}
    name = "forestall_exemption_expiry_timestamp_seconds"
    assert REGISTRY.get_sample_value(name, labels) == datetime(2027, 3, 31, 23, 59, 59, 999999, UTC).timestamp()
    file.write_text("mode: warn")
    under_way.round()
    assert REGISTRY.get_sample_value(name, labels) is None
