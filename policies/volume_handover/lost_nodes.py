"""Nodes that are lost: what is told of one, and what frees the pods and volumes that it holds."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from webhook.objects.commands import kubectl
from webhook.objects.live import LIVE_NODES, Live, LiveNode
from webhook.objects.wording import utc

TAINT = "node.kubernetes.io/out-of-service"
FREED = f"its Node, known to be off, is deleted or tainted {TAINT}"
"""What ends the wait for what a lost node holds, besides the node's return."""
TWO_WRITERS = "two that write destroy the data"


class LostNode(NamedTuple):
    """A node that isn't ready, or of which no Node is left; `since` is None where nothing tells."""

    name: str
    since: datetime | None
    told: str
    """ "node n1, not ready since 2026-11-27 11:00:00 UTC (NodeStatusUnknown)" """
    is_gone: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The commands that free its pods and volumes, in their order; none that helps where its Node is gone."""
        if self.is_gone:
            return ()
        node, taint = f"node/{self.name}", f"{TAINT}=nodeshutdown:NoExecute"
        off = "only once it is known to be off: its pods go, and their volumes are detached at once"
        return (
            kubectl("describe", node, why="if its machine runs, bring it back: nothing else is needed"),
            kubectl("taint", "nodes", self.name, taint, why=off),
            kubectl("taint", "nodes", self.name, f"{taint}-", why="before the node is used again"),
            kubectl("delete", node, why="in place of both, if it never comes back"),
        )


class LostNodes:
    """The nodes of a cluster that are lost; none where nodes could not be seen."""

    def __init__(self, live: Live) -> None:
        self._sees = live.sees(LIVE_NODES)
        self._nodes = {node.name: _lost(node) for node in live.of(LIVE_NODES).values()}

    def get(self, name: str) -> LostNode | None:
        if not name or not self._sees:
            return None
        if name in self._nodes:
            return self._nodes[name]
        return LostNode(name, None, f"node {name}, which is no longer there", is_gone=True)


def _lost(node: LiveNode) -> LostNode | None:
    """The node as a lost one; None if it is ready, or doesn't say."""
    ready = node.ready
    if ready is None or ready.status == "True":
        return None
    since, reason = f" since {utc(ready.since)}" if ready.since else "", f" ({ready.reason})" if ready.reason else ""
    return LostNode(node.name, ready.since, f"node {node.name}, not ready{since}{reason}")
