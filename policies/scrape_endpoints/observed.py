"""What is seen in a running cluster: Services to be scraped that nothing answers for, and monitors of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from policies.scrape_endpoints.monitored import selected_services
from policies.scrape_endpoints.monitors import POD_MONITORS, SERVICE_MONITORS, Monitor
from policies.scrape_endpoints.service_targets import why_scraped
from policies.scrape_endpoints.services import SERVICES, Service
from policies.scrape_endpoints.templates import Template, are_known, selected_templates
from webhook.objects.commands import kubectl
from webhook.objects.facts import ClusterFacts
from webhook.objects.label_selectors import EVERYTHING, Selector
from webhook.objects.live import ENDPOINT_SLICES, EndpointSlice, Live, LiveWorkload
from webhook.objects.wording import listed
from webhook.policy import Observation, Reference

_MOST_NAMED = 5
"""Namespaces of a monitor that are told, and looked at by a command."""
_ROLLOUT = timedelta(minutes=10)
"""How long something may be so before it is reported: a Deployment's rollout counts as failed by then."""


def observe(live: Live, facts: ClusterFacts, _params: object) -> Iterator[Observation]:
    if live.sees(ENDPOINT_SLICES):
        yield from _unanswered(live, facts)
    if SERVICES not in facts.known:
        return
    for monitor in facts.of(SERVICE_MONITORS).values():
        if not selected_services(monitor, facts):
            yield _empty(monitor, "Services")
    for monitor in facts.of(POD_MONITORS).values():
        if are_known(facts) and not selected_templates(monitor.selector or EVERYTHING, monitor.namespaces, facts):
            yield _empty(monitor, "pods")


def _unanswered(live: Live, facts: ClusterFacts) -> Iterator[Observation]:
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for endpoint_slice in live.of(ENDPOINT_SLICES).values():
        slices.setdefault((endpoint_slice.namespace, endpoint_slice.service), []).append(endpoint_slice)
    workloads = {(workload.kind, workload.namespace, workload.name): workload for workload in live.workloads()}
    for service in facts.of(SERVICES).values():
        own = slices.get((service.namespace, service.name), [])
        if service.selector is None or any(endpoint_slice.ready for endpoint_slice in own):
            continue
        if not (why := why_scraped(service, facts)):
            continue
        pods = selected_templates(service.selector, (service.namespace,), facts)
        if not _is_scaled_down(pods, workloads):
            yield _observation(service, service.selector, why, own, pods, workloads)


_Workloads = Mapping[tuple[str, str, str], LiveWorkload]


def _is_scaled_down(pods: list[Template], workloads: _Workloads) -> bool:
    """Whether all that the Service selects is to have no pods."""
    found = [workloads.get((pod.kind, pod.namespace, pod.name)) for pod in pods]
    return bool(found) and all(workload is not None and not workload.desired for workload in found)


def _observation(
    service: Service,
    selector: Selector,
    why: str,
    slices: list[EndpointSlice],
    pods: list[Template],
    workloads: _Workloads,
) -> Observation:
    there = sum(endpoint_slice.there for endpoint_slice in slices)
    known = [found for pod in pods if (found := workloads.get((pod.kind, pod.namespace, pod.name)))]
    state = f"none of its {there} pods is ready" if there else f"no pod has its labels ({selector})"
    return Observation(
        known[0].reference if len(known) == 1 else Reference("Service", service.namespace, service.name),
        service.name,
        f"Service {service.name!r} has no ready endpoint, so that nothing of it is scraped ({why}): {state}",
        run=(
            kubectl("get", "pods", "-l", str(selector), namespace=service.namespace),
            kubectl(
                *("get", "endpointslices", "-l", f"kubernetes.io/service-name={service.name}"),
                namespace=service.namespace,
            ),
        ),
        since=max(filter(None, (endpoint_slice.changed for endpoint_slice in slices)), default=None),
        hold=_ROLLOUT,
        severity="error",
    )


def _empty(monitor: Monitor, what: str) -> Observation:
    selector = monitor.selector or EVERYTHING
    if monitor.namespaces is None:
        where, places = "any namespace", [["-A"]]
    else:
        where = f"namespace {listed(monitor.namespaces, _MOST_NAMED)}"
        places = [["-n", name] for name in monitor.namespaces[:_MOST_NAMED]]
    labels = [] if selector.is_everything else ["-l", str(selector)]
    return Observation(
        Reference(monitor.kind, monitor.namespace, monitor.name),
        monitor.name,
        f"{monitor.kind} {monitor.name!r} selects no {what} ({selector.told} in {where}), and nothing is scraped: "
        "select by labels that they have, in the namespaces where they are",
        run=tuple(kubectl("get", what.lower(), *place, *labels) for place in places),
        since=datetime.fromisoformat(monitor.created) if monitor.created else None,
        hold=_ROLLOUT,
    )
