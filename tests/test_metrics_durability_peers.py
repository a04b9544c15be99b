"""metrics-durability beside manifests that others publish for running such stores.

Every row is the shape of one of theirs, written anew: whose it is, our verdicts (in mode deny, with every ConfigMap
that is named among the checked files) and why, where their manifest is published as good and we say something of it.

kube-prometheus  manifests/: the operator's resources and Grafana
operator         prometheus-operator, example/: basic-auth, storage, thanos, additional-scrape-configs
kube-thanos      examples/all/manifests
addon            kubernetes' former addon prometheus, and manifests made after it
grafana          Grafana's and Loki's own guides for Kubernetes
victoria         VictoriaMetrics' guides and operator
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TODAY, config, config_map, container, custom, every_policy, facts, request, workload
from tests.test_metrics_durability import CLAIM, KEEPS, PROMETHEUS, SENDS, replicas, store
from webhook.engine import decide
from webhook.policy import Object

CONFIG = config(every_policy(metrics_durability="mode: deny"))
EMPTY: Object = {"emptyDir": {}}
IN_MEMORY = {"name": "tmp-plugins", "emptyDir": {"medium": "Memory"}}
READS = "--config.file=/etc/config/prometheus.yml"
OBJECTS = "--objstore.config=$(OBJSTORE_CONFIG)"
THANOS = "quay.io/thanos/thanos:v0.30.1"
STORED = {"storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "40Gi"}}}}}}
LOST = "their example is for trying it out: what it measured is gone with the pod"
UNLIMITED = "the data is elsewhere, or is little; what is warned of is the node's disk"
UNSAID = "Mimir keeps them in files by default, and another file or a variable may say otherwise"
IMAGES_OWN = "the file is the image's own, which is not read"


def claimed(obj: Object) -> Object:
    """The same as a StatefulSet, whose claims take the place of the volume."""
    template = obj["spec"]["template"]
    volumes = [volume for volume in template["spec"]["volumes"] if volume["name"] != "data"]
    claims = [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
    spec = {"template": {**template, "spec": {**template["spec"], "volumes": volumes}}, "volumeClaimTemplates": claims}
    return {**obj, "kind": "StatefulSet", "spec": spec}


def grafana(*args: str, folder: str = "/var/lib/grafana", **fields: Any) -> Object:
    return store("grafana/grafana:11.2.0", *args, folder=folder, **{"source": EMPTY, **fields})


def loki(text: str, **fields: Object) -> tuple[Object, list[Object]]:
    """Loki, and the ConfigMap with its configuration."""
    obj = store(
        "grafana/loki:3.1.0", "-config.file=/etc/config/loki.yaml", folder="/loki", **{"source": EMPTY, **fields}
    )
    return obj, [config_map(loki_yaml=text)]


@pytest.mark.parametrize(
    ("peer", "obj", "others", "ours", "why"),
    [
        pytest.param("kube-prometheus", custom("Alertmanager", {"replicas": 3}), [], [], "", id="alertmanager"),
        pytest.param(
            "kube-prometheus",
            custom("Prometheus", {"replicas": 2}),
            [],
            ["denied", "warned", "warned"],
            LOST,
            id="prometheus",
        ),
        pytest.param(
            "kube-prometheus",
            grafana(volumes=[IN_MEMORY]),
            [],
            ["warned"],
            "its dashboards come from files",
            id="grafana",
        ),
        pytest.param(
            "operator",
            custom("Prometheus", {"thanos": {"logLevel": "info"}}),
            [],
            ["denied", "warned"],
            LOST,
            id="a-bare-sidecar",
        ),
        pytest.param("operator", custom("Prometheus", STORED), [], [], "", id="persisted"),
        pytest.param(
            "operator",
            custom("Prometheus", {"thanos": {"objectStorageConfig": {"key": "a", "name": "b"}}}),
            [],
            ["warned"],
            UNLIMITED,
            id="a-sidecar-with-objects",
        ),
        pytest.param("operator", custom("ThanosRuler", {}), [], ["denied", "warned"], LOST, id="a-ruler"),
        pytest.param("operator", custom("ThanosRuler", STORED), [], [], "", id="a-ruler-with-a-volume"),
        pytest.param(
            "kube-thanos", claimed(store(THANOS, "receive", "--tsdb.path=/data", OBJECTS)), [], [], "", id="receive"
        ),
        pytest.param(
            "kube-thanos", claimed(store(THANOS, "store", "--data-dir=/data", OBJECTS)), [], [], "", id="store"
        ),
        pytest.param(
            "kube-thanos",
            store(THANOS, "store", "--data-dir=/data", OBJECTS, source=EMPTY),
            [],
            ["warned"],
            UNLIMITED,
            id="a-store-s-cache",
        ),
        pytest.param("kube-thanos", store(THANOS, "compact", OBJECTS, source=EMPTY), [], [], "", id="compact"),
        pytest.param("kube-thanos", store(THANOS, "query", source=EMPTY), [], [], "", id="query"),
        pytest.param(
            "kube-thanos",
            store(THANOS, "rule", "--data-dir=/data", "--remote-write.config-file=/rw.yaml", source=EMPTY),
            [],
            ["warned"],
            UNLIMITED,
            id="a-ruler-that-writes-elsewhere",
        ),
        pytest.param(
            "addon",
            claimed(store("prom/prometheus:v2.2.1", READS, "--storage.tsdb.path=/data")),
            [],
            [],
            "",
            id="addon",
        ),
        pytest.param(
            "addon",
            store(
                "prom/prometheus:v1.8.2",
                "-config.file=/etc/config/prometheus.yml",
                "-storage.local.path=/data",
                source=CLAIM,
            ),
            [KEEPS],
            [],
            "",
            id="prometheus-1",
        ),
        pytest.param(
            "addon",
            store("prom/prometheus:v1.8.2", "-config.file=/etc/config/prometheus.yml", "-storage.local.path=/data"),
            [KEEPS],
            ["denied"],
            LOST,
            id="prometheus-1-on-an-empty-dir",
        ),
        pytest.param(
            "addon",
            store(
                "prom/prometheus:v3.1.0", READS, "--storage.tsdb.path=/prometheus/", source=CLAIM, folder="/prometheus"
            ),
            [],
            [],
            "",
            id="a-slash-at-the-end",
        ),
        pytest.param(
            "addon",
            workload("Deployment", container("prometheus", PROMETHEUS, args=["--web.listen-address=:8080"])),
            [],
            ["unknown"],
            IMAGES_OWN,
            id="no-volume-and-no-configuration",
        ),
        pytest.param(
            "addon",
            store("prometheus", READS, "--storage.tsdb.path=/tmp/prometheus", source=EMPTY, folder="/tmp", kind="Pod"),
            [KEEPS],
            ["denied", "warned"],
            LOST,
            id="a-pod",
        ),
        pytest.param(
            "addon",
            replicas(
                claimed(store(PROMETHEUS, READS, "--storage.tsdb.path=/data", "--storage.tsdb.retention.time=6h")), 2
            ),
            [SENDS],
            [],
            "",
            id="two-that-write-elsewhere",
        ),
        pytest.param(
            "addon", store(PROMETHEUS, READS, "--enable-feature=agent", source=EMPTY), [SENDS], [], "", id="an-agent"
        ),
        pytest.param("grafana", grafana(source=CLAIM), [], [], "", id="grafana-on-a-claim"),
        pytest.param("grafana", grafana(), [], ["warned"], LOST, id="grafana-on-an-empty-dir"),
        pytest.param(
            "grafana",
            grafana("--homepath=/usr/share/grafana", "cfg:default.paths.data=/srv", folder="/srv", source=CLAIM),
            [],
            [],
            "",
            id="grafana-s-folder-on-its-command-line",
        ),
        pytest.param(
            "grafana",
            grafana("-config=/etc/config/grafana.ini"),
            [config_map(grafana_ini="[database]\ntype = postgres\nhost = pg:5432\n")],
            [],
            "",
            id="grafana-s-configuration-on-its-command-line",
        ),
        pytest.param(
            "grafana",
            grafana("cfg:database.url=postgres://pg/grafana"),
            [],
            [],
            "",
            id="grafana-s-database-on-its-command-line",
        ),
        pytest.param(
            "grafana", *loki("schema_config: {configs: [{object_store: s3}]}"), ["warned"], UNLIMITED, id="loki-s3"
        ),
        pytest.param(
            "grafana",
            *loki("schema_config: {configs: [{object_store: filesystem}]}"),
            ["denied", "warned"],
            LOST,
            id="loki-in-files",
        ),
        pytest.param(
            "grafana",
            *loki("common: {path_prefix: /loki}", source={"hostPath": {"path": "/work"}}),
            [],
            "",
            id="loki-on-a-node",
        ),
        pytest.param(
            "grafana",
            store("grafana/loki:2.9.3", "-config.file=/etc/loki/local-config.yaml", source=EMPTY, folder="/loki"),
            [],
            ["unknown", "warned"],
            IMAGES_OWN,
            id="loki-s-own-configuration",
        ),
        pytest.param(
            "grafana",
            store("grafana/tempo:2.3.1", "-config.file=/etc/config/tempo.yaml", source=EMPTY, folder="/var/tempo"),
            [config_map(tempo_yaml="storage: {trace: {backend: local, local: {path: /var/tempo/traces}}}")],
            ["denied", "warned"],
            LOST,
            id="tempo-in-files",
        ),
        pytest.param(
            "grafana",
            store("grafana/mimir:2.12.0", "-config.file=/etc/config/mimir.yaml", "-target=all", source=EMPTY),
            [config_map(mimir_yaml="blocks_storage: {backend: filesystem, tsdb: {dir: /data/tsdb}}")],
            ["denied", "warned"],
            LOST,
            id="mimir-in-files",
        ),
        pytest.param(
            "grafana",
            store("grafana/mimir:2.12.0", "-config.file=/etc/config/mimir.yaml", source=EMPTY),
            [config_map(mimir_yaml="blocks_storage: {tsdb: {dir: /data/tsdb}}")],
            ["unknown", "warned"],
            UNSAID,
            id="mimir-s-default",
        ),
        pytest.param(
            "grafana",
            store("grafana/mimirtool:2.2.0", "rules", "sync", source=EMPTY, kind="CronJob"),
            [],
            [],
            "",
            id="a-tool-of-mimir-s",
        ),
        pytest.param(
            "victoria",
            store(
                "victoriametrics/victoria-metrics:v1.96.0", "-storageDataPath=/storage", source=CLAIM, folder="/storage"
            ),
            [],
            [],
            "",
            id="victoria-metrics",
        ),
        pytest.param(
            "victoria",
            claimed(
                store("victoriametrics/vmstorage:v1.92.0-cluster", "--storageDataPath=/data", "--envflag.enable=true")
            ),
            [],
            [],
            "",
            id="vmstorage",
        ),
        pytest.param(
            "victoria",
            store("victoriametrics/victoria-metrics:v1.101.0", "-storageDataPath=/data", source=EMPTY),
            [],
            ["denied", "warned"],
            LOST,
            id="victoria-metrics-on-an-empty-dir",
        ),
        pytest.param(
            "victoria",
            store("victoriametrics/vmagent:v1.100.0", "-remoteWrite.tmpDataPath=/data", source=EMPTY),
            [],
            [],
            "",
            id="vmagent",
        ),
        pytest.param(
            "victoria",
            {**custom("VMSingle", {"retentionPeriod": "1"}), "apiVersion": "operator.victoriametrics.com/v1beta1"},
            [],
            [],
            "its operator's resources are not judged: what it makes of them is",
            id="vmsingle-s-resource",
        ),
    ],
)
def test_verdicts(peer: str, obj: Object, others: list[Object], ours: list[str], why: str) -> None:
    decision = decide(request(obj), facts(obj, *others), CONFIG, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == ours
    assert bool(why) or not ours, peer
