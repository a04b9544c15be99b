"""kubectl against a guarded cluster: each command that changes a workload, and the text that it prints."""

from __future__ import annotations

import pytest

from tests.e2e.guarded import Guarded, deployment, memory_of, uids
from tests.e2e.texts import NO_DEFAULT, patched, small_limit, small_request, told, unlimited
from tests.loopback import eventually

WEB = {"name": "web", "image": "nginx:1.27"}
SMALL = {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}}


class TestApply:
    def test_patches_runs_and_changes_nothing_the_second_time(self, cluster: Guarded, namespace: str) -> None:
        web = deployment("web", namespace, WEB, replicas=2)
        assert cluster.apply(web) == patched("web")
        before = cluster.running(namespace, 2)
        assert [memory_of(pod) for pod in before] == [("256Mi", "512Mi")] * 2
        again = cluster.try_apply(web)
        assert (again.stdout, again.stderr) == ("deployment.apps/web unchanged\n", "")
        assert cluster.get("deployment", "web", namespace)["metadata"]["generation"] == 1
        assert uids(cluster.running(namespace, 2)) == uids(before)

    def test_dry_run_is_answered_alike_and_stores_nothing(self, cluster: Guarded, namespace: str) -> None:
        done = cluster.try_apply(deployment("web", namespace, WEB), arguments=("--dry-run=server", "-o", "json"))
        assert (done.returncode, done.stderr) == (0, patched("web"))
        assert '"memory": "512Mi"' in done.stdout
        assert "NotFound" in cluster.try_kubectl("get", "deployment", "web", "-n", namespace).stderr

    def test_server_side(self, cluster: Guarded, namespace: str) -> None:
        web = deployment("web", namespace, WEB)
        server_side = ("--server-side",)
        first = cluster.try_apply(web, arguments=server_side)
        assert (first.stdout, first.stderr) == ("deployment.apps/web serverside-applied\n", patched("web"))
        dry = cluster.try_apply(web, arguments=(*server_side, "--dry-run=server"))
        assert (dry.stdout, dry.stderr) == ("deployment.apps/web serverside-applied (server dry run)\n", "")
        assert cluster.try_apply(web, arguments=server_side).stderr == ""
        assert cluster.get("deployment", "web", namespace)["metadata"]["generation"] == 1
        # What the patch set belongs to whoever applied: he may change it without a conflict.
        grown = deployment("web", namespace, {**WEB, "resources": SMALL})
        assert cluster.try_apply(grown, arguments=server_side).stderr == ""
        assert memory_of(cluster.get("deployment", "web", namespace)) == ("64Mi", "128Mi")

    def test_client_side_after_server_side(self, cluster: Guarded, namespace: str) -> None:
        web = deployment("web", namespace, WEB)
        cluster.try_apply(web, arguments=("--server-side",))
        done = cluster.try_apply(web)
        assert (done.returncode, "memory-limits" in done.stderr) == (0, False)
        assert memory_of(cluster.get("deployment", "web", namespace)) == ("256Mi", "512Mi")
        cluster.running(namespace)

    def test_what_has_a_limit_is_not_spoken_of(self, cluster: Guarded, namespace: str) -> None:
        assert cluster.apply(deployment("web", namespace, {**WEB, "resources": SMALL})) == ""
        assert [memory_of(pod) for pod in cluster.running(namespace)] == [("64Mi", "128Mi")]

    def test_a_limit_below_the_default_is_raised_to_the_request(self, cluster: Guarded, namespace: str) -> None:
        large = {**WEB, "resources": {"requests": {"memory": "1Gi"}}}
        assert ": patched to limits.memory=1Gi\n" in cluster.apply(deployment("web", namespace, large))
        assert [memory_of(pod) for pod in cluster.running(namespace)] == [("1Gi", "1Gi")]

    def test_sidecars_and_init_containers_count(self, cluster: Guarded, namespace: str) -> None:
        init = [
            {"name": "wait", "image": "busybox:1.37"},
            {"name": "proxy", "image": "envoy:1.33", "restartPolicy": "Always"},
        ]
        told = cluster.apply(deployment("web", namespace, {**WEB, "resources": SMALL}, initContainers=init))
        assert told == "".join(patched(name) for name in ("wait", "proxy"))
        cluster.running(namespace)


class TestCreate:
    @pytest.mark.parametrize(
        ("command", "container", "who"),
        [
            pytest.param(("create", "deployment", "it", "--image=nginx"), "nginx", "Deployment it", id="deployment"),
            pytest.param(("create", "job", "it", "--image=busybox"), "it", "Job it", id="job"),
            pytest.param(("run", "it", "--image=nginx"), "it", "Pod it", id="run"),
        ],
    )
    def test_runs_with_a_limit(
        self, cluster: Guarded, namespace: str, command: tuple[str, ...], container: str, who: str
    ) -> None:
        done = cluster.try_kubectl(*command, "-n", namespace)
        assert (done.returncode, done.stderr) == (0, patched(container, who))
        eventually(lambda: [memory_of(pod) for pod in cluster.pods(namespace)] == [("256Mi", "512Mi")])

    def test_what_has_no_fix_is_denied(self, cluster: Guarded, namespace: str) -> None:
        create = ("create", "deployment", "prometheus", "--image=prom/prometheus:v3.1.0")
        done = cluster.try_kubectl(*create, "-n", namespace)
        assert (done.returncode, done.stdout) == (1, "")
        assert told(done.stderr) == [
            unlimited("prometheus", advice=NO_DEFAULT),
            small_request(""),
            small_limit(""),
        ]
        assert "NotFound" in cluster.try_kubectl("get", "deployment", "prometheus", "-n", namespace).stderr


