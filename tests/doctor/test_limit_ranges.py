"""The check of LimitRanges against policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import config, container, facts_of, sized
from tests.doctor.surveys import healthy, said, template
from webhook.cluster.unseen import Unseen
from webhook.doctor.checks import diagnose
from webhook.doctor.survey import Templates
from webhook.policy import AdmissionRequest, Object


def limit_range(name: str = "limits", namespace: str = "shop", **item: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"limits": [{"type": "Container", **item}]},
    }


def memory(amount: str) -> Object:
    return {"memory": amount}


PROMETHEUS = container("prometheus", "quay.io/prometheus/prometheus:v3.1.0", args=["--config.file=/p.yml"])


class TestLimitRanges:
    def said(self, *limit_ranges: Object, requests: tuple[AdmissionRequest, ...] = ()) -> list[tuple[str, str]]:
        facts = facts_of([*limit_ranges, self.node()])
        survey = healthy(limit_ranges=list(limit_ranges), facts=facts, templates=Templates(requests))
        return said("limit-ranges", survey)

    def node(self) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "a"},
            "status": {"allocatable": {"memory": "64Gi"}},
        }

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            pytest.param(
                {"default": memory("512Mi"), "defaultRequest": memory("256Mi"), "max": memory("8Gi")},
                ("ok", "LimitRanges of 1 namespaces contradict no policy"),
                id="ours",
            ),
            pytest.param(
                {"default": memory("128Mi"), "defaultRequest": memory("64Mi")},
                ("ok", "LimitRanges of 1 namespaces contradict no policy"),
                id="default below what the policy gives, which is a team's own affair",
            ),
            pytest.param(
                {"max": memory("256Mi")},
                ("ok", "LimitRanges of 1 namespaces contradict no policy"),
                id="maximum below it, which is the default then",
            ),
            pytest.param(
                {"default": memory("0")},
                ("ok", "LimitRanges of 1 namespaces contradict no policy"),
                id="default of 0, which is none",
            ),
        ],
    )
    def test_of_any_container(self, item: Object, expected: tuple[str, str]) -> None:
        assert self.said(limit_range(**item)) == [expected]

    def test_a_default_above_another_one_s_maximum(self) -> None:
        found = self.said(limit_range("a", default=memory("4Gi")), limit_range("b", max=memory("1Gi")))
        assert found == [
            (
                "fail",
                (
                    "LimitRange a, b of shop: pods without resources of their own are refused: requests.memory 4Gi "
                    "is above the maximum 1Gi"
                ),
            )
        ]

    def test_a_prometheus_that_may_not_have_what_it_needs(self) -> None:
        tight = limit_range(default=memory("512Mi"), max=memory("4Gi"))
        sized_too_small = {**PROMETHEUS, **sized("3Gi", "2Gi")}
        assert self.said(tight, requests=(template("prom", "shop", sized_too_small),)) == [
            (
                "warn",
                (
                    "LimitRange limits of shop allows container 'prometheus' of Deployment prom 4Gi at most, where "
                    "prometheus-memory asks for 6Gi"
                ),
            )
        ]

    def test_a_prometheus_that_is_given_too_little(self) -> None:
        found = self.said(limit_range(default=memory("1Gi")), requests=(template("prom", "shop", PROMETHEUS),))
        assert (
            "warn",
            (
                "LimitRange limits of shop gives container 'prometheus' of Deployment prom 1Gi, where "
                "prometheus-memory asks for 6Gi"
            ),
        ) in found

    def test_a_limit_of_its_own_is_given_none(self) -> None:
        own = {**PROMETHEUS, **sized("3Gi", "2Gi")}
        found = self.said(limit_range(default=memory("1Gi")), requests=(template("prom", "shop", own),))
        assert [status for status, _ in found] == ["ok"]

    def test_an_exempted_container_asks_for_nothing(self) -> None:
        tight = limit_range(default=memory("128Mi"))
        exempt = (
            "exemptions: [{policy: memory-limits, match: {namespaces: [shop]}, owner: a, reason: b, until: 2030-01-01}]"
        )
        survey = healthy(limit_ranges=[tight], facts=facts_of([tight]), config=config(exempt))
        assert [status for status, _ in said("limit-ranges", survey)] == ["ok"]

    def test_other_namespaces_are_not_concerned(self) -> None:
        tight = limit_range(default=memory("512Mi"), max=memory("4Gi"))
        found = self.said(tight, requests=(template("prom", "monitoring", PROMETHEUS),))
        assert [status for status, _ in found] == ["ok"]

    def test_what_could_not_be_listed(self) -> None:
        survey = healthy(templates=Templates(unseen=Unseen({"deployments.apps": "it is forbidden"})))
        assert said("limit-ranges", survey) == [
            ("unknown", "cannot tell: whether LimitRanges suit deployments.apps: it is forbidden")
        ]


REFUSED = 'the API server refuses it: limitranges is forbidden: User "system:serviceaccount:a:b" cannot create it (403)'


@pytest.mark.parametrize(
    ("entries", "more", "expected"),
    [
        pytest.param(
            [{"namespace": "shop", "name": "forestall-defaults", "why": REFUSED}],
            0,
            [
                (
                    "warn",
                    f"LimitRange forestall-defaults of shop is not made: {REFUSED}",
                    "see rights; where they are fine, the refusal names who refused",
                )
            ],
            id="403",
        ),
        pytest.param(
            [
                {
                    "namespace": "shop",
                    "name": "forestall-defaults",
                    "why": "pods would be refused or killed at their next start",
                    "workloads": ["Deployment web: too much"],
                }
            ],
            2,
            [
                (
                    "warn",
                    (
                        "LimitRange forestall-defaults of shop is not made: pods would be refused or killed at their "
                        "next start (Deployment web: too much)"
                    ),
                    "mend that; ConfigMap forestall-system/forestall-limitranges has it all",
                ),
                (
                    "warn",
                    "and 2 more LimitRanges are not made",
                    "see to the first ones: the controller tells of the others then",
                ),
            ],
            id="dangers-and-more",
        ),
        pytest.param(
            [{"namespace": "shop", "name": "a", "why": "LimitRange limits already gives a memory default"}],
            0,
            [("ok", "LimitRanges of 0 namespaces contradict no policy", "")],
            id="there-is-one-already",
        ),
    ],
)
def test_what_the_controller_could_not_make(
    entries: list[Object], more: int, expected: list[tuple[str, str, str]]
) -> None:
    report = {"notMade": len(entries) + more, "limitRanges": entries}
    checks = diagnose(healthy(limit_ranges_record={"data": {"report": json.dumps(report)}}))
    assert [(check.status, check.seen, check.todo) for check in checks if check.name == "limit-ranges"] == expected


def test_a_report_that_somebody_edited() -> None:
    ((status, seen),) = [
        found
        for found in said("limit-ranges", healthy(limit_ranges_record={"data": {"report": "nonsense"}}))
        if found[0] != "ok"
    ]
    assert (status, seen.partition(": ")[0]) == (
        "unknown",
        "ConfigMap forestall-system/forestall-limitranges can't be read",
    )


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


LABELLED = namespace("shop", **{"forestall.dev/defaults": "true"})


@pytest.mark.parametrize(
    ("text", "objects", "seen"),
    [
        pytest.param(
            "limitRanges: []",
            [LABELLED, namespace("other")],
            "label forestall.dev/defaults of namespace shop does nothing: limitRanges is empty",
            id="no-rule-at-all",
        ),
        pytest.param(
            "limitRanges: [{namespaces: [web], default: {memory: 1Gi}}]",
            [LABELLED],
            "label forestall.dev/defaults of namespace shop does nothing: limitRanges has no rule for it",
            id="a-rule-for-others",
        ),
        pytest.param("limitRanges: [{namespaces: [shop], default: {memory: 1Gi}}]", [LABELLED], "", id="by-its-name"),
        pytest.param(
            "limitRanges: [{namespaceSelector: {forestall.dev/defaults: 'true'}, default: {memory: 1Gi}}]",
            [LABELLED],
            "",
            id="by-its-label",
        ),
        pytest.param("limitRanges: []", [namespace("shop")], "", id="no-label"),
    ],
)
def test_labels_that_do_nothing(text: str, objects: list[Object], seen: str) -> None:
    found = said("limit-ranges", healthy(config=config(text), facts=facts_of(objects)))
    assert [told for status, told in found if status == "warn"] == [seen] * bool(seen)
