"""What becomes of each violation: denied, patched, warned of, recorded, exempted, or nothing.

Mode, ceilings, overrides, exemptions, the ratchet and the object's owner meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import NamedTuple

from webhook.config import ActivePolicy, Config
from webhook.fixes import can_change, sets_of
from webhook.objects.owners import Owner
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, Mode, Outcome, Verdict, Violation, is_weaker, weakest
from webhook.ratchet import OldViolations, place_of
from webhook.scope import AnyStage, Leniency, Scope, have_images, matches, may_patch
from webhook.sections import Exemption


class Found(NamedTuple):
    active: ActivePolicy
    violation: Violation

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same violation in the object as submitted, as patched and as it was: policy and place."""
        return self.active.policy.id, *place_of(self.violation)


class Ruling(NamedTuple):
    """What becomes of a violation.

    `mode` is "patch" only where the fix may and can be applied, "off" where the object's owner was judged instead, and
    for an exempted violation the mode that it would have without its exemption. `exemption` is that one's index in the
    configuration. `enforced` is what an enforced policy would do, where the violation is only recorded or warned of.
    """

    found: Found
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


Examine = Callable[[ActivePolicy, AdmissionRequest], list[Violation]]
"""What a policy finds in a request's object."""


class Rules:
    """What holds for the violations of one request."""

    def __init__(self, scope: Scope, config: Config, today: date, stage: AnyStage) -> None:
        self._scope, self._config, self._today, self._stage = scope, config, today, stage
        self._old: dict[str, OldViolations] = {}
        """By policy id: what it finds in the object as it was before the change."""
        self._imaged: dict[tuple[str, ...], bool] = {}
        """By patterns of images: whether the image of every container matches one of them."""

    def rule(self, found: Found, examine: Examine) -> Ruling:
        """What becomes of the violation; `examine` is for the object as it was before the change, if need be.

        It isn't kept here: the two would hold each other, and `forestall check` runs without Python's collector.
        """
        violation = found.violation
        mode = weakest(found.active.mode, self._config.mode, violation.at_most)
        index = self._exemption(found)
        fixable = mode == "patch" and self._is_fixable(violation)
        owner, leniency = self._scope.owner, self._scope.leniency
        if owner and owner.maker == "controller":  # its owner was judged, and isn't judged again here
            return Ruling(found, "patch" if fixable and index is None else "off")
        if index is not None:
            exemption = self._config.exemptions[index]
            note = f"exempted by {exemption.owner} until {exemption.until}: {exemption.reason}"
            return Ruling(found, mode, note, index)
        if self._is_ratcheted(found, examine):
            note = "it was so before this change"
            if fixable and self._config.patch_existing:
                return Ruling(found, "patch", note)
            return Ruling(found, weakest(mode, "warn", leniency.at_most if leniency else "deny"), note)
        if mode == "patch" and not fixable:
            mode = weakest(found.active.otherwise, self._config.mode, violation.at_most)
            mode = "warn" if mode == "patch" else mode
        if leniency is None or owner is None:
            return Ruling(found, mode, enforced=self._enforced(found, mode))
        mode = mode if mode == "patch" else weakest(mode, leniency.at_most)
        return Ruling(found, mode, _made_by(owner, found.active, leniency, mode))

    def _enforced(self, found: Found, mode: Mode) -> Mode | None:
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
        return self._stage != "validate" and self._can_fix(violation)

    def _can_fix(self, violation: Violation) -> bool:
        sets = sets_of(violation)
        if not sets or not can_change(self._scope.request, sets):
            return False
        # The API server refuses the object as it is written. A patch would have it store something that nobody wrote.
        if violation.refused:
            return False
        if self._scope.request.subresource and not violation.fix_named:
            return False
        owner, leniency, kind = self._scope.owner, self._scope.leniency, self._scope.request.kind
        if owner is None:
            return True
        # Patched, it would differ from its Deployment's template, and the Deployment would make another one.
        if kind == "ReplicaSet":
            return False
        if owner.maker == "controller" and not (kind == "Pod" and self._config.patch_owned_pods):
            return violation.fix_named and may_patch(kind, owner, self._config)
        return leniency is None or leniency.patches or violation.fix_named

    def _is_ratcheted(self, found: Found, examine: Examine) -> bool:
        """Whether the old object had the violation, which therefore doesn't stop the update."""
        old, policy_id = self._scope.request.before, found.active.policy.id
        if not self._config.ratchet or old is None:
            return False
        if policy_id not in self._old:
            # A policy that fails on the old object has failed as a whole: the engine drops its rulings.
            self._old[policy_id] = OldViolations(examine(found.active, old))
        return self._old[policy_id].excuse(found.violation, self._scope.request)

    def _exemption(self, found: Found) -> int | None:
        """The index of the exemption that covers the violation."""
        for index, exemption in self._exemptions.get(found.active.policy.id, ()):
            if self._has_image(exemption.match.images, found.violation):
                return index
        return None

    @cached_property
    def _exemptions(self) -> Mapping[str, Sequence[tuple[int, Exemption]]]:
        """By policy id: the exemptions that cover this request today, with their index in the configuration."""
        by_policy: dict[str, list[tuple[int, Exemption]]] = {}
        for index, exemption in enumerate(self._config.exemptions):
            if self._today <= exemption.until and matches(exemption.match, self._scope.request, self._scope.owner):
                by_policy.setdefault(exemption.policy, []).append((index, exemption))
        return by_policy

    def _has_image(self, patterns: tuple[str, ...], violation: Violation) -> bool:
        """Whether the violation's container, or every container if it is about none, has one of the images."""
        if not patterns:
            return True
        workload = read_workload(self._scope.request)
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
