"""Decisions that need objects which are looked up one by one, where nobody waits for the answer: check and audits.

A server looks up what is new to its watches as well, and has a deadline: webhook.server.judge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from webhook.cluster.lists import Reader
from webhook.cluster.paths import fact_path
from webhook.cluster.unseen import Unseen, unreadable_facts
from webhook.errors import UNREADABLE, ClusterRefused, FactsUnavailable
from webhook.objects.facts import ClusterFacts, Found, read_fact
from webhook.objects.names import is_object_name
from webhook.policy import Decision, FactReference

LookUp = Callable[[Collection[FactReference]], Found]


def decide_looking(decide: Callable[[ClusterFacts], Decision], facts: ClusterFacts, look_up: LookUp | None) -> Decision:
    """The decision, made again with the objects that it lacked, as long as they are of kinds that are looked up: what
    else isn't in the facts isn't in the cluster."""
    decision, asked = decide(facts), set[FactReference]()
    while look_up and (wanted := {one for one in decision.unseen if not one.kind.is_watched} - asked):
        asked |= wanted
        found = look_up(sorted(wanted, key=str))
        facts = facts.with_facts(found.facts, absent=found.absent)
        decision = decide(facts)
    return decision


class LookUps:
    """Objects of one cluster, read one by one, each once; `unseen` says what could not be read."""

    def __init__(self, cluster: Reader, unseen: Unseen) -> None:
        self._cluster, self._unseen = cluster, unseen
        self._known: dict[FactReference, Found] = {}

    def __call__(self, references: Collection[FactReference]) -> Found:
        found = [self._look_up(reference) for reference in references]
        return Found([fact for one in found for fact in one.facts], [absent for one in found for absent in one.absent])

    def _look_up(self, reference: FactReference) -> Found:
        if reference not in self._known:
            self._known[reference] = self._read(reference)
        return self._known[reference]

    def _read(self, reference: FactReference) -> Found:
        kind, namespace, name = reference
        # The name is what somebody wrote into a pod: it must not lead to another path.
        if not (is_object_name(name) and is_object_name(namespace)):
            return Found([], [reference])
        try:
            obj = self._cluster.get(fact_path(kind, namespace, name))
            fact = obj and read_fact(obj, [kind], namespace=namespace)
        except (ClusterRefused, FactsUnavailable) as error:
            self._unseen.note(kind.full_resource, error, namespace)
        except UNREADABLE as error:
            self._unseen.objects += unreadable_facts({reference: str(error)})
        else:
            return Found([fact], []) if fact else Found([], [reference])
        return Found([], [])
