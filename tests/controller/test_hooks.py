"""Keeping the webhook configurations: the same steps on a cluster in memory and on a real control plane."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.builders import config
from tests.cluster_fixture import ControlPlane, control_plane
from tests.controller.test_registration import ALL_OFF, BUNDLE, EVERYTHING, made
from tests.e2e.guarded import Server, prepare
from tests.loopback import eventually
from tests.memory_cluster import MemoryCluster
from webhook.certs import make_self_signed
from webhook.cluster.client import Cluster
from webhook.cluster.record import VERSION
from webhook.cluster.stored import read_objects, readable
from webhook.controller.endpoints import Endpoint, Endpoints
from webhook.controller.hooks import (
    DELETED,
    ON_PURPOSE,
    Hooks,
    HooksState,
    hooks_off,
    next_action,
    read_state,
    turn_off,
    turn_on,
)
from webhook.controller.registration import STAGES, configuration_path
from webhook.errors import ClusterRefused, Conflict
from webhook.installation import LABELS, NAMESPACE, STATE
from webhook.policy import Object, Stage


@pytest.mark.parametrize(
    ("existing", "uid", "off", "action"),
    [
        pytest.param(False, "", "", "create", id="first-start"),
        pytest.param(True, "u", "", "keep", id="there"),
        pytest.param(True, "", "", "keep", id="made-and-not-remembered"),
        pytest.param(False, "u", "", "remember it is off", id="somebody-deleted-it"),
        pytest.param(False, "u", DELETED, "nothing", id="stays-off"),
        pytest.param(True, "u", DELETED, "keep", id="somebody-brought-it-back"),
        pytest.param(True, "", ON_PURPOSE, "delete", id="made-while-it-was-switched-off"),
        pytest.param(False, "", ON_PURPOSE, "nothing", id="switched-off"),
    ],
)
def test_next_action(existing: bool, uid: str, off: str, action: str) -> None:
    assert next_action({"metadata": {}} if existing else None, uid, off) == action


OWN = f"/api/v1/namespaces/{NAMESPACE}"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
EVENTS = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"


class Installation:
    """What the chart and the other parts of the controller bring, and the controller's loop, step by step."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.hooks = self.keeper()
        self.config = config("")
        self.now = datetime(2026, 11, 21, tzinfo=UTC)

    def keeper(self) -> Hooks:
        """What a controller that begins to lead starts with."""
        return Hooks(
            self.cluster, NAMESPACE, Endpoints(self.cluster, NAMESPACE, [Endpoint(*self.socket.getsockname())])
        )

    def create(self, collection: str, name: str, api: str, kind: str, **fields: Any) -> Object:
        metadata = {"name": name} | ({"namespace": NAMESPACE} if "/namespaces/" in collection else {})
        metadata |= fields.pop("metadata", {})
        obj = {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}
        return self.cluster.create(collection, obj).object

    def edit(self, path: str, change: Callable[[Object], object]) -> None:
        """Somebody's edit."""
        obj = self.cluster.get(path)
        change(obj)
        self.cluster.replace(path, obj)

    def install(self) -> None:
        self.create(ROLES, "forestall-controller", "rbac.authorization.k8s.io/v1", "ClusterRole", rules=[])
        self.make_secret()

    def make_secret(self, bundle: bytes = b"") -> None:
        data = {"ca.crt": base64.b64encode(bundle or make_self_signed()[0]).decode()}
        self.create(f"{OWN}/secrets", "forestall-tls", "v1", "Secret", data=data)

    def delete_secret(self) -> None:
        self.cluster.delete(f"{OWN}/secrets/forestall-tls")

    def uninstall(self) -> None:
        self.socket.close()
        for path in (
            f"{ROLES}/forestall-controller",
            f"{OWN}/secrets/forestall-tls",
            f"{OWN}/configmaps/{STATE}",
            f"{OWN}/services/forestall",
            f"{SLICES}/forestall",
            *map(configuration_path, STAGES),
        ):
            self.cluster.delete(path)

    def step(self) -> None:
        """A pass, and the next one where somebody was faster, as a real control plane's garbage collector is."""
        for attempt in range(3):
            self.now += timedelta(minutes=2)
            try:
                return self.hooks.reconcile(self.config, self.now)
            except Conflict:
                if attempt == 2:
                    raise
        return None

    def there(self) -> dict[Stage, Object]:
        found = {stage: self.cluster.get(configuration_path(stage)) for stage in STAGES}
        return {stage: obj for stage, obj in found.items() if obj}

    def webhooks(self) -> list[Object]:
        return [webhook for obj in self.there().values() for webhook in obj["webhooks"]]

    def state(self) -> HooksState:
        return read_state(self.cluster.get(f"{OWN}/configmaps/{STATE}"))

    def events(self) -> list[str]:
        told = readable(read_objects(self.cluster, EVENTS, "Event"))
        return [event["note"] for event in told if event["reason"] == "HooksOff"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        running.kubectl("create", "namespace", NAMESPACE)
        yield running


@pytest.fixture
def on_plane(plane: ControlPlane) -> Iterator[Installation]:
    installation = Installation(Cluster.from_kubeconfig(plane.kubeconfig))
    installation.install()
    yield installation
    installation.uninstall()


@pytest.fixture(params=["memory", pytest.param("control-plane", marks=pytest.mark.e2e)])
def installed(request: pytest.FixtureRequest) -> Iterator[Installation]:
    if request.param == "control-plane":
        yield request.getfixturevalue("on_plane")
        return
    installation = Installation(MemoryCluster())
    installation.install()
    yield installation
    installation.uninstall()


def off(stage: Stage) -> float:
    return hooks_off.labels(STAGES[stage])._value.get()


class TestHooks:
    def test_are_written_once_and_then_left_alone(self, installed: Installation) -> None:
        installed.step()
        there = installed.there()
        assert set(there) == set(STAGES)
        role = installed.cluster.get(f"{ROLES}/forestall-controller")["metadata"]["uid"]
        assert installed.state() == HooksState(role, {stage: obj["metadata"]["uid"] for stage, obj in there.items()})
        record = installed.cluster.get(f"{OWN}/configmaps/{STATE}")
        assert record["metadata"]["labels"] == LABELS
        assert [owner["uid"] for owner in record["metadata"]["ownerReferences"]] == [role]
        assert record["data"]["version"] == VERSION
        installed.step()
        assert installed.there() == there
        assert installed.cluster.get(f"{OWN}/configmaps/{STATE}") == record

    def test_wait_for_a_certificate(self, installed: Installation) -> None:
        installed.delete_secret()
        installed.step()
        assert installed.there() == {}
        installed.create(f"{OWN}/secrets", "forestall-tls", "v1", "Secret", data={})
        installed.step()
        assert installed.there() == {}
        installed.delete_secret()
        installed.make_secret()
        installed.step()
        assert set(installed.there()) == set(STAGES)

    def test_wait_for_an_endpoint(self, installed: Installation) -> None:
        installed.hooks = Hooks(installed.cluster, NAMESPACE, Endpoints(installed.cluster, NAMESPACE))
        installed.step()
        assert installed.there() == {}
        endpoint = {"addresses": ["10.1.2.3"], "conditions": {"ready": False}}
        fields = {"addressType": "IPv4", "ports": [{"name": "webhook", "port": 8443}], "endpoints": [endpoint]}
        metadata = {"labels": {"kubernetes.io/service-name": "forestall"}}
        installed.create(SLICES, "forestall", "discovery.k8s.io/v1", "EndpointSlice", metadata=metadata, **fields)
        installed.step()
        assert installed.there() == {}
        ready = {**endpoint, "conditions": {"ready": True}}
        installed.edit(f"{SLICES}/forestall", lambda obj: obj.update(endpoints=[ready]))
        installed.step()
        assert set(installed.there()) == set(STAGES)

    def test_wait_for_what_they_are_to_go_with(self, installed: Installation) -> None:
        installed.cluster.delete(f"{ROLES}/forestall-controller")
        with structlog.testing.capture_logs() as told:
            installed.step()
            assert [line["reason"] for line in told] == [f"{ROLES}/forestall-controller is missing"]
            installed.step()
        assert len(told) == 1, "it is told once"
        assert installed.there() == {}
        assert installed.cluster.get(f"{OWN}/configmaps/{STATE}") is None
        installed.now -= timedelta(minutes=1, seconds=59)  # it is looked for every time
        installed.create(ROLES, "forestall-controller", "rbac.authorization.k8s.io/v1", "ClusterRole", rules=[])
        installed.step()
        assert set(installed.there()) == set(STAGES)

    def test_follow_the_configuration(self, installed: Installation) -> None:
        installed.step()
        for text in (ALL_OFF, EVERYTHING + "\nwebhooks: {failurePolicy: Fail, timeoutSeconds: 1}", "mode: audit"):
            installed.config = config(text)
            installed.step()
            wanted = made(text)
            for stage, obj in installed.there().items():
                for field in ("name", "rules", "failurePolicy", "timeoutSeconds"):
                    assert [webhook[field] for webhook in obj["webhooks"]] == [
                        webhook[field] for webhook in wanted[stage]["webhooks"]
                    ]
            there = installed.there()
            installed.step()
            assert installed.there() == there, "what the API server adds is taken for somebody's edit"

    def test_edits_are_put_right(self, installed: Installation) -> None:
        def edit(obj: Object) -> None:
            webhook = obj["webhooks"][0]
            webhook["clientConfig"].pop("caBundle")
            del webhook["rules"][0]
            webhook["namespaceSelector"] = {}

        installed.step()
        before = installed.there()
        installed.edit(configuration_path("validate"), edit)
        installed.step()
        assert [obj["webhooks"] for obj in installed.there().values()] == [obj["webhooks"] for obj in before.values()]

    def test_what_is_written_is_logged(self, installed: Installation) -> None:
        def told() -> list[tuple[str, str]]:
            with structlog.testing.capture_logs() as lines:
                installed.step()
            return [(line["event"], line["configuration"]) for line in lines if "configuration" in line]

        assert told() == [("created", kind) for kind in STAGES.values()]
        assert told() == []
        installed.config = config("webhooks: {timeoutSeconds: 1}")
        assert told() == [("corrected", kind) for kind in STAGES.values()]

    def test_a_new_bundle_is_followed(self, installed: Installation) -> None:
        def bundles() -> set[str]:
            return {webhook["clientConfig"]["caBundle"] for webhook in installed.webhooks()}

        installed.step()
        before = bundles()
        installed.delete_secret()
        installed.step()
        assert bundles() == before, "an old bundle is better than none"
        installed.make_secret()
        installed.step()
        assert (len(before), len(bundles()), before & bundles()) == (1, 1, set())

    def test_the_emergency_exit_holds(self, installed: Installation) -> None:
        installed.step()
        told = len(installed.events())
        for stage in STAGES:
            installed.cluster.delete(configuration_path(stage))
        for _ in range(3):
            installed.step()
        installed.hooks = installed.keeper()  # a new leader
        installed.step()
        assert installed.there() == {}
        assert [off(stage) for stage in STAGES] == [1, 1]
        assert installed.state().off == dict.fromkeys(STAGES, DELETED)
        assert sorted(installed.events()[told:]) == [
            f"{kind} forestall was deleted by somebody: it stays off until `forestall hooks on`"
            for kind in STAGES.values()
        ]
        turn_on(installed.cluster, NAMESPACE)
        installed.step()
        assert set(installed.there()) == set(STAGES)
        assert [off(stage) for stage in STAGES] == [0, 0]

    def test_one_that_was_deleted_stays_off_alone(self, installed: Installation) -> None:
        installed.step()
        installed.cluster.delete(configuration_path("mutate"))
        installed.step()
        installed.config = config("webhooks: {timeoutSeconds: 1}")
        installed.step()
        there = installed.there()
        assert set(there) == {"validate"}
        assert {webhook["timeoutSeconds"] for webhook in there["validate"]["webhooks"]} == {1}
        assert [off(stage) for stage in STAGES] == [1, 0]

    def test_one_that_somebody_brings_back_is_on(self, installed: Installation) -> None:
        installed.step()
        saved = installed.there()["validate"]
        installed.cluster.delete(configuration_path("validate"))
        installed.step()
        metadata = {"labels": saved["metadata"]["labels"]}
        collection, _, name = configuration_path("validate").rpartition("/")
        fields = {"metadata": metadata, "webhooks": saved["webhooks"][:1]}
        installed.create(collection, name, saved["apiVersion"], saved["kind"], **fields)
        installed.step()
        assert len(installed.there()["validate"]["webhooks"]) == len(saved["webhooks"])
        assert (installed.state().off, off("validate")) == ({}, 0)
        assert installed.state().uids["validate"] == installed.there()["validate"]["metadata"]["uid"]

    def test_switched_off(self, installed: Installation) -> None:
        installed.step()
        turn_off(installed.cluster, NAMESPACE)
        assert installed.there() == {}
        told = len(installed.events())
        installed.step()
        assert installed.there() == {}
        assert [off(stage) for stage in STAGES] == [1, 1]
        assert len(installed.events()) == told, "nobody is to be told what he did himself"
        # A leader that had decided a moment before makes one all the same, and then sees.
        body = {**made(bundle=BUNDLE, owner=None)["validate"], "webhooks": []}
        installed.cluster.create(configuration_path("validate").rpartition("/")[0], body)
        installed.step()
        assert installed.there() == {}
        turn_on(installed.cluster, NAMESPACE)
        installed.step()
        assert set(installed.there()) == set(STAGES)

    def test_switched_off_although_it_cannot_be_remembered(self, installed: Installation) -> None:
        installed.step()
        installed.edit(f"{OWN}/configmaps/{STATE}", lambda obj: obj.update(immutable=True))
        with pytest.raises(ClusterRefused, match="deleted, but controllers can't be told to leave it so"):
            turn_off(installed.cluster, NAMESPACE)
        assert installed.there() == {}

    @pytest.mark.e2e
    def test_switched_off_without_a_namespace(self, on_plane: Installation) -> None:
        on_plane.step()
        turn_off(on_plane.cluster, "gone")
        assert on_plane.there() == {}

    def test_without_anything_to_switch_off(self, installed: Installation) -> None:
        turn_off(installed.cluster, NAMESPACE)
        installed.step()
        assert installed.there() == {}

    def test_come_back_with_the_chart(self, installed: Installation) -> None:
        installed.step()
        turn_off(installed.cluster, NAMESPACE)  # as the chart's pre-delete hook does
        installed.step()
        installed.cluster.delete(f"{ROLES}/forestall-controller")
        installed.step()
        assert installed.there() == {}
        role = installed.create(ROLES, "forestall-controller", "rbac.authorization.k8s.io/v1", "ClusterRole", rules=[])
        installed.step()
        assert set(installed.there()) == set(STAGES)
        assert installed.state().owner == role["metadata"]["uid"]

    @pytest.mark.e2e
    def test_go_with_the_chart(self, on_plane: Installation) -> None:
        on_plane.step()
        on_plane.cluster.delete(f"{ROLES}/forestall-controller")
        eventually(lambda: on_plane.there() == {})
        eventually(lambda: on_plane.cluster.get(f"{OWN}/configmaps/{STATE}") is None)

    def test_a_stale_leader_s_write_fails(self, installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        installed.step()
        installed.config = config("mode: audit")
        real = installed.cluster.get

        def edited_since(path: str, **options: Any) -> Object | None:
            obj: Object | None = real(path, **options)
            if obj and path == configuration_path("mutate"):
                labels = {**obj["metadata"]["labels"], "by": "another"}
                installed.cluster.replace(path, {**obj, "metadata": {**obj["metadata"], "labels": labels}})
            return obj

        monkeypatch.setattr(installed.cluster, "get", edited_since)
        with pytest.raises(Conflict):
            installed.hooks.reconcile(installed.config, installed.now + timedelta(minutes=2))

    def test_the_bundle_is_read_after_what_it_is_written_into(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that a leader that was held up in between can't put an older bundle over a newer one."""
        asked: list[str] = []
        real = installed.cluster.get

        def noted(path: str, **options: Any) -> Object | None:
            asked.append(path.rpartition("/")[2] if "secrets" in path else path)
            obj: Object | None = real(path, **options)
            return obj

        installed.step()
        monkeypatch.setattr(installed.cluster, "get", noted)
        installed.step()
        assert asked.index("forestall-tls") > max(asked.index(configuration_path(stage)) for stage in STAGES)

    def test_the_service_s_port_is_followed(self, installed: Installation) -> None:
        spec = {"ports": [{"port": 8443}], "selector": {"a": "b"}}
        installed.create(f"{OWN}/services", "forestall", "v1", "Service", spec=spec)
        installed.step()
        assert {webhook["clientConfig"]["service"]["port"] for webhook in installed.webhooks()} == {8443}
        installed.edit(f"{OWN}/services/forestall", lambda obj: obj["spec"]["ports"][0].update(port=9443))
        installed.now -= timedelta(minutes=1, seconds=59)
        installed.step()
        assert {webhook["clientConfig"]["service"]["port"] for webhook in installed.webhooks()} == {8443}
        installed.step()
        assert {webhook["clientConfig"]["service"]["port"] for webhook in installed.webhooks()} == {9443}

    def test_cert_manager_s_bundle_is_awaited_before_anything_fails_closed(self, installed: Installation) -> None:
        installed.config = config("certificates: {mode: certManager}\nwebhooks: {failurePolicy: Fail}")
        installed.step()
        webhook = installed.there()["validate"]["webhooks"][0]
        assert (webhook["failurePolicy"], webhook["clientConfig"].get("caBundle")) == ("Ignore", None)
        bundle = installed.cluster.get(f"{OWN}/secrets/forestall-tls")["data"]["ca.crt"]

        def inject(obj: Object) -> None:
            for webhook in obj["webhooks"]:
                webhook["clientConfig"]["caBundle"] = bundle

        installed.edit(configuration_path("validate"), inject)
        installed.step()
        webhook = installed.there()["validate"]["webhooks"][0]
        assert (webhook["failurePolicy"], webhook["clientConfig"]["caBundle"]) == ("Fail", bundle)

    @pytest.mark.e2e
    def test_without_a_server_only_what_may_be_denied_is_refused(
        self, on_plane: Installation, plane: ControlPlane
    ) -> None:
        """Nobody listens behind the Service: what the enforce preset refuses then, mode audit lets through."""
        service = ("forestall", "--external-name=localhost", "--tcp=1", "-n", NAMESPACE)
        plane.kubectl("create", "service", "externalname", *service)
        deployment = ("create", "deployment", "web", "--image=nginx:1.27", "--dry-run=server")
        failing = "webhooks: {failurePolicy: Fail, timeoutSeconds: 1}\nonError: deny\n"

        def is_refused() -> bool:
            done = plane.try_kubectl(*deployment)
            assert done.returncode == 0 or "failed calling webhook" in done.stderr, done.stderr
            return done.returncode != 0

        try:
            for mode, refused in (("deny", True), ("audit", False), ("warn", False), ("deny", True)):
                on_plane.config = config(f"{failing}mode: {mode}")
                on_plane.step()
                eventually(lambda refused=refused: is_refused() == refused, f"mode {mode}")
        finally:
            plane.kubectl("delete", "service", "forestall", "-n", NAMESPACE)

    @pytest.mark.e2e
    def test_what_is_spared_does_not_arrive_and_all_else_does(
        self, on_plane: Installation, plane: ControlPlane, tmp_path: Path
    ) -> None:
        installed = on_plane
        server = Server(tmp_path, prepare(plane))
        service = ("forestall", "--external-name=localhost", f"--tcp={server.port}", "-n", "forestall-system")
        plane.kubectl("create", "service", "externalname", *service)
        installed.delete_secret()
        installed.make_secret(server.certificate)
        server.start()
        try:
            installed.config = config("webhooks: {failurePolicy: Fail}\nexcludeNamespaces: ['legacy-*']")
            installed.step()
            for namespace in ("legacy-a", "shop"):
                plane.kubectl("create", "namespace", namespace)
                account = ("get", "serviceaccount", "default", "-n", namespace)
                eventually(lambda: plane.try_kubectl(*account).returncode == 0)  # noqa: B023
            limits = {
                "spec": {"containers": [{"name": "web", "image": "a", "resources": {"limits": {"memory": "64Mi"}}}]}
            }
            run = ("run", "--image=a", f"--overrides={json.dumps(limits)}")
            unlimited = ("run", "unlimited", "--image=a", "--dry-run=server", "-n", "shop")
            eventually(lambda: "memory-limits" in plane.try_kubectl(*unlimited).stderr)
            plane.kubectl(*run, "-n", "legacy-a", "excluded")
            finalizer = '{"metadata": {"finalizers": ["a.example.com/b"]}}'
            for name, *command in (
                ("finalized", "patch", "-p", finalizer),
                ("labelled", "label", "a=b"),
                ("annotated", "annotate", "a=b"),
                ("imaged", "set", "image", "web=b"),
                ("deleted", "patch", "-p", finalizer),
            ):
                plane.kubectl(*run, "-n", "shop", name)
                verb, *rest = command
                words = (verb, rest.pop(0)) if verb == "set" else (verb,)
                plane.kubectl(*words, f"pod/{name}", *rest, "-n", "shop")
            plane.kubectl("delete", "pod", "deleted", "-n", "shop", "--wait=false", "--grace-period=0")
            plane.kubectl("patch", "pod", "deleted", "-n", "shop", "-p", '{"metadata": {"finalizers": null}}')
        finally:
            server.stop()
            plane.kubectl("delete", "service", "forestall", "-n", "forestall-system")
        seen = {
            (review["name"], review["operation"], review["stage"]) for review in server.log(dry_run=False, kind="Pod")
        }
        names = ("finalized", "labelled", "annotated", "imaged", "deleted")
        assert seen == {(name, "CREATE", stage) for name in names for stage in STAGES} | {
            (name, "UPDATE", "validate") for name in ("labelled", "annotated", "imaged")
        }
