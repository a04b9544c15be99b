"""Sizes that fit what LimitRanges and pods allow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import container, facts, limit_range, request, workload
from webhook.objects.facts import LIMIT_RANGES
from webhook.objects.pods import read_workload
from webhook.objects.quantities import format_memory, parse_memory
from webhook.objects.sizes import Bound, Bounds, Size, Wish, admitted, share
from webhook.policy import Object


def bounds(*items: Object) -> Bounds:
    ranges = [limit_range(name, **item) for name, item in zip("abc", items, strict=False)]
    return Bounds.of(facts(*ranges).of(LIMIT_RANGES).get("shop", ()))


def wish(amount: str, least: str = "0", most: str = "8Ei") -> Wish:
    return Wish(
        parse_memory(amount), Bound(parse_memory(least), f"least {least}"), Bound(parse_memory(most), f"most {most}")
    )


def shown(size: Size | str) -> str:
    return size if isinstance(size, str) else f"{format_memory(size.limit)}/{format_memory(size.request)}"


@pytest.mark.parametrize(
    ("items", "limit", "asked", "expected"),
    [
        pytest.param([], wish("512Mi"), wish("256Mi"), "512Mi/256Mi", id="no-LimitRange"),
        pytest.param([], wish("512Mi"), wish("1Gi"), "512Mi/512Mi", id="no-request-above-the-limit"),
        pytest.param([], wish("512Mi"), Wish.fixed(2**30, "it"), "1Gi/1Gi", id="but-one-that-stays-raises-it"),
        pytest.param([], wish("512Mi"), wish("256Mi", most="64Mi"), "512Mi/64Mi", id="room-for-the-request"),
        pytest.param([], wish("1Gi", most="512Mi"), wish("1Gi"), "512Mi/512Mi", id="room-for-the-limit"),
        pytest.param(
            [{"min": "1Gi"}, {"min": "2Gi"}], wish("512Mi"), wish("256Mi"), "2Gi/2Gi", id="the-largest-minimum"
        ),
        pytest.param(
            [{"min": "256Mi", "max": "1Gi"}], wish("512Mi"), wish("64Mi"), "512Mi/256Mi", id="a-minimum-of-the-request"
        ),
        pytest.param(
            [{"max": "1Gi"}, {"max": "256Mi"}], wish("2Gi"), wish("2Gi"), "256Mi/256Mi", id="the-smallest-maximum"
        ),
        pytest.param(
            [{"maxLimitRequestRatio": "4"}, {"maxLimitRequestRatio": "2"}],
            wish("1Gi"),
            wish("64Mi"),
            "1Gi/512Mi",
            id="the-smallest-ratio",
        ),
        pytest.param(
            [{"maxLimitRequestRatio": "1.1"}], wish("1100Mi"), wish("1"), "1100Mi/1000Mi", id="an-exact-ratio"
        ),
        pytest.param([{"maxLimitRequestRatio": "3"}], wish("1Gi"), wish("1"), "1Gi/342Mi", id="in-whole-MiB"),
        pytest.param([{"maxLimitRequestRatio": "3"}], wish("1000"), wish("1"), "1000/334", id="unless-it-is-less"),
        pytest.param(
            [{"maxLimitRequestRatio": "3"}],
            wish("1Gi"),
            wish("1", most="349525Ki"),
            "1048575Ki/349525Ki",
            id="but-no-more-than-there-is",
        ),
        pytest.param(
            [{"maxLimitRequestRatio": "2"}], wish("1Gi"), wish("64Mi", most="256Mi"), "512Mi/256Mi", id="ratio-and-room"
        ),
        pytest.param(
            [{"maxLimitRequestRatio": "2"}],
            wish("1Gi", least="1Gi"),
            wish("64Mi", most="256Mi"),
            "LimitRange a allows 512Mi at most, 2 times the request, where most 256Mi, below least 1Gi: raise the "
            "maxLimitRequestRatio of LimitRange a for a limit of 1Gi",
            id="ratio-without-room",
        ),
        pytest.param(
            [{"min": "1Gi"}, {"max": "512Mi"}],
            wish("1Gi"),
            wish("1Gi"),
            "LimitRange b allows 512Mi at most, below the minimum 1Gi of LimitRange a: raise the max of LimitRange b "
            "to 1Gi or lower the min of LimitRange a to 512Mi",
            id="minimum-above-maximum",
        ),
        pytest.param(
            [{"min": "1Gi"}],
            wish("1Gi", most="512Mi"),
            wish("1"),
            "most 512Mi, below the minimum 1Gi of LimitRange a: lower the min of LimitRange a to 512Mi",
            id="pod",
        ),
        pytest.param(
            [{"min": "1Gi"}],
            wish("1Gi"),
            Wish.fixed(2**20, "it"),
            "it is 1Mi, below the minimum 1Gi of LimitRange a: lower the min of LimitRange a to 1Mi",
            id="fixed",
        ),
        pytest.param(
            [{"max": "0"}], wish("1Gi"), wish("0"), "LimitRange a allows 0 at most, below any limit", id="nothing"
        ),
    ],
)
def test_fit(items: list[Object], limit: Wish, asked: Wish, expected: str) -> None:
    assert shown(bounds(*items).fit(limit, asked)) == expected


@pytest.mark.parametrize(
    ("items", "default", "request_"),
    [
        pytest.param([], None, None, id="none"),
        pytest.param([{"default": "512Mi"}], "512Mi", "512Mi", id="the-API-fills-the-request"),
        pytest.param([{"max": "1Gi"}], "1Gi", "1Gi", id="a-maximum-is-a-default"),
        pytest.param([{"defaultRequest": "64Mi"}, {"default": "512Mi"}], "512Mi", "64Mi", id="each-from-another"),
        pytest.param([{"default": "1Gi"}, {"default": "512Mi"}], "1Gi", "1Gi", id="the-first-counts"),
        pytest.param([{"default": "0"}], None, None, id="zero-is-none"),
        pytest.param([{"default": "0"}, {"default": "512Mi"}], None, None, id="even-if-another-would-give-one"),
        pytest.param([{"default": "1Gi"}, {"default": "0"}], None, "1Gi", id="whatever-their-order"),
    ],
)
def test_defaults(items: list[Object], default: str | None, request_: str | None) -> None:
    found = bounds(*items)
    assert (found.default and format_memory(found.default.amount)) == default
    assert (found.default_request and format_memory(found.default_request)) == request_


def test_only_type_container_gives_and_bounds_from_below() -> None:
    whole = limit_range(default="1Gi", min="1Gi", max="2Gi", maxLimitRequestRatio="2")
    whole["spec"]["limits"][0]["type"] = "Pod"
    found = Bounds.of(facts(whole).of(LIMIT_RANGES)["shop"])
    assert (found.default, found.default_request) == (None, None)
    assert shown(found.fit(wish("4Gi"), wish("64Mi"))) == "2Gi/1Gi", "but a container may not have more than its pod"
    assert shown(found.fit(wish("64Mi"), wish("64Mi"))) == "64Mi/64Mi"


@pytest.mark.parametrize(
    ("room", "count", "expected"),
    [
        ("1Gi", 2, "512Mi"),
        ("1Gi", 3, "341Mi"),
        ("1Gi", 0, "1Gi"),
        ("-1Gi", 2, "0"),
        ("1Mi", 2, "512Ki"),
        ("1000", 3, "333"),
    ],
)
def test_share(room: str, count: int, expected: str) -> None:
    assert format_memory(share(parse_memory(room), count)) == expected


@pytest.mark.parametrize(
    ("fields", "items", "refused"),
    [
        pytest.param({}, {}, "", id="nothing-bounds-it"),
        pytest.param({}, {"max": "512Mi"}, "", id="within"),
        pytest.param(
            {}, {"max": "256Mi"}, "container 'web': limits.memory 512Mi is above the maximum 256Mi", id="above"
        ),
        pytest.param(
            {"resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}}},
            {},
            "container 'web': the limit 512Mi is above the pod's own limit for memory, 64Mi",
            id="above-the-pod's",
        ),
        pytest.param(
            {"resources": {"requests": {"memory": "32Mi"}}},
            {},
            "the pod: its containers request 256Mi of memory, above the pod's own request 32Mi",
            id="together",
        ),
    ],
)
def test_admitted(fields: Object, items: dict[str, Any], refused: str) -> None:
    pod = read_workload(request(workload("Pod", container(resources={"limits": {"cpu": "none"}}), **fields)))
    assert pod is not None
    size = Size(2**29, 2**28)
    ranges = facts(limit_range(**items)).of(LIMIT_RANGES)["shop"] if items else ()
    (found,) = admitted(pod, ranges, {"spec.containers[0]": size}).values()
    if refused:
        assert str(found).startswith(f"with limit 512Mi and request 256Mi the pod would be refused: {refused}")
    else:
        assert found == size


def test_what_is_not_changed_counts_as_it_is_written() -> None:
    """0.3Gi are 322122547.2 bytes, of which one time is less than the next whole byte."""
    asked = container(resources={"requests": {"memory": "0.3Gi"}})
    pod = read_workload(request(workload("Pod", asked)))
    assert pod is not None
    size = Size(parse_memory("0.3Gi"), parse_memory("0.3Gi"))
    ranges = facts(limit_range(maxLimitRequestRatio="1")).of(LIMIT_RANGES)["shop"]
    (found,) = admitted(pod, ranges, {"spec.containers[0]": size}).values()
    assert str(found).startswith("with limit 322122548 and request 322122548 the pod would be refused: ")
