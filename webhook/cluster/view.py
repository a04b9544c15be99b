"""What `forestall check --cluster` sees of a cluster: its configuration and its facts, as far as rights go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from webhook.cluster.client import Cluster
from webhook.cluster.facts import list_facts
from webhook.cluster.in_force import config_in_force
from webhook.cluster.unseen import is_forbidden
from webhook.config import Config
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.installation import CONFIG, NAMESPACE, READER
from webhook.objects.facts import ClusterFacts
from webhook.policy import FactKind


@dataclass(frozen=True)
class ClusterView:
    """`config` is the configuration in force, None where there is none or it may not be read.

    `only_in` holds the kinds of facts that could be listed in single namespaces alone: elsewhere nothing is known of
    them. `unseen` says in a line each what could not be read, and what would help.
    """

    config: Config | None
    facts: ClusterFacts
    only_in: Mapping[FactKind[Any, Any], Collection[str]]
    unseen: tuple[str, ...]


def view_cluster(
    cluster: Cluster, kinds_for: Callable[[Config | None], Collection[FactKind[Any, Any]]], namespace: str
) -> ClusterView:
    """See what the cluster holds of the kinds that its configuration asks for; what may not be listed in all namespaces
    is listed in this one.

    Raises FactsUnavailable if the cluster can't be reached or doesn't know us, BadConfig if its configuration can't be
    used.
    """
    unseen: list[str] = []
    config = None
    try:
        config = config_in_force(cluster, NAMESPACE)
    except (ClusterRefused, FactsUnavailable) as error:
        if not is_forbidden(error):
            raise
        unseen.append(f"not seen: the configuration, ConfigMap {NAMESPACE}/{CONFIG}: {error}")
    kinds = sorted(kinds_for(config), key=lambda kind: kind.full_resource)
    read = list_facts(cluster, kinds)
    refused = [kind for kind in kinds if kind.full_resource in read.unseen.resources and kind.is_namespaced]
    narrow = list_facts(cluster, refused, [namespace]) if refused else None
    facts, unread = read.facts, dict(read.unseen.resources)
    if narrow:
        facts = facts.joined(narrow.facts)
        for kind in narrow.facts.known:
            unread[kind.full_resource] += f"; seen in namespace {namespace} alone"
    unseen += [f"not seen: {resource}: {why}" for resource, why in unread.items()]
    if unseen:
        unseen.append(
            f"to see all: ClusterRole {READER}, and Role {READER} of namespace {NAMESPACE}, which the chart makes"
        )
    unseen += [f"{odd} can't be read: {why}" for odd, why in facts.unreadable.items()]
    only_in = {kind: frozenset((namespace,)) for kind in (narrow.facts.known if narrow else ())}
    return ClusterView(config, facts, only_in, tuple(unseen))
