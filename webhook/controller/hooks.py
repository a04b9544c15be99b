"""Keeps both webhook configurations in the cluster as registration.py derives them.

Once somebody has deleted one, it isn't made again: deleting them is the emergency exit from Forestall.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog
from prometheus_client import Gauge

from webhook.cluster.record import Record, Recorded, read_value
from webhook.config import Config
from webhook.controller.events import report
from webhook.controller.registration import STAGES, bundled, configuration_path, configurations, corrected, service_port
from webhook.errors import ClusterRefused, Conflict
from webhook.installation import CONTROLLER, NAME, SECRET, STATE
from webhook.policy import Object, Stage

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster
    from webhook.controller.endpoints import Endpoints

_LOOK_AGAIN = timedelta(minutes=1)
_OWNER_PATH = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{CONTROLLER}"

log = structlog.get_logger()

hooks_off = Gauge(
    "forestall_hooks_off",
    "1 while a webhook configuration was deleted or switched off and stays so until `forestall hooks on`.",
    ["configuration"],
)


class HooksState(msgspec.Struct):
    """The controller's record of the webhook configurations, by stage: their UIDs, and why one is off.

    It counts for one installation, whose ClusterRole's UID is `owner`.
    """

    owner: str = ""
    uids: dict[Stage, str] = msgspec.field(default_factory=dict)
    off: dict[Stage, str] = msgspec.field(default_factory=dict)


_KEY = "hooks"


def read_state(obj: Object | None) -> HooksState:
    """What ConfigMap forestall-state says of the webhook configurations."""
    return read_value(obj, _KEY, HooksState).value


def is_new(cluster: Cluster, state: Object | None) -> bool:
    """Whether this installation has never yet written a webhook configuration, nor been told to leave them off.

    `state` is ConfigMap forestall-state; what it holds of an earlier installation doesn't count.
    """
    owner, known = cluster.get(_OWNER_PATH), read_state(state)
    return owner is None or known.owner != owner["metadata"]["uid"] or not (known.uids or known.off)


ON_PURPOSE = "switched off"
DELETED = "deleted by somebody"

HookAction = Literal["create", "keep", "delete", "remember it is off", "nothing"]


def next_action(existing: Object | None, uid: str, off: str) -> HookAction:
    """What to do about a webhook configuration, by the recorded UID and reason to be off.

    One that was deleted stays so; one that somebody has brought back, from a backup, is on again.
    """
    if off == ON_PURPOSE:
        return "delete" if existing else "nothing"
    if existing:
        return "keep"
    if off:
        return "nothing"
    return "remember it is off" if uid else "create"


class Hooks:
    """Keeps both configurations in the cluster as `configurations` has them.

    `earlier` are the configurations that servers may still patch by.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        endpoints: Endpoints,
        earlier: Callable[[], Collection[Config]] = tuple,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._endpoints = endpoints
        self._earlier = earlier
        self._record = Record(cluster, namespace, STATE, _KEY, HooksState)
        self._installation: tuple[Object | None, int] = (None, 443)
        self._looked_at: datetime | None = None
        self._waiting = ""

    def reconcile(self, config: Config, now: datetime) -> None:
        owner, port = self._look_at_installation(now)
        if owner is None:
            # The webhook configurations are deleted with this ClusterRole. Where it is absent, the chart may be being
            # removed, and a configuration that was made now would stay behind.
            self._wait(f"{_OWNER_PATH} is missing")
            return
        kept = self._record.read()
        state, before = _state_of(kept, owner), _state_of(kept, owner)
        # Read before the Secret: the write of a leader that was held up in between then fails by its version, instead
        # of putting an older bundle over a newer one.
        existing = {stage: self._cluster.get(configuration_path(stage)) for stage in STAGES}
        bundle = self._ca_bundle(config)
        wanted = configurations(
            config, bundle, namespace=self._namespace, port=port, owner=owner, earlier=self._earlier()
        )
        for stage, configuration in zip(STAGES, wanted, strict=True):
            self._keep(stage, existing[stage], configuration, state)
            hooks_off.labels(STAGES[stage]).set(stage in state.off)
        if state != before:
            written = self._record.write(kept, state, owner=owner).object
            self._report_deleted(written or {}, state, before)

    def _keep(self, stage: Stage, existing: Object | None, wanted: Object, state: HooksState) -> None:
        path = configuration_path(stage)
        match next_action(existing, state.uids.get(stage, ""), state.off.get(stage, "")):
            case "create":
                if self._is_ready(wanted):
                    webhooks = [bundled(webhook) for webhook in wanted["webhooks"]]
                    made = self._cluster.create(path.rpartition("/")[0], {**wanted, "webhooks": webhooks}).object
                    state.uids[stage] = made["metadata"]["uid"]
                    log.info("created", configuration=STAGES[stage])
            case "keep" if existing:
                state.uids[stage] = existing["metadata"]["uid"]
                state.off.pop(stage, None)
                if better := corrected(existing, wanted):
                    self._cluster.replace(path, better)
                    log.info("corrected", configuration=STAGES[stage])
            case "delete" if existing:
                self._cluster.delete(path, existing["metadata"]["uid"])
            case "remember it is off":
                state.off[stage] = DELETED

    def _is_ready(self, wanted: Object) -> bool:
        """Whether a server is ready and the API server would trust its certificate."""
        is_injected = "cert-manager.io/inject-ca-from" in wanted["metadata"]["annotations"]
        if not is_injected and not all(webhook["clientConfig"].get("caBundle") for webhook in wanted["webhooks"]):
            self._wait(f"Secret {SECRET} has no ca.crt yet")
        elif not self._endpoints.is_any_ready():
            self._wait("no endpoint is ready yet")
        else:
            self._wait("")
        return not self._waiting

    def _wait(self, reason: str) -> None:
        if reason and reason != self._waiting:
            log.info("webhook configurations wait", reason=reason)
        self._waiting = reason

    def _ca_bundle(self, config: Config) -> str:
        if config.certificates.mode == "certManager":
            return ""
        secret = self._cluster.get(f"/api/v1/namespaces/{self._namespace}/secrets/{SECRET}")
        return str(((secret or {}).get("data") or {}).get("ca.crt") or "")

    def _look_at_installation(self, now: datetime) -> tuple[Object | None, int]:
        """The chart's ClusterRole and the port of the servers' Service, read once a minute."""
        if self._looked_at is None or self._installation[0] is None or now - self._looked_at > _LOOK_AGAIN:
            service = self._cluster.get(f"/api/v1/namespaces/{self._namespace}/services/{NAME}")
            self._installation = self._cluster.get(_OWNER_PATH), service_port(service)
            self._looked_at = now
        return self._installation

    def _report_deleted(self, obj: Object, state: HooksState, before: HooksState) -> None:
        for stage, why in state.off.items():
            if why == DELETED and stage not in before.off:
                note = f"{STAGES[stage]} {NAME} was {DELETED}: it stays off until `forestall hooks on`"
                report(self._cluster, obj, "HooksOff", note, action="Registering")


