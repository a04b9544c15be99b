"""What could not be read of a cluster: kinds that could not be listed, and single objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from webhook.cluster.lists import Body
from webhook.errors import ClusterRefused, ForestallError, one_line
from webhook.objects.wire import read_name
from webhook.policy import FactReference, Reference


class Unreadable(NamedTuple):
    """A stored object that can't be read, by its name as far as that is known, and why."""

    reference: Reference
    why: str

    def __str__(self) -> str:
        return f"{self.reference} can't be read: {self.why}"


@dataclass
class Unseen:
    """What could not be read of a cluster."""

    resources: dict[str, str] = field(default_factory=dict)
    """Full resource ("deployments.apps") -> why it could not be listed, or not to the end."""
    forbidden: dict[str, set[str]] = field(default_factory=dict)
    """The `resources` for which a right was missing, and in which namespaces; "" stands for all of them."""
    objects: list[Unreadable] = field(default_factory=list)

    def note(self, resource: str, error: ForestallError, namespace: str = "") -> None:
        """Record that a resource could not be listed, in a namespace or in all; the first reason stands."""
        self.resources.setdefault(resource, str(error))
        if is_forbidden(error):
            self.forbidden.setdefault(resource, set()).add(namespace)

    def add(self, other: Unseen) -> None:
        """Record what `other` holds, nothing twice."""
        self.resources = {**other.resources, **self.resources}
        for resource, namespaces in other.forbidden.items():
            self.forbidden.setdefault(resource, set()).update(namespaces)
        known = {odd.reference for odd in self.objects}
        self.objects += [odd for odd in other.objects if odd.reference not in known]


def unreadable(kind: str, body: Body, error: Exception) -> Unreadable:
    """The object of this kind, which ended in the error."""
    reference = Reference(kind, *read_name(body))
    why = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
    return Unreadable(reference, why.removeprefix(f"{reference}: "))


def unreadable_facts(why: Mapping[FactReference, str]) -> list[Unreadable]:
    """Facts that can't be read, and why, as objects."""
    return [Unreadable(Reference(str(odd.kind), odd.namespace, odd.name), text) for odd, text in why.items()]


def is_forbidden(error: ForestallError) -> bool:
    """Whether the API server refused because the user lacks a right (403)."""
    return isinstance(error, ClusterRefused) and error.status == 403
