"""Expressions of selectors, and node selectors: the terms of which one must hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from webhook.errors import BadObject
from webhook.objects.facts.decoding import WirePart, explain_validation
from webhook.prepared import prepare


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One expression of a label selector or of a node selector term; a field expression has the key "metadata.name"."""

    key: str
    operator: str
    values: tuple[str, ...]


def holds(requirement: Requirement, value: str | None) -> bool:
    """One expression against a label's value; None is a label that isn't there.

    Source: k8s.io/component-helpers/scheduling/corev1/nodeaffinity.
    """
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None and len(requirement.values) == 1:
            return _compares(requirement.operator, value, requirement.values[0])
        case _:
            return False


def _compares(operator: str, value: str, bound: str) -> bool:
    try:
        return int(value) > int(bound) if operator == "Gt" else int(value) < int(bound)
    except ValueError:
        return False


Term = tuple[Requirement, ...]
"""Expressions that must all hold; terms beside each other are alternatives."""


class _Expression(WirePart):
    key: str = ""
    operator: str = "In"
    values: list[str] | None = None


class SelectorTerm(WirePart):
    """A term as it arrives: a StorageClass's has matchLabelExpressions, a NodeSelector's the other two."""

    match_label_expressions: list[_Expression] | None = None
    match_expressions: list[_Expression] | None = None
    match_fields: list[_Expression] | None = None


class NodeSelector(WirePart):
    """A NodeSelector as it arrives."""

    node_selector_terms: list[SelectorTerm] | None = None


prepare(NodeSelector)


def read_terms(selector: Mapping[str, Any], path: str) -> tuple[Term, ...]:
    """The terms of the NodeSelector at this path: alternatives, each with expressions that must all hold.

    Raises BadObject.
    """
    try:
        return terms_of(msgspec.convert(selector, NodeSelector).node_selector_terms)
    except msgspec.ValidationError as error:
        raise BadObject(f"{path}.{explain_validation(error, selector)}") from error


def terms_of(terms: list[SelectorTerm] | None) -> tuple[Term, ...]:
    return tuple(
        tuple(
            Requirement(
                intern(expression.key), intern(expression.operator), tuple(map(intern, expression.values or ()))
            )
            for part in (term.match_label_expressions, term.match_expressions, term.match_fields)
            for expression in part or ()
        )
        for term in terms or ()
    )


# Thousands of volumes share the terms of a few classes.
@lru_cache(maxsize=1024)
def shared_terms(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """The same terms; equal ones are kept once."""
    return terms
