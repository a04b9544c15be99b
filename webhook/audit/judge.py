"""Stored objects judged as if somebody created them now, top-level ones alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from webhook.audit.owners import Owners
from webhook.audit.reservations import added
from webhook.audit.spill import Findings
from webhook.audit.tally import Tally
from webhook.audit.usage import Usage
from webhook.cluster.lists import Reader
from webhook.cluster.lookups import LookUp, LookUps, decide_looking
from webhook.cluster.pod_metrics import POD_METRICS, read_pods
from webhook.cluster.served import served_versions
from webhook.cluster.stored import Stored
from webhook.cluster.unseen import Unreadable, Unseen
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import UNREADABLE, ClusterRefused, FactsUnavailable
from webhook.findings import Finding, JudgedObject, bugs_of, findings_of, object_of
from webhook.objects.ended import is_over
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, Decision, Reference
from webhook.scope import active_policies, locate_pod_spec, stored_kinds

Progress = Callable[[float, str, int], None]
"""Called now and then with the part of the kinds that is done, from 0 to 1, the kind that is being judged, and how many
objects were read."""

GC_THRESHOLDS = 10_000, 10, 10
"""What gc.set_threshold is to be given in an audit: the objects of a page are gone before it would look at them."""
_STEP = 100
"""Objects after which progress is told."""


@dataclass
class Audit:
    """The result of judging a cluster."""

    tally: Tally = field(default_factory=Tally)
    findings: Findings = field(default_factory=Findings)
    unseen: Unseen = field(default_factory=Unseen)
    bugs: dict[str, str] = field(default_factory=dict)
    """Policy id -> the object that the policy failed on first, and the traceback."""
    usage: Usage = field(default_factory=lambda: Usage({}))

    def by_team(self) -> Iterator[tuple[str, list[Finding]]]:
        """Team and findings of each object, the team with most to lose first, the worst objects of each first."""
        return self.findings.by_team(self.tally.teams())


def audit(
    cluster: Reader,
    config: Config,
    facts: ClusterFacts,
    team_of: Callable[[AdmissionRequest], str],
    *,
    today: date,
    namespaces: Sequence[str] = (),
    progress: Progress = lambda _done, _kind, _objects: None,
) -> Audit:
    """Judge every stored object of the kinds that policies judge, in these namespaces or in all."""
    unasked = {kind for active in active_policies(config) for kind in active.policy.unasked}
    stored = Stored(cluster, stored_kinds(config), namespaces, unasked, served_versions(cluster))
    run = _Run(cluster, config, facts, team_of, today, stored)
    run.found.usage = Usage(_read_usage(cluster, namespaces, stored))
    for number, request in enumerate(stored):
        if not number % _STEP:
            progress(stored.done, request.kind, number)
        run.take(request)
    run.found.unseen.add(stored.unseen)
    return run.found


def _read_usage(cluster: Reader, namespaces: Sequence[str], stored: Stored) -> dict[tuple[str, str], dict[str, int]]:
    """The memory that pods use, if the cluster serves metrics and they may be read."""
    pods: dict[tuple[str, str], dict[str, int]] = {}
    version = stored.versions.get(POD_METRICS.group)
    for namespace in (namespaces or ("",)) if version else ():
        try:
            read = read_pods(cluster, version or "", namespace)
            pods |= read.memory
            stored.unseen.objects += read.unreadable
        except (ClusterRefused, FactsUnavailable) as error:
            stored.unseen.note(POD_METRICS.full_resource, error, namespace)
    return pods


class Judgement(NamedTuple):
    """What is to be said of one stored object. `asked` is the request as whoever made it sent it."""

    asked: AdmissionRequest
    object: JudgedObject
    decision: Decision
    findings: list[Finding]
    is_refused: bool
    """Whether the object could not be created again."""


def judge(
    asked: AdmissionRequest, facts: ClusterFacts, config: Config, today: date, look_up: LookUp
) -> Judgement | None:
    """The judgement of one object; None if it is left alone. Raises one of UNREADABLE for an object that can't be
    read."""
    request = locate_pod_spec(asked, config)
    read_workload(request)
    decision = decide_looking(lambda known: decide(request, known, config, today=today), facts, look_up)
    if decision.skipped:
        return None
    for error in decision.failures.values():
        if isinstance(error, UNREADABLE):
            raise error
    judged = object_of(request)
    findings = findings_of(request, decision, config, judged)
    return Judgement(request, judged, decision, findings, any(_refuses(finding, config) for finding in findings))


def _refuses(finding: Finding, config: Config) -> bool:
    """Whether the object could not be created again for it: about some kinds the API server asks nobody."""
    policy = config.policies[finding.verdict.policy].policy
    is_asked = finding.object.kind not in {kind.kind for kind in policy.unasked}
    return finding.verdict.denies and is_asked and "CREATE" in policy.operations


class _Run:
    """One audit: its configuration and facts, which owners were seen, and what was found."""

    def __init__(
        self,
        cluster: Reader,
        config: Config,
        facts: ClusterFacts,
        team_of: Callable[[AdmissionRequest], str],
        today: date,
        stored: Stored,
    ) -> None:
        self._config = config
        self._facts = facts
        self._team_of = team_of
        self._today = today
        self._owners = Owners(cluster, config, stored)
        self._look_up = LookUps(cluster, stored.unseen)
        self.found = Audit()

    def take(self, request: AdmissionRequest) -> None:
        """Judge the object, unless it is judged at its owner."""
        try:
            if is_over(request.group, request.kind, request.object or {}):
                return
            self.found.usage.take(request)
            self._owners.take(request)
            if (asked := self._owners.as_asked(request)) is not None:
                self._judge(asked)
        except UNREADABLE as error:
            reference = Reference(request.kind, request.namespace, request.name)
            self.found.unseen.objects.append(Unreadable(reference, str(error)))

    def _judge(self, asked: AdmissionRequest) -> None:
        judgement = judge(asked, self._facts, self._config, self._today, self._look_up)
        if judgement is None:
            return
        team, decision, findings = self._team_of(judgement.asked), judgement.decision, judgement.findings
        self.found.tally.count(judgement.object, team, findings, is_refused=judgement.is_refused)
        if decision.patch and decision.object is not None:
            ranges = self._facts.of(LIMIT_RANGES).get(asked.namespace, ())
            items_of_them = [limit_range.item for limit_range in ranges]
            self.found.tally.add(added(judgement.asked, decision.object, items_of_them))
        if findings:
            self.found.findings.add(team, findings)
        for policy_id, bug in bugs_of(decision).items():
            self.found.bugs.setdefault(policy_id, f"{judgement.object}: {''.join(traceback.format_exception(bug))}")
