"""What doctor says of an installation: healthy, with one thing wrong each, unreadable, and on a real control plane."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.builders import ROOT, TODAY, config, container, kubeconfig, sized, workload
from tests.cluster_fixture import control_plane
from tests.test_gaps import FakeLister
from webhook.certs import make_authority, read_certificates
from webhook.cli import main
from webhook.doctor import CHECKS, Check, Finding, _run, diagnose, exit_code, render_json, render_text
from webhook.endpoints import Endpoint
from webhook.engine import decide
from webhook.errors import BadConfig, ClusterRefused, FactsUnavailable
from webhook.facts import NO_FACTS, facts_of
from webhook.gaps import Gap, Unchecked, request_of
from webhook.hooks import STAGES, Stage, configurations
from webhook.pods import POD_SPEC_PATHS
from webhook.policy import AdmissionRequest, Object
from webhook.rotation import service_names
from webhook.survey import Replica, Slipped, Survey, Templates, _slipped, read_replicas

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SYSTEM = "forestall-system"
NAMES = service_names(SYSTEM)
DAY = timedelta(days=1)
CA = make_authority(3650 * DAY, NOW)
CHAIN, KEY = CA.issue(NAMES, 90 * DAY, NOW)
OTHER_CA = make_authority(3650 * DAY, NOW)
FORBIDDEN = ClusterRefused(403, "Forbidden", "it is forbidden")
FULL = ["CREATE", "UPDATE"]


def der(chain: bytes) -> bytes:
    return read_certificates(chain)[0].der


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def registered(text: str = "", pem: bytes = CA.certificate.pem) -> dict[Stage, list[Object]]:
    made = configurations(config(text), encoded(pem), namespace=SYSTEM)
    return {stage: [json.loads(json.dumps(each))] for stage, each in zip(STAGES, made, strict=True)}


def replica(
    host: str = "10.0.0.1", node: str = "a", served: bytes | None = der(CHAIN), is_ready: bool = True
) -> Replica:
    return Replica(Endpoint(host, 8443), is_ready, node, served)


def healthy(**changed: Any) -> Survey:
    lease = {"spec": {"holderIdentity": "forestall-controller-1_uuid", "renewTime": "2026-11-21T11:59:58.5Z"}}
    survey = Survey(
        namespace=SYSTEM,
        now=NOW,
        api_time=NOW,
        version={"major": "1", "minor": "36", "gitVersion": "v1.36.3"},
        config=config(""),
        hooks=registered(),
        state=None,
        service={"spec": {"ports": [{"port": 443}]}},
        replicas=[replica(), replica("10.0.0.2", "b")],
        secret={"tls.crt": CHAIN, "tls.key": KEY},
        lease=lease,
        nodes=3,
        facts=facts_of([]),
        limit_ranges=[],
        templates=Templates(),
        slipped=Slipped(),
    )
    return replace(survey, **changed)


def said(name: str, survey: Survey) -> list[tuple[str, str]]:
    """Status and what was seen."""
    return [(each.status, each.seen) for each in diagnose(survey) if each.name == name]


def test_a_healthy_installation_needs_nothing() -> None:
    checks = diagnose(healthy())
    assert [check for check in checks if check.status != "ok"] == []
    assert {check.name for check in checks} == set(CHECKS)
    assert exit_code(checks) == 0


# What each check cannot do without.
NEEDS = {
    "configuration": ["config"],
    "controller": ["lease"],
    "hooks": ["hooks", "service"],
    "rules": ["config", "hooks", "service"],
    "endpoints": ["replicas", "service"],
    "spread": ["replicas"],
    "certificate": ["replicas", "hooks"],
    "expiry": ["replicas", "hooks"],
    "gaps": ["state", "slipped"],
    "timeouts": ["hooks"],
    "other-hooks": ["hooks"],
    "limit-ranges": ["config", "facts", "limit_ranges", "templates"],
    "api-server": ["version"],
    "clock": ["api_time"],
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in NEEDS.items() for field in fields])
def test_what_cannot_be_read_is_never_ok(name: str, field: str) -> None:
    unread: Any = dict.fromkeys(STAGES, FORBIDDEN) if field == "hooks" else FORBIDDEN
    assert said(name, healthy(**{field: unread})) == [("unknown", "cannot tell: it is forbidden (403)")]
    assert exit_code([Check("x", "unknown", "", "")]) == 1


def test_every_check_needs_something() -> None:
    assert NEEDS.keys() == CHECKS.keys()


class TestConfiguration:
    def test_mode_and_policies(self) -> None:
        text = "mode deny; memory-limits patch, namespace-defaults audit, prometheus-memory deny, zonal-volumes deny"
        assert said("configuration", healthy()) == [("ok", text)]

    def test_one_that_cannot_be_used(self) -> None:
        assert said("configuration", healthy(config=BadConfig("config.yaml:3: no policy x"))) == [
            ("fail", "config.yaml:3: no policy x")
        ]
        assert said("rules", healthy(config=BadConfig("no policy x"))) == [("unknown", "cannot tell: no policy x")]

    def test_expired_exemptions(self) -> None:
        text = "exemptions: [{policy: zonal-volumes, match: {namespaces: [a]}, owner: sre, reason: x, until: %s}]"
        assert said("configuration", healthy(config=config(text % "2026-11-20")))[0] == (
            "warn",
            "exemptions[0] (zonal-volumes, owner sre) expired on 2026-11-20",
        )
        assert [status for status, _ in said("configuration", healthy(config=config(text % "2026-11-21")))] == ["ok"]


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        (None, ("fail", "no controller leads")),
        ({"spec": {"holderIdentity": "", "renewTime": "2026-11-21T12:00:00Z"}}, ("fail", "no controller leads")),
        (
            {"spec": {"holderIdentity": "c", "renewTime": "2026-11-21T11:58:00Z"}},
            ("fail", "the controller has said nothing for 120 s"),
        ),
        ({"spec": {"holderIdentity": "c_u", "renewTime": "2026-11-21T11:59:30Z"}}, ("ok", "c leads")),
    ],
)
def test_controller(lease: Object | None, expected: tuple[str, str]) -> None:
    assert said("controller", healthy(lease=lease)) == [expected]
    # A Lease is written by the controllers' clocks: this machine's own is another matter.
    assert said("controller", healthy(lease=lease, now=NOW + timedelta(hours=1))) == [expected]


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


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([], ("fail", "0 of 0 endpoints of Service forestall are ready: nobody answers")),
        ([replica(is_ready=False)], ("fail", "0 of 1 endpoints of Service forestall are ready: nobody answers")),
        ([replica(), replica("b", is_ready=False)], ("warn", "1 of 2 endpoints of Service forestall are ready")),
        ([replica()], ("warn", "1 of 1 endpoints of Service forestall are ready")),
        ([replica(), replica("b")], ("ok", "2 of 2 endpoints of Service forestall are ready")),
    ],
)
def test_endpoints(replicas: list[Replica], expected: tuple[str, str]) -> None:
    assert said("endpoints", healthy(replicas=replicas)) == [expected]


def test_no_service() -> None:
    assert said("endpoints", healthy(service=None)) == [("fail", "there is no Service forestall-system/forestall")]


@pytest.mark.parametrize(
    ("replicas", "nodes", "expected"),
    [
        ([replica(node="a"), replica(node="b")], 3, ("ok", "2 replicas on 2 nodes")),
        ([replica(), replica()], 3, ("warn", "all ready replicas are on node a: they go when it goes")),
        ([replica(), replica()], 1, ("ok", "2 replicas on the only node")),
        (
            [replica(), replica(node="b", is_ready=False)],
            3,
            ("warn", "all ready replicas are on node a: they go when it goes"),
        ),
        ([replica(), replica()], FORBIDDEN, ("unknown", "cannot tell: it is forbidden (403)")),
        ([replica(node="")], 3, ("unknown", "cannot tell: no endpoint says on which node it is")),
        ([], 3, ("unknown", "cannot tell: no endpoint says on which node it is")),
    ],
)
def test_spread(replicas: list[Replica], nodes: Any, expected: tuple[str, str]) -> None:
    assert said("spread", healthy(replicas=replicas, nodes=nodes)) == [expected]


DIALLED = "as 2 of 2 endpoints present it"
BY_SECRET = "by Secret forestall-tls, since no endpoint can be reached from here"
ALL = "mutate.forestall.dev, probe.mutate.forestall.dev, probe.validate.forestall.dev, validate.forestall.dev"
UNREACHABLE = [replica(served=None), replica(served=None)]


class TestCertificate:
    def test_dialled(self) -> None:
        assert said("certificate", healthy()) == [("ok", f"4 webhooks trust it ({DIALLED})")]
        assert said("certificate", healthy(secret=FORBIDDEN)) == [("ok", f"4 webhooks trust it ({DIALLED})")]

    def test_by_the_secret_where_nobody_can_be_reached(self) -> None:
        assert said("certificate", healthy(replicas=UNREACHABLE)) == [("ok", f"4 webhooks trust it ({BY_SECRET})")]
        assert said("certificate", healthy(replicas=UNREACHABLE, secret=FORBIDDEN))[0][0] == "unknown"
        assert said("certificate", healthy(replicas=UNREACHABLE, secret=None)) == [
            ("fail", f"{BY_SECRET}: no certificate")
        ]

    def test_some_can_be_reached(self) -> None:
        replicas = [replica(), replica("b", served=None)]
        assert said("certificate", healthy(replicas=replicas)) == [
            ("ok", "4 webhooks trust it (as 1 of 2 endpoints present it)")
        ]

    def test_another_ca(self) -> None:
        hooks = registered(pem=OTHER_CA.certificate.pem)
        text = f"caBundle of {ALL} doesn't trust what is presented ({DIALLED})"
        assert said("certificate", healthy(hooks=hooks)) == [("fail", text)]

    def test_both_cas_while_rotating(self) -> None:
        hooks = registered(pem=OTHER_CA.certificate.pem + CA.certificate.pem)
        replicas = [replica(), replica("b", served=der(OTHER_CA.issue(NAMES, DAY, NOW)[0]))]
        assert [status for status, _ in said("certificate", healthy(hooks=hooks, replicas=replicas))] == ["ok"]

    def test_one_replica_has_another(self) -> None:
        replicas = [replica(), replica("b", served=der(OTHER_CA.issue(NAMES, DAY, NOW)[0]))]
        assert [status for status, _ in said("certificate", healthy(replicas=replicas))] == ["fail"]

    def test_no_bundle(self) -> None:
        hooks = registered()
        del hooks["validate"][0]["webhooks"][0]["clientConfig"]["caBundle"]
        text = f"caBundle of validate.forestall.dev is empty: it can't trust what is presented ({DIALLED})"
        assert said("certificate", healthy(hooks=hooks)) == [("fail", text)]

    def test_another_name(self) -> None:
        served = der(CA.issue(["forestall.elsewhere.svc"], DAY, NOW)[0])
        text = f"{DIALLED}: a certificate valid 2026-11-21 11:00 to 2026-11-22 12:00 UTC for forestall.elsewhere.svc"
        assert said("certificate", healthy(replicas=[replica(served=served)] * 2)) == [("fail", text)]

    def test_expired(self) -> None:
        assert [status for status, _ in said("certificate", healthy(now=NOW + 91 * DAY))] == ["fail"]

    def test_the_very_certificate_in_the_bundle(self) -> None:
        hooks = registered(pem=read_certificates(CHAIN)[0].pem)
        assert [status for status, _ in said("certificate", healthy(hooks=hooks))] == ["ok"]

    def test_a_ca_that_has_ended(self) -> None:
        old = make_authority(DAY, NOW)
        # The API server looks at the whole chain.
        served = der(old.issue(NAMES, DAY, NOW)[0])
        survey = healthy(hooks=registered(pem=old.certificate.pem), replicas=[replica(served=served)] * 2)
        assert [status for status, _ in said("certificate", survey)] == ["ok"]
        later = replace(survey, now=NOW + 2 * DAY)
        assert [text.partition(" ")[0] for _, text in said("certificate", later)] == ["as", "caBundle"]

    def test_nobody_to_trust_it(self) -> None:
        text = f"cannot tell whom it is trusted by: no webhook is registered ({DIALLED})"
        assert said("certificate", healthy(hooks={key: [] for key in STAGES})) == [("unknown", text)]


class TestExpiry:
    @pytest.mark.parametrize(
        ("days", "serving"),
        [
            (0, ("ok", "the serving certificate ends in 90 days, on 2027-02-19")),
            (67, ("ok", "the serving certificate ends in 23 days, on 2027-02-19")),
            (68, ("warn", "the serving certificate ends in 22 days, on 2027-02-19")),
            (86, ("fail", "the serving certificate ends in 4 days, on 2027-02-19")),
            (89, ("fail", "the serving certificate ends in 24 hours, on 2027-02-19")),
            (90, ("fail", "the serving certificate ended on 2027-02-19")),
        ],
    )
    def test_days_left(self, days: int, serving: tuple[str, str]) -> None:
        assert said("expiry", healthy(now=NOW + days * DAY))[0] == serving

    def test_the_ca(self) -> None:
        assert said("expiry", healthy())[1] == ("ok", "its CA ends in 3650 days, on 2036-11-18")

    def test_a_ca_that_nobody_relies_on_may_end(self) -> None:
        old = make_authority(DAY, NOW)
        hooks = registered(pem=old.certificate.pem + CA.certificate.pem)
        assert [status for status, _ in said("expiry", healthy(hooks=hooks, now=NOW + 2 * DAY))] == ["ok", "ok"]

    def test_who_provides_a_certificate_renews_it_when_he_likes(self) -> None:
        survey = healthy(now=NOW + 2800 * DAY, replicas=[replica(served=der(CA.issue(NAMES, 3650 * DAY, NOW)[0]))] * 2)
        assert [status for status, _ in said("expiry", survey)] == ["warn", "warn"]
        provided = replace(survey, config=config("certificates: {mode: provided}"))
        assert [status for status, _ in said("expiry", provided)] == ["ok", "ok"]


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
            rule["resources"] = [each for each in rule["resources"] if each != "pods/resize"]
        rules.append({"apiGroups": [""], "resources": resources, "operations": ["UPDATE"]})
        texts = [text for status, text in said("rules", healthy(hooks=hooks)) if status == "fail"]
        assert any("isn't asked about UPDATE of pods/resize" in text for text in texts) is not is_covered

    def test_what_the_api_server_adds_is_no_difference(self) -> None:
        hooks = registered()
        hooks["validate"][0]["webhooks"][0]["addedByANewerOne"] = True
        assert [status for status, _ in said("rules", healthy(hooks=hooks))] == ["ok", "ok"]


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


@pytest.mark.parametrize(
    ("minor", "status", "ending"),
    [
        ("28", "fail", ", without pods/resize (on from 1.33) and pod-level resources (on from 1.34)"),
        ("29", "ok", ", without pods/resize (on from 1.33) and pod-level resources (on from 1.34)"),
        ("33+", "ok", ", without pod-level resources (on from 1.34)"),
        ("36", "ok", ", with pods/resize and pod-level resources"),
        ("37", "warn", ", with pods/resize and pod-level resources"),
    ],
)
def test_api_server(minor: str, status: str, ending: str) -> None:
    version = {"major": "1", "minor": minor, "gitVersion": "v1.x"}
    assert said("api-server", healthy(version=version)) == [(status, f"v1.x{ending}")]


def test_a_version_that_says_nothing() -> None:
    assert said("api-server", healthy(version={})) == [("unknown", "cannot tell what an unknown version can do")]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, ("ok", "this machine's clock and the API server's agree")),
        (10.5, ("ok", "this machine's clock and the API server's agree")),
        (-9.5, ("ok", "this machine's clock and the API server's agree")),
        (20.5, ("warn", "this machine's clock is 20 s ahead of the API server's")),
        (-19.5, ("warn", "this machine's clock is 20 s behind the API server's")),
        (3600.5, ("fail", "this machine's clock is 3600 s ahead of the API server's")),
    ],
)
def test_clock(seconds: float, expected: tuple[str, str]) -> None:
    assert said("clock", healthy(api_time=NOW - timedelta(seconds=seconds))) == [expected]


BOTH: tuple[Stage, ...] = ("mutate", "validate")


def state(*gaps: Gap) -> Object:
    def encode(gap: Gap) -> Object:
        ended = {"ended": gap.ended.isoformat()} if gap.ended else {}
        return {"stages": gap.stages, "began": gap.began.isoformat(), "reason": gap.reason, **ended}

    return {"data": {"gaps": json.dumps({"gaps": list(map(encode, gaps))})}}


def ago(began: timedelta, ended: timedelta | None, reason: Any = "no answer") -> Gap:
    return Gap(BOTH, NOW - began, reason, None if ended is None else NOW - ended)


MINUTE = timedelta(minutes=1)
DEPLOYMENT = next(kind for kind in POD_SPEC_PATHS if kind.kind == "Deployment")
JUDGE = partial(decide, facts=NO_FACTS, config=config(""), today=TODAY)


def template(name: str, namespace: str, *containers: Object) -> AdmissionRequest:
    obj = workload("Deployment", *containers, name=name)
    return request_of(DEPLOYMENT, "v1", {**obj, "metadata": {"name": name, "namespace": namespace}})


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
        slipped = Slipped(5, [Unchecked(request, gap, "created", gap.began, JUDGE(request))])
        checks = [each for each in diagnose(healthy(state=state(gap), slipped=slipped)) if each.name == "gaps"]
        assert checks == [
            Check(
                "gaps",
                "warn",
                "Deployment shop/web was admitted unchecked (created 2026-11-19 12:00:00 UTC): memory-limits",
                JUDGE(request).verdicts[0].violation.message,
            )
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
        stored: Any = [each.object for each in requests]
        for each in stored:
            each["metadata"]["creationTimestamp"] = "2026-11-21T11:00:00Z"
        lister: Any = FakeLister({"/apis/apps/v1/deployments": stored})
        gap = Gap(BOTH, NOW - timedelta(hours=2), "no answer")
        slipped = _slipped(lister, config(text), NO_FACTS, [gap])
        assert (slipped.count, [each.request.name for each in slipped.violating]) == (2, names)

    def test_what_could_not_be_listed(self) -> None:
        gap = ago(2 * DAY, 2 * DAY - MINUTE)
        slipped = Slipped(unread={"pods": "it is forbidden"})
        assert said("gaps", healthy(state=state(gap), slipped=slipped)) == [
            ("unknown", "cannot tell: which pods came in: it is forbidden")
        ]


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
        survey = healthy(templates=Templates(unread={"deployments.apps": "it is forbidden"}))
        assert said("limit-ranges", survey) == [
            ("unknown", "cannot tell: whether LimitRanges suit deployments.apps: it is forbidden")
        ]


def test_the_page_is_bounded() -> None:
    def check(_: Survey) -> Any:
        yield from [Finding("warn", str(number)) for number in range(11)]
        yield Finding("fail", "the worst")

    found = _run(check, healthy())
    assert len(found) == 11
    assert found[-1] == Finding("fail", "and 2 more", "see to the first ones, and ask again")


def test_what_was_found_before_a_check_failed_stays() -> None:
    def check(_: Survey) -> Any:
        yield Finding("fail", "found")
        raise FactsUnavailable("then nothing")

    assert [each.status for each in _run(check, healthy())] == ["fail", "unknown"]


def test_replicas_of_endpoint_slices() -> None:
    slices = [
        {
            "endpoints": [
                {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": True}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.3"]},
            ],
            "ports": [{"name": "https", "port": 8443}],
        },
        {"endpoints": None, "ports": None},
    ]
    assert list(read_replicas(slices)) == [
        Replica(Endpoint("10.0.0.1", 8443), True, "a"),
        Replica(Endpoint("10.0.0.2", 8443), False),
        Replica(Endpoint("10.0.0.3", 8443)),
    ]


def test_the_page_documents_every_check() -> None:
    table = re.findall(r"^\| `([-a-z]+)` \|", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    assert table == list(CHECKS)


CHECKED = [Check("hooks", "ok", "all is well", ""), Check("clock", "fail", "an hour off " * 8, "set it")]


def test_json() -> None:
    assert json.loads(render_json(CHECKED)) == {
        "schema": "forestall.dev/doctor/v1",
        "summary": {"fail": 1, "warn": 0, "unknown": 0, "ok": 1},
        "checks": [
            {"name": "hooks", "status": "ok", "seen": "all is well", "todo": ""},
            {"name": "clock", "status": "fail", "seen": "an hour off " * 8, "todo": "set it"},
        ],
    }


def test_text() -> None:
    assert render_text(CHECKED, 60, lambda text, _: text) == (
        "ok       hooks  all is well\n"
        "fail     clock  an hour off an hour off an hour off an hour\n"
        "                off an hour off an hour off an hour off an\n"
        "                hour off\n"
        "                → set it\n"
        "\n"
        "1 of 2 findings need something done\n"
    )
    assert render_text(CHECKED[:1], 60, lambda text, _: text).endswith("\nNothing needs doing\n")


def test_no_cluster_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig({"server": "http://127.0.0.1:1"}))
    assert main(["doctor", "--kubeconfig", str(file)]) == 2
    assert "no answer from http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.e2e
def test_on_a_real_control_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with control_plane(tmp_path, nodes=0) as plane:
        plane.kubectl("create", "namespace", SYSTEM)
        for obj in installed():
            plane.kubectl("create", "-f", "-", input=json.dumps(obj))

        def doctor(user: str = "admin") -> tuple[int, dict[str, set[str]]]:
            code = main(["doctor", "--kubeconfig", str(tmp_path / f"{user}.kubeconfig"), "--output", "json"])
            statuses: dict[str, set[str]] = {}
            for check in json.loads(capsys.readouterr().out)["checks"]:
                statuses.setdefault(check["name"], set()).add(check["status"])
            return code, statuses

        def not_ok() -> dict[str, set[str]]:
            return {name: found for name, found in doctor()[1].items() if found != {"ok"}}

        # One replica, on no node.
        fine = {"endpoints": {"warn"}, "spread": {"unknown"}}
        assert not_ok() == fine
        stranger = encoded(OTHER_CA.certificate.pem)
        patch = [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": stranger}]
        plane.kubectl(
            *("patch", "validatingwebhookconfiguration", "forestall", "--type=json", f"--patch={json.dumps(patch)}")
        )
        assert not_ok() == {**fine, "certificate": {"fail"}}
        plane.kubectl("delete", "mutatingwebhookconfiguration", "forestall")
        assert not_ok() == {**fine, "certificate": {"fail"}, "hooks": {"ok", "fail"}, "rules": {"ok", "fail"}}

        code, statuses = doctor("dev")  # who may do nothing
        assert code == 1
        assert {name for name, found in statuses.items() if found == {"ok"}} == {"api-server", "clock"}
        assert set().union(*statuses.values()) == {"ok", "unknown"}


def installed() -> list[Object]:
    """What the chart and the controller make, as far as doctor looks at it."""

    def obj(version: str, kind: str, name: str, **fields: Any) -> Object:
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "namespace": SYSTEM, **fields.pop("metadata", {})},
            **fields,
        }

    authority = make_authority(3650 * DAY, datetime.now(UTC))
    chain, _ = authority.issue(NAMES, 90 * DAY, datetime.now(UTC))
    bundle = encoded(authority.certificate.pem)
    labels = {"kubernetes.io/service-name": "forestall"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return [
        obj("v1", "Service", "forestall", spec={"ports": [{"port": 443}]}),
        obj("v1", "ConfigMap", "forestall-config", data={"config.yaml": "mode: audit\n"}),
        obj("v1", "Secret", "forestall-tls", data={"tls.crt": encoded(chain)}),
        obj(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "forestall",
            metadata={"labels": labels},
            addressType="IPv4",
            endpoints=[{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
            ports=[{"port": 8443}],
        ),
        obj(
            "coordination.k8s.io/v1",
            "Lease",
            "forestall-controller",
            spec={"holderIdentity": "c_u", "renewTime": now, "leaseDurationSeconds": 15},
        ),
        *configurations(config("mode: audit"), bundle, namespace=SYSTEM),
    ]
