"""Reports of what the audit knows, where other tools read them: one for each namespace, one for objects without any.

What somebody edits or deletes is written again, and what nobody needs any more is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import structlog
from prometheus_client import Counter

from webhook.auditor.kept import Kept
from webhook.auditor.pace import Pace, Troubles
from webhook.auditor.places import Form, Place, StoredReport, filled, place_of, served_forms, stored_reports
from webhook.auditor.report import report_content
from webhook.auditor.seen import Seen
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.installation import REPORT_LABEL
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster
    from webhook.findings import Finding

_LOOK_EVERY = 30.0
"""Seconds after which it is looked again whether somebody has changed a report, or the kinds that are served."""
_NAMESPACE_EVERY = 5.0
"""Seconds between two writes of one report at least."""
_AGAIN_AFTER = 30.0
"""Seconds after which a report that was refused is tried again."""
_PER_SECOND = 10
"""Reports that are looked at, and written where they differ, in a second at most."""
_BUDGET = 2.0
"""Seconds of a round after which no further report is begun in it."""

log = structlog.get_logger()

writes = Counter("forestall_audit_report_writes", "Reports that were created, replaced or deleted.", ["action"])
written_bytes = Counter("forestall_audit_report_written_bytes", "Bytes of the reports that were written.")


class Reports:
    """The reports of one cluster while this process leads.

    `own` is Forestall's namespace, and `most` is how many results a report has at most.
    """

    def __init__(
        self,
        cluster: Cluster,
        own: str,
        seen: Seen,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._own = own
        self._seen = seen
        self._most = most
        self._clock = clock
        self._pace = Pace(_PER_SECOND, 1.0, clock)
        self._troubles = Troubles("no report")
        self._forms: tuple[Form, ...] = ()
        self._look_at = self._pause_until = 0.0
        self._due: dict[str, float] = {}
        """Namespace -> when its report may be written."""
        self._last: dict[str, float] = {}
        """Namespace -> when its report was last written."""
        self._strays: dict[str, StoredReport] = {}
        """Path -> a report that is not needed any more."""
        self._known: dict[str, tuple[str, str]] = {}
        """Path -> uid and version of a report as it was left: what was Forestall's stays so, whatever becomes of its
        labels."""

    @property
    def kind(self) -> str:
        """The kind of the namespaces' reports; empty while that isn't known."""
        return next((form.kind for form in self._forms if form.is_namespaced), "")

    def take(self, kept: Kept, now: datetime) -> None:
        """Write the reports that are due, as far as pace and API server allow; what is left is written later."""
        for namespace in kept.changed:
            self._due.setdefault(namespace, 0.0)
        if self._clock() < self._pause_until or not self._seen.is_read:
            return
        try:
            if self._clock() >= self._look_at:
                self._look(kept)
            self._write_due(kept, now)
        except ClusterRefused as answer:
            self._pause(answer, max(_NAMESPACE_EVERY if answer.is_busy else _AGAIN_AFTER, answer.retry_after))
        except FactsUnavailable as error:
            self._pause(error, _NAMESPACE_EVERY)
        else:
            self._troubles.over("reports")

    def _pause(self, error: Exception, seconds: float) -> None:
        self._troubles.tell("reports", error)
        self._pause_until = self._clock() + seconds

    def _look(self, kept: Kept) -> None:
        """Learn which reports are to be written, and which to be deleted, from what is stored."""
        forms = served_forms(self._cluster)
        if forms != self._forms:
            log.info("reports are kept", kind=forms[0].kind, group=forms[0].group)
        self._forms = forms
        there = {stored.place.path: stored for stored in stored_reports(self._cluster, forms, self._own)}
        wanted = {self._place(namespace).path: namespace for namespace in kept.by_namespace}
        self._strays = {path: stored for path, stored in there.items() if path not in wanted}
        for path, namespace in wanted.items():
            left = self._known.get(path)
            if left is None or path not in there or left != (there[path].uid, there[path].version):
                self._due.setdefault(namespace, 0.0)
        self._known = {path: left for path, left in self._known.items() if path in wanted}
        self._last = {of: at for of, at in self._last.items() if of in kept.by_namespace}
        self._troubles.only({"reports", *wanted})
        self._look_at = self._clock() + _LOOK_EVERY

    def _place(self, namespace: str) -> Place:
        return next(place for form in self._forms if (place := place_of(form, namespace, self._own)))

    def _write_due(self, kept: Kept, now: datetime) -> None:
        began = self._clock()
        for namespace in [of for of, at in self._due.items() if max(at, self._last.get(of, 0.0)) <= began]:
            if not self._may_go_on(began):
                return
            if self._write(namespace, kept, now):
                del self._due[namespace]
        for path, stored in list(self._strays.items()):
            if not self._may_go_on(began):
                return
            del self._strays[path]
            self._delete(stored)

    def _may_go_on(self, began: float) -> bool:
        return self._clock() <= began + _BUDGET and self._pace.allows()

    def _write(self, namespace: str, kept: Kept, now: datetime) -> bool:
        """Bring a namespace's report up to date; whether nothing is left to do. Raises FactsUnavailable, and
        ClusterRefused where that is not about this report."""
        place = self._place(namespace)
        # It comes last the next time: it may be this report alone that there is no answer to.
        self._due[namespace] = self._due.pop(namespace)
        try:
            self._update(place, kept, now)
        except Conflict:  # somebody wrote it in between: it is looked at again
            self._due[namespace] = self._clock() + _NAMESPACE_EVERY
            return False
        except ClusterRefused as answer:
            if not answer.is_of_one_object:
                raise
            return self._refused(place, answer)
        return True

    def _refused(self, place: Place, answer: ClusterRefused) -> bool:
        """Take in that a report can't be written; whether nothing is left to do."""
        if answer.is_gone:  # the namespace, or the kind: the next look tells what is left to write
            self._look_soon()
            return True
        self._troubles.tell(place.path, answer)
        self._due[place.namespace] = self._clock() + _AGAIN_AFTER
        return False

    def _look_soon(self) -> None:
        self._look_at = min(self._look_at, self._clock() + _NAMESPACE_EVERY)

    def _update(self, place: Place, kept: Kept, now: datetime) -> None:
        there = self._cluster.get(place.path)
        if there is not None and not self._is_ours(place, there):
            self._troubles.tell(place.path, "somebody else's object has this name, and is left alone")
            return
        findings = kept.by_namespace.get(place.namespace)
        if findings:

            def since(finding: Finding) -> int:
                return self._seen.since(finding, place.namespace, now)

            counts, teams = kept.counts_of(place.namespace), kept.teams(place.namespace)
            content = report_content(findings, counts, teams, since, self._most)
            self._store(place, there, filled(place, there, content))
        elif there is not None:
            self._delete(StoredReport(place, there["metadata"]["uid"], there["metadata"]["resourceVersion"]))
        self._troubles.over(place.path)

    def _is_ours(self, place: Place, there: Object) -> bool:
        metadata = there["metadata"]
        known, _ = self._known.get(place.path, ("", ""))
        return (metadata.get("labels") or {}).get(REPORT_LABEL) == "true" or metadata["uid"] == known

    def _store(self, place: Place, there: Object | None, report: Object) -> None:
        if there == report:
            self._remember(place, report)
            return
        if there is None:
            made = self._cluster.create(place.collection, report).object
        else:
            made = self._cluster.replace(place.path, report)
        writes.labels("replace" if there else "create").inc()
        written_bytes.inc(len(msgspec.json.encode(report)))
        self._last[place.namespace] = self._clock() + _NAMESPACE_EVERY
        self._remember(place, made)

    def _remember(self, place: Place, report: Object) -> None:
        self._known[place.path] = report["metadata"]["uid"], report["metadata"]["resourceVersion"]

    def _delete(self, stored: StoredReport) -> None:
        try:
            self._cluster.delete(stored.place.path, stored.uid, stored.version)
        except Conflict:  # written since: the next look decides anew
            self._look_soon()
        except ClusterRefused as answer:
            if not answer.is_of_one_object:
                raise
            self._troubles.tell(stored.place.path, answer)
        else:
            writes.labels("delete").inc()
            self._last[stored.place.namespace] = self._clock() + _NAMESPACE_EVERY


def delete_all(cluster: Cluster, own: str) -> int:
    """Delete every report of Forestall's, wherever it is; returns how many. Raises FactsUnavailable, and ClusterRefused
    once all others are deleted."""
    refusal: ClusterRefused | None = None
    reports = list(stored_reports(cluster, served_forms(cluster), own))
    for stored in reports:
        try:
            cluster.delete(stored.place.path, stored.uid)
        except ClusterRefused as answer:
            refusal = answer
    if refusal is not None:
        raise refusal
    return len(reports)
