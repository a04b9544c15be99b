"""What memory-limits finds, says and fixes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from policies.memory_limits.params import Params
from policies.memory_limits.policy import examine
from tests.builders import KINDS, container, custom, facts, limit_range, pod_spec, request, sized, workload
from webhook.errors import BadObject, FactsUnavailable
from webhook.fixes import apply_sets
from webhook.objects.facts import NO_FACTS, NODES
from webhook.objects.quantities import Memory
from webhook.policy import Object, Set, Violation

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
        pytest.param("0.5", "memory limit 0.5, a fraction of a byte", id="half-a-byte"),
        pytest.param("1e-9", "memory limit 1e-9, a fraction of a byte", id="a-billionth"),
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


def test_a_null_amount_is_0_which_no_default_replaces() -> None:
    null = container(resources={"limits": {"memory": None}})
    violation = one(workload("Deployment", null), limit_range(default="1Gi"))
    assert violation.message == "container 'web' has memory limit 0, which means none: set limits.memory to 512Mi"
    assert fixed(violation)[PATH] == "512Mi"
    of_pod = one(workload("Pod", resources={"limits": {"memory": None}}), limit_range(default="1Gi"))
    assert of_pod.message.startswith("the pod has a memory limit of its own of 0, which means none")
    assert one(custom("Prometheus", {"resources": {"limits": {"memory": None}}})).message.startswith(
        "container 'prometheus' has no memory limit"
    )


def test_a_limit_of_the_pod_is_enough() -> None:
    assert violations(workload("Pod", resources={"limits": {"memory": "1Gi"}})) == []


@pytest.mark.parametrize("limited", [{}, sized("64Mi")], ids=["none-of-its-own", "limits-of-their-own"])
@pytest.mark.parametrize("cluster", [[], [limit_range(default="512Mi")]], ids=["", "with-a-default"])
@pytest.mark.parametrize(
    ("pod_limit", "wrong"),
    [("0", "0, which means none"), ("512m", "512m, a fraction of a byte (was 512Mi meant?)")],
)
def test_a_limit_of_the_pod_that_is_none(pod_limit: str, wrong: str, cluster: list[Object], limited: Object) -> None:
    violation = one(workload("Pod", container(**limited), resources={"limits": {"memory": pod_limit}}), *cluster)
    assert (violation.path, violation.subject, violation.fix) == ("spec.resources.limits.memory", "", None)
    assert violation.message == (
        f"the pod has a memory limit of its own of {wrong}: set spec.resources.limits.memory to 512Mi or whatever the "
        "whole pod needs, or leave it out"
    )


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


@pytest.mark.parametrize("item", [{"default": "0"}, {"default": "0", "defaultRequest": "0"}], ids=str)
def test_a_default_of_zero_is_none(item: Object) -> None:
    violation = one(workload(), limit_range(**item))
    assert violation.message == "container 'web' has no memory limit: set limits.memory to 512Mi"
    assert fixed(violation) == {PATH: "512Mi", REQUEST: "256Mi"}


REFUSED = "pods of this Deployment will be refused: container 'web': "
GIVEN = "the default limit 512Mi that namespace shop's LimitRange defaults gives"


@pytest.mark.parametrize(
    ("resources", "cluster", "wrong", "expected"),
    [
        pytest.param(
            sized(None, "1Gi"),
            [limit_range(default="512Mi"), limit_range("tight", max="768Mi", default="512Mi")],
            f"request 1Gi is above {GIVEN}: no limit fits, since LimitRange tight allows 768Mi at most, below its "
            "request 1Gi: raise the max of LimitRange tight to 1Gi",
            {},
            id="another-LimitRange's-maximum",
        ),
        pytest.param(
            {},
            [limit_range(default="512Mi", defaultRequest="64Mi"), limit_range("floor", min="1Gi")],
            f"with {GIVEN}, requests.memory 64Mi is below the minimum 1Gi: set limits.memory to 1Gi and "
            "requests.memory to 1Gi",
            {PATH: "1Gi", REQUEST: "1Gi"},
            id="another-LimitRange's-minimum",
        ),
        pytest.param(
            sized(None, "64Mi"),
            [limit_range(default="512Mi", min="128Mi")],
            f"with {GIVEN}, requests.memory 64Mi is below the minimum 128Mi: no limit fits, since its request is 64Mi, "
            "below the minimum 128Mi of LimitRange defaults: lower the min of LimitRange defaults to 64Mi",
            {},
            id="a-request-below-the-minimum",
        ),
        pytest.param(
            sized(None, "64Mi"),
            [limit_range(default="512Mi", maxLimitRequestRatio="2")],
            f"with {GIVEN}, limits.memory 512Mi is more than 2 times the request 64Mi: set limits.memory to 128Mi",
            {PATH: "128Mi"},
            id="a-ratio",
        ),
        pytest.param(
            {},
            [limit_range(default="512Mi", defaultRequest="64Mi", maxLimitRequestRatio="1.5")],
            f"with {GIVEN}, limits.memory 512Mi is more than 1.5 times the request 64Mi: set limits.memory to 512Mi "
            "and requests.memory to 342Mi",
            {PATH: "512Mi", REQUEST: "342Mi"},
            id="a-ratio-that-is-no-whole-number",
        ),
    ],
)
def test_a_default_that_the_namespace_itself_refuses(
    resources: Object, cluster: list[Object], wrong: str, expected: Object
) -> None:
    violation = one(workload("Deployment", container(**resources)), *cluster)
    assert violation.message == f"{REFUSED}{wrong}"
    assert fixed(violation) == expected


def limits_and_requests(found: list[Violation]) -> list[Object]:
    """What each would be given, by its container's name."""
    return [
        {violation.subject: "/".join(str(fixed(violation).get(f"spec.{place}.{part}.memory", "")) for part in PARTS)}
        for violation in found
        for place in [violation.path.removeprefix("spec.").partition(".limits")[0]]
    ]


