"""The two webhook configurations: what the API server asks us about, and how.

`configurations` derives them from the configuration and what the policies declare. `Hooks` keeps them so in the
cluster, and leaves them off once somebody has deleted them: that is how a cluster gets rid of us in an emergency.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog
from prometheus_client import Gauge

from webhook.config import Config
from webhook.controller.events import report
from webhook.errors import ClusterRefused, Conflict
from webhook.installation import PROBE_LABEL
from webhook.objects.owners import CONTROLLER_MANAGER, IDENTITIES
from webhook.policy import Object, Stage
from webhook.scope import ALWAYS_EXCLUDED, calls, exclude_own_namespace

if TYPE_CHECKING:
    from webhook.cluster import Cluster
    from webhook.controller.endpoints import Endpoints

NAME = "forestall"
LABELS = {"app.kubernetes.io/name": "forestall"}
STAGES: Mapping[Stage, str] = {
    "mutate": "MutatingWebhookConfiguration",
    "validate": "ValidatingWebhookConfiguration",
}
"""In the order in which they are written: what is patched first need not be denied."""

_LOOK_AGAIN = timedelta(minutes=1)
_OWNER_PATH = "/apis/rbac.authorization.k8s.io/v1/clusterroles/forestall-controller"
_API = "/apis/admissionregistration.k8s.io/v1"
_NAMESPACE = "kubernetes.io/metadata.name"  # always there, and nobody can forge it
_NAMESPACE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

log = structlog.get_logger()

hooks_off = Gauge(
    "forestall_hooks_off", "1 while a webhook configuration stays off: `forestall hooks on`.", ["configuration"]
)


def configurations(
    config: Config,
    ca_bundle: str,
    *,
    namespace: str,
    port: int = 443,
    owner: Object | None = None,
    earlier: Collection[Config] = (),
) -> tuple[Object, Object]:
    """The MutatingWebhookConfiguration and the ValidatingWebhookConfiguration, every field written out.

    `ca_bundle` is base64, as the API has it; empty leaves it to cert-manager's injector, and nothing fails closed
    before it is there: a webhook with Fail and without caBundle refuses all that it matches. `port` is that of our
    Service. With the `owner`, an object of the cluster, they go too. What servers may still patch by `earlier`
    configurations is asked as well.
    """
    before: dict[Stage, Collection[Config]] = {"mutate": earlier, "validate": ()}
    mutating, validating = (
        _configuration(stage, config, before[stage], ca_bundle, namespace, port, owner) for stage in STAGES
    )
    return mutating, validating


def _configuration(
    stage: Stage,
    config: Config,
    earlier: Collection[Config],
    ca_bundle: str,
    namespace: str,
    port: int,
    owner: Object | None,
) -> Object:
    annotations = {}
    if config.certificates.mode == "certManager":
        annotations["cert-manager.io/inject-ca-from"] = f"{namespace}/forestall-tls"
    # AKS would otherwise rewrite our selectors, and we would write them back, and so on.
    annotations["admissions.enforcer/disabled"] = "true"
    metadata: Object = {"name": NAME, "labels": dict(LABELS), "annotations": annotations}
    if owner:
        metadata["ownerReferences"] = [owner_reference(owner)]
    common: Object = {
        "clientConfig": {
            "service": {"namespace": namespace, "name": NAME, "path": f"/{stage}", "port": port},
            **({"caBundle": ca_bundle} if ca_bundle else {}),
        },
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": config.webhooks.timeout_seconds,
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
    }
    webhooks = [*_judging(stage, config, earlier, namespace, common), _probing(stage, namespace, common)]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": STAGES[stage],
        "metadata": metadata,
        "webhooks": webhooks,
    }


def _judging(
    stage: Stage, config: Config, earlier: Collection[Config], namespace: str, common: Object
) -> Iterator[Object]:
    rules = needed_rules(config, stage, earlier)
    if not rules:
        return
    config = exclude_own_namespace(_spared_by_all(config, earlier), namespace)
    # What is no name, a glob above all, the API wouldn't take as a label's value.
    named = set(filter(_NAMESPACE_NAME.fullmatch, config.exclude_namespaces))
    excluded = sorted(ALWAYS_EXCLUDED | named)
    yield {
        **common,
        "name": f"{stage}.forestall.dev",
        "rules": rules,
        "namespaceSelector": {"matchExpressions": [{"key": _NAMESPACE, "operator": "NotIn", "values": excluded}]},
        "objectSelector": {},
        "matchConditions": [
            {"name": name, "expression": text} for name, text in _conditions(stage, config).items() if text
        ],
        **({"reinvocationPolicy": "IfNeeded"} if stage == "mutate" else {}),
        **({"failurePolicy": config.webhooks.failure_policy} if stage == "validate" else {}),
    }


def fails_closed(configuration: Object) -> bool:
    """Whether what is judged is refused while nobody answers for this webhook configuration, as it is stored."""
    return any(each.get("failurePolicy") == "Fail" for each in configuration.get("webhooks") or ())


def _spared_by_all(config: Config, earlier: Iterable[Config]) -> Config:
    """The configuration with only those exclusions that the others have as well."""
    for each in earlier:
        excluded = tuple(glob for glob in config.exclude_namespaces if glob in each.exclude_namespaces)
        config = replace(config, exclude_namespaces=excluded, controllers=config.controllers & each.controllers)
    return config


def _probing(stage: Stage, namespace: str, common: Object) -> Object:
    """Asked at every mode about nobody's objects: whoever creates such a ConfigMap learns whether we are reached."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    return {
        **common,
        "name": f"probe.{stage}.forestall.dev",
        "rules": [{**rule, "scope": "Namespaced"}],
        "namespaceSelector": {"matchExpressions": [{"key": _NAMESPACE, "operator": "In", "values": [namespace]}]},
        "objectSelector": {"matchExpressions": [{"key": PROBE_LABEL, "operator": "Exists"}]},
        **({"reinvocationPolicy": "Never"} if stage == "mutate" else {}),
    }


