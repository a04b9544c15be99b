"""docs/troubleshooting.md: its headings are what is printed when something goes wrong, its commands mend that."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charts.generate import CHART
from tests.builders import ROOT, container, limit_range, sized
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import CONFIG, Guarded, Object, claim, deployment, has_helm, volume
from tests.e2e.installed import Installation, helm, try_helm, typed
from tests.e2e.replicas import SYSTEM
from tests.loopback import eventually
from webhook.certs import make_self_signed

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.+?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def message_of(heading: str) -> str:
    """What is printed: the heading's part in backticks."""
    return heading.split("`")[1]


def remedy_of(heading: str, block: int = -1) -> str:
    """The section's last commands, or others of it."""
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", SECTIONS[heading], re.MULTILINE | re.DOTALL)
    return blocks[block]


# In a namespace of a guarded cluster


@dataclass(frozen=True)
class Shop:
    """The page's namespace `shop`, whatever it is called here."""

    cluster: Guarded
    namespace: str
    folder: Path
    heading: str

    def type(self, command: str) -> str:
        return typed(self.cluster.plane, command.replace("shop", self.namespace), self.folder).stdout

    def mend(self, block: int = -1) -> str:
        """Type the section's last commands, or others of it."""
        return self.type(remedy_of(self.heading, block))

    def sees(self, printed: Callable[[], str]) -> None:
        eventually(lambda: message_of(self.heading) in printed(), f"{self.heading} is not printed")

    def apply(self, obj: Object) -> str:
        """What kubectl prints; the file is the page's web.yaml."""
        (self.folder / "web.yaml").write_text(json.dumps(obj))
        return self.type("kubectl apply --filename web.yaml")

    def events(self) -> str:
        messages = "--output=custom-columns=MESSAGE:.message"
        return self.cluster.kubectl("get", "events", messages, f"--namespace={self.namespace}")

    def runs(self, selector: str = "app=web") -> None:
        self.cluster.running(self.namespace, selector=selector)

    def web(self, resources: Object | None = None, **spec: Any) -> Object:
        return deployment("web", self.namespace, container(**(resources or {})), **spec)

    def stateful(self, class_name: str) -> Object:
        web = self.web(sized("1Gi"))
        asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        template = {"metadata": {"name": "data"}, "spec": asked | {"storageClassName": class_name}}
        return web | {
            "kind": "StatefulSet",
            "spec": web["spec"] | {"serviceName": "web", "volumeClaimTemplates": [template]},
        }

    def job(self, limit: str) -> Object:
        spec = {"restartPolicy": "Never", "containers": [container(**sized(limit))]}
        metadata = {"name": "web", "namespace": self.namespace}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": spec}}}


def denied(shop: Shop) -> None:
    shop.sees(lambda: shop.apply(too_small(shop)))
    assert shop.mend().startswith("# memory-limits\n")


def too_small(shop: Shop) -> Object:
    return deployment("web", shop.namespace, container("prometheus", "prom/prometheus:v3.1.0", **sized("1Gi")))


def denied_though_exempted(shop: Shop) -> None:
    exemption = (
        "exemptions: [{policy: prometheus-memory, match: {namespaces: [%s], names: [%s]}, owner: sre, reason: moving,"
        " until: %s}]\n"
    )
    expired = exemption % (shop.namespace, "web", "2026-11-01")
    with shop.cluster.server.configured(expired):
        shop.sees(lambda: shop.apply(too_small(shop)))
    shop.cluster.kubectl(
        *("create", "configmap", "forestall-config", f"--namespace={SYSTEM}", f"--from-literal=config.yaml={expired}")
    )
    try:
        assert "expired on 2026-11-01 and no longer counts" in shop.mend()
    finally:
        shop.cluster.kubectl("delete", "configmap", "forestall-config", f"--namespace={SYSTEM}")
    for name, verb in (("web-7d9", "denied"), ("web", "created")):
        with shop.cluster.server.configured(exemption % (shop.namespace, name, "2999-01-01")):
            assert verb in shop.apply(too_small(shop))


def request_above_the_limit(shop: Shop) -> None:
    shop.cluster.apply(limit_range(namespace=shop.namespace, default="512Mi"))
    with shop.cluster.server.configured("mode: audit\n"):
        shop.apply(shop.web(sized(None, "1Gi")))
        shop.sees(shop.events)
        assert message_of(shop.heading) in shop.type(
            "kubectl get events --namespace shop --field-selector reason=FailedCreate"
        )
    shop.mend()
    shop.runs()


