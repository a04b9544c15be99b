"""Objects that pods are made from although no policy judges their kind: whoever checks files is told of them.

A kind that holds a pod spec is known by its looks, whatever it is called; one from which an operator or a chart makes
the pods, by its API group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from webhook.policy import Object

_CHARTS = {
    ("argoproj.io", "Application"),
    ("argoproj.io", "ApplicationSet"),
    ("fleet.cattle.io", "Bundle"),
    ("helm.cattle.io", "HelmChart"),
    ("helm.toolkit.fluxcd.io", "HelmRelease"),
    ("kustomize.toolkit.fluxcd.io", "Kustomization"),
}
"""What deploys other manifests."""
_OPERATED = {
    "acid.zalan.do",
    "clickhouse.altinity.com",
    "elasticsearch.k8s.elastic.co",
    "grafana.integreatly.org",
    "jaegertracing.io",
    "kafka.strimzi.io",
    "loki.grafana.com",
    "monitoring.rhobs",
    "operator.victoriametrics.com",
    "opensearch.opster.io",
    "opentelemetry.io",
    "postgresql.cnpg.io",
    "rabbitmq.com",
    "tempo.grafana.com",
}
"""API groups of operators whose resources describe pods by fields of their own."""
# ControllerRevisions hold templates of what is judged; definitions of resources describe fields, and hold none.
_HOLDS_NONE = {("apps", "ControllerRevision"), ("apiextensions.k8s.io", "CustomResourceDefinition")}
_DEPTH = 12


class Unjudged(NamedTuple):
    """A kind that isn't judged, and how its pods come about: by a pod spec at one of `paths`, in which [*] is every
    item of a list, or by what `maker` names."""

    group: str
    kind: str
    paths: tuple[str, ...] = ()
    maker: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.group})" if self.group else self.kind


def unjudged_kind(group: str, kind: str, obj: Object) -> Unjudged | None:
    """The kind of an object that isn't judged, None if no pods come of it."""
    if (group, kind) in _HOLDS_NONE:
        return None
    if paths := tuple(dict.fromkeys(_pod_specs(obj.get("spec"), "spec", 0))):
        return Unjudged(group, kind, paths)
    if (group, kind) in _CHARTS:
        return Unjudged(group, kind, maker="chart")
    return Unjudged(group, kind, maker="operator") if group in _OPERATED else None


def _pod_specs(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        return
    if isinstance(value, dict):
        if _holds_containers(value):
            yield path
            return
        for key, child in value.items():
            if isinstance(child, dict | list):
                yield from _pod_specs(child, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _pod_specs(item, f"{path}[*]", depth + 1)


def _holds_containers(value: Mapping[str, Any]) -> bool:
    containers = value.get("containers")
    return isinstance(containers, list) and any(
        isinstance(container, dict) and isinstance(container.get("image"), str) for container in containers
    )
