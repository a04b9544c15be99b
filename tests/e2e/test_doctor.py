"""`forestall doctor` on the installed chart: nothing to do, and each thing that goes wrong found with its remedy."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from charts.generate import CHART
from tests.builders import container, limit_range
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import deployment, has_helm
from tests.e2e.installed import Installation, helm, own_address
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from webhook.certs import make_self_signed
from webhook.policy import Object

MUTATING, VALIDATING = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
SOUND: tuple[int, list[tuple[str, str, str, str]]] = (0, [])


@dataclass(frozen=True)
class Running:
    plane: ControlPlane
    installation: Installation
    server: ExitStack
    """Closing it ends the server."""
    port: int
    controller: subprocess.Popen[bytes]

    def doctor(self) -> tuple[int, list[tuple[str, str, str, str]]]:
        """The exit code, and name, status, what is seen and what to do of all that isn't ok."""
        done = self.installation.forestall("doctor", "--output=json")
        checks = json.loads(done.stdout)["checks"]
        found = [(check["name"], check["status"], check["seen"], check["todo"]) for check in checks]
        return done.returncode, [check for check in found if check[1] != "ok"]

    def seen(self) -> list[str]:
        return [seen for _, _, seen, _ in self.doctor()[1]]

    def gaps_seen(self) -> list[str]:
        return [seen for name, _, seen, _ in self.doctor()[1] if name == "gaps"]

    def forget_gaps(self) -> None:
        self.change("configmap", "forestall-state", lambda it: it["data"].pop("gaps"))

    @contextmanager
    def controller_paused(self) -> Iterator[None]:
        """Less than a minute, or doctor says that it is silent."""
        self.controller.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.controller.send_signal(signal.SIGCONT)

    @contextmanager
    def changed(self, kind: str, name: str, change: Callable[[Object], object]) -> Iterator[None]:
        """An object of the cluster, changed meanwhile."""
        before = self.plane.kubectl("get", kind, name, f"--namespace={SYSTEM}", "--output=json")
        self._replace(before, change)
        try:
            yield
        finally:
            self._replace(before)

    def change(self, kind: str, name: str, change: Callable[[Object], object]) -> None:
        self._replace(self.plane.kubectl("get", kind, name, f"--namespace={SYSTEM}", "--output=json"), change)

    def _replace(self, text: str, change: Callable[[Object], object] = lambda _: None) -> None:
        obj = json.loads(text)
        del obj["metadata"]["resourceVersion"]  # whatever it is by now
        change(obj)
        self.plane.kubectl("replace", "--filename=-", input=json.dumps(obj))

    @contextmanager
    def created(self, obj: Object) -> Iterator[None]:
        text = json.dumps(obj)
        self.plane.kubectl("create", "--filename=-", input=text)
        try:
            yield
        finally:
            self.plane.kubectl("delete", "--filename=-", input=text)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path_factory.mktemp("plane")) as plane, ExitStack() as stack:
        helm(plane, "install", "forestall", CHART, "--create-namespace", "--wait", "--timeout=60s")
        plane.kubectl("create", "namespace", "shop")
        installation = Installation(plane, tmp_path_factory.mktemp("mounted"))
        server = stack.enter_context(ExitStack())
        port = server.enter_context(installation.serving())
        installation.name_endpoints(port, nodes=())  # until it has its certificate
        controller = stack.enter_context(installation.process("forestall-controller"))
        eventually(installation.mount_certificate)
        eventually(installation.is_ready)
        installation.name_endpoints(port)
        eventually(installation.is_asked)
        running = Running(plane, installation, server, port, controller)
        yield running


def test_a_sound_installation_needs_nothing(running: Running) -> None:
    assert running.doctor() == SOUND
    # Before its first webhook configurations nothing was promised.
    assert "GapBegan" not in running.plane.kubectl("get", "events", f"--namespace={SYSTEM}", "--output=name")
    assert "gaps" not in (running.installation.get("configmap", "forestall-state") or {"data": {}})["data"]
    assert "\nNothing needs doing\n" in running.installation.forestall("doctor").stdout


