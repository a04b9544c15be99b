"""Dangers of LimitRanges: pods that they would have refused or killed, of workloads that run today."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import container, custom, limit_range, request, sized, workload
from webhook.controller.contents import Contents, OwnedWorkload
from webhook.controller.dangers import dangers
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.pods import read_workload
from webhook.policy import Object

GREEDY = sized(None, "1Gi")
AFTER = read_items(limit_range(default="512Mi", defaultRequest="256Mi")["spec"])
BOUNDS = read_items(
    {
        "limits": [
            {
                "type": "Container",
                "max": {"memory": "1Gi"},
                "min": {"memory": "64Mi"},
                "maxLimitRequestRatio": {"memory": "4"},
            }
        ]
    }
)
SPEC = "spec.template.spec"
C0 = f"{SPEC}.containers[0].resources"


def seen(obj: Object) -> OwnedWorkload:
    read = read_workload(request(obj))
    assert read is not None
    return OwnedWorkload(f"{obj['kind']} {obj['metadata']['name']}", read)


@pytest.mark.parametrize(
    ("obj", "after", "found"),
    [
        pytest.param(workload("Deployment", container(**sized("1Gi", "1Gi"))), AFTER, [], id="limit-of-its-own"),
        pytest.param(workload("Deployment"), AFTER, [], id="no-amounts"),
        pytest.param(
            workload("Deployment", container(**GREEDY)),
            AFTER,
            [
                (
                    "container 'web': its request for memory, 1Gi, is above the limit 512Mi: "
                    f"set {C0}.limits.memory to 1Gi or more"
                )
            ],
            id="request-above-the-default",
        ),
        pytest.param(
            workload("CronJob", container(**GREEDY)),
            AFTER,
            [
                (
                    "container 'web': its request for memory, 1Gi, is above the limit 512Mi: "
                    "set spec.jobTemplate.spec.template.spec.containers[0].resources.limits.memory to 1Gi or more"
                )
            ],
            id="in-a-cron-job",
        ),
        pytest.param(
            custom("Prometheus", {"resources": {"requests": {"memory": "1Gi"}}}),
            AFTER,
            [
                (
                    "container 'prometheus': its request for memory, 1Gi, is above the limit 512Mi: "
                    "set spec.resources.limits.memory to 1Gi or more"
                )
            ],
            id="in-an-operator-s-resource",
        ),
        pytest.param(
            workload("Deployment", resources={"limits": {"memory": "256Mi"}}),
            AFTER,
            [
                (
                    "container 'web': the limit 512Mi is above the pod's own limit for memory, 256Mi: "
                    f"set {C0}.limits.memory to 256Mi or less"
                )
            ],
            id="default-above-the-pod-s-limit",
        ),
        pytest.param(
            workload(
                "Deployment",
                container("a", **sized(None, "200Mi")),
                container("b"),
                resources={"limits": {"memory": "1Gi"}},
            ),
            AFTER,
            [
                (
                    "the pod: its containers request 456Mi of memory, above the pod's own request 200Mi: "
                    f"set {SPEC}.resources.requests.memory to 456Mi"
                )
            ],
            id="default-requests-do-not-fit-into-the-pod-s",
        ),
        pytest.param(
            workload("Deployment", container(**sized("2Gi", "1Gi"))),
            BOUNDS,
            [f"container 'web': limits.memory 2Gi is above the maximum 1Gi: set {C0}.limits.memory to 1Gi or less"],
            id="above-the-maximum",
        ),
        pytest.param(
            workload("Deployment", container(**sized("32Mi"))),
            BOUNDS,
            [
                (
                    "container 'web': limits.memory 32Mi is below the minimum 64Mi: "
                    f"set {C0}.limits.memory to 64Mi or more"
                ),
            ],
            id="below-the-minimum",
        ),
        pytest.param(
            workload("Deployment", container(**sized("1Gi", "100Mi"))),
            BOUNDS,
            [
                (
                    "container 'web': limits.memory 1Gi is more than 4 times the request 100Mi: "
                    f"set {C0}.requests.memory to 256Mi or more"
                )
            ],
            id="ratio",
        ),
        pytest.param(
            workload("Deployment", container(**sized("100Mi", "200Mi"))),
            AFTER,
            [],
            id="what-is-refused-today-is-not-our-doing",
        ),
    ],
)
def test_refusals(obj: Object, after: Any, found: list[str]) -> None:
    texts = [danger.text.removeprefix("would be refused: ") for danger in dangers(Contents((seen(obj),)), (), after)]
    assert texts == found


def use(**amounts: int) -> dict[tuple[str, str], int]:
    return {("Deployment web", name): amount * 2**20 for name, amount in amounts.items()}


@pytest.mark.parametrize(
    ("containers", "in_use", "found"),
    [
        pytest.param([container()], use(web=512), [], id="just-fits"),
        pytest.param(
            [container()],
            use(web=700),
            [
                (
                    "Deployment web: would be killed: container 'web' uses 700Mi, above the default limit 512Mi: "
                    f"set {C0}.limits.memory to 1088Mi, and more if it grows"
                )
            ],
            id="above",
        ),
        pytest.param([container(**sized("1Gi"))], use(web=700), [], id="limit-of-its-own"),
        pytest.param([container("app")], use(web=700), [], id="another-container"),
    ],
)
def test_kills(containers: list[Object], in_use: dict[tuple[str, str], int], found: list[str]) -> None:
    contents = Contents((seen(workload("Deployment", *containers)),), in_use)
    assert [str(danger) for danger in dangers(contents, (), AFTER)] == found


def test_a_default_of_0_kills_nothing() -> None:
    contents = Contents((seen(workload()),), use(web=700))
    assert dangers(contents, (), read_items(limit_range(default="0")["spec"])) == ()


def test_of_a_pod_only_what_was_put_into_it_counts() -> None:
    pod = read_workload(request(workload("Pod", container(**GREEDY), container("injected", **GREEDY))))
    assert pod is not None
    template = seen(workload("Deployment", container(**sized("2Gi", "1Gi"))))
    found = dangers(Contents((template, OwnedWorkload("Deployment web", pod))), (), AFTER)
    assert [danger.text.partition(": ")[2].partition(":")[0] for danger in found] == ["container 'injected'"]
