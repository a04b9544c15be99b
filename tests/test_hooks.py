"""The webhook configurations: what they say, that their conditions spare nothing that matters, and who may undo them."""

from __future__ import annotations

import copy
import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import ROOT, SHARED, TODAY, config
from tests.cluster_fixture import ControlPlane, control_plane
from webhook import hooks as under_test
from webhook.cluster import Cluster
from webhook.engine import decide
from webhook.errors import ClusterRefused, Conflict
from webhook.facts import NO_FACTS
from webhook.fixes import can_change
from webhook.hooks import (
    DELETED,
    ON_PURPOSE,
    STAGES,
    Hooks,
    Stage,
    configurations,
    corrected,
    needed_rules,
    path_of,
    plan,
    turn_off,
    turn_on,
)
from webhook.policy import AdmissionRequest, Object, Set
from webhook.review import read_review

BUNDLE = "Y2E="
OWNER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "forestall-controller", "uid": "u-1"},
}
ALL_OFF = "policies: {memory-limits: {mode: 'off'}, prometheus-memory: {mode: 'off'}, zonal-volumes: {mode: 'off'}}"
BOTH, CREATE, UPDATE = ["CREATE", "UPDATE"], ["CREATE"], ["UPDATE"]


def made(text: str = "", bundle: str = BUNDLE, **options: Any) -> dict[Stage, Object]:
    given = {"namespace": "forestall-system", "owner": OWNER} | options
    return dict(zip(STAGES, configurations(config(text), bundle, **given), strict=True))


def rules(text: str, stage: Stage) -> dict[str, list[str]]:
    """resource.group -> operations"""
    return {
        f"{resource}.{rule['apiGroups'][0]}".rstrip("."): rule["operations"]
        for rule in needed_rules(config(text), stage)
        for resource in rule["resources"]
    }


class TestRules:
    def test_everything_at_validate(self) -> None:
        assert rules("", "validate") == {
            "pods": BOTH,
            "pods/resize": UPDATE,
            "podtemplates": BOTH,
            "replicationcontrollers": BOTH,
            "persistentvolumeclaims": CREATE,
            "daemonsets.apps": BOTH,
            "deployments.apps": BOTH,
            "replicasets.apps": BOTH,
            "statefulsets.apps": BOTH,
            "cronjobs.batch": BOTH,
            "jobs.batch": BOTH,
            "daemonsets.extensions": BOTH,
            "deployments.extensions": BOTH,
            "replicasets.extensions": BOTH,
            "clonesets.apps.kruise.io": BOTH,
            "statefulsets.apps.kruise.io": BOTH,
            "deploymentconfigs.apps.openshift.io": BOTH,
            "rollouts.argoproj.io": BOTH,
            "alertmanagers.monitoring.coreos.com": BOTH,
            "prometheuses.monitoring.coreos.com": BOTH,
            "prometheusagents.monitoring.coreos.com": BOTH,
            "thanosrulers.monitoring.coreos.com": BOTH,
        }

    def test_what_can_be_fixed_at_mutate(self) -> None:
        validated, mutated = rules("", "validate"), rules("", "mutate")
        assert mutated == {
            key: CREATE if key in ("pods", "jobs.batch") else operations
            for key, operations in validated.items()
            if key != "persistentvolumeclaims"  # of zonal-volumes, which denies
        }

    @pytest.mark.parametrize(
        ("text", "stage", "sent", "spared"),
        [
            pytest.param("mode: 'off'", "validate", [], ["pods"], id="the-ceiling-is-off"),
            pytest.param("mode: audit", "validate", ["pods"], [], id="audited-is-judged"),
            pytest.param("mode: audit", "mutate", [], ["pods"], id="audited-is-not-patched"),
            pytest.param("mode: warn", "mutate", [], ["pods"], id="warned-is-not-patched"),
            pytest.param(
                "mode: patch", "mutate", ["persistentvolumeclaims"], [], id="under-a-ceiling-of-patch-a-denial-patches"
            ),
            pytest.param(ALL_OFF, "validate", [], ["pods"], id="every-policy-is-off"),
            pytest.param(
                "policies: {zonal-volumes: {mode: 'off'}}",
                "validate",
                ["pods"],
                ["persistentvolumeclaims"],
                id="a-policy-that-is-off-takes-its-kinds-along",
            ),
            pytest.param(
                "policies: {memory-limits: {mode: 'off'}, prometheus-memory: {mode: 'off'}}",
                "validate",
                ["pods", "persistentvolumeclaims"],
                ["pods/resize"],
                id="and-its-subresources",
            ),
            pytest.param(
                ALL_OFF + "\noverrides: [{match: {namespaces: [a]}, policies: {zonal-volumes: {mode: audit}}}]",
                "validate",
                ["persistentvolumeclaims"],
                [],
                id="an-override-turns-it-on",
            ),
            pytest.param(
                "mode: 'off'\noverrides: [{match: {namespaces: [a]}, policies: {zonal-volumes: {mode: audit}}}]",
                "validate",
                [],
                ["persistentvolumeclaims"],
                id="no-override-lifts-the-ceiling",
            ),
            pytest.param(
                "overrides: [{match: {namespaces: [a]}, policies: {zonal-volumes: {mode: patch}}}]",
                "mutate",
                ["persistentvolumeclaims"],
                [],
                id="an-override-patches",
            ),
            pytest.param(
                "kinds: [{group: example.com, kind: Runner, resource: runners}]",
                "mutate",
                ["runners.example.com"],
                [],
                id="a-kind-of-the-configuration",
            ),
            pytest.param(
                ALL_OFF + "\nkinds: [{group: example.com, kind: Runner, resource: runners}]",
                "validate",
                [],
                ["runners.example.com"],
                id="a-kind-that-no-policy-judges",
            ),
        ],
    )
    def test_follow_the_configuration(self, text: str, stage: Stage, sent: list[str], spared: list[str]) -> None:
        found = rules(text, stage)
        assert (set(sent) - set(found), set(spared) & set(found)) == (set(), set())
        assert bool(found) == bool(sent)

    @pytest.mark.parametrize(
        ("group", "kind", "resource"),
        [
            ("", "Pod", "pods"),
            ("batch", "Job", "jobs"),
            ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
            ("batch", "CronJob", "cronjobs"),
            ("apps", "StatefulSet", "statefulsets"),
            ("apps", "Deployment", "deployments"),
        ],
    )
    def test_updates_are_mutated_just_where_a_fix_could_be_applied(self, group: str, kind: str, resource: str) -> None:
        update = AdmissionRequest("UPDATE", group, "v1", kind, "shop", "web", {}, {})
        can = can_change(update, [Set("spec.template.spec.containers[0].resources.limits.memory", "1Gi")])
        found = rules("mode: patch", "mutate")[f"{resource}.{group}".rstrip(".")]
        assert ("UPDATE" in found) == can


