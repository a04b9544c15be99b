"""What is to be scraped can be: its annotations, monitors and Prometheus say the same, and something answers."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from policies.scrape_endpoints.configurations import CONFIG_MAP, examine_config_map
from policies.scrape_endpoints.ingresses import INGRESSES
from policies.scrape_endpoints.monitored import examine_monitor
from policies.scrape_endpoints.monitors import (
    GROUP,
    MONITORS,
    POD_MONITOR,
    POD_MONITORS,
    PROBE,
    PROBES,
    SCRAPE_CONFIG,
    SCRAPE_CONFIGS,
    SERVICE_MONITOR,
    SERVICE_MONITORS,
)
from policies.scrape_endpoints.observed import observe
from policies.scrape_endpoints.prometheuses import PROMETHEUS_AGENTS, PROMETHEUSES
from policies.scrape_endpoints.scrapes import Fields, Scrape, at, examine_times
from policies.scrape_endpoints.service_targets import examine_service
from policies.scrape_endpoints.services import SERVICES
from policies.scrape_endpoints.taken import examine_selections
from policies.scrape_endpoints.telling import violation
from policies.scrape_endpoints.templates import TEMPLATES
from policies.scrape_endpoints.workloads import examine_workload
from webhook.objects.facts import NAMESPACES, ClusterFacts, record_of
from webhook.objects.fields import mapping, text
from webhook.objects.helm_values import helm_value
from webhook.objects.live import ENDPOINT_SLICES, LIVE_WORKLOADS
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, GroupKind, Object, Policy, Violation

SERVICE = GroupKind("", "Service", "services")
_SCRAPES = Fields("scrapeInterval", "scrapeTimeout")
_DEFAULT_INTERVAL = "30s"
_PROMETHEUSES = {kind.kind: kind for kind in (PROMETHEUSES, PROMETHEUS_AGENTS)}


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """It has none."""


def examine(request: AdmissionRequest, facts: ClusterFacts, _params: Params) -> Iterator[Violation]:
    group, kind = request.group, request.kind
    if group == "" and kind == SERVICE.kind:
        yield from examine_service(request, facts)
    elif group == "" and kind == CONFIG_MAP.kind:
        yield from examine_config_map(request, facts)
    elif group == GROUP and kind in MONITORS:
        yield from examine_monitor(request, facts)
    elif (workload := read_workload(request)) is not None:
        yield from examine_workload(workload, facts)
        if group == GROUP and kind in _PROMETHEUSES:
            yield from _examine_prometheus(request, facts)


def _examine_prometheus(request: AdmissionRequest, facts: ClusterFacts) -> Iterator[Violation]:
    obj = request.object or {}
    value = helm_value(obj, "prometheus", "scrapeTimeout")
    yield from examine_times(Scrape("", _SCRAPES, mapping(obj, "spec", ""), at("spec"), value=value), _DEFAULT_INTERVAL)
    yield from _examine_additional(obj)
    yield from examine_selections(record_of(_PROMETHEUSES[request.kind], obj, request.namespace), facts)


def _examine_additional(obj: Object) -> Iterator[Violation]:
    """Jobs in a Secret, which is read nowhere."""
    source = mapping(mapping(obj, "spec", ""), "additionalScrapeConfigs", "spec")
    if name := text(source, "name", "spec.additionalScrapeConfigs"):
        yield violation(
            "spec.additionalScrapeConfigs",
            name,
            f"cannot tell whether the jobs in Secret {name!r} can be scraped, since Secrets are not read",
            "write them as ScrapeConfigs, which are judged",
            at_most="audit",
            is_unknown=True,
        )


POLICY = Policy(
    id="scrape-endpoints",
    summary="What is to be scraped can be: annotations, monitors and Prometheus name what is there.",
    examine=examine,
    params=Params,
    incidents=("Armada's runbook: targets whose scrapes fail with 404, or with context deadline exceeded",),
    kinds=(SERVICE, SERVICE_MONITOR, POD_MONITOR, PROBE, SCRAPE_CONFIG),
    unasked=(CONFIG_MAP,),
    facts=(
        SERVICES,
        SERVICE_MONITORS,
        POD_MONITORS,
        PROBES,
        SCRAPE_CONFIGS,
        PROMETHEUSES,
        PROMETHEUS_AGENTS,
        NAMESPACES,
        INGRESSES,
        *TEMPLATES,
    ),
    observe=observe,
    lives=(ENDPOINT_SLICES, *LIVE_WORKLOADS),
    mode="off",
)
