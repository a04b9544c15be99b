"""The webhooks' match conditions: CEL by which the API server spares calls whose answer is known to be "allowed"."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import msgspec

from webhook.config import Config
from webhook.objects.names import SERVICE_ACCOUNT
from webhook.objects.owners import AUTOSCALERS, CONTROLLER_MANAGER, IDENTITIES
from webhook.policy import Stage
from webhook.scope import calls


def match_conditions(stage: Stage, config: Config) -> dict[str, str]:
    """CEL by name, all of which must hold for a call: each spares only calls whose answer is known to be "allowed".

    An error in one refuses the request where we fail closed, so nothing may be touched that may be absent.
    """
    # A glob with [...] is left to the engine.
    globs = [glob for glob in config.exclude_namespaces if set("*?") & set(glob) and "[" not in glob]
    return {
        "not-in-an-excluded-namespace": f"!request.namespace.matches({_cel(regex_of(globs))})" if globs else "",
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


def regex_of(globs: Collection[str]) -> str:
    """An RE2 expression for the globs, as fnmatch reads them."""
    return f"^({'|'.join(''.join(_SIGNS.get(sign) or re.escape(sign) for sign in glob) for glob in globs)})$"


_SIGNS = {"*": ".*", "?": "."}
