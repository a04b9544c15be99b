"""The operator's resources that say what is scraped, as facts: what one selects, and how often it is scraped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from sys import intern
from typing import Any

import msgspec

from policies.scrape_endpoints.grouped import Grouped
from webhook.objects.facts import Metadata, Wire, WirePart
from webhook.objects.label_selectors import Labels, Selector, WiredSelector, read_labels, selector_of
from webhook.policy import FactKind, FactReference, GroupKind

GROUP = "monitoring.coreos.com"
SERVICE_MONITOR = GroupKind(GROUP, "ServiceMonitor", "servicemonitors")
POD_MONITOR = GroupKind(GROUP, "PodMonitor", "podmonitors")
PROBE = GroupKind(GROUP, "Probe", "probes")
SCRAPE_CONFIG = GroupKind(GROUP, "ScrapeConfig", "scrapeconfigs")


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """An endpoint of a monitor: the port's name in the Service or pod, or its number or name among the containers'."""

    port: str = ""
    target: int | str = ""


class Monitor(msgspec.Struct, frozen=True, gc=False):
    """A ServiceMonitor, PodMonitor, Probe or ScrapeConfig.

    selector    what its Services, pods or Ingresses are selected by; a ScrapeConfig has none, nor a Probe that names
                its targets
    namespaces  where they are looked for: its own where it names none, None for all
    """

    kind: str
    namespace: str
    name: str
    labels: Labels
    selector: Selector | None
    namespaces: tuple[str, ...] | None
    endpoints: tuple[Endpoint, ...]
    created: str = ""

    def reaches(self, namespace: str) -> bool:
        return self.namespaces is None or namespace in self.namespaces


class _NamespaceSelector(WirePart):
    any: bool | None = None
    match_names: list[str] | None = None


class _Endpoint(WirePart):
    port: str | None = None
    port_number: int | None = None
    target_port: int | str | None = None


class _Ingress(WirePart):
    selector: WiredSelector | None = None
    namespace_selector: _NamespaceSelector | None = None


class _Targets(WirePart):
    static_config: dict[str, Any] | None = None
    ingress: _Ingress | None = None


class _Spec(WirePart):
    targets: _Targets | None = None
    selector: WiredSelector | None = None
    namespace_selector: _NamespaceSelector | None = None
    endpoints: list[_Endpoint] | None = None
    pod_metrics_endpoints: list[_Endpoint] | None = None


class _Monitor(Wire):
    spec: _Spec | None = None


def _read(kind: str, reference: FactReference, metadata: Metadata, wired: _Monitor) -> Monitor:
    spec = wired.spec or _Spec()
    targets = spec.targets or _Targets()
    # Where both are named, the operator passes the Ingresses over.
    ingress = targets.ingress if kind == PROBE.kind and targets.static_config is None else None
    selected, path = (
        (ingress.selector or WiredSelector(), "spec.targets.ingress") if ingress else (spec.selector, "spec")
    )
    return Monitor(
        kind=kind,
        namespace=reference.namespace,
        name=reference.name,
        labels=read_labels(metadata.labels, "metadata.labels"),
        selector=selector_of(selected, f"{path}.selector"),
        namespaces=_namespaces(ingress.namespace_selector if ingress else spec.namespace_selector, reference.namespace),
        endpoints=_shared(tuple(map(_read_endpoint, spec.endpoints or spec.pod_metrics_endpoints or ()))),
        created=metadata.creation_timestamp or "",
    )


def _namespaces(selector: _NamespaceSelector | None, own: str) -> tuple[str, ...] | None:
    if selector is not None and selector.any:
        return None
    return _shared_names(tuple(selector.match_names if selector and selector.match_names else (own,)))


@lru_cache(maxsize=1024)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


@lru_cache(maxsize=256)
def _shared(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return endpoints


def _read_endpoint(wired: _Endpoint) -> Endpoint:
    target = wired.port_number or wired.target_port or ""
    return Endpoint(intern(wired.port or ""), intern(target) if isinstance(target, str) else target)


def _kind(kind: GroupKind, version: str = "v1") -> FactKind[tuple[str, str], Monitor]:
    return FactKind(
        group=kind.group,
        kind=kind.kind,
        resource=kind.resource,
        wire=_Monitor,
        read=partial(_read, kind.kind),
        key="namespace and name",
        version=version,
        spans=True,
    )


SERVICE_MONITORS = _kind(SERVICE_MONITOR)
POD_MONITORS = _kind(POD_MONITOR)
PROBES = _kind(PROBE)
SCRAPE_CONFIGS = _kind(SCRAPE_CONFIG, "v1alpha1")
MONITORS: Mapping[str, FactKind[Any, Monitor]] = {
    kind.kind: kind for kind in (SERVICE_MONITORS, POD_MONITORS, PROBES, SCRAPE_CONFIGS)
}
"""By what they are called."""
SERVICE_MONITORS_OF = Grouped(SERVICE_MONITORS, lambda monitor: monitor.namespaces)
"""By the namespaces in which they look for Services."""
