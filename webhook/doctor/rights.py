"""Whether servers and controllers may read the objects that they need to know of."""

from __future__ import annotations

from webhook.doctor.access import MissingRight
from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen


def check_rights(survey: Survey) -> Remarks:
    """A kind that servers may not read is one that policies can't decide by, and that keeps new servers unready."""
    missing = seen(survey.missing_rights)
    for right in missing:
        text = f"{right.who} (ServiceAccount {survey.namespace}/{right.account}) may not {_joined(right)}"
        yield Remark("fail", f"{text}: what they need to know of them is missing", f"grant it: {grant(right, survey)}")
    if not missing:
        yield Remark("ok", "servers and controllers may read all that they need to know of")


def _joined(right: MissingRight) -> str:
    *verbs, last = right.verbs
    return f"{', '.join(verbs)} and {last} {right.resource}" if verbs else f"{last} {right.resource}"


def grant(right: MissingRight, survey: Survey) -> str:
    """The line for a shell that gives the right, beside the roles that the chart keeps."""
    name = f"{right.account}-{right.resource}"
    role = f"kubectl create clusterrole {name} --verb={','.join(right.verbs)} --resource={right.resource}"
    account = f"{survey.namespace}:{right.account}"
    return f"{role} && kubectl create clusterrolebinding {name} --clusterrole={name} --serviceaccount={account}"
