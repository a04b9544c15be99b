"""The prometheus.io/ annotations of a Service, or of the pods of a workload, by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from policies.scrape_endpoints.keys import KNOWN, SCRAPE, SLOW, meant_by, port_of, seen_as
from policies.scrape_endpoints.telling import listed, violation
from webhook.policy import Set, Violation, join_path

_YES = frozenset({"true", "yes", "y", "on", "1", "t"})
_NO = frozenset({"false", "no", "n", "off", "0", "f", "none", "null", ""})
_INJECTED = frozenset({4191, 15020, 15090})
"""Ports with metrics of the sidecars that Linkerd and Istio put into pods, after they were judged."""


class Port(NamedTuple):
    """A port that Prometheus finds; `name` is empty where it has none, `number` None where only a name is known."""

    name: str
    number: int | None


class AnnotatedObject(NamedTuple):
    """An object whose annotations may have it scraped. `path` is theirs, `whose` names what is scraped: "the pods",
    "Service 'web'"."""

    path: str
    annotations: Mapping[str, Any]
    ports: Sequence[Port]
    whose: str
    declares: str
    """What declares the ports, in words: "containers declare", "the Service sends to"."""

    def place(self, key: str) -> str:
        return join_path(self.path, key)


class _Entry(NamedTuple):
    key: str
    value: str


def examine_annotations(annotated: AnnotatedObject) -> Iterator[Violation]:
    entries: dict[str, _Entry] = {}
    for key, value in annotated.annotations.items():
        if "prom" not in key.casefold():
            continue
        if meant := meant_by(key):
            yield _misspelt(annotated, key, value, meant)
        if (name := seen_as(key)) not in KNOWN or name in entries:
            continue
        if value is not None and not isinstance(value, str):
            yield _unquoted(annotated, key, value)
        entries[name] = _Entry(key, _as_text(value))
    yield from _examine_switches(annotated, entries)
    if any(entries[name].value.casefold() in _YES for name in (SCRAPE, SLOW) if name in entries):
        yield from _examine_port(annotated, entries)
        yield from _examine_path(annotated, entries)
        yield from _examine_scheme(annotated, entries)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _misspelt(annotated: AnnotatedObject, key: str, value: Any, meant: str) -> Violation:
    return violation(
        annotated.place(key),
        key,
        f"annotation {key} is one that no usual scrape configuration reads",
        f"write {meant}",
        advice=(Set(annotated.place(meant), _as_text(value)),),
    )


def _unquoted(annotated: AnnotatedObject, key: str, value: Any) -> Violation:
    return violation(
        annotated.place(key),
        key,
        f"annotation {key} is {_as_text(value)}, not text, which the API server refuses",
        "write it in quotes",
        at_most="deny",
        value=_as_text(value),
        fix=Set(annotated.place(key), _as_text(value)),
        refused=True,
    )


def _examine_switches(annotated: AnnotatedObject, entries: Mapping[str, _Entry]) -> Iterator[Violation]:
    for name in (SCRAPE, SLOW):
        if name not in entries or entries[name].value in ("true", "false"):
            continue
        key, value = entries[name]
        word = value.strip().casefold()
        meant = "true" if word in _YES else "false" if word in _NO else ""
        yield violation(
            annotated.place(key),
            key,
            f"annotation {key} is {value!r}, and only 'true' has {annotated.whose} scraped",
            f'set it to "{meant}"' if meant else 'set it to "true" or "false"',
            at_most="deny",
            value=value,
            fix=Set(annotated.place(key), meant) if meant else None,
        )


def _examine_port(annotated: AnnotatedObject, entries: Mapping[str, _Entry]) -> Iterator[Violation]:
    if "port" not in entries:
        yield from _examine_unnamed_port(annotated, entries.get(SCRAPE) or entries[SLOW])
        return
    numbers = {port.number for port in annotated.ports}
    key, value = entries["port"]
    number = port_of(value)
    if number is None:
        named = next((port.number for port in annotated.ports if port.name == value and value and port.number), None)
        yield violation(
            annotated.place(key),
            key,
            f"annotation {key} is {value!r}, not a port's number from 1 to 65535, and is passed over",
            f'set it to "{named}"' if named else "set it to the number of the port with metrics",
            at_most="deny",
            value=value,
            fix=Set(annotated.place(key), str(named)) if named else None,
        )
    elif number not in numbers and None not in numbers and number not in _INJECTED:
        yield violation(
            annotated.place(key),
            key,
            f"annotation {key} is {value}, which is none of the ports that {annotated.declares} ({listed(numbers)})",
            "name one of them, or declare it",
            value=value,
        )


def _examine_unnamed_port(annotated: AnnotatedObject, switch: _Entry) -> Iterator[Violation]:
    if len(annotated.ports) > 1:
        yield violation(
            annotated.place(switch.key),
            switch.key,
            f"no annotation names the port, and Prometheus scrapes every one of {annotated.whose}: "
            f"{listed(port.number or port.name for port in annotated.ports)}",
            "name the one with metrics in prometheus.io/port",
        )
    elif not annotated.ports:
        yield violation(
            annotated.place(switch.key),
            switch.key,
            f"no annotation names the port of {annotated.whose}, and nothing declares one, so that Prometheus asks "
            "port 80",
            "name the port with metrics in prometheus.io/port",
        )


def _examine_path(annotated: AnnotatedObject, entries: Mapping[str, _Entry]) -> Iterator[Violation]:
    if "path" not in entries:
        return
    key, value = entries["path"]
    if not value.startswith("/"):
        path = f"/{value}" if value else "/metrics"
        yield violation(
            annotated.place(key),
            key,
            f"annotation {key} is {value!r}, a path without its leading slash",
            f"set it to {path}",
            at_most="deny",
            value=value,
            fix=Set(annotated.place(key), path),
        )
    elif "?" in value:
        yield violation(
            annotated.place(key),
            key,
            f"annotation {key} is {value!r}, and Prometheus asks for a path with an escaped question mark, which is "
            "not found (404)",
            "give the parameters as annotations prometheus.io/param-NAME",
            value=value,
        )


def _examine_scheme(annotated: AnnotatedObject, entries: Mapping[str, _Entry]) -> Iterator[Violation]:
    if "scheme" not in entries or entries["scheme"].value in ("http", "https"):
        return
    key, value = entries["scheme"]
    meant = value.strip().casefold()
    is_known = meant in ("http", "https")
    yield violation(
        annotated.place(key),
        key,
        f"annotation {key} is {value!r}, neither http nor https, and is passed over",
        f"set it to {meant}" if is_known else "set it to http or https",
        at_most="deny",
        value=value,
        fix=Set(annotated.place(key), meant) if is_known else None,
    )
