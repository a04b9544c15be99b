"""What is broken in the cluster now, from what lives, which is watched."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from webhook import log as logs
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch
from webhook.cluster.gap_record import read_record
from webhook.cluster.paths import config_map_path
from webhook.config import Config
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.installation import STATE
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import Live
from webhook.observing import unchecked
from webhook.observing.run import Observed, Observer, needed_lives, observe, observers, rank

log = structlog.get_logger()


class Broken:
    """Looks, as often as it is asked, at what lives."""

    def __init__(self, cluster: Cluster, config: Config, namespace: str) -> None:
        self._cluster = cluster
        self._config = config
        self._state = config_map_path(namespace, STATE)
        self._observers = observers(config)
        self._watch = Watch(cluster, needed_lives(self._observers))
        self._watch.start()
        self._observed: Sequence[Observed] = ()
        self._bugs: set[str] = set()

    def stop(self) -> None:
        self._watch.stop()

    @property
    def is_listed(self) -> bool:
        """Whether everything that lives and may be seen has been listed."""
        seen = {*self._watch.listed, *self._watch.unread}
        return all(kind.full_resource in seen for kind in needed_lives(self._observers))

    def look(self, facts: ClusterFacts) -> Sequence[Observed]:
        """What is broken, the worst first. An observer that can't tell now has told the last time.

        Raises ClusterRefused or FactsUnavailable if the cluster doesn't even say what time it is.
        """
        now, lives, troubled = self._cluster.now(), self._watch.facts, self._watch.unread
        if any(kind.full_resource in troubled for kind in lives.known):
            return self._observed  # with old pods and new workloads, healthy ones would look broken
        live = Live(lives.records, dict.fromkeys(lives.known, now), now)
        gaps = self._gaps()
        result = observe([*self._observers, *gaps], live, facts, self._config)
        for name, bug in result.bugs.items():
            if name not in self._bugs:
                self._bugs.add(name)
                log.error("observer failed", observer=name, exception=logs.describe(bug))
        untold = {*result.unknown, *result.bugs, *(() if gaps else (unchecked.NAME,))}
        earlier = (told for told in self._observed if told.observer in untold)
        self._observed = sorted([*result.observed, *earlier], key=rank)
        return self._observed

    def _gaps(self) -> list[Observer]:
        """The observer of gaps; none if the record of them can't be read now."""
        try:
            return [unchecked.observer_of(read_record(self._cluster.get(self._state)))]
        except (ClusterRefused, FactsUnavailable):
            return []
