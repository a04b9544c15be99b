"""Databases that keep their data in files, by the image of the container that writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from webhook.objects.images import base_of
from webhook.objects.mounts import mounts_of
from webhook.objects.pods import Workload
from webhook.objects.products import product_of


class Database(NamedTuple):
    """A database; `is_single` if a second process that writes its files destroys them or doesn't start, and `folder`
    is where its files are, if its container may have other volumes."""

    name: str
    is_single: bool = False
    folder: str = ""


HUB = Database("the hub's SQLite", is_single=True, folder="/srv/jupyterhub")
_GRAFANA = Database("Grafana's SQLite", is_single=True)
_PRODUCTS: Mapping[str, Database] = {
    "grafana": _GRAFANA,
    "grafana-enterprise": _GRAFANA,
    "grafana-oss": _GRAFANA,
    "prometheus": Database("Prometheus", is_single=True),
    "victoria-metrics": Database("VictoriaMetrics"),
    "loki": Database("Loki"),
}
"""By what webhook.objects.products calls the image."""
_IMAGES: Mapping[str, Database] = {
    "clickhouse-server": Database("ClickHouse"),
    "couchdb": Database("CouchDB"),
    "elasticsearch": Database("Elasticsearch"),
    "etcd": Database("etcd"),
    "influxdb": Database("InfluxDB"),
    "k8s-hub": HUB,
    "mariadb": Database("MariaDB"),
    "mongo": Database("MongoDB"),
    "mongodb": Database("MongoDB"),
    "mysql": Database("MySQL"),
    "neo4j": Database("Neo4j"),
    "opensearch": Database("OpenSearch"),
    "postgis": Database("PostgreSQL"),
    "postgres": Database("PostgreSQL"),
    "postgresql": Database("PostgreSQL"),
    "rabbitmq": Database("RabbitMQ"),
    "redis": Database("Redis"),
    "valkey": Database("Valkey"),
}
"""By the last part of the image's repository, which survives mirroring."""


def database_on(workload: Workload, volume: str) -> Database | None:
    """The database whose files the workload's pods keep on this volume, as far as their images tell."""
    for container in workload.containers:
        mounts = () if container.role == "init" else mounts_of(container)
        folders = [mount.folder for mount in mounts if mount.volume == volume and not mount.is_read_only]
        database = database_of(container.image) if folders else None
        if database is not None and database.folder in ("", *folders):
            return database
    return None


def database_of(image: str) -> Database | None:
    """The database that the image is."""
    return _PRODUCTS.get(product_of(image).name) or _IMAGES.get(base_of(image))
