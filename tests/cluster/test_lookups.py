"""Objects that are looked up one by one, in check and in audits: the verdict is a server's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from tests.builders import TODAY, config, config_map, container, every_policy, request, workload
from tests.memory_cluster import MemoryCluster
from webhook.audit.judge import audit
from webhook.check import check_files
from webhook.cluster.lists import Reader
from webhook.cluster.lookups import LookUps, decide_looking
from webhook.cluster.unseen import Unseen
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.objects.config_maps import CONFIG_MAPS, ConfigMap
from webhook.objects.facts import CLAIMS, ClusterFacts, Found
from webhook.policy import ALLOWED, Decision, FactReference, Object

SENDS = config_map(prometheus_yml="remote_write: [{url: https://example.com/push}]")
KEEPS = config_map(prometheus_yml="global: {}")
OF = FactReference(CONFIG_MAPS, "shop", "prometheus")
CLAIM = FactReference(CLAIMS, "shop", "data")
PATH = "/api/v1/namespaces/shop/configmaps/prometheus"
REFUSED = ClusterRefused(403, "Forbidden", "configmaps is forbidden")


def prometheus() -> Object:
    mounts = [{"name": "data", "mountPath": "/prometheus"}, {"name": "config", "mountPath": "/etc/prometheus"}]
    server = container("prometheus", "prom/prometheus:v3.9.1", volumeMounts=mounts)
    volumes = [
        {"name": "data", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "config", "configMap": {"name": "prometheus"}},
    ]
    obj = workload("Deployment", server, name="prometheus", volumes=volumes)
    return {**obj, "metadata": {**obj["metadata"], "uid": "1"}}


def configured(allowed: bool) -> Config:
    params = f"{{readConfigMaps: {str(allowed).lower()}}}"
    return config(every_policy(metrics_durability=f"mode: deny, params: {params}"))


def cluster(*objects: Object) -> MemoryCluster:
    return MemoryCluster(*objects)


OUTCOMES = [
    pytest.param([KEEPS], True, "denied", id="it-keeps-its-series"),
    pytest.param([SENDS], True, "", id="it-sends-them"),
    pytest.param([], True, "unknown", id="no-such-map"),
    pytest.param([KEEPS], False, "unknown", id="not-allowed"),
]


@pytest.mark.parametrize(("maps", "allowed", "outcome"), OUTCOMES)
def test_check(tmp_path: Path, maps: list[Object], allowed: bool, outcome: str) -> None:
    file = tmp_path / "prometheus.yaml"
    file.write_text(json.dumps(prometheus()))
    known = ClusterFacts(known=frozenset({CLAIMS}))
    api = cluster(*maps)
    look_up = LookUps(cast("Reader", api), Unseen())
    report = check_files([str(file)], configured(allowed), known, today=TODAY, look_up=lambda: look_up)
    assert [finding.verdict.outcome for finding in report.findings] == [outcome][: len(outcome)]
    assert [path for verb, path in api.calls if verb == "get"] == ([PATH] if allowed else [])


@pytest.mark.parametrize(("maps", "allowed", "outcome"), OUTCOMES)
def test_audit(maps: list[Object], allowed: bool, outcome: str) -> None:
    api = cluster(prometheus(), *maps)
    found = audit(cast("Reader", api), configured(allowed), ClusterFacts(), lambda _request: "", today=TODAY)
    outcomes = [finding.verdict.outcome for _, findings in found.by_team() for finding in findings]
    assert outcomes == [outcome][: len(outcome)]


def test_an_audit_names_the_right_that_is_missing() -> None:
    api = cluster(prometheus(), KEEPS)
    api.fail["get", PATH] = [REFUSED]
    found = audit(cast("Reader", api), configured(True), ClusterFacts(), lambda _request: "", today=TODAY)
    assert found.unseen.forbidden == {"configmaps": {"shop"}}


@pytest.mark.parametrize(
    ("name", "maps", "failure", "expected", "why"),
    [
        pytest.param("prometheus", [KEEPS], None, "found", "", id="there"),
        pytest.param("prometheus", [], None, "absent", "", id="not-there"),
        pytest.param("prometheus", [KEEPS], REFUSED, "", "configmaps is forbidden (403)", id="forbidden"),
        pytest.param("prometheus", [KEEPS], FactsUnavailable("no answer"), "", "no answer", id="no-answer"),
        pytest.param("../secrets/s", [KEEPS], None, "absent", "", id="a-name-that-is-a-path"),
        pytest.param("", [KEEPS], None, "absent", "", id="no-name"),
    ],
)
def test_looking_up(name: str, maps: list[Object], failure: Exception | None, expected: str, why: str) -> None:
    api, unseen = cluster(*maps), Unseen()
    if failure:
        api.fail["get", PATH] = [failure]
    reference = OF._replace(name=name)
    record = (OF, ConfigMap("shop", "prometheus", {"prometheus.yml": "global: {}"}))
    answers = {"found": Found([record], []), "absent": Found([], [reference]), "": Found([], [])}
    look_up = LookUps(cast("Reader", api), unseen)
    assert look_up([reference]) == look_up([reference]) == answers[expected]
    assert unseen.resources == ({"configmaps": why} if why else {})
    assert len(api.calls) == (0 if "/" in name or not name else 1)


def test_only_what_is_looked_up_is_asked_for() -> None:
    """A claim that an audit's facts lack isn't in the cluster."""
    asked: list[FactReference] = []

    def look_up(references: object) -> Found:
        asked.extend(cast("list[FactReference]", references))
        return Found([], [])

    decision = Decision(allowed=True, unseen=frozenset({OF, CLAIM}))
    assert decide_looking(lambda _facts: decision, ClusterFacts(), look_up) is decision
    assert asked == [OF]
    assert decide_looking(lambda _facts: ALLOWED, ClusterFacts(), None) is ALLOWED


def test_the_server_is_told_what_to_look_up() -> None:
    decision = decide(request(prometheus()), ClusterFacts(), configured(True), today=TODAY, stage="validate")
    assert decision.unseen == {OF}
