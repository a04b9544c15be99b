"""The audit's counts, written once a day, so that it can be seen whether things get better."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import structlog

from webhook.audit.history import KEY, REST, Counts, Day, Read, read_history, write_history
from webhook.auditor.kept import Kept, most_first
from webhook.auditor.pace import Troubles
from webhook.cluster.paths import config_map_path
from webhook.errors import ForestallError
from webhook.installation import HISTORY, LABELS
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

_NAMESPACES = 200
"""Namespaces that have counts of their own, those with most findings."""
_AGAIN_AFTER = 60.0
"""Seconds until a write that failed is tried again."""
_LOST_KEY = "unreadable"
"""The key under which a history that can't be read is kept."""
_MOST_LOST = 256 * 1024
"""Characters of such a history at most: a longer one would leave no room for the new one, and is dropped."""

log = structlog.get_logger()


class History:
    """Writes the counts of each day (UTC) on which the findings are known; `own` is Forestall's namespace."""

    def __init__(self, cluster: Cluster, own: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._path = config_map_path(own, HISTORY)
        self._own = own
        self._clock = clock
        self._day = date.min
        """The day that is written."""
        self._again_at = 0.0
        self._troubles = Troubles("no history")

    def take(self, kept: Kept, now: datetime) -> None:
        """Write the day's counts, once everything has been audited on that day: exemptions end at midnight."""
        today = now.date()
        is_audited = datetime.fromtimestamp(kept.whole_at, UTC).date() >= today
        if self._day == today or not is_audited or self._clock() < self._again_at:
            return
        try:
            self._write(kept, today)
        except ForestallError as error:
            self._troubles.tell("history", error)
            self._again_at = self._clock() + _AGAIN_AFTER
        else:
            self._troubles.over("history")
            self._day = today

    def _write(self, kept: Kept, today: date) -> None:
        there = self._cluster.get(self._path)
        read = read_history(there)
        if any(day.day == today for day in read.days):
            return
        if read.lost:
            log.warning("the history is begun anew, the old one is kept beside it", error=read.lost)
        # A day to come is of somebody's edit, or of a clock that was wrong.
        before = [day for day in read.days if day.day < today]
        by_policy = kept.count_by(lambda of: (of.policy, of.outcome))
        text = write_history([*before, Day(today, by_policy, _by_namespace(kept))])
        metadata = {"name": HISTORY, "namespace": self._own, "labels": dict(LABELS)}
        obj = there or {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        data = {**(obj.get("binaryData") or {}), **_lost(read, there), KEY: text}
        if there is None:
            self._cluster.create(self._path.rpartition("/")[0], {**obj, "binaryData": data})
        else:
            self._cluster.replace(self._path, {**obj, "binaryData": data})


def _lost(read: Read, there: Object | None) -> dict[str, str]:
    """What couldn't be read, for somebody who can, such as a later version."""
    text = str(((there or {}).get("binaryData") or {}).get(KEY) or "") if read.lost else ""
    return {_LOST_KEY: text} if 0 < len(text) <= _MOST_LOST else {}


def _by_namespace(kept: Kept) -> Counts:
    own = set(most_first(kept.count_by(lambda of: of.namespace))[:_NAMESPACES])
    return kept.count_by(lambda of: (of.namespace if of.namespace in own else REST, of.outcome))
