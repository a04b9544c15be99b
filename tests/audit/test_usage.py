"""Use against size: what pods take now, beside their limits and what they would be given."""

from __future__ import annotations

from typing import Any

import pytest

from tests.audit.test_judge import DENY, GROUPS, judged, owned, with_uid
from tests.builders import container, custom, every_policy, sized, workload
from tests.memory_cluster import MemoryCluster
from webhook.audit.judge import Audit
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.policy import Object

METRICS = {**GROUPS, "metrics.k8s.io": "v1beta1"}
PATCH = every_policy(memory_limits="mode: patch")


def using(**pods: Any) -> MemoryCluster:
    """A cluster that serves metrics: of each pod the memory that its container "web", or "prometheus", uses."""
    cluster = MemoryCluster(groups=METRICS)
    for name, memory in pods.items():
        containers = [{"name": of, "usage": {"cpu": "1m", "memory": memory}} for of in ("web", "prometheus")]
        metadata = {"name": name, "namespace": "shop"}
        metrics = {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": metadata}
        cluster.put(metrics | {"containers": containers}, "pods")
    return cluster


def running(top: Object, *pods: str, of: str = "ReplicaSet", limit: str | None = None) -> list[Object]:
    """A workload, what it made, and the pods below it."""
    name = "prometheus" if of == "StatefulSet" else "web"
    below = owned(with_uid(workload(of, container(name, **sized(limit)), name="below"), "u-below"), top, "u-top")
    return [
        with_uid(top, "u-top"),
        below,
        *(owned(workload("Pod", container(name, **sized(limit)), name=pod), below, "u-below") for pod in pods),
    ]


def uses(audited: Audit) -> list[tuple[str, str]]:
    return [
        (str(finding.object), audited.usage.of(finding)) for _, findings in audited.by_team() for finding in findings
    ]


@pytest.mark.parametrize(
    ("objects", "pods", "expected"),
    [
        pytest.param(
            running(workload(), "one", "two"),
            {"one": "300Mi", "two": "780Mi"},
            [("Deployment shop/web", "780Mi, would be given 512Mi: killed")],
            id="the-fullest-pod",
        ),
        pytest.param(
            running(workload(), "one"),
            {"one": "524288Ki"},
            [("Deployment shop/web", "512Mi, would be given 512Mi")],
            id="just-enough",
        ),
        pytest.param(
            running(workload(), "one"),
            {"one": 1},
            [("Deployment shop/web", "1Mi, would be given 512Mi")],
            id="in-mebibytes-rounded-up",
        ),
        pytest.param(running(workload(), "one"), {}, [("Deployment shop/web", "")], id="no-figures"),
        pytest.param(running(workload(), "one"), {"one": "lots"}, [("Deployment shop/web", "")], id="nonsense"),
        pytest.param(
            [workload("Pod", name="one")],
            {"one": "1Gi"},
            [("Pod shop/one", "1Gi, would be given 512Mi: killed")],
            id="a-bare-pod",
        ),
        pytest.param(
            running(custom("Prometheus", {}), "one", of="StatefulSet"),
            {"one": "3Gi"},
            [("Prometheus shop/main", "3Gi in its fullest pod")],
            id="nothing-would-be-given",
        ),
    ],
)
def test_beside_what_it_would_be_given(objects: list[Object], pods: Any, expected: list[tuple[str, str]]) -> None:
    assert uses(judged(*objects, cluster=using(**pods))) == expected


@pytest.mark.parametrize(
    ("used", "near"),
    [
        pytest.param("870Mi", [], id="at-85-percent"),
        pytest.param("871Mi", ["Deployment shop/web, container 'web' uses 871Mi of its 1Gi, 85 %"], id="above"),
        pytest.param("1100Mi", ["Deployment shop/web, container 'web' uses 1100Mi of its 1Gi, 107 %"], id="beyond"),
    ],
)
def test_close_to_its_limit(used: str, near: list[str]) -> None:
    top = workload("Deployment", container(**sized("1Gi")))
    audited = judged(*running(top, "one", limit="1Gi"), cluster=using(one=used))
    assert list(map(str, audited.usage.near())) == near


@pytest.mark.parametrize(
    ("error", "forbidden"),
    [
        pytest.param(ClusterRefused(403, "Forbidden", "no"), {"pods.metrics.k8s.io"}, id="no-right"),
        pytest.param(ClusterRefused(503, "ServiceUnavailable", "no endpoints"), set(), id="the-aggregated-api-is-down"),
        pytest.param(FactsUnavailable("timed out"), set(), id="no-answer"),
    ],
)
def test_figures_that_cannot_be_had_cost_themselves_alone(error: Exception, forbidden: set[str]) -> None:
    cluster = using(one="1Gi")
    cluster.fail["list", "metrics.k8s.io/v1beta1/pods"] = [error]
    audited = judged(*running(workload(), "one"), cluster=cluster)
    assert uses(audited) == [("Deployment shop/web", "")]
    assert (set(audited.unseen.resources), set(audited.unseen.forbidden)) == ({"pods.metrics.k8s.io"}, forbidden)


def sized_to(kind: str, **fields: Any) -> Object:
    obj = workload(kind)
    obj["spec"] |= fields
    return obj


@pytest.mark.parametrize(
    ("obj", "text", "mebibytes"),
    [
        pytest.param(workload(), PATCH, 256, id="a-pod-by-default"),
        pytest.param(sized_to("Deployment", replicas=3), PATCH, 3 * 256, id="of-every-replica"),
        pytest.param(sized_to("StatefulSet", replicas=0), PATCH, 0, id="scaled-to-nothing"),
        pytest.param(
            workload("DaemonSet") | {"status": {"desiredNumberScheduled": 7}}, PATCH, 7 * 256, id="on-every-node"
        ),
        pytest.param(workload("CronJob"), PATCH, 0, id="runs-at-times"),
        pytest.param(sized_to("Job", parallelism=2), PATCH, 2 * 256, id="side-by-side"),
        pytest.param(workload("Deployment", container(**sized("1Gi"))), PATCH, 0, id="nothing-is-added"),
        pytest.param(workload(), DENY, 0, id="nothing-is-patched"),
    ],
)
def test_what_the_added_requests_reserve(obj: Object, text: str, mebibytes: int) -> None:
    added = judged(obj, text=text).tally.added
    assert added == ({"memory": mebibytes << 20} if mebibytes else {})
