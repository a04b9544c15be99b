"""How many findings there were day by day, for people and spreadsheets, and whether there are fewer since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from webhook.audit.history import REST, Counts, Day, to_do
from webhook.audit.spreadsheet import csv_row

_WEEK = timedelta(days=7)
_SHOWN = 10
"""Namespaces that are shown, those with most findings."""


def since_last_week(days: Sequence[Day], policies: Counts, today: date) -> str:
    """How many findings to see to there are now, compared with a week ago; empty if nothing is known of then."""
    then = next((day for day in reversed(days) if day.day <= today - _WEEK), None)
    if then is None:
        return ""
    now = to_do(policies)
    if now == then.to_do:
        return f"As many findings as on {then.day}: {now}."
    word = "fewer" if now < then.to_do else "more"
    by_policy = ", ".join(f"{policy} {change:+d}" for policy, change in _changes(then.policies, policies))
    return f"{abs(now - then.to_do)} findings {word} than on {then.day}: {then.to_do} then, {now} now ({by_policy})."


def _changes(before: Counts, after: Counts) -> Iterator[tuple[str, int]]:
    for policy in sorted({policy for policy, _ in (*before, *after)}):
        then, now = (
            to_do({key: count for key, count in counts.items() if key[0] == policy}) for counts in (before, after)
        )
        if now != then:
            yield policy, now - then


def history_lines(days: Sequence[Day]) -> Iterator[str]:
    """A line a day, the last day's worst namespaces, and the comparison with a week before."""
    if not days:
        yield "no history yet: the auditor writes it once a day"
        return
    for day in days:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(day.outcomes.items()))
        yield f"{day.day}  {day.to_do:>6} findings  {outcomes or 'no violations'}"
    last = days[-1]
    if last.namespaces:
        yield f"by namespace on {last.day}"
        totals: Counter[str] = Counter()
        for (namespace, _), count in last.namespaces.items():
            totals[namespace] += count
        shown = sorted(totals.items(), key=lambda item: (item[0] == REST, -item[1], item[0]))
        yield from (f"  {_named(namespace)}  {count}" for namespace, count in shown[:_SHOWN])
        if len(shown) > _SHOWN:
            yield f"  and {len(shown) - _SHOWN} more"
    if line := since_last_week(days[:-1], last.policies, last.day):
        yield line


def _named(namespace: str) -> str:
    return {"": "(objects without a namespace)", REST: "(all other namespaces)"}.get(namespace, namespace)


def history_csv(clusters: Mapping[str, Sequence[Day]]) -> Iterator[str]:
    """A head line, then a row for each day and policy or namespace, and outcome."""
    yield csv_row("cluster", "day", "policy", "namespace", "outcome", "findings")
    for cluster, days in clusters.items():
        for day in days:
            for (policy, outcome), count in sorted(day.policies.items()):
                yield csv_row(cluster, day.day, policy, "", outcome, count)
            for (namespace, outcome), count in sorted(day.namespaces.items()):
                yield csv_row(cluster, day.day, "", _named(namespace), outcome, count)
