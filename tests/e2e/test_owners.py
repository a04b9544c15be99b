"""Who answers for an owned object: its controller is trusted, a reference that a person typed is not."""

from __future__ import annotations

import json

import pytest

from tests.e2e.guarded import OPERATOR, Guarded, Object, deployment, memory_of
from tests.e2e.test_policies import TOO_LITTLE, prometheus
from tests.e2e.test_ratchet import make_old, untouched
from tests.e2e.texts import patched, small_limit, small_request, told
from tests.loopback import eventually

WEB = {"name": "web", "image": "nginx:1.27"}


@pytest.fixture
def dev(cluster: Guarded, namespace: str) -> str:
    """The namespace, in which the user dev may do what an editor may."""
    cluster.kubectl("create", "rolebinding", "dev", "--clusterrole=edit", "--user=dev", "-n", namespace)
    return namespace


def owned_by(owner: Object, obj: Object) -> Object:
    reference = {
        **{key: owner[key] for key in ("apiVersion", "kind")},
        **{key: owner["metadata"][key] for key in ("name", "uid")},
        "controller": True,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


@pytest.mark.parametrize("mode", ["patch", "deny"])
def test_replica_sets_are_never_touched(cluster: Guarded, old_namespace: str, mode: str) -> None:
    """A patched ReplicaSet no longer matches its Deployment, which then makes another, and another."""
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB, replicas=2), pods=2)
    with cluster.server.configured(f"policies: {{memory-limits: {{mode: {mode}}}}}"):
        for change in (("rollout", "restart"), ("rollout", "undo"), ("scale", "--replicas=3")):
            cluster.kubectl(*change, "deployment/web", "-n", old_namespace)
            cluster.rolled_out("deployment/web", old_namespace)
    listed = json.loads(cluster.kubectl("get", "replicasets", "-n", old_namespace, "-o", "json"))["items"]
    assert len(listed) == 2
    assert "collisionCount" not in cluster.get("deployment", "web", old_namespace)["status"]
    assert untouched(cluster, old_namespace, "replicasets") <= {200, 201, 409}
    # The API server isn't even to ask about them: their controller is known by its name.
    assert cluster.server.log(kind="ReplicaSet", namespace=old_namespace) == []


