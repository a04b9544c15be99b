"""One decision: request + cluster facts + configuration -> what is denied, patched, warned or only recorded.

Webhook, command line and audit call `decide` and differ only in where request and facts come from.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import msgspec

from webhook.config import ALWAYS_EXCLUDED, ActivePolicy, Config, Exemption, Match
from webhook.errors import NOT_OURS, UNREADABLE, BadObject, TimeUp
from webhook.fixes import Operation, apply_sets, can_change, compatible, sets_of
from webhook.objects.facts import ClusterFacts
from webhook.objects.images import match_image
from webhook.objects.owners import Owner, metadata_of, owner_of, top_level
from webhook.objects.pods import Container, is_workload, mapping, read_workload
from webhook.policy import (
    ALLOWED,
    MODES,
    AdmissionRequest,
    Decision,
    Mode,
    Object,
    Outcome,
    Reference,
    Verdict,
    Violation,
)

Stage = Literal["mutate", "validate", "check"]
"""/mutate patches and never denies, /validate judges what is there, "check" says what both together would do."""

# Fixes settle in two or three rounds; more means that two policies undo each other's.
_ROUNDS = 8
_STRENGTH = {mode: strength for strength, mode in enumerate(MODES)}
_INDEX = re.compile(r"\[\d+\]")


def decide(
    request: AdmissionRequest,
    facts: ClusterFacts,
    config: Config,
    *,
    today: date,
    stage: Stage = "check",
    deadline: float | None = None,
) -> Decision:
    """Judge one request.

    `today` (UTC) tells which exemptions still count. A policy that has not begun at `deadline` (time.monotonic) counts
    as failed. Whatever a policy raises is contained: it is in the decision's `failures`, and its onError decides.
    """
    owner = owner_of(request, config.controllers, config.pod_spec_paths)
    if skipped := _left_alone(request, config, owner, stage):
        return Decision(allowed=True, skipped=skipped)
    if path := config.pod_spec_paths.get((request.group, request.kind)):
        request = msgspec.structs.replace(request, pod_spec_path=path)
    in_scope = _in_scope(request, config, owner, stage)
    if not in_scope:
        return ALLOWED
    if request.unreadable:
        error = BadObject(f"the object can't be read: {request.unreadable}")
        return _undecided(in_scope, config, stage, error)
    return _Case(request, facts, config, in_scope, today, stage, deadline, owner).decide()


def undecided(request: AdmissionRequest, config: Config, stage: Stage, error: BaseException) -> Decision:
    """The decision when nothing could be decided: every policy in scope counts as failed."""
    owner = owner_of(request, config.controllers, config.pod_spec_paths)
    if skipped := _left_alone(request, config, owner, stage):
        return Decision(allowed=True, skipped=skipped)
    return _undecided(_in_scope(request, config, owner, stage), config, stage, error)


def _undecided(in_scope: list[ActivePolicy], config: Config, stage: Stage, error: BaseException) -> Decision:
    verdicts = [_failed(active, config, error) for active in in_scope]
    return _decision(verdicts, stage, failures={active.policy.id: error for active in in_scope})


def weakest(*modes: Mode) -> Mode:
    return min(modes, key=_STRENGTH.__getitem__)


def _left_alone(request: AdmissionRequest, config: Config, owner: Owner | None, stage: Stage) -> str:
    """Why this request is nobody's to judge; empty if it is ours."""
    if request.object is None and not request.unreadable:
        return "no object"
    namespace = request.namespace
    if namespace in ALWAYS_EXCLUDED or any(fnmatchcase(namespace, glob) for glob in config.exclude_namespaces):
        return "excluded namespace"
    # On CREATE a deletionTimestamp is something that a person typed and the API server drops.
    if metadata_of(request.old_object).get("deletionTimestamp"):
        return "being deleted"
    if request.kind == "Pod" and "system:nodes" in request.groups and _is_mirror(request.object):
        return "mirror pod"
    # Of a controller's own objects only pods may be patched, with sizes that the configuration has for them.
    if owner and owner.is_known and not (stage != "validate" and request.kind == "Pod" and config.judges_owned_pods):
        return f"judged at its {owner.kind}"
    return ""


def _is_mirror(pod: Object | None) -> bool:
    return "kubernetes.io/config.mirror" in mapping(metadata_of(pod), "annotations", "metadata")


def _in_scope(request: AdmissionRequest, config: Config, owner: Owner | None, stage: Stage) -> list[ActivePolicy]:
    """The policies that judge this kind and operation, at the mode that the overrides leave them.

    For /mutate those alone that may patch: all else is told by /validate.
    """
    key = request.group, request.kind
    workload = is_workload(*key) or key in config.pod_spec_paths
    in_scope = []
    for active in config.policies.values():
        policy = active.policy
        if (
            (request.operation in policy.operations or (stage == "check" and not policy.operations))
            and (not request.subresource or request.subresource in policy.subresources)
            and ((workload and policy.workloads) or any(key == (kind.group, kind.kind) for kind in policy.kinds))
        ):
            in_scope.append(_overridden(active, request, config, owner))
    return [active for active in in_scope if _is_active(active, key, config, stage)]


