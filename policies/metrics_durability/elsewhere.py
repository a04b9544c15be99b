"""Whether a store has its data outside its pod as well: what its own flags, its configuration and its pod say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from policies.metrics_durability.pod import OBJECT_STORES, Pod
from policies.metrics_durability.stores import Elsewhere, Kept, grafana_argument
from webhook.objects.config_maps import mounted_file
from webhook.objects.config_text import inside, is_too_long, read_ini, read_yaml
from webhook.objects.fields import items, mapping
from webhook.objects.prometheus import flag_value, sends_elsewhere
from webhook.policy import FactReference

_LOCAL = frozenset({"filesystem", "inmemory", "in-memory", "local"})
"""The backends of Loki, Mimir and Tempo that are files of the container."""
_KINDS = frozenset({"alibabacloud", "azure", "bos", "filesystem", "gcs", "s3", "swift"})
_DATABASES = frozenset({"mysql", "postgres"})


class Sent(NamedTuple):
    """Whether the data is outside the pod as well: None if that can't be told, and then `why`, and what to look up.

    `where` is where it is to be written, if that is known: "spec.remoteWrite", "ConfigMap 'prometheus'".
    """

    is_sent: bool | None
    why: str = ""
    where: str = ""
    unseen: tuple[FactReference, ...] = ()


_YES, _NO = Sent(True), Sent(False)


def sent(pod: Pod, kept: Kept) -> Sent:
    """Whether a store's data is outside its pod as well."""
    return _WAYS[kept.store.elsewhere](pod, kept)


def _by_remote_write(pod: Pod, kept: Kept) -> Sent:
    if pod.has_thanos_sidecar:
        return _YES
    if pod.workload.is_operated:
        return Sent(sends_elsewhere(pod.workload.spec), where=f"{pod.workload.spec_path}.remoteWrite")
    path = flag_value(kept.container, "config.file") or "/etc/prometheus/prometheus.yml"
    return _by_file(pod, kept, path, lambda found: bool(found.get("remote_write")))


def _by_file(pod: Pod, kept: Kept, path: str, tells: Callable[[Mapping[str, Any]], bool | None]) -> Sent:
    """What the YAML file at this path says; `tells` is None for what it doesn't say."""
    file = mounted_file(pod.workload, kept.container, path, pod.facts)
    if file.text is None:
        return Sent(None, f"its configuration {path} {file.why}", unseen=file.unseen)
    found = read_yaml(file.text)
    if found is None:
        why = "is longer than is read" if is_too_long(file.text) else "is not YAML that can be read"
        return Sent(None, f"its configuration {path} in ConfigMap {file.source!r} {why}")
    told = tells(found)
    if told is None:
        return Sent(None, f"its configuration {path} in ConfigMap {file.source!r} doesn't say where its data goes")
    return Sent(told, where=f"ConfigMap {file.source!r}")


def _by_flags(pod: Pod, kept: Kept) -> Sent:
    """Thanos: object storage, or a ruler that writes to another's."""
    if pod.workload.is_operated:
        fields = ("objectStorageConfig", "objectStorageConfigFile", "remoteWrite")
        is_sent = any(pod.workload.spec.get(field) for field in fields)
        return Sent(is_sent, where=f"{pod.workload.spec_path}.{fields[0]}")
    is_sent = flag_value(kept.container, *OBJECT_STORES, "remote-write.config-file", "remote-write.config") is not None
    return Sent(is_sent, where="--objstore.config-file")


def _by_configuration(pod: Pod, kept: Kept) -> Sent:
    """Loki, Mimir and Tempo: the backend that a flag or the configuration file names."""
    container = kept.container
    if backend := flag_value(container, "blocks-storage.backend", "common.storage.backend", "storage.trace.backend"):
        return Sent(backend not in _LOCAL)
    path = flag_value(container, "config.file")
    if path is None:
        return Sent(None, "it names no configuration file")
    return _by_file(pod, kept, path, _names_object_store)


def _names_object_store(found: Mapping[str, Any]) -> bool | None:
    """Whether the last backend that is named is elsewhere; None if none is named."""
    backends = [backend for backend in _backends(found) if isinstance(backend, str)]
    return backends[-1] not in _LOCAL if backends else None


def _backends(found: Mapping[str, Any]) -> Iterator[Any]:
    common = inside(found, "common", "storage")
    yield inside(common, "backend")
    # Loki has no field for the backend here, but one for each kind; of several, files aren't what is meant.
    kinds = _KINDS.intersection(common) if isinstance(common, Mapping) and "backend" not in common else ()
    yield from sorted(kinds, key=lambda kind: kind not in _LOCAL)
    yield inside(found, "blocks_storage", "backend")
    yield inside(found, "storage", "trace", "backend")
    periods = inside(found, "schema_config", "configs")
    # Each period of Loki's schema has its own; the last is the one that is written to.
    yield from (inside(period, "object_store") for period in (periods if isinstance(periods, list) else ())[-1:])


def _by_backup(pod: Pod, _kept: Kept) -> Sent:
    return Sent(pod.has_backup)


def _by_peers(pod: Pod, kept: Kept) -> Sent:
    """Alertmanagers that are each other's peers have all silences; of an operator's replicas they always are."""
    replicas = mapping(pod.workload.object, "spec", "").get("replicas")
    is_many = isinstance(replicas, int) and replicas > 1
    return Sent(is_many and (pod.workload.is_operated or flag_value(kept.container, "cluster.peer") is not None))


def _by_database(pod: Pod, kept: Kept) -> Sent:
    """Grafana: a database of its own is a file beside its other ones."""
    for key in ("url", "type"):
        if told := grafana_argument(kept.container, "database", key):
            return Sent(told.partition(":")[0] in _DATABASES)
    variables = {
        str(variable.get("name")): variable for variable in items(kept.container.spec, "env", kept.container.path)
    }
    for name in ("GF_DATABASE_URL", "GF_DATABASE_TYPE"):
        if (variable := variables.get(name)) is not None:
            if variable.get("value") is None:
                return Sent(None, f"variable {name} takes its value from elsewhere")
            return Sent(str(variable["value"]).partition(":")[0] in _DATABASES)
    if kept.container.spec.get("envFrom"):
        return Sent(None, "its variables come from another object (envFrom)")
    named = flag_value(kept.container, "config") or (variables.get("GF_PATHS_CONFIG") or {}).get("value")
    path = str(named or "/etc/grafana/grafana.ini")
    file = mounted_file(pod.workload, kept.container, path, pod.facts)
    if file.text is None:
        # The image's own file names no database.
        return Sent(None, f"its configuration {path} {file.why}", unseen=file.unseen) if file.is_mounted else _NO
    database = read_ini(file.text).get("database", {})
    return Sent((database.get("url") or database.get("type") or "").partition(":")[0] in _DATABASES)


_WAYS: Mapping[Elsewhere, Callable[[Pod, Kept], Sent]] = {
    "remote_write": _by_remote_write,
    "flags": _by_flags,
    "configuration": _by_configuration,
    "backup": _by_backup,
    "peers": _by_peers,
    "database": _by_database,
    "always": lambda _pod, _kept: _YES,
}
