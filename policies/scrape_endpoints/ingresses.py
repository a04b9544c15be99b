"""Ingresses as facts, and a Probe that looks for its targets among them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from policies.scrape_endpoints.monitors import Monitor
from policies.scrape_endpoints.services import SERVICES
from policies.scrape_endpoints.telling import listed, violation
from webhook.objects.facts import ClusterFacts, Metadata, Wire
from webhook.objects.label_selectors import Labels, read_labels
from webhook.policy import FactKind, FactReference, Violation


class Ingress(msgspec.Struct, frozen=True, gc=False):
    """An Ingress; what a Probe asks of it are the addresses in its rules."""

    namespace: str
    name: str
    labels: Labels


def _read(reference: FactReference, metadata: Metadata, _wired: Wire) -> Ingress:
    return Ingress(reference.namespace, reference.name, read_labels(metadata.labels, "metadata.labels"))


INGRESSES: FactKind[tuple[str, str], Ingress] = FactKind(
    group="networking.k8s.io",
    kind="Ingress",
    resource="ingresses",
    wire=Wire,
    read=_read,
    key="namespace and name",
    # An Ingress may come a moment later, so that servers have no need of them.
    on_servers=False,
    spans=True,
)


def examine_ingresses(probe: Monitor, facts: ClusterFacts) -> Iterator[Violation]:
    """A Probe whose selector matches no Ingress."""
    selector = probe.selector
    is_known = facts.knows_all(INGRESSES)
    # Servers don't know what Ingresses there are; the audit and check do.
    if selector is None or (not is_known and SERVICES in facts.known):
        return
    for ingress in facts.of(INGRESSES).values():
        if probe.reaches(ingress.namespace) and selector.selects(ingress.labels):
            return
    where = "in any namespace" if probe.namespaces is None else f"in namespace {listed(probe.namespaces)}"
    unsure = "" if is_known else ", as far as is seen here: cannot tell whether the cluster has one"
    yield violation(
        "spec.targets.ingress.selector",
        probe.name,
        f"no Ingress {where} has the labels that this Probe selects ({selector.told}){unsure}",
        "select by the labels of the Ingress itself, and name its namespace in spec.targets.ingress.namespaceSelector",
        value=str(selector),
        is_unknown=not is_known,
    )
