"""What was there before Forestall: it may be touched, not made worse, and nothing of it restarts by our doing."""

from __future__ import annotations

import json

from tests.e2e.guarded import Guarded, Object, deployment, memory_of, uids
from tests.e2e.test_policies import ENOUGH, prometheus
from tests.e2e.texts import EARLIER, patched, ratcheted, small_limit, told, unlimited
from tests.loopback import eventually

WEB = {"name": "web", "image": "nginx:1.27"}


def make_old(cluster: Guarded, namespace: str, *objects: Object, pods: int = 1) -> set[str]:
    """Make them unguarded and guard them once their pods run; returns these pods' uids."""
    cluster.apply(*objects)
    before = uids(cluster.running(namespace, pods))
    cluster.guard(namespace)
    return before


def test_annotating_changes_nothing_but_that(cluster: Guarded, old_namespace: str) -> None:
    before = make_old(cluster, old_namespace, deployment("web", old_namespace, WEB, replicas=2), pods=2)
    for command in (("annotate", "note=checked"), ("label", "team=sre")):
        done = cluster.try_kubectl(command[0], "deployment/web", command[1], "-n", old_namespace)
        assert (done.returncode, done.stderr) == (0, ratcheted())
    assert memory_of(cluster.get("deployment", "web", old_namespace)) == (None, None)
    assert uids(cluster.running(old_namespace, 2)) == before


def test_scaling_and_restarting(cluster: Guarded, old_namespace: str) -> None:
    before = make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    scaled = cluster.try_kubectl("scale", "deployment/web", "--replicas=2", "-n", old_namespace)
    assert (scaled.returncode, scaled.stderr) == (0, "")
    assert before < uids(cluster.running(old_namespace, 2))
    restarted = cluster.try_kubectl("rollout", "restart", "deployment/web", "-n", old_namespace)
    assert (restarted.returncode, restarted.stderr) == (0, ratcheted())
    cluster.rolled_out("deployment/web", old_namespace)
    pods = cluster.running(old_namespace, 2)
    assert not uids(pods) & before
    assert {memory_of(pod) for pod in pods} == {(None, None)}
    assert untouched(cluster, old_namespace, "pods") == {201}
    # 409: the Deployment controller writes from what it saw, and tries again.
    assert untouched(cluster, old_namespace, "replicasets") - {409} == {200, 201}


