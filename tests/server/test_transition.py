"""While the configuration changes, whoever has read what: what both configurations admit is admitted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest
from jsonpatch import apply_patch

from tests.builders import TODAY, config, container, request, sized, workload
from webhook.config import Config
from webhook.controller.registration import configurations, needed_rules
from webhook.engine import decide
from webhook.objects.facts import CLAIMS, NO_FACTS
from webhook.policy import AdmissionRequest, Decision, FactReference, Object, Stage
from webhook.server import transition

# Each admits some of the objects, by patching them or as they are.
CONFIGS = {
    "audit": "mode: audit",
    "warn": "mode: warn",
    "patch": "",
    "more": "policies: {memory-limits: {params: {defaultLimit: 1Gi}}}",
    "strict": "policies: {memory-limits: {mode: deny}}",
    "off": "policies: {memory-limits: {mode: 'off'}, prometheus-memory: {mode: 'off'}}",
    "both": "policies: {prometheus-memory: {mode: patch}}",
    "excluded": "excludeNamespaces: [shop]",
    "exempted": """
        exemptions: [{policy: memory-limits, match: {namespaces: [shop]}, owner: sre, reason: old, until: 2099-01-01}]
    """,
    "overridden": "overrides: [{match: {namespaces: [shop]}, policies: {memory-limits: {mode: warn}}}]",
}
PROMETHEUS = "prom/prometheus:v3.1.0"
OBJECTS = {
    "sized": workload("Deployment", container(**sized("1Gi", "1Gi"))),
    "unlimited": workload(),
    "too-small": workload("Deployment", container("prometheus", PROMETHEUS, **sized("3Gi", "2Gi"))),
    "both": workload("Deployment", container(), container("prometheus", PROMETHEUS, **sized("3Gi", "2Gi"))),
}


def told(asked: AdmissionRequest, by: Config, stage: Stage, earlier: tuple[Config, ...] = ()) -> Decision:
    return transition.decide_in_transition(asked, NO_FACTS, by, earlier=earlier, today=TODAY, stage=stage)


def mutated(asked: AdmissionRequest, before: Config, after: Config) -> Iterator[tuple[str, AdmissionRequest]]:
    """As /validate may get to see it: from servers that have read the change and from others, or from nobody."""
    if not needed_rules(before, "mutate"):  # the controller hasn't followed
        yield "not asked", asked
    for who, decision in (("old", told(asked, before, "mutate")), ("new", told(asked, after, "mutate", (before,)))):
        yield f"mutated by the {who}", msgspec.structs.replace(asked, object=decision.object or asked.object)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(CONFIGS, 2)))
def test_what_both_admit_is_never_refused(before: str, after: str) -> None:
    old, new = config(CONFIGS[before]), config(CONFIGS[after])
    refused = [
        (name, how, f"judged by the {who}")
        for name, obj in OBJECTS.items()
        if all(decide(request(obj), NO_FACTS, config, today=TODAY).allowed for config in (old, new))
        for how, asked in mutated(request(obj), old, new)
        for who, decision in (
            ("old", told(asked, old, "validate")),
            ("new", told(asked, new, "validate", (old,))),
        )
        if not decision.allowed
    ]
    assert refused == []


def test_what_was_patched_is_patched_by_whom_the_new_one_leaves_it_to() -> None:
    decision = told(request(OBJECTS["both"]), config("mode: audit"), "mutate", (config(),))
    assert [(verdict.policy, verdict.outcome) for verdict in decision.verdicts] == [("memory-limits", "patched")]
    assert decision.object
    assert apply_patch(OBJECTS["both"], [*decision.patch]) == decision.object
    assert limits(decision.object) == {"memory": "512Mi"}


def test_what_has_to_be_seen_for_that_is_looked_up() -> None:
    data = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    asked = request(workload("Deployment", container("prometheus", PROMETHEUS, **sized("6Gi", "4Gi")), volumes=[data]))
    earlier = config("policies: {zonal-volumes: {mode: patch}}")
    expected = {FactReference(CLAIMS, "shop", "data")}
    assert told(asked, config("mode: warn"), "mutate", (earlier,)).unseen == expected


def test_the_new_one_s_sizes_come_first() -> None:
    decision = told(request(OBJECTS["unlimited"]), config(CONFIGS["more"]), "mutate", (config(),))
    assert decision.object
    assert limits(decision.object) == {"memory": "1Gi"}


def limits(obj: Object) -> Object:
    return obj["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_what_has_no_fix_is_refused_at_once() -> None:
    """Also together with something that has one."""
    for name in ("too-small", "both"):
        assert not told(request(OBJECTS[name]), config(), "validate", (config("mode: warn"),)).allowed


def test_what_both_would_have_patched_is_refused_unpatched() -> None:
    """Somebody keeps it from /mutate, then, and not the change."""
    assert not told(request(OBJECTS["unlimited"]), config(CONFIGS["more"]), "validate", (config(),)).allowed


def test_the_words_are_those_of_the_one_that_admits() -> None:
    decision = told(request(OBJECTS["unlimited"]), config(), "validate", (config("mode: warn"),))
    assert [(verdict.policy, verdict.outcome) for verdict in decision.verdicts] == [("memory-limits", "warned")]


def test_mutating_rules_stay_as_wide_as_they_were() -> None:
    """Where what was patched is still sent, it need not be refused."""
    before = config("excludeNamespaces: [web, db-*, shared-*]\ncontrollers: [operator]\nmode: deny")
    after = config("excludeNamespaces: [web, shop, shared-*, tmp-*]\ncontrollers: [operator, other]\nmode: warn")
    asked = {
        name: configurations(new, "", namespace="forestall-system", earlier=earlier)
        for name, new, earlier in (("before", before, ()), ("after", after, ()), ("between", after, (before,)))
    }
    judging = {name: [configuration["webhooks"][0] for configuration in both] for name, both in asked.items()}
    mutating = {name: webhook for name, (webhook, _) in judging.items()}
    assert mutating["between"]["rules"] == mutating["before"]["rules"]
    (selected,) = mutating["between"]["namespaceSelector"]["matchExpressions"]
    assert {"web", "shop"} & set(selected["values"]) == {"web"}
    conditions = {condition["name"]: condition["expression"] for condition in mutating["between"]["matchConditions"]}
    assert conditions["not-in-an-excluded-namespace"] == '!request.namespace.matches("^(shared\\\\-.*)$")'
    assert '["operator"]' in conditions["not-judged-at-its-owner"]
    assert mutating["after"]["name"] == "probe.mutate.forestall.dev"
    assert judging["between"][1] == judging["after"][1]
