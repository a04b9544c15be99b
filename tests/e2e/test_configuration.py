"""Modes, overrides, exemptions and exclusions, each taken up by the running server."""

from __future__ import annotations

from tests.e2e.guarded import CONFIG, Guarded, deployment, memory_of
from tests.e2e.test_policies import TOO_LITTLE, prometheus
from tests.e2e.texts import TEMPLATE, patched, ratcheted, small_limit, small_request, told, warned

WEB = {"name": "web", "image": "nginx:1.27"}
LIMIT, REQUEST = f"{TEMPLATE}.resources.limits.memory", f"{TEMPLATE}.resources.requests.memory"
DENIED = "would be denied"
UNTIL = "2099-12-31"
PROMETHEUS = "Warning: Deployment prometheus, container prometheus: prometheus-memory: Prometheus has "


def exemption(namespace: str, until: str = UNTIL, narrowed: str = "") -> str:
    match = f"match: {{namespaces: ['{namespace}']{narrowed}}}"
    reasons = f"owner: sre, reason: moving to a larger node, until: {until}"
    return f"exemptions: [{{policy: prometheus-memory, {match}, {reasons}}}]"


def test_whom_to_ask_and_where_to_read_is_said(cluster: Guarded, namespace: str) -> None:
    asked, pages = "Ask #platform, https://wiki.example.com/forestall", "https://wiki.example.com/policies"
    with cluster.server.configured(f"contact: '{asked}'\npages: {pages}\n"):
        done = cluster.try_apply(deployment("web", namespace, WEB), prometheus(namespace, TOO_LITTLE))
    assert patched("web").strip() + f"; {asked}\n" in done.stderr
    assert done.stderr.endswith(f" ({pages}/prometheus-memory)\n\n{asked}\n")


