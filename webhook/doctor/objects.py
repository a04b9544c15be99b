"""Objects of the cluster that can't be read, and what becomes of the verdicts that would need them."""

from __future__ import annotations

from webhook.doctor.remark import Remark, Remarks, cannot_tell, listed
from webhook.doctor.survey import Survey, seen
from webhook.errors import FactsUnavailable
from webhook.scope import needed_facts


def check_objects(survey: Survey) -> Remarks:
    """What can't be read of all that this survey looked at, each object once."""
    unread = needed_facts(seen(survey.config)) - seen(survey.facts).known
    if unread:
        resources = listed(kind.full_resource for kind in unread)
        yield cannot_tell(FactsUnavailable(f"whether all objects can be read: {resources} could not be listed"))
    unreadable = {odd.reference: odd for odd in survey.unreadable()}
    for odd in unreadable.values():
        advice = "mend or delete it: where a policy needs it, it can't tell, and onError decides"
        yield Remark("warn", str(odd), advice)
    if not unread and not unreadable:
        yield Remark("ok", "every object that policies need can be read")
