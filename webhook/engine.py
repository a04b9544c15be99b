"""One decision: request + cluster facts + configuration -> what is denied, patched, warned or only recorded.

Webhook, command line and audit call `decide` and differ only in where request and facts come from.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from webhook.config import ALWAYS_EXCLUDED, ActivePolicy, Config, Exemption, Match
from webhook.errors import TimeUp
from webhook.facts import ClusterFacts
from webhook.fixes import Operation, apply_sets, can_change, compatible, sets_of
from webhook.images import match_image
from webhook.owners import Owner, owner_of, top_level
from webhook.pods import is_workload, read_workload
from webhook.policy import ALLOWED, MODES, AdmissionRequest, Decision, Mode, Object, Reference, Verdict, Violation

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
    if skipped := _left_alone(request, config):
        return Decision(allowed=True, skipped=skipped)
    in_scope = _in_scope(request, config)
    if not in_scope:
        return ALLOWED
    if path := config.pod_spec_paths.get((request.group, request.kind)):
        request = replace(request, pod_spec_path=path)
    owner = owner_of(request, config.controllers)
    if owner and owner.is_known and (stage == "validate" or request.kind != "Pod"):
        return Decision(allowed=True, skipped=f"judged at its {owner.kind}")
    return _Case(request, facts, config, in_scope, today, stage, deadline, owner).decide()


def undecided(request: AdmissionRequest, config: Config, stage: Stage, error: BaseException) -> Decision:
    """The decision when nothing could be decided: every policy in scope counts as failed."""
    failures = {active.policy.id: error for active in _in_scope(request, config)}
    verdicts = tuple(_failed(config.policies[policy_id], config, error) for policy_id in failures)
    return _decision(verdicts, stage, failures=failures)


def weakest(*modes: Mode) -> Mode:
    return min(modes, key=_STRENGTH.__getitem__)


def _left_alone(request: AdmissionRequest, config: Config) -> str:
    """Why this request is nobody's to judge; empty if it is ours."""
    if request.object is None:
        return "no object"
    namespace = request.namespace
    if namespace in ALWAYS_EXCLUDED or any(fnmatchcase(namespace, glob) for glob in config.exclude_namespaces):
        return "excluded namespace"
    # On CREATE a deletionTimestamp is something that a person typed and the API server drops.
    if request.old_object and (request.old_object.get("metadata") or {}).get("deletionTimestamp"):
        return "being deleted"
    if request.kind == "Pod" and "system:nodes" in request.groups and _is_mirror(request.object):
        return "mirror pod"
    return ""


def _is_mirror(pod: Object) -> bool:
    return "kubernetes.io/config.mirror" in ((pod.get("metadata") or {}).get("annotations") or {})


def _in_scope(request: AdmissionRequest, config: Config) -> list[ActivePolicy]:
    """The policies that judge this kind and operation, at the mode that the overrides leave them."""
    key = request.group, request.kind
    workload = is_workload(*key) or key in config.pod_spec_paths
    in_scope = []
    for active in config.policies.values():
        policy = active.policy
        if (
            request.operation in policy.operations
            and (not request.subresource or request.subresource in policy.subresources)
            and ((workload and policy.workloads) or any(key == (kind.group, kind.kind) for kind in policy.kinds))
        ):
            in_scope.append(_overridden(active, request, config) if config.overrides else active)
    return [active for active in in_scope if weakest(active.mode, config.mode) != "off"]


def _overridden(active: ActivePolicy, request: AdmissionRequest, config: Config) -> ActivePolicy:
    for override in config.overrides:
        section = override.policies.get(active.policy.id)
        if section and _matches(override.match, request, owner_of(request, config.controllers)):
            active = replace(active, mode=section.mode or active.mode, otherwise=section.otherwise or active.otherwise)
    return active


