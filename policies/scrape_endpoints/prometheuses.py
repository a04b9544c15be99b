"""Prometheus and PrometheusAgent resources as facts: which monitors one selects, and how often it scrapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from policies.scrape_endpoints.monitors import GROUP, Monitor
from webhook.objects.durations import OPERATED_INTERVAL, parse_duration
from webhook.objects.facts import NAMESPACES, ClusterFacts, Metadata, Wire, WirePart
from webhook.objects.label_selectors import Selector, WiredSelector, selector_of
from webhook.policy import FactKind, FactReference

_FIELDS: Mapping[str, str] = {
    "ServiceMonitor": "serviceMonitor",
    "PodMonitor": "podMonitor",
    "Probe": "probe",
    "ScrapeConfig": "scrapeConfig",
}


class Selection(msgspec.Struct, frozen=True, gc=False):
    """Which monitors of a kind a Prometheus takes: by labels, None for none, and by their namespace, None for its own
    alone."""

    labels: Selector | None = None
    namespaces: Selector | None = None


class Prometheus(msgspec.Struct, frozen=True, gc=False):
    """A Prometheus or PrometheusAgent; `interval` is what it scrapes at, in milliseconds, None if it isn't a duration.

    `selections` is by the kind of monitor.
    """

    kind: str
    namespace: str
    name: str
    interval: int | None
    selections: Mapping[str, Selection]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class _Spec(WirePart):
    scrape_interval: str | None = None
    service_monitor_selector: WiredSelector | None = None
    service_monitor_namespace_selector: WiredSelector | None = None
    pod_monitor_selector: WiredSelector | None = None
    pod_monitor_namespace_selector: WiredSelector | None = None
    probe_selector: WiredSelector | None = None
    probe_namespace_selector: WiredSelector | None = None
    scrape_config_selector: WiredSelector | None = None
    scrape_config_namespace_selector: WiredSelector | None = None


class _Prometheus(Wire):
    spec: _Spec | None = None


def _read(kind: str, reference: FactReference, _metadata: Metadata, wired: _Prometheus) -> Prometheus:
    spec = wired.spec or _Spec()
    return Prometheus(
        kind=kind,
        namespace=reference.namespace,
        name=reference.name,
        interval=parse_duration(spec.scrape_interval) if spec.scrape_interval else OPERATED_INTERVAL,
        selections={
            kind: Selection(selector_of(labels, selector_field(kind)), selector_of(namespaces, namespace_field(kind)))
            for kind, labels, namespaces in (
                ("ServiceMonitor", spec.service_monitor_selector, spec.service_monitor_namespace_selector),
                ("PodMonitor", spec.pod_monitor_selector, spec.pod_monitor_namespace_selector),
                ("Probe", spec.probe_selector, spec.probe_namespace_selector),
                ("ScrapeConfig", spec.scrape_config_selector, spec.scrape_config_namespace_selector),
            )
        },
    )


def _kind(kind: str, resource: str, version: str) -> FactKind[tuple[str, str], Prometheus]:
    return FactKind(
        group=GROUP,
        kind=kind,
        resource=resource,
        wire=_Prometheus,
        read=partial(_read, kind),
        key="namespace and name",
        version=version,
        spans=True,
    )


PROMETHEUSES = _kind("Prometheus", "prometheuses", "v1")
PROMETHEUS_AGENTS = _kind("PrometheusAgent", "prometheusagents", "v1alpha1")


def all_prometheuses(facts: ClusterFacts) -> Iterator[Prometheus]:
    for kind in (PROMETHEUSES, PROMETHEUS_AGENTS):
        yield from facts.of(kind).values()


def are_known(facts: ClusterFacts) -> bool:
    """Whether every Prometheus of the cluster is among the facts."""
    return facts.knows_all(PROMETHEUSES, PROMETHEUS_AGENTS)


def selector_field(kind: str) -> str:
    """The field by which a Prometheus selects monitors of a kind by their labels."""
    return f"spec.{_FIELDS[kind]}Selector"


def namespace_field(kind: str) -> str:
    """The field by which a Prometheus selects the namespaces of monitors of a kind."""
    return f"spec.{_FIELDS[kind]}NamespaceSelector"


def takes_namespace(prometheus: Prometheus, kind: str, namespace: str, facts: ClusterFacts) -> bool:
    """Whether the Prometheus looks for monitors of a kind in the namespace; it does where its labels aren't known."""
    selector = prometheus.selections[kind].namespaces
    if selector is None:
        return namespace == prometheus.namespace
    labels = facts.of(NAMESPACES).get(namespace)
    return selector.is_everything or labels is None or selector.selects(labels)


def takes(prometheus: Prometheus, monitor: Monitor, facts: ClusterFacts) -> bool:
    """Whether the Prometheus takes the monitor."""
    labels = prometheus.selections[monitor.kind].labels
    return (
        labels is not None
        and labels.selects(monitor.labels)
        and takes_namespace(prometheus, monitor.kind, monitor.namespace, facts)
    )
