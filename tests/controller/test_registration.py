"""What the API server is asked: the webhook configurations, and that their conditions spare nothing that matters."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest

from tests.builders import ROOT, SHARED, TODAY, config, every_policy
from tests.cluster_fixture import ControlPlane, control_plane
from tests.loopback import eventually
from webhook.cluster.client import Cluster
from webhook.controller.match_conditions import regex_of
from webhook.controller.registration import STAGES, configurations, corrected, needed_rules
from webhook.engine import decide
from webhook.fixes import can_change
from webhook.objects.facts import NO_FACTS
from webhook.objects.owners import IDENTITIES
from webhook.policy import AdmissionRequest, Object, Set, Stage
from webhook.scope import ALWAYS_EXCLUDED
from webhook.server.review import read_review

BUNDLE = "Y2E="
OWNER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "forestall-controller", "uid": "u-1"},
}
ALL_OFF, ALL_WARN = every_policy(), every_policy("mode: warn")
OVERRIDE = "\noverrides: [{{match: {{namespaces: [a]}}, policies: {{memory-limits: {0}}}}}]"
BOTH, CREATE, UPDATE = ["CREATE", "UPDATE"], ["CREATE"], ["UPDATE"]


def with_memory_limits(settings: str) -> str:
    """Every other policy warns."""
    return every_policy("mode: warn", memory_limits=settings)


SCALES = "policies: {volume-handover: {mode: patch}}"


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
            pytest.param(
                "policies: {zonal-volumes: {params: {replacement: {storageClass: efs}}}}",
                "mutate",
                ["persistentvolumeclaims"],
                [],
                id="a-claim-s-replacement-is-patched-where-its-workload-is-denied",
            ),
            pytest.param(ALL_OFF, "validate", [], ["pods"], id="every-policy-is-off"),
            pytest.param("", "validate", ["pods"], ["deployments/scale.apps"], id="no-policy-judges-scales"),
            pytest.param(SCALES, "validate", ["deployments/scale.apps"], [], id="a-policy-judges-scales"),
            pytest.param(SCALES, "mutate", ["deployments.apps"], ["deployments/scale.apps"], id="but-patches-none"),
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
            "labels": {"app.kubernetes.io/name": "forestall", "app.kubernetes.io/managed-by": "forestall"},
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
        ("text", "failing"),
        [
            pytest.param("webhooks: {failurePolicy: Ignore}", [], id="ignore"),
            pytest.param("", ["validate"], id="something-may-be-denied"),
            pytest.param("mode: patch", [], id="a-ceiling-of-patch-denies-nothing"),
            pytest.param("mode: warn", [], id="a-ceiling-of-warn"),
            pytest.param("mode: audit", [], id="a-ceiling-of-audit"),
            pytest.param("mode: 'off'", [], id="a-ceiling-of-off"),
            pytest.param(ALL_OFF, [], id="every-policy-off"),
            pytest.param(ALL_WARN, [], id="every-policy-warns"),
            pytest.param(ALL_WARN.replace("warn", "warn, onError: deny"), [], id="what-is-undecided-only-warns"),
            pytest.param(with_memory_limits("mode: deny"), ["validate"], id="one-denies"),
            pytest.param(with_memory_limits("mode: patch, otherwise: warn"), [], id="what-has-no-fix-is-warned-of"),
            pytest.param(
                with_memory_limits("mode: patch, otherwise: deny"), ["validate"], id="what-has-no-fix-is-denied"
            ),
            pytest.param(ALL_WARN + OVERRIDE.format("{mode: deny}"), ["validate"], id="an-override-denies"),
            pytest.param(
                ALL_WARN + OVERRIDE.format("{mode: patch}"), ["validate"], id="an-override-patches-what-has-a-fix"
            ),
            pytest.param(
                ALL_WARN + OVERRIDE.format("{otherwise: deny}"), [], id="an-override-of-what-has-no-fix-alone"
            ),
            pytest.param("mode: audit" + OVERRIDE.format("{mode: deny}"), [], id="an-override-stays-below-the-ceiling"),
        ],
    )
    def test_fails_closed_only_where_something_may_be_denied(self, text: str, failing: list[str]) -> None:
        text = text if "failurePolicy" in text else f"{text}\nwebhooks: {{failurePolicy: Fail}}"
        found = {stage: [webhook["failurePolicy"] for webhook in obj["webhooks"]] for stage, obj in made(text).items()}
        for stage, policies in found.items():
            assert policies[:-1] == ["Fail" if stage in failing else "Ignore"] * len(policies[:-1])
            assert policies[-1] == "Ignore", "the probe's webhook must hold nothing up"

    @pytest.mark.parametrize("text", ["mode: audit", "mode: 'off'", ALL_OFF, "mode: deny"])
    def test_the_probe_reaches_both_at_every_mode(self, text: str) -> None:
        for stage, configuration in made(text).items():
            assert f"probe.{stage}.forestall.dev" in [webhook["name"] for webhook in configuration["webhooks"]]

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

    def test_what_cannot_be_a_namespace_is_not_named(self) -> None:
        webhook = made(f"excludeNamespaces: [a, 'b-*', '[c]', {'d' * 64}]")["mutate"]["webhooks"][0]
        values = webhook["namespaceSelector"]["matchExpressions"][0]["values"]
        assert set(values) - ALWAYS_EXCLUDED == {"a"}

    def test_cert_manager_brings_the_bundle(self) -> None:
        configuration = made("certificates: {mode: certManager}", bundle="")["validate"]
        assert configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == (
            "forestall-system/forestall-tls"
        )
        assert [webhook["clientConfig"].keys() for webhook in configuration["webhooks"]] == [{"service"}] * 2

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
    expression = re.compile(regex_of(globs))
    assert [bool(expression.search(name)) for name in names] == [
        any(fnmatchcase(name, glob) for glob in globs) for name in names
    ]


def conditions(text: str, stage: Stage) -> dict[str, str]:
    webhook = made(text)[stage]["webhooks"][0]
    return {condition["name"]: condition["expression"] for condition in webhook["matchConditions"]}


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
        pytest.param(
            SCALES,
            "validate",
            {
                "not-being-deleted",
                "not-judged-at-its-owner",
                "not-an-unchanged-pod",
                "not-scaled-by-its-autoscaler",
            },
            id="scales-are-judged",
        ),
        pytest.param(SCALES, "mutate", {"not-being-deleted", "not-judged-at-its-owner"}, id="and-not-patched"),
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
        assert [webhook["failurePolicy"] for webhook in better["webhooks"]] == ["Ignore", "Ignore"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        running.kubectl("create", "namespace", "forestall-system")
        yield running


@pytest.fixture
def cluster(plane: ControlPlane) -> Cluster:
    return Cluster.from_kubeconfig(plane.kubeconfig)


# What the API server's own CEL says -----------------------------------------------------------------------------------

EVERYTHING = """
excludeNamespaces: ['legacy-*', 'old?', '[ab]', plain]
controllers: [operator, 'the "o" operator']
"""
CONFIGURATIONS = {
    "defaults": EVERYTHING,
    "sizes": EVERYTHING + "policies: {memory-limits: {params: {images: {'*': 1Gi}}}}",
}


class Conditions:
    """Evaluates match conditions of a recorded request, as a ValidatingAdmissionPolicy on an object that holds it."""

    GROUP = "test.forestall.dev"

    def __init__(self, plane: ControlPlane, cluster: Cluster) -> None:
        self._cluster = cluster
        self._expressions = {
            f"{configuration}/{stage}/{name}": expression
            for configuration, text in CONFIGURATIONS.items()
            for stage in STAGES
            for name, expression in conditions(text, stage).items()
        }
        names = {"plural": "recordeds", "singular": "recorded", "kind": "Recorded", "listKind": "RecordedList"}
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"recordeds.{self.GROUP}"},
            "spec": {"group": self.GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
        }
        plane.kubectl("apply", "-f", "-", input=json.dumps(definition))
        plane.kubectl("wait", "--for=condition=Established", f"crd/recordeds.{self.GROUP}", "--timeout=60s")
        rule = {"apiGroups": [self.GROUP], "apiVersions": ["v1"], "resources": ["recordeds"], "operations": ["CREATE"]}
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "conditions"},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "variables": [
                    {"name": "request", "expression": "object.recorded"},
                    {"name": "object", "expression": "object.recorded.object"},
                    {
                        "name": "old",
                        "expression": "has(object.recorded.oldObject) ? object.recorded.oldObject : dyn(null)",
                    },
                ],
                "validations": [
                    {"expression": self._on_variables(expression), "message": name}
                    for name, expression in self._expressions.items()
                ],
            },
        }
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "conditions"},
            "spec": {"policyName": "conditions", "validationActions": ["Warn"]},
        }
        for obj in (policy, binding):
            plane.kubectl("apply", "-f", "-", input=json.dumps(obj))
        spared = {**READY, "oldObject": {"metadata": {"deletionTimestamp": "2026-11-21T00:00:00Z"}}}
        eventually(lambda: self._warnings(spared))

    @staticmethod
    def _on_variables(expression: str) -> str:
        expression = re.sub(r"\boldObject\b", "variables.old", expression)
        return re.sub(r"(?<![.\w])(object|request)\b", r"variables.\1", expression)

    def _warnings(self, request: Object) -> list[str]:
        # The API server leaves out what is null.
        recorded = {key: value for key, value in request.items() if value is not None}
        body = {
            "apiVersion": f"{self.GROUP}/v1",
            "kind": "Recorded",
            "metadata": {"generateName": "a-"},
            "recorded": recorded,
        }
        path = f"/apis/{self.GROUP}/v1/namespaces/default/recordeds"
        return list(self._cluster.create(path, body, dry_run=True).warnings)

    def that_spare(self, request: Object, configuration: str = "defaults") -> dict[Stage, set[str]]:
        """The conditions that do not hold, by stage; every one is evaluated without an error."""
        return self.that_spare_by_configuration(request)[configuration]

    def that_spare_by_configuration(self, request: Object) -> dict[str, dict[Stage, set[str]]]:
        found: dict[str, dict[Stage, set[str]]] = {
            configuration: {stage: set() for stage in STAGES} for configuration in CONFIGURATIONS
        }
        for warning in self._warnings(request):
            name = warning.rpartition(": ")[2]
            assert name in self._expressions, warning
            configuration, stage, name = name.split("/")
            found[configuration][stage].add(name)
        return found


POD_OF_REPLICASET: Object = {
    "metadata": {
        "name": "web-1",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "controller": True}],
    }
}
READY: Object = {
    "uid": "1",
    "kind": {"group": "", "version": "v1", "kind": "Pod"},
    "resource": {"group": "", "version": "v1", "resource": "pods"},
    "namespace": "shop",
    "name": "web",
    "operation": "UPDATE",
    "userInfo": {"username": "ann", "groups": ["dev"]},
    "object": {"metadata": {"name": "web"}, "spec": {}},
    "oldObject": {"metadata": {"name": "web"}, "spec": {}},
}


def variants(recorded: Object) -> Iterator[Object]:
    """The request, and others like it that somebody might send to be let through, or that come close to a condition."""
    yield recorded
    accounts = [f"system:serviceaccount:{namespace}:operator" for namespace in ("ops", recorded["namespace"])]
    for user in ("ann", "operator", "system:kube-controller-manager", *accounts, *set(IDENTITIES.values())):
        yield {**recorded, "userInfo": {**recorded["userInfo"], "username": user}}
    old, obj = recorded.get("oldObject"), recorded["object"]
    if old:
        unchanged = {**recorded, "object": old}
        yield unchanged
        yield changed(unchanged, finalizers=["a/b"], generation=99, managedFields=[])
        yield changed(unchanged, labels={"app.kubernetes.io/name": "prometheus"})
        yield changed(unchanged, annotations={"a": "b"})
        yield changed(unchanged, ownerReferences=[])
        yield {**unchanged, "oldObject": changed(unchanged, deletionTimestamp="2026-11-21T00:00:00Z")["object"]}
        yield changed(recorded, deletionTimestamp="2026-11-21T00:00:00Z")
    for reference in obj["metadata"].get("ownerReferences") or ():
        for other in (
            {**reference, "controller": False},
            {key: value for key, value in reference.items() if key != "controller"},
            {**reference, "apiVersion": "v1"},
            {**reference, "apiVersion": "example.com/v1"},
            {**reference, "kind": "Widget"},
            {**reference, "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"},
            {**reference, "apiVersion": "apps.openshift.io/v1", "kind": "DeploymentConfig"},
        ):
            yield changed(recorded, ownerReferences=[other])
            for account in accounts:
                asked = {**recorded, "userInfo": {**recorded["userInfo"], "username": account}}
                yield changed(asked, ownerReferences=[other])
            yield changed(recorded, ownerReferences=[{**other, "controller": False}, reference])


def changed(recorded: Object, **metadata: Any) -> Object:
    obj = recorded["object"]
    return {**recorded, "object": {**obj, "metadata": {**obj["metadata"], **metadata}}}


RECORDINGS = [ROOT / "tests" / "data" / "recordings" / "people.jsonl"]
if (SHARED / "recordings").is_dir():
    RECORDINGS = sorted((SHARED / "recordings").glob("*.jsonl"))


@pytest.fixture(scope="module")
def spare(plane: ControlPlane) -> Conditions:
    return Conditions(plane, Cluster.from_kubeconfig(plane.kubeconfig))


@pytest.mark.e2e
def test_a_call_that_is_spared_would_have_been_allowed(spare: Conditions) -> None:
    """The API server's CEL, over all that was recorded, against what the engine would have answered."""
    loaded = {configuration: config(text) for configuration, text in CONFIGURATIONS.items()}
    by_condition: Counter[str] = Counter()
    seen: set[bytes] = set()
    for file in RECORDINGS:
        for line in file.read_text().splitlines():
            for number, request in enumerate(variants(json.loads(line)["review"]["request"])):
                if request["kind"]["kind"] == "Scale" or request.get("subResource") == "ephemeralcontainers":
                    continue
                same = msgspec.json.encode({**request, "uid": "", "name": ""}, order="deterministic")
                # Much of it differs in nothing that matters here; what people sent is taken as it is.
                if same in seen or (number and len(same) > 12_000):
                    continue
                seen.add(same)
                for configuration, by_stage in spare.that_spare_by_configuration(request).items():
                    for stage, names in by_stage.items():
                        by_condition.update(f"{configuration}/{stage}/{name}" for name in names)
                        if names:
                            assert_nothing_is_lost(request, loaded[configuration], stage, names)
    print(len(seen), dict(by_condition))
    assert set(by_condition) == {
        f"{configuration}/{condition}"
        for configuration in CONFIGURATIONS
        for condition in (
            "mutate/not-being-deleted",
            "mutate/not-judged-at-its-owner",
            "validate/not-being-deleted",
            "validate/not-judged-at-its-owner",
            "validate/not-an-unchanged-pod",
        )
    }


