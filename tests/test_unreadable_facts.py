"""What policies say where a cluster object that they would have needed can't be read: never "fine", never "denied"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders import TODAY, config, container, facts, limit_range, request, sized, workload
from webhook.engine import decide
from webhook.objects.facts import CLAIMS, LIMIT_RANGES, VOLUMES, ClusterFacts
from webhook.policy import AdmissionRequest, FactKind, FactReference, Object

ENFORCED = """
mode: deny
policies:
  memory-limits: {mode: deny, onError: %s}
  prometheus-memory: {mode: deny, onError: %s}
  zonal-volumes: {mode: deny, onError: %s}
"""


def without(kind: FactKind[object, object], namespace: str, name: str, *objects: Object) -> ClusterFacts:
    """A cluster of these objects, and one more that can't be read."""
    return replace(facts(*objects), unreadable={FactReference(kind, namespace, name): "why"})


def mounting(claim: str) -> AdmissionRequest:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    return request(
        workload("StatefulSet", container(image="prom/prometheus:v3.5.0", **sized("64Gi", "64Gi")), volumes=[volume])
    )


def bound(volume: str) -> Object:
    metadata = {"name": "data", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {"volumeName": volume}}


PLAIN = request(workload("Deployment", container()))
PROMETHEUS = request(workload("StatefulSet", container(image="prom/prometheus:v3.5.0")))


@pytest.mark.parametrize(
    ("asked", "known", "policy", "text"),
    [
        pytest.param(
            PLAIN,
            without(LIMIT_RANGES, "shop", "limits"),
            "memory-limits",
            "container 'web' has no memory limit, and LimitRange shop/limits, which may give it one, could not be read",
            id="a-limitrange",
        ),
        pytest.param(
            PLAIN,
            without(LIMIT_RANGES, "", ""),
            "memory-limits",
            "container 'web' has no memory limit, and LimitRange ?, which may give it one, could not be read",
            id="a-limitrange-of-which-nothing-is-known",
        ),
        pytest.param(
            PROMETHEUS,
            without(LIMIT_RANGES, "shop", "limits"),
            "prometheus-memory",
            "Prometheus container 'web' lacks memory resources, and LimitRange shop/limits, which may give it some, "
            "could not be read",
            id="a-limitrange-of-prometheus",
        ),
        pytest.param(
            mounting("data"),
            without(CLAIMS, "shop", "data"),
            "zonal-volumes",
            "claim data, which can't be read",
            id="a-claim",
        ),
        pytest.param(
            mounting("data"),
            without(VOLUMES, "", "pv-1", bound("pv-1")),
            "zonal-volumes",
            "volume pv-1, which can't be read",
            id="a-volume",
        ),
    ],
)
def test_cannot_tell(asked: AdmissionRequest, known: ClusterFacts, policy: str, text: str) -> None:
    decision = decide(asked, known, config(ENFORCED % (("ignore",) * 3)), today=TODAY, stage="validate")
    verdicts = [verdict for verdict in decision.verdicts if verdict.policy == policy]
    assert [(verdict.outcome, text in verdict.violation.message) for verdict in verdicts] == [("unknown", True)]
    assert decision.allowed


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(without(LIMIT_RANGES, "elsewhere", "limits"), id="another-namespace-s"),
        pytest.param(without(CLAIMS, "shop", "data"), id="another-kind"),
    ],
)
def test_what_does_not_matter_changes_no_verdict(known: ClusterFacts) -> None:
    decision = decide(PLAIN, known, config(ENFORCED % (("ignore",) * 3)), today=TODAY, stage="validate")
    assert [verdict.outcome for verdict in decision.verdicts if verdict.policy == "memory-limits"] == ["denied"]


def test_what_is_applied_in_its_place_can_be_read() -> None:
    known = without(LIMIT_RANGES, "shop", "defaults")
    after = known.with_objects([limit_range(default="1Gi")], [LIMIT_RANGES])
    assert after.unreadable == {}
    assert decide(PLAIN, after, config(), today=TODAY).verdicts == ()
