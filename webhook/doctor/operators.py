"""Operators whose objects are warned of, and that `controllers` may lack."""

from __future__ import annotations

import re
from collections.abc import Iterable

from webhook.doctor.remark import Remark, Remarks, cannot_tell, listed, or_ok
from webhook.doctor.survey import Survey, seen
from webhook.errors import FactsUnavailable


def check_operators(survey: Survey) -> Remarks:
    """Whether what operators make is warned of for want of their users in `controllers`."""
    return or_ok(_warned_of(survey), "nothing that operators made is warned of")


def _warned_of(survey: Survey) -> Remarks:
    """An operator's user isn't stored with what it makes: it is known by its name in managedFields."""
    config, stored = seen(survey.config), seen(survey.stored)
    for resource, why in stored.unseen.resources.items():
        yield cannot_tell(FactsUnavailable(f"what operators made of {resource}: {why}"))
    for (kind, manager), objects in sorted(stored.operated.items()):
        if _is_named(manager, config.controllers):
            continue
        by = f", written by {manager}," if manager else ""
        text = f"what an operator makes for {kind} resources{by} is warned of: {listed(map(str, objects))}"
        advice = (
            "mend it at the owner, or let it pass: name the operator's user in controllers; the servers' logs have it"
        )
        yield Remark("warn", text, f"{advice} as user in the lines of these objects")


def _is_named(manager: str, controllers: Iterable[str]) -> bool:
    """Whether a user of `controllers` may be the one that writes under this name: PrometheusOperator or operator."""
    name = _plain(manager)
    return bool(name) and any(
        name in (user := _plain(controller.rpartition(":")[2])) or user in name for controller in controllers
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