class TestKinds:
    @pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet"])
    def test_apps(self, cluster: Guarded, namespace: str, kind: str) -> None:
        obj = deployment("web", namespace, WEB) | {"kind": kind}
        if kind == "DaemonSet":
            del obj["spec"]["replicas"]
        assert cluster.apply(obj) == patched("web", f"{kind} web")
        pods = cluster.running(namespace, 3 if kind == "DaemonSet" else 1)
        assert {memory_of(pod) for pod in pods} == {("256Mi", "512Mi")}
        assert cluster.apply(obj) == ""

    def test_replication_controller_and_pod_template(self, cluster: Guarded, namespace: str) -> None:
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [WEB]}}
        top = {"apiVersion": "v1", "metadata": {"name": "web", "namespace": namespace}}
        controller = {**top, "kind": "ReplicationController", "spec": {"replicas": 1, "template": template}}
        assert cluster.apply(controller) == patched("web", "ReplicationController web")
        cluster.running(namespace)
        assert cluster.apply({**top, "kind": "PodTemplate", "template": template}) == patched("web", "PodTemplate web")

    def test_cron_job_and_its_job(self, cluster: Guarded, namespace: str) -> None:
        create = ("create", "cronjob", "nightly", "--image=busybox", "--schedule=* * * * *", "-n", namespace)
        assert cluster.try_kubectl(*create).stderr == patched("nightly", "CronJob nightly")
        by_hand = cluster.try_kubectl("create", "job", "now", "--from=cronjob/nightly", "-n", namespace)
        assert (by_hand.returncode, by_hand.stderr) == (0, "")
        # A run that was missed is caught up with at once: nobody waits for the next minute.
        missed = '{"status":{"lastScheduleTime":"2026-01-01T00:00:00Z"}}'
        cluster.kubectl(
            *("patch", "cronjob", "nightly", "--subresource=status", "--type=merge", "-p", missed, "-n", namespace)
        )
        eventually(lambda: len(cluster.pods(namespace)) >= 2, "the CronJob made no Job")
        assert {memory_of(pod) for pod in cluster.pods(namespace)} == {("256Mi", "512Mi")}


class TestChange:
    @pytest.fixture
    def web(self, cluster: Guarded, namespace: str) -> str:
        cluster.apply(deployment("web", namespace, WEB))
        cluster.running(namespace)
        return namespace

    def test_scale(self, cluster: Guarded, web: str) -> None:
        done = cluster.try_kubectl("scale", "deployment/web", "--replicas=3", "-n", web)
        assert (done.returncode, done.stderr) == (0, "")
        cluster.running(web, 3)

    @pytest.mark.parametrize(("verb", "change"), [("label", "team=sre"), ("annotate", "note=checked")])
    def test_metadata_alone(self, cluster: Guarded, web: str, verb: str, change: str) -> None:
        before = uids(cluster.running(web))
        done = cluster.try_kubectl(verb, "deployment/web", change, "-n", web)
        assert (done.returncode, done.stderr) == (0, "")
        assert uids(cluster.running(web)) == before

    def test_rollout_restart(self, cluster: Guarded, web: str) -> None:
        before = uids(cluster.running(web))
        done = cluster.try_kubectl("rollout", "restart", "deployment/web", "-n", web)
        assert (done.returncode, done.stderr) == (0, "")
        cluster.rolled_out("deployment/web", web)
        assert not uids(cluster.running(web)) & before

    def test_set_image(self, cluster: Guarded, web: str) -> None:
        done = cluster.try_kubectl("set", "image", "deployment/web", "web=nginx:1.28", "-n", web)
        assert (done.returncode, done.stderr) == (0, "")
        cluster.rolled_out("deployment/web", web)
        into_prometheus = cluster.try_kubectl("set", "image", "deployment/web", "web=prom/prometheus:v3.1.0", "-n", web)
        assert into_prometheus.returncode == 1
        assert told(into_prometheus.stderr) == [small_request("256Mi", "web"), small_limit("512Mi", "web")]
        template = cluster.get("deployment", "web", web)["spec"]["template"]
        assert template["spec"]["containers"][0]["image"] == "nginx:1.28"

    def test_set_resources(self, cluster: Guarded, web: str) -> None:
        grown = cluster.try_kubectl("set", "resources", "deployment/web", "--limits=memory=1Gi", "-n", web)
        assert (grown.returncode, grown.stderr) == (0, "")
        assert memory_of(cluster.get("deployment", "web", web)) == ("256Mi", "1Gi")
        removal = ("set", "resources", "deployment/web", "--limits=memory=0", "-n", web)
        refused = cluster.try_kubectl(*removal)
        assert (refused.returncode, "must be less than or equal to memory limit of 0" in refused.stderr) == (1, True)
        removed = cluster.try_kubectl(*removal, "--requests=memory=0")
        assert "memory limit 0, which means none, where it had 1Gi: patched to limits.memory=1Gi" in removed.stderr
        assert memory_of(cluster.get("deployment", "web", web)) == ("256Mi", "1Gi")

    def test_a_limit_that_is_patched_away_comes_back(self, cluster: Guarded, web: str) -> None:
        removal = '[{"op": "remove", "path": "/spec/template/spec/containers/0/resources"}]'
        done = cluster.try_kubectl("patch", "deployment/web", "--type=json", "-p", removal, "-n", web)
        wrong = "no memory limit, where it had 512Mi"
        assert (done.returncode, done.stderr) == (0, patched("web", wrong=wrong))
        assert memory_of(cluster.get("deployment", "web", web)) == ("256Mi", "512Mi")

    def test_debug(self, cluster: Guarded, web: str) -> None:
        (pod,) = cluster.running(web)
        name = pod["metadata"]["name"]
        attached = cluster.try_kubectl("debug", name, "--image=busybox", "--container=look", "-n", web)
        assert (attached.returncode, "memory-limits" in attached.stderr) == (0, False)
        (now,) = cluster.running(web)
        assert [container["name"] for container in now["spec"]["ephemeralContainers"]] == ["look"]
        copy = cluster.try_kubectl(*("debug", name, "--image=busybox", "--container=look", "--copy-to=copy", "-n", web))
        assert patched("look", "Pod copy") in copy.stderr

    def test_delete(self, cluster: Guarded, web: str) -> None:
        done = cluster.try_kubectl("delete", "deployment", "web", "-n", web)
        assert (done.returncode, done.stderr) == (0, "")
        eventually(lambda: not cluster.pods(web), "the pods stay")


