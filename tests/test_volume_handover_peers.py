"""volume-handover beside what other linters' own public tests say of such objects.

Every row is a case of theirs, written anew: who it is from, their verdict, ours (in mode deny, notes included), and,
where the two differ, why. No test of Checkov's or datree's was found that is about a Deployment's strategy or claims.

deckhouse-helm-generator  pkg/generator, TestPVAnalysis_AccessModes: rwo-rolling-update, rwo-multi-pod
upstream                  fireball1725/upstream, internal/render, TestRWORolling: rwo-rolling-update
app-invariants            a check of rendered charts, by regular expressions over one document: rwo-rollingupdate
kubescape                 regolibrary, rules/no-rolling-update-strategy (C-0298)
kube-linter               tests/checks/no-rolling-update-strategy.yml, minimum-three-replicas.yml
kube-score                score/deployment: Deployment Strategy, Deployment Replicas
polaris                   test/checks/deploymentMissingReplicas
"""

from __future__ import annotations

import pytest

from tests.builders import TODAY, config, request, workload
from tests.test_volume_handover import (
    MOUNTED,
    RECREATE,
    RWO,
    RWX,
    cluster,
    deployment,
    rolling,
    stateful_set,
)
from webhook.engine import decide
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.policy import Object

CONFIG = config("policies: {volume-handover: {mode: deny}}")
ELSEWHERE = cluster("ReadWriteOnce")  # as facts of the checked files, whichever document the claim is in
WAITS_A_WHILE = "the new pod is made while the old one still ends, and waits for the volume that long"
ONE_NODE = "pods that all land on one node do share the volume: that is not certain to fail"
NOTED = "a rollout takes the old pod first; what is noted is a lost node"
MUST_RECREATE = "a rolling update of a volume that one node holds never ends: Recreate is what they warn of"


@pytest.mark.parametrize(
    ("peer", "obj", "facts", "theirs", "ours", "why"),
    [
        pytest.param("deckhouse-helm-generator", deployment(RECREATE, 1), RWO, "", [], "", id="recreate"),
        pytest.param(
            "deckhouse-helm-generator", deployment(None, 1), RWO, "rwo-rolling-update", ["denied"], "", id="no-strategy"
        ),
        pytest.param(
            "deckhouse-helm-generator",
            deployment(RECREATE, 3),
            RWO,
            "rwo-multi-pod",
            ["warned"],
            ONE_NODE,
            id="three-replicas",
        ),
        pytest.param(
            "deckhouse-helm-generator",
            deployment(None, 2),
            RWO,
            "rwo-multi-pod, rwo-rolling-update",
            ["warned", "denied"],
            "",
            id="two-replicas-that-roll",
        ),
        pytest.param(
            "deckhouse-helm-generator",
            workload("DaemonSet", volumes=MOUNTED),
            RWO,
            "rwo-multi-pod",
            [],
            "its pods don't follow one another; the audit tells of the one that waits for the volume",
            id="a-daemon-set",
        ),
        pytest.param(
            "deckhouse-helm-generator",
            workload("StatefulSet", volumes=MOUNTED),
            RWO,
            "rwo-multi-pod",
            [],
            "two of them on one claim: each object is judged by itself; the audit tells of the pod that waits",
            id="two-stateful-sets-on-one-claim",
        ),
        pytest.param("deckhouse-helm-generator", deployment(None, 3), RWX, "", [], "", id="shared-by-three"),
        pytest.param("upstream", deployment(), RWO, "rwo-rolling-update", ["denied"], "", id="default-strategy"),
        pytest.param("upstream", deployment(rolling()), RWO, "rwo-rolling-update", ["denied"], "", id="explicit"),
        pytest.param("upstream", deployment(RECREATE), RWO, "", [], "", id="recreate-is-fine"),
        pytest.param(
            "upstream",
            deployment(rolling(maxSurge=0, maxUnavailable=1)),
            RWO,
            "",
            ["warned"],
            WAITS_A_WHILE,
            id="no-surge",
        ),
        pytest.param(
            "upstream", deployment(rolling(maxSurge="0%")), RWO, "", ["warned"], WAITS_A_WHILE, id="no-surge-in-percent"
        ),
        pytest.param(
            "upstream", deployment(rolling(maxSurge=1)), RWO, "rwo-rolling-update", ["denied"], "", id="a-surge-of-one"
        ),
        pytest.param("upstream", deployment(), RWX, "", [], "", id="shared"),
        pytest.param(
            "upstream",
            deployment(),
            NO_FACTS,
            "",
            ["unknown"],
            "a claim from elsewhere: what can't be told is said, and denies nothing",
            id="a-claim-from-elsewhere",
        ),
        pytest.param(
            "upstream", stateful_set("ReadWriteOnce"), RWO, "", ["audited"], NOTED, id="a-stateful-set-in-order"
        ),
        pytest.param(
            "app-invariants",
            deployment(rolling()),
            ELSEWHERE,
            "",
            ["denied"],
            "the claim is in another document: the claims of all checked files are known",
            id="separate-documents",
        ),
        pytest.param(
            "app-invariants",
            {**deployment(RECREATE), "spec": {**workload("Deployment")["spec"], "volumeClaimTemplates": []}},
            RWO,
            "rwo-rollingupdate",
            [],
            "a Deployment has no volumeClaimTemplates: the API server drops the field",
            id="templates-in-a-deployment",
        ),
        pytest.param(
            "app-invariants", stateful_set("ReadWriteOnce", replicas=3), RWO, "", ["audited"], NOTED, id="per-replica"
        ),
        pytest.param("kubescape", deployment(RECREATE), RWO, "C-0298", [], MUST_RECREATE, id="kubescape-recreate"),
        pytest.param(
            "kubescape",
            deployment(),
            RWO,
            "",
            ["denied"],
            "it knows nothing of claims",
            id="kubescape-missing-strategy",
        ),
        pytest.param("kubescape", workload("Deployment"), RWO, "", [], "", id="kubescape-without-a-claim"),
        pytest.param(
            "kube-linter",
            deployment(RECREATE),
            RWO,
            "no-rolling-update-strategy",
            [],
            MUST_RECREATE,
            id="kube-linter-recreate",
        ),
        pytest.param(
            "kube-linter",
            deployment(RECREATE, 1),
            RWO,
            "minimum-three-replicas",
            [],
            ONE_NODE,
            id="kube-linter-one-replica",
        ),
        pytest.param(
            "kube-score", deployment(RECREATE), RWO, "Deployment Strategy", [], MUST_RECREATE, id="kube-score-recreate"
        ),
        pytest.param(
            "kube-score", deployment(), RWO, "", ["denied"], "it knows nothing of claims", id="kube-score-no-strategy"
        ),
        pytest.param(
            "polaris", deployment(RECREATE, 1), RWO, "deploymentMissingReplicas", [], ONE_NODE, id="polaris-one-replica"
        ),
        pytest.param(
            "polaris",
            deployment(RECREATE, 3),
            RWO,
            "",
            ["warned"],
            "it knows nothing of claims: two of the three may never start",
            id="polaris-three-replicas",
        ),
    ],
)
def test_beside_a_peer(peer: str, obj: Object, facts: ClusterFacts, theirs: str, ours: list[str], why: str) -> None:
    assert peer in (__doc__ or "")
    decision = decide(request(obj), facts, CONFIG, today=TODAY)
    outcomes = [verdict.outcome for verdict in decision.verdicts if verdict.policy == "volume-handover"]
    assert outcomes == ours
    # Both object, or neither does; else the row says why.
    assert why or bool(theirs) == bool(set(ours) - {"audited"})
