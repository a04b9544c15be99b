"""The check of LimitRanges against policies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import config, container, facts_of, sized
from tests.doctor.surveys import healthy, said, template
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
                ("warn", "LimitRange limits of shop gives containers 128Mi, where memory-limits asks for 512Mi"),
                id="default below what the policy gives",
            ),
            pytest.param(
                {"max": memory("256Mi")},
                (
                    "warn",
                    "LimitRange limits of shop allows containers 256Mi at most, where memory-limits asks for 512Mi",
                ),
                id="maximum below it",
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
        survey = healthy(templates=Templates(unlisted={"deployments.apps": "it is forbidden"}))
        assert said("limit-ranges", survey) == [
            ("unknown", "cannot tell: whether LimitRanges suit deployments.apps: it is forbidden")
        ]
