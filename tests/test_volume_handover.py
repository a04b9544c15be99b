"""volume-handover: which Deployments can hand their claim over, and what mends the others."""

from __future__ import annotations

from typing import Any

import pytest

from policies.volume_handover.policy import Params, examine
from policies.volume_handover.rollout import Rollout, read_rollout
from tests.builders import TODAY, config, container, custom, facts_of, request, workload
from webhook.engine import decide
from webhook.errors import BadObject
from webhook.messages import denial
from webhook.objects.facts import CLAIMS, NO_FACTS, ClusterFacts
from webhook.objects.facts.deployments import DEPLOYMENTS
from webhook.objects.owners import AUTOSCALER
from webhook.objects.topology import HOST_LABEL, ZONE_LABEL
from webhook.policy import AdmissionRequest, Brief, FactReference, Object, Set

NO_SURGE = {"maxSurge": 0, "maxUnavailable": 0}
ONE_LESS = {"maxSurge": 1, "maxUnavailable": 1}
MOUNTED = [{"name": "data", "persistentVolumeClaim": {"claimName": "db"}}]
RECREATE = {"type": "Recreate"}
CLAIM_NAME = "spec.template.spec.volumes[0].persistentVolumeClaim.claimName"


def cluster(*modes: str, provisioner: str = "nfs.csi.k8s.io", driver: str = "") -> ClusterFacts:
    """A cluster with claim db, its class, and the volume that it is bound to, if that one's driver is given."""
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "db", "namespace": "shop"}}
    made_by = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": provisioner}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}}
    bound = {"volumeName": "pv"} if driver else {}
    return facts_of(
        [
            {**claim, "spec": {"accessModes": list(modes), "storageClassName": "fast", **bound}},
            {**made_by, "metadata": {"name": "fast"}},
            *([{**volume, "spec": {"csi": {"driver": driver}}}] if driver else []),
        ]
    )


def deployment(
    strategy: Object | None = None,
    replicas: int | None = None,
    image: str = "nginx:1.27",
    path: str = "/data",
    **fields: object,
) -> Object:
    """A Deployment that mounts claim db at this path; `fields` go into its container."""
    mounts = [{"name": "data", "mountPath": path}]
    obj = workload("Deployment", container(**{"image": image, "volumeMounts": mounts, **fields}), volumes=MOUNTED)
    obj["spec"] |= {"strategy": strategy, "replicas": replicas}
    return obj


def apart(replicas: int, **term: object) -> Object:
    """A Deployment whose pods keep away from each other's nodes, unless the term says something else."""
    obj = deployment(RECREATE, replicas)
    selector = {key: term.pop(key) for key in ("matchLabels", "matchExpressions") if key in term}
    required = {"labelSelector": selector or {"matchLabels": {"app": "web"}}, "topologyKey": HOST_LABEL, **term}
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    obj["spec"]["template"]["spec"]["affinity"] = {"podAntiAffinity": {field: [required]}}
    return obj


def stateful_set(*modes: str, replicas: int = 1) -> Object:
    obj = workload("StatefulSet")
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": list(modes)}}
    obj["spec"] |= {"replicas": replicas, "volumeClaimTemplates": [claim]}
    return obj


def prometheus(storage: Object) -> Object:
    return custom("Prometheus", {"storage": storage})


def rolling(**update: object) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": update}