def test_who_may_do_nothing_is_told_so(running: Running) -> None:
    kubeconfig = running.plane.dev_kubeconfig
    done = running.installation.forestall("doctor", "--output=json", f"--kubeconfig={kubeconfig}")
    statuses = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert {name for name, status in statuses.items() if status == "ok"} == {"api-server", "clock"}
    assert set(statuses.values()) == {"ok", "unknown"}


def test_a_lonely_replica_that_can_t_be_reached_from_here(running: Running) -> None:
    endpoint = {"addresses": [own_address()], "conditions": {"ready": True}}
    nowhere = {"endpoints": [endpoint], "ports": [{"name": "webhook", "port": 9}]}
    with running.changed("endpointslice", "forestall-local", lambda it: it.update(nowhere)):
        assert running.doctor() == (
            1,
            [
                (
                    *("endpoints", "warn", "1 of 1 endpoints of Service forestall are ready"),
                    "run two replicas or more: nothing is judged while one restarts",
                ),
                (
                    *("spread", "unknown", "cannot tell: no endpoint says on which node it is"),
                    "see whether replicas are ready",
                ),
            ],
        )


def test_deleted_hooks(running: Running) -> None:
    running.plane.kubectl("delete", VALIDATING, "forestall")
    text = f"{VALIDATING} forestall is not there"
    hooks = f"{text}: it was deleted by somebody, nothing is asked"
    eventually(lambda: hooks in running.seen())
    (gap,) = eventually(running.gaps_seen)
    assert re.fullmatch("a gap is open: .* to now: validate, hooks off", gap)
    assert running.doctor() == (
        1,
        [
            ("hooks", "fail", hooks, "switch it on: forestall hooks on"),
            ("rules", "fail", f"{text}: nothing is asked", "see hooks"),
            ("gaps", "fail", gap, "see hooks"),
        ],
    )
    assert running.installation.forestall("hooks", "on").returncode == 0
    eventually(lambda: running.doctor() == SOUND)


def test_an_edited_bundle_until_the_controller_mends_it(running: Running) -> None:
    bundle = base64.b64encode(make_self_signed()[0]).decode()
    seen = "caBundle of validate.forestall.dev doesn't trust what is presented (as 2 of 2 endpoints present it)"
    with running.controller_paused():
        running.change(VALIDATING, "forestall", lambda it: it["webhooks"][0]["clientConfig"].update(caBundle=bundle))
        todo = "see why the controller doesn't set it right: its log"
        assert running.doctor() == (1, [("certificate", "fail", seen, todo)])
    eventually(lambda: running.doctor() == SOUND)


def narrow(hook: Object) -> None:
    (rule,) = (rule for rule in hook["webhooks"][0]["rules"] if "jobs" in rule["resources"])
    rule["resources"].remove("jobs")


def widen(hook: Object) -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}
    hook["webhooks"][0]["rules"].append(rule)


@pytest.mark.parametrize(
    ("change", "status", "seen"),
    [
        pytest.param(narrow, "fail", "isn't asked about CREATE of jobs.batch, UPDATE of jobs.batch", id="narrower"),
        pytest.param(widen, "warn", "is asked about CREATE of secrets, which no policy judges", id="wider"),
    ],
)
def test_rules(running: Running, change: Callable[[Object], None], status: str, seen: str) -> None:
    text = f"{VALIDATING} forestall: validate.forestall.dev {seen}"
    todo = "see why the controller doesn't follow the configuration: its log, forestall_controller_errors_total"
    with running.controller_paused(), running.changed(VALIDATING, "forestall", change):
        assert running.doctor() == (1, [("rules", status, text, todo)])