def test_audit_admits_everything_and_records_it(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured("mode: audit"):
        assert cluster.apply(deployment("web", namespace, WEB), prometheus(namespace, TOO_LITTLE)) == ""
    assert memory_of(cluster.get("deployment", "web", namespace)) == (None, None)
    assert cluster.annotations(resource="deployments", namespace=namespace, name="web") == {
        "validate/audited": f"memory-limits {LIMIT} (would be patched to 512Mi)"
    }
    assert cluster.annotations(resource="deployments", namespace=namespace, name="prometheus") == {
        "validate/audited": f"prometheus-memory {REQUEST} ({DENIED}); prometheus-memory {LIMIT} ({DENIED})"
    }
    (line,) = cluster.server.log(stage="validate", kind="Deployment", namespace=namespace, name="web")
    assert (line["allowed"], line["violated"], line["user"]) == (True, ["memory-limits"], "admin")


def test_what_is_done_is_in_the_audit_log(cluster: Guarded, namespace: str) -> None:
    cluster.apply(deployment("web", namespace, WEB))
    assert cluster.annotations(resource="deployments", namespace=namespace, name="web") == {
        "mutate/patched": f"memory-limits {LIMIT}"
    }
    cluster.try_apply(prometheus(namespace, TOO_LITTLE))
    assert cluster.annotations(resource="deployments", namespace=namespace, name="prometheus") == {
        "validate/denied": f"prometheus-memory {REQUEST}; prometheus-memory {LIMIT}"
    }


def test_from_audit_to_deny_without_a_restart(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured("mode: audit"):
        assert cluster.apply(deployment("web", namespace, WEB)) == ""
        cluster.server.configure("policies: {memory-limits: {mode: deny}}")
        done = cluster.try_apply(deployment("other", namespace, WEB))
        assert (done.returncode, len(told(done.stderr))) == (1, 1)
        known = cluster.try_kubectl("annotate", "deployment/web", "note=1", "-n", namespace)
        assert (known.returncode, known.stderr) == (0, ratcheted())


def test_warn(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured("mode: warn"):
        warnings = cluster.apply(deployment("web", namespace, WEB), prometheus(namespace, TOO_LITTLE))
    assert warnings.splitlines() == [
        warned("would be patched to 512Mi").strip(),
        f"{PROMETHEUS}memory request 2Gi: set requests.memory to 4Gi or more; would be denied",
        f"{PROMETHEUS}memory limit 3Gi: set limits.memory to 6Gi or more; would be denied",
    ]
    cluster.running(namespace, 2)


def test_an_invalid_configuration_leaves_the_last_good_one(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured("policies: {memory-limits: {mode: deny}}"):
        line = cluster.server.refuse_configuration("mode: dney")
        assert cluster.try_apply(deployment("web", namespace, WEB)).returncode == 1
    modes = "off, audit, warn, patch, deny"
    assert line["error"].endswith(f"forestall.yaml:1: mode: 'dney' is not one of {modes}: did you mean 'deny'?")


def test_overrides(cluster: Guarded, namespace: str) -> None:
    other = f"{namespace}-legacy"
    cluster.make_namespace(other)
    text = "overrides: [{match: {namespaces: ['*-legacy']}, policies: {memory-limits: {mode: warn}}}]"
    with cluster.server.configured(text):
        assert cluster.apply(deployment("web", namespace, WEB)) == patched("web")
        assert cluster.apply(deployment("web", other, WEB)) == warned("would be patched to 512Mi")


def test_excluded_namespaces(cluster: Guarded, namespace: str) -> None:
    with cluster.server.configured(f"excludeNamespaces: ['{namespace[:8]}*']"):
        assert cluster.apply(deployment("web", namespace, WEB)) == ""
    assert cluster.annotations(resource="deployments", namespace=namespace, name="web") == {}


class TestExemptions:
    def test_is_recorded(self, cluster: Guarded, namespace: str) -> None:
        narrowed = ", kinds: [Deployment], names: [prom*]"
        with cluster.server.configured(exemption(namespace, narrowed=narrowed)):
            assert cluster.apply(prometheus(namespace, TOO_LITTLE)) == ""
            cluster.running(namespace)
        note = f"exempted by sre until {UNTIL}: moving to a larger node"
        assert cluster.annotations(resource="deployments", namespace=namespace, name="prometheus") == {
            "validate/exempted": f"prometheus-memory {REQUEST} ({note}); prometheus-memory {LIMIT} ({note})"
        }

    def test_pods_are_covered_by_their_workload_s(self, cluster: Guarded, namespace: str) -> None:
        exempted = exemption(namespace, narrowed=", kinds: [Deployment], names: [web]")
        exempted = exempted.replace("prometheus-memory", "memory-limits")
        with cluster.server.configured(f"patchOwnedPods: true\n{exempted}"):
            for name in ("web", "other"):
                assert cluster.apply(deployment(name, namespace, WEB)) == (
                    "" if name == "web" else patched("web", "Deployment other")
                )
                cluster.rolled_out(f"deployment/{name}", namespace)
        sizes = {pod["metadata"]["labels"]["app"]: memory_of(pod) for pod in cluster.running(namespace, 2)}
        assert sizes == {"web": (None, None), "other": ("256Mi", "512Mi")}

    def test_another_name_is_not_covered(self, cluster: Guarded, namespace: str) -> None:
        with cluster.server.configured(exemption(namespace, narrowed=", names: [grafana*]")):
            assert cluster.try_apply(prometheus(namespace, TOO_LITTLE)).returncode == 1

    def test_an_expired_one_does_not_count(self, cluster: Guarded, namespace: str) -> None:
        with cluster.server.configured(exemption(namespace, until="2020-01-31")):
            done = cluster.try_apply(prometheus(namespace, TOO_LITTLE))
        assert (done.returncode, told(done.stderr)) == (1, [small_request("2Gi"), small_limit("3Gi")])

    def test_break_glass(self, cluster: Guarded, namespace: str) -> None:
        manifest = prometheus(namespace, TOO_LITTLE)
        groups = ("--as=jane", "--as-group=system:masters", "--as-group=break-glass")
        with cluster.server.configured(exemption("*", narrowed=", groups: [break-glass]")):
            assert cluster.try_apply(manifest, arguments=groups[:2]).returncode == 1
            done = cluster.try_apply(manifest, arguments=groups)
        assert (done.returncode, done.stderr) == (0, "")
        recorded = cluster.annotations(resource="deployments", namespace=namespace, name="prometheus")
        assert recorded["validate/exempted"].startswith(f"prometheus-memory {REQUEST} (exempted by sre ")


def test_the_suite_s_own_configuration_is_back(cluster: Guarded) -> None:
    assert cluster.server.config_file.read_text() == CONFIG