def limit_above_the_maximum(shop: Shop) -> None:
    shop.cluster.apply(limit_range(namespace=shop.namespace, max="2Gi"))
    with shop.cluster.server.configured("mode: audit\n"):
        shop.apply(shop.web(sized("4Gi", "1Gi")))
        shop.sees(shop.events)
    shop.mend()
    shop.runs()


def exceeded_quota(shop: Shop) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team", "namespace": shop.namespace}}
    shop.cluster.apply(quota | {"spec": {"hard": {"requests.memory": "200Mi"}}})
    shop.apply(shop.web())
    shop.sees(shop.events)
    shop.mend()
    shop.runs()


def template_of_a_stateful_set(shop: Shop) -> None:
    shop.apply(shop.stateful("ebs"))
    shop.sees(lambda: shop.apply(shop.stateful("ebs-regional")))
    assert "statefulset.apps/web created" in shop.mend()


def template_of_a_job(shop: Shop) -> None:
    shop.apply(shop.job("1Gi"))
    shop.sees(lambda: shop.apply(shop.job("2Gi")))
    assert "job.batch/web created" in shop.mend()


def class_of_a_claim(shop: Shop) -> None:
    shop.apply(claim("web", shop.namespace))
    shop.sees(lambda: shop.apply(claim("web", shop.namespace, "ebs-regional")))
    shop.mend()
    eventually(lambda: "created" in shop.apply(claim("web", shop.namespace, "ebs-regional")))


def fault_of_before(shop: Shop) -> None:
    with shop.cluster.server.configured("mode: audit\n"):
        shop.apply(shop.web())
    annotate = "kubectl annotate deployment/web --namespace shop owner=sre --overwrite"
    shop.sees(lambda: shop.type(annotate))
    shop.mend()
    assert "Warning" not in shop.type(annotate)


def nothing_is_printed(shop: Shop) -> None:
    ask = remedy_of(shop.heading)
    assert "patched to limits.memory=512Mi" in shop.type(ask)
    for configuration in ("mode: audit\n", f"excludeNamespaces: [{shop.namespace}]\n"):
        with shop.cluster.server.configured(configuration):
            assert "Warning" not in shop.type(ask)
    shop.cluster.apply(limit_range(namespace=shop.namespace, default="512Mi"))
    eventually(lambda: "Warning" not in shop.type(ask))


def no_node_has_room(shop: Shop) -> None:
    shop.apply(shop.web(sized("100Gi")))
    shop.sees(shop.events)
    assert "Allocated resources" in shop.mend()


def volume_elsewhere(shop: Shop) -> None:
    data = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    shop.cluster.apply(
        claim("data", shop.namespace), volume(f"disk-{shop.namespace}", shop.namespace, "data", ["zone-a"])
    )
    shop.apply(shop.web(sized("1Gi"), nodeSelector={"topology.kubernetes.io/zone": "zone-b"}, **data))
    shop.sees(shop.events)
    assert "[zone-a]" in shop.mend(0)
    shop.mend()
    shop.runs()


def configuration_refused(shop: Shop) -> None:
    server = shop.cluster.server
    bad = "policies: {memory-limits: {params: {defaultLimit: 1Gi, defaultRequest: 2Gi}}}\n"
    try:
        server.refuse_configuration(bad)
        shop.sees(server.log_file.read_text)
    finally:
        server.configure(CONFIG)
    (shop.folder / "forestall.yaml").write_text(bad)
    assert "defaultRequest" in shop.mend()


def no_such_command(shop: Shop) -> None:
    command = ["bash", "-c", "forestall check web.yaml"]
    environment = {"PATH": "/usr/bin:/bin"}
    shop.sees(lambda: subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr)


IN_A_NAMESPACE: dict[str, Callable[[Shop], None]] = {
    "`denied the request`": denied,
    "`denied the request`, though there is an exemption": denied_though_exempted,
    "`must be less than or equal to memory limit`": request_above_the_limit,
    "`maximum memory usage per Container`": limit_above_the_maximum,
    "`exceeded quota`": exceeded_quota,
    "`updates to statefulset spec for fields other than`": template_of_a_stateful_set,
    "`field is immutable`": template_of_a_job,
    "`spec is immutable after creation`": class_of_a_claim,
    "`it was so before this change`": fault_of_before,
    "Not patched, and nothing is printed": nothing_is_printed,
    "`Insufficient memory`": no_node_has_room,
    "`didn't match PersistentVolume's node affinity`": volume_elsewhere,
    "`configuration refused, the last good one stays`": configuration_refused,
    "`forestall: command not found`": no_such_command,
}


@pytest.mark.parametrize("heading", IN_A_NAMESPACE)
def test_in_a_namespace(cluster: Guarded, heading: str, tmp_path: Path) -> None:
    name = f"shop-{list(IN_A_NAMESPACE).index(heading)}"
    cluster.make_namespace(name)
    IN_A_NAMESPACE[heading](Shop(cluster, name, tmp_path, heading))


