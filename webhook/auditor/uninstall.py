"""Takes away what the auditor has written, while no auditor writes it anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from webhook.auditor.reports import delete_all
from webhook.cluster.paths import api_path, config_map_path
from webhook.controller.lease import RENEW_SECONDS, wall_text
from webhook.errors import Conflict
from webhook.installation import AUDITOR, HISTORY, NOTIFIED, SEEN

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

_HOLDER = "uninstall"
_HELD = 120
"""Seconds for which no auditor leads: Helm deletes their pods after this."""
_ATTEMPTS = 5


def remove_all(cluster: Cluster, own: str, sleep: Callable[[float], None] = time.sleep) -> int:
    """Delete the reports, and what the auditor remembers; returns how many reports there were.

    `own` is Forestall's namespace. The auditors' Lease is taken away from whoever leads, and it is waited until that
    one has noticed. Raises ClusterRefused or FactsUnavailable.
    """
    if _take_lease(cluster, own):
        sleep(RENEW_SECONDS + 1)
    count = delete_all(cluster, own)
    for name in (SEEN, NOTIFIED, HISTORY):
        cluster.delete(config_map_path(own, name))
    return count


def _take_lease(cluster: Cluster, own: str) -> bool:
    """Hold the auditors' Lease; whether somebody may still believe to lead."""
    path = api_path("coordination.k8s.io", "v1", "leases", own, AUDITOR)
    for attempts_left in reversed(range(_ATTEMPTS)):
        lease = cluster.get(path)
        if lease is None:  # no auditor has ever led
            return False
        now, before = wall_text(datetime.now(UTC)), lease.get("spec") or {}
        held = {"holderIdentity": _HOLDER, "leaseDurationSeconds": _HELD, "acquireTime": now, "renewTime": now}
        try:
            cluster.replace(path, {**lease, "spec": {**before, **held}})
        except Conflict:
            if not attempts_left:
                raise
        else:
            return bool(before.get("holderIdentity"))
    return False