class TestConfigurations:
    def test_mutating(self) -> None:
        configuration = made("excludeNamespaces: [legacy]")["mutate"]
        assert configuration["metadata"] == {
            "name": "forestall",
            "labels": {"app.kubernetes.io/name": "forestall"},
            "annotations": {"admissions.enforcer/disabled": "true"},
            "ownerReferences": [
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRole",
                    "name": "forestall-controller",
                    "uid": "u-1",
                }
            ],
        }
        judging, probing = configuration["webhooks"]
        service = {"namespace": "forestall-system", "name": "forestall", "path": "/mutate", "port": 443}
        common = {
            "clientConfig": {"service": service, "caBundle": BUNDLE},
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 3,
            "admissionReviewVersions": ["v1"],
        }
        excluded = ["forestall-system", "kube-node-lease", "kube-public", "kube-system", "legacy"]
        name = "kubernetes.io/metadata.name"
        assert {key: value for key, value in judging.items() if key not in ("rules", "matchConditions")} == {
            **common,
            "name": "mutate.forestall.dev",
            "namespaceSelector": {"matchExpressions": [{"key": name, "operator": "NotIn", "values": excluded}]},
            "objectSelector": {},
            "reinvocationPolicy": "IfNeeded",
        }
        assert {(rule["scope"], *rule["apiVersions"]) for rule in judging["rules"]} == {("Namespaced", "*")}
        assert probing == {
            **common,
            "name": "probe.mutate.forestall.dev",
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps"],
                    "operations": ["CREATE"],
                    "scope": "Namespaced",
                }
            ],
            "namespaceSelector": {
                "matchExpressions": [{"key": name, "operator": "In", "values": ["forestall-system"]}]
            },
            "objectSelector": {"matchExpressions": [{"key": "forestall.dev/probe", "operator": "Exists"}]},
            "reinvocationPolicy": "Never",
        }

    @pytest.mark.parametrize(
        ("text", "policies"),
        [
            pytest.param("", {"Ignore"}, id="by-default-all-fail-open"),
            pytest.param("webhooks: {failurePolicy: Fail}", {"Ignore", "Fail"}, id="fail"),
        ],
    )
    def test_failure_policy(self, text: str, policies: set[str]) -> None:
        by_name = {
            each["name"]: each["failurePolicy"]
            for configuration in made(text).values()
            for each in configuration["webhooks"]
        }
        assert {name for name, policy in by_name.items() if policy == "Fail"} == (
            {"validate.forestall.dev"} if "Fail" in policies else set()
        )

    @pytest.mark.parametrize("text", ["mode: audit", "mode: 'off'", ALL_OFF, "mode: deny"])
    def test_the_probe_reaches_both_at_every_mode(self, text: str) -> None:
        for stage, configuration in made(text).items():
            assert f"probe.{stage}.forestall.dev" in [each["name"] for each in configuration["webhooks"]]

    def test_of_another_installation(self) -> None:
        configuration = made("webhooks: {timeoutSeconds: 1}", namespace="guard", port=8443, owner=None)["validate"]
        for webhook in configuration["webhooks"]:
            assert webhook["timeoutSeconds"] == 1
            assert webhook["clientConfig"]["service"] == {
                "namespace": "guard",
                "name": "forestall",
                "path": "/validate",
                "port": 8443,
            }
        assert "guard" in configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
        assert "ownerReferences" not in configuration["metadata"]

    def test_cert_manager_brings_the_bundle(self) -> None:
        configuration = made("certificates: {mode: certManager}", bundle="")["validate"]
        assert configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == (
            "forestall-system/forestall-tls"
        )
        assert [each["clientConfig"].keys() for each in configuration["webhooks"]] == [{"service"}] * 2

    def test_the_same_configuration_gives_the_same_bytes(self) -> None:
        text = "controllers: [b, a]\nexcludeNamespaces: ['x-*', b, a]"
        assert msgspec.json.encode(made(text)) == msgspec.json.encode(made(text))


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        pytest.param(["legacy-*"], ["legacy-", "legacy-a", "legacy", "a-legacy-b"], id="star"),
        pytest.param(["a?"], ["a", "ab", "abc"], id="question-mark"),
        pytest.param(["a-*", "*-b"], ["a-x", "x-b", "x-c"], id="several"),
        pytest.param(["a.b*"], ["a.b", "axb"], id="a-dot-is-a-dot"),
    ],
)
def test_globs_as_conditions(globs: list[str], names: list[str]) -> None:
    expression = re.compile(under_test._regex(globs))
    assert [bool(expression.search(name)) for name in names] == [
        any(fnmatchcase(name, glob) for glob in globs) for name in names
    ]