def turn_off(cluster: Cluster, namespace: str) -> None:
    """Delete both configurations, and have every controller leave it so.

    They are deleted whatever becomes of the rest: raises ClusterRefused afterwards if that can't be remembered.
    """
    trouble = None
    try:
        # Recorded before deleting, or a controller would make them again.
        _remember(cluster, namespace, dict.fromkeys(STAGES, ON_PURPOSE))
    except ClusterRefused as error:
        trouble = error
    for stage in STAGES:
        cluster.delete(configuration_path(stage))
    # Where the namespace is gone no controller runs that could make them again.
    if trouble is not None and trouble.status != 404:
        text = f"deleted, but controllers can't be told to leave it so, and may write them again: {trouble.message}"
        raise ClusterRefused(trouble.status, trouble.reason, text) from trouble


def turn_on(cluster: Cluster, namespace: str) -> None:
    """Have the controller write both webhook configurations again, as soon as a server is ready."""
    _remember(cluster, namespace, {})


def _remember(cluster: Cluster, namespace: str, off: dict[Stage, str]) -> None:
    record = Record(cluster, namespace, STATE, _KEY, HooksState)
    owner = cluster.get(_OWNER_PATH)
    for attempts_left in reversed(range(5)):
        kept = record.read()
        state = _state_of(kept, owner)
        state.off, state.uids = dict(off), {}
        try:
            record.write(kept, state, owner=owner)
        except Conflict:
            if not attempts_left:
                raise
        else:
            return


def _state_of(kept: Recorded[HooksState], owner: Object | None) -> HooksState:
    """A copy of the record, or an empty one if the record is an earlier installation's."""
    if owner and kept.value.owner != owner["metadata"]["uid"]:
        return HooksState(owner=owner["metadata"]["uid"])
    return HooksState(kept.value.owner, dict(kept.value.uids), dict(kept.value.off))
