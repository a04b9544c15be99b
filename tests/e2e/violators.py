"""Namespaces full of violators: suspended CronJobs, of which the controller manager makes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from webhook.cluster.client import Cluster
from webhook.policy import Object

IN_EACH = 20
"""CronJobs of a namespace."""
CONTAINERS = [{"name": name, "image": "nginx:1.29"} for name in ("web", "side")]
_AT_ONCE = 16


def fill(cluster: Cluster, namespaces: int) -> None:
    """Make so many namespaces, "full-0" and so on, and the CronJobs in them."""

    def make(number: int) -> None:
        namespace = f"full-{number}"
        cluster.create("/api/v1/namespaces", {"metadata": {"name": namespace}}, timeout=60)
        for job in range(IN_EACH):
            cluster.create(f"/apis/batch/v1/namespaces/{namespace}/cronjobs", _cron_job(f"job-{job}"), timeout=60)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(make, range(namespaces)))


def _cron_job(name: str) -> Object:
    pod = {"spec": {"restartPolicy": "Never", "containers": CONTAINERS}}
    spec = {"suspend": True, "schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": pod}}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}