def test_somebody_else_s_hook_for_everything(running: Running) -> None:
    """One that our server answers, or nothing in this cluster would work meanwhile."""
    ours = running.installation.get(VALIDATING, "forestall")["webhooks"][0]
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE", "UPDATE"]}
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": VALIDATING,
        "metadata": {"name": "strict"},
        "webhooks": [
            {
                "name": "strict.example.com",
                "clientConfig": ours["clientConfig"],
                "rules": [everything],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    seen = f"{VALIDATING} strict: strict.example.com is asked about everything and fails closed, in kube-system as well"
    todo = "narrow its rules, or exclude kube-system and forestall-system in its namespaceSelector"
    with running.created(hook):
        assert running.doctor() == (1, [("other-hooks", "warn", seen, todo)])


@pytest.mark.parametrize(
    ("limit_ranges", "remarks"),
    [
        pytest.param([limit_range("small", default="128Mi")], [], id="a-small-default-is-a-team-s-own-affair"),
        pytest.param(
            [limit_range("large", default="4Gi"), limit_range("tight", max="1Gi")],
            [
                (
                    *("limit-ranges", "fail"),
                    (
                        "LimitRange large, tight of shop: pods without resources of their own are refused: "
                        "requests.memory 4Gi is above the maximum 1Gi"
                    ),
                    "change its default or its bounds of memory",
                )
            ],
            id="a-default-above-the-maximum",
        ),
    ],
)
def test_limit_ranges(running: Running, limit_ranges: list[Object], remarks: list[tuple[str, str, str, str]]) -> None:
    with ExitStack() as made:
        for obj in limit_ranges:
            made.enter_context(running.created(obj))
        assert running.doctor() == (int(bool(remarks)), remarks)


def test_a_limit_range_that_the_controller_may_not_make(running: Running) -> None:
    def forbid(role: Object) -> None:
        (rule,) = (rule for rule in role["rules"] if rule["resources"] == ["limitranges"] and "create" in rule["verbs"])
        rule["verbs"].remove("create")

    with running.changed("clusterrole", "forestall-controller", forbid):
        running.plane.kubectl("label", "namespace", "shop", "forestall.dev/defaults=true")
        begin = "LimitRange forestall-defaults of shop is not made: the API server refuses it: "
        eventually(lambda: any(seen.startswith(begin) for seen in running.seen()))
        code, (right, not_made) = running.doctor()
        account = "controllers (ServiceAccount forestall-system/forestall-controller)"
        assert right[:3] == ("rights", "fail", f"{account} may not create limitranges: they can't do their work")
        assert (code, not_made[:2], "(403)" in not_made[2]) == (1, ("limit-ranges", "warn"), True)
        assert not_made[3] == "see rights; where they are fine, the refusal names who refused"
        # The line that doctor prints, for a shell, helps.
        line = right[3].removeprefix("grant it: ")
        subprocess.run(["bash", "-ec", line], env=running.plane.environment, check=True, capture_output=True)
    running.plane.kubectl("label", "namespace", "shop", "forestall.dev/defaults-")
    eventually(lambda: running.doctor() == SOUND, seconds=120)


def test_a_deleted_binding(running: Running) -> None:
    running.plane.kubectl("delete", "clusterrolebinding", "forestall-server")
    code, ((name, status, seen, todo),) = running.doctor()
    assert (code, name, status) == (1, "rights", "fail")
    assert re.fullmatch("ClusterRoleBinding forestall-server is not there: servers lack [0-9]+ rights .*", seen)
    line = todo.removeprefix("make it again: ")
    subprocess.run(["bash", "-ec", line], env=running.plane.environment, check=True, capture_output=True)
    assert running.doctor() == SOUND


def test_what_the_configuration_says_in_vain(running: Running, tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).date()
    exemption = "{policy: zonal-volumes, match: {namespaces: [%s]}, owner: sre, reason: moving, until: %s}"
    file = tmp_path / "config.yaml"
    file.write_text(
        f"mode: warn\nexemptions: [{exemption % ('shop', soon)}]\n"
        "overrides: [{match: {namespaces: [shop]}, policies: {memory-limits: {mode: deny}}}]\n"
    )
    running.plane.kubectl("label", "namespace", "shop", "forestall.dev/defaults=true")
    try:
        done = running.installation.forestall("doctor", "--output=json", f"--config={file}")
    finally:
        running.plane.kubectl("label", "namespace", "shop", "forestall.dev/defaults-")
    found = [(check["name"], check["seen"]) for check in json.loads(done.stdout)["checks"] if check["status"] != "ok"]
    assert [told for told in found if told[0] in ("configuration", "limit-ranges")] == [
        ("configuration", f"exemptions[0] (zonal-volumes, owner sre) ends in 3 days, on {soon}"),
        ("configuration", "exemptions[0] (zonal-volumes, owner sre) covers nothing that is in the cluster"),
        ("configuration", "overrides[0].policies.memory-limits.mode is deny, capped by mode: warn"),
        ("limit-ranges", "label forestall.dev/defaults of namespace shop does nothing: limitRanges is empty"),
    ]
    eventually(lambda: running.doctor() == SOUND)


def test_an_operator_that_controllers_lacks(running: Running) -> None:
    owner = {"apiVersion": "obs.example.com/v1", "kind": "Observatory", "name": "obs", "uid": "1", "controller": True}
    obj = deployment("made", "shop", container())
    obj["metadata"]["ownerReferences"] = [owner]
    operator = ("--as=system:serviceaccount:obs:obs-operator", "--as-group=system:masters")
    create = ("create", *operator, "--field-manager=obs-operator", "--filename=-")
    running.plane.kubectl(*create, input=json.dumps(obj))
    try:
        seen = (
            "what an operator makes for Observatory resources, written by obs-operator, is warned of: "
            "Deployment shop/made"
        )
        code, ((name, status, told, _),) = running.doctor()
        assert (code, name, status, told) == (1, "operators", "warn", seen)
    finally:
        running.plane.kubectl("delete", "deployment", "made", "--namespace=shop")


def test_a_hook_that_has_the_last_word(running: Running) -> None:
    ours = running.installation.get(MUTATING, "forestall")["webhooks"][0]
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}
    webhook = {**ours, "name": "later.example.com", "rules": [rule]}
    metadata = {"name": "later"}
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": MUTATING,
        "metadata": metadata,
        "webhooks": [webhook],
    }
    seen = f"{MUTATING} later: later.example.com has the last word on deployments.apps, after our patches"
    with running.created(hook):
        code, remarks = running.doctor()
        assert (code, [remark[:3] for remark in remarks]) == (1, [("order", "warn", seen)])


