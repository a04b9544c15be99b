"""Reviews: whatever an object holds, they are answered, and all that is said of it agrees."""

from __future__ import annotations

import base64
import json
import random
import time
from functools import cache, lru_cache
from typing import Any

import jsonpatch
import msgspec

from tests.builders import (
    DATA,
    FILE_KINDS,
    ROOT,
    TODAY,
    config,
    config_map,
    container,
    custom,
    facts_of,
    limit_range,
    sized,
    workload,
)
from tests.fuzz.mutation import mutated, mutated_bytes
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import NOT_OURS, UNREADABLE, BadQuantity, BadReview
from webhook.files.manifests import read_manifests
from webhook.objects.facts import ClusterFacts
from webhook.objects.pods import read_workload
from webhook.objects.quantities import is_fraction_of_byte, parse_memory
from webhook.objects.repair import repair
from webhook.policy import AdmissionRequest, Decision, Stage
from webhook.scope import AnyStage
from webhook.server.review import read_review, render_review

Review = dict[str, Any]

_SECONDS = 2.0
"""For one decision, on a busy machine: what takes longer takes more than its input."""

_ANSWER_BYTES = 1 << 16
"""Of an answer, beside a small multiple of what the object has."""

CONFIGS = [
    "",
    "mode: audit",
    """
policies:
  memory-limits: {params: {images: {"nginx*": 64Mi}, containers: {istio-proxy: 128Mi}}}
  prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}
  zonal-volumes: {mode: patch, params: {zones: [zone-a, zone-b], replacement: {emptyDir: true}}}
patchExisting: true
patchOwnedPods: true
""",
    """
onError: deny
policies: {memory-limits: {mode: deny}, zonal-volumes: {mode: warn}}
overrides: [{match: {namespaces: ["*"], labels: {app: web}}, policies: {memory-limits: {mode: patch}}}]
exemptions:
  - {policy: zonal-volumes, match: {namespaces: [shop], images: ["nginx*"]}, owner: a, reason: b, until: 2999-12-31}
kinds: [{kind: Web, resource: webs, group: example.com, podSpec: spec.pod}]
ratchet: false
""",
    """
mode: deny
policies:
  metrics-durability: {mode: deny, params: {readConfigMaps: true, emptyDirSize: 8Gi, ingestionPerDay: 2Gi}}
  scrape-endpoints: {mode: deny}
  volume-handover: {mode: deny}
""",
    """
policies:
  metrics-durability: {mode: patch, params: {remoteWrite: "https://metrics.example.com/push", emptyDirSize: 8Gi}}
  scrape-endpoints: {mode: patch}
  volume-handover: {mode: patch}
patchExisting: true
operatorMade: deny
""",
]


def _object(kind: str, name: str, version: str = "v1", **fields: Any) -> Review:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


def _monitoring(kind: str, **spec: Any) -> Review:
    return custom(kind, spec, name="web")