def conditions(text: str, stage: Stage) -> dict[str, str]:
    webhook = made(text)[stage]["webhooks"][0]
    return {each["name"]: each["expression"] for each in webhook["matchConditions"]}


@pytest.mark.parametrize(
    ("text", "stage", "names"),
    [
        pytest.param(
            "", "validate", {"not-being-deleted", "not-judged-at-its-owner", "not-an-unchanged-pod"}, id="validate"
        ),
        pytest.param("", "mutate", {"not-being-deleted", "not-judged-at-its-owner"}, id="mutate"),
        pytest.param(
            "ratchet: false", "validate", {"not-being-deleted", "not-judged-at-its-owner"}, id="without-the-ratchet"
        ),
        pytest.param(
            "excludeNamespaces: [a, 'b-*', '[c]']",
            "mutate",
            {"not-in-an-excluded-namespace", "not-being-deleted", "not-judged-at-its-owner"},
            id="globs",
        ),
        pytest.param(
            "excludeNamespaces: [a, '[c]']",
            "mutate",
            {"not-being-deleted", "not-judged-at-its-owner"},
            id="a-character-class-stays-with-the-engine",
        ),
    ],
)
def test_conditions_by_configuration(text: str, stage: Stage, names: set[str]) -> None:
    assert set(conditions(text, stage)) == names


