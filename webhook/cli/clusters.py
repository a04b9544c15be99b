"""The cluster that the options or the environment name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from webhook.audit.patient import PatientCluster
    from webhook.cluster.client import Cluster

C = TypeVar("C", bound="Cluster")


def is_in_cluster(kubeconfig: Path | None, context: str | None) -> bool:
    """Whether neither a flag nor the environment names a kubeconfig, and this process runs in a cluster."""
    return (
        kubeconfig is None
        and context is None
        and "KUBERNETES_SERVICE_HOST" in os.environ
        and "KUBECONFIG" not in os.environ
    )


def reach(kubeconfig: Path | None, context: str | None) -> Cluster:
    """The cluster that a kubeconfig or a context of it names; without both the one that we run in, or kubectl's."""
    from webhook.cluster.client import Cluster  # noqa: PLC0415

    return _reach(Cluster, kubeconfig, context)


def reach_patiently(kubeconfig: Path | None, context: str | None) -> PatientCluster:
    """The same cluster, for whoever reads all of it: where it is overloaded, it is asked again when it says so."""
    from webhook.audit.patient import PatientCluster  # noqa: PLC0415

    return _reach(PatientCluster, kubeconfig, context)


def _reach(way: type[C], kubeconfig: Path | None, context: str | None) -> C:
    from webhook import log  # noqa: PLC0415

    log.silence()
    return way.in_cluster() if is_in_cluster(kubeconfig, context) else way.from_kubeconfig(kubeconfig, context)