PARTS = ("limits", "requests")
POD_OF_256 = {"resources": {"limits": {"memory": "256Mi"}}}


@pytest.mark.parametrize(
    ("containers", "fields", "item", "expected"),
    [
        pytest.param([{}], POD_OF_256, {"default": "512Mi"}, ["256Mi/256Mi"], id="its-limit-and-so-its-request"),
        pytest.param(
            [{}, {}], POD_OF_256, {"default": "512Mi"}, ["256Mi/128Mi", "256Mi/128Mi"], id="the-requests-share-the-room"
        ),
        pytest.param(
            [{}, {}, {}],
            POD_OF_256,
            {"default": "512Mi"},
            ["256Mi/85Mi", "256Mi/85Mi", "256Mi/85Mi"],
            id="in-whole-MiB",
        ),
        pytest.param(
            [{}, {}],
            POD_OF_256,
            {"default": "512Mi", "defaultRequest": "64Mi"},
            ["256Mi/64Mi", "256Mi/64Mi"],
            id="no-more-than-the-namespace's-own-request",
        ),
        pytest.param(
            [{}, sized("192Mi")], POD_OF_256, {"default": "512Mi"}, ["256Mi/64Mi"], id="a-lone-limit-is-a-request"
        ),
        pytest.param(
            [{}, sized(None, "224Mi")],
            POD_OF_256,
            {"default": "512Mi"},
            ["256Mi/32Mi", "256Mi/"],
            id="beside-a-request",
        ),
        pytest.param(
            [{}],
            {"resources": {"limits": {"memory": "256Mi"}, "requests": {"memory": "64Mi"}}},
            {"default": "512Mi"},
            ["256Mi/64Mi"],
            id="the-pod's-own-request",
        ),
        pytest.param(
            [{}, {}], POD_OF_256, {"default": "512Mi", "min": "200Mi"}, ["/", "/"], id="no-room-for-the-minimum"
        ),
        pytest.param(
            [{}, {}], POD_OF_256, {"default": "192Mi"}, ["192Mi/128Mi", "192Mi/128Mi"], id="defaults-too-large-together"
        ),
        pytest.param([{}, {}], POD_OF_256, {"default": "128Mi"}, [], id="defaults-that-fit-together"),
    ],
)
def test_a_default_in_a_pod_with_resources_of_its_own(
    containers: list[Object], fields: Object, item: Object, expected: list[str]
) -> None:
    pod = workload(
        "Pod", *(container("abc"[index], **fields_of) for index, fields_of in enumerate(containers)), **fields
    )
    found = violations(pod, limit_range(**item))
    assert [size for amounts in limits_and_requests(found) for size in amounts.values()] == expected


def test_a_default_above_the_pod_s_limit() -> None:
    violation = one(workload("Pod", **POD_OF_256), limit_range(default="512Mi"))
    assert violation.message == (
        "this Pod will be refused: container 'web': the pod's own limit 256Mi is below the default limit 512Mi that "
        "namespace shop's LimitRange defaults gives: set limits.memory to 256Mi and requests.memory to 256Mi"
    )


def test_an_init_container_s_default_may_be_above_the_pod_s_limit() -> None:
    """The API server compares only the others with it."""
    pod = workload("Pod", container(**sized("64Mi")), initContainers=[container("init")], **POD_OF_256)
    assert violations(pod, limit_range(default="512Mi", defaultRequest="64Mi")) == []


def test_what_init_containers_request_is_free_again() -> None:
    pod = workload("Pod", initContainers=[container("init", **sized("200Mi"))], **POD_OF_256)
    assert fixed(one(pod, limit_range(default="512Mi"))) == {
        "spec.containers[0].resources.limits.memory": "256Mi",
        "spec.containers[0].resources.requests.memory": "256Mi",
    }


def test_a_limit_of_zero_is_worse_than_a_default_that_is_too_low() -> None:
    """The ratchet compares the values."""
    low = one(workload("Deployment", container(**sized(None, "1Gi"))), limit_range(default="512Mi"))
    none = one(workload("Deployment", container(**sized("0", "1Gi"))), limit_range(default="512Mi"))
    assert (low.value, none.value) == (2**29, None)


def test_a_pod_that_contradicts_itself_is_not_the_default_s_fault() -> None:
    pod = workload("Pod", container(), container("large", **sized("512Mi")), **POD_OF_256)
    assert violations(pod, limit_range(default="64Mi")) == []


