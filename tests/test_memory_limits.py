"""What memory-limits finds, says and fixes."""

from __future__ import annotations

from typing import Any

import pytest

from policies.memory_limits.policy import Params, examine
from tests.builders import container, custom, facts, limit_range, pod_spec, request, sized, workload
from webhook.errors import BadObject
from webhook.facts import NO_FACTS
from webhook.policy import Object, Set, Violation
from webhook.quantities import Memory

PATH = "spec.template.spec.containers[0].resources.limits.memory"
REQUEST = "spec.template.spec.containers[0].resources.requests.memory"


def violations(obj: Object, *cluster: Object, **params: Any) -> list[Violation]:
    return list(examine(request(obj), facts(*cluster), Params(**params)))


def one(obj: Object, *cluster: Object, **params: Any) -> Violation:
    (violation,) = violations(obj, *cluster, **params)
    return violation


def fixed(violation: Violation) -> dict[str, Any]:
    sets = violation.fix if isinstance(violation.fix, tuple) else (violation.fix,) if violation.fix else ()
    return {fix.path: fix.value for fix in sets}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Pod", "spec"),
        ("PodTemplate", "template.spec"),
        ("CronJob", "spec.jobTemplate.spec.template.spec"),
        ("Job", "spec.template.spec"),
        ("Deployment", "spec.template.spec"),
        ("ReplicaSet", "spec.template.spec"),
        ("StatefulSet", "spec.template.spec"),
        ("DaemonSet", "spec.template.spec"),
        ("ReplicationController", "spec.template.spec"),
    ],
)
def test_every_kind(kind: str, path: str) -> None:
    assert one(workload(kind)).path == f"{path}.containers[0].resources.limits.memory"


@pytest.mark.parametrize(
    ("limit", "wrong"),
    [
        pytest.param(None, "no memory limit", id="missing"),
        pytest.param("0", "memory limit 0, which means none", id="zero"),
        pytest.param(0, "memory limit 0, which means none", id="zero-as-a-number"),
        pytest.param("Mi", "memory limit Mi, which means none", id="a-suffix-alone-is-zero"),
        pytest.param("512m", "memory limit 512m, a fraction of a byte (was 512Mi meant?)", id="milli"),
        pytest.param("0.5", "memory limit 0.5, a fraction of a byte (was 0.5Mi meant?)", id="half-a-byte"),
    ],
)
def test_what_counts_as_missing(limit: str | None, wrong: str) -> None:
    violation = one(workload("Deployment", container(**sized(limit))))
    assert violation.message == f"container 'web' has {wrong}: set limits.memory to 512Mi"
    assert fixed(violation) == {PATH: "512Mi", REQUEST: "256Mi"}


@pytest.mark.parametrize("limit", ["1", "512Mi", "0.3Gi", 134217728, "1e3", "2000m"])
def test_what_counts_as_a_limit(limit: str) -> None:
    assert violations(workload("Deployment", container(**sized(limit)))) == []


def test_all_lists_of_containers_but_the_ephemeral() -> None:
    pod = workload(
        "Pod",
        container("main"),
        initContainers=[container("init"), container("side", restartPolicy="Always")],
        ephemeralContainers=[container("debug")],
    )
    assert [(violation.subject, violation.path) for violation in violations(pod)] == [
        ("init", "spec.initContainers[0].resources.limits.memory"),
        ("side", "spec.initContainers[1].resources.limits.memory"),
        ("main", "spec.containers[0].resources.limits.memory"),
    ]


def test_nulls_read_as_absent() -> None:
    pod = workload("Pod", container(resources=None), initContainers=None, resources=None)
    assert one(pod).path == "spec.containers[0].resources.limits.memory"


@pytest.mark.parametrize(("pod_limit", "found"), [("1Gi", 0), ("0", 1)])
def test_a_limit_of_the_pod_is_enough(pod_limit: str, found: int) -> None:
    assert len(violations(workload("Pod", resources={"limits": {"memory": pod_limit}}))) == found


# --- LimitRanges


def test_a_namespace_that_gives_a_limit_is_the_remedy() -> None:
    assert violations(workload(), limit_range(default="512Mi")) == []
    assert len(violations(workload(), limit_range(default="512Mi", namespace="other"))) == 1
    assert len(violations(workload(), limit_range(defaultRequest="512Mi"))) == 1, "a request is no limit"