RWO, RWOP, RWX = cluster("ReadWriteOnce"), cluster("ReadWriteOncePod"), cluster("ReadWriteMany")
EBS = "ebs.csi.aws.com"
RWX_ON_A_DISK = cluster("ReadWriteMany", provisioner=EBS)
HUB = {"image": "quay.io/jupyterhub/k8s-hub:4.4.0", "path": "/srv/jupyterhub"}
DEVICE = {"volumeMounts": [], "volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]}
READ = {"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}]}
TEMPLATE = "spec.volumeClaimTemplates[0]"


@pytest.mark.parametrize(
    ("obj", "facts", "found"),
    [
        pytest.param(deployment(), RWO, [("spec.strategy", "deny")], id="defaults"),
        pytest.param(deployment(rolling()), RWO, [("spec.strategy", "deny")], id="rolling-update"),
        pytest.param(deployment(), RWOP, [("spec.strategy", "deny")], id="one-pod-s"),
        pytest.param(deployment(RECREATE), RWO, [], id="recreate"),
        pytest.param(deployment(replicas=0), RWO, [], id="no-replicas"),
        pytest.param(deployment(rolling(**NO_SURGE)), RWO, [("spec.strategy", "warn")], id="fencepost-is-no-deadlock"),
        pytest.param(deployment(rolling(**ONE_LESS)), RWO, [("spec.strategy", "warn")], id="the-old-pod-may-go-first"),
        pytest.param(deployment(RECREATE, 2), RWO, [("spec.replicas", "warn")], id="two-on-one-node-s"),
        pytest.param(deployment(RECREATE, 2), RWOP, [("spec.replicas", "deny")], id="two-on-one-pod-s"),
        pytest.param(apart(2), RWO, [("spec.replicas", "deny")], id="two-that-keep-apart"),
        pytest.param(apart(1), RWO, [], id="one-that-keeps-apart"),
        pytest.param(apart(2), RWX, [], id="two-that-keep-apart-and-share"),
        pytest.param(apart(2), RWX_ON_A_DISK, [("spec.replicas", "warn")], id="two-that-keep-apart-on-a-disk"),
        pytest.param(apart(2, matchLabels={"app": "x"}), RWO, [("spec.replicas", "warn")], id="apart-from-others"),
        pytest.param(apart(2, topologyKey=ZONE_LABEL), RWO, [("spec.replicas", "warn")], id="apart-by-zone"),
        pytest.param(apart(2, namespaces=["x"]), RWO, [("spec.replicas", "warn")], id="apart-from-another-namespace"),
        pytest.param(
            apart(2, matchExpressions=[{"key": "app", "operator": "In", "values": ["web"]}]),
            RWO,
            [("spec.replicas", "deny")],
            id="apart-by-an-expression",
        ),
        pytest.param(
            apart(2, matchExpressions=[{"key": "app", "operator": "DoesNotExist"}]),
            RWO,
            [("spec.replicas", "warn")],
            id="apart-by-an-expression-that-does-not-hold",
        ),
        pytest.param(
            deployment(replicas=2), RWO, [("spec.replicas", "warn"), ("spec.strategy", "deny")], id="two-and-rolling"
        ),
        pytest.param(
            deployment(replicas=4), RWO, [("spec.replicas", "warn"), ("spec.strategy", "warn")], id="a-quarter-of-four"
        ),
        pytest.param(deployment(replicas=3), RWX, [], id="shared"),
        pytest.param(deployment(), cluster("ReadWriteOnce", "ReadOnlyMany"), [], id="shared-by-readers"),
        pytest.param(deployment(image="prom/prometheus"), RWX, [("spec.strategy", "warn")], id="shared-prometheus"),
        pytest.param(
            deployment(RECREATE, 2, "grafana/grafana"), RWX, [("spec.replicas", "warn")], id="shared-grafana-twice"
        ),
        pytest.param(deployment(RECREATE, image="prom/prometheus"), RWX, [], id="shared-prometheus-alone"),
        pytest.param(deployment(**HUB), RWX, [("spec.strategy", "warn")], id="shared-hub"),
        pytest.param(deployment(**HUB, replicas=2), RWX, [("spec.replicas", "warn")], id="shared-hub-twice"),
        pytest.param(deployment(image=HUB["image"], path="/mnt"), RWX, [], id="what-a-hub-shares-besides"),
        pytest.param(deployment(image="prom/prometheus", **READ), RWX, [], id="shared-and-only-read"),
        pytest.param(deployment(), RWX_ON_A_DISK, [("spec.strategy", "warn")], id="a-disk-is-not-shared"),
        pytest.param(
            deployment(),
            cluster("ReadWriteMany", driver=EBS),
            [("spec.strategy", "warn")],
            id="a-disk-that-is-there-is-not-shared",
        ),
        pytest.param(
            deployment(),
            cluster("ReadWriteMany", provisioner=EBS, driver="x"),
            [],
            id="the-volume-counts-not-the-class",
        ),
        pytest.param(deployment(**DEVICE), RWX_ON_A_DISK, [], id="a-device-may-be-shared"),
        pytest.param(deployment(), cluster("ReadOnlyMany", provisioner=EBS), [], id="a-disk-may-be-read-by-many"),
        pytest.param(
            deployment(), cluster(provisioner=EBS), [("spec.strategy", "deny")], id="a-disk-s-claim-without-modes"
        ),
        pytest.param(
            deployment(RECREATE, image="postgres:16"), RWO, [(CLAIM_NAME, "audit")], id="a-database's-node-may-be-lost"
        ),
        pytest.param(
            deployment(image="prom/prometheus"),
            RWO,
            [("spec.strategy", "deny"), (CLAIM_NAME, "audit")],
            id="a-database's-rollout-never-ends",
        ),
        pytest.param(deployment(RECREATE, **HUB), RWO, [(CLAIM_NAME, "audit")], id="the-hub's-node-may-be-lost"),
        pytest.param(deployment(RECREATE, image="postgres:16"), RWX, [], id="a-shared-volume-is-not-lost"),
        pytest.param(deployment(RECREATE, image="postgres:16", **READ), RWO, [], id="a-database's-reader"),
        pytest.param(stateful_set("ReadWriteOnce"), NO_FACTS, [(TEMPLATE, "audit")], id="a-stateful-set's-node"),
        pytest.param(stateful_set("ReadWriteMany"), NO_FACTS, [], id="a-stateful-set-that-shares"),
        pytest.param(stateful_set("ReadWriteOnce", replicas=0), NO_FACTS, [], id="a-stateful-set-without-pods"),
        pytest.param(
            prometheus({"volumeClaimTemplate": {"spec": {}}}),
            NO_FACTS,
            [("spec.storage.volumeClaimTemplate", "audit")],
            id="an-operator's",
        ),
        pytest.param(prometheus({"emptyDir": {}}), NO_FACTS, [], id="an-operator's-emptyDir"),
        pytest.param(deployment(), NO_FACTS, [(CLAIM_NAME, "warn")], id="unseen-claim"),
        pytest.param(deployment(), cluster(), [(CLAIM_NAME, "warn")], id="claim-without-modes"),
        pytest.param(deployment(RECREATE), NO_FACTS, [], id="unseen-claim-and-recreate"),
        pytest.param(workload("Deployment"), RWO, [], id="no-volume"),
        pytest.param(workload("StatefulSet", volumes=MOUNTED), RWO, [], id="a-stateful-set"),
    ],
)
def test_violations(obj: Object, facts: ClusterFacts, found: list[tuple[str, str]]) -> None:
    assert [(violation.path, violation.at_most) for violation in examine(request(obj), facts, Params())] == found


@pytest.mark.parametrize(
    ("obj", "known", "wrong"),
    [
        pytest.param(
            deployment(),
            RWO,
            "a rollout never ends: its new pod waits for claim 'db', which the old pod's node holds",
            id="waits-for-itself",
        ),
        pytest.param(
            deployment(),
            RWOP,
            "a rollout never ends: its new pod waits for claim 'db', which the old pod holds",
            id="one-pod's",
        ),
        pytest.param(
            deployment(rolling(**ONE_LESS)),
            RWO,
            "a rollout's new pod may wait a while for claim 'db', which the old pod's node holds",
            id="waits-a-while",
        ),
    ],
)
def test_a_warning_says_it_in_brief(obj: Object, known: ClusterFacts, wrong: str) -> None:
    [violation] = examine(request(obj), known, Params())
    assert violation.brief == Brief(wrong, "set spec.strategy to {type: Recreate}, without rollingUpdate")


@pytest.mark.parametrize(
    ("spec", "rollout"),
    [
        pytest.param({}, Rollout(1, False, 1, 0), id="defaults"),
        pytest.param({"replicas": 4}, Rollout(4, False, 1, 1), id="four"),
        pytest.param({"replicas": 3}, Rollout(3, False, 1, 0), id="three-quarters-round-down"),
        pytest.param({"strategy": rolling(**NO_SURGE)}, Rollout(1, False, 0, 1), id="both-0"),
        pytest.param(
            {"strategy": rolling(maxSurge="0%", maxUnavailable="10%")}, Rollout(1, False, 0, 1), id="rounds-to-0"
        ),
        pytest.param({"strategy": RECREATE}, Rollout(1, True, 0, 1), id="recreate"),
    ],
)
def test_rollout(spec: Object, rollout: Rollout) -> None:
    assert read_rollout(spec) == rollout


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"replicas": "2"}, "spec.replicas is '2', not a whole number", id="replicas"),
        pytest.param(
            {"replicas": "2" * 100}, f"spec.replicas is '{'2' * 19}…{'2' * 18}', not a whole number", id="long-replicas"
        ),
        pytest.param(
            {"strategy": rolling(maxSurge="a%")},
            "spec.strategy.rollingUpdate.maxSurge is 'a%', neither a whole number nor a percentage",
            id="surge",
        ),
    ],
)
def test_unreadable_rollout(spec: Object, message: str) -> None:
    with pytest.raises(BadObject) as raised:
        read_rollout(spec)
    assert str(raised.value) == message