@pytest.mark.parametrize(
    ("containers", "items", "wrong", "sets"),
    [
        pytest.param(
            [sized("2Gi", "256Mi")],
            [{"max": {"memory": "1Gi"}}],
            "container 'web': limits.memory 2Gi is above the maximum 1Gi: set limits.memory to 1Gi",
            {PATH: "1Gi"},
            id="maximum",
        ),
        pytest.param(
            [sized("2Gi")],
            [{"max": {"memory": "1Gi"}}],
            "container 'web': limits.memory 2Gi is above the maximum 1Gi: set limits.memory to 1Gi",
            {PATH: "1Gi"},
            id="a-request-that-nobody-wrote",
        ),
        pytest.param(
            [sized("2Gi", "2Gi")],
            [{"max": {"memory": "1Gi"}}],
            "container 'web': requests.memory 2Gi is above the maximum 1Gi; limits.memory 2Gi is above the maximum "
            "1Gi: set limits.memory to 1Gi and requests.memory to 1Gi",
            {PATH: "1Gi", REQUEST: "1Gi"},
            id="both",
        ),
        pytest.param(
            [sized("2Gi", "256Mi")],
            [{"min": {"memory": "512Mi"}}],
            "container 'web': requests.memory 256Mi is below the minimum 512Mi: set requests.memory to 512Mi",
            {REQUEST: "512Mi"},
            id="minimum",
        ),
        pytest.param(
            [sized("4Gi", "256Mi")],
            [{"max": {"memory": "1Gi"}, "maxLimitRequestRatio": {"memory": "2"}}],
            "container 'web': limits.memory 4Gi is above the maximum 1Gi; limits.memory 4Gi is more than 2 times the "
            "request 256Mi: set limits.memory to 1Gi and requests.memory to 512Mi",
            {PATH: "1Gi", REQUEST: "512Mi"},
            id="maximum-and-ratio",
        ),
        pytest.param(
            [sized("2Gi")],
            [{"max": {"memory": "1Gi"}}, {"min": {"memory": "1536Mi"}}],
            "container 'web': limits.memory 2Gi is above the maximum 1Gi: no amounts fit, since LimitRange defaults "
            "allows 1Gi at most, below the minimum 1536Mi of LimitRange defaults: raise the max of LimitRange defaults "
            "to 1536Mi or lower the min of LimitRange defaults to 1Gi",
            {},
            id="nothing-fits",
        ),
        pytest.param(
            [sized("2Gi", "256Mi")],
            [{"type": "Pod", "max": {"memory": "1Gi"}}],
            "container 'web': limits.memory 2Gi is above the maximum 1Gi: set limits.memory to 1Gi",
            {PATH: "1Gi"},
            id="the-whole-pod-is-its-only-container",
        ),
        pytest.param(
            [sized("1Gi"), sized("1Gi")],
            [{"type": "Pod", "max": {"memory": "1Gi"}}],
            "the pod: limits.memory 2Gi is above the maximum 1Gi: let its containers have limits.memory of 1Gi or less "
            "in all",
            {},
            id="the-whole-pod",
        ),
        pytest.param([sized("2Gi", "256Mi")], [{"max": {"memory": "2Gi"}}], "", {}, id="fits"),
    ],
)
def test_amounts_that_a_limit_range_refuses(
    containers: list[Object], items: list[Object], wrong: str, sets: dict[str, str]
) -> None:
    """Set as it is said, they are taken."""
    bounds = limit_range()
    bounds["spec"]["limits"] = [{"type": "Container", **item} for item in items]
    named = zip(("web", "b"), containers, strict=False)
    obj = workload("Deployment", *(container(name, **fields) for name, fields in named))
    found = violations(obj, bounds)
    refused = "pods of this Deployment will be refused by LimitRange defaults of namespace shop: "
    assert [(violation.message, violation.fix) for violation in found] == ([(refused + wrong, None)] if wrong else [])
    advised = [fix for violation in found for fix in violation.advice]
    assert {fix.path: fix.value for fix in advised} == sets
    assert not sets or violations(apply_sets(obj, advised)[1], bounds) == []


def test_what_the_api_server_refuses_by_itself_is_no_limit_range_s_fault() -> None:
    bounds = limit_range()
    bounds["spec"]["limits"] = [{"type": "Container", "max": {"memory": "1Gi"}}]
    assert violations(workload("Deployment", container(**sized("2Gi", "3Gi"))), bounds) == []


def test_a_default_too_low_for_a_prometheus_is_not_raised_to_its_request() -> None:
    prometheus = {**PROMETHEUS, **sized(None, "1Gi")}
    violation = one(workload("StatefulSet", prometheus), limit_range(default="512Mi"))
    assert violation.fix is None
    assert violation.message.endswith(
        "gives: set limits.memory to 6Gi or more, since no default is safe for a "
        "container that holds Prometheus' series"
    )
    named = {"images": {"prometheus": Memory.parse("8Gi")}}
    assert fixed(one(workload("StatefulSet", prometheus), limit_range(default="512Mi"), **named)) == {PATH: "8Gi"}


