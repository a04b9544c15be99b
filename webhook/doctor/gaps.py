"""Gaps, times in which the API server's calls didn't reach the webhooks, and the objects admitted meanwhile."""

from __future__ import annotations

from datetime import timedelta

from webhook.cluster.gap_record import Gap, read_record
from webhook.doctor.remark import Remark, Remarks, cannot_tell
from webhook.doctor.survey import RECENT, Survey, recent_gaps, seen
from webhook.errors import FactsUnavailable
from webhook.installation import STATE
from webhook.objects.wording import utc

_FRESH = timedelta(days=1)


def check_gaps(survey: Survey) -> Remarks:
    """Gaps that are open or recent, and objects that were admitted unchecked in them."""
    record = read_record(seen(survey.state))
    gaps = recent_gaps(record, survey.now)
    if record.lost:
        advice = f"to have it forgotten, remove the key gaps from ConfigMap {survey.namespace}/{STATE}"
        yield Remark("unknown", "somebody's edit made the record unreadable: what was in it is lost", advice)
    for gap in gaps:
        if gap.ended is None:
            advice = "see hooks" if gap.reason == "hooks off" else "see endpoints, certificate and hooks"
            yield Remark("fail", f"a gap is open: {gap}", advice)
    fresh = [gap for gap in gaps if gap.ended and gap.reason != "hooks off" and survey.now - gap.ended < _FRESH]
    for gap in reversed(fresh):
        advice = f"find out why: kubectl -n {survey.namespace} get events, and the servers' logs of that time"
        if gap.reason == "undecided":
            advice = 'the servers\' logs ("review undecided") name the objects and why; onError: deny refuses them'
        yield Remark("warn", f"a gap of {_show_length(gap)} at least: {gap}", advice)
    slipped = seen(survey.slipped)
    for resource, why in slipped.unseen.resources.items():
        yield cannot_tell(FactsUnavailable(f"which {resource} came in: {why}"))
    for unchecked in sorted(slipped.violating, key=lambda unchecked: unchecked.object.owner):
        verdicts = [finding.verdict for finding in unchecked.findings if finding.needs_action]
        when = f"{unchecked.how} {utc(unchecked.at)}"
        made = f", made by {unchecked.object.owner}," if unchecked.object.owner else ""
        text = f"{unchecked.object}{made} was admitted unchecked ({when}): "
        policies = ", ".join(dict.fromkeys(verdict.policy for verdict in verdicts))
        yield Remark("warn", text + policies, "; ".join(verdict.violation.message for verdict in verdicts))
    if not gaps and not record.lost:
        yield Remark("ok", f"none in the last {RECENT.days} days")
    elif gaps and not slipped.violating and not slipped.unseen.resources:
        text = f"{len(gaps)} in the last {RECENT.days} days; of the {slipped.count} objects that were admitted "
        yield Remark("ok", f"{text}unchecked none violates a policy")


def _show_length(gap: Gap) -> str:
    assert gap.ended  # noqa: S101 - for types
    return f"{(gap.ended - gap.began).total_seconds():.0f} s"