def scale(after: int, before: int = 1, **fields: Any) -> AdmissionRequest:
    """A change of the scale of Deployment web, as the server reads it."""

    def to(replicas: int) -> Object:
        metadata = {"name": "web", "namespace": "shop"}
        # The API writes no field for 0.
        spec = {"replicas": replicas} if replicas else {}
        return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec}

    given = {"group": "apps", "version": "v1", "kind": "Deployment", "subresource": "scale", **fields}
    return request(to(after), to(before), **given)


LABELLED = deployment()
LABELLED["metadata"]["labels"] = {"team": "data"}
SPARED = """
exemptions:
  - {policy: volume-handover, match: {namespaces: [shop], images: ["nginx"]}, owner: a, reason: b, until: 2999-12-31}
"""
BY_LABEL = (
    "overrides: [{match: {namespaces: [shop], labels: {team: data}}, policies: {volume-handover: {mode: audit}}}]"
)
CANNOT_TELL = "cannot tell whether there may be 2 replicas: Deployment 'web' could not be read"


@pytest.mark.parametrize(
    ("asked", "claim", "seen", "text", "outcomes"),
    [
        pytest.param(scale(2), RWOP, deployment(), "", ["denied"], id="one-pod-s"),
        pytest.param(scale(2), RWO, deployment(), "", ["warned"], id="one-node-s"),
        pytest.param(scale(2), RWX, deployment(), "", [], id="shared"),
        pytest.param(scale(2), NO_FACTS, deployment(), "", ["unknown"], id="unseen-claim"),
        pytest.param(scale(2), RWOP, workload("Deployment"), "", [], id="no-claim"),
        pytest.param(scale(1, 0), RWOP, deployment(), "", [], id="one"),
        pytest.param(scale(1, 3), RWOP, deployment(), "", [], id="down-to-one"),
        pytest.param(scale(0), RWOP, deployment(), "", [], id="none"),
        pytest.param(scale(2, 3), RWOP, deployment(), "", [], id="down"),
        pytest.param(scale(3, 2), RWOP, deployment(), "", ["denied"], id="worse-than-before"),
        pytest.param(scale(3, 3), RWOP, deployment(), "", [], id="as-before"),
        pytest.param(scale(2), RWOP, None, "", ["unknown"], id="an-unseen-deployment"),
        pytest.param(scale(1, 0), RWOP, None, "", [], id="one-of-an-unseen-deployment"),
        pytest.param(scale(2), RWOP, deployment(), SPARED, ["exempted"], id="exempted-by-image"),
        pytest.param(scale(2), RWOP, LABELLED, BY_LABEL, ["audited"], id="an-override-by-label"),
        pytest.param(scale(2, user=AUTOSCALER), RWOP, deployment(), "", [], id="by-an-autoscaler"),
    ],
)
def test_scales(
    asked: AdmissionRequest, claim: ClusterFacts, seen: Object | None, text: str, outcomes: list[str]
) -> None:
    cfg = config("policies: {volume-handover: {mode: deny}}\n" + text)
    facts = claim if seen is None else claim.with_objects([seen], [DEPLOYMENTS])
    decision = decide(asked, facts, cfg, today=TODAY, stage="validate")
    assert [verdict.outcome for verdict in decision.verdicts] == outcomes
    assert decision.allowed is (outcomes != ["denied"])