class TestCorrected:
    WANTED = made()["validate"]

    def stored(self, change: Callable[[Object], object] = lambda _: None) -> Object:
        """As the API server gives it back, and after somebody's change."""
        obj = copy.deepcopy(self.WANTED)
        obj["metadata"] |= {"uid": "u-2", "resourceVersion": "9", "generation": 1}
        for webhook in obj["webhooks"]:
            webhook["namespaceSelector"] = dict(webhook["namespaceSelector"])
            webhook["addedByANewerServer"] = "default"
        change(obj)
        return obj

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda _: None, id="nothing"),
            pytest.param(lambda obj: obj["metadata"]["labels"].update(theirs="x"), id="a-label-more"),
            pytest.param(lambda obj: obj["metadata"].update(finalizers=["theirs"]), id="a-finalizer-more"),
        ],
    )
    def test_is_left_alone(self, change: Callable[[Object], object]) -> None:
        assert corrected(self.stored(change), self.WANTED) is None

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda obj: obj["webhooks"][0]["clientConfig"].update(caBundle="eHg="), id="the-bundle"),
            pytest.param(lambda obj: obj["webhooks"][0]["clientConfig"].pop("caBundle"), id="no-bundle"),
            pytest.param(lambda obj: obj["webhooks"][0]["rules"].pop(), id="a-rule-less"),
            pytest.param(lambda obj: obj["webhooks"][0].update(failurePolicy="Fail"), id="the-failure-policy"),
            pytest.param(lambda obj: obj["webhooks"][0].pop("namespaceSelector"), id="no-selector"),
            pytest.param(
                lambda obj: obj["webhooks"][0].update(objectSelector={"matchLabels": {"a": "b"}}), id="a-selector-more"
            ),
            pytest.param(lambda obj: obj["webhooks"][0].pop("matchConditions"), id="no-conditions"),
            pytest.param(
                lambda obj: obj["webhooks"][1].update(matchConditions=[{"name": "no", "expression": "false"}]),
                id="a-condition-more",
            ),
            pytest.param(lambda obj: obj["webhooks"].pop(), id="a-webhook-less"),
            pytest.param(lambda obj: obj.pop("webhooks"), id="no-webhooks"),
            pytest.param(lambda obj: obj["webhooks"].append({"name": "x.example.com"}), id="a-webhook-more"),
            pytest.param(lambda obj: obj["webhooks"].reverse(), id="the-order"),
            pytest.param(lambda obj: obj["metadata"]["labels"].clear(), id="no-label"),
            pytest.param(lambda obj: obj["metadata"].pop("ownerReferences"), id="no-owner"),
        ],
    )
    def test_is_put_right(self, change: Callable[[Object], object]) -> None:
        better = corrected(self.stored(change), self.WANTED)
        assert better is not None
        assert better["webhooks"] == self.WANTED["webhooks"]
        assert better["metadata"] == self.stored()["metadata"]

    def test_without_a_bundle_of_ours_the_one_that_is_there_stays(self) -> None:
        wanted = made("webhooks: {failurePolicy: Fail}", bundle="")["validate"]
        better = corrected(self.stored(), wanted)
        assert better is not None
        assert better["webhooks"][0]["clientConfig"]["caBundle"] == BUNDLE
        assert better["webhooks"][0]["failurePolicy"] == "Fail"
        assert corrected(better, wanted) is None

    def test_without_any_bundle_nothing_fails_closed(self) -> None:
        wanted = made("webhooks: {failurePolicy: Fail}", bundle="")["validate"]
        better = corrected(self.stored(lambda obj: obj["webhooks"].clear()), wanted)
        assert better is not None
        assert [each["failurePolicy"] for each in better["webhooks"]] == ["Ignore", "Ignore"]


@pytest.mark.parametrize(
    ("existing", "uid", "off", "action"),
    [
        pytest.param(False, "", "", "create", id="first-start"),
        pytest.param(True, "u", "", "keep", id="there"),
        pytest.param(True, "", "", "keep", id="made-and-not-remembered"),
        pytest.param(False, "u", "", "remember it is off", id="somebody-deleted-it"),
        pytest.param(False, "u", DELETED, "nothing", id="stays-off"),
        pytest.param(True, "u", DELETED, "keep", id="somebody-brought-it-back"),
        pytest.param(True, "", ON_PURPOSE, "delete", id="made-while-it-was-switched-off"),
        pytest.param(False, "", ON_PURPOSE, "nothing", id="switched-off"),
    ],
)
def test_plan(existing: bool, uid: str, off: str, action: str) -> None:
    assert plan({"metadata": {}} if existing else None, uid, off) == action
