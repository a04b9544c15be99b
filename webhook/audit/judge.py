"""Stored objects judged as if somebody created them now, top-level ones alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import msgspec

from webhook.audit.reservations import added
from webhook.audit.spill import Findings
from webhook.audit.tally import Tally
from webhook.audit.usage import Usage
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import NOT_OURS, UNREADABLE, ClusterRefused, FactsUnavailable
from webhook.findings import Finding, findings_of, object_of
from webhook.objects.ended import is_over
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts
from webhook.objects.names import SERVICE_ACCOUNT
from webhook.objects.owners import ControllerReference, controller_of
from webhook.objects.pods import POD, items, mapping, read_workload
from webhook.pod_metrics import POD_METRICS, read_pods
from webhook.policy import AdmissionRequest, Reference
from webhook.scope import locate_pod_spec
from webhook.stored import Reader, Stored, Unreadable, Unseen, full_resource, path_of, served_versions

Progress = Callable[[float, str, int], None]
"""Called now and then with the part of the kinds that is done, from 0 to 1, the kind that is being judged, and how many
objects were read."""

_OPERATOR = f"{SERVICE_ACCOUNT}:unknown"
"""Who made an object of an owner that isn't judged, as far as a stored object tells: a ServiceAccount of no namespace
that anybody has workloads in."""
_NODE = ("", "Node")
_CLAIM = ("", "PersistentVolumeClaim")
COLLECTOR = 10_000, 10, 10
"""The collector's thresholds that suit an audit: the objects of a page are gone before it would look at them."""
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
    stored = Stored(cluster, [judged.kind for judged in config.judged.values()], namespaces)
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
    version = served_versions(cluster).get(POD_METRICS.group)
    for namespace in (namespaces or ("",)) if version else ():
        try:
            read = read_pods(cluster, version or "", namespace)
            pods |= read.memory
            stored.unseen.objects += read.unreadable
        except (ClusterRefused, FactsUnavailable) as error:
            stored.unseen.note(full_resource(POD_METRICS), error, namespace)
    return pods


def _claims_of(request: AdmissionRequest) -> Iterator[tuple[str, str]]:
    if request.kind != "StatefulSet":
        return
    for template in items(mapping(request.object or {}, "spec", ""), "volumeClaimTemplates", "spec"):
        yield request.namespace, f"{mapping(template, 'metadata', '').get('name')}-{request.name}"


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
        self._cluster = cluster
        self._config = config
        self._facts = facts
        self._team_of = team_of
        self._today = today
        self._stored = stored
        self._living: set[str] = set()
        """The uids of the existing objects that may own others."""
        self._gone: set[str] = set()
        self._templates: set[tuple[str, str]] = set()
        """Namespace, and the name without its ordinal, of the claims that StatefulSets make from their templates."""
        self.found = Audit()

    def take(self, request: AdmissionRequest) -> None:
        """Judge the object, unless it is judged at its owner."""
        try:
            if is_over(request.group, request.kind, request.object or {}):
                return
            self.found.usage.take(request)
            if (request.group, request.kind) != POD[:2]:
                self._living.add(request.uid)
                self._templates |= set(_claims_of(request))
            if (asked := self._as_asked(request)) is not None:
                self._judge(locate_pod_spec(asked, self._config))
        except UNREADABLE as error:
            self._unreadable(request, error)

    def _as_asked(self, request: AdmissionRequest) -> AdmissionRequest | None:
        """The request as whoever made the object sent it; None if its owner answers for it."""
        owner = controller_of(request.object or {})
        if owner is None:
            return None if self._is_from_template(request) else request
        if owner.uid in self._living:
            return None
        key = owner.group, owner.kind
        if key not in self._config.judged:
            # A pod that a node owns mirrors a file on that node.
            groups = ("system:nodes",) if key == _NODE else ()
            return msgspec.structs.replace(request, user=_OPERATOR, groups=groups)
        return None if self._lives(owner, request.namespace) else request

    def _is_from_template(self, request: AdmissionRequest) -> bool:
        """Whether the object is a claim that a StatefulSet made: such claims name no owner."""
        above, _, ordinal = request.name.rpartition("-")
        is_claim = (request.group, request.kind) == _CLAIM
        return is_claim and ordinal.isdigit() and (request.namespace, above) in self._templates

    def _lives(self, owner: ControllerReference, namespace: str) -> bool:
        """Whether an owner that was not among those listed is there all the same: it is newer than their list, or could
        not be listed. An owner that can't be read counts as existing: its objects aren't judged."""
        kind = self._config.judged[owner.group, owner.kind].kind
        if owner.uid in self._gone:
            return False
        if full_resource(kind) in self._stored.unseen.resources:
            return True
        version = self._stored.versions.get(kind.group)
        try:
            obj = version and self._cluster.get(f"{path_of(kind, version, namespace)}/{owner.name}")
        except (ClusterRefused, FactsUnavailable):
            return True
        if obj and obj["metadata"].get("uid") == owner.uid:
            self._living.add(owner.uid)
            return True
        self._gone.add(owner.uid)
        return False

    def _judge(self, request: AdmissionRequest) -> None:
        read_workload(request)
        decision = decide(request, self._facts, self._config, today=self._today)
        if decision.skipped:
            return
        for error in decision.failures.values():
            if isinstance(error, UNREADABLE):
                self._unreadable(request, error)
                return
        judged = object_of(request)
        findings = findings_of(request, decision, self._config, judged)
        team = self._team_of(request)
        self.found.tally.count(judged, team, findings, is_refused=any(map(self._refuses, findings)))
        if decision.patch and decision.object is not None:
            ranges = self._facts.of(LIMIT_RANGES).get(request.namespace, ())
            items_of_them = [limit_range.item for limit_range in ranges]
            self.found.tally.add(added(request, decision.object, items_of_them))
        if findings:
            self.found.findings.add(team, findings)
        for policy_id, failure in decision.failures.items():
            if not isinstance(failure, NOT_OURS):
                self.found.bugs.setdefault(policy_id, f"{judged}: {''.join(traceback.format_exception(failure))}")

    def _refuses(self, finding: Finding) -> bool:
        """Whether the object could not be created again for it: about some kinds the API server asks nobody."""
        operations = self._config.policies[finding.verdict.policy].policy.operations
        return finding.verdict.denies and "CREATE" in operations

    def _unreadable(self, request: AdmissionRequest, error: Exception) -> None:
        reference = Reference(request.kind, request.namespace, request.name)
        self.found.unseen.objects.append(Unreadable(reference, str(error)))