def test_a_scale_that_cannot_be_read_is_undecided() -> None:
    asked = scale(2)
    assert asked.object is not None
    asked.object["spec"] = {"replicas": "2"}
    decision = decide(asked, RWOP, config("policies: {volume-handover: {mode: deny}}"), today=TODAY, stage="validate")
    [verdict] = decision.verdicts
    assert (decision.allowed, verdict.outcome) == (True, "unknown")
    assert verdict.violation.message == "could not decide: spec.replicas is '2', not a whole number"


def test_the_deployment_behind_a_scale_is_looked_up() -> None:
    cfg = config("policies: {volume-handover: {mode: deny}}")
    reference = FactReference(DEPLOYMENTS, "shop", "web")
    decision = decide(scale(2), RWOP, cfg, today=TODAY, stage="validate")
    assert decision.unseen == {reference}
    [verdict] = decision.verdicts
    assert (verdict.violation.message, verdict.mode) == (CANNOT_TELL, "warn")
    absent = RWOP.with_facts([], absent=[reference])
    assert decide(scale(2), absent, cfg, today=TODAY, stage="validate").unseen == frozenset()


def test_a_denied_scale_says_what_to_do() -> None:
    cfg = config("policies: {volume-handover: {mode: deny}}")
    decision = decide(scale(3), RWOP.with_objects([deployment()], [DEPLOYMENTS]), cfg, today=TODAY, stage="validate")
    assert denial(scale(3), decision, cfg).startswith(
        "1 violation in Deployment shop/web\n\n"
        "volume-handover: claim 'db' is ReadWriteOncePod, which one pod holds at a time, and 3 replicas mount it: all "
        "but one never start: set spec.replicas to 1, or use a StatefulSet, whose pods have a claim for themselves\n"
        "  where spec.replicas\n"
        "  set   spec.replicas: 1\n"
    )


