"""Pod templates as facts: the labels of a workload's pods, and the ports that their containers declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from sys import intern
from typing import NamedTuple

import msgspec

from policies.scrape_endpoints.grouped import Grouped
from webhook.objects.facts import ClusterFacts, Metadata, Wire, WirePart
from webhook.objects.label_selectors import Labels, Selector, read_labels
from webhook.objects.live.top_level import LiveMetadata
from webhook.policy import FactKind, FactReference


class DeclaredPort(NamedTuple):
    """A port that a container declares; `name` is empty where it has none."""

    name: str
    number: int


class Template(msgspec.Struct, frozen=True, gc=False):
    """What a workload makes its pods from, or a pod that no such workload made."""

    kind: str
    namespace: str
    name: str
    labels: Labels = Labels()
    ports: tuple[DeclaredPort, ...] = ()


class _Port(WirePart):
    name: str | None = None
    container_port: int | None = None


class _Container(WirePart):
    ports: list[_Port] | None = None


class _JobTemplate(WirePart):
    spec: _Spec | None = None


class _Spec(WirePart):
    """The spec of a workload, or of a pod."""

    template: _Template | None = None
    job_template: _JobTemplate | None = None
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Template(WirePart):
    metadata: Metadata | None = None
    spec: _Spec | None = None


class _Workload(Wire):
    metadata: LiveMetadata | None = None
    spec: _Spec | None = None


def _read(kind: str, reference: FactReference, metadata: LiveMetadata, wired: _Workload) -> Template | None:
    if any(owner.controller and owner.kind in _MAKERS for owner in metadata.owner_references or ()):
        return None  # its maker tells of it, and earlier rollouts' ReplicaSets don't count
    spec = wired.spec or _Spec()
    spec = (spec.job_template or _JobTemplate()).spec or spec
    template = _Template(metadata, spec) if kind == "Pod" else spec.template or _Template()
    pod = template.spec or _Spec()
    path = "metadata.labels" if kind == "Pod" else "spec.template.metadata.labels"
    return Template(
        kind,
        reference.namespace,
        reference.name,
        read_labels((template.metadata or Metadata()).labels, path),
        _shared_ports(
            tuple(
                DeclaredPort(intern(port.name or ""), port.container_port or 0)
                for container in (*(pod.containers or ()), *(pod.init_containers or ()))
                for port in container.ports or ()
            )
        ),
    )


# Thousands of pods have the same few ports.
@lru_cache(maxsize=1024)
def _shared_ports(ports: tuple[DeclaredPort, ...]) -> tuple[DeclaredPort, ...]:
    return ports


def _kind(group: str, kind: str, resource: str, version: str = "v1") -> FactKind[tuple[str, str], Template]:
    # A cluster's workloads change all the time, and servers have no need of them: what a Service or monitor selects may
    # come a moment later.
    return FactKind(
        group=group,
        kind=kind,
        resource=resource,
        wire=_Workload,
        read=partial(_read, kind),
        key="namespace and name",
        version=version,
        on_servers=False,
    )


TEMPLATES = (
    _kind("", "Pod", "pods"),
    _kind("", "ReplicationController", "replicationcontrollers"),
    _kind("apps", "DaemonSet", "daemonsets"),
    _kind("apps", "Deployment", "deployments"),
    _kind("apps", "ReplicaSet", "replicasets"),
    _kind("apps", "StatefulSet", "statefulsets"),
    _kind("apps.openshift.io", "DeploymentConfig", "deploymentconfigs"),
    _kind("argoproj.io", "Rollout", "rollouts", "v1alpha1"),
    _kind("batch", "CronJob", "cronjobs"),
    _kind("batch", "Job", "jobs"),
)
_MAKERS = frozenset(kind.kind for kind in TEMPLATES)
_IN_NAMESPACE = tuple(Grouped(kind, lambda template: (template.namespace,)) for kind in TEMPLATES)


def all_templates(facts: ClusterFacts) -> Iterator[Template]:
    for kind in TEMPLATES:
        yield from facts.of(kind).values()


def selected_templates(selector: Selector, namespaces: Iterable[str] | None, facts: ClusterFacts) -> list[Template]:
    """The templates whose pods the selector selects, in these namespaces or, for None, in all."""
    within = all_templates(facts) if namespaces is None else _templates_in(namespaces, facts)
    return [template for template in within if selector.selects(template.labels)]


def _templates_in(namespaces: Iterable[str], facts: ClusterFacts) -> Iterator[Template]:
    for namespace in dict.fromkeys(namespaces):
        for kind in _IN_NAMESPACE:
            yield from kind.concerning(namespace, facts)


def are_known(facts: ClusterFacts) -> bool:
    """Whether every workload and pod of the cluster is among the facts."""
    return facts.knows_all(*TEMPLATES)
