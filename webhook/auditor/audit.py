"""Keeps the findings current: everything is judged at first and every six hours, in between what changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from webhook.auditor.facts import concerned, facts_to_watch
from webhook.auditor.inventory import Inventory
from webhook.auditor.kept import Kept
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch
from webhook.config import Config
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.policy import GroupKind

_WHOLE_EVERY = 6 * 3600.0
"""Seconds from the beginning of an audit of everything to that of the next, at most."""
_AGAIN_AFTER = 300.0
"""Seconds between two audits of everything at least, where nodes or classes go on changing."""
_NAMESPACE_AFTER = 5.0
"""Seconds between two lists of a namespace at least."""
_FACTS_WITHIN = 60.0
"""Seconds that the first audit waits for the facts of a kind that neither come nor are refused."""
_ASK_AGAIN_AFTER = 5.0
"""Seconds until a cluster that didn't answer is asked again."""
_LIST_AGAIN_AFTER = 60.0
"""Seconds until a kind that could not be listed is listed again."""
_BUDGET = 2.0
"""Seconds of a round after which no further namespace is listed in it."""

log = structlog.get_logger()


class Auditor:
    """The audit by one configuration; `reconcile` is called every second or so.

    `beat` is called while it is at work, which takes minutes where much is stored.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        kept: Kept,
        beat: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = kept
        self._beat = beat
        self._clock = clock
        self.inventory = Inventory(cluster, config, kept)
        self.watch = Watch(cluster, facts_to_watch(config))
        self.watch.start()
        self.whole_seconds = 0.0
        """How long the last audit of everything took; 0 before the first has ended."""
        self._needed = {kind.full_resource for kind in facts_to_watch(config)}
        self._facts_by = clock() + _FACTS_WITHIN
        self._began_at: float | None = None
        """When the last audit of everything began."""
        self._due: set[GroupKind] = set()
        """The kinds that the audit under way has yet to list."""
        self._is_stale = False
        """Whether everything has to be judged again, since nodes or classes have changed."""
        self._is_under_way = False
        self._retry_at: dict[GroupKind, float] = {}
        self._ask_at = 0.0
        """When to ask again, where no answer came."""
        self._is_lost = False
        self._list_at: dict[str, float] = {}
        """Namespace -> when it may be listed again."""

    def stop(self) -> None:
        self.inventory.stop()
        self.watch.stop()

    @property
    def troubles(self) -> Mapping[str, str]:
        """Full resource -> why it can't be listed or watched now."""
        of_judged = {kind.full_resource: why for kind, why in self.inventory.troubles.items()}
        return {**self.watch.unread, **of_judged}

    def reconcile(self, now: datetime) -> None:
        """Take in what has changed, and judge anew what is due; what can't be read is tried again."""
        if self._began_at is None and not self._has_facts():
            return
        self._take_facts()
        self.inventory.take_changes(self._beat)
        self._begin(now)
        self._list_kinds()
        if self._is_under_way and not self._due:
            self._end_whole()
        self._list_namespaces()

    def _has_facts(self) -> bool:
        seen = {*self.watch.listed, *self.watch.unread}
        return seen >= self._needed or self._clock() > self._facts_by

    def _take_facts(self) -> None:
        before, after = self.inventory.facts, self.watch.facts
        if before is after:
            return
        changed = concerned(before, after)
        self.inventory.facts = after
        self.inventory.stale |= changed.namespaces
        self._is_stale |= changed.everything

    def _begin(self, now: datetime) -> None:
        """Begin an audit of everything, if it is time for one."""
        since = None if self._began_at is None else self._clock() - self._began_at
        is_new_day = self.inventory.today != now.date()  # on which exemptions end
        is_stale = self._is_stale and since is not None and since > _AGAIN_AFTER
        if since is None or since > _WHOLE_EVERY or is_new_day or is_stale:
            self.inventory.today = now.date()
            self._began_at = self._clock()
            self._is_stale = False
            self.inventory.stale.clear()
            self._due, self._is_under_way = set(self.inventory.kinds), True
            self._retry_at.clear()

    def _list_kinds(self) -> None:
        """List the kinds that are due, and those whose watch has ended; where no answer comes, the others wait."""
        kinds = [kind for kind in self.inventory.kinds if self._is_to_list(kind)]
        if not kinds or self._clock() < self._ask_at:
            return
        try:
            self.inventory.learn_versions()
            for kind in kinds:
                self._list(kind)
        except FactsUnavailable as error:
            if not self._is_lost:
                log.warning("the cluster doesn't answer", error=str(error))
            self._is_lost, self._ask_at = True, self._clock() + _ASK_AGAIN_AFTER
        else:
            self._is_lost = False

    def _is_to_list(self, kind: GroupKind) -> bool:
        is_lost = kind in self._due or not self.inventory.is_current(kind)
        return is_lost and self._clock() >= self._retry_at.get(kind, 0.0)

    def _list(self, kind: GroupKind) -> None:
        """Raises FactsUnavailable; a kind that is refused, or not served, is tried again later."""
        try:
            self.inventory.list(kind, self._beat)
        except ClusterRefused as answer:
            self._retry_at[kind] = self._clock() + max(_LIST_AGAIN_AFTER, answer.retry_after)
            if answer.is_busy:
                return
        except FactsUnavailable:
            self._retry_at[kind] = self._clock() + _LIST_AGAIN_AFTER
            raise
        else:
            if not self.inventory.is_current(kind):
                self._retry_at[kind] = self._clock() + _LIST_AGAIN_AFTER
        self._due.discard(kind)

    def _end_whole(self) -> None:
        self._is_under_way = False
        self.inventory.sweep()
        self.whole_seconds = self._clock() - (self._began_at or 0.0)
        self._kept.whole_at = time.time()
        findings = self._kept.counts.total()
        log.info("audited", objects=self.inventory.count, findings=findings, seconds=round(self.whole_seconds, 1))

    def _list_namespaces(self) -> None:
        began = self._clock()
        self._list_at = {namespace: at for namespace, at in self._list_at.items() if at > began}
        for namespace in sorted(self.inventory.stale - self._list_at.keys()):
            begun = self._clock()
            try:
                self.inventory.list_namespace(namespace, self._beat)
            except (ClusterRefused, FactsUnavailable):
                return  # tried again; if it goes on, the kind's watch says so as well
            finally:
                # The others have as much time as this one took, if it is stale again and again.
                self._list_at[namespace] = self._clock() + max(_NAMESPACE_AFTER, self._clock() - begun)
            self.inventory.stale.discard(namespace)
            if self._clock() > began + _BUDGET:
                return
