"""Runs every observer over what lives: the policies' own functions, and those that belong to no policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from webhook.config import Config
from webhook.errors import NOT_OURS
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import Live
from webhook.observing import monitoring
from webhook.policy import SEVERITIES, FactKind, Observation
from webhook.scope import active_policies, is_excluded


class Observer(NamedTuple):
    """A function that says what is broken; `name` is its policy's id, where it is a policy's."""

    name: str
    lives: tuple[FactKind[Any, Any], ...]
    observe: Callable[[Live, ClusterFacts], Iterator[Observation]]


class Observed(NamedTuple):
    """An observation, and the policy (or the observer that is none) that made it."""

    observer: str
    observation: Observation


@dataclass
class Observing:
    """What is broken now, the worst first. `unknown` says by observer what it could not tell, `bugs` what it raised."""

    observed: list[Observed] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    bugs: dict[str, BaseException] = field(default_factory=dict)


def observers(config: Config) -> list[Observer]:
    """The observers to run, by name: those of policies that the configuration doesn't turn off everywhere, and those
    that belong to no policy."""
    found = [Observer(monitoring.NAME, monitoring.LIVES, monitoring.observe_monitoring)]
    for active in active_policies(config):
        policy, params = active.policy, active.params
        if policy.observe is not None:
            found.append(Observer(policy.id, policy.lives, _with_params(policy.observe, params)))
    return found


def _with_params(
    observe: Callable[[Any, Any, Any], Iterator[Observation]], params: Any
) -> Callable[[Live, ClusterFacts], Iterator[Observation]]:
    return lambda live, facts: observe(live, facts, params)


def observe(observers: Sequence[Observer], live: Live, facts: ClusterFacts, config: Config) -> Observing:
    """Everything that is broken and has been for long enough; excluded namespaces are left alone.

    An observer that raises costs itself alone.
    """
    result = Observing()
    for observer in observers:
        try:
            found = list(observer.observe(live, facts))
        except NOT_OURS as error:
            result.unknown[observer.name] = str(error)
        except Exception as error:  # a policy's bug may raise anything
            result.bugs[observer.name] = error
        else:
            result.observed += [
                Observed(observer.name, observation) for observation in found if _is_told(observation, live, config)
            ]
    result.observed.sort(key=rank)
    return result


def _is_told(observation: Observation, live: Live, config: Config) -> bool:
    namespace = observation.reference.namespace
    if namespace and is_excluded(namespace, config):
        return False
    return observation.since is None or live.now - observation.since >= observation.hold


def rank(observed: Observed) -> tuple[int, str, Any, str]:
    """By which observations are sorted, the worst first."""
    observation = observed.observation
    return SEVERITIES.index(observation.severity), observed.observer, observation.reference, observation.subject


def needed_lives(observers: Sequence[Observer]) -> set[FactKind[Any, Any]]:
    """The kinds of living objects that these observers read."""
    return {kind for observer in observers for kind in observer.lives}
