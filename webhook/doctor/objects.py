"""Objects of the cluster that can't be read, and what becomes of the verdicts that would need them."""

from __future__ import annotations

from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.survey import Survey, seen


def check_objects(survey: Survey) -> Remarks:
    """What can't be read of all that this survey looked at, each object once."""
    unreadable = {odd.reference: odd for odd in survey.unreadable()}
    for odd in unreadable.values():
        advice = "mend or delete it: where a policy needs it, it can't tell, and onError decides"
        yield Remark("warn", str(odd), advice)
    if not unreadable:
        seen(survey.facts)
        yield Remark("ok", "every object that policies need can be read")
