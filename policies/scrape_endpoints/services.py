"""Services as facts: what a Service's labels and ports are, and which pods it selects."""

from __future__ import annotations

from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

import msgspec

from policies.scrape_endpoints.grouped import Grouped
from policies.scrape_endpoints.keys import Keys, keys_of
from webhook.objects.facts import Metadata, Wire, WirePart
from webhook.objects.label_selectors import Labels, Selector, read_labels
from webhook.policy import FactKind, FactReference


class ServicePort(NamedTuple):
    """A port of a Service; `name` is empty where it has none, `target` the pods' port, by number or by name."""

    name: str
    port: int
    target: int | str


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service; `keys` are its prometheus.io/ annotations, `selected` the labels of its pods, none where it has a list
    of endpoints instead."""

    namespace: str
    name: str
    labels: Labels
    selected: Labels
    ports: tuple[ServicePort, ...]
    keys: Keys | None = None

    @property
    def selector(self) -> Selector | None:
        """What selects its pods; None where it selects none itself."""
        return Selector(self.selected) if self.selected.keys else None


class _Port(WirePart):
    name: str | None = None
    port: int | None = None
    target_port: int | str | None = None


class _Spec(WirePart):
    type: str | None = None
    selector: dict[str, Any] | None = None
    ports: list[_Port] | None = None


class _Service(Wire):
    spec: _Spec | None = None


def _read(reference: FactReference, metadata: Metadata, wired: _Service) -> Service:
    spec = wired.spec or _Spec()
    return Service(
        namespace=reference.namespace,
        name=reference.name,
        labels=read_labels(metadata.labels, "metadata.labels"),
        selected=read_labels(spec.selector if spec.type != "ExternalName" else None, "spec.selector"),
        ports=_shared_ports(tuple(_read_port(port) for port in spec.ports or ())),
        keys=keys_of(metadata.annotations),
    )


# Thousands of Services have the same few ports.
@lru_cache(maxsize=1024)
def _shared_ports(ports: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
    return ports


def _read_port(wired: _Port) -> ServicePort:
    port = wired.port or 0
    target = port if wired.target_port in (None, 0, "") else wired.target_port
    return ServicePort(intern(wired.name or ""), port, intern(target) if isinstance(target, str) else target or port)


SERVICES: FactKind[tuple[str, str], Service] = FactKind(
    group="", kind="Service", resource="services", wire=_Service, read=_read, key="namespace and name", spans=True
)
SERVICES_IN = Grouped(SERVICES, lambda service: (service.namespace,))