def test_a_maximum_is_a_default() -> None:
    assert violations(workload(), limit_range(max="1Gi")) == []


def test_a_default_does_not_replace_a_limit_that_is_written() -> None:
    assert one(workload("Deployment", container(**sized("0"))), limit_range(default="512Mi")).path == PATH


def test_a_default_below_the_request() -> None:
    violation = one(workload("Deployment", container(**sized(None, "1Gi"))), limit_range("small", default="512Mi"))
    assert violation.message == (
        "pods of this Deployment will be refused: container 'web': request 1Gi is above the default limit 512Mi that "
        "namespace shop's LimitRange small gives: set limits.memory to 1Gi"
    )
    assert fixed(violation) == {PATH: "1Gi"}


def test_a_default_below_the_request_and_a_maximum_too_low_for_it() -> None:
    defaults = limit_range(default="512Mi", max="512Mi")
    assert fixed(one(workload("Deployment", container(**sized(None, "1Gi"))), defaults)) == {}


def test_a_default_above_the_pod_s_limit() -> None:
    pod = workload("Pod", resources={"limits": {"memory": "256Mi"}})
    violation = one(pod, limit_range(default="512Mi"))
    assert "the pod's own limit 256Mi is below the default limit 512Mi" in violation.message
    assert fixed(violation) == {"spec.containers[0].resources.limits.memory": "256Mi"}


# --- the fix


@pytest.mark.parametrize(
    ("resources", "item", "expected"),
    [
        pytest.param(sized(None), {}, {PATH: "512Mi", REQUEST: "256Mi"}, id="defaults"),
        pytest.param(sized(None, "64Mi"), {}, {PATH: "512Mi"}, id="a-request-stays"),
        pytest.param(sized(None, "2Gi"), {}, {PATH: "2Gi"}, id="never-below-the-request"),
        pytest.param(sized(None), {"min": "1Gi"}, {PATH: "1Gi", REQUEST: "1Gi"}, id="raised-to-the-minimum"),
        pytest.param(sized("0"), {"max": "128Mi"}, {PATH: "128Mi", REQUEST: "128Mi"}, id="lowered-to-the-maximum"),
        pytest.param(sized("0", "1Gi"), {"max": "512Mi"}, {}, id="request-above-the-maximum"),
        pytest.param(sized("0"), {"min": "1Gi", "max": "512Mi"}, {}, id="bounds-that-contradict-each-other"),
        pytest.param(
            sized(None), {"defaultRequest": "64Mi"}, {PATH: "512Mi", REQUEST: "64Mi"}, id="the-LimitRange's-request"
        ),
        pytest.param(
            sized(None), {"maxLimitRequestRatio": "1"}, {PATH: "512Mi", REQUEST: "512Mi"}, id="ratio-raises-the-request"
        ),
        pytest.param(sized(None, "64Mi"), {"maxLimitRequestRatio": "2"}, {PATH: "128Mi"}, id="ratio-lowers-the-limit"),
    ],
)
def test_the_fix_keeps_within_its_bounds(resources: Object, item: Object, expected: Object) -> None:
    assert fixed(one(workload("Deployment", container(**resources)), limit_range(**item))) == expected


@pytest.mark.parametrize(
    ("item", "request_", "message"),
    [
        (
            {"max": "512Mi"},
            "1Gi",
            "no limit fits, since the LimitRange allows 512Mi at most, below its request 1Gi",
        ),
        (
            {"min": "1Gi", "max": "512Mi"},
            None,
            "no limit fits, since the LimitRange allows 512Mi at most, below the minimum 1Gi",
        ),
    ],
)
def test_without_room_the_message_says_why(item: Object, request_: str | None, message: str) -> None:
    violation = one(workload("Deployment", container(**sized("0", request_))), limit_range(**item))
    assert violation.message.endswith(message)