_ENDPOINT = {"port": "metrics", "path": "/metrics", "interval": "30s", "scrapeTimeout": "60s"}
_WEB = {"matchLabels": {"app": "web"}}
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "9100", "prometheus.io/path": "metrics"}
_SERVICE: Review = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": _SCRAPED},
    "spec": {
        "clusterIP": "None",
        "selector": {"app": "web"},
        "ports": [{"name": "metrics", "port": 9100, "targetPort": "http"}, {"port": 80, "targetPort": 8080}],
    },
}
_CONFIGURATION = """
global: {scrape_interval: 30s, scrape_timeout: 1m}
remote_write: [{url: "https://metrics.example.com/push"}]
scrape_configs:
- &job
  job_name: pods
  scrape_timeout: 10s
  metrics_path: /metrics?a=b
  kubernetes_sd_configs: [{role: pod, namespaces: {names: [shop]}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: "metrics|web-.*", action: keep}
  - {source_labels: [__address__], regex: "([^:]+)(?::[0-9]+)?", replacement: "$1:9100", target_label: __address__}
  - {replacement: "web.shop.svc:9115", target_label: __address__}
- {<<: *job, job_name: static, static_configs: [{targets: ["web.shop.svc:9100", "web:80"]}]}
"""
_CONFIG_MAP = config_map("prometheus", prometheus_yml=_CONFIGURATION)
_MONITORS: list[Review] = [
    _monitoring("ServiceMonitor", selector=_WEB, endpoints=[_ENDPOINT, {"targetPort": 8080}]),
    _monitoring("PodMonitor", selector=_WEB, podMetricsEndpoints=[_ENDPOINT, {"portNumber": 8080}]),
    _monitoring("Probe", prober={"url": "web.shop.svc:9115"}, targets={"staticConfig": {"static": ["a"]}}),
    _monitoring("ScrapeConfig", staticConfigs=[{"targets": ["web.shop.svc:9100"]}], scrapeInterval="30s"),
    _monitoring("Prometheus", serviceMonitorSelector={}, podMonitorSelector=_WEB, scrapeInterval="30s", replicas=2),
    _monitoring("PrometheusAgent", serviceMonitorSelector=_WEB, serviceMonitorNamespaceSelector={}),
]

FACTS: list[Review] = [
    _object("Namespace", "shop"),
    _SERVICE,
    *_MONITORS,
    _CONFIG_MAP,
    workload("Deployment", container(ports=[{"name": "http", "containerPort": 8080}])),
    *(
        {
            **_object("Node", f"node-{zone}", status={"allocatable": {"memory": "64Gi"}}),
            "metadata": {"name": f"node-{zone}", "labels": {"topology.kubernetes.io/zone": zone}},
        }
        for zone in ("zone-a", "zone-b")
    ),
    {
        **_object("StorageClass", "standard", "storage.k8s.io/v1", provisioner="ebs.csi.aws.com"),
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    },
    _object(
        "PersistentVolume",
        "disk",
        spec={
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "disk"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"]}
                            ]
                        }
                    ]
                }
            },
        },
    ),
    {
        **_object("PersistentVolumeClaim", "data", spec={"volumeName": "disk", "accessModes": ["ReadWriteOnce"]}),
        "metadata": {"name": "data", "namespace": "shop"},
    },
    limit_range(default="512Mi", defaultRequest="256Mi", max="8Gi", min="4Mi", maxLimitRequestRatio="4"),
]

_PROMETHEUS = container("prometheus", "prom/prometheus:v3.1.0", **sized("1Gi"))
_CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
_TEMPLATE = {"metadata": {"name": "data"}, "spec": {"storageClassName": "standard"}}


_VOLUMES = [
    _CLAIM,
    {"name": "scratch", "emptyDir": {"medium": "Memory"}},
    {"name": "config", "configMap": {"name": "prometheus"}},
]


def _stores() -> list[Review]:
    """Containers that keep what they measure and log, by flags, files and variables."""
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("data", "scratch", "config")]
    prometheus = ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/scratch", "--storage.tsdb.retention=1y"]
    return [
        container("prometheus", "prom/prometheus:v3.1.0", args=prometheus, volumeMounts=mounts, ports=_PORTS),
        container("loki", "grafana/loki:3.3.2", args=["-config.file=/config/loki.yaml"], volumeMounts=mounts),
        container("vm", "victoriametrics/victoria-metrics:v1.108.0", args=["-storageDataPath=/data"]),
        container("grafana", "grafana/grafana:11.4.0", env=[{"name": "GF_PATHS_DATA", "value": "/scratch"}]),
        container("db", "postgres:17", env=[{"name": "PGDATA", "value": "/data/pg"}], volumeMounts=mounts),
    ]


_PORTS = [{"name": "metrics", "containerPort": 9090}, {"containerPort": 8080}]