# --- LimitRanges that could not be read

SEEN = replace(NO_FACTS, read_at=datetime(2026, 11, 21, tzinfo=UTC), known=frozenset({NODES}))


def test_a_limit_that_an_unseen_limit_range_may_give() -> None:
    said = "container 'web' has no memory limit, and the LimitRanges of namespace shop, which may give it one, could "
    said += "not be read"
    with pytest.raises(FactsUnavailable, match=f"^{said}$"):
        list(examine(request(workload()), SEEN, Params()))


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(workload("Deployment", container(**sized("64Mi"))), id="it-has-one"),
        pytest.param(workload("Deployment", resources={"limits": {"memory": "1Gi"}}), id="the-pod-has-one"),
    ],
)
def test_unseen_limit_ranges_that_nothing_depends_on(obj: Object) -> None:
    assert list(examine(request(obj), SEEN, Params())) == []


def test_a_limit_that_no_unseen_limit_range_can_mend() -> None:
    (violation,) = examine(request(workload("Deployment", container(**sized("0")))), SEEN, Params())
    assert violation.fix is None
    assert violation.message == (
        "container 'web' has memory limit 0, which means none: set limits.memory to 512Mi, or to what is within the "
        "LimitRanges of namespace shop, which could not be read"
    )
    assert violation.advice == (Set(PATH, "512Mi"), Set(REQUEST, "256Mi"))


def test_a_limit_range_from_the_files_is_seen() -> None:
    cluster = SEEN.with_objects([limit_range(default="512Mi")], KINDS)
    assert list(examine(request(workload()), cluster, Params())) == []


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
        pytest.param(
            sized(None, "0"),
            {"maxLimitRequestRatio": "2"},
            {PATH: "512Mi", REQUEST: "256Mi"},
            id="a-request-of-zero-is-none",
        ),
        pytest.param(sized("0", "64Mi"), {"min": "128Mi"}, {}, id="request-below-the-minimum"),
        pytest.param(
            sized("0"), {"default": "1Gi"}, {PATH: "512Mi", REQUEST: "512Mi"}, id="a-default-is-not-for-what-is-written"
        ),
        pytest.param(sized("0"), {"max": "0"}, {}, id="a-maximum-of-zero"),
    ],
)
def test_the_fix_keeps_within_its_bounds(resources: Object, item: Object, expected: Object) -> None:
    assert fixed(one(workload("Deployment", container(**resources)), limit_range(**item))) == expected


def pod_range(name: str = "whole", **item: Any) -> Object:
    """The same of type Pod."""
    made = limit_range(name, **item)
    made["spec"]["limits"][0]["type"] = "Pod"
    return made


@pytest.mark.parametrize(
    ("cluster", "count", "expected"),
    [
        pytest.param(
            [limit_range("a", min="600Mi"), limit_range("b", min="1Gi")], 1, "1Gi/1Gi", id="the-larger-minimum"
        ),
        pytest.param([limit_range("a", min="1Gi"), limit_range("b", min="600Mi")], 1, "1Gi/1Gi", id="wherever-it-is"),
        pytest.param(
            [limit_range("a", maxLimitRequestRatio="1"), limit_range("b", maxLimitRequestRatio="2")],
            1,
            "512Mi/512Mi",
            id="the-smaller-ratio",
        ),
        pytest.param(
            [limit_range("a", maxLimitRequestRatio="2"), limit_range("b", maxLimitRequestRatio="1")],
            1,
            "512Mi/512Mi",
            id="wherever-that-is",
        ),
        pytest.param([pod_range(max="384Mi")], 1, "384Mi/256Mi", id="the-pod's-maximum"),
        pytest.param([pod_range(max="1Gi")], 2, "512Mi/256Mi", id="the-pod's-maximum-for-two"),
        pytest.param([pod_range(max="1Gi")], 3, "/", id="above-the-pod's-maximum-together"),
        pytest.param([pod_range(maxLimitRequestRatio="1")], 2, "512Mi/512Mi", id="the-pod's-ratio"),
        pytest.param([pod_range(min="512Mi")], 2, "512Mi/256Mi", id="the-pod's-minimum-together"),
        pytest.param([pod_range(min="1Gi")], 2, "/", id="below-the-pod's-minimum-together"),
    ],
)
def test_the_fix_keeps_within_all_limit_ranges(cluster: list[Object], count: int, expected: str) -> None:
    found = violations(workload("Pod", *(container("abc"[index]) for index in range(count))), *cluster)
    assert limits_and_requests(found) == [{"abc"[index]: expected} for index in range(count)]


def test_containers_that_do_not_fit_together_are_told_why() -> None:
    pod = workload("Pod", *(container(name) for name in "abc"))
    why = "with limit 512Mi and request 256Mi the pod would be refused: the pod: limits.memory 1536Mi is above the "
    why += "maximum 1Gi: let its containers have limits.memory of 1Gi or less in all"
    assert {violation.message.partition(": ")[2] for violation in violations(pod, pod_range(max="1Gi"))} == {why}


