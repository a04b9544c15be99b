"""The checks of others' webhooks: timeouts, other-hooks, order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.doctor.surveys import healthy, registered, said
from webhook.policy import Object


def other(name: str = "other", **fields: Any) -> Object:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}
    return {"metadata": {"name": name}, "webhooks": [{"name": f"{name}.dev", "rules": [rule], **fields}]}


def narrow(*resources: str, group: str = "", **fields: Any) -> Object:
    rule = {"apiGroups": [group], "apiVersions": ["*"], "resources": list(resources), "operations": ["CREATE"]}
    return other("-".join(resources), **{"rules": [rule], **fields})


class TestTimeouts:
    @pytest.mark.parametrize(
        ("others", "status", "seen"),
        [
            ([], "ok", "mutating webhooks in the cluster: 1, which may take 3 s together, 3 s of one request's 34 s"),
            (
                [other(timeoutSeconds=30), narrow("secrets", timeoutSeconds=3)],
                "ok",
                "mutating webhooks in the cluster: 3, which may take 36 s together, 33 s of one request's 34 s",
            ),
            (
                [narrow(f"kind{number}") for number in range(10)],
                "ok",
                "mutating webhooks in the cluster: 11, which may take 103 s together, 10 s of one request's 34 s",
            ),
            (
                [other(timeoutSeconds=30), narrow("secrets", "configmaps", timeoutSeconds=4)],
                "warn",
                (
                    "mutating webhooks in the cluster: 3, which may take 37 s together, and 34 s of the 34 s that one "
                    "CREATE of secrets has: it fails if they hang, whatever their failurePolicy"
                ),
            ),
        ],
    )
    def test_sums(self, others: list[Object], status: str, seen: str) -> None:
        hooks = registered()
        hooks["mutate"] += others
        assert said("timeouts", healthy(hooks=hooks)) == [(status, seen)]

    def test_validating_ones_run_side_by_side(self) -> None:
        hooks = registered()
        hooks["validate"] += [other(f"other-{number}", timeoutSeconds=30) for number in range(5)]
        assert said("timeouts", healthy(hooks=hooks))[0][0] == "ok"


class TestOtherHooks:
    @pytest.mark.parametrize(
        ("hook", "seen"),
        [
            pytest.param(other(), "closed, in kube-system as well", id="the API's default is Fail"),
            pytest.param(
                other(
                    failurePolicy="Fail",
                    namespaceSelector={
                        "matchExpressions": [
                            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}
                        ]
                    },
                ),
                "closed",
                id="spares kube-system",
            ),
        ],
    )
    def test_everything(self, hook: Object, seen: str) -> None:
        text = "ValidatingWebhookConfiguration other: other.dev is asked about everything and fails "
        hooks = registered()
        hooks["validate"].append(hook)
        assert said("other-hooks", healthy(hooks=hooks)) == [("warn", text + seen)]

    @pytest.mark.parametrize(
        "hook",
        [
            pytest.param(other(failurePolicy="Ignore"), id="fails open"),
            pytest.param(other(objectSelector={"matchLabels": {"a": "b"}}), id="labelled objects"),
            pytest.param(
                other(namespaceSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}), id="labelled ones"
            ),
            pytest.param(other(matchConditions=[{"name": "a", "expression": "false"}]), id="conditions"),
            pytest.param(narrow("pods"), id="one kind"),
        ],
    )
    def test_less_than_everything(self, hook: Object) -> None:
        hooks = registered()
        hooks["mutate"].append(hook)
        assert [status for status, _ in said("other-hooks", healthy(hooks=hooks))] == ["ok"]


RULE = {"apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments"], "operations": ["CREATE"]}


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        pytest.param(
            other("zz", rules=[RULE], reinvocationPolicy="IfNeeded"),
            (
                "warn",
                "MutatingWebhookConfiguration zz: zz.dev has the last word on deployments.apps, after our patches",
            ),
            id="later-and-again",
        ),
        pytest.param(
            other("aa", rules=[RULE], reinvocationPolicy="IfNeeded"),
            ("ok", "no other webhook changes objects after ours"),
            id="before-ours",
        ),
        pytest.param(
            other("zz", rules=[RULE]),
            ("ok", "no other webhook changes objects after ours"),
            id="once-and-ours-is-asked-again",
        ),
        pytest.param(
            narrow("secrets", reinvocationPolicy="IfNeeded"),
            ("ok", "no other webhook changes objects after ours"),
            id="nothing-that-ours-patches",
        ),
    ],
)
def test_order(hook: Object, expected: tuple[str, str]) -> None:
    hooks = registered()
    hooks["mutate"].append(hook)
    assert said("order", healthy(hooks=hooks)) == [expected]
