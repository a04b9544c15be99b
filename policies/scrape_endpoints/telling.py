"""Violations in this policy's words: what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable

from webhook.objects import wording
from webhook.policy import Brief, Mode, Set, Violation

_MOST_NAMED = 5
_LONGEST_WRONG, _LONGEST_REMEDY = 600, 300
"""Characters; five names of labels or ports, with what is said of them, have fewer."""


def violation(
    path: str,
    subject: str,
    wrong: str,
    remedy: str,
    *,
    at_most: Mode = "warn",
    value: str | None = None,
    fix: Set | None = None,
    advice: tuple[Set, ...] = (),
    hint: str | None = None,
    refused: bool = False,
    is_unknown: bool = False,
) -> Violation:
    """The violation; of what is long, which annotations, paths and times may be, the middle isn't told."""
    wrong, remedy = wording.shortened(wrong, _LONGEST_WRONG), wording.shortened(remedy, _LONGEST_REMEDY)
    return Violation(
        path,
        subject,
        f"{wrong}: {remedy}",
        value=value,
        fix=fix,
        advice=advice,
        brief=Brief(wrong, remedy),
        hint=hint,
        at_most=at_most,
        refused=refused,
        is_unknown=is_unknown,
    )


def listed(names: Iterable[object]) -> str:
    """At most five of the names, sorted, and how many more there are: "'http', 'web' and 3 more"; "none"."""
    return wording.listed(sorted(set(map(repr, names))), _MOST_NAMED) or "none"