@pytest.mark.parametrize(
    ("item", "request_", "message"),
    [
        (
            {"max": "512Mi"},
            "1Gi",
            "LimitRange a allows 512Mi at most, below its request 1Gi: raise the max of LimitRange a to 1Gi",
        ),
        (
            {"min": "1Gi", "max": "512Mi"},
            None,
            (
                "LimitRange a allows 512Mi at most, below the minimum 1Gi of LimitRange a: raise the max of LimitRange "
                "a to 1Gi or lower the min of LimitRange a to 512Mi"
            ),
        ),
    ],
)
def test_without_room_the_message_says_why(item: Object, request_: str | None, message: str) -> None:
    violation = one(workload("Deployment", container(**sized("0", request_))), limit_range("a", **item))
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


@pytest.mark.parametrize("asked", ["0", "512m"])
def test_a_request_that_nobody_can_mean_is_set_with_the_limit(asked: str) -> None:
    violation = one(workload("Deployment", container(**sized(None, asked))))
    assert fixed(violation) == {PATH: "512Mi", REQUEST: "256Mi"}


def test_a_small_named_size_bounds_the_request_set_with_it() -> None:
    assert fixed(one(workload(), images={"nginx": Memory.parse("64Mi")})) == {PATH: "64Mi", REQUEST: "64Mi"}


PROMETHEUS = container("prometheus", "quay.io/prometheus/prometheus:v3.9.1")


def test_a_prometheus_gets_no_default() -> None:
    violation = one(workload("StatefulSet", PROMETHEUS))
    assert violation.fix is None
    assert violation.message == (
        "container 'prometheus' has no memory limit: set limits.memory to 6Gi or more, since no default is safe for a "
        "container that holds Prometheus' series"
    )
    requests = PATH.replace("limits", "requests")
    assert violation.advice == (Set(PATH, "6Gi"), Set(requests, "4Gi"))
    assert fixed(one(workload("StatefulSet", PROMETHEUS), images={"prometheus": Memory.parse("8Gi")}))[PATH] == "8Gi"


NO_DEFAULT_FOR_AGENTS = (
    "set limits.memory to 2Gi, which some 200,000 series need, or to what it uses at its busiest, since no default is "
    "safe for an agent: it keeps what it can't send in a write-ahead log, and reads all of that when it starts"
)


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(workload("StatefulSet", {**PROMETHEUS, "args": ["--agent"]}), id="prometheus"),
        pytest.param(custom("PrometheusAgent", {}), id="a-PrometheusAgent"),
        pytest.param(workload("Deployment", container("web", "victoriametrics/vmagent:v1.130.0")), id="vmagent"),
        pytest.param(workload("DaemonSet", container("web", "docker.io/grafana/alloy:v1.12.0")), id="alloy"),
        pytest.param(workload("DaemonSet", container("web", "grafana/agent:v0.44.2")), id="grafana-agent"),
    ],
)
def test_an_agent_gets_no_default(obj: Object) -> None:
    """What it could not send for an hour is in memory at once when it starts again."""
    violation = one(obj)
    assert violation.fix is None
    assert violation.message.endswith(f"has no memory limit: {NO_DEFAULT_FOR_AGENTS}")
    assert [fix.value for fix in violation.advice] == ["2Gi", "1Gi"]


@pytest.mark.parametrize("image", ["nginx:1.27", "example.com/agent:1"])
def test_the_flag_of_another_program_makes_no_agent(image: str) -> None:
    assert fixed(one(workload("Deployment", container("web", image, args=["--agent"]))))[PATH] == "512Mi"


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


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"default_limit": Memory.parse(0)}, "defaultLimit"),
        ({"images": {"a": Memory.parse("0")}}, "a"),
        ({"containers": {"istio-*": Memory.parse("0Mi")}}, "istio-[*]"),
    ],
)
def test_a_size_of_0_is_refused(params: Object, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: 0 is no limit: name an amount, such as 512Mi$"):
        Params(**params)


# --- updates: nothing is set below what the object had


def updated(old: Object, new: Object, *cluster: Object, **params: Any) -> list[Violation]:
    return list(examine(request(new, old), facts(*cluster), Params(**params)))


def deployed(*containers: Object, **fields: Any) -> Object:
    return workload("Deployment", *containers, **fields)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(sized("4Gi", "300Mi"), sized(None, "300Mi"), {PATH: "4Gi"}, id="the-limit-comes-back"),
        pytest.param(sized("4Gi", "300Mi"), {}, {PATH: "4Gi", REQUEST: "300Mi"}, id="with-the-request"),
        pytest.param(sized("4Gi"), {}, {PATH: "4Gi", REQUEST: "4Gi"}, id="a-lone-limit-was-the-request"),
        pytest.param(sized("64Mi", "64Mi"), {}, {PATH: "64Mi", REQUEST: "64Mi"}, id="also-below-the-default"),
        pytest.param(sized("4Gi", "1Gi"), sized(None, "5Gi"), {PATH: "5Gi"}, id="no-lower-than-the-new-request"),
        pytest.param(sized("4Gi", "1Gi"), sized("0", "0"), {PATH: "4Gi", REQUEST: "1Gi"}, id="zero-is-none"),
        pytest.param(sized("4Gi", "1Gi"), sized(None, "512Mi"), {PATH: "4Gi"}, id="a-request-that-is-written-stays"),
        pytest.param(sized(None, "2Gi"), {}, {PATH: "2Gi", REQUEST: "2Gi"}, id="a-request-that-vanished"),
        pytest.param(sized("0", "0"), {}, {PATH: "512Mi", REQUEST: "256Mi"}, id="nothing-was-there"),
        pytest.param(sized("512m"), {}, {PATH: "512Mi", REQUEST: "256Mi"}, id="a-fraction-of-a-byte-was-there"),
    ],
)
def test_what_vanished_comes_back(old: Object, new: Object, expected: Object) -> None:
    (violation,) = updated(deployed(container(**old)), deployed(container(**new)))
    assert fixed(violation) == expected


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        pytest.param("quay.io/prometheus/prometheus:v3.9.1", "StatefulSet", id="prometheus"),
        pytest.param("victoriametrics/vmagent:v1.130.0", "Deployment", id="an-agent"),
    ],
)
def test_it_comes_back_where_there_is_no_default(image: str, kind: str) -> None:
    old, new = (workload(kind, container("main", image, **resources)) for resources in (sized("8Gi", "6Gi"), {}))
    (violation,) = updated(old, new)
    assert fixed(violation) == {PATH: "8Gi", REQUEST: "6Gi"}
    assert violation.message == "container 'main' has no memory limit, where it had 8Gi: set limits.memory to 8Gi"


