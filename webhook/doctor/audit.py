"""The audit that the auditor keeps current, as its Lease tells of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from webhook.auditor.places import CONFIG_MAP
from webhook.auditor.status import read_status
from webhook.doctor.remark import Remark, Remarks
from webhook.doctor.replicas import silence_of
from webhook.doctor.survey import Survey, seen
from webhook.objects.wording import utc

_OLD = timedelta(hours=7)
"""The age of an audit of everything above which something keeps it from being made: one is due every six hours."""
_SILENT = timedelta(minutes=1)


def check_audit(survey: Survey) -> Remarks:
    """Whether an auditor leads, how old and how whole its audit is, and whether it is stopped."""
    lease = seen(survey.audit_lease)
    if lease is None:
        yield Remark("ok", "no auditor has run (audit.enabled): `forestall audit` asks the cluster anew")
        return
    if survey.has_auditor is False:
        yield Remark("ok", "the auditor is turned off (audit.enabled); what it wrote stays until somebody deletes it")
        return
    advice = f"see why: kubectl -n {survey.namespace} logs deploy/forestall-controller -c auditor"
    silent = silence_of(lease, survey)
    if silent is None or silent > _SILENT:
        said = "" if silent is None else f": it has said nothing for {silent.total_seconds():.0f} s"
        yield Remark("warn", f"no auditor leads{said}", advice)
        return
    status = read_status(lease)
    if status is None:
        yield Remark("warn", "the auditor that leads says nothing of its audit", advice)
        return
    if status.stopped:
        yield Remark("warn", status.stopped, "let the API server recover: the audit goes on by itself")
    for resource, why in sorted(status.unread.items()):
        yield Remark("warn", f"the auditor doesn't see {resource}: {why}", advice)
    if status.reports == CONFIG_MAP.kind:
        why = "the cluster serves neither PolicyReports nor Reports"
        yield Remark("ok", f"reports are ConfigMaps in namespace {survey.namespace}: {why}")
    whole_at = datetime.fromtimestamp(status.whole_at, UTC)
    if not status.whole_at:
        yield Remark("warn", "the first audit of everything has not ended yet", advice)
    elif survey.now - whole_at > _OLD:
        yield Remark("warn", f"everything was audited last at {utc(whole_at)}", advice)
    else:
        odd = f", {status.unreadable} that can't be read" if status.unreadable else ""
        counts = f"{status.findings} findings on {status.objects} objects{odd}, {status.broken} things broken now"
        yield Remark("ok", f"{counts}; everything was audited last at {utc(whole_at)}")
