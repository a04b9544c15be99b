"""The PriorityClass that a workload names exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from known_priority_classes.priority_classes import PRIORITY_CLASSES
from webhook.objects.facts import ClusterFacts
from webhook.objects.fields import text
from webhook.objects.pods import read_workload
from webhook.policy import AdmissionRequest, FactReference, Policy, Violation


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    built_in: Annotated[
        tuple[str, ...], Meta(description="PriorityClasses that every cluster has, whether they were seen or not.")
    ] = ("system-cluster-critical", "system-node-critical")


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    workload = read_workload(request)
    if workload is None:
        return
    path = f"{workload.spec_path}.priorityClassName"
    name = text(workload.spec, "priorityClassName", workload.spec_path)
    if not name or name in params.built_in or name in facts.of(PRIORITY_CLASSES):
        return
    reference = FactReference(PRIORITY_CLASSES, "", name)
    if reference not in facts.absent and PRIORITY_CLASSES not in facts.known:
        yield Violation(
            path,
            name,
            f"cannot tell whether PriorityClass {name!r} exists: priorityclasses could not be read",
            at_most="warn",
            is_unknown=True,
            unseen=(reference,),
        )
        return
    yield Violation(
        path,
        name,
        f"PriorityClass {name!r} does not exist, so that no pod can be made: name one that does, or create it first",
        # The server asks for it once more before it refuses: it may be newer than what was seen.
        unseen=() if reference in facts.absent else (reference,),
    )


POLICY = Policy(
    id="known-priority-classes",
    summary="The PriorityClass that a workload names exists.",
    examine=examine,
    params=Params,
    incidents=(),
    facts=(PRIORITY_CLASSES,),
)
