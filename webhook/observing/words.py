"""Observations for people and programs: lines of text, a JSON object, a row of a table, a SARIF result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from webhook.formats import Style, counted, labelled, wrapped
from webhook.loader import load_policies
from webhook.objects.wording import utc
from webhook.observing.run import Observed
from webhook.policy import SEVERITIES, Severity

_COLOURS: Mapping[Severity, str] = {"error": "red", "warning": "yellow"}


def observation_lines(observed: Sequence[Observed], width: int, style: Style) -> Iterator[str]:
    """The lines of text about what is broken now, by object, each reason once; none where nothing is broken."""
    if not observed:
        return
    counts = [
        style(counted(number, severity), _COLOURS[severity])
        for severity in SEVERITIES
        if (number := sum(found.observation.severity == severity for found in observed))
    ]
    yield f"{style('== broken now', 'bold')}: {', '.join(counts)}"
    yield ""
    for reference, group in groupby(observed, key=lambda found: found.observation.reference):
        yield style(str(reference), "bold")
        of_object = list(group)
        for number, found in enumerate(of_object):
            following = of_object[number + 1 :]
            is_last = all(other.observer != found.observer for other in following)
            yield from _lines(found, width, style, with_why=is_last)
        yield ""


def _lines(observed: Observed, width: int, style: Style, *, with_why: bool) -> Iterator[str]:
    observation = observed.observation
    head = f"  {observation.severity:<8}  "
    first, *more = wrapped(f"{observed.observer}: {observation.message}", width - len(head))
    yield f"  {style(f'{observation.severity:<8}', _COLOURS[observation.severity])}  {first}"
    yield from (f"{' ' * len(head)}{line}" for line in more)
    above = ""
    for label, text in observed_advice(observed):
        if label != "why" or with_why:
            yield from labelled("" if label == above else label, text, width, style)
        above = label


def observed_advice(observed: Observed) -> Iterator[tuple[str, str]]:
    """Since when, what to do and why, with labels; what isn't known is left out."""
    observation = observed.observation
    if observation.since:
        yield "since", utc(observation.since)
    yield from (("run", command) for command in observation.run)
    if observation.hint:
        yield "how", f"Helm value {observation.hint}"
    if why := incident_of(observed.observer):
        yield "why", f"{why} (forestall explain {observed.observer})"


def incident_of(observer: str) -> str:
    """The incident that the observer's policy would have prevented; empty where it is no policy's."""
    loaded = load_policies().get(observer)
    return "; ".join(loaded.policy.incidents) if loaded else ""


def json_observation(observed: Observed) -> dict[str, Any]:
    observation = observed.observation
    return {
        "policy": observed.observer,
        "severity": observation.severity,
        "kind": observation.reference.kind,
        "namespace": observation.reference.namespace,
        "name": observation.reference.name,
        "subject": observation.subject,
        "message": observation.message,
        "since": f"{observation.since:%Y-%m-%dT%H:%M:%SZ}" if observation.since else None,
        "value": observation.value,
        "run": list(observation.run),
        "hint": observation.hint,
        "incident": incident_of(observed.observer),
    }


def sarif_observation(observed: Observed, location: dict[str, Any]) -> dict[str, Any]:
    """A result; `location` is the object's address."""
    observation, policies = observed.observation, list(load_policies())
    index = {"ruleIndex": policies.index(observed.observer)} if observed.observer in policies else {}
    name = str(observation.reference)
    return {
        "ruleId": observed.observer,
        **index,
        "level": observation.severity,
        "message": {"text": "\n".join([observation.message, *(f"run {command}" for command in observation.run)])},
        "locations": [{**location, "logicalLocations": [{"fullyQualifiedName": name, "kind": "object"}]}],
        "partialFingerprints": {"observation/v1": f"{observed.observer}:{name}:{observation.subject}"},
        "properties": {"brokenNow": True},
    }