def test_the_message_says_what_to_set() -> None:
    [violation] = examine(request(deployment()), RWO, Params())
    assert violation.message == (
        "claim 'db' is ReadWriteOnce, which one node holds at a time, and a rollout keeps the old pod until the new "
        "one is ready (RollingUpdate with maxSurge 1 and maxUnavailable 0), which waits for the volume: it never ends: "
        "set spec.strategy to {type: Recreate}, without rollingUpdate"
    )
    assert violation.fix == Set("spec.strategy", RECREATE)


def stored(strategy: Object) -> Object:
    """As the API server has it."""
    obj = deployment(strategy)
    obj["metadata"]["resourceVersion"] = "7"
    return obj


DEFAULTS = rolling(maxSurge="25%", maxUnavailable="25%")


@pytest.mark.parametrize(
    ("obj", "old", "is_told"),
    [
        pytest.param(deployment(DEFAULTS), None, False, id="created"),
        pytest.param(deployment(DEFAULTS), stored(DEFAULTS), True, id="updated"),
        pytest.param(deployment(DEFAULTS), stored(RECREATE), False, id="updated-from-recreate"),
        pytest.param(stored(DEFAULTS), None, True, id="audited"),
    ],
)
def test_what_a_server_side_apply_needs_before(obj: Object, old: Object | None, is_told: bool) -> None:
    [violation] = examine(request(obj, old), RWO, Params())
    command = (
        "; if it is applied server-side (Helm 4, Argo CD, Flux), do this before: kubectl -n shop patch deployment/web "
        '--type=merge -p \'{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}\''
    )
    assert violation.message.endswith(command) is is_told


def test_an_unseen_claim_is_looked_up() -> None:
    [violation] = examine(request(deployment()), NO_FACTS, Params())
    assert (violation.is_unknown, violation.unseen) == (True, (FactReference(CLAIMS, "shop", "db"),))


