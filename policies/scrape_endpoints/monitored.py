"""A ServiceMonitor, PodMonitor, Probe or ScrapeConfig: what is wrong with it by itself, and what it selects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from policies.scrape_endpoints import templates
from policies.scrape_endpoints.ingresses import examine_ingresses
from policies.scrape_endpoints.monitors import MONITORS, Monitor
from policies.scrape_endpoints.prometheuses import Prometheus, all_prometheuses, takes
from policies.scrape_endpoints.scrapes import Fields, Scrape, at, examine_request, examine_times
from policies.scrape_endpoints.services import SERVICES, SERVICES_IN, Service
from policies.scrape_endpoints.taken import examine_taking
from policies.scrape_endpoints.telling import listed, violation
from policies.scrape_endpoints.templates import selected_templates
from webhook.objects.durations import OPERATED_INTERVAL, format_duration, parse_duration
from webhook.objects.facts import ClusterFacts, record_of
from webhook.objects.fields import items, mapping
from webhook.objects.label_selectors import EVERYTHING, Selector
from webhook.policy import AdmissionRequest, Set, Violation

_ENDPOINTS: Mapping[str, str] = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
_SCRAPE_CONFIG = Fields("scrapeInterval", "scrapeTimeout", "metricsPath")


def examine_monitor(request: AdmissionRequest, facts: ClusterFacts) -> Iterator[Violation]:
    obj = request.object or {}
    monitor = record_of(MONITORS[request.kind], obj, request.namespace)
    takers = [prometheus for prometheus in all_prometheuses(facts) if takes(prometheus, monitor, facts)]
    spec = mapping(obj, "spec", "")
    for scrape in _scrapes(monitor, spec):
        yield from examine_times(scrape)
        yield from _examine_inherited_interval(scrape, monitor, takers)
        yield from examine_request(scrape)
    if monitor.kind == "ServiceMonitor":
        yield from _examine_services(monitor, facts)
    elif monitor.kind == "PodMonitor":
        yield from _examine_pods(monitor, facts)
    elif monitor.kind == "Probe":
        yield from examine_ingresses(monitor, facts)
    if not takers:
        yield from examine_taking(monitor, facts)


def _scrapes(monitor: Monitor, spec: Mapping[str, Any]) -> Iterator[Scrape]:
    """Everything that the monitor has scraped."""
    if key := _ENDPOINTS.get(monitor.kind):
        for index, endpoint in enumerate(items(spec, key, "spec")):
            name = endpoint.get("port") or endpoint.get("portNumber") or endpoint.get("targetPort") or ""
            yield Scrape(str(name), Fields(), endpoint, at(f"spec.{key}[{index}]"))
    elif monitor.kind == "ScrapeConfig":
        yield Scrape(monitor.name, _SCRAPE_CONFIG, spec, at("spec"))
    else:
        times = {key: spec.get(key) for key in ("interval", "scrapeTimeout")}
        yield Scrape(monitor.name, Fields(), times, at("spec"))
        yield Scrape(monitor.name, Fields(), mapping(spec, "prober", "spec"), at("spec.prober"))


def _examine_inherited_interval(scrape: Scrape, monitor: Monitor, takers: Sequence[Prometheus]) -> Iterator[Violation]:
    """A timeout without an interval, which is then that of the Prometheus that takes the monitor."""
    field, written = scrape.fields.timeout, scrape.values.get(scrape.fields.timeout)
    timeout = parse_duration(written)
    if timeout is None or scrape.values.get(scrape.fields.interval):
        return
    refusing = [
        prometheus for prometheus in takers if prometheus.interval is not None and timeout > prometheus.interval
    ]
    if refusing:
        # Anybody may make a Prometheus that takes the monitors of others, whatever else reads them.
        is_certain = len(refusing) == len(takers) and any(
            prometheus.namespace == monitor.namespace for prometheus in refusing
        )
        interval = format_duration(refusing[0].interval or 0)
        yield violation(
            scrape.place(field),
            scrape.subject,
            f"{field} {written} is longer than the interval of {interval} at which {refusing[0]} scrapes, so that its "
            "operator passes the monitor over",
            f"set {field} to {interval} at most, or {scrape.fields.interval} to {written} beside it",
            at_most="deny" if is_certain else "warn",
            value=f"{written} of {interval}",
            advice=(Set(scrape.place(field), interval),),
        )
    if not takers and timeout > OPERATED_INTERVAL:
        yield violation(
            scrape.place(field),
            scrape.subject,
            f"{field} is {written}, and no {scrape.fields.interval} stands beside it: cannot tell whether that of the "
            f"Prometheus that takes it is as long ({format_duration(OPERATED_INTERVAL)} by default)",
            f"set {scrape.fields.interval} to {written} beside it",
            value=str(written),
            is_unknown=True,
        )


def selected_services(monitor: Monitor, facts: ClusterFacts) -> list[Service]:
    """The Services that a ServiceMonitor selects."""
    selector = monitor.selector or EVERYTHING
    return [service for service in _reached(monitor, facts) if selector.selects(service.labels)]


def _reached(monitor: Monitor, facts: ClusterFacts) -> Iterable[Service]:
    """The Services in the namespaces in which the monitor looks for some."""
    if monitor.namespaces is None:
        return facts.of(SERVICES).values()
    return (service for namespace in monitor.namespaces for service in SERVICES_IN.concerning(namespace, facts))


def _examine_services(monitor: Monitor, facts: ClusterFacts) -> Iterator[Violation]:
    selected = selected_services(monitor, facts)
    if not selected:
        yield _without_services(monitor, monitor.selector or EVERYTHING, list(_reached(monitor, facts)), facts)
        return
    selectors = dict.fromkeys((service.selector, service.namespace) for service in selected)
    # Many Services may select the same pods.
    pods = {
        (pod.kind, pod.namespace, pod.name): pod
        for selector, namespace in selectors
        if selector is not None
        for pod in selected_templates(selector, (namespace,), facts)
    }.values()
    declared = {port.name for pod in pods for port in pod.ports} | {port.number for pod in pods for port in pod.ports}
    for index, endpoint in enumerate(monitor.endpoints):
        path = f"spec.endpoints[{index}]"
        if endpoint.port:
            yield from _examine_port_name(f"{path}.port", endpoint.port, selected)
        elif endpoint.target and pods and endpoint.target not in declared:
            yield violation(
                f"{path}.targetPort",
                str(endpoint.target),
                f"targetPort {endpoint.target!r} is none that the containers of the selected Services' pods declare "
                f"({listed(filter(None, declared))})",
                "name one of them, or declare it",
                value=str(endpoint.target),
            )


def _examine_port_name(path: str, name: str, selected: Sequence[Service]) -> Iterator[Violation]:
    ports = [port for service in selected for port in service.ports]
    names = {port.name for port in ports if port.name}
    if name in names:
        return
    numbered = [port for port in ports if name in (str(port.port), str(port.target))]
    what = f"port {name!r} is the name of no port of Service {selected[0].name!r}"
    more = f" and {len(selected) - 1} others that are selected" if len(selected) > 1 else ""
    wrong = f"{what}{more} (names: {listed(names)})"
    meant = next((port.name for port in numbered if port.name), "") or (next(iter(names)) if len(names) == 1 else "")
    if meant:
        remedy = f"set port to {meant}"
    elif numbered:
        remedy = "give the Service's port a name, and name it here"
    else:
        remedy = "name a port of the Service, which has to have a name there"
    advice = (Set(path, meant),) if meant else ()
    yield violation(path, name, wrong, remedy, value=name, advice=advice)


def _without_services(
    monitor: Monitor, selector: Selector, reached: Sequence[Service], facts: ClusterFacts
) -> Violation:
    is_known = SERVICES in facts.known
    elsewhere = next(
        (
            service
            for service in facts.of(SERVICES).values()
            if not selector.is_everything and selector.selects(service.labels)
        ),
        None,
    )
    where = "in any namespace" if monitor.namespaces is None else f"in namespace {listed(monitor.namespaces)}"
    wrong = f"no Service {where} has the labels that this {monitor.kind} selects ({selector.told})"
    if not is_known:
        wrong = f"{wrong}, as far as is seen here: cannot tell whether the cluster has one"
    path, advice = "spec.selector", tuple[Set, ...]()
    if elsewhere is not None:
        remedy = (
            f"name namespace {elsewhere.namespace!r}, where Service {elsewhere.name!r} is, in spec.namespaceSelector"
        )
        path, advice = "spec.namespaceSelector", (Set("spec.namespaceSelector", {"matchNames": [elsewhere.namespace]}),)
    else:
        remedy = "select by the labels of the Service itself, not those of its pods or its selector"
        near = [(service, list(selector.lacking(service.labels))) for service in reached]
        close = next(
            ((service, lacks) for service, lacks in near if len(lacks) == 1 and len(selector.labels.keys) > 1), None
        )
        if close:
            service, [label] = close
            remedy = f"Service {service.name!r} lacks {label} alone: {remedy}"
    return violation(path, monitor.name, wrong, remedy, value=str(selector), advice=advice, is_unknown=not is_known)


def _examine_pods(monitor: Monitor, facts: ClusterFacts) -> Iterator[Violation]:
    selector = monitor.selector or EVERYTHING
    pods = selected_templates(selector, monitor.namespaces, facts)
    is_known = templates.are_known(facts) and (SERVICES in facts.known or monitor.namespaces == (monitor.namespace,))
    if not pods:
        # Servers don't know what workloads there are; the audit and check do.
        if is_known or SERVICES not in facts.known:
            wrong = "no workload has pods with the labels that this PodMonitor selects "
            wrong += f"({selector.told})"
            if not is_known:
                wrong = f"{wrong}, as far as is seen here: cannot tell whether the cluster has one"
            yield violation(
                "spec.selector",
                monitor.name,
                wrong,
                "select by the labels of the pods' template",
                value=str(selector),
                is_unknown=not is_known,
            )
        return
    names = {port.name for pod in pods for port in pod.ports if port.name}
    numbers = {port.number for pod in pods for port in pod.ports}
    for index, endpoint in enumerate(monitor.endpoints):
        wanted = endpoint.port or endpoint.target
        if not wanted or wanted in (numbers if isinstance(wanted, int) else names):
            continue
        path = f"spec.podMetricsEndpoints[{index}].{'port' if endpoint.port else 'portNumber'}"
        yield violation(
            path,
            str(wanted),
            f"port {wanted!r} is declared by no container of {pods[0].kind} {pods[0].name!r} "
            f"(declared: {listed(numbers if isinstance(wanted, int) else names)}), so that there is no target",
            "name one that is declared, or declare it in the container's ports",
            value=str(wanted),
        )
