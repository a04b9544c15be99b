"""Label selectors, as Services, monitors and Prometheus resources select by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadObject
from webhook.objects.facts import Requirement, WirePart
from webhook.objects.facts.decoding import written_texts
from webhook.objects.facts.selectors import holds
from webhook.prepared import prepare

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_END = "\0"
"""Between the values of labels, none of which can hold it."""


class Labels(msgspec.Struct, frozen=True, gc=False):
    """Labels in a fourth of the memory of a map: thousands of objects share the `keys`, and the values are one text."""

    keys: tuple[str, ...] = ()
    text: str = ""

    def get(self, key: str) -> str | None:
        return self.text.split(_END)[self.keys.index(key)] if key in self.keys else None

    def items(self) -> Iterator[tuple[str, str]]:
        return zip(self.keys, self.text.split(_END), strict=False)


@lru_cache(maxsize=1024)
def _shared(keys: tuple[str, ...]) -> tuple[str, ...]:
    return keys


def read_labels(written: Mapping[str, Any] | None, path: str) -> Labels:
    """The labels in a map; raises BadObject for a value that is no text."""
    labels = written_texts(written, path)
    return Labels(_shared(tuple(labels)), _END.join(value.replace(_END, " ") for value in labels.values()))


class Selector(msgspec.Struct, frozen=True, gc=False):
    """A label selector: all of its labels and expressions must hold, so that an empty one selects everything."""

    labels: Labels = Labels()
    expressions: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str] | Labels) -> bool:
        return all(labels.get(key) == value for key, value in self.labels.items()) and all(
            holds(expression, labels.get(expression.key)) for expression in self.expressions
        )

    @property
    def is_everything(self) -> bool:
        return not (self.labels.keys or self.expressions)

    def lacking(self, labels: Mapping[str, str] | Labels) -> Iterator[str]:
        """What of the selector these labels don't fulfil, as kubectl writes it: "app=web", "tier in (a, b)"."""
        yield from (f"{key}={value}" for key, value in self.labels.items() if labels.get(key) != value)
        yield from (
            _shown(expression) for expression in self.expressions if not holds(expression, labels.get(expression.key))
        )

    @property
    def told(self) -> str:
        """The selector in a message: "any" where it selects everything."""
        return "any" if self.is_everything else str(self)

    def __str__(self) -> str:
        return ",".join([*(f"{key}={value}" for key, value in self.labels.items()), *map(_shown, self.expressions)])


EVERYTHING = Selector()


class WiredExpression(WirePart):
    key: str | None = None
    operator: str | None = None
    values: list[str] | None = None


class WiredSelector(WirePart):
    """A LabelSelector as it arrives."""

    match_labels: dict[str, Any] | None = None
    match_expressions: list[WiredExpression] | None = None


prepare(WiredSelector)


def selector_of(wired: WiredSelector | None, path: str) -> Selector | None:
    """The selector; None where there is none, which selects nothing. Raises BadObject for a value that is no text, and
    for an operator that label selectors don't have: custom resources are stored with any."""
    if wired is None:
        return None
    expressions = tuple(
        _read_expression(expression, f"{path}.matchExpressions[{index}]")
        for index, expression in enumerate(wired.match_expressions or ())
    )
    return Selector(read_labels(wired.match_labels, f"{path}.matchLabels"), expressions)


def _read_expression(wired: WiredExpression, path: str) -> Requirement:
    if wired.operator not in _OPERATORS:
        raise BadObject(f"{path}.operator is {wired.operator!r}, none of {', '.join(_OPERATORS)}")
    return Requirement(intern(wired.key or ""), intern(wired.operator), tuple(map(intern, wired.values or ())))


def read_selector(parent: Mapping[str, Any], key: str, path: str) -> Selector | None:
    """The selector at `parent[key]`; None where there is none. Raises BadObject for another shape."""
    written = parent.get(key)
    if written is None:
        return None
    try:
        return selector_of(msgspec.convert(written, WiredSelector), f"{path}.{key}")
    except msgspec.ValidationError as error:
        raise BadObject(f"{path}.{key}: {error}") from error


def _shown(expression: Requirement) -> str:
    match expression.operator:
        case "Exists":
            return expression.key
        case "DoesNotExist":
            return f"!{expression.key}"
    return f"{expression.key} {expression.operator.lower()} ({', '.join(expression.values)})"
