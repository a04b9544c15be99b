"""An audit of one cluster: its configuration, facts and teams are read, then its stored objects are judged."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhook.audit.audited import Audited
from webhook.audit.history import Day, read_history
from webhook.audit.judge import Audit, Progress, audit
from webhook.audit.tally import team_of
from webhook.cluster.facts import list_facts
from webhook.cluster.gap_record import read_record
from webhook.cluster.in_force import config_in_force
from webhook.cluster.paths import config_map_path
from webhook.cluster.unseen import Unseen, is_forbidden, unreadable_facts
from webhook.config import Config, load_config, read_config
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.installation import CONFIG, HISTORY, NAMESPACE, STATE
from webhook.objects.facts import NAMESPACES, NO_FACTS, ClusterFacts
from webhook.observing import unchecked
from webhook.observing.read import read_live
from webhook.observing.run import Observing, needed_lives, observe, observers
from webhook.policy import FactKind, Mode
from webhook.scope import exclude_own_namespace, facts_of

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster


@dataclass(frozen=True)
class AuditOptions:
    """The options of `forestall audit`."""

    config: Path | None = None
    as_if: Mode | None = None
    group_by: str = ""
    namespaces: Sequence[str] = ()


def audit_cluster(cluster: Cluster, name: str, options: AuditOptions, *, today: date, progress: Progress) -> Audited:
    """Audit one cluster. Raises FactsUnavailable or ClusterRefused if it can't be asked at all, or if one of the
    namespaces isn't there; BadConfig."""
    unseen = Unseen()
    config, source = _configuration(cluster, options, unseen)
    _check_namespaces(cluster, options.namespaces)
    listed = {kind for kind in facts_of(config) if kind.is_watched}
    kinds = {*listed, *((NAMESPACES,) if options.group_by or config.team_label else ())}
    facts = _facts(cluster, kinds, options.namespaces, unseen)
    label, labels = options.group_by or config.team_label, facts.of(NAMESPACES)
    teams = partial(team_of, label=label, namespaces=labels)
    found = audit(cluster, config, facts, teams, today=today, namespaces=options.namespaces, progress=progress)
    found.unseen.add(unseen)
    observing = _observing(cluster, config, facts, options.namespaces, found)
    found.unseen.add(Unseen(objects=unreadable_facts(facts.unreadable)))
    is_whole = not options.namespaces
    # Counted by another configuration, or elsewhere, it can't be compared.
    history = _history(cluster) if is_whole and options.config is None else ()
    return Audited(name, source, config, is_whole=is_whole, found=found, observing=observing, history=history)


def _check_namespaces(cluster: Cluster, namespaces: Sequence[str]) -> None:
    """Refuse a name of which there is no namespace, as far as that may be asked: nothing would be found in it."""
    for namespace in namespaces:
        try:
            is_there = cluster.get(f"/api/v1/namespaces/{namespace}") is not None
        except ClusterRefused as answer:
            if not is_forbidden(answer):
                raise
        else:
            if not is_there:
                raise ClusterRefused(404, "NotFound", f"there is no namespace {namespace}")


def _history(cluster: Cluster) -> Sequence[Day]:
    try:
        return read_history(cluster.get(config_map_path(NAMESPACE, HISTORY))).days
    except (ClusterRefused, FactsUnavailable):
        return ()


def _observing(
    cluster: Cluster, config: Config, facts: ClusterFacts, namespaces: Sequence[str], found: Audit
) -> Observing:
    """The things that are broken now. What could not be read for that is added to `found`."""
    asked = observers(config)
    try:
        record = read_record(cluster.get(config_map_path(NAMESPACE, STATE)))
        asked.append(unchecked.observer_of(record))
    except (ClusterRefused, FactsUnavailable) as error:
        found.unseen.note("configmaps", error, NAMESPACE)
    # What could not be listed before isn't asked for, and waited for, again.
    kinds = [kind for kind in needed_lives(asked) if kind.full_resource not in found.unseen.resources]
    read = read_live(cluster, kinds, namespaces)
    found.unseen.add(read.unseen)
    observing = observe(asked, read.live, facts, config)
    for name, bug in observing.bugs.items():
        told = "".join(traceback.format_exception(bug))
        found.bugs.setdefault(name, f"what is broken in the cluster: {told}")
    return observing


def _configuration(cluster: Cluster, options: AuditOptions, unseen: Unseen) -> tuple[Config, str]:
    """The configuration to judge by, and which one it is."""
    where = f"ConfigMap {NAMESPACE}/{CONFIG}"
    config: Config | None
    if options.config:
        config, source = read_config(str(options.config)), str(options.config)
    else:
        source = where
        try:
            config = config_in_force(cluster, NAMESPACE)
            if config is None:
                source = f"the defaults, as there is no {where}"
        except (ClusterRefused, FactsUnavailable) as error:
            if not is_forbidden(error):
                raise
            config, source = None, f"the defaults, as {where} may not be read"
            unseen.note("configmaps", error, NAMESPACE)
    config = exclude_own_namespace(config or load_config(b"", "defaults"), NAMESPACE)
    if options.as_if:
        return replace(config, mode=options.as_if), f"{source}, as if mode were {options.as_if}"
    return config, f"{source}, mode {config.mode}"


def _facts(
    cluster: Cluster,
    kinds: Iterable[FactKind[Any, Any]],
    namespaces: Sequence[str],
    unseen: Unseen,
) -> ClusterFacts:
    """The facts of these kinds; where one can't be read, the others still are."""
    facts = NO_FACTS
    for kind in sorted(kinds, key=lambda kind: kind.full_resource):
        try:
            read = list_facts(cluster, [kind], namespaces)
        except FactsUnavailable as error:
            unseen.note(kind.full_resource, error)
            continue
        unseen.add(read.unseen)
        facts = facts.joined(read.facts)
    return facts
