"""The products that keep metrics, logs, traces or state, by what webhook.objects.products calls their images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from posixpath import join, normpath
from typing import Literal, NamedTuple

from webhook.objects.containers import Container
from webhook.objects.fields import items
from webhook.objects.pods import Workload
from webhook.objects.products import product_of
from webhook.objects.prometheus import flag_value, holds_series, is_agent

Elsewhere = Literal["remote_write", "flags", "configuration", "backup", "peers", "database", "always"]
"""How a product can have its data outside its pod: what tells it. ElastAlert always has: it keeps its state in
Elasticsearch."""


class Store(NamedTuple):
    """A product that keeps data.

    data        what it keeps: "its series"
    elsewhere   how it can have that outside its pod
    remedy      the same as a remedy: "send them elsewhere by remote_write", with {where} to say where that is written
    folder      where its files are unless a flag says otherwise; empty where only its configuration file tells
    home        the folder that a relative path in a flag begins at
    flags       the flags that name its files' folder
    setting     the section and key of Grafana's configuration that name it
    parts       which of its parts (flag "target", or Thanos' command) keep data; every one, if none are named
    grows       whether it keeps all that is measured or logged; the others' is little, and their loss only warned of
    """

    name: str
    data: str
    elsewhere: Elsewhere
    remedy: str
    folder: str = ""
    home: str = "/"
    flags: tuple[str, ...] = ()
    setting: tuple[str, str] | None = None
    parts: frozenset[str] = frozenset()
    grows: bool = True


_BY_CONFIGURATION = "have it keep them in object storage{where}"
PROMETHEUS = Store(
    "Prometheus",
    "its series",
    "remote_write",
    "send them elsewhere by remote_write{where}, or by a Thanos sidecar with object storage",
    "/prometheus",
    "/prometheus",
    ("storage.tsdb.path", "storage.local.path"),  # the second was Prometheus 1's
)
ALERTMANAGER = Store(
    "Alertmanager",
    "its silences",
    "peers",
    "run two or more replicas that are each other's peers",
    "/alertmanager",
    "/alertmanager",
    ("storage.path",),
    grows=False,
)
THANOS = Store(
    "Thanos",
    "its series",
    "flags",
    "give it object storage{where}",
    "/data",
    flags=("tsdb.path", "data-dir"),
    parts=frozenset({"receive", "rule", "store"}),
)
_GRAFANA = Store(
    "Grafana",
    "its users, dashboards and alert rules",
    "database",
    "give it a database elsewhere (GF_DATABASE_TYPE and GF_DATABASE_URL)",
    "/var/lib/grafana",
    setting=("paths", "data"),
    grows=False,
)
_ELASTALERT = Store("ElastAlert", "its state", "always", "", grows=False)
_BACKUP = "have vmbackup beside it copy them to object storage"
_VICTORIA_METRICS = Store(
    "VictoriaMetrics", "its series", "backup", _BACKUP, "/victoria-metrics-data", flags=("storageDataPath",)
)
_VMSTORAGE = _VICTORIA_METRICS._replace(folder="/vmstorage-data")
_VICTORIA_LOGS = _VICTORIA_METRICS._replace(name="VictoriaLogs", data="its logs", folder="/victoria-logs-data")
_VICTORIA_TRACES = _VICTORIA_METRICS._replace(name="VictoriaTraces", data="its traces", folder="/victoria-traces-data")
_LOKI = Store(
    "Loki",
    "its logs",
    "configuration",
    _BY_CONFIGURATION,
    parts=frozenset({"all", "ingester", "write"}),
)
_MIMIR = _LOKI._replace(name="Mimir", data="its series")
_TEMPO = _LOKI._replace(name="Tempo", data="its traces", parts=frozenset({"all", "ingester", "scalable-single-binary"}))
PRODUCTS: Mapping[str, Store] = {
    "alertmanager": ALERTMANAGER,
    "elastalert": _ELASTALERT,
    "elastalert-docker": _ELASTALERT,
    "elastalert-server": _ELASTALERT,
    "elastalert2": _ELASTALERT,
    "enterprise-logs": _LOKI,
    "enterprise-metrics": _MIMIR,
    "enterprise-traces": _TEMPO,
    "grafana": _GRAFANA,
    "grafana-enterprise": _GRAFANA,
    "grafana-oss": _GRAFANA,
    "loki": _LOKI,
    "mimir": _MIMIR,
    "tempo": _TEMPO,
    "thanos": THANOS,
    "victoria-logs": _VICTORIA_LOGS,
    "victoria-metrics": _VICTORIA_METRICS,
    "victoria-traces": _VICTORIA_TRACES,
    "victoriametrics": _VICTORIA_METRICS,
    "vmsingle": _VICTORIA_METRICS,
    "vmstorage": _VMSTORAGE,
}
"""Every product but Prometheus, which webhook.objects.prometheus knows by more than its image."""


_BITNAMI = re.compile(r"(?:^|/)bitnami(?:legacy|secure)?/")
"""Its images have folders of their own."""


class Kept(NamedTuple):
    """A container that keeps a store's data, and the folder in which; empty where only its configuration tells."""

    container: Container
    store: Store
    folder: str


def kept_by(workload: Workload) -> Iterator[Kept]:
    """The stores in a workload's pods. What runs to its end keeps nothing that anybody counts on."""
    if workload.kind in ("Job", "CronJob"):
        return
    for container in workload.containers:
        store = _store_of(workload, container)
        if store is not None and (workload.is_operated or _keeps_data(container, store)):
            yield Kept(container, store, _folder_of(container, store))


_OPERATED: Mapping[str, Store] = {"Alertmanager": ALERTMANAGER, "Prometheus": PROMETHEUS, "ThanosRuler": THANOS}
"""By the kind of an operator's resource: the store in the container that the operator makes of it."""


def _store_of(workload: Workload, container: Container) -> Store | None:
    if workload.is_operated:
        is_made = container.resources_path == f"{workload.spec_path}.resources"
        store = _OPERATED.get(workload.kind) if is_made else None
    elif holds_series(workload, container):
        store = PROMETHEUS
    else:
        store = None if container.role == "init" else PRODUCTS.get(product_of(container.image).name)
    return None if store is PROMETHEUS and is_agent(workload, container) else store


def _keeps_data(container: Container, store: Store) -> bool:
    if not store.parts:
        return True
    if store is THANOS:
        return thanos_command(container) in store.parts
    return not store.parts.isdisjoint((flag_value(container, "target") or "all").split(","))


def _folder_of(container: Container, store: Store) -> str:
    """Where the store's files are; empty if it is a variable's value, or only its configuration tells."""
    home, folder = store.home, store.folder
    if folder and _BITNAMI.search(container.image):
        home = f"/opt/bitnami/{store.name.lower()}"
        folder = f"{home}/data"
    told = grafana_setting(container, *store.setting) if store.setting else flag_value(container, *store.flags)
    if not told:
        return folder
    return "" if "$" in told else normpath(join(home, told))


def grafana_setting(container: Container, section: str, key: str) -> str:
    """A setting that Grafana's command line or environment names a value for; empty if neither does."""
    if told := grafana_argument(container, section, key):
        return told
    for variable in items(container.spec, "env", container.path):
        if variable.get("name") == f"GF_{section}_{key}".upper():
            return str(variable.get("value") or "")
    return ""


def grafana_argument(container: Container, section: str, key: str) -> str:
    """A setting on Grafana's command line (cfg:default.paths.data=/data), which counts for more than variables."""
    lists = (container.spec.get(part) for part in ("command", "args"))
    words = "\n".join(str(word) for part in lists if isinstance(part, list) for word in part)
    found = re.findall(rf"(?<!\S)cfg:(?:default\.)?{section}\.{key}=(\S+)", words)
    return str(found[-1]) if found else ""


_COMMANDS = frozenset({"compact", "query", "query-frontend", "receive", "rule", "sidecar", "store", "tools"})


def thanos_command(container: Container) -> str:
    """Which of its programs a Thanos container runs: "sidecar", "receive"; empty if nothing says so."""
    lists = (container.spec.get(part) for part in ("command", "args"))
    words = (word for part in lists if isinstance(part, list) for text in part for word in str(text).split())
    return next((word for word in words if word in _COMMANDS), "")