def _is_active(active: ActivePolicy, key: tuple[str, str], config: Config, stage: Stage) -> bool:
    mode = weakest(active.mode, config.mode)
    if stage != "mutate":
        return mode != "off"
    patched = active.policy.patched_kinds(active.params) if mode == "deny" else ()
    return mode == "patch" or any(key == (kind.group, kind.kind) for kind in patched)


def _overridden(active: ActivePolicy, request: AdmissionRequest, config: Config, owner: Owner | None) -> ActivePolicy:
    for override in config.overrides:
        section = override.policies.get(active.policy.id)
        if section and _matches(override.match, request, owner) and _has_only(override.match.images, request):
            active = replace(active, mode=section.mode or active.mode, otherwise=section.otherwise or active.otherwise)
    return active


def _matches(match: Match, request: AdmissionRequest, owner: Owner | None) -> bool:
    """All of it but `images`, which are about containers."""
    if not any(fnmatchcase(request.namespace, glob) for glob in match.namespaces):
        return False
    if match.groups and not set(match.groups) & set(request.groups):
        return False
    if match.labels:
        labels = mapping(metadata_of(request.object), "labels", "metadata")
        if any(labels.get(key) != value for key, value in match.labels.items()):
            return False
    if not match.kinds and not match.names:
        return True
    return any(
        (not match.kinds or kind in match.kinds) and (not match.names or any(fnmatchcase(name, g) for g in match.names))
        for kind, name in top_level(request, owner)
    )


def _has_only(patterns: tuple[str, ...], request: AdmissionRequest) -> bool:
    """Whether every container has one of the images; of what can't be read it isn't known, so no."""
    if not patterns:
        return True
    try:
        workload = read_workload(request)
    except UNREADABLE:
        return False
    return workload is not None and _have_images(workload.containers, patterns)


def _have_images(containers: Sequence[Container], patterns: tuple[str, ...]) -> bool:
    return bool(containers) and all(
        any(match_image(pattern, each.image) for pattern in patterns) for each in containers
    )


class _Found(NamedTuple):
    active: ActivePolicy
    violation: Violation

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same violation wherever it stands: indices don't count."""
        return self.active.policy.id, self.violation.subject, _INDEX.sub("[]", self.violation.path)


class _Ruling(NamedTuple):
    """What becomes of a violation: `mode` is "patch" only where the fix may and can be applied, "off" where it is
    nobody's business, and for an exempted one what it would have been without `exemption`."""

    found: _Found
    mode: Mode
    note: str = ""
    exemption: int | None = None

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
        return Verdict(self.found.active.policy.id, self.mode, outcome, self.found.violation, self.note, self.exemption)