def test_a_limit_that_vanished_is_told_with_what_it_was() -> None:
    (violation,) = updated(deployed(container(**sized("4G", "300Mi"))), deployed(container(**sized(None, "300Mi"))))
    assert violation.message == ("container 'web' has no memory limit, where it had 4G: set limits.memory to 4G")


@pytest.mark.parametrize(
    ("item", "expected", "message"),
    [
        pytest.param({"min": "1Gi"}, {PATH: "4Gi", REQUEST: "1Gi"}, "set limits.memory to 4Gi", id="a-minimum"),
        pytest.param(
            {"max": "2Gi", "default": "0"},
            {},
            "no limit fits, since LimitRange defaults allows 2Gi at most, below the limit 4Gi that it had: raise the "
            "max of LimitRange defaults to 4Gi",
            id="a-maximum",
        ),
    ],
)
def test_what_comes_back_is_within_the_limit_ranges(item: Object, expected: Object, message: str) -> None:
    (violation,) = updated(deployed(container(**sized("4Gi", "64Mi"))), deployed(), limit_range(**item))
    assert fixed(violation) == expected
    assert violation.message.endswith(message)


def test_a_size_that_is_named_is_no_lower_than_what_was_there() -> None:
    old, new = deployed(container(**sized("1Gi"))), deployed()
    for named, expected in (("512Mi", "1Gi"), ("2Gi", "2Gi")):
        (violation,) = updated(old, new, containers={"web": Memory.parse(named)})
        assert fixed(violation)[PATH] == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param([container("web")], "4Gi", id="the-same-name"),
        pytest.param([container("web", "other:1")], "4Gi", id="another-image"),
        pytest.param([container("app")], "4Gi", id="renamed"),
        pytest.param([container("app", "nginx:1.29")], "4Gi", id="renamed-and-another-tag"),
        pytest.param([container("app", "other:1")], "512Mi", id="another-one"),
        pytest.param([container("app"), container("b")], "512Mi", id="two-that-it-may-be"),
    ],
)
def test_what_a_container_was(now: list[Object], expected: str) -> None:
    assert fixed(updated(deployed(container(**sized("4Gi"))), deployed(*now))[0])[PATH] == expected


def test_what_a_sidecar_was() -> None:
    proxy = container("proxy", "envoy:1.36")
    old = deployed(container(**sized("1Gi")), {**proxy, **sized("128Mi", "64Mi")})
    new = deployed(container(**sized("1Gi")), initContainers=[{**proxy, "restartPolicy": "Always"}])
    (violation,) = updated(old, new)
    assert fixed(violation) == {
        "spec.template.spec.initContainers[0].resources.limits.memory": "128Mi",
        "spec.template.spec.initContainers[0].resources.requests.memory": "64Mi",
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({"limits": {"memory": "4Gi"}}, {}, {"limits": "4Gi"}, id="limit"),
        pytest.param(
            {"limits": {"memory": "4Gi"}, "requests": {"memory": "1Gi"}},
            None,
            {"limits": "4Gi", "requests": "1Gi"},
            id="both",
        ),
        pytest.param(
            {"limits": {"memory": "4Gi"}}, {"requests": {"memory": "5Gi"}}, {"limits": "5Gi"}, id="a-larger-request"
        ),
    ],
)
def test_a_limit_of_the_pod_that_vanished_comes_back(old: Object, new: Object, expected: Object) -> None:
    (violation,) = updated(deployed(resources=old), deployed(resources=new))
    above = "spec.template.spec.resources"
    assert fixed(violation) == {f"{above}.{part}.memory": amount for part, amount in expected.items()}
    assert violation.message == (
        f"the pod has no memory limit of its own, where it had 4Gi, and container 'web' has none: set {above}.limits."
        f"memory to {expected['limits']}"
    )


