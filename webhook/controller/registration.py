"""What the API server is asked: both webhook configurations, derived from the configuration and the policies.

Nothing here reads or writes: hooks.py keeps in the cluster what `configurations` says, and `corrected` mends.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from webhook.cluster.record import owner_reference
from webhook.config import Config
from webhook.installation import LABELS, NAME, PROBE_LABEL, SECRET
from webhook.objects.names import SERVICE_ACCOUNT
from webhook.objects.owners import AUTOSCALERS, CONTROLLER_MANAGER, IDENTITIES
from webhook.policy import Mode, Object, Stage, weakest
from webhook.scope import ALWAYS_EXCLUDED, calls, exclude_own_namespace

STAGES: Mapping[Stage, str] = {
    "mutate": "MutatingWebhookConfiguration",
    "validate": "ValidatingWebhookConfiguration",
}
"""Stage -> kind of webhook configuration, in the order in which they are written: patching begins before denying."""

_API = "/apis/admissionregistration.k8s.io/v1"
_NAMESPACE = (
    "kubernetes.io/metadata.name"  # the API server sets this label on every namespace, and nobody can set another value
)
_NAMESPACE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


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
        annotations["cert-manager.io/inject-ca-from"] = f"{namespace}/{SECRET}"
    # Without it AKS' admissions enforcer rewrites our selectors, we write them back, and so on without end.
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
    # Only names can be given: the API refuses a glob as a label's value.
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
        **({"failurePolicy": _failure_policy(config)} if stage == "validate" else {}),
    }


def _failure_policy(config: Config) -> str:
    """What becomes of a judged request while no server answers: it is refused only where an answer may refuse it.

    So a ceiling of audit or warn, which people set to weaken an installation, never refuses anything.
    """
    return config.webhooks.failure_policy if any(map(_may_deny, _settings_of_all(config))) else "Ignore"


def _may_deny(modes: tuple[Mode, Mode]) -> bool:
    """Whether a policy may deny at this mode, and with this `otherwise` for what "patch" can't mend."""
    mode, otherwise = modes
    return mode == "deny" or (mode == "patch" and otherwise == "deny")


def _settings_of_all(config: Config) -> Iterator[tuple[Mode, Mode]]:
    """Every mode and `otherwise`, capped by the configuration's own mode, that a policy may have for some request."""
    for active in config.policies.values():
        if not active.policy.operations:  # such a policy judges files and stored objects alone
            continue
        sections = [override.policies.get(active.policy.id) for override in config.overrides]
        overridden = [
            (section.mode or active.mode, section.otherwise or active.otherwise) for section in sections if section
        ]
        for mode, otherwise in [(active.mode, active.otherwise), *overridden]:
            yield weakest(mode, config.mode), weakest(otherwise, config.mode)


def fails_closed(configuration: Object) -> bool:
    """Whether the stored webhook configuration has the API server refuse what it judges while no server answers."""
    return any(webhook.get("failurePolicy") == "Fail" for webhook in configuration.get("webhooks") or ())


def _spared_by_all(config: Config, earlier: Iterable[Config]) -> Config:
    """The configuration with only those exclusions that the others have as well."""
    for other in earlier:
        excluded = tuple(glob for glob in config.exclude_namespaces if glob in other.exclude_namespaces)
        kinds = tuple(kind for kind in config.kinds if kind in other.kinds)
        controllers = config.controllers & other.controllers
        config = replace(config, exclude_namespaces=excluded, controllers=controllers, kinds=kinds)
    return config


def _probing(stage: Stage, namespace: str, common: Object) -> Object:
    """The webhook for the controller's probes: registered at every mode, and asked about labelled ConfigMaps alone."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
    return {
        **common,
        "name": f"probe.{stage}.forestall.dev",
        "rules": [{**rule, "scope": "Namespaced"}],
        "namespaceSelector": {"matchExpressions": [{"key": _NAMESPACE, "operator": "In", "values": [namespace]}]},
        "objectSelector": {"matchExpressions": [{"key": PROBE_LABEL, "operator": "Exists"}]},
        **({"reinvocationPolicy": "Never"} if stage == "mutate" else {}),
    }


def service_port(service: Object | None) -> int:
    """The port of the servers' Service, on which the API server calls; the chart's own where there is no Service."""
    ports = ((service or {}).get("spec") or {}).get("ports") or ({"port": 443},)
    return int(ports[0]["port"])


def needed_rules(config: Config, stage: Stage, earlier: Iterable[Config] = ()) -> list[Object]:
    """What some active policy judges, or for "mutate" can fix, as webhook rules; in a fixed order."""
    operations: dict[tuple[str, str], set[str]] = defaultdict(set)
    for configured in (config, *earlier):
        for call in calls(configured, stage):
            resource = "/".join(filter(None, (call.kind.resource, call.subresource)))
            operations[call.kind.group, resource].add(call.operation)
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource), wanted in sorted(operations.items()):
        resources[group, tuple(sorted(wanted))].append(resource)
    return [
        # Every version: the engine knows a kind by its group, and a CRD may have several versions.
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
    # A glob with [...] is left to the engine.
    globs = [glob for glob in config.exclude_namespaces if set("*?") & set(glob) and "[" not in glob]
    return {
        "not-in-an-excluded-namespace": f"!request.namespace.matches({_cel(_regex(globs))})" if globs else "",
        "not-being-deleted": _kept_or_respecified(config),
        "not-judged-at-its-owner": _not_owned(stage, config),
        # Without the ratchet violations that the object had before are denied, so that every update is judged.
        "not-an-unchanged-pod": _CHANGED_POD if stage == "validate" and config.ratchet else "",
        # An autoscaler isn't refused even while no server answers.
        "not-scaled-by-its-autoscaler": _not_autoscaled() if _is_asked_of_scales(stage, config) else "",
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


def _is_asked_of_scales(stage: Stage, config: Config) -> bool:
    return any(call.subresource == "scale" for call in calls(config, stage))


def _not_autoscaled() -> str:
    """False for a Scale that a HorizontalPodAutoscaler writes (scope._left_alone)."""
    is_scale = 'has(request.subResource) && request.subResource == "scale"'
    return f"!({is_scale} && request.userInfo.username in {_cel(sorted(AUTOSCALERS))})"


def _kept_or_respecified(config: Config) -> str:
    """True if the object isn't being deleted, or its judged fields change (scope._is_respecified)."""
    changes = "".join(
        f" || has(object.{field}) != has(oldObject.{field})"
        f" || has(object.{field}) && object.{field} != oldObject.{field}"
        for field in sorted({"spec", "template", *config.object_fields})
    )
    return f"oldObject == null || !has(oldObject.metadata.deletionTimestamp){changes}"