# With the chart, which fails closed


class Installed:
    """The chart at work; `stop` and `start` are for its only server."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        values = "--set=config.webhooks.failurePolicy=Fail,config.webhooks.timeoutSeconds=1"
        self.notes = helm(plane, "install", "forestall", CHART, "--create-namespace", values)
        self.plane, self.folder = plane, folder
        plane.kubectl("create", "namespace", "shop")
        self.installation = Installation(plane, folder)
        self.heading = ""
        self._server = ExitStack()
        self.port = self._server.enter_context(self.installation.serving())

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self.installation.process("forestall-controller", f"--endpoints=127.0.0.1:{self.port}"):
            try:
                eventually(self.installation.mount_certificate)
                eventually(self.installation.is_asked)
                self.works()
                yield
            finally:
                self.stop()

    def stop(self) -> None:
        self._server.close()

    def start(self) -> None:
        self._server.enter_context(self.installation.serving(self.port))

    def present(self, *names: str, days: int = 90) -> None:
        """Have the server present a certificate that isn't the controller's."""
        self.stop()
        chain, key = make_self_signed(names, days=days)
        for name, data in (("tls.key", key), ("tls.crt", chain)):
            (self.folder / "tls" / name).write_bytes(data)
        self.start()

    def restart(self) -> None:
        """As new pods start: with what Secret and ConfigMap hold."""
        self.stop()
        self.installation.mount_certificate()
        self.start()

    def deploy(self) -> str:
        create = ("create", "deployment", "web", "--image=nginx:1.29", "--namespace=shop", "--dry-run=server")
        done = self.plane.try_kubectl(*create)
        return done.stdout + done.stderr

    def may_list(self, resource: str) -> bool:
        """Whether the server's ServiceAccount may."""
        account = f"--as=system:serviceaccount:{SYSTEM}:forestall-server"
        return self.plane.try_kubectl("auth", "can-i", "list", resource, "--all-namespaces", account).returncode == 0

    def works(self) -> None:
        # The controller looks at the Service's port once a minute.
        eventually(lambda: "patched to limits.memory=512Mi" in self.deploy(), "it is not patched", 90)

    def sees(self, printed: Callable[[], str]) -> None:
        eventually(lambda: message_of(self.heading) in printed(), f"{self.heading} is not printed")

    def mend(self, block: int = -1) -> str:
        """Type the section's last commands, or others of it."""
        return self.type(remedy_of(self.heading, block))

    def type(self, command: str) -> str:
        """The image is in a registry that is no placeholder."""
        printed = typed(self.plane, command.replace("registry.example.com", "registry.test"), ROOT).stdout
        if "helm upgrade" in command:  # which puts the chart's own Service back
            self.installation.lead_service_to(self.port)
        return printed


def no_endpoints(forestall: Installed) -> None:
    """API servers that route by endpoints, as many clouds' do, say it; others go by the Service's address."""
    plane, service = forestall.plane, ("service", "forestall", f"--namespace={SYSTEM}")
    plane.restart_api_server("--enable-aggregator-routing")
    plane.kubectl("delete", *service)
    create = ("create", "service", "clusterip", "forestall", f"--tcp={forestall.port}:8443")
    plane.kubectl(*create, f"--namespace={SYSTEM}")
    forestall.sees(forestall.deploy)
    plane.restart_api_server()
    forestall.installation.lead_service_to(forestall.port)


def connection_refused(forestall: Installed) -> None:
    forestall.stop()
    forestall.sees(forestall.deploy)
    failed_open = "Failed calling webhook, failing open mutate.forestall.dev"
    assert failed_open in (forestall.plane.folder / "kube-apiserver.log").read_text()
    forestall.start()


def deadline_exceeded(forestall: Installed) -> None:
    forestall.stop()
    with socket.create_server(("127.0.0.1", forestall.port)):
        forestall.sees(forestall.deploy)
    forestall.start()


def unknown_authority(forestall: Installed) -> None:
    forestall.present(f"forestall.{SYSTEM}.svc")
    forestall.sees(forestall.deploy)
    assert "deployment.apps/forestall restarted" in forestall.mend()
    forestall.restart()


def another_name(forestall: Installed) -> None:
    forestall.present("forestall.example.com")
    forestall.sees(forestall.deploy)
    assert f"DNS:forestall.{SYSTEM}.svc" in forestall.mend()
    forestall.restart()


def expired(forestall: Installed) -> None:
    forestall.present(f"forestall.{SYSTEM}.svc", days=0)
    forestall.sees(forestall.deploy)
    forestall.restart()


