"""What lives in a cluster at one moment: slim records of pods, nodes, volume attachments and workloads' status.

Each kind is a FactKind with a module here, read from the same lists as facts are, and `Live.of(LIVE_PODS)` are its
records. Unlike facts it is read for what is broken now alone: `forestall audit` lists it, the auditor keeps it current
by watches, and servers never see it.
"""

from __future__ import annotations

from webhook.objects.live.attachments import ATTACHMENTS, Attachment
from webhook.objects.live.conditions import Condition, condition_of
from webhook.objects.live.endpoint_slices import ENDPOINT_SLICES, EndpointSlice
from webhook.objects.live.kills import Killed, doubled, kills, set_memory
from webhook.objects.live.nodes import LIVE_NODES, LiveNode
from webhook.objects.live.pods import LIVE_PODS, ContainerTrouble, LivePod, Shape, Termination, Trouble
from webhook.objects.live.snapshot import NOTHING_LIVES, Live
from webhook.objects.live.top_level import TopLevel
from webhook.objects.live.workloads import (
    LIVE_DAEMON_SETS,
    LIVE_DEPLOYMENTS,
    LIVE_STATEFUL_SETS,
    LIVE_WORKLOADS,
    LiveWorkload,
)

__all__ = [
    "ATTACHMENTS",
    "ENDPOINT_SLICES",
    "LIVE_DAEMON_SETS",
    "LIVE_DEPLOYMENTS",
    "LIVE_NODES",
    "LIVE_PODS",
    "LIVE_STATEFUL_SETS",
    "LIVE_WORKLOADS",
    "NOTHING_LIVES",
    "Attachment",
    "Condition",
    "ContainerTrouble",
    "EndpointSlice",
    "Killed",
    "Live",
    "LiveNode",
    "LivePod",
    "LiveWorkload",
    "Shape",
    "Termination",
    "TopLevel",
    "Trouble",
    "condition_of",
    "doubled",
    "kills",
    "set_memory",
]
