"""`forestall controller`: one of its replicas leads, and keeps in the cluster what the configuration asks for."""

from __future__ import annotations

import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Gauge

from webhook import log as logs
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch
from webhook.config import Config
from webhook.controller.console import create_console
from webhook.controller.endpoints import Endpoint, Endpoints
from webhook.controller.gaps import Gaps
from webhook.controller.hooks import Hooks, hooks_off
from webhook.controller.lease import Election
from webhook.controller.limit_ranges import Limits
from webhook.controller.pages import serve_pages
from webhook.controller.parts import Leads, Loop, Part
from webhook.controller.probes import create_probes
from webhook.controller.rotation import Rotation
from webhook.installation import CONSOLE_PORT, CONTROLLER, NAMESPACE, PROBES_PORT
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.policy import FactKind
from webhook.reloading import Reloaded, follow_config

_WATCHED = (LIMIT_RANGES, NAMESPACES)
_PROBE_ENDS = 2.0
"""Seconds that the end waits for a probe under way. If it writes later, it is refused where a new leader has
written."""
log = structlog.get_logger()

leading = Gauge(
    "forestall_controller_leading",
    "1 on the controller that leads and writes to the cluster, 0 on those that stand by.",
)
exemption_ends = Gauge(
    "forestall_exemption_expiry_timestamp_seconds",
    "When an exemption of the configuration ends, with the last day (UTC) on which it counts, in seconds since 1970.",
    ["exemption", "policy", "owner"],
)
facts_known = Gauge(
    "forestall_facts_known", "Whether the kind's objects are known: 0 where they can't be read.", ["kind"]
)
unreadable_objects = Gauge(
    "forestall_unreadable_objects",
    "Objects of the kind that are passed over because they can't be read.",
    ["kind"],
)


@dataclass(frozen=True)
class ControllerSettings:
    """The options of `forestall controller`; without a kubeconfig the cluster is the one that it runs in.

    `endpoints` are the servers, where the Service's EndpointSlices don't name them.
    """

    config: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = NAMESPACE
    metrics_port: int = PROBES_PORT
    console_port: int = CONSOLE_PORT
    endpoints: tuple[Endpoint, ...] = ()
    log_level: str = "info"


def create_loop(
    config: Reloaded[Config],
    election: Leads,
    make_parts: Callable[[], Sequence[Part]],
    clock: Callable[[], float] = time.monotonic,
) -> Loop:
    """The controller's loop, with its metrics."""
    _show_exemptions(config.value)
    return Loop(config, election, make_parts, clock, leading=leading, stand_by=hooks_off.clear, follow=_show_exemptions)


def run(settings: ControllerSettings) -> int:
    """Take part until SIGTERM; returns the process's exit code.

    Raises BadConfig, FactsUnavailable or SystemRefused if it cannot begin.
    """
    logs.configure(settings.log_level)
    logs.forward_library_logs()
    config = follow_config(settings.config)
    cluster = Cluster.named(settings.kubeconfig, settings.context)
    election = Election(cluster, settings.namespace, CONTROLLER, f"{socket.gethostname()}_{uuid.uuid4()}")
    watch = Watch(cluster, _WATCHED)
    watch.start()
    _show_facts(watch)
    loop = create_loop(config, election, lambda: _parts(cluster, watch, settings, config))
    stopping, stopped = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    # Two ports: a busy console, or a network policy for it, doesn't touch the probes.
    metrics_port = serve_pages(create_probes(lambda: loop.is_alive), settings.metrics_port, "metrics")
    console = create_console(lambda: config.value, lambda: election.is_leading, lambda: watch.unread)
    console_port = serve_pages(console, settings.console_port, "console")
    log.info("serving", metrics_port=metrics_port, console_port=console_port)
    electing = threading.Thread(target=election.run, args=[stopped], name="election", daemon=True)
    electing.start()
    gaps = Gaps(cluster, settings.namespace)
    arguments = (lambda: election.is_leading, stopping)
    probing = threading.Thread(target=gaps.run, args=arguments, name="probes", daemon=True)
    probing.start()
    try:
        loop.run(stopping)
    finally:
        probing.join(_PROBE_ENDS)
        # The Lease is given back last, when nothing more is written.
        stopped.set()
        electing.join()
    return 0


def _show_exemptions(config: Config) -> None:
    exemption_ends.clear()
    for index, exemption in enumerate(config.exemptions):
        labels = str(index), exemption.policy, exemption.owner
        exemption_ends.labels(*labels).set(exemption.ends.timestamp())


def _show_facts(watch: Watch) -> None:
    """Set the metrics by kind to read the watch whenever they are scraped."""
    for kind in _WATCHED:
        facts_known.labels(str(kind)).set_function(partial(_is_known, watch, kind))
        unreadable_objects.labels(str(kind)).set_function(partial(_count_unreadable, watch, kind))


def _is_known(watch: Watch, kind: FactKind[Any, Any]) -> float:
    return float(kind in watch.facts.known)


def _count_unreadable(watch: Watch, kind: FactKind[Any, Any]) -> float:
    return sum(reference.kind == kind for reference in watch.facts.unreadable)


def _parts(cluster: Cluster, watch: Watch, settings: ControllerSettings, config: Reloaded[Config]) -> list[Part]:
    """The parts of the controller, in the order in which a new installation needs them."""
    namespace = settings.namespace
    endpoints = Endpoints(cluster, namespace, settings.endpoints)
    return [
        Part("certificates", Rotation(cluster, namespace, endpoints.all).reconcile),
        Part("hooks", Hooks(cluster, namespace, endpoints, config.earlier).reconcile),
        Part("limitranges", Limits(cluster, namespace, watch).reconcile),
    ]
