"""Gaps: times in which the API server's calls didn't reach the webhooks, and the objects that it let through meanwhile.

`Gaps` probes every ten seconds and keeps the record, `observe` decides what is in it. Gaps may be longer, and more,
than those recorded: one between two probes isn't seen, one that is seen may have begun just after the probe before, and
no probes are sent while no controller leads.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from webhook.cluster.gap_record import EVERY, KEY, Gap, GapRecord, Reason, read_record, record_of
from webhook.cluster.record import Record
from webhook.config import Config
from webhook.controller import hooks
from webhook.controller.events import report
from webhook.controller.parts import error_fields
from webhook.controller.registration import STAGES, configuration_path, fails_closed
from webhook.errors import ClusterRefused, FactsUnavailable
from webhook.findings import Finding, JudgedObject, findings_of, object_of
from webhook.installation import PROBE_LABEL, STATE, probe_answer, undecided_answer
from webhook.objects.owners import controller_of
from webhook.objects.wording import utc
from webhook.policy import AdmissionRequest, Decision, Object, Stage
from webhook.scope import is_judged

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

KEPT = 200
"""How many gaps the record holds; of older ones only their number is left."""

_PROBE_SECONDS = 20.0
"""Seconds that a probe may take: two webhooks of ours that hang take ten, and others may be asked as well."""
log = structlog.get_logger()

in_gap = Gauge(
    "forestall_gap",
    "1 while the API server's calls of a stage don't reach any server, by probes every 10 seconds.",
    ["stage"],
)
gap_seconds = Counter(
    "forestall_gap_seconds",
    "Seconds in which the API server's calls of a stage didn't reach any server, at least.",
    ["stage"],
)
probes = Counter(
    "forestall_probes", "Probes: answered, gap, or unknown where the API server gave no answer.", ["result"]
)


class Probed(NamedTuple):
    """A probe's result: the stages that didn't answer, and the times of undecided reviews that a server reported."""

    missing: tuple[Stage, ...] = ()
    reason: Reason = "no answer"
    refused: bool = False
    undecided: tuple[Gap, ...] = ()


def observe(record: GapRecord, now: datetime, probed: Probed) -> GapRecord:
    """The record after a probe; the same one while nothing changes."""
    gaps = _with_undecided(record.gaps, probed.undecided)
    gap = record.open
    if (() if gap is None else (gap.stages, gap.reason, gap.refused)) != (probed[:3] if probed.missing else ()):
        if gap is not None:
            gaps = (*gaps[:-1], msgspec.structs.replace(gap, ended=max(now, gap.began)))
        if probed.missing:
            gaps = (*gaps, Gap(probed.missing, now, probed.reason, refused=probed.refused))
    if gaps == record.gaps:
        return record
    return GapRecord(gaps[-KEPT:], record.forgotten + len(gaps[:-KEPT]), record.lost)


def _with_undecided(gaps: tuple[Gap, ...], undecided: Iterable[Gap]) -> tuple[Gap, ...]:
    """The gaps, with those that a server reported. It reports one again while it grows; an open gap stays the last."""
    for new in undecided:
        same = [gap for gap in gaps if (gap.reason, gap.stages) == (new.reason, new.stages) and _touch(gap, new)]
        began = min(gap.began for gap in (new, *same))
        ended = max(gap.ended for gap in (new, *same) if gap.ended)
        others = [gap for gap in gaps if gap not in same]
        whole = msgspec.structs.replace(new, began=began, ended=ended)
        gaps = tuple(sorted([*others, whole], key=lambda gap: (gap.ended is None, gap.began)))
    return gaps


def _touch(one: Gap, other: Gap) -> bool:
    return bool(one.ended and other.ended and one.began <= other.ended and other.began <= one.ended)


_UNDECIDED = re.compile(undecided_answer("(mutate|validate)", r"(\d{1,11})", r"(\d{1,11})"))  # type: ignore[arg-type]


def told_undecided(warnings: Iterable[str]) -> tuple[Gap, ...]:
    """The times of undecided reviews that servers reported in their answers to the probe."""
    found = (_UNDECIDED.fullmatch(warning) for warning in warnings)
    return tuple(
        Gap((match[1],), _at(match[2]), "undecided", _at(match[3]))  # type: ignore[arg-type]
        for match in found
        if match
    )


def _at(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def unanswered(warnings: Iterable[str], nonce: str) -> tuple[Stage, ...]:
    """The stages whose answer to the probe is not among the warnings that came back with it."""
    said = set(warnings)
    return tuple(stage for stage in STAGES if probe_answer(nonce, stage) not in said)


class Gaps:
    """Probes, and keeps the record in ConfigMap forestall-state."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._namespace = namespace
        self._stored = Record(cluster, namespace, STATE, KEY, GapRecord)
        self._probed_at: datetime | None = None
        self._lost: tuple[Stage, ...] = ()
        """The stages that didn't answer the last probe."""
        self._unknown = ""

    def run(self, is_leading: Callable[[], bool], stopped: threading.Event) -> None:
        """Probe while this controller leads, in a thread of its own, so that no slow part delays a probe."""
        while not stopped.wait(1.0):
            if not is_leading():
                self._stand_by()
                continue
            self._attempt()

    def _attempt(self) -> None:
        try:
            self.reconcile(datetime.now(UTC))
        except Exception as error:  # the thread must go on, whatever fails
            log.error("gaps not recorded", **error_fields(error))  # noqa: TRY400 - a refusal needs no traceback

    def _stand_by(self) -> None:
        """Forget the last probe and clear the metric: from now on the new leader reports whether there is a gap."""
        if self._probed_at is not None:
            self._probed_at, self._lost, self._unknown = None, (), ""
            in_gap.clear()

    def reconcile(self, now: datetime) -> None:
        """Probe, unless the last probe was less than EVERY ago.

        Raises FactsUnavailable or ClusterRefused if what it shows can't be recorded.
        """
        if self._probed_at is not None and timedelta(0) <= now - self._probed_at < EVERY:
            return
        since, self._probed_at = self._probed_at, now
        probed = self._probe()
        if probed is None:
            probes.labels("unknown").inc()
            self._lost = ()
            return
        probes.labels("gap" if probed.missing else "answered").inc()
        for stage in STAGES:
            in_gap.labels(stage).set(stage in probed.missing)
            lasted = now - since if since is not None and stage in self._lost else timedelta(0)
            gap_seconds.labels(stage).inc(max(0.0, lasted.total_seconds()))
        self._lost = probed.missing
        self._record(now, probed)

    def _probe(self) -> Probed | None:
        """Send a probe. None where the API server doesn't answer: it then admits nothing either."""
        nonce = secrets.token_hex(8)
        metadata = {"name": "forestall-probe", "namespace": self._namespace, "labels": {PROBE_LABEL: nonce}}
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        try:
            warnings = self._cluster.create(self._path, obj, dry_run=True, timeout=_PROBE_SECONDS).warnings
            missing = unanswered(warnings, nonce)
            stored = {stage: self._cluster.get(configuration_path(stage)) for stage in missing}
            is_new = None in stored.values() and self._begins()
        except (FactsUnavailable, ClusterRefused) as error:
            if self._unknown != str(error):
                log.warning("cannot tell whether there is a gap", error=str(error))
            self._unknown = str(error)
            return None
        self._unknown = ""
        undecided = told_undecided(warnings)
        if None in stored.values():
            return Probed(() if is_new else missing, "hooks off", undecided=undecided)
        refused = any(configuration and fails_closed(configuration) for configuration in stored.values())
        return Probed(missing, "no answer", refused, undecided)

    def _begins(self) -> bool:
        """Whether the installation has yet to write its first webhook configurations: until then there are no gaps."""
        state = self._cluster.get(f"{self._path}/{STATE}")
        return read_record(state).open is None and hooks.is_new(self._cluster, state)

    def _record(self, now: datetime, probed: Probed) -> None:
        kept = self._stored.read()
        record = record_of(kept)
        after = observe(record, now.replace(microsecond=0), probed)
        if after is record:
            return
        written = self._stored.write(kept, after).object
        if after.open != record.open:
            self._tell(written or {}, record.open, after.open)

    def _tell(self, obj: Object, before: Gap | None, after: Gap | None) -> None:
        if after is not None:
            stages = " and ".join(f"/{stage}" for stage in after.stages)
            what = "refused" if after.refused else "let through unchecked"
            note = f"The API server's calls of {stages} don't reach Forestall ({after.reason}): what they judge is "
            report(self._cluster, obj, "GapBegan", f"{note}{what}. See `forestall doctor`.", action="Probing")
        elif before is not None:
            note = f"The API server's calls reach Forestall again; since {utc(before.began)} they "
            note += f"didn't ({before.reason}). `forestall doctor` lists what was let through unchecked."
            report(self._cluster, obj, "GapEnded", note, action="Probing", kind="Normal")