def test_a_limit_of_the_pod_that_its_containers_outgrew_does_not_come_back() -> None:
    old = deployed(container(), container("b", "b:1"), resources={"limits": {"memory": "1Gi"}})
    new = deployed(container(), container("b", "b:1", **sized("2Gi", "64Mi")))
    (violation,) = updated(old, new)
    assert violation.fix is None
    assert violation.message == (
        "the pod has no memory limit of its own, where it had 1Gi, and container 'web' has none: with that again the "
        "pod would be refused: container 'b': the limit 2Gi is above the pod's own limit for memory, 1Gi: set "
        "spec.template.spec.containers[1].resources.limits.memory to 1Gi or less"
    )


def test_a_limit_of_the_pod_that_was_none_does_not_come_back() -> None:
    (violation,) = updated(deployed(resources={"limits": {"memory": "512m"}}), deployed())
    assert fixed(violation) == {PATH: "512Mi", REQUEST: "256Mi"}


# --- updates: who mends it afterwards is not trapped

OURS = sized("512Mi", "256Mi")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(OURS, sized("128Mi", "256Mi"), {REQUEST: "128Mi"}, id="the-request-follows-the-limit-down"),
        pytest.param(OURS, sized("128M", "256Mi"), {REQUEST: "128M"}, id="as-it-is-written"),
        pytest.param(OURS, sized("512Mi", "1Gi"), {PATH: "1Gi"}, id="the-limit-follows-the-request-up"),
        pytest.param(sized("512Mi", "300Mi"), sized("512Mi", "1Gi"), {PATH: "1Gi"}, id="whatever-the-request-was"),
        pytest.param(sized("1Gi", "256Mi"), sized("128Mi", "256Mi"), {REQUEST: "128Mi"}, id="whatever-the-limit-was"),
        pytest.param(OURS, sized("128Mi", "300Mi"), {}, id="both-are-somebody-s"),
        pytest.param(sized("512Mi", "300Mi"), sized("128Mi", "300Mi"), {}, id="a-request-that-is-not-the-default"),
        pytest.param(sized("1Gi", "256Mi"), sized("1Gi", "2Gi"), {}, id="a-limit-that-is-not-the-default"),
        pytest.param(sized("1Gi", "128Mi"), sized("128Mi", "256Mi"), {}, id="a-request-that-was-another"),
        pytest.param(sized("1Gi", "1Gi"), sized("512Mi", "1Gi"), {}, id="a-limit-that-was-another"),
        pytest.param(sized("128Mi", "256Mi"), sized("128Mi", "256Mi"), {}, id="it-was-so-before"),
        pytest.param(sized("256Mi"), sized("128Mi", "256Mi"), {}, id="a-request-that-was-not-there"),
        pytest.param(OURS, sized("256Mi", "256Mi"), {}, id="what-needs-no-mending"),
    ],
)
def test_what_our_default_gave_follows(old: Object, new: Object, expected: Object) -> None:
    found = updated(deployed(container(**old)), deployed(container(**new)))
    assert [fixed(violation) for violation in found] == ([expected] if expected else [])
    assert not any(violation.refused for violation in found)


@pytest.mark.parametrize(
    ("new", "wrong", "advice"),
    [
        (
            sized("128Mi", "256Mi"),
            "request 256Mi, which is the default's, above its limit 128Mi",
            "set requests.memory to 128Mi",
        ),
        (
            sized("512Mi", "1Gi"),
            "limit 512Mi, which is the default's, below its request 1Gi",
            "set limits.memory to 1Gi",
        ),
    ],
)
def test_what_follows_is_told(new: Object, wrong: str, advice: str) -> None:
    (violation,) = updated(deployed(container(**OURS)), deployed(container(**new)))
    assert violation.message == f"container 'web' has memory {wrong}: {advice}"


