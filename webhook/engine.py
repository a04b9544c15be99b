"""One decision: request + cluster facts + configuration -> what is denied, patched, warned or only recorded.

Webhook, command line and audit call `decide` and differ only in where request and facts come from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial

import msgspec

from webhook.config import ActivePolicy, Config
from webhook.errors import NOT_OURS, UNREADABLE, BadObject, TimeUp, one_line
from webhook.fixes import Operation, apply_sets, compatible, sets_of
from webhook.objects.facts import ClusterFacts
from webhook.objects.pods import pod_specs
from webhook.objects.scales import is_more_than_one, scaled, unseen_scale
from webhook.policy import (
    ALLOWED,
    AdmissionRequest,
    Decision,
    FactReference,
    Object,
    Outcome,
    Verdict,
    Violation,
    weakest,
)
from webhook.rulings import Found, Rules, Ruling
from webhook.scope import AnyStage, Leniency, Scope, scope_of

# Rounds of fixing and examining again: two or three are enough, unless two policies undo each other's fixes.
_ROUNDS = 8


def decide(
    request: AdmissionRequest,
    facts: ClusterFacts,
    config: Config,
    *,
    today: date,
    stage: AnyStage = "check",
    deadline: float | None = None,
) -> Decision:
    """Judge one request.

    `today` (UTC) tells which exemptions still count. A policy that has not begun at `deadline` (time.monotonic) counts
    as failed. Whatever a policy raises is contained: it is in the decision's `failures`, and its onError decides.
    """
    scope = scope_of(request, config, stage)
    if not scope.policies:
        return Decision(allowed=True, skipped=scope.skipped)
    if request.unreadable:
        error = BadObject(f"the object can't be read: {request.unreadable}")
        return _undecided(scope, config, stage, error)
    if request.subresource == "scale":
        try:
            is_judged = is_more_than_one(request)
        except UNREADABLE as error:
            return _undecided(scope, config, stage, error)
        if not is_judged:
            return Decision(allowed=True, skipped="not scaled to more than one")
        deployment = scaled(request, facts)
        if deployment is None:
            return _unseen(scope, facts, config, stage)
        # Overrides and exemptions may name the Deployment's labels and images.
        scope = scope_of(deployment, config, stage)
    if not scope.request.pod_spec_paths:
        return _Judgement(scope, facts, config, today, stage, deadline).decide()
    judge = partial(_Judgement, facts=facts, config=config, today=today, stage=stage, deadline=deadline)
    try:
        paths = pod_specs(scope.request)
    except UNREADABLE as error:
        return _undecided(scope, config, stage, error)
    return _one_by_one(scope, paths, judge, stage)


def _one_by_one(scope: Scope, paths: Sequence[str], judge: Callable[[Scope], _Judgement], stage: AnyStage) -> Decision:
    """The decision on an object with several pod specs: each is judged, and patched, as the ones before left it."""
    decisions: list[Decision] = []
    obj = scope.request.object
    for path in paths:
        request = msgspec.structs.replace(scope.request, object=obj, pod_spec_paths=(path,))
        decisions.append(judge(scope._replace(request=request)).decide())
        obj = decisions[-1].object or obj
    return _together(decisions, stage)


def _together(decisions: Sequence[Decision], stage: AnyStage) -> Decision:
    failures = {policy: error for decision in decisions for policy, error in decision.failures.items()}
    return _decision(
        (verdict for decision in decisions for verdict in decision.verdicts),
        stage,
        (dict(operation) for decision in decisions for operation in decision.patch),
        next((decision.object for decision in reversed(decisions) if decision.object is not None), None),
        failures,
        frozenset(reference for decision in decisions for reference in decision.unseen),
    )


def undecided(request: AdmissionRequest, config: Config, stage: AnyStage, error: BaseException) -> Decision:
    """The decision where `error` kept the policies from judging at all: each policy in scope counts as failed."""
    scope = scope_of(request, config, stage)
    if scope.skipped:
        return Decision(allowed=True, skipped=scope.skipped)
    return _undecided(scope, config, stage, error)


def _undecided(scope: Scope, config: Config, stage: AnyStage, error: BaseException) -> Decision:
    verdicts = [_failed(active, config, error, scope.leniency) for active in scope.policies]
    return _decision(verdicts, stage, failures={active.policy.id: error for active in scope.policies})


def _unseen(scope: Scope, facts: ClusterFacts, config: Config, stage: AnyStage) -> Decision:
    """The decision on a Scale whose Deployment wasn't seen."""
    violation = unseen_scale(scope.request, facts)
    modes = {active.policy.id: weakest(active.mode, config.mode, violation.at_most) for active in scope.policies}
    verdicts = [Verdict(policy, mode, "unknown", violation) for policy, mode in modes.items()]
    return _decision(verdicts, stage, unseen=frozenset(violation.unseen))


