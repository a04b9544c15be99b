"""The checks of our own webhook configurations: hooks, rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import config
from tests.doctor.surveys import SYSTEM, healthy, registered, said
from webhook.policy import Object


class TestHooks:
    @pytest.mark.parametrize(
        ("state", "seen"),
        [
            (None, "ValidatingWebhookConfiguration forestall is not there: nothing is asked"),
            (
                {"off": {"validate": "switched off"}},
                "ValidatingWebhookConfiguration forestall is not there: it was switched off, nothing is asked",
            ),
            (
                {"off": {"validate": "deleted by somebody"}},
                "ValidatingWebhookConfiguration forestall is not there: it was deleted by somebody, nothing is asked",
            ),
        ],
    )
    def test_missing(self, state: Object | None, seen: str) -> None:
        hooks = {**registered(), "validate": []}
        survey = healthy(hooks=hooks, state=state and {"data": {"hooks": json.dumps(state)}})
        assert said("hooks", survey) == [
            ("ok", "MutatingWebhookConfiguration forestall leads to Service forestall-system/forestall"),
            ("fail", seen),
        ]
        assert said("rules", survey)[1] == (
            "fail",
            "ValidatingWebhookConfiguration forestall is not there: nothing is asked",
        )

    @pytest.mark.parametrize(
        "client",
        [
            pytest.param({"url": "https://elsewhere/"}, id="a URL"),
            pytest.param(
                {"service": {"namespace": SYSTEM, "name": "forestall", "path": "/validate", "port": 443}}, id="path"
            ),
            pytest.param(
                {"service": {"namespace": SYSTEM, "name": "forestall", "path": "/mutate", "port": 8443}}, id="port"
            ),
            pytest.param({"service": {"namespace": "x", "name": "forestall", "path": "/mutate", "port": 443}}, id="ns"),
        ],
    )
    def test_elsewhere(self, client: Object) -> None:
        hooks = registered()
        hooks["mutate"][0]["webhooks"][0]["clientConfig"] = client
        assert said("hooks", healthy(hooks=hooks))[0] == (
            "fail",
            (
                "MutatingWebhookConfiguration forestall: mutate.forestall.dev doesn't lead to Service "
                "forestall-system/forestall, port 443"
            ),
        )


class TestRules:
    def test_as_they_should_be(self) -> None:
        assert [status for status, _ in said("rules", healthy())] == ["ok", "ok"]

    def test_narrower(self) -> None:
        hooks = registered()
        webhook = hooks["validate"][0]["webhooks"][0]
        webhook["rules"] = [rule for rule in webhook["rules"] if "deployments" not in rule["resources"]]
        status, text = said("rules", healthy(hooks=hooks))[1]
        assert status == "fail"
        assert text.startswith("ValidatingWebhookConfiguration forestall: validate.forestall.dev isn't asked about ")
        assert "CREATE of deployments.apps" in text

    def test_wider(self) -> None:
        hooks = registered("policies: {zonal-volumes: {mode: 'off'}}")
        webhook = hooks["validate"][0]["webhooks"][0]
        webhook["rules"].append({"apiGroups": [""], "resources": ["secrets"], "operations": ["CREATE"]})
        text = "ValidatingWebhookConfiguration forestall: validate.forestall.dev is asked about CREATE of secrets, "
        off = config("policies: {zonal-volumes: {mode: 'off'}}")
        assert said("rules", healthy(hooks=hooks, config=off))[1] == ("warn", f"{text}which no policy judges")

    def test_wildcards_are_wide_enough_but_too_wide(self) -> None:
        hooks = registered()
        hooks["validate"][0]["webhooks"][0]["rules"] = [
            {"apiGroups": ["*"], "resources": ["*/*"], "operations": ["*"], "apiVersions": ["*"]}
        ]
        assert said("rules", healthy(hooks=hooks))[1:] == [
            (
                "warn",
                (
                    "ValidatingWebhookConfiguration forestall: validate.forestall.dev is asked about * of */*.*, "
                    "which no policy judges"
                ),
            )
        ]

    def test_a_policy_that_was_switched_on(self) -> None:
        hooks = registered("policies: {zonal-volumes: {mode: 'off'}}")
        text = "isn't asked about CREATE of persistentvolumeclaims"
        assert said("rules", healthy(hooks=hooks))[-1][1].endswith(text)

    def test_the_judging_webhook_is_missing(self) -> None:
        hooks = registered()
        del hooks["mutate"][0]["webhooks"][0]
        status, text = said("rules", healthy(hooks=hooks))[0]
        assert (status, "mutate.forestall.dev isn't asked about" in text) == ("fail", True)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("failurePolicy", "Fail"),
            ("timeoutSeconds", 30),
            ("matchPolicy", "Exact"),
            ("matchConditions", None),
            ("namespaceSelector", {}),
            ("objectSelector", {"matchLabels": {"a": "b"}}),
        ],
    )
    def test_other_fields(self, field: str, value: Any) -> None:
        hooks = registered()
        hooks["validate"][0]["webhooks"][0][field] = value
        text = f"ValidatingWebhookConfiguration forestall: validate.forestall.dev differs in {field}"
        assert said("rules", healthy(hooks=hooks))[1] == ("fail", text)

    def test_nothing_fails_closed_before_it_can_be_trusted(self) -> None:
        hooks = registered()
        for webhook in hooks["validate"][0]["webhooks"]:
            del webhook["clientConfig"]["caBundle"]
        closed = config("webhooks: {failurePolicy: Fail}")
        assert [status for status, _ in said("rules", healthy(hooks=hooks, config=closed))] == ["ok", "ok"]
        assert [status for status, _ in said("rules", healthy(config=closed))] == ["ok", "fail"]

    @pytest.mark.parametrize(
        ("resources", "is_covered"),
        [(["pods"], False), (["pods/*"], True), (["*"], False), (["*/resize"], True), (["pods/resize"], True)],
    )
    def test_subresources(self, resources: list[str], is_covered: bool) -> None:
        hooks = registered()
        rules = hooks["validate"][0]["webhooks"][0]["rules"]
        for rule in rules:
            rule["resources"] = [resource for resource in rule["resources"] if resource != "pods/resize"]
        rules.append({"apiGroups": [""], "resources": resources, "operations": ["UPDATE"]})
        texts = [text for status, text in said("rules", healthy(hooks=hooks)) if status == "fail"]
        assert any("isn't asked about UPDATE of pods/resize" in text for text in texts) is not is_covered

    def test_what_the_api_server_adds_is_no_difference(self) -> None:
        hooks = registered()
        hooks["validate"][0]["webhooks"][0]["addedByANewerOne"] = True
        assert [status for status, _ in said("rules", healthy(hooks=hooks))] == ["ok", "ok"]
