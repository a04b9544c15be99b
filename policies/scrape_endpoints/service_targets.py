"""A Service that is scraped: its annotations, and whether the ports that it sends to are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policies.scrape_endpoints import prometheuses, templates
from policies.scrape_endpoints.annotations import AnnotatedObject, Port, examine_annotations
from policies.scrape_endpoints.monitors import SERVICE_MONITORS_OF, Monitor
from policies.scrape_endpoints.prometheuses import all_prometheuses, takes
from policies.scrape_endpoints.services import SERVICES, Service, ServicePort
from policies.scrape_endpoints.telling import listed, violation
from policies.scrape_endpoints.templates import Template, selected_templates
from webhook.objects.facts import ClusterFacts, record_of
from webhook.objects.fields import mapping
from webhook.objects.label_selectors import EVERYTHING, Selector
from webhook.policy import AdmissionRequest, Violation

# The pods of the operator's resources, which it labels so.
_OPERATED = frozenset({"operator.prometheus.io/name", "prometheus", "alertmanager", "thanos-ruler"})


def examine_service(request: AdmissionRequest, facts: ClusterFacts) -> Iterator[Violation]:
    obj = request.object or {}
    service = record_of(SERVICES, obj, request.namespace)
    annotations = mapping(mapping(obj, "metadata", ""), "annotations", "metadata")
    if service.keys is None and not annotations and service.selector is None:
        return
    pods = selected_templates(service.selector, (service.namespace,), facts) if service.selector else []
    ports = [Port(port.name, _number(port, pods)) for port in service.ports]
    whose = f"Service {service.name!r}"
    yield from _examine_own_annotations(
        AnnotatedObject("metadata.annotations", annotations, ports, whose, f"{whose} sends to"), service
    )
    why = why_scraped(service, facts)
    if service.selector is None or not why:
        return
    monitors = list(monitors_of(service, facts))
    if not pods:
        yield from _without_pods(service, service.selector, why, facts)
        return
    for index, port in enumerate(service.ports):
        if isinstance(port.target, str) and _is_scraped(port, service, monitors):
            yield from _examine_target(f"spec.ports[{index}].targetPort", port, service, pods)


def monitors_of(service: Service, facts: ClusterFacts) -> Iterator[Monitor]:
    """The ServiceMonitors that select the Service, and that a Prometheus takes, where it is known which there are:
    anybody can write a monitor that selects everybody's Services."""
    takers = list(all_prometheuses(facts)) if prometheuses.are_known(facts) else []
    for monitor in SERVICE_MONITORS_OF.concerning(service.namespace, facts):
        is_taken = not takers or any(takes(prometheus, monitor, facts) for prometheus in takers)
        if is_taken and (monitor.selector or EVERYTHING).selects(service.labels):
            yield monitor


def why_scraped(service: Service, facts: ClusterFacts) -> str:
    """What has the Service scraped; empty if nothing does."""
    if service.keys is not None and service.keys.is_scraped:
        return "its annotations ask for it"
    monitor = next(monitors_of(service, facts), None)
    return f"ServiceMonitor {monitor.namespace}/{monitor.name} selects it" if monitor else ""


def _number(port: ServicePort, pods: Sequence[Template]) -> int | None:
    """The number of the pods' port that the Service's sends to, None where only its name is known."""
    if isinstance(port.target, int):
        return port.target
    return next((declared.number for pod in pods for declared in pod.ports if declared.name == port.target), None)


def _examine_own_annotations(annotated: AnnotatedObject, service: Service) -> Iterator[Violation]:
    for found in examine_annotations(annotated):
        mistaken = [port for port in service.ports if str(port.port) == found.value and port.target != port.port]
        if found.at_most == "warn" and found.subject.endswith("port") and mistaken:
            target = mistaken[0].target
            yield violation(
                found.path,
                found.subject,
                f"annotation {found.subject} is {found.value}, the Service's own port, and Prometheus asks the pods, "
                f"which listen on {target!r}",
                f'set it to "{target}"' if isinstance(target, int) else "set it to that port's number",
                value=str(found.value),
            )
        else:
            yield found


def _is_scraped(port: ServicePort, service: Service, monitors: Sequence[Monitor]) -> bool:
    if any(not endpoint.port or endpoint.port == port.name for monitor in monitors for endpoint in monitor.endpoints):
        return True
    # The annotated port is asked of the pods whatever the Service says.
    return service.keys is not None and service.keys.is_scraped and not service.keys.port


def _without_pods(service: Service, selector: Selector, why: str, facts: ClusterFacts) -> Iterator[Violation]:
    is_known = templates.are_known(facts)
    # Servers don't know what workloads there are; the audit and check do.
    if not is_known and (SERVICES in facts.known or not _OPERATED.isdisjoint(selector.labels.keys)):
        return
    wrong = f"Service {service.name!r} is to be scraped ({why}), and no workload "
    if is_known:
        wrong += f"of namespace {service.namespace!r} has pods with its labels ({selector})"
    else:
        wrong += f"that is seen here has pods with its labels ({selector}): cannot tell whether there are any"
    yield violation(
        "spec.selector",
        service.name,
        wrong,
        "set spec.selector to labels of the pods' template",
        is_unknown=not is_known,
    )


def _examine_target(path: str, port: ServicePort, service: Service, pods: Sequence[Template]) -> Iterator[Violation]:
    declared = {port.name for pod in pods for port in pod.ports}
    if port.target in declared:
        return
    yield violation(
        path,
        port.name,
        f"Service {service.name!r} sends port {port.port} to the pods' port {port.target!r}, which no container of "
        f"{pods[0].kind} {pods[0].name!r} declares (declared: {listed(filter(None, declared))})",
        "name the container's port so, or set targetPort to one that is declared",
        value=str(port.target),
    )