class TestResize:
    @pytest.fixture
    def pod(self, cluster: Guarded, namespace: str) -> str:
        """A pod whose status says what a kubelet would: what it really has."""
        cluster.kubectl("run", "web", "--image=nginx", "-n", namespace)
        cluster.running(namespace)
        resources = '{"limits":{"memory":"512Mi"},"requests":{"memory":"256Mi"}}'
        status = f'{{"status":{{"containerStatuses":[{{"name":"web","resources":{resources}}}]}}}}'
        cluster.kubectl("patch", "pod", "web", "--subresource=status", "-p", status, "-n", namespace)
        return namespace

    def resize(self, cluster: Guarded, namespace: str, change: str) -> tuple[int, str]:
        body = f'{{"spec":{{"containers":[{{"name":"web",{change}}}]}}}}'
        done = cluster.try_kubectl("patch", "pod", "web", "--subresource=resize", "-p", body, "-n", namespace)
        return done.returncode, done.stderr

    def test_growing(self, cluster: Guarded, pod: str) -> None:
        assert self.resize(cluster, pod, '"resources":{"limits":{"memory":"1Gi"}}') == (0, "")
        assert memory_of(cluster.get("pod", "web", pod)) == ("256Mi", "1Gi")

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            pytest.param('"limits":{"memory":"0"}', "must be less than or equal to memory limit of 0", id="zero"),
            pytest.param('"limits":null', "resource limits cannot be removed", id="none"),
        ],
    )
    def test_taking_the_limit_away(self, cluster: Guarded, pod: str, change: str, refusal: str) -> None:
        """The API server refuses it itself; mended, it would have become another resize of a running pod."""
        code, stderr = self.resize(cluster, pod, f'"resources":{{{change}}}')
        assert (code, refusal in stderr) == (1, True), stderr
        assert memory_of(cluster.get("pod", "web", pod)) == ("256Mi", "512Mi")

    def test_below_the_floor_of_a_prometheus(self, cluster: Guarded, namespace: str) -> None:
        large = {"limits": {"memory": "8Gi"}, "requests": {"memory": "8Gi"}}
        container = {"name": "web", "image": "prom/prometheus:v3.1.0", "resources": large}
        metadata = {"name": "web", "namespace": namespace}
        assert (
            cluster.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
            )
            == ""
        )
        cluster.running(namespace)
        status = '{"status":{"containerStatuses":[{"name":"web","resources":{"limits":{"memory":"8Gi"}}}]}}'
        cluster.kubectl("patch", "pod", "web", "--subresource=status", "-p", status, "-n", namespace)
        half = '"resources":{"limits":{"memory":"4Gi"},"requests":{"memory":"4Gi"}}'
        code, stderr = self.resize(cluster, namespace, half)
        assert (code, told(stderr)) == (
            1,
            [small_limit("4Gi", "web")],
        )
        assert memory_of(cluster.get("pod", "web", namespace)) == ("8Gi", "8Gi")