def needed_rules(config: Config, stage: Stage, earlier: Iterable[Config] = ()) -> list[Object]:
    """What some active policy judges, or for "mutate" can fix, as webhook rules; in a fixed order."""
    operations: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in (config, *earlier):
        for call in calls(one, stage):
            resource = "/".join(filter(None, (call.kind.resource, call.subresource)))
            operations[call.kind.group, resource].add(call.operation)
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), wanted in sorted(operations.items()):
        resources[group, tuple(sorted(wanted))].append(resource)
    return [
        # Every version: the engine knows a kind by its group alone, and CRDs of one kind come in several.
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "resources": names,
            "operations": list(wanted),
            "scope": "Namespaced",
        }
        for (group, wanted), names in sorted(resources.items())
    ]


def _conditions(stage: Stage, config: Config) -> dict[str, str]:
    """CEL by name, all of which must hold for a call: each spares only calls whose answer is known to be "allowed".

    An error in one refuses the request where we fail closed, so nothing may be touched that may be absent.
    """
    # One with [...] stays with the engine.
    globs = [glob for glob in config.exclude_namespaces if set("*?") & set(glob) and "[" not in glob]
    return {
        "not-in-an-excluded-namespace": f"!request.namespace.matches({_cel(_regex(globs))})" if globs else "",
        "not-being-deleted": "oldObject == null || !has(oldObject.metadata.deletionTimestamp)",
        "not-judged-at-its-owner": _not_owned(stage, config),
        # Without the ratchet, what was there before is denied, whatever changes.
        "not-an-unchanged-pod": _CHANGED_POD if stage == "validate" and config.ratchet else "",
    }


# Violations that the old object had as well only warn, and these are all that the API lets change in a pod, and that a
# policy may read. The most frequent update of all is spared: the Job controller's finalizers.
_CHANGED_POD = (
    'request.operation != "UPDATE" || request.kind.group != "" || request.kind.kind != "Pod"'
    " || has(request.subResource) || object.spec != oldObject.spec"
) + "".join(
    f" || (has(object.metadata.{field}) ? object.metadata.{field} : {empty})"
    f" != (has(oldObject.metadata.{field}) ? oldObject.metadata.{field} : {empty})"
    for field, empty in (("labels", "{}"), ("annotations", "{}"), ("ownerReferences", "[]"))
)


def _not_owned(stage: Stage, config: Config) -> str:
    """Whether the object isn't that of a controller that asks itself (webhook.objects.owners): it is judged at
    its owner.

    Its pods, as there, may be patched all the same, where the configuration has sizes for them.
    """
    pairs = {(*key, user) for key, identity in IDENTITIES.items() for user in (identity, CONTROLLER_MANAGER)}
    known = [f"{group}/{kind} {user}" for group, kind, user in sorted(pairs)]
    group = 'owner.apiVersion.contains("/") ? owner.apiVersion.split("/")[0] : ""'
    kind = f'({group}) + "/" + owner.kind'
    is_known = f'{kind} + " " + request.userInfo.username in {_cel(known)}'
    if config.controllers:
        judged = sorted({f"{kind.group}/{kind.kind}" for kind in config.workloads})
        is_trusted = f"request.userInfo.username in {_cel(sorted(config.controllers))} && {kind} in {_cel(judged)}"
        is_known = f"{is_trusted} || {is_known}"
    owned = (
        "has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(owner,"
        f" has(owner.controller) && owner.controller && ({is_known}))"
    )
    may_patch = stage == "mutate" and config.judges_owned_pods
    return f'request.kind.kind == "Pod" || !({owned})' if may_patch else f"!({owned})"