def test_pods_of_an_old_deployment_are_not_given_defaults(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    cluster.kubectl("delete", "pods", "--all", "-n", old_namespace)
    assert [memory_of(pod) for pod in cluster.running(old_namespace)] == [(None, None)]


def test_pods_of_an_old_deployment_get_what_the_configuration_names(cluster: Guarded, old_namespace: str) -> None:
    both = deployment("web", old_namespace, WEB, {"name": "proxy", "image": "envoy:1.33"})
    make_old(cluster, old_namespace, both)
    with cluster.server.configured("policies: {memory-limits: {params: {containers: {proxy: 128Mi}}}}"):
        cluster.kubectl("delete", "pods", "--all", "-n", old_namespace)
        (pod,) = cluster.running(old_namespace)
    assert (memory_of(pod, 0), memory_of(pod, 1)) == ((None, None), ("128Mi", "128Mi"))


def test_pods_of_an_old_deployment_get_defaults_if_asked_for(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    with cluster.server.configured("patchOwnedPods: true"):
        cluster.kubectl("delete", "pods", "--all", "-n", old_namespace)
        assert [memory_of(pod) for pod in cluster.running(old_namespace)] == [("256Mi", "512Mi")]


def test_an_operator_gets_its_stateful_set_back(cluster: Guarded, old_namespace: str) -> None:
    # A Deployment stands in for the operator's own resource: what counts is who asks, and that its kind is judged.
    resource = deployment("main", old_namespace, WEB)
    cluster.apply({**resource, "spec": {**resource["spec"], "replicas": 0}})
    owner = cluster.get("deployment", "main", old_namespace)
    stateful = owned_by(owner, prometheus(old_namespace, TOO_LITTLE) | {"kind": "StatefulSet"})
    make_old(cluster, old_namespace, stateful)
    cluster.kubectl(
        "create", "rolebinding", "operator", "--clusterrole=edit", f"--user={OPERATOR}", "-n", old_namespace
    )
    cluster.kubectl("delete", "statefulset", "prometheus", "--cascade=orphan", "-n", old_namespace)
    create = ("create", "-f", "-", f"--as={OPERATOR}")
    done = cluster.try_kubectl(*create, input=json.dumps(stateful))
    assert (done.returncode, done.stderr) == (0, "")
    assert memory_of(cluster.get("statefulset", "prometheus", old_namespace)) == ("2Gi", "3Gi")
    cluster.running(old_namespace)
    cluster.kubectl("delete", "statefulset", "prometheus", "--cascade=orphan", "-n", old_namespace)
    by_hand = cluster.try_kubectl("create", "-f", "-", input=json.dumps(stateful))
    assert (by_hand.returncode, told(by_hand.stderr)) == (1, [small_request("2Gi"), small_limit("3Gi")])


@pytest.fixture
def observatory(cluster: Guarded, namespace: str) -> Object:
    """A resource of an operator's own, as far as its kind isn't judged, and the rights to make what belongs to it."""
    metadata = {"name": "obs", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    for account in (f"system:serviceaccount:{place}:operator" for place in ("operators", namespace)):
        name = account.replace(":", "-")
        cluster.kubectl("create", "rolebinding", name, "--clusterrole=edit", f"--user={account}", "-n", namespace)
    return cluster.get("configmap", "obs", namespace)


class TestOperatorMade:
    """By the API server's own word for who asks."""

    def made(self, cluster: Guarded, owner: Object, account: str, kind: str = "StatefulSet") -> tuple[int, str]:
        namespace = owner["metadata"]["namespace"]
        obj = owned_by(owner, deployment("store", namespace, WEB) | {"apiVersion": "apps/v1", "kind": kind})
        create = ("create", "-f", "-", f"--as=system:serviceaccount:{account}:operator")
        done = cluster.try_kubectl(*create, input=json.dumps(obj))
        return done.returncode, done.stderr

    @pytest.mark.parametrize("is_same", [False, True], ids=["another-namespace", "the-same-namespace"])
    def test_warned(self, cluster: Guarded, namespace: str, observatory: Object, is_same: bool) -> None:
        code, stderr = self.made(cluster, observatory, namespace if is_same else "operators")
        assert (code, "made by ConfigMap obs: mend it there, by a LimitRange (label the namespace)" in stderr) == (
            0,
            True,
        )
        assert memory_of(cluster.get("statefulset", "store", namespace)) == (None, None)

    def test_patched(self, cluster: Guarded, namespace: str, observatory: Object) -> None:
        with cluster.server.configured("operatorMade: patch"):
            code, stderr = self.made(cluster, observatory, "operators")
        assert (code, "; made by ConfigMap obs" in stderr) == (0, True)
        assert memory_of(cluster.get("statefulset", "store", namespace)) == ("256Mi", "512Mi")

    def test_denied(self, cluster: Guarded, namespace: str, observatory: Object) -> None:
        with cluster.server.configured("operatorMade: deny"):
            code, stderr = self.made(cluster, observatory, namespace, "ReplicaSet")
        assert (code, f"controllers: ['system:serviceaccount:{namespace}:operator']" in stderr) == (1, True)

    def test_named(self, cluster: Guarded, namespace: str, observatory: Object) -> None:
        text = "controllers: ['system:serviceaccount:operators:operator']\noperatorMade: deny"
        with cluster.server.configured(text):
            assert self.made(cluster, observatory, "operators") == (0, "")


class TestTypedReference:
    def test_buys_no_denial_off(self, cluster: Guarded, dev: str) -> None:
        owner = cluster.get("namespace", dev, dev)
        for kind in ("StatefulSet", "ReplicaSet"):
            typed = owned_by(owner, prometheus(dev, TOO_LITTLE) | {"kind": kind})
            done = cluster.try_apply(typed, user="dev")
            assert (done.returncode, told(done.stderr)) == (1, [small_request("2Gi"), small_limit("3Gi")])

    def test_of_a_pod(self, cluster: Guarded, dev: str) -> None:
        """It is patched as any other pod of that person."""
        web = deployment("web", dev, {**WEB, "resources": {"limits": {"memory": "64Mi"}}})
        cluster.apply(web, user="dev")
        cluster.running(dev)
        (replica_set,) = json.loads(cluster.kubectl("get", "replicasets", "-n", dev, "-o", "json"))["items"]
        metadata = {"name": "bare", "namespace": dev, "labels": {"app": "other"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [WEB]}}
        assert cluster.apply(owned_by(replica_set, pod), user="dev") == patched("web", "Pod bare")

    def test_of_a_job_made_from_an_old_cron_job(self, cluster: Guarded, dev: str) -> None:
        """kubectl writes the reference; the Job is patched as any other."""
        cluster.kubectl("label", "namespace", dev, "test/unguarded=")
        create = ("create", "cronjob", "nightly", "--image=busybox", "--schedule=0 0 1 1 *", "-n", dev)
        eventually(lambda: cluster.try_kubectl(*create, "--dry-run=server").stderr == "")
        cluster.kubectl(*create)
        cluster.guard(dev)
        done = cluster.try_kubectl("create", "job", "now", "--from=cronjob/nightly", "-n", dev, user="dev")
        assert (done.returncode, done.stderr) == (0, patched("nightly", "Job now"))
        assert memory_of(cluster.get("job", "now", dev)) == ("256Mi", "512Mi")
