"""The facts that stored objects are judged by, and which objects to judge again when they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from webhook.config import Config
from webhook.objects.facts import NAMESPACES, VOLUMES, ClusterFacts
from webhook.policy import FactKind
from webhook.scope import facts_of


def facts_to_watch(config: Config) -> set[FactKind[Any, Any]]:
    """The kinds that active policies look at, and namespaces: their labels choose overrides and name teams.

    Kinds whose objects are looked up one by one aren't among them: one is read whenever what names it is judged.
    """
    return {NAMESPACES, *(kind for kind in facts_of(config) if kind.is_watched)}


class Concerned(NamedTuple):
    """What may be judged otherwise now: the objects in some namespaces, or all of them."""

    namespaces: frozenset[str]
    everything: bool


def concerned(before: ClusterFacts, after: ClusterFacts) -> Concerned:
    """What a change of the facts concerns: what may be judged otherwise by those `after` than by those `before`."""
    namespaces: set[str] = set()
    everything = before.known != after.known
    for kind in {**before.records, **after.records}:
        old, new = before.of(kind), after.of(kind)
        if old is new:
            continue
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                concerned = _namespaces(kind, key, old, new)
                namespaces |= concerned
                everything |= not concerned
    return Concerned(frozenset(namespaces & after.of(NAMESPACES).keys()), everything)


def _namespaces(kind: FactKind[Any, Any], key: Any, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> set[str]:
    """The namespaces whose objects a changed record concerns; none of them if it concerns all."""
    if kind == NAMESPACES:
        return {key}
    # Services span namespaces, too, and change too often to judge everything again: their own follows at once.
    if kind.is_namespaced and not (kind.spans and kind.is_custom):
        return {key if isinstance(key, str) else key[0]}
    if kind == VOLUMES:  # it is bound to one claim, and matters to the pods that use it
        claims = [record.claim for record in (old.get(key), new.get(key)) if record is not None]
        return {claim[0] for claim in claims if claim is not None} if None not in claims else set()
    return set()