def test_all_replicas_on_one_node(running: Running) -> None:
    seen = "all ready replicas are on node node-0: they go when it goes"
    todo = "restart the Deployment, which spreads over nodes that have room"
    with running.changed("endpointslice", "forestall-local", lambda it: it["endpoints"][1].update(nodeName="node-0")):
        assert running.doctor() == (1, [("spread", "warn", seen, todo)])


def test_a_gap_and_what_came_in_by_it(running: Running) -> None:
    running.forget_gaps()
    running.server.close()
    running.plane.kubectl("create", "deployment", "web", "--image=nginx:1.29", "--namespace=shop")
    began, unchecked = eventually(running.gaps_seen)
    assert re.fullmatch("a gap is open: .* to now: mutate and validate, no answer", began)
    assert re.fullmatch(r"Deployment shop/web was admitted unchecked \(created .* UTC\): memory-limits", unchecked)
    came_in = ("gaps", "warn", unchecked, "container 'nginx' has no memory limit: set limits.memory to 512Mi")
    assert running.doctor() == (1, [("gaps", "fail", began, "see endpoints, certificate and hooks"), came_in])

    running.server.enter_context(running.installation.serving(running.port))
    ended, _ = eventually(lambda: seen if began not in (seen := running.gaps_seen()) else None)
    assert re.fullmatch(r"a gap of \d+ s at least: .*: mutate and validate, no answer", ended)
    todo = "find out why: kubectl -n forestall-system get events, and the servers' logs of that time"
    assert running.doctor() == (1, [("gaps", "warn", ended, todo), came_in])
    running.plane.kubectl("delete", "deployment", "web", "--namespace=shop")
    running.forget_gaps()
    assert running.doctor() == SOUND