def _workloads() -> list[Review]:
    stateful = workload("StatefulSet", _PROMETHEUS)
    stateful["spec"]["volumeClaimTemplates"] = [_TEMPLATE]
    return [
        *(workload(kind, container(), _PROMETHEUS, volumes=[_CLAIM]) for kind in ("Pod", "Deployment", "CronJob")),
        workload("Deployment", container(**sized("1Gi", "512Mi")), initContainers=[container("init")]),
        stateful,
        custom("Prometheus", {"resources": {}, "storage": {"volumeClaimTemplate": _TEMPLATE}, "thanos": {}}),
        custom("Alertmanager", {"containers": [container("alertmanager", **sized("64Mi"))]}),
        *(workload(kind, *_stores(), volumes=_VOLUMES) for kind in ("Pod", "Deployment", "StatefulSet")),
        _SERVICE,
        *_MONITORS,
        _CONFIG_MAP,
    ]


@cache
def _reviews() -> list[Review]:
    lines = (DATA / "recordings" / "people.jsonl").read_text().splitlines()
    found = [json.loads(line)["review"] for line in lines]
    samples = sorted(ROOT.glob("policies/*/good/*.yaml")) + sorted(ROOT.glob("policies/*/bad/*.yaml"))
    objects = [manifest.object for file in samples for manifest in read_manifests(file.read_bytes(), file.name)[0]]
    for obj in [*_workloads(), *objects]:
        found += [_review_of(obj, None), _review_of(obj, obj)]
    return found


def _review_of(obj: Review, old: Review | None) -> Review:
    group, _, version = str(obj["apiVersion"]).rpartition("/")
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": group, "version": version, "kind": obj["kind"]},
            "name": obj["metadata"].get("name", ""),
            "namespace": obj["metadata"].get("namespace", "shop"),
            "operation": "UPDATE" if old else "CREATE",
            "userInfo": {"username": "jane"},
            "object": obj,
            "oldObject": old,
        },
    }


def make_case(dice: random.Random) -> bytes:
    """A mutated object, old object and facts, and a configuration."""
    review = json.loads(json.dumps(dice.choice(_reviews())))
    request = review["request"]
    for field in ("object", "oldObject"):
        if request.get(field) and dice.random() < 0.8:
            request[field] = _changed(request[field], dice)
    # The LimitRange, the last of them, gives every container what policies ask for.
    facts = FACTS[: dice.choice([-1, -1, len(FACTS)])]
    if dice.random() < 0.3:
        at = dice.randrange(len(facts))
        facts[at] = _changed(facts[at], dice)
    return json.dumps({"config": dice.choice(CONFIGS), "facts": facts, "review": review}).encode()


def _changed(obj: Review, dice: random.Random) -> Review:
    """The object mutated: of a ConfigMap mostly the texts that are in it, which policies read as configurations."""
    data = obj.get("data")
    if obj.get("kind") != "ConfigMap" or not isinstance(data, dict) or dice.random() < 0.2:
        changed: Review = mutated(obj, dice)
        return changed
    texts = {key: mutated_bytes(str(text).encode(), dice).decode(errors="replace") for key, text in data.items()}
    return {**obj, "data": texts}


def check_case(data: bytes) -> None:
    case = msgspec.json.decode(repair(data))
    sent = case["review"]["request"]
    # A scale's Deployment is looked up whole; as a fact it is what it says of its pods.
    known = [obj for obj in case["facts"] if sent.get("subResource") != "scale" or _kind_of(obj) != "Deployment"]
    facts, cfg = _facts(json.dumps(known)), _config(case["config"])
    try:
        request = read_review(json.dumps(case["review"]).encode(), cfg.object_fields)
    except BadReview:
        # Only what the API server never sends: no object at all, or one that names no kind.
        assert not isinstance(sent.get("object"), dict) or not sent["object"], "a review was refused"
        return
    assert request.uid == sent["uid"]
    mutate = _judge(request, facts, cfg, "mutate")
    patched = _applied(request, mutate, cfg)
    validate = _judge(patched, facts, cfg, "validate")
    whole = _judge(request, facts, cfg, "check")
    if request.unreadable:
        return
    assert not _judge(patched, facts, cfg, "mutate").patch or mutate.failures, "patching doesn't converge"
    _is_no_lower(request, patched)
    failures = {**mutate.failures, **validate.failures, **whole.failures}
    if request.operation == "CREATE" and not failures:
        assert whole.allowed == validate.allowed, "check says otherwise than the server"
        assert whole.patch == mutate.patch, "check patches otherwise than the server"


