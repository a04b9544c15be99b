"""What is judged, of which operation and subresource, by which policies; and what is left alone.

`scope_of` answers for one request, `calls` for all that the API server has to ask about. Which kinds there are to judge
is in the configuration: Config.workloads and Config.judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import msgspec

from webhook.config import ActivePolicy, Config
from webhook.fixes import FIXED_AT_CREATION
from webhook.objects.containers import Container
from webhook.objects.facts.deployments import DEPLOYMENTS
from webhook.objects.fields import mapping
from webhook.objects.images import match_image
from webhook.objects.owners import AUTOSCALERS, Owner, is_mirror, metadata_of, owner_of, top_level
from webhook.objects.pods import readable_workload
from webhook.policy import (
    OPERATIONS,
    SUBRESOURCES,
    AdmissionRequest,
    FactKind,
    GroupKind,
    Mode,
    Policy,
    Stage,
    weakest,
)
from webhook.sections import Match

AnyStage = Stage | Literal["check"]
"""A stage of admission, or "check": what both together would do, as files and stored objects are judged."""

KindKey = tuple[str, str]
"""Group and kind."""

ALWAYS_EXCLUDED = frozenset({"forestall-system", "kube-node-lease", "kube-public", "kube-system"})
"""Namespaces that no configuration can have judged: a denial there could keep the cluster, or us, from starting."""

_JUDGED_AT_CREATION: frozenset[KindKey] = frozenset({("", "PersistentVolumeClaim")})
"""A claim is judged where its class can still be changed."""


class Leniency(NamedTuple):
    """The strongest outcome for an object that an operator made for its own resource: a person can't mend it at the
    object.

    at_most   the strongest mode that a violation may take that isn't patched
    patches   whether it is patched with more than sizes that the configuration names
    operator  the user who would have to be named in `controllers` for the object to pass, where it may be denied
    """

    at_most: Mode
    patches: bool
    operator: str = ""


class Scope(NamedTuple):
    """What of a request is judged.

    request   the request, which now knows where a kind of the configuration keeps its pod spec
    owner     the controller that the object names
    policies  those that judge it, at the mode that the overrides leave them
    skipped   why nothing is judged: "excluded namespace", "being deleted", …
    leniency  with what an operator's object is judged; None for everybody else's
    """

    request: AdmissionRequest
    owner: Owner | None
    policies: Sequence[ActivePolicy] = ()
    skipped: str = ""
    leniency: Leniency | None = None


def scope_of(request: AdmissionRequest, config: Config, stage: AnyStage) -> Scope:
    """What of this request is judged at `stage`; for "mutate" only by what may patch, since the rest is for
    "validate" to tell."""
    request = locate_pod_spec(request, config)
    owner = owner_of(request, config.controllers, config.workload_keys)
    if skipped := _left_alone(request, config, owner, stage):
        return Scope(request, owner, skipped=skipped)
    policies = list(_policies(request, config, owner, stage))
    return Scope(request, owner, policies, leniency=_leniency(request, owner, config))


def is_judged(request: AdmissionRequest, config: Config) -> bool:
    """Whether some policy judges the request when the API server asks."""
    return bool(scope_of(request, config, "validate").policies)


def locate_pod_spec(request: AdmissionRequest, config: Config) -> AdmissionRequest:
    """The request, with the paths to its pod specs if its kind is one that only the configuration declares."""
    paths = config.pod_spec_paths.get((request.group, request.kind), ())
    return msgspec.structs.replace(request, pod_spec_paths=paths) if paths and not request.pod_spec_paths else request


def is_excluded(namespace: str, config: Config) -> bool:
    return namespace in ALWAYS_EXCLUDED or any(fnmatchcase(namespace, glob) for glob in config.exclude_namespaces)


def exclude_own_namespace(config: Config, namespace: str) -> Config:
    """The configuration, with the namespace excluded that Forestall runs in: it must not keep itself from starting."""
    return replace(config, exclude_namespaces=(*config.exclude_namespaces, namespace))


class Call(NamedTuple):
    """A kind of request that the API server has to ask about."""

    kind: GroupKind
    operation: str
    subresource: str = ""


def calls(config: Config, stage: Stage) -> Iterator[Call]:
    """Every call that some policy may answer with more than "allowed", in at least one namespace; one call may come
    twice."""
    for key, (kind, policies) in config.judged.items():
        for active in policies:
            modes = modes_of(active, config)
            for operation in OPERATIONS:
                for subresource in ("", *active.policy.subresources):
                    if _judges(active.policy, key, operation, subresource, stage) and any(
                        _acts(active, mode, key, stage) for mode in modes
                    ):
                        yield Call(kind, operation, subresource)


def judged_kinds(config: Config) -> set[GroupKind]:
    """The kinds that the API server has to ask about, at creation or later."""
    return {call.kind for call in calls(config, "validate")}


def needed_facts(config: Config) -> set[FactKind[Any, Any]]:
    """The watched kinds of cluster objects without which some policy can't judge what the API server asks about."""
    return {kind for active in _asked(config) for kind in active.policy.facts if kind.is_served}


