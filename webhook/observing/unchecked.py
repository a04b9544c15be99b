"""What is seen of Forestall itself: times in which objects were admitted unchecked, from the record of gaps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from webhook.cluster.gap_record import Gap, GapRecord
from webhook.installation import NAME as FORESTALL
from webhook.objects.facts import ClusterFacts
from webhook.objects.live import Live
from webhook.observing.run import Observer
from webhook.policy import Observation, Reference

NAME = "admitted-unchecked"

_HOLD = timedelta(seconds=30)
"""A replica that is replaced may miss a probe."""
_RECENT = timedelta(days=1)
_DOCTOR = "forestall doctor"
_HOOK = Reference("ValidatingWebhookConfiguration", "", FORESTALL)


def observer_of(record: GapRecord) -> Observer:
    """The observer that tells of this record's gaps."""

    def observe(live: Live, _facts: ClusterFacts) -> Iterator[Observation]:
        for gap in record.gaps:
            if gap.refused:
                continue
            if gap.ended is None:
                yield _open(gap)
            elif live.now - gap.ended < _RECENT:
                yield _closed(gap)

    return Observer(NAME, (), observe)


def _open(gap: Gap) -> Observation:
    return Observation(
        _HOOK,
        str(gap.reason),
        f"objects are admitted unchecked: {_why(gap)}",
        run=(_DOCTOR,),
        since=gap.began,
        hold=_HOLD,
        severity="error",
    )


def _closed(gap: Gap) -> Observation:
    return Observation(
        _HOOK,
        str(gap.reason),
        f"objects were admitted unchecked from {gap.began:%Y-%m-%d %H:%M:%S} to {gap.ended:%Y-%m-%d %H:%M:%S} UTC: "
        f"{_why(gap)}; `{_DOCTOR}` lists them",
        run=(_DOCTOR,),
        since=gap.began,
    )


def _why(gap: Gap) -> str:
    stages = " and ".join(f"/{stage}" for stage in gap.stages)
    match gap.reason:
        case "hooks off":
            return f"the hooks of {stages} are off"
        case "undecided":
            return f"{stages} could not read them"
        case _:
            return f"the API server's calls of {stages} reach no server"