def service_not_found(forestall: Installed) -> None:
    forestall.plane.kubectl("delete", "service", "forestall", f"--namespace={SYSTEM}")
    forestall.sees(forestall.deploy)
    forestall.mend(0)


def could_not_decide(forestall: Installed) -> None:
    """A server that may read all but LimitRanges, asked although it isn't ready."""
    with without_rights(forestall, "limitranges"):
        forestall.sees(forestall.deploy)


def cannot_list(forestall: Installed) -> None:
    with without_rights(forestall, "nodes"):
        forestall.sees(lambda: forestall.installation.log("forestall"))


def edited_by_hand(forestall: Installed) -> None:
    forestall.plane.kubectl("replace", "--filename=-", input=json.dumps(role_without(forestall, "nodes")))
    upgrade = "helm upgrade forestall charts/forestall --namespace forestall-system --reset-then-reuse-values"
    forestall.sees(lambda: forestall.type(upgrade))
    forestall.mend()
    assert forestall.may_list("nodes")


@contextmanager
def without_rights(forestall: Installed, resource: str) -> Iterator[None]:
    """The servers' role lacks a resource, and the server starts; the line that doctor prints brings the right back."""
    plane = forestall.plane
    plane.kubectl("replace", "--filename=-", input=json.dumps(role_without(forestall, resource)))
    eventually(lambda: not forestall.may_list(resource))
    forestall.restart()
    yield
    done = forestall.installation.forestall("doctor", "--output=json")
    (line,) = re.findall(
        "grant it: (.* && .*)", "\n".join(found["todo"] for found in json.loads(done.stdout)["checks"])
    )
    forestall.type(line)
    eventually(forestall.installation.is_ready)


def role_without(forestall: Installed, resource: str) -> Object:
    role: Object = json.loads(forestall.plane.kubectl("get", "clusterrole", "forestall-server", "--output=json"))
    for rule in role["rules"]:
        rule["resources"] = [name for name in rule["resources"] if name != resource]
    return role | {"rules": [rule for rule in role["rules"] if rule["resources"]]}


def placeholder(forestall: Installed) -> None:
    forestall.sees(lambda: forestall.notes)
    assert message_of(forestall.heading) not in forestall.mend()


def rollout_times_out(forestall: Installed) -> None:
    nowhere = '{"spec": {"template": {"spec": {"nodeSelector": {"disk": "none"}}}}}'
    forestall.plane.kubectl("patch", "deployment", "forestall", f"--namespace={SYSTEM}", f"--patch={nowhere}")
    status = ("rollout", "status", "deployment/forestall", f"--namespace={SYSTEM}", "--timeout=1s")
    forestall.sees(lambda: forestall.plane.try_kubectl(*status).stderr)
    assert "FailedScheduling" in forestall.mend()
    forestall.plane.kubectl("rollout", "undo", "deployment/forestall", f"--namespace={SYSTEM}")


def schema(forestall: Installed) -> None:
    wrong = ("--reset-then-reuse-values", "--set=config.policies.memory-limit.mode=warn")
    forestall.sees(lambda: try_helm(forestall.plane, "upgrade", "forestall", CHART, *wrong).stderr)
    assert "memory-limits" in forestall.mend()


OF_THE_INSTALLATION: dict[str, Callable[[Installed], None]] = {
    '`no endpoints available for service "forestall"`': no_endpoints,
    "`connect: connection refused`": connection_refused,
    "`context deadline exceeded`": deadline_exceeded,
    "`x509: certificate signed by unknown authority`": unknown_authority,
    "`x509: certificate is valid for`": another_name,
    "`x509: certificate has expired or is not yet valid`": expired,
    '`service "forestall" not found`': service_not_found,
    "`could not decide`": could_not_decide,
    "`image.repository is still the placeholder`": placeholder,
    "`timed out waiting for the condition`": rollout_times_out,
    "`values don't meet the specifications of the schema`": schema,
    "`cannot list resource`": cannot_list,
    "`conflict occurred while applying object`": edited_by_hand,
}


@pytest.fixture(scope="module")
def forestall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        installed = Installed(plane, tmp_path_factory.mktemp("mounted"))
        with installed.at_work():
            yield installed


@pytest.mark.parametrize("heading", OF_THE_INSTALLATION)
def test_of_the_installation(forestall: Installed, heading: str) -> None:
    forestall.heading = heading
    OF_THE_INSTALLATION[heading](forestall)
    forestall.works()


def test_every_heading_is_tried() -> None:
    assert set(SECTIONS) == set(IN_A_NAMESPACE | OF_THE_INSTALLATION)
