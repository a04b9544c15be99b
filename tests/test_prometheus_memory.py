"""What prometheus-memory finds, says and fixes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from policies.prometheus_memory.floor import Params
from policies.prometheus_memory.policy import examine
from tests.builders import TODAY, config, container, custom, facts, limit_range, request, sized, workload
from webhook.engine import decide
from webhook.errors import FactsUnavailable
from webhook.objects.facts import LIMIT_RANGES, NO_FACTS, NODES
from webhook.objects.quantities import Memory
from webhook.objects.workloads import Workloads
from webhook.policy import Object, Violation

IMAGE = "quay.io/prometheus/prometheus:v3.9.1"
PATH = "spec.template.spec.containers[0].resources"
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "large", "labels": {"pool": "large"}},
    "status": {"allocatable": {"memory": "32Gi"}},
}
SMALL_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "small", "labels": {"pool": "small"}},
    "status": {"allocatable": {"memory": "2Gi"}},
}


def prometheus(limit: Any = None, request_: Any = None, **fields: Any) -> Object:
    return workload("StatefulSet", container("prometheus", IMAGE, **sized(limit, request_)), **fields)


def bare_pod(limit: Any, request_: Any) -> Object:
    return workload("Pod", container("prometheus", IMAGE, **sized(limit, request_)))


def whole(**item: Any) -> Object:
    """A LimitRange of type Pod."""
    made = limit_range("whole", **item)
    made["spec"]["limits"][0]["type"] = "Pod"
    return made


def violations(obj: Object, *cluster: Object, **params: Any) -> list[Violation]:
    return list(examine(request(obj), facts(*cluster), Params(**params)))


def paths(found: list[Violation]) -> list[str]:
    return [violation.path for violation in found]


REQUEST_AND_LIMIT = [f"{PATH}.requests.memory", f"{PATH}.limits.memory"]


@pytest.mark.parametrize(
    ("limit", "request_", "expected"),
    [
        pytest.param("6Gi", "4Gi", [], id="the-size-that-ended-the-incident"),
        pytest.param("6144Mi", "4096Mi", [], id="the-same-in-other-words"),
        pytest.param("3Gi", "2Gi", REQUEST_AND_LIMIT, id="the-size-of-the-incident"),
        pytest.param(None, None, REQUEST_AND_LIMIT, id="nothing"),
        pytest.param(None, "8Gi", [f"{PATH}.limits.memory"], id="no-limit"),
        pytest.param("8Gi", None, [], id="a-limit-is-its-request"),
        pytest.param("5Gi", None, [f"{PATH}.limits.memory"], id="a-low-limit-is-its-request"),
        pytest.param("8Gi", "0", [f"{PATH}.requests.memory"], id="zero-is-no-request"),
        pytest.param("0", "8Gi", [f"{PATH}.limits.memory"], id="zero-is-no-limit"),
        pytest.param("6G", "4Gi", [f"{PATH}.limits.memory"], id="6G-is-less-than-6Gi"),
    ],
)
def test_floors(limit: str | None, request_: str | None, expected: list[str]) -> None:
    assert paths(violations(prometheus(limit, request_))) == expected


LIMITS, REQUESTS = [f"{PATH}.limits.memory"], [f"{PATH}.requests.memory"]


@pytest.mark.parametrize(
    ("limit", "request_", "item", "expected"),
    [
        pytest.param(None, None, {"default": "8Gi", "defaultRequest": "8Gi"}, [], id="both"),
        pytest.param(None, None, {"default": "8Gi"}, [], id="the-default-is-the-request-too"),
        pytest.param(None, None, {"max": "8Gi"}, [], id="the-maximum-is-the-default"),
        pytest.param(None, "8Gi", {"default": "8Gi", "defaultRequest": "1Gi"}, [], id="the-limit"),
        pytest.param("8Gi", None, {"default": "1Gi", "defaultRequest": "1Gi"}, [], id="its-own-limit-first"),
        pytest.param(None, None, {"default": "8Gi", "defaultRequest": "1Gi"}, REQUESTS, id="a-low-request"),
        pytest.param(None, "4Gi", {"default": "5Gi"}, LIMITS, id="a-low-limit"),
        pytest.param(None, None, {"default": "512Mi"}, REQUEST_AND_LIMIT, id="far-too-low"),
        pytest.param(None, None, {"defaultRequest": "8Gi"}, LIMITS, id="a-request-alone"),
        pytest.param(None, None, {"default": "0"}, REQUEST_AND_LIMIT, id="zero-is-none"),
        pytest.param("3Gi", "2Gi", {"default": "8Gi"}, REQUEST_AND_LIMIT, id="never-over-what-is-written"),
    ],
)
def test_the_limit_range_of_the_namespace_counts(
    limit: str | None, request_: str | None, item: Object, expected: list[str]
) -> None:
    for obj in (prometheus(limit, request_), bare_pod(limit, request_)):
        found = violations(obj, limit_range(**item))
        assert [path.removeprefix("spec.template.") for path in expected] == [
            path.removeprefix("spec.template.") for path in paths(found)
        ]
    elsewhere = violations(prometheus(limit, request_), limit_range(namespace="elsewhere", **item))
    assert paths(elsewhere) == paths(violations(prometheus(limit, request_)))


def test_the_operator_s_resource_is_given_the_same() -> None:
    assert violations(custom("Prometheus", {"resources": {"limits": {"memory": "8Gi"}}})) == []
    assert violations(custom("Prometheus", {}), limit_range(default="8Gi")) == []


@pytest.mark.parametrize(
    ("limit", "request_", "fields", "cluster", "messages"),
    [
        pytest.param("8G", "4G", {}, [], ["request 4G: set requests.memory to 4Gi or more"], id="as-written"),
        pytest.param("6G", "4294967296", {}, [], ["limit 6G: set limits.memory to 6Gi or more"], id="another"),
        pytest.param("8Gi", 1024, {}, [], ["request 1024: set requests.memory to 4Gi or more"], id="a-number"),
        pytest.param(
            "3000M",
            None,
            {},
            [],
            [
                "request 3000M, which is its limit: set requests.memory to 4Gi or more",
                "limit 3000M: set limits.memory to 6Gi or more",
            ],
            id="the-limit",
        ),
        pytest.param(
            None,
            None,
            {},
            [limit_range("small", default="3Gi", defaultRequest="2G")],
            [
                "request 2G, which LimitRange small gives it: set requests.memory to 4Gi or more",
                "limit 3Gi, which LimitRange small gives it: set limits.memory to 6Gi or more",
            ],
            id="a-limit-range",
        ),
        pytest.param(
            None,
            None,
            {"resources": {"requests": {"memory": "2G"}, "limits": {"memory": "8Gi"}}},
            [],
            [
                (
                    "request 2G, which is the pod's own: set requests.memory to 4Gi or more; the pod has memory "
                    "resources of its own, which have to grow with it"
                )
            ],
            id="the-pod",
        ),
    ],
)
def test_amounts_are_told_as_they_were_written(
    limit: Any, request_: Any, fields: Object, cluster: list[Object], messages: list[str]
) -> None:
    found = violations(prometheus(limit, request_, **fields), NODE, *cluster)
    assert [
        violation.message.removeprefix("Prometheus container 'prometheus' has memory ") for violation in found
    ] == messages


@pytest.mark.parametrize(
    ("limit", "request_", "is_undecided"),
    [
        pytest.param(None, None, True, id="nothing"),
        pytest.param(None, "8Gi", True, id="no-limit"),
        pytest.param("8Gi", None, False, id="a-limit-is-its-request"),
        pytest.param(None, "2Gi", False, id="a-request-that-is-too-low-anyway"),
    ],
)
def test_what_a_limit_range_that_could_not_be_read_may_give(
    limit: str | None, request_: str | None, is_undecided: bool
) -> None:
    seen = replace(facts(NODE), read_at=datetime(2026, 11, 21, tzinfo=UTC), known=frozenset({NODES}))
    if is_undecided:
        with pytest.raises(FactsUnavailable, match="the LimitRanges of namespace shop, which may give it some"):
            list(examine(request(prometheus(limit, request_)), seen, Params()))
    else:
        assert bool(list(examine(request(prometheus(limit, request_)), seen, Params()))) == (request_ is not None)


OURS = Workloads(labels=({"team": "metering"},), images=("*/our-tsdb",))


@pytest.mark.parametrize(
    ("labels", "containers", "expected"),
    [
        pytest.param({}, [container("a"), container("b", "acme/our-tsdb:1")], ["b"], id="image"),
        pytest.param({"team": "metering"}, [container("a"), container("b")], ["a"], id="label"),
        pytest.param({"team": "metering"}, [container("a"), container("prometheus")], ["prometheus"], id="by-its-name"),
        pytest.param({"team": "metering"}, [container("a"), container("b", IMAGE)], ["b"], id="a-known-one"),
        pytest.param({"team": "shop"}, [container("a")], [], id="neither"),
        pytest.param({}, [container("a", "acme/our-tsdb:1", args=["--agent"])], [], id="an-agent"),
        pytest.param({}, [container("a", "acme/our-tsdb:1"), container("b", IMAGE)], ["a", "b"], id="two"),
    ],
)
def test_workloads_of_ones_own(labels: Object, containers: list[Object], expected: list[str]) -> None:
    obj = workload("Deployment", *containers)
    obj["spec"]["template"]["metadata"]["labels"] = labels
    assert list(dict.fromkeys(violation.subject for violation in violations(obj, workloads=OURS))) == expected
    obj["spec"]["template"]["metadata"]["labels"] = {}
    obj["metadata"]["labels"] = labels
    assert list(dict.fromkeys(violation.subject for violation in violations(obj, workloads=OURS))) == expected


def test_the_message_says_what_was_found_and_what_to_set() -> None:
    assert [(violation.message, violation.value) for violation in violations(prometheus("3Gi", "2Gi"), NODE)] == [
        ("Prometheus container 'prometheus' has memory request 2Gi: set requests.memory to 4Gi or more", 2 * 2**30),
        ("Prometheus container 'prometheus' has memory limit 3Gi: set limits.memory to 6Gi or more", 3 * 2**30),
    ]


@pytest.mark.parametrize(
    ("image", "args", "found"),
    [
        (IMAGE, [], 2),
        ("cgr.dev/chainguard/prometheus:latest", [], 2),
        (IMAGE, ["--agent"], 0),
        ("quay.io/prometheus/prometheus:v2.55.1", ["--enable-feature=agent"], 0),
        ("registry.example.com/base/prometheus:stable", ["--enable-feature=agent"], 0),
        ("registry.example.com/prometheus@sha256:" + "d" * 64, ["--enable-feature=agent"], 0),
        ("cgr.dev/acme.example/prometheus-fips:3.5", [], 2),
        ("quay.io/openshift/origin-prometheus:4.15", [], 2),
        ("quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:" + "b" * 64, ["--storage.tsdb.path=/p"], 2),
        ("quay.io/prometheus/node-exporter:v1", [], 0),
        ("quay.io/prometheus-operator/prometheus-operator:v0.93.1", [], 0),
        ("quay.io/prometheus-operator/prometheus-config-reloader:v0.93.1", [], 0),
        ("nginx", [], 0),
    ],
)
def test_who_is_asked(image: str, args: list[str], found: int) -> None:
    assert len(violations(workload("Deployment", container("main", image, args=args)))) == found


@pytest.mark.parametrize(
    ("series", "limit", "request_"),
    [
        (295_000, "3073Mi", "2049Mi"),
        (623_000, "6148Mi", "4099Mi"),
        (841_000, "8Gi", "5462Mi"),
        (1, "308Mi", "206Mi"),
    ],
)
def test_the_formula(series: int, limit: str, request_: str) -> None:
    found = violations(prometheus("1Mi", "1Mi"), series=series)
    assert [f"set requests.memory to {request_} or more" in found[0].message] == [True], found[0].message
    assert [f"set limits.memory to {limit} or more" in found[1].message] == [True], found[1].message


def test_custom_resources() -> None:
    assert paths(violations(custom("Prometheus", {}))) == [
        "spec.resources.requests.memory",
        "spec.resources.limits.memory",
    ]
    merged = {**sized("8Gi", "8Gi"), "containers": [container("prometheus", **sized("3Gi"))]}
    assert paths(violations(custom("Prometheus", merged))) == ["spec.containers[0].resources.limits.memory"]
    assert violations(custom("PrometheusAgent", {})) == []


@pytest.mark.parametrize(
    ("limit", "request_", "expected"),
    [
        ("3Gi", "2Gi", {"limits": "6Gi", "requests": "4Gi"}),
        (None, None, {"limits": "6Gi", "requests": "4Gi"}),
        (None, "8Gi", {"limits": "8Gi"}),
        ("8Gi", "1Gi", {"requests": "4Gi"}),
        ("5Gi", None, {"limits": "6Gi", "requests": "5Gi"}),
    ],
)
def test_the_fix_raises_and_never_lowers(limit: str, request_: str, expected: Object) -> None:
    for violation in violations(prometheus(limit, request_), NODE):
        assert isinstance(violation.fix, tuple)
        assert {fix.path: fix.value for fix in violation.fix} == {
            f"{PATH}.{part}.memory": value for part, value in expected.items()
        }


@pytest.mark.parametrize(
    ("fields", "cluster", "params", "obstacle"),
    [
        pytest.param(
            {},
            [],
            {},
            "; which node could hold it is not known: give --cluster, --facts or the policy's parameter largestNode",
            id="no-node-known",
        ),
        pytest.param(
            {},
            [SMALL_NODE],
            {},
            "; the largest node that it may use has 2Gi, below the request 4Gi",
            id="no-node-large-enough",
        ),
        pytest.param(
            {"nodeSelector": {"pool": "small"}},
            [SMALL_NODE, NODE],
            {},
            "; the largest node that it may use has 2Gi, below the request 4Gi",
            id="it-may-not-use-the-large-one",
        ),
        pytest.param({}, [SMALL_NODE], {"largest_node": Memory.parse("64Gi")}, "", id="largestNode"),
        pytest.param(
            {},
            [NODE, limit_range("tight", max="2Gi")],
            {},
            "; LimitRange tight allows 2Gi at most, below the limit 6Gi: raise the max of LimitRange tight to 6Gi",
            id="maximum",
        ),
        pytest.param(
            {},
            [NODE, limit_range("loose", max="64Gi"), limit_range("tight", max="5Gi")],
            {},
            "; LimitRange tight allows 5Gi at most, below the limit 6Gi: raise the max of LimitRange tight to 6Gi",
            id="the-smaller-maximum",
        ),
        pytest.param(
            {},
            [NODE, limit_range("high", min="64Gi")],
            {},
            "; the largest node that it may use has 32Gi, below the minimum 64Gi of LimitRange high: lower the min of "
            "LimitRange high to 32Gi",
            id="minimum",
        ),
        pytest.param(
            {},
            [limit_range("strict", maxLimitRequestRatio="1.25")],
            {"largest_node": Memory.parse("4Gi")},
            "; LimitRange strict allows 5Gi at most, 1.25 times the request, where the largest node that it may use "
            "has 4Gi, below the limit 6Gi: raise the maxLimitRequestRatio of LimitRange strict for a limit of 6Gi",
            id="ratio",
        ),
        pytest.param(
            {"initContainers": [container("side", restartPolicy="Always", **sized("8Gi"))]},
            [NODE, whole(max="12Gi")],
            {},
            "; with limit 6Gi and request 4Gi the pod would be refused: the pod: limits.memory 14Gi is above the "
            "maximum 12Gi: let its containers have limits.memory of 12Gi or less in all",
            id="the-whole-pod's-maximum",
        ),
        pytest.param(
            {"resources": {"requests": {"memory": "1Gi"}}},
            [NODE],
            {},
            "; the pod has memory resources of its own, which have to grow with it",
            id="pod-level-resources",
        ),
    ],
)
def test_what_stands_in_the_way_is_said(fields: Object, cluster: list[Object], params: Object, obstacle: str) -> None:
    for violation in violations(prometheus("3Gi", "2Gi", **fields), *cluster, **params):
        assert violation.message.endswith(f"or more{obstacle}")
        assert (violation.fix is None) == bool(obstacle)


@pytest.mark.parametrize(
    ("limit", "request_", "cluster", "expected", "advice"),
    [
        pytest.param(
            "1Gi",
            "1Gi",
            [limit_range(maxLimitRequestRatio="1")],
            {"limits": "6Gi", "requests": "6Gi"},
            ["set requests.memory to 6Gi or more", "set limits.memory to 6Gi or more"],
            id="a-ratio-raises-the-request",
        ),
        pytest.param(
            "3Gi",
            "3Gi",
            [limit_range("a", maxLimitRequestRatio="2"), limit_range("b", maxLimitRequestRatio="1.2")],
            {"limits": "6Gi", "requests": "5Gi"},
            ["set requests.memory to 5Gi or more", "set limits.memory to 6Gi or more"],
            id="the-smaller-of-two",
        ),
        pytest.param(
            "4Gi",
            "4Gi",
            [limit_range(maxLimitRequestRatio="1")],
            {"limits": "6Gi", "requests": "6Gi"},
            ["set limits.memory to 6Gi or more, and requests.memory to 6Gi"],
            id="even-one-that-is-enough",
        ),
        pytest.param(
            "1Gi",
            "1Gi",
            [limit_range("a", min="5Gi"), limit_range("b", min="7Gi")],
            {"limits": "7Gi", "requests": "7Gi"},
            ["set requests.memory to 7Gi or more", "set limits.memory to 7Gi or more"],
            id="a-minimum-raises-both",
        ),
        pytest.param(
            "1Gi",
            "8Gi",
            [],
            {"limits": "8Gi"},
            ["set limits.memory to 8Gi or more"],
            id="no-limit-below-the-request",
        ),
    ],
)
def test_the_fix_keeps_within_the_limit_ranges(
    limit: str, request_: str, cluster: list[Object], expected: Object, advice: list[str]
) -> None:
    found = violations(prometheus(limit, request_), NODE, *cluster)
    assert [violation.message.partition(": ")[2] for violation in found] == advice
    for violation in found:
        assert isinstance(violation.fix, tuple)
        assert {fix.path: fix.value for fix in violation.fix} == {
            f"{PATH}.{part}.memory": value for part, value in expected.items()
        }


def test_a_pool_that_has_no_node_yet() -> None:
    seen = replace(facts(NODE), known=frozenset({LIMIT_RANGES, NODES}))
    for violation in examine(request(prometheus("3Gi", "2Gi", nodeSelector={"pool": "new"})), seen, Params()):
        assert violation.message.endswith(
            "or more; no node that it may use is known: parameter largestNode can say how large one can be"
        )


def test_limit_ranges_that_could_not_be_read_are_in_the_way() -> None:
    seen = replace(facts(NODE), read_at=datetime(2026, 11, 21, tzinfo=UTC), known=frozenset({NODES}))
    for violation in examine(request(prometheus("3Gi", "2Gi")), seen, Params()):
        assert violation.fix is None
        assert violation.message.endswith(
            "or more; the LimitRanges of namespace shop, which may forbid it, could not be read"
        )


@pytest.mark.parametrize(
    ("old", "new", "denied"),
    [
        pytest.param((None, "8Gi"), ("512Mi", "8Gi"), ["limits"], id="a-low-limit-where-there-was-none"),
        pytest.param(("0", "8Gi"), ("512Mi", "8Gi"), ["limits"], id="where-there-was-zero"),
        pytest.param(("512Mi", "8Gi"), (None, "8Gi"), [], id="no-limit-where-it-was-low"),
        pytest.param((None, "8Gi"), (None, "8Gi"), [], id="none-as-before"),
        pytest.param(("3Gi", "2Gi"), ("2Gi", "2Gi"), ["limits"], id="a-lower-limit"),
        pytest.param(("3Gi", "2Gi"), ("4Gi", "2Gi"), [], id="a-higher-limit-though-too-low"),
        pytest.param(("8Gi", "2Gi"), ("8Gi", None), [], id="the-limit-as-request-where-it-was-low"),
        pytest.param(("8Gi", None), ("8Gi", "2Gi"), ["requests"], id="a-low-request-where-it-was-the-limit"),
        pytest.param(("5Gi", "3Gi"), ("5Gi", "0"), ["requests"], id="no-request-where-it-was-low"),
    ],
)
def test_what_is_worse_than_before(old: tuple[Any, Any], new: tuple[Any, Any], denied: list[str]) -> None:
    change = request(prometheus(*new), prometheus(*old))
    ours = config("policies: {memory-limits: {mode: 'off'}}")
    decision = decide(change, NO_FACTS, ours, today=TODAY, stage="validate")
    assert [verdict.violation.path for verdict in decision.denied] == [f"{PATH}.{part}.memory" for part in denied]


def test_pod_level_resources_count() -> None:
    enough = {"requests": {"memory": "4Gi"}, "limits": {"memory": "6Gi"}}
    assert violations(prometheus(resources=enough)) == []
    small = {"requests": {"memory": "8Gi"}, "limits": {"memory": "3Gi"}}
    assert paths(violations(prometheus("8Gi", "8Gi", resources=small))) == [f"{PATH}.limits.memory"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"series": 0}, "series 0 is not a positive number"),
        ({"min_request": Memory.parse("8Gi")}, "minRequest 8Gi is above minLimit 6Gi"),
    ],
)
def test_parameters_that_make_no_sense(params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Params(**params)


# --- updates: nothing is set below what it had


@pytest.mark.parametrize(
    ("old", "new", "expected", "advice"),
    [
        pytest.param(
            ("12Gi", "8Gi"),
            (None, None),
            {"limits": "12Gi", "requests": "8Gi"},
            ["set requests.memory back to 8Gi, or to 4Gi or more", "set limits.memory back to 12Gi, or to 6Gi or more"],
            id="what-vanished-comes-back",
        ),
        pytest.param(
            ("12Gi", "8Gi"),
            ("3Gi", "2Gi"),
            {"limits": "12Gi", "requests": "8Gi"},
            ["set requests.memory to 4Gi or more", "set limits.memory to 6Gi or more"],
            id="what-was-lowered-too-far-too",
        ),
        pytest.param(
            ("12Gi", "8Gi"),
            ("3Gi", "5Gi"),
            {"limits": "12Gi"},
            ["set limits.memory to 6Gi or more"],
            id="what-is-enough-is-left-alone",
        ),
        pytest.param(
            ("3Gi", "2Gi"),
            ("2Gi", "2Gi"),
            {"limits": "6Gi", "requests": "4Gi"},
            ["set requests.memory to 4Gi or more", "set limits.memory to 6Gi or more"],
            id="what-was-too-little-is-none-to-come-back",
        ),
    ],
)
def test_updates(old: tuple[str, str], new: tuple[Any, Any], expected: Object, advice: list[str]) -> None:
    asked = request(prometheus(*new), prometheus(*old))
    found = list(examine(asked, facts(NODE), Params()))
    assert [violation.message.partition(": ")[2] for violation in found] == advice
    for violation in found:
        assert isinstance(violation.fix, tuple)
        assert {fix.path: fix.value for fix in violation.fix} == {
            f"{PATH}.{part}.memory": amount for part, amount in expected.items()
        }