@dataclass
class _Judgement:
    """The judgement of one request: what its policies find, and what becomes of that."""

    scope: Scope
    facts: ClusterFacts
    config: Config
    today: date
    stage: AnyStage
    deadline: float | None
    failures: dict[str, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules = Rules(self.scope, self.config, self.today, self.stage)

    def decide(self) -> Decision:
        submitted = self._examine(self.scope.request)
        operations, result, remaining = self._patch(submitted)
        if not submitted and not self.failures:
            return ALLOWED
        verdicts = [ruling.verdict() for ruling in self._judged(submitted, remaining, is_patched=bool(operations))]
        verdicts += [
            _failed(active, self.config, self.failures[active.policy.id], self.scope.leniency)
            for active in self.scope.policies
            if active.policy.id in self.failures
        ]
        return _decision(verdicts, self.stage, operations, result, self.failures, self._unseen(remaining))

    def _examine(self, request: AdmissionRequest) -> list[Ruling]:
        """The violations of every policy that has not failed yet, and what becomes of each."""
        met = [
            Found(active, violation)
            for active in self.scope.policies
            if active.policy.id not in self.failures
            for violation in self._examine_one(active, request)
        ]
        # The rulings are complete before any is returned: a policy may still fail on the old object, and then none of
        # its own count.
        rulings = [self._rules.rule(found, self._examine_one) for found in met]
        return [ruling for ruling in rulings if ruling.found.active.policy.id not in self.failures]

    def _examine_one(self, active: ActivePolicy, request: AdmissionRequest) -> list[Violation]:
        try:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise TimeUp("the API server's timeout passed")  # noqa: TRY301 - one place contains every failure
            return list(active.policy.examine(request, self.facts, active.params))
        except Exception as error:  # the one place where a policy's bug is contained
            self.failures[active.policy.id] = error
            return []

    def _patch(self, rulings: list[Ruling]) -> tuple[list[Operation], Object | None, list[Ruling]]:
        """Apply the fixes and examine the result, until nothing fixable is left: the operations, the object after them,
        and the rulings on that object."""
        operations: list[Operation] = []
        obj = self.scope.request.object
        for round_ in range(_ROUNDS + 1):
            sets = compatible(sets_of(ruling.found.violation) for ruling in rulings if ruling.is_patched)
            if not sets or obj is None:
                break
            if round_ == _ROUNDS:
                cycle = RuntimeError(f"fixes still change the object after {_ROUNDS} rounds")
                self.failures |= {ruling.found.active.policy.id: cycle for ruling in rulings if ruling.is_patched}
                return self._patch(self._examine(self.scope.request))
            added, obj = apply_sets(obj, sets)
            operations += added
            rulings = self._examine(msgspec.structs.replace(self.scope.request, object=obj))
        return operations, obj, rulings

    def _judged(self, submitted: list[Ruling], remaining: list[Ruling], *, is_patched: bool) -> Iterator[Ruling]:
        """The rulings to report: on what was patched, then on what is left. They quote the object as it was submitted,
        never our own fix."""
        left = {ruling.found.key for ruling in remaining}
        counts = Counter(ruling.found.key for ruling in submitted) if is_patched else {}
        # What two share tells neither which it was.
        original = {ruling.found.key: ruling.found for ruling in submitted if counts.get(ruling.found.key) == 1}
        rulings = [ruling for ruling in submitted if ruling.is_patched and ruling.found.key not in left]
        if self.stage != "mutate":  # /validate judges what /mutate leaves, and reports it
            rulings += [ruling._replace(found=original.get(ruling.found.key, ruling.found)) for ruling in remaining]
        return (
            ruling for ruling in rulings if ruling.mode != "off" and ruling.found.active.policy.id not in self.failures
        )

    def _unseen(self, rulings: list[Ruling]) -> frozenset[FactReference]:
        """The cluster objects that policies needed and didn't have: with them the request can be judged again."""
        return frozenset(reference for ruling in rulings for reference in ruling.found.violation.unseen)


def _failed(active: ActivePolicy, config: Config, error: BaseException, leniency: Leniency | None) -> Verdict:
    policy_mode = active.otherwise if active.mode == "patch" else active.mode
    mode = weakest("deny" if active.on_error == "deny" else "warn", policy_mode, config.mode)
    if leniency:
        mode = weakest(mode, leniency.at_most)
    if mode == "patch":
        mode = "warn"
    text = one_line(error)
    if isinstance(error, NOT_OURS):
        outcome: Outcome = "denied" if mode == "deny" else "unknown"
        return Verdict(active.policy.id, mode, outcome, Violation("", "", f"could not decide: {text}"))
    violation = Violation("", "", f"could not decide, this is Forestall's own failure: {text}")
    return Verdict(active.policy.id, mode, "failed", violation)


def _decision(
    verdicts: Iterable[Verdict],
    stage: AnyStage,
    operations: Iterable[Operation] = (),
    obj: Object | None = None,
    failures: Mapping[str, BaseException] | None = None,
    unseen: frozenset[FactReference] = frozenset(),
) -> Decision:
    verdicts = tuple(verdicts)
    return Decision(
        allowed=stage == "mutate" or not any(verdict.denies for verdict in verdicts),
        verdicts=verdicts,
        patch=tuple(operations),
        object=obj,
        failures=failures or {},
        unseen=unseen,
    )