def assert_nothing_is_lost(request: Object, loaded: Any, stage: Stage, names: set[str]) -> None:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    decision = decide(read_review(json.dumps(review).encode()), NO_FACTS, loaded, today=TODAY, stage=stage)
    assert (decision.allowed, decision.patch, decision.failures) == (True, (), {}), (names, request)
    if decision.verdicts:
        # What was so before is repeated with every change; that is all that goes unsaid.
        assert names == {"not-an-unchanged-pod"}
        assert {verdict.note for verdict in decision.verdicts} == {"it was so before this change"}
    else:
        assert decision.skipped or names == {"not-an-unchanged-pod"}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("namespace", "is_spared"), [("legacy-shop", True), ("old1", True), ("legacy", False), ("old", False)]
)
def test_namespaces_by_glob_are_spared(spare: Conditions, namespace: str, is_spared: bool) -> None:
    found = spare.that_spare({**READY, "namespace": namespace})
    assert [("not-in-an-excluded-namespace" in found[stage]) for stage in STAGES] == [is_spared] * 2


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("change", "is_spared"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"metadata": {"name": "web", "finalizers": ["a/b"]}}, True, id="a-finalizer"),
        pytest.param({"metadata": {"name": "web", "labels": {"app": "prometheus"}}}, False, id="a-label"),
        pytest.param({"spec": {"containers": [{"image": "prom/prometheus"}]}}, False, id="an-image"),
        pytest.param({"spec": {"initContainers": [{"image": "b"}]}}, False, id="an-init-container-s-image"),
        pytest.param({"spec": {"ephemeralContainers": [{"image": "b"}]}}, False, id="an-ephemeral-container"),
        pytest.param({"spec": {"tolerations": [{"operator": "Exists"}]}}, False, id="a-toleration"),
    ],
)
def test_updates_of_pods(spare: Conditions, change: Object, is_spared: bool) -> None:
    found = spare.that_spare({**READY, "object": READY["object"] | change})
    assert found == {"mutate": set(), "validate": {"not-an-unchanged-pod"} if is_spared else set()}


@pytest.mark.e2e
def test_pods_of_controllers_are_sent_where_there_are_sizes_for_them(spare: Conditions) -> None:
    user = {"username": "system:serviceaccount:kube-system:replicaset-controller"}
    request = {**READY, "operation": "CREATE", "userInfo": user, "object": POD_OF_REPLICASET}
    spared = {name: found["mutate"] for name, found in spare.that_spare_by_configuration(request).items()}
    assert spared == {"defaults": {"not-judged-at-its-owner"}, "sizes": set()}