def _kind_of(obj: Any) -> Any:
    return obj.get("kind") if isinstance(obj, dict) else None


@lru_cache(8)
def _facts(objects: str) -> ClusterFacts:
    """What can be read of it, as from a watch: without what can't."""
    facts = facts_of([])
    for obj in (obj for obj in json.loads(objects) if isinstance(obj, dict)):
        try:
            facts = facts.with_objects([obj], FILE_KINDS)
        except UNREADABLE:
            continue
    return facts


@cache
def _config(text: str) -> Config:
    return config(text)


def _judge(request: AdmissionRequest, facts: ClusterFacts, cfg: Config, stage: AnyStage) -> Decision:
    began = time.monotonic()
    decision = decide(msgspec.structs.replace(request), facts, cfg, today=TODAY, stage=stage)
    for error in decision.failures.values():
        if not isinstance(error, NOT_OURS):
            raise AssertionError(f"a policy failed at {stage}") from error
    for endpoint in ("mutate", "validate") if stage == "check" else (stage,):
        rendered = render_review(request, decision, endpoint, cfg)
        assert len(rendered) <= _ANSWER_BYTES + 4 * len(msgspec.json.encode(request.object)), "the answer is too long"
        answer = json.loads(rendered)["response"]
        assert answer["uid"] == request.uid
        assert all(len(warning) <= 256 for warning in answer.get("warnings", ()))
    assert time.monotonic() - began < _SECONDS, "a decision takes too long"
    return decision


def _applied(request: AdmissionRequest, decision: Decision, cfg: Config) -> AdmissionRequest:
    """The request with the patch that is in the answer applied, as the API server does it."""
    stage: Stage = "mutate"
    answer = json.loads(render_review(request, decision, stage, cfg))["response"]
    if "patch" not in answer:
        return request
    patch = json.loads(base64.b64decode(answer["patch"]))
    obj = jsonpatch.apply_patch(request.object, patch)
    assert obj == decision.object, "the patch does something else than was judged"
    return msgspec.structs.replace(request, object=obj)


def _is_no_lower(request: AdmissionRequest, patched: AdmissionRequest) -> None:
    """No patch lowers a memory limit that says something."""
    if request.object is patched.object:
        return
    before, after = read_workload(msgspec.structs.replace(request)), read_workload(msgspec.structs.replace(patched))
    limits = {container.path: container.memory("limits") for container in (after.containers if after else ())}
    for earlier in before.containers if before else ():
        limit = earlier.memory("limits")
        if limit is not None and _says_something(limit):
            assert parse_memory(limits[earlier.path]) >= parse_memory(limit), "a limit was lowered"


def _says_something(limit: Any) -> bool:
    try:
        return parse_memory(limit) > 0 and not is_fraction_of_byte(limit)
    except BadQuantity:  # the policies that read it failed, and others patched the object
        return False


def make_bytes(dice: random.Random) -> bytes:
    return mutated_bytes(json.dumps(dice.choice(_reviews()), separators=(",", ":")).encode(), dice)


def check_bytes(data: bytes) -> None:
    """Of bytes that are no review BadReview is said, and nothing else."""
    try:
        request = read_review(data)
    except BadReview as error:
        assert "\n" not in str(error)
        return
    for stage in ("mutate", "validate"):
        _judge(request, _facts(json.dumps(FACTS)), _config(""), stage)
