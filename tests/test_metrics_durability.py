"""metrics-durability: whose data is gone with its pod, what tells that it is elsewhere, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from policies.metrics_durability.policy import Params, examine
from policies.metrics_durability.retention import read_size, read_time
from policies.metrics_durability.space import volume_for
from tests.builders import (
    TODAY,
    config,
    config_map,
    container,
    custom,
    every_policy,
    facts,
    facts_of,
    request,
    workload,
)
from webhook.engine import decide
from webhook.objects.config_maps import CONFIG_MAPS
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.objects.quantities import Memory
from webhook.policy import Brief, FactReference, Object, Set, Violation

PROMETHEUS = "quay.io/prometheus/prometheus:v3.9.1"
THANOS = "quay.io/thanos/thanos:v0.39.0"
EMPTY = {"emptyDir": {"sizeLimit": "10Gi"}}
CLAIM = {"persistentVolumeClaim": {"claimName": "data"}}
VOLUME = "spec.template.spec.volumes[0]"
LOST = [(f"{VOLUME}.emptyDir", "deny")]
LOST_STATE = [(f"{VOLUME}.emptyDir", "warn")]
PASSES: list[tuple[str, str]] = []
SENDS = config_map(prometheus_yml="remote_write: [{url: https://example.com/push}]")
KEEPS = config_map(prometheus_yml="global: {scrape_interval: 1m}\nremote_write: []\n")
TEMPLATE = {"spec": {"resources": {"requests": {"storage": "50Gi"}}}}
REMOTE = [{"url": "https://example.com/push"}]


def store(
    image: str,
    *args: str,
    source: Object = EMPTY,
    folder: str = "/data",
    others: Iterable[Object] = (),
    kind: str = "Deployment",
    volumes: Iterable[Object] = (),
    **fields: Any,
) -> Object:
    """A workload whose container has this volume mounted at `folder`, and ConfigMap prometheus at /etc/config; `fields`
    go into the container."""
    mounts = [{"name": "data", "mountPath": folder}, {"name": "config", "mountPath": "/etc/config"}]
    mapped = {"name": "config", "configMap": {"name": "prometheus"}}
    kept = container("store", image, **{"args": [*args], "volumeMounts": mounts, **fields})
    return workload(kind, kept, *others, volumes=[{"name": "data", **source}, mapped, *volumes])


def prometheus(*args: str, **fields: Any) -> Object:
    configured = "--config.file=/etc/config/prometheus.yml"
    return store(PROMETHEUS, configured, "--storage.tsdb.path=/data", *args, **fields)


def replicas(obj: Object, number: int) -> Object:
    return {**obj, "spec": {**obj["spec"], "replicas": number}}


def found(obj: Object, known: ClusterFacts = NO_FACTS, params: Params | None = None) -> list[Violation]:
    return list(examine(request(obj), known, params or Params()))


def told(obj: Object, known: ClusterFacts = NO_FACTS, params: Params | None = None) -> list[tuple[str, str]]:
    return [(violation.path, violation.at_most) for violation in found(obj, known, params)]


OBJECT_STORAGE = "--objstore.config-file=/etc/objstore.yml"
SIDECAR = container("thanos-sidecar", THANOS, args=["sidecar", OBJECT_STORAGE])
BARE_SIDECAR = container("thanos-sidecar", THANOS, args=["sidecar", "--tsdb.path=/data"])


@pytest.mark.parametrize(
    ("obj", "known", "expected"),
    [
        pytest.param(prometheus(), facts(KEEPS), LOST, id="an-empty-dir"),
        pytest.param(
            store("bitnamilegacy/prometheus:3.5.0", source=CLAIM, folder="/opt/bitnami/prometheus/data"),
            facts(KEEPS),
            PASSES,
            id="bitnami-s-folder",
        ),
        pytest.param(
            store("bitnami/prometheus:3.5.0", source=CLAIM, folder="/prometheus"),
            facts(KEEPS),
            [("spec.template.spec.containers[0].volumeMounts", "warn")],
            id="a-folder-that-bitnami-s-image-does-not-use",
        ),
        pytest.param(prometheus(), facts(SENDS), PASSES, id="remote-write"),
        pytest.param(prometheus(source=CLAIM), facts(KEEPS), PASSES, id="a-claim"),
        pytest.param(prometheus(source=CLAIM), NO_FACTS, PASSES, id="a-claim-needs-no-configuration"),
        pytest.param(prometheus(source={"hostPath": {"path": "/srv"}}), NO_FACTS, PASSES, id="a-host-path"),
        pytest.param(prometheus(source={"nfs": {"server": "a", "path": "/"}}), NO_FACTS, PASSES, id="nfs"),
        pytest.param(
            prometheus(source={"ephemeral": {"volumeClaimTemplate": TEMPLATE}}),
            facts(KEEPS),
            [(f"{VOLUME}.ephemeral.volumeClaimTemplate", "deny")],
            id="an-ephemeral-volume",
        ),
        pytest.param(
            prometheus(source={"csi": {"driver": "inline.example.com"}}),
            facts(KEEPS),
            [(VOLUME, "deny")],
            id="a-csi-volume-of-the-pod",
        ),
        pytest.param(prometheus(source={}), facts(KEEPS), [*LOST, (f"{VOLUME}.emptyDir.sizeLimit", "warn")], id="none"),
        pytest.param(
            prometheus(folder="/elsewhere"),
            facts(KEEPS),
            [("spec.template.spec.containers[0].volumeMounts", "deny")],
            id="no-volume-at-its-folder",
        ),
        pytest.param(
            store(PROMETHEUS, "--config.file=/etc/config/prometheus.yml", folder="/prometheus"),
            facts(KEEPS),
            LOST,
            id="the-image-s-own-folder",
        ),
        pytest.param(
            store(PROMETHEUS, "--config.file", "/etc/config/prometheus.yml", "--storage.tsdb.path", "/data"),
            facts(SENDS),
            PASSES,
            id="flags-of-two-words",
        ),
        pytest.param(
            store(
                PROMETHEUS,
                command=[
                    "sh",
                    "-c",
                    "exec prometheus --config.file=/etc/config/prometheus.yml --storage.tsdb.path=/data",
                ],
            ),
            facts(SENDS),
            PASSES,
            id="flags-in-a-script",
        ),
        pytest.param(prometheus(others=[SIDECAR]), facts(KEEPS), PASSES, id="a-thanos-sidecar"),
        pytest.param(prometheus(others=[BARE_SIDECAR]), facts(KEEPS), LOST, id="a-sidecar-without-object-storage"),
        pytest.param(prometheus("--agent"), facts(KEEPS), PASSES, id="an-agent"),
        pytest.param(prometheus(kind="Job"), facts(KEEPS), PASSES, id="a-job"),
        pytest.param(prometheus(command=["promtool"]), facts(KEEPS), PASSES, id="promtool-of-its-image"),
        pytest.param(store("nginx:1.27"), NO_FACTS, PASSES, id="no-store"),
        pytest.param(
            replicas(prometheus(), 2), facts(KEEPS), [*LOST, ("spec.replicas", "warn")], id="replicas-are-no-remedy"
        ),
        pytest.param(replicas(prometheus(), 2), facts(SENDS), PASSES, id="replicas-that-send"),
        pytest.param(replicas(prometheus(source=CLAIM), 2), NO_FACTS, PASSES, id="replicas-with-volumes"),
    ],
)
def test_prometheus(obj: Object, known: ClusterFacts, expected: list[tuple[str, str]]) -> None:
    assert told(obj, known) == expected


SIZED = {"emptyDir": {"sizeLimit": "20Gi"}}
CLASSIC = {"volumeClaimTemplate": TEMPLATE}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(custom("Prometheus", {"storage": SIZED}), [("spec.storage", "deny")], id="empty-dir"),
        pytest.param(
            custom("Prometheus", {}),
            [("spec.storage", "deny"), ("spec.storage.emptyDir.sizeLimit", "warn")],
            id="without-storage-it-is-one",
        ),
        pytest.param(custom("Prometheus", {"storage": CLASSIC}), PASSES, id="claims"),
        pytest.param(
            custom("Prometheus", {"storage": {**CLASSIC, **SIZED}}),
            [("spec.storage", "deny")],
            id="an-empty-dir-goes-before-claims",
        ),
        pytest.param(
            custom("Prometheus", {"storage": {"ephemeral": CLASSIC}}),
            [("spec.storage", "deny")],
            id="ephemeral",
        ),
        pytest.param(custom("Prometheus", {"storage": SIZED, "remoteWrite": REMOTE}), PASSES, id="remote-write"),
        pytest.param(
            custom("Prometheus", {"storage": SIZED, "remoteWrite": []}),
            [("spec.storage", "deny")],
            id="an-empty-list-sends-nothing",
        ),
        pytest.param(
            custom("Prometheus", {"storage": SIZED, "thanos": {"objectStorageConfig": {"key": "a", "name": "b"}}}),
            PASSES,
            id="thanos-with-object-storage",
        ),
        pytest.param(
            custom("Prometheus", {"storage": SIZED, "thanos": {}}),
            [("spec.storage", "deny")],
            id="thanos-without",
        ),
        pytest.param(custom("Prometheus", {"storage": SIZED, "containers": [SIDECAR]}), PASSES, id="one-s-own-sidecar"),
        pytest.param(
            custom("Prometheus", {"storage": SIZED, "replicas": 2}),
            [("spec.storage", "deny"), ("spec.replicas", "warn")],
            id="replicas",
        ),
        pytest.param(custom("PrometheusAgent", {}), PASSES, id="an-agent"),
        pytest.param(
            custom("PrometheusAgent", {"containers": [container("x", PROMETHEUS)]}),
            PASSES,
            id="a-sidecar-of-a-resource",
        ),
        pytest.param(custom("Alertmanager", {"storage": SIZED}), [("spec.storage", "warn")], id="silences"),
        pytest.param(custom("Alertmanager", {}), [("spec.storage", "warn")], id="silences-without-storage"),
        pytest.param(custom("Alertmanager", {"replicas": 2}), PASSES, id="alertmanagers-are-peers"),
        pytest.param(custom("ThanosRuler", {"storage": SIZED}), [("spec.storage", "deny")], id="a-ruler"),
        pytest.param(
            custom("ThanosRuler", {"storage": SIZED, "objectStorageConfigFile": "/x"}),
            PASSES,
            id="a-ruler-with-objects",
        ),
    ],
)
def test_resources_of_the_operator(obj: Object, expected: list[tuple[str, str]]) -> None:
    assert told(obj) == expected


LOKI_FILES = "schema_config: {configs: [{object_store: s3}, {object_store: filesystem}]}"
LOKI_S3 = "schema_config: {configs: [{object_store: filesystem}, {object_store: s3}]}"
READS = "-config.file=/etc/config/prometheus.yml"


def configured(text: str) -> ClusterFacts:
    return facts(config_map(prometheus_yml=text))


def with_another(source: Object, other: Object, **mount: Any) -> Object:
    """Tempo, which writes to two volumes."""
    mounts = [
        {"name": "data", "mountPath": "/data"},
        {"name": "other", "mountPath": "/other", **mount},
        {"name": "config", "mountPath": "/etc/config"},
    ]
    volumes = [{"name": "other", **other}]
    return store("grafana/tempo:2.9.0", READS, source=source, volumeMounts=mounts, volumes=volumes)


PEERS = "--cluster.peer=a:9094"
GRAFANA = "grafana/grafana:12.3.1"
GRAFANA_INI: dict[str, Any] = {
    "volumeMounts": [
        {"name": "data", "mountPath": "/var/lib/grafana"},
        {"name": "config", "mountPath": "/etc/grafana/grafana.ini", "subPath": "grafana.ini"},
    ]
}
VMSTORAGE = "victoriametrics/vmstorage:v1.120.0-cluster"


@pytest.mark.parametrize(
    ("obj", "known", "expected"),
    [
        pytest.param(store(THANOS, "receive", "--tsdb.path=/data"), NO_FACTS, LOST, id="thanos-receive"),
        pytest.param(store(THANOS, "receive"), NO_FACTS, LOST, id="thanos-receive-in-its-own-folder"),
        pytest.param(
            store(THANOS, "receive", "--tsdb.path=/data", OBJECT_STORAGE), NO_FACTS, PASSES, id="with-objects"
        ),
        pytest.param(store(THANOS, "store", "--data-dir=/data"), NO_FACTS, LOST, id="thanos-store"),
        pytest.param(
            store(THANOS, "store", "--data-dir=/data", OBJECT_STORAGE), NO_FACTS, PASSES, id="store-with-objects"
        ),
        pytest.param(
            store(THANOS, "rule", "--remote-write.config=x"), NO_FACTS, PASSES, id="a-ruler-that-writes-elsewhere"
        ),
        pytest.param(store(THANOS, "query"), NO_FACTS, PASSES, id="thanos-query-keeps-nothing"),
        pytest.param(
            store("victoriametrics/victoria-metrics:v1", "-storageDataPath=/data"),
            NO_FACTS,
            LOST,
            id="victoria-metrics",
        ),
        pytest.param(
            store("victoriametrics/victoria-metrics:v1", folder="/victoria-metrics-data"),
            NO_FACTS,
            LOST,
            id="victoria-metrics-in-its-own-folder",
        ),
        pytest.param(store(VMSTORAGE, "--storageDataPath=/data"), NO_FACTS, LOST, id="vmstorage"),
        pytest.param(
            store(
                VMSTORAGE, "--storageDataPath=/data", others=[container("backup", "victoriametrics/vmbackupmanager:v1")]
            ),
            NO_FACTS,
            PASSES,
            id="vmstorage-with-a-backup",
        ),
        pytest.param(store("victoriametrics/vminsert:v1"), NO_FACTS, PASSES, id="vminsert-keeps-nothing"),
        pytest.param(store("victoriametrics/vmagent:v1"), NO_FACTS, PASSES, id="an-agent"),
        pytest.param(store("grafana/loki:3.5.0", READS), configured(LOKI_FILES), LOST, id="loki"),
        pytest.param(store("grafana/loki:3.5.0", READS), configured(LOKI_S3), PASSES, id="loki-s-last-period-counts"),
        pytest.param(
            store("grafana/loki:3.5.0", READS),
            configured("common: {storage: {s3: {endpoint: a}}}"),
            PASSES,
            id="loki-s-common-storage",
        ),
        pytest.param(
            store("grafana/loki:3.5.0", READS),
            configured("common: {storage: {filesystem: {}, gcs: {}}}"),
            PASSES,
            id="loki-s-common-storage-of-two-kinds",
        ),
        pytest.param(
            store("grafana/loki:3.5.0", READS),
            configured(f"common: {{storage: {{s3: {{}}}}}}\n{LOKI_FILES}"),
            LOST,
            id="loki-s-schema-counts-for-more",
        ),
        pytest.param(
            store("grafana/mimir:3.0.0", READS),
            configured("common: {storage: {backend: s3}}\nblocks_storage: {backend: filesystem}"),
            LOST,
            id="mimir-s-blocks-count-for-more",
        ),
        pytest.param(
            store("grafana/loki:3.5.0", READS, "-target=querier"), configured(LOKI_FILES), PASSES, id="a-querier"
        ),
        pytest.param(store("grafana/loki:3.5.0", READS, "-target=write"), configured(LOKI_FILES), LOST, id="write"),
        pytest.param(
            store("grafana/mimir:3.0.0", READS), configured("blocks_storage: {backend: filesystem}"), LOST, id="mimir"
        ),
        pytest.param(
            store("grafana/mimir:3.0.0", READS),
            configured("common: {storage: {backend: gcs}}"),
            PASSES,
            id="mimir-s-common-storage",
        ),
        pytest.param(store("grafana/mimir:3.0.0", "-blocks-storage.backend=s3"), NO_FACTS, PASSES, id="mimir-s-flag"),
        pytest.param(
            store("grafana/tempo:2.9.0", READS), configured("storage: {trace: {backend: local}}"), LOST, id="tempo"
        ),
        pytest.param(
            store("grafana/tempo:2.9.0", READS),
            configured("storage: {trace: {backend: s3}}"),
            PASSES,
            id="tempo-with-objects",
        ),
        pytest.param(store("grafana/tempo:2.9.0", READS, source=CLAIM), NO_FACTS, PASSES, id="tempo-on-a-claim"),
        pytest.param(
            with_another(EMPTY, CLAIM), configured("storage: {trace: {backend: local}}"), PASSES, id="on-one-of-two"
        ),
        pytest.param(
            with_another(CLAIM, EMPTY), configured("storage: {trace: {backend: local}}"), PASSES, id="on-the-other"
        ),
        pytest.param(
            with_another(EMPTY, CLAIM, readOnly=True),
            configured("storage: {trace: {backend: local}}"),
            LOST,
            id="what-is-read-keeps-nothing",
        ),
        pytest.param(
            store("grafana/tempo:2.9.0", READS, source=CLAIM, folder="/tmp"),
            configured("storage: {trace: {backend: local}}"),
            [("spec.template.spec.containers[0].volumeMounts", "deny")],
            id="what-is-in-tmp-isn-t-meant",
        ),
        pytest.param(
            store("prom/alertmanager:v0.31.0", "--storage.path=/data"), NO_FACTS, LOST_STATE, id="alertmanager"
        ),
        pytest.param(
            replicas(store("prom/alertmanager:v0.31.0", "--storage.path=/data", PEERS), 2), NO_FACTS, PASSES, id="peers"
        ),
        pytest.param(
            replicas(store("prom/alertmanager:v0.31.0", "--storage.path=/data"), 2),
            NO_FACTS,
            LOST_STATE,
            id="two-that-know-nothing-of-each-other",
        ),
        pytest.param(
            store("prom/alertmanager:v0.31.0", folder="/alertmanager"), NO_FACTS, LOST_STATE, id="its-own-folder"
        ),
        pytest.param(store(GRAFANA, folder="/var/lib/grafana"), NO_FACTS, LOST_STATE, id="grafana"),
        pytest.param(
            store(GRAFANA, env=[{"name": "GF_DATABASE_TYPE", "value": "postgres"}], folder="/var/lib/grafana"),
            NO_FACTS,
            PASSES,
            id="grafana-with-a-database",
        ),
        pytest.param(
            store(GRAFANA, env=[{"name": "GF_DATABASE_TYPE", "value": "sqlite3"}], folder="/var/lib/grafana"),
            NO_FACTS,
            LOST_STATE,
            id="grafana-s-sqlite",
        ),
        pytest.param(
            store(GRAFANA, env=[{"name": "GF_PATHS_DATA", "value": "/data"}]),
            NO_FACTS,
            LOST_STATE,
            id="a-folder-of-choice",
        ),
        pytest.param(
            store(GRAFANA, **GRAFANA_INI),
            facts(config_map(grafana_ini="app_mode = x\n[database]\n; type = sqlite3\nurl = mysql://a:b@c/d\n")),
            PASSES,
            id="grafana-s-database-in-its-file",
        ),
        pytest.param(
            store(GRAFANA, **GRAFANA_INI),
            facts(config_map(grafana_ini="[server]\ntype = mysql\n")),
            LOST_STATE,
            id="of-another-section",
        ),
        pytest.param(
            store("jertel/elastalert2:2.31.0", source={"emptyDir": {}}),
            NO_FACTS,
            PASSES,
            id="elastalert-has-it-in-elasticsearch",
        ),
    ],
)
def test_other_products(obj: Object, known: ClusterFacts, expected: list[tuple[str, str]]) -> None:
    assert told(obj, known) == expected


CANNOT_TELL = (
    "cannot tell whether Prometheus container 'store', which keeps its series on an emptyDir, gone with its pod, has "
    "them elsewhere, too: its configuration /etc/config/prometheus.yml {why}; if it doesn't, send them elsewhere by "
    "remote_write, or by a Thanos sidecar with object storage, or keep them on a persistent volume that its pods reach "
    "in every zone"
)
PERMIT = "is in ConfigMap 'prometheus', which was not seen (parameter readConfigMaps has it looked up)"


@pytest.mark.parametrize(
    ("obj", "known", "why"),
    [
        pytest.param(prometheus(), NO_FACTS, PERMIT, id="not-seen"),
        pytest.param(
            prometheus(),
            facts(config_map(prometheus_yml="a: {{ .Values.b }}: c")),
            "in ConfigMap 'prometheus' is not YAML that can be read",
            id="a-template",
        ),
        pytest.param(
            prometheus(),
            facts(config_map(prometheus_yml=f"remote_write: []\n#{'x' * (1 << 18)}")),
            "in ConfigMap 'prometheus' is longer than is read",
            id="a-long-one",
        ),
        pytest.param(prometheus(), facts(config_map()), "is missing in ConfigMap 'prometheus'", id="no-such-key"),
    ],
)
def test_what_can_not_be_told(obj: Object, known: ClusterFacts, why: str) -> None:
    [violation] = found(obj, known)
    assert violation.message == CANNOT_TELL.format(why=why)
    reason = f"its configuration /etc/config/prometheus.yml {why}"
    if why == PERMIT:
        reason = "without readConfigMaps, ConfigMap 'prometheus' is not looked up"
    assert violation.brief == Brief("cannot tell whether Prometheus keeps its series on an emptyDir alone", reason)
    assert (violation.at_most, violation.is_unknown, violation.unseen) == ("warn", True, ())


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        pytest.param(
            store(GRAFANA, envFrom=[{"secretRef": {"name": "s"}}], folder="/var/lib/grafana"),
            "its variables come from another object (envFrom)",
            id="grafana-s-variables",
        ),
        pytest.param(
            store(
                GRAFANA,
                env=[{"name": "GF_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                folder="/var/lib/grafana",
            ),
            "variable GF_DATABASE_URL takes its value from elsewhere",
            id="grafana-s-address",
        ),
        pytest.param(store("grafana/loki:3.5.0"), "it names no configuration file", id="loki-without-a-file"),
        pytest.param(
            store(
                "grafana/loki:3.5.0",
                "-config.file=/etc/secret/loki.yaml",
                volumeMounts=[{"name": "secret", "mountPath": "/etc/secret"}, {"name": "data", "mountPath": "/data"}],
                volumes=[{"name": "secret", "secret": {"secretName": "loki"}}],
            ),
            "its configuration /etc/secret/loki.yaml is in Secret 'loki', which is not read",
            id="in-a-secret",
        ),
    ],
)
def test_why_it_can_not_be_told(obj: Object, why: str) -> None:
    [violation] = found(obj)
    assert f", has them elsewhere, too: {why}; if it doesn't, " in violation.message
    assert violation.is_unknown


VOLUME_TOO = ", or keep them on a persistent volume that its pods reach in every zone"
OTHER = ", or by a Thanos sidecar with object storage"


@pytest.mark.parametrize(
    ("obj", "known", "params", "remedy"),
    [
        pytest.param(
            custom("Prometheus", {"storage": SIZED}),
            NO_FACTS,
            Params(),
            f"send them elsewhere by remote_write (spec.remoteWrite){OTHER}",
            id="a-resource",
        ),
        pytest.param(
            custom("Prometheus", {"storage": SIZED}),
            NO_FACTS,
            Params(remote_write="https://example.com/push"),
            f"send them elsewhere by remote_write (spec.remoteWrite) to https://example.com/push{OTHER}",
            id="to-an-address",
        ),
        pytest.param(
            prometheus(),
            facts(KEEPS),
            Params(),
            f"send them elsewhere by remote_write (ConfigMap 'prometheus'){OTHER}",
            id="its-configuration",
        ),
        pytest.param(
            store("grafana/loki:3.5.0", READS),
            configured(LOKI_FILES),
            Params(),
            "have it keep them in object storage (ConfigMap 'prometheus')",
            id="loki-s-configuration",
        ),
        pytest.param(
            store(THANOS, "receive"),
            NO_FACTS,
            Params(),
            "give it object storage (--objstore.config-file)",
            id="flags",
        ),
    ],
)
def test_the_message_says_where_to_write_it(obj: Object, known: ClusterFacts, params: Params, remedy: str) -> None:
    [violation] = found(obj, known, params)
    assert violation.message.endswith(f" on an emptyDir, gone with its pod, and nowhere else: {remedy}{VOLUME_TOO}")
    assert violation.brief is not None
    assert violation.brief.remedy == remedy


def test_a_config_map_is_looked_up_where_that_is_allowed() -> None:
    [violation] = found(prometheus(), params=Params(read_config_maps=True))
    assert violation.unseen == (FactReference(CONFIG_MAPS, "shop", "prometheus"),)
    assert violation.message == CANNOT_TELL.format(why="is in ConfigMap 'prometheus', which was not seen")


def retaining(*args: str, source: Object = CLAIM) -> Object:
    return prometheus(*args, source=source)


def claim_of(size: str) -> ClusterFacts:
    metadata = {"name": "data", "namespace": "shop"}
    spec = {"resources": {"requests": {"storage": size}}}
    return facts_of([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}])


ARGS = "spec.template.spec.containers[0].args"
DAILY = Params(ingestion_per_day=Memory.parse("4Gi"))


@pytest.mark.parametrize(
    ("obj", "known", "params", "expected"),
    [
        pytest.param(
            retaining("--storage.tsdb.retention.size=60GB"), claim_of("50Gi"), Params(), [(ARGS, "deny")], id="too-much"
        ),
        pytest.param(
            retaining("--storage.tsdb.retention.size=45GB"), claim_of("50Gi"), Params(), [(ARGS, "warn")], id="tight"
        ),
        pytest.param(retaining("--storage.tsdb.retention.size=40GB"), claim_of("50Gi"), Params(), [], id="it-fits"),
        pytest.param(retaining("--storage.tsdb.retention.size=60GB"), NO_FACTS, Params(), [], id="an-unseen-claim"),
        pytest.param(retaining("--storage.tsdb.retention.size=0"), claim_of("50Gi"), Params(), [], id="no-size"),
        pytest.param(retaining(), claim_of("50Gi"), Params(), [], id="without-the-parameter"),
        pytest.param(retaining(), claim_of("50Gi"), DAILY, [(ARGS, "warn")], id="fifteen-days-by-default"),
        pytest.param(
            retaining("--storage.tsdb.retention.time=10d"), claim_of("50Gi"), DAILY, [], id="ten-days-of-4Gi-fit"
        ),
        pytest.param(
            retaining("--storage.tsdb.retention=4w"), claim_of("50Gi"), DAILY, [(ARGS, "warn")], id="the-older-flag"
        ),
        pytest.param(
            retaining("--storage.tsdb.retention.size=40GB"), claim_of("50Gi"), DAILY, [], id="the-size-comes-first"
        ),
        pytest.param(
            retaining(source={"emptyDir": {"sizeLimit": "1Gi"}}),
            facts(
                config_map(
                    prometheus_yml="remote_write: [{url: a}]\nstorage: {tsdb: {retention: {size: 2GB, time: 1d}}}"
                )
            ),
            Params(),
            [(ARGS, "deny")],
            id="in-the-configuration",
        ),
        pytest.param(
            custom("Prometheus", {"retentionSize": "60GiB", "storage": CLASSIC}),
            NO_FACTS,
            Params(),
            [("spec.retentionSize", "deny")],
            id="of-a-resource",
        ),
        pytest.param(
            custom("Prometheus", {"retention": "30d", "storage": CLASSIC}),
            NO_FACTS,
            DAILY,
            [("spec.retentionSize", "warn")],
            id="a-resource-s-time",
        ),
        pytest.param(custom("Prometheus", {"storage": CLASSIC}), NO_FACTS, DAILY, [], id="a-resource-keeps-a-day"),
    ],
)
def test_retention(obj: Object, known: ClusterFacts, params: Params, expected: list[tuple[str, str]]) -> None:
    assert told(obj, known, params) == expected


def test_the_message_on_retention_names_the_flag() -> None:
    [violation] = found(retaining("--storage.tsdb.retention.size=60GB"), claim_of("50Gi"))
    assert violation.message == (
        "Prometheus container 'store' keeps up to 60GB, and its volume holds 50Gi: Prometheus stops when it is full: "
        "give it 75Gi, or set --storage.tsdb.retention.size to 40GB"
    )
    assert violation.advice == ()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        pytest.param(
            "1Gi", "its pod is evicted: give it 3Gi, or set --storage.tsdb.retention.size to 819MB", id="small"
        ),
        pytest.param(
            "5Gi", "its pod is evicted: give it 13Gi, or set --storage.tsdb.retention.size to 4GB", id="large"
        ),
    ],
)
def test_an_empty_dir_that_is_full_has_its_pod_evicted(size: str, words: str) -> None:
    retained = {"1Gi": "2GB", "5Gi": "10GB"}[size]
    obj = retaining(f"--storage.tsdb.retention.size={retained}", source={"emptyDir": {"sizeLimit": size}})
    [violation] = found(obj, facts(SENDS))
    assert violation.message.endswith(f", and its volume holds {size}: {words}")
    assert violation.advice[0].path == f"{VOLUME}.emptyDir.sizeLimit"


def test_the_message_on_days_of_retention() -> None:
    [violation] = found(retaining("--storage.tsdb.retention.time=30d"), claim_of("100Gi"), DAILY)
    assert violation.message == (
        "Prometheus container 'store' keeps 30d of 4Gi a day, 120Gi in all, and its volume holds 100Gi: Prometheus "
        "stops when it is full: give it 150Gi, or set --storage.tsdb.retention.size to 80GB"
    )


def test_the_message_on_retention() -> None:
    [violation] = found(custom("Prometheus", {"retentionSize": "60GB", "storage": CLASSIC}))
    assert violation.message == (
        "Prometheus container 'prometheus' keeps up to 60GB, and its volume holds 50Gi: Prometheus stops when it is "
        "full: give it 75Gi, or set retentionSize to 40GB"
    )
    size = "spec.storage.volumeClaimTemplate.spec.resources.requests.storage"
    assert violation.advice == (Set(size, "75Gi"),)
    assert violation.value == 50 * 2**30 - 60 * 2**30


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        pytest.param(CLAIM, "server.persistentVolume.size: 75Gi", id="a-claim"),
        pytest.param({"emptyDir": {"sizeLimit": "50Gi"}}, "server.emptyDir.sizeLimit: 75Gi", id="an-empty-dir"),
    ],
)
def test_the_chart_s_value_for_a_larger_volume(source: Object, hint: str) -> None:
    obj = retaining("--storage.tsdb.retention.size=60GB", source=source)
    obj["spec"]["template"]["spec"]["containers"][0]["name"] = "prometheus-server"
    labels = {"helm.sh/chart": "prometheus-29.27.0", "app.kubernetes.io/component": "server"}
    obj["metadata"] |= {"labels": {**labels, "app.kubernetes.io/instance": "prometheus"}}
    known = claim_of("50Gi").with_objects([SENDS], [CONFIG_MAPS])
    assert [violation.hint for violation in found(obj, known)] == [hint]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("512MB", 512 * 2**20, id="units-are-powers-of-1024"),
        pytest.param("1.5GB", 3 * 2**29, id="a-fraction"),
        pytest.param("10GiB", 10 * 2**30, id="with-an-i"),
        pytest.param("100B", 100, id="bytes"),
        pytest.param("0", None, id="none"),
        pytest.param("10Gi", None, id="Kubernetes-units-are-none"),
        pytest.param("7EB", 7 * 2**60, id="much"),
        pytest.param("8EB", None, id="more-than-Prometheus-takes"),
        pytest.param("9" * 5000 + "GB", None, id="more-than-a-float-holds"),
        pytest.param("", None, id="empty"),
    ],
)
def test_sizes_of_prometheus(text: str, amount: int | None) -> None:
    assert read_size(text) == amount


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("15d", 15 * 86400, id="days"),
        pytest.param("1w3d", 10 * 86400, id="several-units"),
        pytest.param("90m", 5400, id="minutes"),
        pytest.param("1500ms", 1.5, id="milliseconds"),
        pytest.param("15", 0, id="without-a-unit"),
        pytest.param("", 0, id="empty"),
    ],
)
def test_durations_of_prometheus(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


def test_a_volume_has_room_besides() -> None:
    assert str(volume_for(40 * 2**30)) == "50Gi"


UNLIMITED = custom("Prometheus", {"storage": {"emptyDir": {}}, "remoteWrite": REMOTE})
LIMIT = "spec.storage.emptyDir.sizeLimit"


@pytest.mark.parametrize(
    ("obj", "params", "fix", "advice", "at_most"),
    [
        pytest.param(UNLIMITED, Params(), None, (Set(LIMIT, "50Gi"),), "warn", id="nothing-says-how-large"),
        pytest.param(
            UNLIMITED,
            Params(empty_dir_size=Memory.parse("30Gi")),
            Set(LIMIT, "30Gi"),
            (),
            "deny",
            id="the-parameter-does",
        ),
        pytest.param(
            {**UNLIMITED, "spec": {**UNLIMITED["spec"], "retentionSize": "8GB"}},
            Params(),
            Set(LIMIT, "10Gi"),
            (),
            "deny",
            id="the-retention-does",
        ),
        pytest.param(
            {**UNLIMITED, "spec": {**UNLIMITED["spec"], "retentionSize": "8GB"}},
            Params(empty_dir_size=Memory.parse("5Gi")),
            Set(LIMIT, "10Gi"),
            (),
            "deny",
            id="the-larger-of-both",
        ),
    ],
)
def test_an_empty_dir_without_a_limit(
    obj: Object, params: Params, fix: Set | None, advice: tuple[Set, ...], at_most: str
) -> None:
    [violation] = found(obj, params=params)
    assert (violation.path, violation.fix, violation.advice, violation.at_most) == (LIMIT, fix, advice, at_most)


@pytest.mark.parametrize("mode", ["warn", "deny", "patch"])
def test_check_says_what_both_hooks_do(mode: str) -> None:
    obj = {**UNLIMITED, "spec": {**UNLIMITED["spec"], "retentionSize": "8GB"}}
    cfg = config(every_policy(metrics_durability=f"mode: {mode}"))
    checked = decide(request(obj), NO_FACTS, cfg, today=TODAY)
    mutated = decide(request(obj), NO_FACTS, cfg, today=TODAY, stage="mutate")
    validated = decide(request(mutated.object or obj), NO_FACTS, cfg, today=TODAY, stage="validate")
    assert (checked.patch, checked.allowed) == (mutated.patch, validated.allowed) == (mutated.patch, mode != "deny")
    assert [verdict.outcome for verdict in checked.verdicts] == [
        verdict.outcome for decision in (mutated, validated) for verdict in decision.verdicts
    ]


def test_an_empty_dir_in_memory() -> None:
    [violation] = found(custom("Prometheus", {"storage": {"emptyDir": {"medium": "Memory"}}, "remoteWrite": REMOTE}))
    assert (violation.path, violation.at_most) == ("spec.storage.emptyDir.medium", "warn")
    assert violation.advice == (Set("spec.storage.emptyDir.medium", ""),)
    assert violation.message == (
        "Prometheus container 'prometheus' keeps its series in memory, which counts against the memory limits of its "
        "pod's containers: take medium: Memory away, so that they are on the node's disk"
    )


PATCHING = """
policies:
  metrics-durability: {mode: patch, params: {remoteWrite: "https://example.com/push", emptyDirSize: 20Gi}}
  memory-limits: {mode: "off"}
  prometheus-memory: {mode: "off"}
  zonal-volumes: {mode: "off"}