def looked_up_facts(config: Config) -> set[FactKind[Any, Any]]:
    """The kinds of which objects are looked up one by one to judge what the API server asks about."""
    is_scale_judged = any("scale" in active.policy.subresources for active in _asked(config))
    return {
        kind
        for active in _asked(config)
        for kind in active.policy.facts
        if any(
            field.encode_name == kind.allowed_by and getattr(active.params, field.name)
            for field in msgspec.structs.fields(active.params)
        )
    } | ({DEPLOYMENTS} if is_scale_judged else set())


def _asked(config: Config) -> Iterator[ActivePolicy]:
    """The policies that may have something to say to the API server."""
    return (active for active in active_policies(config) if active.policy.operations)


def facts_of(config: Config) -> set[FactKind[Any, Any]]:
    """The kinds of cluster objects that active policies read, watched or looked up, be it in check and audit alone."""
    return {kind for active in active_policies(config) for kind in active.policy.facts}


def stored_kinds(config: Config) -> set[GroupKind]:
    """The kinds that check and audit look at: those that carry a pod, and what active policies judge besides."""
    besides = {kind for active in active_policies(config) for kind in (*active.policy.kinds, *active.policy.unasked)}
    return besides.union(config.workloads)


def active_policies(config: Config) -> list[ActivePolicy]:
    """The policies that the configuration doesn't turn off everywhere."""
    return [active for active in config.policies.values() if modes_of(active, config) != {"off"}]


def _left_alone(request: AdmissionRequest, config: Config, owner: Owner | None, stage: AnyStage) -> str:
    """Why this request isn't judged at all; empty if it may be."""
    if request.object is None and not request.unreadable:
        return "no object"
    if is_excluded(request.namespace, config):
        return "excluded namespace"
    # On CREATE a deletionTimestamp was typed by a person: the API server drops it, and the object isn't being deleted.
    if metadata_of(request.old_object).get("deletionTimestamp") and not _is_respecified(request):
        return "being deleted"
    if request.subresource == "scale" and request.user in AUTOSCALERS:
        return "scaled by its HorizontalPodAutoscaler"
    if request.kind == "Pod" and "system:nodes" in request.groups and is_mirror(request.object):
        return "mirror pod"
    if owner and owner.maker == "controller" and (stage == "validate" or not may_patch(request.kind, owner, config)):
        return f"{'judged at' if owner.is_judged else 'made by'} its {owner.kind}"
    return ""


def _is_respecified(request: AdmissionRequest) -> bool:
    """Whether more than metadata changes: an object that is being deleted needs no other change to be let go, and a
    StatefulSet's new template is kept as a ControllerRevision, which outlives it."""
    old, new = request.old_object or {}, request.object or {}
    return any(old.get(field) != new.get(field) for field in (old.keys() | new.keys()) - {"metadata"})


def may_patch(kind: str, owner: Owner, config: Config) -> bool:
    """Whether an object of this kind that a controller made may be patched; if not, it is admitted as it is.

    Of what the built-in ones make only pods: a patched ReplicaSet no longer matches its Deployment, which then makes
    another, and another.
    """
    if kind == "Pod":
        return config.patch_owned_pods or config.names_sizes
    return config.names_sizes and not owner.is_built_in and kind != "ReplicaSet"