MEMORY_VOLUME = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
SHM = {"volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}


@pytest.mark.parametrize(
    ("old", "new", "cluster", "params", "expected"),
    [
        pytest.param(
            sized("128Mi", "64Mi"),
            sized("32Mi", "64Mi"),
            [],
            {"default_limit": Memory.parse("128Mi"), "default_request": Memory.parse("64Mi")},
            {REQUEST: "32Mi"},
            id="another-default",
        ),
        pytest.param(
            sized("512Mi", "64Mi"),
            sized("32Mi", "64Mi"),
            [limit_range(defaultRequest="64Mi")],
            {},
            {REQUEST: "32Mi"},
            id="the-namespace's-request",
        ),
        pytest.param(
            sized("128Mi", "128Mi"),
            sized("128Mi", "1Gi"),
            [],
            {"containers": {"web": Memory.parse("128Mi")}},
            {PATH: "1Gi"},
            id="a-size-that-is-named",
        ),
        pytest.param(
            OURS,
            sized("512Mi", "1Gi"),
            [limit_range(default="512Mi", max="768Mi")],
            {},
            {},
            id="not-beyond-a-maximum",
        ),
    ],
)
def test_what_follows_is_what_the_namespace_and_the_parameters_give(
    old: Object, new: Object, cluster: list[Object], params: Object, expected: Object
) -> None:
    found = updated(deployed(container(**old)), deployed(container(**new)), *cluster, **params)
    assert [fixed(violation) for violation in found] == ([expected] if expected else [])


def test_a_limit_with_room_for_memory_volumes_follows() -> None:
    old, new = (
        deployed(container(**SHM, **resources), volumes=[MEMORY_VOLUME])
        for resources in (sized("2560Mi", "256Mi"), sized("2560Mi", "3Gi"))
    )
    assert [fixed(violation) for violation in updated(old, new)] == [{PATH: "5Gi"}]


# --- memory volumes


@pytest.mark.parametrize(
    ("own", "volumes", "expected"),
    [
        pytest.param(SHM, [MEMORY_VOLUME], {PATH: "2560Mi", REQUEST: "256Mi"}, id="room-beside-the-default"),
        pytest.param({**SHM, **sized(None, "3Gi")}, [MEMORY_VOLUME], {PATH: "5Gi"}, id="beside-the-request"),
        pytest.param({}, [MEMORY_VOLUME], {PATH: "512Mi", REQUEST: "256Mi"}, id="that-it-does-not-mount"),
        pytest.param(
            {"volumeMounts": [{"name": "shm", "mountPath": "/a"}, {"name": "shm", "mountPath": "/b"}]},
            [MEMORY_VOLUME],
            {PATH: "2560Mi", REQUEST: "256Mi"},
            id="mounted-twice",
        ),
        pytest.param(
            {"volumeMounts": [{"name": "shm", "mountPath": "/a", "readOnly": True}]},
            [MEMORY_VOLUME],
            {PATH: "512Mi", REQUEST: "256Mi"},
            id="that-it-only-reads",
        ),
        pytest.param(
            {"volumeMounts": [{"name": "shm", "mountPath": "/a"}, {"name": "tmp", "mountPath": "/b"}]},
            [MEMORY_VOLUME, {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
            {PATH: "2624Mi", REQUEST: "256Mi"},
            id="two",
        ),
        pytest.param(
            SHM, [{"name": "shm", "emptyDir": {"sizeLimit": "2Gi"}}], {PATH: "512Mi", REQUEST: "256Mi"}, id="a-disk"
        ),
        pytest.param(SHM, [{"name": "shm", "emptyDir": {"medium": "Memory"}}], {}, id="without-a-size-limit"),
        pytest.param(
            SHM, [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "0"}}], {}, id="a-size-limit-of-zero"
        ),
    ],
)
def test_memory_volumes(own: Object, volumes: list[Object], expected: Object) -> None:
    assert fixed(one(deployed(container(**own), volumes=volumes))) == expected


def test_a_memory_volume_without_a_size_limit_is_named() -> None:
    violation = one(deployed(container(**SHM), volumes=[{"name": "shm", "emptyDir": {"medium": "Memory"}}]))
    assert violation.message == (
        "container 'web' has no memory limit: set limits.memory to 1536Mi and the sizeLimit of volume 'shm' to 1Gi, or "
        "to what it needs, since no default is safe beside memory (emptyDir.medium) without a sizeLimit"
    )
    advised = {fix.path: fix.value for fix in violation.advice}
    assert advised == {PATH: "1536Mi", REQUEST: "256Mi", "spec.template.spec.volumes[0].emptyDir.sizeLimit": "1Gi"}


def test_a_size_that_is_named_is_no_lower_than_the_memory_volumes() -> None:
    for named, expected in (("1Gi", "2Gi"), ("3Gi", "3Gi")):
        obj = deployed(container(**SHM), volumes=[MEMORY_VOLUME])
        assert fixed(one(obj, containers={"web": Memory.parse(named)}))[PATH] == expected
    boundless = deployed(container(**SHM), volumes=[{"name": "shm", "emptyDir": {"medium": "Memory"}}])
    assert fixed(one(boundless, containers={"web": Memory.parse("1Gi")}))[PATH] == "1Gi"


def test_a_memory_volume_above_the_maximum() -> None:
    obj = deployed(container(**SHM, **sized("0")), volumes=[MEMORY_VOLUME])
    assert one(obj, limit_range(max="1Gi")).message == (
        "container 'web' has memory limit 0, which means none: no limit fits, since LimitRange defaults allows 1Gi at "
        "most, below the 2Gi of its memory volumes: raise the max of LimitRange defaults to 2Gi"
    )


def test_an_operated_server_writes_to_its_storage() -> None:
    spec = {"storage": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, "containers": [container("proxy")]}
    found = {violation.subject: fixed(violation) for violation in violations(custom("Alertmanager", spec))}
    assert found == {
        "alertmanager": {"spec.resources.limits.memory": "1536Mi", "spec.resources.requests.memory": "256Mi"},
        "proxy": {
            "spec.containers[0].resources.limits.memory": "512Mi",
            "spec.containers[0].resources.requests.memory": "256Mi",
        },
    }
