"""A plain Prometheus configuration in a ConfigMap: its times, and relabelling to ports that nothing declares.

Such ConfigMaps are judged in files and in the audit alone: other programs keep locks in ConfigMaps, and must not wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policies.scrape_endpoints import templates
from policies.scrape_endpoints.scrapes import Fields, Scrape, examine_request, examine_times
from policies.scrape_endpoints.services import SERVICES
from policies.scrape_endpoints.telling import listed, violation
from policies.scrape_endpoints.templates import all_templates
from webhook.objects.config_text import is_too_long, read_yaml
from webhook.objects.facts import ClusterFacts
from webhook.objects.fields import mapping
from webhook.objects.helm_values import helm_value
from webhook.objects.wording import shortened
from webhook.policy import AdmissionRequest, GroupKind, Violation, join_path

CONFIG_MAP = GroupKind("", "ConfigMap", "configmaps")

_JOBS = "scrape_configs"
_LONGEST_NAME = 100
"""Characters of a job's name that are told; every message on one of its rules has it."""
_FIELDS = Fields("scrape_interval", "scrape_timeout", "metrics_path")
_DEFAULT_INTERVAL = "1m"
# Promtail's configuration has jobs, too, and none that is scraped.
_OTHERS = frozenset({"clients", "positions"})
_POD_ROLES = frozenset({"pod", "endpoints", "endpointslice"})
_ADDRESS = re.compile(r"(?P<host>.*):(?P<port>[0-9]{1,5})")
_SERVICE = re.compile(r"(?P<name>[a-z0-9][-a-z0-9]*)(?:\.(?P<namespace>[a-z0-9][-a-z0-9]*)(?:\.svc(?:\..+)?)?)?")
_WORDS = re.compile(r"[\w-]+(?:\|[\w-]+)*")


class _Ports(NamedTuple):
    """The ports that there are, and whether all of the cluster's are known."""

    names: frozenset[str]
    numbers: frozenset[int]
    service_names: frozenset[str]
    are_known: bool


def examine_config_map(request: AdmissionRequest, facts: ClusterFacts) -> Iterator[Violation]:
    for key, text in mapping(request.object or {}, "data", "").items():
        if isinstance(text, str) and _JOBS in text:
            yield from _examine_text(join_path("data", key), key, text, request, facts)


def _examine_text(
    path: str, key: str, text: str, request: AdmissionRequest, facts: ClusterFacts
) -> Iterator[Violation]:
    if is_too_long(text):
        yield _unread(path, key, text)
        return
    root = read_yaml(text)
    # A template of one, or something else, may name the word as well.
    if root is None or not isinstance(root.get(_JOBS), list) or not _OTHERS.isdisjoint(root):
        return
    shared = root.get("global")
    values = shared if isinstance(shared, dict) else {}
    value = helm_value(request.object or {}, "prometheus", "scrapeTimeout")
    of_all = Scrape("global", _FIELDS, values, lambda _: path, f"global of {key}: ", False, value)
    yield from examine_times(of_all, _DEFAULT_INTERVAL)
    interval = str(values.get("scrape_interval") or _DEFAULT_INTERVAL)
    ports = _ports(facts)
    for job in _maps(root, _JOBS):
        name = shortened(str(job.get("job_name") or ""), _LONGEST_NAME)
        scrape = Scrape(name, _FIELDS, job, lambda _: path, f"job {name!r} of {key}: ", False)
        yield from examine_times(scrape, interval)
        yield from examine_request(scrape)
        for rule in _maps(job, "relabel_configs"):
            yield from _examine_rule(path, scrape, rule, ports, request.namespace, facts)


def _unread(path: str, key: str, text: str) -> Violation:
    return violation(
        path,
        key,
        f"{key} names {_JOBS} and has {len(text)} characters, more than are read: cannot tell whether it is right",
        "split it by scrape_config_files",
        at_most="audit",
        is_unknown=True,
    )


def _ports(facts: ClusterFacts) -> _Ports:
    declared = [port for template in all_templates(facts) for port in template.ports]
    return _Ports(
        frozenset(port.name for port in declared if port.name),
        frozenset(port.number for port in declared),
        frozenset(port.name for service in facts.of(SERVICES).values() for port in service.ports if port.name),
        templates.are_known(facts) and SERVICES in facts.known,
    )


def _maps(parent: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """The maps in a list of the configuration; what is anything else, Prometheus refuses."""
    found = parent.get(key)
    yield from (item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def _examine_rule(
    path: str, scrape: Scrape, rule: Mapping[str, Any], ports: _Ports, namespace: str, facts: ClusterFacts
) -> Iterator[Violation]:
    action = str(rule.get("action") or "replace").lower()
    if action == "replace" and rule.get("target_label") == "__address__":
        yield from _examine_address(path, scrape, str(rule.get("replacement") or ""), ports, namespace, facts)
    elif action == "keep":
        yield from _examine_keep(path, scrape, rule, ports)


def _examine_address(
    path: str, scrape: Scrape, replacement: str, ports: _Ports, namespace: str, facts: ClusterFacts
) -> Iterator[Violation]:
    """A rule that gives every target another address."""
    found = _ADDRESS.fullmatch(replacement)
    if found is None:
        return
    host, port = found["host"], int(found["port"])
    if "$" in host:
        roles = {str(discovery.get("role")) for discovery in _maps(scrape.values, "kubernetes_sd_configs")}
        if _POD_ROLES.isdisjoint(roles) or not ports.numbers or port in ports.numbers:
            return
        wrong = f"it relabels its targets to port {port}, which no container"
        yield _undeclared(path, scrape, wrong, str(port), listed(ports.numbers), ports)
    elif service := _SERVICE.fullmatch(host):
        known = facts.of(SERVICES).get((service["namespace"] or namespace, service["name"]))
        numbers = {port.port for port in known.ports} if known else set()
        if known and port not in numbers:
            yield violation(
                path,
                scrape.subject,
                f"{scrape.whose}it relabels its targets to {replacement}, but Service {known.name!r} lacks port {port} "
                f"({listed(numbers)})",
                "name a port of the Service",
                value=replacement,
            )


def _examine_keep(path: str, scrape: Scrape, rule: Mapping[str, Any], ports: _Ports) -> Iterator[Violation]:
    """A rule that drops every target but those with a certain port."""
    sources, regex = rule.get("source_labels"), str(rule.get("regex") or "")
    if not isinstance(sources, list) or len(sources) != 1 or not _WORDS.fullmatch(regex):
        return
    seen: Mapping[str, frozenset[str]] = {
        "__meta_kubernetes_pod_container_port_name": ports.names,
        "__meta_kubernetes_pod_container_port_number": frozenset(map(str, ports.numbers)),
        "__meta_kubernetes_endpoint_port_name": ports.service_names,
        "__meta_kubernetes_endpointslice_port_name": ports.service_names,
    }
    there = seen.get(str(sources[0]))
    if there and there.isdisjoint(regex.split("|")):
        what = "Service" if there is ports.service_names else "container"
        yield _undeclared(
            path, scrape, f"it keeps only targets with port {regex!r}, which no {what}", regex, listed(there), ports
        )


def _undeclared(path: str, scrape: Scrape, wrong: str, value: str, there: str, ports: _Ports) -> Violation:
    unsure = "" if ports.are_known else " that is seen here"
    return violation(
        path,
        scrape.subject,
        f"{scrape.whose}{wrong}{unsure} declares ({there})",
        "name a port that is declared",
        value=value,
        is_unknown=not ports.are_known,
    )
