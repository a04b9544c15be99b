"""The check of gaps, and of what came in by them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import TODAY, config, container, sized
from tests.doctor.surveys import DAY, NOW, healthy, said, template
from tests.memory_cluster import MemoryCluster
from webhook.cluster.gap_record import Gap
from webhook.cluster.unseen import Unseen
from webhook.controller.gaps import Unchecked
from webhook.doctor.checks import diagnose
from webhook.doctor.remark import Check
from webhook.doctor.survey import Slipped, _slipped
from webhook.engine import decide
from webhook.findings import findings_of, object_of
from webhook.objects.facts import NO_FACTS
from webhook.policy import AdmissionRequest, Object, Stage

BOTH: tuple[Stage, ...] = ("mutate", "validate")


def state(*gaps: Gap) -> Object:
    def encode(gap: Gap) -> Object:
        ended = {"ended": gap.ended.isoformat()} if gap.ended else {}
        return {"stages": gap.stages, "began": gap.began.isoformat(), "reason": gap.reason, **ended}

    return {"data": {"gaps": json.dumps({"gaps": list(map(encode, gaps))})}}


def ago(began: timedelta, ended: timedelta | None, reason: Any = "no answer") -> Gap:
    return Gap(BOTH, NOW - began, reason, None if ended is None else NOW - ended)


MINUTE = timedelta(minutes=1)
PROMETHEUS = {**container("prometheus", "quay.io/prometheus/prometheus:v3.1.0"), **sized("3Gi", "2Gi")}


def unchecked(request: AdmissionRequest, gap: Gap) -> Unchecked:
    decision = decide(request, NO_FACTS, config(""), today=TODAY)
    return Unchecked(object_of(request), gap, "created", gap.began, findings_of(request, decision, config("")))


def test_an_edited_record_is_told_of() -> None:
    text = "somebody's edit made the record unreadable: what was in it is lost"
    assert said("gaps", healthy(state={"data": {"gaps": "nonsense"}})) == [("unknown", text)]
    assert said("gaps", healthy(state={"data": {"gaps": '{"lost": true}'}})) == [("unknown", text)]


class TestGaps:
    @pytest.mark.parametrize(
        ("gaps", "expected"),
        [
            pytest.param([], [("ok", "none in the last 7 days")], id="none"),
            pytest.param([ago(9 * DAY, 8 * DAY)], [("ok", "none in the last 7 days")], id="long ago"),
            pytest.param(
                [ago(3 * DAY, 3 * DAY - MINUTE), ago(2 * MINUTE, MINUTE, "hooks off")],
                [("ok", "2 in the last 7 days; of the 0 objects that were admitted unchecked none violates a policy")],
                id="over, and nothing came of it",
            ),
            pytest.param(
                [ago(3 * MINUTE, 2 * MINUTE)],
                [
                    (
                        "warn",
                        (
                            "a gap of 60 s at least: 2026-11-21 11:57:00 to 2026-11-21 11:58:00 UTC: mutate and "
                            "validate, no answer"
                        ),
                    ),
                    (
                        "ok",
                        "1 in the last 7 days; of the 0 objects that were admitted unchecked none violates a policy",
                    ),
                ],
                id="of today",
            ),
            pytest.param(
                [ago(3 * MINUTE, None, "hooks off")],
                [
                    ("fail", "a gap is open: 2026-11-21 11:57:00 to now: mutate and validate, hooks off"),
                    (
                        "ok",
                        "1 in the last 7 days; of the 0 objects that were admitted unchecked none violates a policy",
                    ),
                ],
                id="open",
            ),
        ],
    )
    def test_gaps(self, gaps: list[Gap], expected: list[tuple[str, str]]) -> None:
        assert said("gaps", healthy(state=state(*gaps))) == expected

    def test_what_slipped_through(self) -> None:
        request = template("web", "shop", container())
        gap = ago(2 * DAY, 2 * DAY - MINUTE)
        slipped = Slipped(5, [unchecked(request, gap)])
        checks = [check for check in diagnose(healthy(state=state(gap), slipped=slipped)) if check.name == "gaps"]
        assert checks == [
            Check(
                "gaps",
                "warn",
                "Deployment shop/web was admitted unchecked (created 2026-11-19 12:00:00 UTC): memory-limits",
                unchecked(request, gap).findings[0].verdict.violation.message,
            )
        ]

    def test_all_that_is_wrong_with_an_object_is_told(self) -> None:
        request = template("web", "shop", container("a"), container("b"), PROMETHEUS)
        gap = ago(2 * DAY, 2 * DAY - MINUTE)
        slipped = Slipped(1, [unchecked(request, gap)])
        (check,) = [check for check in diagnose(healthy(state=state(gap), slipped=slipped)) if check.name == "gaps"]
        assert check.seen.endswith(": memory-limits, prometheus-memory")
        told = [finding.verdict.violation.message for finding in slipped.violating[0].findings]
        assert len(told) > 3
        assert check.todo == "; ".join(told)

    def test_what_slipped_through_is_listed_by_owner(self) -> None:
        gap = ago(2 * DAY, 2 * DAY - MINUTE)
        made = [("c", "Observatory", "obs"), ("b", "Deployment", "web"), ("a", "Observatory", "obs")]
        slipped = []
        for name, kind, owner in made:
            request = template(name, "shop", container())
            group = "apps/v1" if kind == "Deployment" else "obs.example.com/v1"
            reference = {"apiVersion": group, "kind": kind, "name": owner, "controller": True}
            assert request.object is not None
            request.object["metadata"]["ownerReferences"] = [reference]
            slipped.append(unchecked(request, gap))
        told = said("gaps", healthy(state=state(gap), slipped=Slipped(5, slipped)))
        assert [text.partition(" was admitted")[0] for _, text in told] == [
            "Deployment shop/b",
            "Deployment shop/c, made by Observatory obs,",
            "Deployment shop/a, made by Observatory obs,",
        ]

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            pytest.param("", ["web"], id="violates"),
            pytest.param("mode: audit", ["web"], id="at every mode"),
            pytest.param(
                "exemptions: [{policy: memory-limits, match: {namespaces: ['*']}, owner: a, reason: b, until: "
                "2099-01-01}]",
                [],
                id="exempted",
            ),
        ],
    )
    def test_what_is_listed(self, text: str, names: list[str]) -> None:
        fine = {**container(), **sized("1Gi", "1Gi")}
        requests = [template("web", "shop", container()), template("fine", "shop", fine)]
        cluster = MemoryCluster()
        for request in requests:
            assert request.object
            metadata = {**request.object["metadata"], "creationTimestamp": "2026-11-21T11:00:00Z"}
            cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", **request.object, "metadata": metadata})
        gap = Gap(BOTH, NOW - timedelta(hours=2), "no answer")
        slipped = _slipped(cluster, config(text), NO_FACTS, [gap])
        assert (slipped.count, [admitted.object.name for admitted in slipped.violating]) == (2, names)

    def test_what_could_not_be_listed(self) -> None:
        gap = ago(2 * DAY, 2 * DAY - MINUTE)
        slipped = Slipped(unseen=Unseen({"pods": "it is forbidden"}))
        assert said("gaps", healthy(state=state(gap), slipped=slipped)) == [
            ("unknown", "cannot tell: which pods came in: it is forbidden")
        ]
