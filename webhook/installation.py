"""What an installation is called, and how long a change of it takes: names that server, controller and doctor share."""

from __future__ import annotations

PROBE_LABEL = "forestall.dev/probe"
"""Label of the ConfigMap that the controller sends through the API server, as a dry run, to learn whether the webhook
is asked; its value is the question's nonce."""

SETTLING = 120.0
"""Seconds that a change of the configuration takes to reach everybody: kubelets look every minute, and then take a
moment."""