def _matches(match: Match, request: AdmissionRequest, owner: Owner | None) -> bool:
    """All of it but `images`, which is about a violation's container."""
    if not any(fnmatchcase(request.namespace, glob) for glob in match.namespaces):
        return False
    if match.groups and not set(match.groups) & set(request.groups):
        return False
    if match.labels:
        labels = ((request.object or {}).get("metadata") or {}).get("labels") or {}
        if any(labels.get(key) != value for key, value in match.labels.items()):
            return False
    if not match.kinds and not match.names:
        return True
    return any(
        (not match.kinds or kind in match.kinds) and (not match.names or any(fnmatchcase(name, g) for g in match.names))
        for kind, name in top_level(request, owner)
    )


class _Found(NamedTuple):
    active: ActivePolicy
    violation: Violation

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same violation wherever it stands: indices don't count."""
        return self.active.policy.id, self.violation.subject, _INDEX.sub("[]", self.violation.path)


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
        if not submitted and not self.failures:
            return ALLOWED
        operations: list[Operation] = []
        result, remaining = self.request, submitted
        if self.stage != "validate":
            operations, result, remaining = self._patch(submitted)
        verdicts = self._judge(submitted, remaining, bool(operations))
        verdicts += [_failed(self.config.policies[name], self.config, error) for name, error in self.failures.items()]
        return _decision(verdicts, self.stage, operations, result.object, self.failures, self._unseen(remaining))

    def _unseen(self, found: list[_Found]) -> frozenset[Reference]:
        """What is worth a look-up: for /mutate, which leaves the rest to /validate, only where it could then patch."""
        return frozenset(
            reference
            for each in found
            for reference in each.violation.unseen
            if self.stage != "mutate" or weakest(each.active.mode, self.config.mode) == "patch"
        )

    def _examine(self, request: AdmissionRequest) -> list[_Found]:
        found: list[_Found] = []
        for active in self.in_scope:
            if active.policy.id not in self.failures:
                found += [_Found(active, violation) for violation in self._examine_one(active, request)]
        return found

    def _examine_one(self, active: ActivePolicy, request: AdmissionRequest) -> list[Violation]:
        try:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise TimeUp("the API server's timeout passed")  # noqa: TRY301 - one place contains every failure
            return list(active.policy.examine(request, self.facts, active.params))
        except Exception as error:  # the one place where a policy's bug is contained
            self.failures[active.policy.id] = error
            return []

    def _patch(self, found: list[_Found]) -> tuple[list[Operation], AdmissionRequest, list[_Found]]:
        """Apply what can be fixed and examine the result, until nothing fixable is left."""
        operations: list[Operation] = []
        request = self.request
        for _ in range(_ROUNDS):
            sets = compatible(sets_of(each.violation) for each in found if self._mode(each) == "patch")
            if not sets or request.object is None:
                return operations, request, found
            added, patched = apply_sets(request.object, sets)
            operations += added
            request = replace(request, object=patched)
            found = self._examine(request)
        cycle = RuntimeError(f"fixes still change the object after {_ROUNDS} rounds")
        for each in found:
            if self._mode(each) == "patch":
                self.failures[each.active.policy.id] = cycle
        return [], self.request, [each for each in found if each.active.policy.id not in self.failures]

    def _judge(self, submitted: list[_Found], remaining: list[_Found], is_patched: bool) -> list[Verdict]:
        verdicts: list[Verdict] = []
        left = {each.key for each in remaining}
        if is_patched:
            verdicts = [
                Verdict(each.active.policy.id, "patch", "patched", each.violation)
                for each in submitted
                if each.key not in left and each.violation.fix and self._base(each) == "patch"
            ]
        # The message quotes what was submitted, not what another fix has put there since.
        original = {each.key: each for each in submitted} if is_patched else {}
        # What is left at /mutate is judged, and told, by /validate; what is left of a controller's pod, at its owner.
        if self.stage != "mutate" and not self._is_owned:
            verdicts += [self._verdict(original.get(each.key, each)) for each in remaining]
        return [verdict for verdict in verdicts if verdict.policy not in self.failures]

    def _verdict(self, each: _Found) -> Verdict:
        violation = each.violation
        if (index := self._exemption(each)) is not None:
            exemption = self.config.exemptions[index]
            note = f"exempted by {exemption.owner} until {exemption.until}: {exemption.reason}"
            return Verdict(each.active.policy.id, self._base(each), "exempted", violation, note, index)
        mode = self._mode(each)
        if mode == "patch":  # /validate: the fix didn't arrive
            mode = self._otherwise(each)
        outcome: Literal["unknown", "denied", "warned", "audited"] = "audited"
        if violation.is_unknown:
            outcome = "unknown"
        elif mode in ("deny", "warn"):
            outcome = "denied" if mode == "deny" else "warned"
        return Verdict(each.active.policy.id, mode, outcome, violation, self._note(each))

    @property
    def _is_owned(self) -> bool:
        """Whether this is a controller's own pod: it is patched where the configuration names its size, no more."""
        return self.owner is not None and self.owner.is_known

    def _note(self, each: _Found) -> str:
        if self._is_ratcheted(each):
            return "it was so before this change"
        return ""

    def _base(self, each: _Found) -> Mode:
        return weakest(each.active.mode, self.config.mode, each.violation.at_most)

    def _otherwise(self, each: _Found) -> Mode:
        mode = weakest(each.active.otherwise, self.config.mode, each.violation.at_most)
        return "warn" if mode == "patch" else mode

    def _mode(self, each: _Found) -> Mode:
        """What becomes of the violation: "patch" only where the fix may and can be applied."""
        mode = self._base(each)
        if self._exemption(each) is not None:
            return "audit"
        fixable = mode == "patch" and self._is_fixable(each)
        if self._is_owned:
            return "patch" if fixable else "off"
        if self._is_ratcheted(each):
            return "patch" if fixable and self.config.patch_existing else weakest(mode, "warn")
        if mode == "patch" and not fixable:
            return self._otherwise(each)
        return mode

    def _is_fixable(self, each: _Found) -> bool:
        sets = sets_of(each.violation)
        if not sets or not can_change(self.request, sets):
            return False
        if self.owner is None:
            return True
        # A patched ReplicaSet no longer matches its Deployment, which then makes another, and another.
        return self.request.kind == "Pod" and (each.violation.fix_named or self.config.patch_owned_pods)

    def _is_ratcheted(self, each: _Found) -> bool:
        if not self.config.ratchet or self.request.old_object is None:
            return False
        old_violations = self._old_violations(each)
        if each.active.policy.id in self.failures:  # what we could not compare is no new violation
            return True
        return any(_is_no_worse(each.violation.value, old.value) for old in old_violations)

    def _old_violations(self, each: _Found) -> list[Violation]:
        policy_id = each.active.policy.id
        if policy_id not in self._old:
            before = replace(self.request, object=self.request.old_object, old_object=None)
            by_key = self._old[policy_id] = {}
            for violation in self._examine_one(each.active, before):
                by_key.setdefault(_Found(each.active, violation).key, []).append(violation)
        return self._old[policy_id].get(each.key, [])

    def _exemption(self, each: _Found) -> int | None:
        """The index of the exemption that covers the violation."""
        for index, exemption in enumerate(self.config.exemptions):
            if (
                exemption.policy == each.active.policy.id
                and self.today <= exemption.until
                and _matches(exemption.match, self.request, self.owner)
                and self._has_image(exemption, each.violation)
            ):
                return index
        return None

    def _has_image(self, exemption: Exemption, violation: Violation) -> bool:
        """Whether the violation's container, or every container if it is about none, has one of the images."""
        patterns = exemption.match.images
        if not patterns:
            return True
        workload = read_workload(self.request)
        containers = workload.containers if workload else ()
        concerned = [each for each in containers if each.name == violation.subject] or containers
        return bool(concerned) and all(
            any(match_image(pattern, each.image) for pattern in patterns) for each in concerned
        )


def _is_no_worse(value: int | str | None, old: int | str | None) -> bool:
    if isinstance(value, int) and isinstance(old, int):
        return value >= old
    return value == old or (old is None and isinstance(value, int))


def _failed(active: ActivePolicy, config: Config, error: BaseException) -> Verdict:
    mode: Mode = weakest("deny" if active.on_error == "deny" else "warn", config.mode)
    text = " ".join(str(error).split()) or type(error).__name__
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
