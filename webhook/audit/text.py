"""An audit for people: what is broken now, findings by team, worst first, and a summary of one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby, islice

from webhook.audit.audited import Audited
from webhook.audit.history import Counts
from webhook.audit.history_text import since_last_week
from webhook.config import Config
from webhook.formats import COLOURS, Style, counted, object_lines
from webhook.objects.limitranger import show_amount
from webhook.observing.words import observation_lines
from webhook.policy import Outcome

_TEAMS = 15
"""Teams that the summary names."""
_FULLEST = 10
"""Containers close to their limits that the summary names."""


def render_text(audits: Sequence[Audited], today: date, width: int, style: Style) -> Iterator[str]:
    """The text in parts, each of which ends with a line's end."""
    for audited in audits:
        if audited.name:
            yield style(f"Cluster {audited.name}", "bold") + "\n\n"
        for line in observation_lines(audited.observing.observed, width, style):
            yield f"{line}\n"
        tally, usage = audited.found.tally, audited.found.usage
        for team, objects in groupby(audited.found.by_team(), key=lambda found: found[0]):
            yield f"{style(f'== {team}', 'bold')}: {_outcomes(tally.by_team[team], style)}\n\n"
            for _, found in objects:
                yield "\n".join(object_lines(found[0].object, found, width, style, usage.of)) + "\n"
        yield "\n".join(_summary(audited, today, style)) + "\n"


def _summary(audited: Audited, today: date, style: Style) -> Iterator[str]:
    tally = audited.found.tally
    yield f"{judged(audited)}: {_outcomes(tally.outcomes(), style)}"
    yield f"  configuration: {audited.configuration}"
    if tally.by_policy:
        yield "by policy"
        yield from _table(tally.policies(), style)
        yield "by team"
        teams = tally.teams()
        yield from _table(dict(islice(teams.items(), _TEAMS)), style)
        if len(teams) > _TEAMS:
            yield f"  and {len(teams) - _TEAMS} more"
    if near := audited.found.usage.near():
        yield "close to their memory limits, or beyond"
        yield from (f"  {one}" for one in near[:_FULLEST])
        if len(near) > _FULLEST:
            yield f"  and {len(near) - _FULLEST} more"
    for line in exemptions(audited, today).values():
        yield line
    for line in audited.troubles:
        yield style(line, "yellow")
    for line in sentences(audited):
        yield style(line, "bold")
    if line := _since_last_week(audited, today):
        yield style(line, "bold")
    yield ""


def _since_last_week(audited: Audited, today: date) -> str:
    by_policy = audited.found.tally.by_policy
    counts: Counts = {
        (policy, outcome): count for policy, found in by_policy.items() for outcome, count in found.items()
    }
    return "" if audited.sees_nothing else since_last_week(audited.history, counts, today)


def judged(audited: Audited) -> str:
    """How much was judged: "3 workloads with 4 containers, 1 other object judged"."""
    tally = audited.found.tally
    others = f", {counted(tally.others, 'other object')}" if tally.others else ""
    return f"{counted(tally.workloads, 'workload')} with {counted(tally.containers, 'container')}{others} judged"


def _table(rows: Mapping[str, Counter[Outcome]], style: Style) -> Iterator[str]:
    width = max(map(len, rows))
    return (f"  {name:<{width}}  {_outcomes(counts, style)}" for name, counts in rows.items())


def _outcomes(counts: Counter[Outcome], style: Style) -> str:
    parts = [style(f"{counts[outcome]} {outcome}", colour) for outcome, colour in COLOURS.items() if counts[outcome]]
    return ", ".join(parts) or style("no violations", "green")


def sentences(audited: Audited) -> Iterator[str]:
    """What it means for what runs: what could not be created again, whether it can be changed, and what patching
    takes."""
    tally, config = audited.found.tally, audited.config
    if audited.sees_nothing:
        return
    refused = [f"{tally.refused} of {counted(tally.workloads, 'workload')}"] if tally.refused else []
    if tally.refused_others:
        refused.append(f"{tally.refused_others} of {counted(tally.others, 'other object')}")
    if refused:
        lost = "(a deletion and re-creation, `kubectl replace --force`, a disaster recovery would lose them)"
        changed = "and can be changed" if config.ratchet else "but, with ratchet: false, can't be changed as they are"
        yield f"{' and '.join(refused)} could not be created again {lost}; all of them keep running {changed}."
    else:
        yield f"Everything that was judged could be created again: {_mode_of(config)}."
    if tally.added:
        amounts = ", ".join(f"{show_amount(resource, amount)} {resource}" for resource, amount in tally.added.items())
        yield f"The requests that would be patched in reserve {amounts} more on the nodes, in all."


def _mode_of(config: Config) -> str:
    if config.mode == "deny":
        return "mode deny refuses none of it"
    return f"mode {config.mode} refuses nothing; --as-if deny tells what enforcing would"


def exemptions(audited: Audited, today: date) -> dict[int, str]:
    """Index of an exemption -> what it covers, until when, and whether it should be deleted."""
    return {
        index: f"exemptions[{index}] ({exemption.policy}, owner {exemption.owner}, until {exemption.until}): "
        + _use(audited, index, is_expired=exemption.until < today)
        for index, exemption in enumerate(audited.config.exemptions)
    }


def _use(audited: Audited, index: int, *, is_expired: bool) -> str:
    tally = audited.found.tally
    if is_expired:
        return "has expired and no longer counts: delete this exemption"
    is_seen = audited.is_whole and not audited.found.unseen.resources
    if not tally.exempted[index]:
        return "would pass now: delete this exemption" if is_seen else "covers nothing of what was seen"
    covered = f"covers {counted(tally.exempted[index], 'violation')}"
    if is_seen and not tally.needed[index] and audited.config.mode == "deny":
        return f"{covered} that would pass now: delete this exemption"
    return covered