def _leniency(request: AdmissionRequest, owner: Owner | None, config: Config) -> Leniency | None:
    if owner is None or owner.maker not in ("operator", "resident"):
        return None
    if owner.maker == "resident" and config.operator_made == "deny":
        return Leniency("deny", patches=True, operator=request.user)
    if owner.maker == "resident" and owner.is_judged:
        return Leniency("audit", patches=False)
    return Leniency("warn", patches=config.operator_made == "patch")


def _policies(
    request: AdmissionRequest, config: Config, owner: Owner | None, stage: AnyStage
) -> Iterator[ActivePolicy]:
    key = request.group, request.kind
    judged = config.judged.get(key)
    for active in judged.policies if judged else ():
        if _judges(active.policy, key, request.operation, request.subresource, stage):
            overridden = _overridden(active, request, config, owner)
            if _acts(overridden, weakest(overridden.mode, config.mode), key, stage):
                yield overridden


def _judges(policy: Policy, key: KindKey, operation: str, subresource: str, stage: AnyStage) -> bool:
    """Whether a policy that judges the kind also judges this operation and subresource."""
    # The API server never asks about these: they are judged in files and where they are stored alone.
    if not policy.operations or any(key == (kind.group, kind.kind) for kind in policy.unasked):
        return stage == "check" and not subresource
    if operation not in OPERATIONS or operation not in policy.operations:
        return False
    if subresource:
        # Of a Scale there is nothing to patch: how many replicas there are is for its user to say.
        is_asked = operation == "UPDATE" and (stage != "mutate" or subresource != "scale")
        return is_asked and subresource in policy.subresources and key == SUBRESOURCES[subresource][:2]
    at_creation = FIXED_AT_CREATION if stage == "mutate" else _JUDGED_AT_CREATION
    return operation == "CREATE" or key not in at_creation


def _acts(active: ActivePolicy, mode: Mode, key: KindKey, stage: AnyStage) -> bool:
    """Whether a policy in this mode may deny, patch, warn of or record anything about objects of the kind."""
    if stage != "mutate":
        return mode != "off"
    patched = active.policy.patched_kinds(active.params) if mode == "deny" else ()
    return mode == "patch" or any(key == (kind.group, kind.kind) for kind in patched)


def modes_of(active: ActivePolicy, config: Config) -> set[Mode]:
    """Every mode that the policy may be in: its own, and those of overrides, which hold for some requests."""
    sections = (override.policies.get(active.policy.id) for override in config.overrides)
    overridden = {section.mode for section in sections if section and section.mode}
    return {weakest(mode, config.mode) for mode in {active.mode, *overridden}}


def _overridden(active: ActivePolicy, request: AdmissionRequest, config: Config, owner: Owner | None) -> ActivePolicy:
    for override in config.overrides:
        section = override.policies.get(active.policy.id)
        if section and matches(override.match, request, owner) and _has_only(override.match.images, request):
            active = replace(active, mode=section.mode or active.mode, otherwise=section.otherwise or active.otherwise)
    return active


def matches(match: Match, request: AdmissionRequest, owner: Owner | None) -> bool:
    """Whether an override's or exemption's match is about the request, its `images` aside: those are about containers
    (have_images)."""
    if not any(fnmatchcase(request.namespace, glob) for glob in match.namespaces):
        return False
    if match.groups and not set(match.groups) & set(request.groups):
        return False
    if match.labels:
        labels = mapping(metadata_of(request.object), "labels", "metadata")
        if any(labels.get(key) != value for key, value in match.labels.items()):
            return False
    if not match.kinds and not match.names:
        return True
    return any(
        (not match.kinds or kind in match.kinds) and (not match.names or any(fnmatchcase(name, g) for g in match.names))
        for kind, name in top_level(request, owner)
    )


def _has_only(patterns: tuple[str, ...], request: AdmissionRequest) -> bool:
    """Whether the image of every container matches one of the patterns; False for an object that can't be read."""
    if not patterns:
        return True
    workload = readable_workload(request)
    return workload is not None and have_images(workload.containers, patterns)


def have_images(containers: Sequence[Container], patterns: tuple[str, ...]) -> bool:
    """Whether there are containers, and the image of every one of them matches a pattern."""
    return bool(containers) and all(
        any(match_image(pattern, container.image) for pattern in patterns) for container in containers
    )
