"""One decision: request + cluster facts + configuration -> what is denied, patched, warned or only recorded.

Webhook, command line and audit call `decide` and differ only in where request and facts come from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from typing import NamedTuple

import msgspec

from webhook.config import ActivePolicy, Config
from webhook.errors import NOT_OURS, UNREADABLE, BadObject, TimeUp, one_line
from webhook.fixes import Operation, apply_sets, can_change, compatible, sets_of
from webhook.objects.facts import ClusterFacts
from webhook.objects.owners import Owner
from webhook.objects.pods import pod_specs, read_workload
from webhook.objects.scales import is_more_than_one, scaled, unseen_scale
from webhook.policy import (
    ALLOWED,
    AdmissionRequest,
    Decision,
    FactReference,
    Mode,
    Object,
    Outcome,
    Verdict,
    Violation,
    is_weaker,
    weakest,
)
from webhook.ratchet import OldViolations, place_of
from webhook.scope import AnyStage, Leniency, Scope, have_images, matches, may_patch, scope_of
from webhook.sections import Exemption

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


class _Found(NamedTuple):
    active: ActivePolicy
    violation: Violation

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same violation in the object as submitted, as patched and as it was: policy and place."""
        return self.active.policy.id, *place_of(self.violation)


class _Ruling(NamedTuple):
    """What becomes of a violation.

    `mode` is "patch" only where the fix may and can be applied, "off" where the object's owner was judged instead, and
    for an exempted violation the mode that it would have without its exemption. `exemption` is that one's index in the
    configuration. `enforced` is what an enforced policy would do, where the violation is only recorded or warned of.
    """

    found: _Found
    mode: Mode
    note: str = ""
    exemption: int | None = None
    enforced: Mode | None = None

    @property
    def is_patched(self) -> bool:
        return self.mode == "patch" and self.exemption is None

    def verdict(self) -> Verdict:
        outcome: Outcome = "audited"
        if self.exemption is not None:
            outcome = "exempted"
        elif self.is_patched:
            outcome = "patched"
        elif self.found.violation.is_unknown:
            outcome = "unknown"
        elif self.mode in ("deny", "warn"):
            outcome = "denied" if self.mode == "deny" else "warned"
        policy, violation = self.found.active.policy.id, self.found.violation
        return Verdict(policy, self.mode, outcome, violation, self.note, self.exemption, self.enforced)


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
    _old: dict[str, OldViolations] = field(default_factory=dict)
    """By policy id: what it finds in the object as it was before the change."""
    _imaged: dict[tuple[str, ...], bool] = field(default_factory=dict)
    """By patterns of images: whether the image of every container matches one of them."""

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

    def _examine(self, request: AdmissionRequest) -> list[_Ruling]:
        """The violations of every policy that has not failed yet, and what becomes of each."""
        met = [
            _Found(active, violation)
            for active in self.scope.policies
            if active.policy.id not in self.failures
            for violation in self._examine_one(active, request)
        ]
        # The rulings are complete before any is returned: a policy may still fail on the old object, and then none of
        # its own count.
        rulings = [self._rule(found) for found in met]
        return [ruling for ruling in rulings if ruling.found.active.policy.id not in self.failures]

    def _examine_one(self, active: ActivePolicy, request: AdmissionRequest) -> list[Violation]:
        try:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise TimeUp("the API server's timeout passed")  # noqa: TRY301 - one place contains every failure
            return list(active.policy.examine(request, self.facts, active.params))
        except Exception as error:  # the one place where a policy's bug is contained
            self.failures[active.policy.id] = error
            return []

    def _patch(self, rulings: list[_Ruling]) -> tuple[list[Operation], Object | None, list[_Ruling]]:
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

    def _judged(self, submitted: list[_Ruling], remaining: list[_Ruling], *, is_patched: bool) -> Iterator[_Ruling]:
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

    def _unseen(self, rulings: list[_Ruling]) -> frozenset[FactReference]:
        """The cluster objects that policies needed and didn't have: with them the request can be judged again."""
        return frozenset(reference for ruling in rulings for reference in ruling.found.violation.unseen)

    def _rule(self, found: _Found) -> _Ruling:
        violation = found.violation
        mode = weakest(found.active.mode, self.config.mode, violation.at_most)
        index = self._exemption(found)
        fixable = mode == "patch" and self._is_fixable(violation)
        owner, leniency = self.scope.owner, self.scope.leniency
        if owner and owner.maker == "controller":  # its owner was judged, and isn't judged again here
            return _Ruling(found, "patch" if fixable and index is None else "off")
        if index is not None:
            exemption = self.config.exemptions[index]
            note = f"exempted by {exemption.owner} until {exemption.until}: {exemption.reason}"
            return _Ruling(found, mode, note, index)
        if self._is_ratcheted(found):
            note = "it was so before this change"
            if fixable and self.config.patch_existing:
                return _Ruling(found, "patch", note)
            return _Ruling(found, weakest(mode, "warn", leniency.at_most if leniency else "deny"), note)
        if mode == "patch" and not fixable:
            mode = weakest(found.active.otherwise, self.config.mode, violation.at_most)
            mode = "warn" if mode == "patch" else mode
        if leniency is None or owner is None:
            return _Ruling(found, mode, enforced=self._enforced(found, mode))
        mode = mode if mode == "patch" else weakest(mode, leniency.at_most)
        return _Ruling(found, mode, _made_by(owner, found.active, leniency, mode))

    def _enforced(self, found: _Found, mode: Mode) -> Mode | None:
        """What the violation's policy would do if it weren't held back: at its configured mode, or at the policy's
        default where that is only audit or warn; None where it wouldn't do more than now."""
        active, at_most = found.active, found.violation.at_most
        if mode not in ("audit", "warn"):
            return None
        wanted = active.mode if is_weaker("warn", active.mode) else active.policy.mode
        if wanted == "patch" or at_most == "patch":
            if at_most in ("patch", "deny") and self._can_fix(found.violation):
                return "patch"
            wanted = active.otherwise
        return "deny" if wanted == at_most == "deny" else None

    def _is_fixable(self, violation: Violation) -> bool:
        return self.stage != "validate" and self._can_fix(violation)

    def _can_fix(self, violation: Violation) -> bool:
        sets = sets_of(violation)
        if not sets or not can_change(self.scope.request, sets):
            return False
        # The API server refuses the object as it is written. A patch would have it store something that nobody wrote.
        if violation.refused:
            return False
        if self.scope.request.subresource and not violation.fix_named:
            return False
        owner, leniency, kind = self.scope.owner, self.scope.leniency, self.scope.request.kind
        if owner is None:
            return True
        # Patched, it would differ from its Deployment's template, and the Deployment would make another one.
        if kind == "ReplicaSet":
            return False
        if owner.maker == "controller" and not (kind == "Pod" and self.config.patch_owned_pods):
            return violation.fix_named and may_patch(kind, owner, self.config)
        return leniency is None or leniency.patches or violation.fix_named

    def _is_ratcheted(self, found: _Found) -> bool:
        """Whether the old object had the violation, which therefore doesn't stop the update."""
        old, policy_id = self.scope.request.before, found.active.policy.id
        if not self.config.ratchet or old is None:
            return False
        if policy_id not in self._old:
            # A policy that fails on the old object has failed as a whole: _examine drops its rulings.
            self._old[policy_id] = OldViolations(self._examine_one(found.active, old))
        return self._old[policy_id].excuse(found.violation, self.scope.request)

    def _exemption(self, found: _Found) -> int | None:
        """The index of the exemption that covers the violation."""
        for index, exemption in self._exemptions.get(found.active.policy.id, ()):
            if self._has_image(exemption.match.images, found.violation):
                return index
        return None

    @cached_property
    def _exemptions(self) -> Mapping[str, Sequence[tuple[int, Exemption]]]:
        """By policy id: the exemptions that cover this request today, with their index in the configuration."""
        by_policy: dict[str, list[tuple[int, Exemption]]] = {}
        for index, exemption in enumerate(self.config.exemptions):
            if self.today <= exemption.until and matches(exemption.match, self.scope.request, self.scope.owner):
                by_policy.setdefault(exemption.policy, []).append((index, exemption))
        return by_policy

    def _has_image(self, patterns: tuple[str, ...], violation: Violation) -> bool:
        """Whether the violation's container, or every container if it is about none, has one of the images."""
        if not patterns:
            return True
        workload = read_workload(self.scope.request)
        if workload and (container := workload.container_of(violation)):
            return have_images([container], patterns)
        if patterns not in self._imaged:
            self._imaged[patterns] = have_images(workload.containers if workload else (), patterns)
        return self._imaged[patterns]


def _made_by(owner: Owner, active: ActivePolicy, leniency: Leniency, mode: Mode) -> str:
    """Who made the object, and what the reader, who can't change it, can do."""
    if mode == "patch" or leniency.at_most == "audit":
        return f"made by {owner}"
    remedies = ", ".join(filter(None, ("mend it there", active.policy.elsewhere)))
    note = f"made by {owner}: {remedies}, or exempt it"
    if mode == "deny" and leniency.operator:
        note += f"; if {leniency.operator} is its operator, let it pass with controllers: [{leniency.operator!r}]"
    return note


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


def iter_expired(config: Config, today: date) -> Iterator[tuple[int, Exemption]]:
    """The exemptions that no longer count, with their index."""
    return ((index, exemption) for index, exemption in enumerate(config.exemptions) if exemption.until < today)
