"""Pod templates as facts: the labels of a workload's pods, and the ports that their containers declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from sys import intern
from typing import NamedTuple

import msgspec

from policies.scrape_endpoints.grouped import Grouped
from webhook.objects.facts import ClusterFacts, Metadata, Wire, WirePart
from webhook.objects.facts.decoding import read_texts
from webhook.objects.label_selectors import Selector
from webhook.policy import FactKind, FactReference


class DeclaredPort(NamedTuple):
    """A port that a container declares; `name` is empty where it has none."""

    name: str
    number: int


class Template(msgspec.Struct, frozen=True, gc=False):
    """What a Deployment, StatefulSet or DaemonSet makes its pods from."""

    kind: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    ports: tuple[DeclaredPort, ...]


class _Port(WirePart):
    name: str | None = None
    container_port: int | None = None


class _Container(WirePart):
    ports: list[_Port] | None = None


class _PodSpec(WirePart):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Template(WirePart):
    metadata: Metadata | None = None
    spec: _PodSpec | None = None


class _Spec(WirePart):
    template: _Template | None = None


class _Workload(Wire):
    spec: _Spec | None = None


def _read(kind: str, reference: FactReference, _metadata: Metadata, wired: _Workload) -> Template:
    template = (wired.spec or _Spec()).template or _Template()
    pod = template.spec or _PodSpec()
    containers = (*(pod.containers or ()), *(pod.init_containers or ()))
    return Template(
        kind=kind,
        namespace=reference.namespace,
        name=reference.name,
        labels=read_texts((template.metadata or Metadata()).labels, "spec.template.metadata.labels"),
        ports=tuple(
            DeclaredPort(intern(port.name or ""), port.container_port or 0)
            for container in containers
            for port in container.ports or ()
        ),
    )


def _kind(kind: str, resource: str) -> FactKind[tuple[str, str], Template]:
    # A cluster's workloads change all the time, and servers have no need of them: what a Service or monitor selects may
    # come a moment later.
    return FactKind(
        group="apps",
        kind=kind,
        resource=resource,
        wire=_Workload,
        read=partial(_read, kind),
        key="namespace and name",
        on_servers=False,
    )


TEMPLATES = (_kind("DaemonSet", "daemonsets"), _kind("Deployment", "deployments"), _kind("StatefulSet", "statefulsets"))
_TEMPLATES_IN = tuple(Grouped(kind, lambda template: (template.namespace,)) for kind in TEMPLATES)


def all_templates(facts: ClusterFacts) -> Iterator[Template]:
    for kind in TEMPLATES:
        yield from facts.of(kind).values()


def selected_templates(selector: Selector, namespaces: Iterable[str] | None, facts: ClusterFacts) -> list[Template]:
    """The templates whose pods the selector selects, in these namespaces or, for None, in all."""
    found = all_templates(facts) if namespaces is None else _within(dict.fromkeys(namespaces), facts)
    return [template for template in found if selector.selects(template.labels)]


def _within(namespaces: Iterable[str], facts: ClusterFacts) -> Iterator[Template]:
    return (
        template
        for grouped in _TEMPLATES_IN
        for namespace in namespaces
        for template in grouped.concerning(namespace, facts)
    )


def are_known(facts: ClusterFacts) -> bool:
    """Whether every Deployment, StatefulSet and DaemonSet of the cluster is among the facts."""
    return facts.known.issuperset(TEMPLATES)
