"""Whether servers, controllers and auditors may do what they need to do."""

from __future__ import annotations

from webhook.doctor.access import Binding, MissingRight, Who
from webhook.doctor.remark import Remark, Remarks, cannot_tell
from webhook.doctor.survey import Survey, seen
from webhook.errors import ForestallError

_CONSEQUENCES: dict[Who, str] = {
    "servers": "what they need to know of them is missing",
    "controllers": "they can't do their work",
    "auditors": "their audit isn't whole, or isn't told",
}


def check_rights(survey: Survey) -> Remarks:
    """A kind that servers may not read is one that policies can't decide by, and that keeps new servers unready."""
    missing = seen(survey.missing_rights)
    absent = [] if isinstance(survey.bindings, ForestallError) else survey.bindings
    for binding in absent:
        if lost := [right for right in missing if _gives(binding, right)]:
            missing = [right for right in missing if right not in lost]
            yield _without(binding, lost, survey)
    for right in missing:
        account = f"{right.who} (ServiceAccount {survey.namespace}/{right.account})"
        text = f"{account} may not {_joined(right)}: {_CONSEQUENCES[right.who]}"
        yield Remark("fail", text, f"grant it: {grant(right, survey)}")
    if missing and isinstance(survey.bindings, ForestallError):
        yield cannot_tell(survey.bindings)
    if not seen(survey.missing_rights):
        yield Remark("ok", "servers, controllers and auditors may do all that they need")


def _gives(binding: Binding, right: MissingRight) -> bool:
    is_namespaced = bool(right.need.namespace)
    who = "controllers" if right.who == "auditors" else right.who
    return binding.who == who and is_namespaced == (binding.kind == "RoleBinding")


def _without(binding: Binding, lost: list[MissingRight], survey: Survey) -> Remark:
    """One remark on a binding that is gone, in place of one for every right that its account lacks."""
    count = sum(len(right.need.verbs) for right in lost)
    whose = " and ".join(dict.fromkeys(right.who for right in lost))
    text = f"{binding.kind} {binding.name} is not there: {whose} lack {count} rights that they need"
    account = f"--serviceaccount={survey.namespace}:{lost[0].account}"
    if binding.kind == "RoleBinding":
        made = f"kubectl -n {survey.namespace} create rolebinding {binding.name} --role={binding.name} {account}"
    else:
        made = f"kubectl create clusterrolebinding {binding.name} --clusterrole={binding.name} {account}"
    return Remark("fail", text, f"make it again: {made}")


def _joined(right: MissingRight) -> str:
    need = right.need
    *verbs, last = need.verbs
    what = f"{', '.join(verbs)} and {last} {need.full_resource}" if verbs else f"{last} {need.full_resource}"
    what += f" {need.name}" if need.name else ""
    return f"{what} in {need.namespace}" if need.namespace else what


def grant(right: MissingRight, survey: Survey) -> str:
    """The line for a shell that gives the right, beside the roles that the chart keeps."""
    need = right.need
    name = "-".join(filter(None, (right.account, need.full_resource, need.name and "-".join(need.verbs))))
    what = f"--verb={','.join(need.verbs)} --resource={need.full_resource}"
    what += f" --resource-name={need.name}" if need.name else ""
    account = f"--serviceaccount={survey.namespace}:{right.account}"
    if need.namespace:
        create = f"kubectl -n {need.namespace} create"
        return f"{create} role {name} {what} && {create} rolebinding {name} --role={name} {account}"
    role = f"kubectl create clusterrole {name} {what}"
    return f"{role} && kubectl create clusterrolebinding {name} --clusterrole={name} {account}"
