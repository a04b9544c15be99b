"""The labels by which a node or a volume says its zone."""

from __future__ import annotations

from collections.abc import Mapping

_ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")


def zone_of(labels: Mapping[str, str]) -> str:
    """The zone that a node's or volume's labels name; empty if none."""
    for key in _ZONE_LABELS:
        if zone := labels.get(key):
            return zone
    return ""
