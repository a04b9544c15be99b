"""Decisions just after a change of the configuration: what both the old and the new one admit is not refused.

Each server and each controller reads a changed file at a time of its own, and the webhook configurations follow later.
So one server's /mutate may leave an object unpatched by the old configuration, and another's /validate refuse it by the
new one. No server knows which configuration the others use. But each knows when it has read a change itself, and for
SETTLING seconds after that

- /mutate goes on patching what it patched before: a server that judges by that still expects it;
- /validate does not refuse what it admitted before, if all that is wrong is what /mutate now mends: it may have been
  asked by the configuration before, or not at all yet.

What has no fix is refused at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec

from webhook import engine
from webhook.config import Config
from webhook.objects.facts import ClusterFacts
from webhook.policy import AdmissionRequest, Decision, Stage
from webhook.scope import AnyStage


def decide_in_transition(
    request: AdmissionRequest,
    facts: ClusterFacts,
    config: Config,
    *,
    earlier: Sequence[Config],
    today: date,
    stage: Stage,
    deadline: float | None = None,
) -> Decision:
    """Decide as engine.decide does, while other servers may still decide by the `earlier` configurations."""

    def judge(request: AdmissionRequest, config: Config, stage: AnyStage) -> Decision:
        return engine.decide(request, facts, config, today=today, stage=stage, deadline=deadline)

    decision = judge(request, config, stage)
    if not earlier:
        return decision
    if stage == "mutate":
        for old in earlier:
            patched = msgspec.structs.replace(request, object=decision.object or request.object)
            decision = _followed_by(decision, judge(patched, old, stage))
    elif not decision.allowed and judge(request, config, "check").allowed:
        admitted = (before for old in earlier if (before := judge(request, old, stage)).allowed)
        decision = next(admitted, decision)
    return decision


def _followed_by(decision: Decision, further: Decision) -> Decision:
    """The decision with the patch of a further one, which was made on its patched object."""
    return msgspec.structs.replace(
        decision,
        verdicts=(*decision.verdicts, *(verdict for verdict in further.verdicts if verdict.outcome == "patched")),
        patch=(*decision.patch, *further.patch),
        object=further.object or decision.object,
        unseen=decision.unseen | further.unseen,
    )