def test_a_new_container_is_no_old_violation(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    both = deployment("web", old_namespace, {"name": "proxy", "image": "envoy:1.33"}, WEB)
    assert cluster.apply(both) == patched("proxy") + ratcheted()
    now = cluster.get("deployment", "web", old_namespace)
    assert (memory_of(now, 0), memory_of(now, 1)) == (("256Mi", "512Mi"), (None, None))


def test_reordered_containers_are_nothing_new(cluster: Guarded, old_namespace: str) -> None:
    one, other = ({"name": name, "image": "nginx:1.27"} for name in ("one", "other"))
    make_old(cluster, old_namespace, deployment("web", old_namespace, one, other))
    with cluster.server.configured("policies: {memory-limits: {mode: deny}}"):
        warnings = cluster.apply(deployment("web", old_namespace, other, one))
    assert warnings.count(EARLIER) == 2
    now = cluster.get("deployment", "web", old_namespace)
    assert (memory_of(now, 0), memory_of(now, 1)) == ((None, None), (None, None))


def test_removing_a_limit_is_new(cluster: Guarded, old_namespace: str) -> None:
    limited = {**WEB, "resources": {"limits": {"memory": "128Mi"}}}
    make_old(cluster, old_namespace, deployment("web", old_namespace, limited, {"name": "old", "image": "nginx"}))
    removal = '[{"op": "remove", "path": "/spec/template/spec/containers/0/resources"}]'
    with cluster.server.configured("policies: {memory-limits: {mode: deny}}"):
        patch = ("patch", "deployment/web", "--type=json", "-p", removal)
        done = cluster.try_kubectl(*patch, "-n", old_namespace)
    vanished = unlimited("web", "no memory limit, where it had 128Mi", "set limits.memory to 128Mi")
    assert (done.returncode, told(done.stderr)) == (1, [vanished])
    assert memory_of(cluster.get("deployment", "web", old_namespace))[1] == "128Mi"


def test_a_small_prometheus_may_stay_or_grow_but_not_shrink(cluster: Guarded, old_namespace: str) -> None:
    def sized(request: str, limit: str) -> Object:
        return prometheus(old_namespace, {"requests": {"memory": request}, "limits": {"memory": limit}})

    before = make_old(cluster, old_namespace, sized("2Gi", "3Gi"))
    annotated = cluster.try_kubectl("annotate", "deployment/prometheus", "note=1", "-n", old_namespace)
    assert annotated.returncode == 0
    assert annotated.stderr.count(EARLIER) == 2
    assert uids(cluster.running(old_namespace)) == before
    shrunk = cluster.try_apply(sized("2Gi", "2500Mi"))
    assert (shrunk.returncode, told(shrunk.stderr)) == (1, [small_limit("2500Mi")])
    assert cluster.apply(sized("3Gi", "4Gi")).count(EARLIER) == 2
    assert cluster.apply(prometheus(old_namespace, ENOUGH)) == ""
    back = cluster.try_apply(sized("2Gi", "3Gi"))
    assert (back.returncode, len(told(back.stderr))) == (1, 2)


def test_existing_ones_are_patched_if_asked_for(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB))
    with cluster.server.configured("patchExisting: true"):
        done = cluster.try_kubectl("annotate", "deployment/web", "note=1", "-n", old_namespace)
    assert ": patched to " in done.stderr
    cluster.rolled_out("deployment/web", old_namespace)
    assert {memory_of(pod) for pod in cluster.running(old_namespace)} == {("256Mi", "512Mi")}


def test_a_finalizer_can_be_removed_from_what_is_being_deleted(cluster: Guarded, old_namespace: str) -> None:
    web = deployment("web", old_namespace, WEB)
    web["metadata"]["finalizers"] = ["test/keep"]
    make_old(cluster, old_namespace, web)
    cluster.kubectl("delete", "deployment", "web", "--wait=false", "-n", old_namespace)
    with cluster.server.configured("ratchet: false\npolicies: {memory-limits: {mode: deny}}"):
        annotated = cluster.try_kubectl("annotate", "deployment/web", "note=1", "-n", old_namespace)
        removal = '{"metadata": {"finalizers": null}}'
        done = cluster.try_kubectl("patch", "deployment/web", "--type=merge", "-p", removal, "-n", old_namespace)
    assert (annotated.returncode, annotated.stderr) == (0, "")
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: cluster.try_kubectl("get", "deployment", "web", "-n", old_namespace).returncode == 1)


def test_a_namespace_can_be_deleted(cluster: Guarded, old_namespace: str) -> None:
    make_old(cluster, old_namespace, deployment("web", old_namespace, WEB), prometheus(old_namespace, {}), pods=2)
    with cluster.server.configured("ratchet: false\npolicies: {memory-limits: {mode: deny}}"):
        cluster.kubectl("delete", "namespace", old_namespace, "--timeout=60s")


def untouched(cluster: Guarded, namespace: str, resource: str) -> set[int]:
    """The codes that controllers got for creating and updating these, if no webhook changed any of it."""
    events = [
        event
        for event in cluster.audited(resource=resource, namespace=namespace)
        if event["verb"] in ("create", "update", "patch")
        and "subresource" not in event["objectRef"]
        and event["user"]["username"].startswith("system:serviceaccount:kube-system:")
    ]
    assert events
    assert not any('"mutated":true' in json.dumps(event).replace("\\", "") for event in events)
    return {event["responseStatus"]["code"] for event in events}