@dataclass
class _Case:
    """One request on its way to a decision."""

    request: AdmissionRequest
    facts: ClusterFacts
    config: Config
    in_scope: list[ActivePolicy]
    today: date
    stage: Stage
    deadline: float | None
    owner: Owner | None
    failures: dict[str, BaseException] = field(default_factory=dict)
    _old: dict[str, dict[tuple[str, str, str], list[Violation]]] = field(default_factory=dict)

    def decide(self) -> Decision:
        submitted = self._examine(self.request)
        operations, result, remaining = self._patch(submitted)
        if not submitted and not self.failures:
            return ALLOWED
        verdicts = [ruling.verdict() for ruling in self._judged(submitted, remaining, is_patched=bool(operations))]
        verdicts += [
            _failed(each, self.config, self.failures[each.policy.id])
            for each in self.in_scope
            if each.policy.id in self.failures
        ]
        return _decision(verdicts, self.stage, operations, result, self.failures, self._unseen(remaining))

    def _examine(self, request: AdmissionRequest) -> list[_Ruling]:
        """The violations of every policy that has not failed yet, and what becomes of each."""
        found = [
            _Found(active, violation)
            for active in self.in_scope
            if active.policy.id not in self.failures
            for violation in self._examine_one(active, request)
        ]
        rulings = [self._rule(each) for each in found]
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
        """Apply what can be fixed and examine the result, until nothing fixable is left."""
        operations: list[Operation] = []
        obj = self.request.object
        for _ in range(_ROUNDS):
            sets = compatible(sets_of(ruling.found.violation) for ruling in rulings if ruling.is_patched)
            if not sets or obj is None:
                return operations, obj, rulings
            added, obj = apply_sets(obj, sets)
            operations += added
            rulings = self._examine(msgspec.structs.replace(self.request, object=obj))
        cycle = RuntimeError(f"fixes still change the object after {_ROUNDS} rounds")
        self.failures |= {ruling.found.active.policy.id: cycle for ruling in rulings if ruling.is_patched}
        return self._patch(self._examine(self.request))

    def _judged(self, submitted: list[_Ruling], remaining: list[_Ruling], *, is_patched: bool) -> Iterator[_Ruling]:
        """What was patched, then what is left, in the words of what was submitted: no message quotes a fix."""
        left = {ruling.found.key for ruling in remaining}
        original = {ruling.found.key: ruling.found for ruling in submitted} if is_patched else {}
        rulings = [ruling for ruling in submitted if ruling.is_patched and ruling.found.key not in left]
        if self.stage != "mutate":  # what is left there is judged, and told, by /validate
            rulings += [ruling._replace(found=original.get(ruling.found.key, ruling.found)) for ruling in remaining]
        return (
            ruling for ruling in rulings if ruling.mode != "off" and ruling.found.active.policy.id not in self.failures
        )

    def _unseen(self, rulings: list[_Ruling]) -> frozenset[Reference]:
        """What is worth a look-up."""
        return frozenset(reference for ruling in rulings for reference in ruling.found.violation.unseen)

    def _rule(self, found: _Found) -> _Ruling:
        violation = found.violation
        mode = weakest(found.active.mode, self.config.mode, violation.at_most)
        index = self._exemption(found)
        fixable = mode == "patch" and self._is_fixable(violation)
        if self.owner and self.owner.is_known:  # a controller's pod: what is not patched was judged at its owner
            return _Ruling(found, "patch" if fixable and index is None else "off")
        if index is not None:
            exemption = self.config.exemptions[index]
            note = f"exempted by {exemption.owner} until {exemption.until}: {exemption.reason}"
            return _Ruling(found, mode, note, index)
        if self._is_ratcheted(found):
            note = "it was so before this change"
            return _Ruling(found, "patch" if fixable and self.config.patch_existing else weakest(mode, "warn"), note)
        if mode == "patch" and not fixable:
            mode = weakest(found.active.otherwise, self.config.mode, violation.at_most)
            return _Ruling(found, "warn" if mode == "patch" else mode)
        return _Ruling(found, mode)

    def _is_fixable(self, violation: Violation) -> bool:
        sets = sets_of(violation)
        if self.stage == "validate" or not sets or not can_change(self.request, sets):
            return False
        if self.owner is None:
            return True
        # A patched ReplicaSet no longer matches its Deployment, which then makes another, and another.
        return self.request.kind == "Pod" and (violation.fix_named or self.config.patch_owned_pods)

    def _is_ratcheted(self, found: _Found) -> bool:
        if not self.config.ratchet or self.request.old_object is None:
            return False
        old_violations = self._old_violations(found)
        if found.active.policy.id in self.failures:  # what we could not compare is no new violation
            return True
        return any(_is_no_worse(found.violation, old) for old in old_violations)

    def _old_violations(self, found: _Found) -> list[Violation]:
        policy_id = found.active.policy.id
        if policy_id not in self._old:
            before = msgspec.structs.replace(self.request, object=self.request.old_object, old_object=None)
            by_key = self._old[policy_id] = {}
            for violation in self._examine_one(found.active, before):
                by_key.setdefault(_Found(found.active, violation).key, []).append(violation)
        return self._old[policy_id].get(found.key, [])

    def _exemption(self, found: _Found) -> int | None:
        """The index of the exemption that covers the violation."""
        for index, exemption in enumerate(self.config.exemptions):
            if (
                exemption.policy == found.active.policy.id
                and self.today <= exemption.until
                and _matches(exemption.match, self.request, self.owner)
                and self._has_image(exemption.match.images, found.violation)
            ):
                return index
        return None

    def _has_image(self, patterns: tuple[str, ...], violation: Violation) -> bool:
        """Whether the violation's container, or every container if it is about none, has one of the images."""
        if not patterns:
            return True
        workload = read_workload(self.request)
        containers = workload.containers if workload else ()
        return _have_images([each for each in containers if each.concerns(violation)] or containers, patterns)


def _is_no_worse(violation: Violation, old: Violation) -> bool:
    # What was only noted before (a pod that bound itself to its volume's zone) excuses no denial.
    if _STRENGTH[old.at_most] < _STRENGTH[violation.at_most]:
        return False
    if isinstance(violation.value, int) and isinstance(old.value, int):
        return violation.value >= old.value
    return violation.value == old.value or (old.value is None and isinstance(violation.value, int))


def _failed(active: ActivePolicy, config: Config, error: BaseException) -> Verdict:
    policy_mode = active.otherwise if active.mode == "patch" else active.mode
    mode = weakest("deny" if active.on_error == "deny" else "warn", policy_mode, config.mode)
    if mode == "patch":
        mode = "warn"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, NOT_OURS):
        outcome: Outcome = "denied" if mode == "deny" else "unknown"
        return Verdict(active.policy.id, mode, outcome, Violation("", "", f"could not decide: {text}"))
    violation = Violation("", "", f"could not decide, this is Forestall's own failure: {text}")
    return Verdict(active.policy.id, mode, "failed", violation)


def _decision(
    verdicts: Iterable[Verdict],
    stage: Stage,
    operations: Iterable[Operation] = (),
    obj: Object | None = None,
    failures: Mapping[str, BaseException] | None = None,
    unseen: frozenset[Reference] = frozenset(),
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
    return ((index, each) for index, each in enumerate(config.exemptions) if each.until < today)