def _not_owned(stage: Stage, config: Config) -> str:
    """False if a controller made the object and asks for it itself (owners.Maker): such objects pass.

    They may be patched all the same, where the configuration has sizes for them (scope.may_patch).
    """
    pairs = {(*key, user) for key, identity in IDENTITIES.items() for user in (identity, CONTROLLER_MANAGER)}
    known = [f"{group}/{kind} {user}" for group, kind, user in sorted(pairs)]
    judged = sorted(
        {f"{workload.group}/{workload.kind}" for workload in config.workloads if workload[:2] not in IDENTITIES}
    )
    group = 'owner.apiVersion.contains("/") ? owner.apiVersion.split("/")[0] : ""'
    kind, user = f'({group}) + "/" + owner.kind', "request.userInfo.username"
    built_in = f'{kind} + " " + {user} in {_cel(known)}'
    account = _cel(SERVICE_ACCOUNT)
    others = (
        f"({user}.startsWith({account}) && !{user}.startsWith({account} + request.namespace + ':')"
        f" && {kind} in {_cel(judged)})"
    )
    if config.controllers:
        others = f"{user} in {_cel(sorted(config.controllers))} || {others}"
    passes = _owned_by(f"{built_in} || {others}")
    if stage == "validate" or not (config.names_sizes or config.patch_owned_pods):
        return f"!({passes})"
    kept = _owned_by(built_in) if config.names_sizes else passes
    return f'request.kind.kind == "Pod" || !({kept})'


def _owned_by(condition: str) -> str:
    """True if the object names a controller, called `owner`, for which the expression holds."""
    return (
        "has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(owner,"
        f" has(owner.controller) && owner.controller && ({condition}))"
    )


def _cel(value: str | Sequence[str]) -> str:
    """The value as a CEL literal: JSON's strings and lists are CEL's, too."""
    return msgspec.json.encode(value).decode()


def _regex(globs: Collection[str]) -> str:
    """An RE2 expression for the globs, as fnmatch reads them."""
    return f"^({'|'.join(''.join(_SIGNS.get(sign) or re.escape(sign) for sign in glob) for glob in globs)})$"


_SIGNS = {"*": ".*", "?": "."}


# The fields of a webhook that we set. Those that a newer API server adds are left: removing them would go on without
# end.
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
    """`existing`, corrected to say what `wanted` says; None if it does already. What others add to its metadata stays.

    Where we bring no caBundle, the one that is there stays, and without any nothing fails closed.
    """
    metadata = dict(existing["metadata"])
    for field in ("labels", "annotations"):
        metadata[field] = {**(metadata.get(field) or {}), **wanted["metadata"][field]}
    if owners := wanted["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = owners
    there = {webhook["name"]: webhook for webhook in existing.get("webhooks") or ()}
    webhooks = [bundled(webhook, there.get(webhook["name"])) for webhook in wanted["webhooks"]]
    if metadata == existing["metadata"] and list(map(_said, there.values())) == list(map(_said, webhooks)):
        return None
    return {**existing, "metadata": metadata, "webhooks": webhooks}


def bundled(webhook: Object, there: Object | None = None) -> Object:
    """The webhook, with the caBundle of the one that is `there` if it brings none; without any it fails open."""
    client = webhook["clientConfig"]
    if client.get("caBundle"):
        return webhook
    if bundle := ((there or {}).get("clientConfig") or {}).get("caBundle"):
        return {**webhook, "clientConfig": {**client, "caBundle": bundle}}
    return {**webhook, "failurePolicy": "Ignore"}


def _said(webhook: Object) -> Object:
    return {field: webhook[field] for field in _FIELDS if webhook.get(field)}


def configuration_path(stage: Stage) -> str:
    """The API path of our webhook configuration."""
    return f"{_API}/{STAGES[stage].lower()}s/{NAME}"
