"""What an installation is called, and how long a change of it takes: names that server, controller and doctor share.

The chart makes most of these objects; tests/test_chart.py compares.
"""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "forestall-system"
"""Where the chart's documentation installs it."""

NAME: Final = "forestall"
"""The servers' Service, and both webhook configurations."""

SERVER: Final = "forestall-server"
"""The servers' ServiceAccount, and the ClusterRole of what they may read."""

CONTROLLER: Final = "forestall-controller"
"""The controller's Deployment, ServiceAccount and Lease, and its ClusterRole: what it makes is deleted with that."""

AUDITOR: Final = "forestall-auditor"
"""The auditor's Lease; it has the controller's ServiceAccount, as its container is in the controller's pod."""

CONFIG: Final = "forestall-config"
"""The ConfigMap of the configuration, which stands in its key CONFIG_KEY."""
READER = "forestall-reader"
"""The chart's ClusterRole for whoever checks and audits; the chart binds nobody to it."""
CONFIG_KEY: Final = "config.yaml"

SECRET: Final = "forestall-tls"  # noqa: S105 - a name
"""The Secret of the serving certificate and its CA."""

STATE: Final = "forestall-state"
"""The ConfigMap in which the controller remembers what became of the webhook configurations, and gaps."""

LIMIT_RANGES_RECORD: Final = "forestall-limitranges"
"""The ConfigMap in which the controller remembers which LimitRanges are its own, and says which it didn't make."""

SEEN: Final = "forestall-audit-seen"
"""The ConfigMap in which the auditor remembers when findings were first seen."""

NOTIFIED: Final = "forestall-audit-notified"
"""The ConfigMap in which the auditor remembers what it has told by notifications, and what is still to be sent."""

HISTORY: Final = "forestall-audit-history"
"""The ConfigMap of the audit's counts, day by day."""

REPORT_LABEL: Final = "forestall.dev/report"
"""Label of the reports of the audit, whose value is "true"."""

LABELS: Final = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": NAME}
"""Labels of all that the controller makes, for people's selectors. Anybody can write them: they prove nothing."""

REVIEWS_PORT: Final = 8443
"""Where a server answers the API server."""
PROBES_PORT: Final = 8080
"""Where server and controller answer kubelets and scrapers."""
CONSOLE_PORT: Final = 8081
"""Where the controller shows its console."""

AUDITOR_PORT: Final = 8082
"""Where the auditor answers kubelets and scrapers."""

REPORT_RESULTS: Final = 100
"""How many results a namespace's report has at most, unless somebody says otherwise."""

PROBE_LABEL: Final = "forestall.dev/probe"
"""Label of the ConfigMap that the controller sends through the API server, as a dry run, to learn whether the webhook
is asked; its value is the question's nonce."""


def probe_answer(nonce: str, stage: str) -> str:
    """The warning by which a server answers the probe with this nonce, at "mutate" or "validate"."""
    return f"forestall probe {nonce} {stage}"


def undecided_answer(stage: str, began: int, ended: int) -> str:
    """The warning by which a server tells the probe of reviews that passed undecided: when, in seconds since 1970."""
    return f"forestall undecided {stage} {began} {ended}"


SETTLING: Final = 120.0
"""Seconds that a change of the configuration takes to reach everybody: kubelets look every minute, and then take a
moment."""