@pytest.mark.parametrize(
    ("params", "limit", "named"),
    [
        ({"images": {"nginx": Memory.parse("64Mi")}}, "64Mi", True),
        ({"images": {"redis": Memory.parse("64Mi")}}, "512Mi", False),
        ({"images": {"ng*": Memory.parse("64Mi"), "nginx": Memory.parse("1Gi")}}, "64Mi", True),
        ({"containers": {"we*": Memory.parse("32Mi")}, "images": {"nginx": Memory.parse("64Mi")}}, "32Mi", True),
        ({"default_limit": Memory.parse("1Gi")}, "1Gi", False),
    ],
    ids=["image", "another-image", "first-match", "container-before-image", "default"],
)
def test_sizes(params: Any, limit: str, named: bool) -> None:
    violation = one(workload(), **params)
    assert (fixed(violation)[PATH], violation.fix_named) == (limit, named)


def test_a_small_named_size_bounds_the_request_set_with_it() -> None:
    assert fixed(one(workload(), images={"nginx": Memory.parse("64Mi")})) == {PATH: "64Mi", REQUEST: "64Mi"}


PROMETHEUS = container("prometheus", "quay.io/prometheus/prometheus:v3.9.1")


def test_a_prometheus_gets_no_default() -> None:
    violation = one(workload("StatefulSet", PROMETHEUS))
    assert violation.fix is None
    assert violation.message == (
        "container 'prometheus' has no memory limit: a Prometheus' series are in it, so no default is safe: "
        "prometheus-memory says the size"
    )
    assert fixed(one(workload("StatefulSet", PROMETHEUS), images={"prometheus": Memory.parse("8Gi")}))[PATH] == "8Gi"


def test_an_agent_holds_no_series_and_gets_the_default() -> None:
    agent = {**PROMETHEUS, "args": ["--agent"]}
    assert fixed(one(workload("StatefulSet", agent)))[PATH] == "512Mi"


def test_a_pod_s_own_request_leaves_no_fix() -> None:
    violation = one(workload("Pod", resources={"requests": {"memory": "1Gi"}}))
    assert violation.fix is None
    assert violation.message.endswith("the pod has a request of its own: set spec.resources.limits.memory to 1Gi")


# --- operators' resources


@pytest.mark.parametrize(
    ("kind", "spec", "paths"),
    [
        pytest.param("Alertmanager", {}, ["spec.resources.limits.memory"], id="the-operator's-own-container"),
        pytest.param("Alertmanager", sized("1Gi"), [], id="limit"),
        pytest.param(
            "Alertmanager",
            {"containers": [container("alertmanager", **sized("1Gi"))]},
            [],
            id="amended-by-name",
        ),
        pytest.param(
            "Alertmanager",
            {**sized("1Gi"), "containers": [container("alertmanager", **sized("0"))]},
            ["spec.containers[0].resources.limits.memory"],
            id="the-amendment-wins",
        ),
        pytest.param(
            "Alertmanager",
            {**sized("1Gi"), "containers": [container("proxy")]},
            ["spec.containers[0].resources.limits.memory"],
            id="another-container",
        ),
        pytest.param(
            "Alertmanager",
            {**sized("1Gi"), "containers": [{"name": "config-reloader"}]},
            [],
            id="reloaders-are-not-asked",
        ),
        pytest.param(
            "Prometheus", {**sized("8Gi"), "thanos": {}}, ["spec.thanos.resources.limits.memory"], id="thanos"
        ),
        pytest.param("ThanosRuler", {}, ["spec.resources.limits.memory"], id="ruler"),
        pytest.param("PrometheusAgent", {}, ["spec.resources.limits.memory"], id="agent"),
    ],
)
def test_operators_resources(kind: str, spec: Object, paths: list[str]) -> None:
    assert [violation.path for violation in violations(custom(kind, spec))] == paths


def test_a_field_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(BadObject, match=r"^spec.template.spec.containers is a string \('web'\), not a list$"):
        list(
            examine(request({**workload(), "spec": {"template": {"spec": {"containers": "web"}}}}), NO_FACTS, Params())
        )
    with pytest.raises(BadObject, match=r"^spec.template.spec.containers\[0\].resources.limits.memory: "):
        violations(workload("Deployment", container(**sized("1GB"))))


def test_a_service_is_nobody_s_business() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": pod_spec()}
    assert violations(service) == []


def test_what_it_would_fix_is_fixed_whole() -> None:
    violation = one(workload())
    assert violation.fix == (Set(PATH, "512Mi"), Set(REQUEST, "256Mi"))