def test_the_helm_value() -> None:
    obj = deployment()
    obj["metadata"]["labels"] = {"helm.sh/chart": "grafana-9.0.0", "app.kubernetes.io/instance": "grafana"}
    obj["spec"]["template"]["spec"]["volumes"][0]["name"] = "storage"
    [violation] = examine(request(obj), RWO, Params())
    assert violation.hint == "deploymentStrategy: {type: Recreate}"


@pytest.mark.parametrize(
    ("mode", "outcome"), [("warn", "warned"), ("deny", "denied"), ("patch", "patched")], ids=["warn", "deny", "patch"]
)
def test_modes(mode: str, outcome: str) -> None:
    """By mode patch alone the whole strategy is replaced; what was defaulted before does not stay beside it."""
    cfg = config(f"policies: {{volume-handover: {{mode: {mode}}}}}")
    decision = decide(request(deployment(rolling(maxSurge="25%", maxUnavailable="25%"))), RWO, cfg, today=TODAY)
    outcomes = [verdict.outcome for verdict in decision.verdicts if verdict.policy == "volume-handover"]
    assert outcomes == [outcome]
    replaced = [operation for operation in decision.patch if operation["path"] == "/spec/strategy"]
    assert replaced == ([{"op": "replace", "path": "/spec/strategy", "value": RECREATE}] if mode == "patch" else [])


def test_what_was_there_before_only_warns() -> None:
    cfg = config("policies: {volume-handover: {mode: deny}}")
    decision = decide(request(deployment(), deployment()), RWO, cfg, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts if verdict.policy == "volume-handover"] == ["warned"]


def test_a_disk_that_is_asked_to_be_shared() -> None:
    [violation] = examine(request(deployment()), RWX_ON_A_DISK, Params())
    assert violation.message.startswith(
        "claim 'db' asks for ReadWriteMany, but class fast (ebs.csi.aws.com) makes disks, which one node holds at a "
        "time, and a rollout keeps the old pod until the new one is ready"
    )


def test_the_hubs_note_names_its_values() -> None:
    obj = deployment(RECREATE, **HUB)
    obj["metadata"]["labels"] = {"helm.sh/chart": "jupyterhub-4.4.0", "app.kubernetes.io/instance": "jupyterhub"}
    obj["metadata"]["labels"]["app.kubernetes.io/component"] = "hub"
    pod = obj["spec"]["template"]["spec"]
    pod["volumes"][0]["name"] = pod["containers"][0]["volumeMounts"][0]["name"] = "pvc"
    [violation] = examine(request(obj), RWO, Params())
    assert violation.message == (
        "if its node is lost, the pod in place of the lost one waits for claim 'db', the data of the hub's SQLite: "
        "until six minutes after the lost pod was to be gone at best, or its Node, known to be off, is deleted or "
        "tainted node.kubernetes.io/out-of-service; to be free of that, have the hub keep its data elsewhere: set "
        "hub.db.type to postgres or mysql, and hub.db.url"
    )
    assert violation.hint == "hub.db.type: postgres"


@pytest.mark.parametrize("mode", ["audit", "warn", "patch", "deny"])
def test_a_lost_node_is_only_noted(mode: str) -> None:
    cfg = config(f"policies: {{volume-handover: {{mode: {mode}}}}}")
    decision = decide(request(stateful_set("ReadWriteOnce")), RWO, cfg, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts if verdict.policy == "volume-handover"] == ["audited"]


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        pytest.param(1, 2, "denied", id="more-than-one"),
        pytest.param(2, 3, "denied", id="more-than-before"),
        pytest.param(3, 2, "warned", id="less-than-before"),
    ],
)
def test_replicas_of_one_pods_claim(before: int, after: int, outcome: str) -> None:
    cfg = config("policies: {volume-handover: {mode: deny}}")
    old, new = deployment(RECREATE, before), deployment(RECREATE, after)
    decision = decide(request(new, old), RWOP, cfg, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts if verdict.policy == "volume-handover"] == [outcome]