def _cel(value: str | Sequence[str]) -> str:
    """A literal: JSON's strings and lists are CEL's."""
    return msgspec.json.encode(value).decode()


def _regex(globs: Collection[str]) -> str:
    """An RE2 expression for the globs, as fnmatch reads them."""
    return f"^({'|'.join(''.join(_SIGNS.get(sign) or re.escape(sign) for sign in glob) for glob in globs)})$"


_SIGNS = {"*": ".*", "?": "."}


# What a configuration's webhooks say; whatever a newer API server adds isn't ours to take away, again and again.
_FIELDS = (
    "name",
    "clientConfig",
    "rules",
    "failurePolicy",
    "matchPolicy",
    "namespaceSelector",
    "objectSelector",
    "sideEffects",
    "timeoutSeconds",
    "admissionReviewVersions",
    "reinvocationPolicy",
    "matchConditions",
)


def corrected(existing: Object, wanted: Object) -> Object | None:
    """`existing` with all that we want of it; None if it has it. What others add to its metadata stays.

    Where we bring no caBundle, the one that is there stays, and without any nothing fails closed.
    """
    metadata = dict(existing["metadata"])
    for field in ("labels", "annotations"):
        metadata[field] = {**(metadata.get(field) or {}), **wanted["metadata"][field]}
    if owners := wanted["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = owners
    there = {each["name"]: each for each in existing.get("webhooks") or ()}
    webhooks = [_with_bundle_of(there.get(each["name"]), each) for each in wanted["webhooks"]]
    if metadata == existing["metadata"] and list(map(_said, there.values())) == list(map(_said, webhooks)):
        return None
    return {**existing, "metadata": metadata, "webhooks": webhooks}


def _with_bundle_of(there: Object | None, webhook: Object) -> Object:
    client = webhook["clientConfig"]
    if client.get("caBundle"):
        return webhook
    if bundle := ((there or {}).get("clientConfig") or {}).get("caBundle"):
        return {**webhook, "clientConfig": {**client, "caBundle": bundle}}
    return {**webhook, "failurePolicy": "Ignore"}


def _said(webhook: Object) -> Object:
    return {field: webhook[field] for field in _FIELDS if webhook.get(field)}


class State(msgspec.Struct):
    """What is remembered of the configurations, by stage: their UIDs, and why one is off.

    It counts for one installation, whose ClusterRole's UID is `owner`.
    """

    owner: str = ""
    uids: dict[Stage, str] = msgspec.field(default_factory=dict)
    off: dict[Stage, str] = msgspec.field(default_factory=dict)


STATE_NAME = "forestall-state"
_STATE_KEY = "hooks"


def read_state(obj: Object | None) -> State:
    """What the ConfigMap says."""
    try:
        return msgspec.json.decode(((obj or {}).get("data") or {}).get(_STATE_KEY) or "{}", type=State)
    except msgspec.DecodeError:
        return State()  # somebody's edit


ON_PURPOSE = "switched off"
DELETED = "deleted by somebody"

Action = Literal["create", "keep", "delete", "remember it is off", "nothing"]


def plan(existing: Object | None, uid: str, off: str) -> Action:
    """What to do about a configuration, by the UID and the reason to be off that are remembered of it.

    One that was deleted stays so; one that somebody has brought back, from a backup, is on again.
    """
    if off == ON_PURPOSE:
        return "delete" if existing else "nothing"
    if existing:
        return "keep"
    if off:
        return "nothing"
    return "remember it is off" if uid else "create"


def path_of(stage: Stage) -> str:
    return f"{_API}/{STAGES[stage].lower()}s/{NAME}"


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
        self._memory = _Memory(cluster, namespace)
        self._installation: tuple[Object | None, int] = (None, 443)
        self._looked_at: datetime | None = None
        self._waiting = ""

    def reconcile(self, config: Config, now: datetime) -> None:
        owner, port = self._look_at_installation(now)
        if owner is None:
            # Nothing would remove what we made, once the chart is gone; and it may be on its way.
            self._wait(f"{_OWNER_PATH} is missing")
            return
        obj, state = self._memory.read(owner)
        before = msgspec.json.encode(state)
        # Read before the Secret: the write of a leader that was held up in between then fails by its version, instead
        # of putting an older bundle over a newer one.
        existing = {stage: self._cluster.get(path_of(stage)) for stage in STAGES}
        bundle = self._ca_bundle(config)
        wanted = configurations(
            config, bundle, namespace=self._namespace, port=port, owner=owner, earlier=self._earlier()
        )
        for stage, each in zip(STAGES, wanted, strict=True):
            self._keep(stage, existing[stage], each, state)
            hooks_off.labels(STAGES[stage]).set(stage in state.off)
        if msgspec.json.encode(state) != before:
            written = self._memory.write(obj, state)
            self._report_deleted(written, state, msgspec.json.decode(before, type=State))

    def _keep(self, stage: Stage, existing: Object | None, wanted: Object, state: State) -> None:
        path = path_of(stage)
        match plan(existing, state.uids.get(stage, ""), state.off.get(stage, "")):
            case "create":
                if self._is_ready(wanted):
                    webhooks = [_with_bundle_of(None, each) for each in wanted["webhooks"]]
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
        """Whether somebody would answer, in a way that the API server trusts."""
        is_injected = "cert-manager.io/inject-ca-from" in wanted["metadata"]["annotations"]
        if not is_injected and not all(each["clientConfig"].get("caBundle") for each in wanted["webhooks"]):
            self._wait("Secret forestall-tls has no ca.crt yet")
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
        secret = self._cluster.get(f"/api/v1/namespaces/{self._namespace}/secrets/forestall-tls")
        return str(((secret or {}).get("data") or {}).get("ca.crt") or "")

    def _look_at_installation(self, now: datetime) -> tuple[Object | None, int]:
        """The chart's ClusterRole, and our Service's port: they hardly ever change."""
        if self._looked_at is None or self._installation[0] is None or now - self._looked_at > _LOOK_AGAIN:
            service = self._cluster.get(f"/api/v1/namespaces/{self._namespace}/services/{NAME}")
            ports = ((service or {}).get("spec") or {}).get("ports") or ({"port": 443},)
            self._installation = self._cluster.get(_OWNER_PATH), ports[0]["port"]
            self._looked_at = now
        return self._installation

    def _report_deleted(self, obj: Object, state: State, before: State) -> None:
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
        # Remembered first, or a controller would bring back what we delete.
        _remember(cluster, namespace, dict.fromkeys(STAGES, ON_PURPOSE))
    except ClusterRefused as error:
        trouble = error
    for stage in STAGES:
        cluster.delete(path_of(stage))
    # Without its namespace no controller runs.
    if trouble is not None and trouble.status != 404:
        text = f"deleted, but controllers can't be told to leave it so, and may write them again: {trouble.message}"
        raise ClusterRefused(trouble.status, trouble.reason, text) from trouble


def turn_on(cluster: Cluster, namespace: str) -> None:
    """Have the controller write both configurations again, as soon as somebody would answer."""
    _remember(cluster, namespace, {})


def _remember(cluster: Cluster, namespace: str, off: dict[Stage, str]) -> None:
    memory, owner = _Memory(cluster, namespace), cluster.get(_OWNER_PATH)
    for attempts_left in reversed(range(5)):
        obj, state = memory.read(owner)
        state.off, state.uids = dict(off), {}
        try:
            memory.write(obj, state)
        except Conflict:
            if not attempts_left:
                raise
        else:
            return


@dataclass(frozen=True)
class _Memory:
    """The state in its ConfigMap, one key of which is ours."""

    cluster: Cluster
    namespace: str

    def read(self, owner: Object | None) -> tuple[Object, State]:
        """The ConfigMap, to be given back to write(), and the state in it, as far as it is this installation's."""
        obj = self.cluster.get(f"{self._path}/{STATE_NAME}")
        if obj is None:
            metadata = {"name": STATE_NAME, "namespace": self.namespace, "labels": dict(LABELS)}
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        uid = owner["metadata"]["uid"] if owner else ""
        state = read_state(obj)
        if owner and state.owner != uid:
            state = State(owner=uid)
            obj = {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner_reference(owner)]}}
        return obj, state

    def write(self, obj: Object, state: State) -> Object:
        obj = {**obj, "data": {**(obj.get("data") or {}), _STATE_KEY: msgspec.json.encode(state).decode()}}
        if "resourceVersion" in obj["metadata"]:
            return self.cluster.replace(f"{self._path}/{STATE_NAME}", obj)
        return self.cluster.create(self._path, obj).object

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"


def owner_reference(owner: Object) -> Object:
    """For objects that are to go with the owner."""
    metadata = owner["metadata"]
    return {k: owner[k] for k in ("apiVersion", "kind")} | {k: metadata[k] for k in ("name", "uid")}