class Unchecked(NamedTuple):
    """An object that was created or changed in a gap, and the findings on it."""

    object: JudgedObject
    gap: Gap
    how: Literal["created", "changed"]
    at: datetime
    findings: list[Finding]


def admitted_unchecked(
    gaps: Sequence[Gap],
    objects: Iterable[AdmissionRequest],
    config: Config,
    decide: Callable[[AdmissionRequest], Decision],
) -> Iterator[Unchecked]:
    """Which of the objects, as they now are, were created or changed in a gap, so far as that would have been judged.

    Owners come before what they own, as Stored has them: of an owned object nothing is said that its owner says too.
    """
    open_to_all = [gap for gap in gaps if not gap.refused]
    said: dict[str, set[tuple[str, str]]] = {}
    for request in objects:
        if request.object is None:
            continue
        found = _found_in(open_to_all, request, config)
        if found is None and request.kind == "Pod":  # it owns nothing
            continue
        decision = decide(request)
        if decision.skipped:
            continue
        says = {(verdict.policy, verdict.violation.subject) for verdict in decision.verdicts}
        said[request.uid] = says
        controller = controller_of(request.object)
        owner = said.get(controller.uid) if controller else None
        if found is not None and (owner is None or not says <= owner):
            judged = object_of(request)
            yield Unchecked(judged, *found, findings_of(request, decision, config, judged))


def _found_in(
    gaps: Sequence[Gap], stored: AdmissionRequest, config: Config
) -> tuple[Gap, Literal["created", "changed"], datetime] | None:
    for request, at in _touched(stored):
        for gap in gaps:
            if gap.includes(at) and is_judged(request, config):
                return gap, "created" if request.operation == "CREATE" else "changed", at
    return None


def _touched(stored: AdmissionRequest) -> Iterator[tuple[AdmissionRequest, datetime]]:
    """The requests that made the object what it is, and when they came."""
    metadata = (stored.object or {})["metadata"]
    if created := metadata.get("creationTimestamp"):
        yield stored, datetime.fromisoformat(created)
    for entry in metadata.get("managedFields") or ():
        if entry.get("time"):
            subresource = entry.get("subresource", "")
            update = msgspec.structs.replace(stored, operation="UPDATE", subresource=subresource)
            yield update, datetime.fromisoformat(entry["time"])
