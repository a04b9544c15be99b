"""A cluster in memory that is audited second by second, for the tests of those that show and tell the findings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from tests.memory_cluster import MemoryCluster
from webhook.auditor.kept import Kept
from webhook.auditor.seen import Seen

if TYPE_CHECKING:
    from webhook.auditor.run import Taker
    from webhook.cluster.client import Cluster

OWN = "forestall-system"
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class World:
    """What is found in a cluster, and the `taker` that shows or tells of it; `pass_time` lets seconds go by."""

    taker: Taker

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.kept = Kept()
        self.seconds = 0.0
        self.lead()

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def clock(self) -> float:
        return self.seconds

    def lead(self) -> None:
        """Begin anew, as another leader does."""
        cluster = cast("Cluster", self.cluster)
        self.seen = Seen(cluster, OWN)
        self.taker = self.make(cluster)
        self.kept.changed = set(self.kept.by_namespace)

    def make(self, cluster: Cluster) -> Taker:
        raise NotImplementedError

    def take(self) -> None:
        if self.cluster.trouble is None:
            self.seen.take(self.kept, self.now)
        self.taker.take(self.kept, self.now)
        self.kept.clear_changed()

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.seconds += 1
            self.take()
