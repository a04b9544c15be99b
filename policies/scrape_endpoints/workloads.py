"""The pods of a workload: their annotations, and the Services by which they are scraped a second time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.scrape_endpoints.annotations import AnnotatedObject, Port, examine_annotations
from policies.scrape_endpoints.keys import Keys, keys_of, port_of
from policies.scrape_endpoints.services import SERVICES_IN, Service
from policies.scrape_endpoints.telling import listed, violation
from webhook.objects.facts import ClusterFacts
from webhook.objects.fields import items
from webhook.objects.pods import Workload
from webhook.policy import Violation


def examine_workload(workload: Workload, facts: ClusterFacts) -> Iterator[Violation]:
    annotations = workload.annotations
    if not any("prom" in key.casefold() for key in annotations):
        return
    # An operator gives its containers ports of its own.
    ports = [Port("", None)] if workload.is_operated else list(_ports(workload))
    path = f"{workload.metadata_path}.annotations"
    annotated = AnnotatedObject(path, annotations, ports, "the pods", "containers declare")
    yield from examine_annotations(annotated)
    keys = keys_of(annotations)
    if keys is not None and keys.is_scraped:
        yield from _examine_twice(workload, annotated, keys, facts)


def _ports(workload: Workload) -> Iterator[Port]:
    seen = set()
    for container in workload.containers:
        for port in items(container.spec, "ports", container.path):
            number = port.get("containerPort")
            found = Port(str(port.get("name") or ""), number if isinstance(number, int) else None)
            if found.number not in seen:
                seen.add(found.number)
                yield found


def _examine_twice(
    workload: Workload, annotated: AnnotatedObject, keys: Keys, facts: ClusterFacts
) -> Iterator[Violation]:
    """The same targets by the pods' annotations and by those of a Service."""
    own = _scraped(keys, annotated.ports)
    key = next(key for key in annotated.annotations if (one := keys_of({key: "true"})) and one.is_scraped)
    for service in SERVICES_IN.concerning(workload.namespace, facts):
        if service.keys is None or not service.keys.is_scraped:
            continue
        if service.selector is None or not service.selector.selects(workload.labels):
            continue
        both = own & _scraped(service.keys, _targets(service, annotated))
        if both:
            yield violation(
                annotated.place(key),
                service.name,
                f"the pods and Service {service.name!r} are both annotated, so that Prometheus scrapes port "
                f"{listed(both)} of each pod twice",
                "take the annotations from one of them",
            )


def _scraped(keys: Keys, ports: Sequence[Port]) -> set[int]:
    """The numbers of the pods' ports that these annotations have scraped."""
    if keys.port:
        return {number} if (number := port_of(keys.port)) else set()
    return {port.number for port in ports if port.number is not None}


def _targets(service: Service, annotated: AnnotatedObject) -> list[Port]:
    """The pods' ports that the Service sends to, where the pods declare them."""
    by_name = {port.name: port.number for port in annotated.ports if port.name}
    return [
        Port(port.name, port.target if isinstance(port.target, int) else by_name.get(port.target))
        for port in service.ports
    ]
