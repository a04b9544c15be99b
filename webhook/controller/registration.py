"""What the API server is asked: both webhook configurations, derived from the configuration and the policies.

Nothing here reads or writes: hooks.py keeps in the cluster what `configurations` says, and `corrected` mends.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from webhook.cluster.record import owner_reference
from webhook.config import Config
from webhook.controller.match_conditions import match_conditions
from webhook.installation import LABELS, NAME, PROBE_LABEL, SECRET
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
            {"name": name, "expression": text} for name, text in match_conditions(stage, config).items() if text
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