"""


def test_patching_sends_and_limits_what_the_operator_makes() -> None:
    decision = decide(request(custom("Prometheus", {"replicas": 2})), NO_FACTS, config(PATCHING), today=TODAY)
    assert decision.object is not None
    assert decision.object["spec"] == {
        "replicas": 2,
        "remoteWrite": [{"url": "https://example.com/push"}],
        "storage": {"emptyDir": {"sizeLimit": "20Gi"}},
    }
    assert [verdict.outcome for verdict in decision.verdicts] == ["patched", "patched"]


DENYING = "policies: {metrics-durability: {mode: deny}, prometheus-memory: {mode: 'off'}, memory-limits: {mode: 'off'}}"
SENDING = custom("Prometheus", {"storage": SIZED, "remoteWrite": REMOTE})
LOSING = custom("Prometheus", {"storage": SIZED})


@pytest.mark.parametrize(
    ("old", "new", "outcomes"),
    [
        pytest.param(LOSING, LOSING, ["warned"], id="as-it-was"),
        pytest.param(SENDING, LOSING, ["denied"], id="it-no-longer-sends"),
        pytest.param(
            LOSING,
            custom("Prometheus", {"storage": {"ephemeral": CLASSIC}}),
            ["denied"],
            id="on-another-volume-that-is-gone-with-its-pod",
        ),
    ],
)
def test_ratchet(old: Object, new: Object, outcomes: list[str]) -> None:
    decision = decide(request(new, old), NO_FACTS, config(DENYING), today=TODAY)
    ours = [verdict.outcome for verdict in decision.verdicts if verdict.policy == "metrics-durability"]
    assert ours == outcomes
