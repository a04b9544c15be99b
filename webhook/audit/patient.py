"""A cluster that is read to the end: it waits where the API server is busy, and asks again with new credentials."""

from __future__ import annotations

import time

import urllib3

from webhook.cluster.client import Call, Cluster
from webhook.errors import ClusterRefused

_ATTEMPTS = 10
_SHORTEST_WAIT = 1.0
_UNKNOWN_USER = 401


class PatientCluster(Cluster):
    """A cluster for a reader that has time: "too many requests" is waited out, for as long as the answer says.

    A token that has expired is read, or fetched, anew once: the second refusal is the answer.
    """

    def open(self, call: Call) -> urllib3.BaseHTTPResponse:
        is_known = True
        for _ in range(_ATTEMPTS - 1):
            try:
                return super().open(call)
            except ClusterRefused as answer:
                if answer.is_busy:
                    time.sleep(max(answer.retry_after, _SHORTEST_WAIT))
                elif answer.status == _UNKNOWN_USER and is_known:
                    is_known = False
                else:
                    raise
        return super().open(call)
