"""Every namespace that workloads run in has a LimitRange with a memory default.

Judged on the Namespace, one finding each, and never when one is created: its LimitRange can only come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from policies.namespace_defaults.observed import observe
from webhook.errors import FactsUnavailable
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, LimitRange
from webhook.objects.fields import mapping
from webhook.objects.live import LIVE_WORKLOADS
from webhook.policy import AdmissionRequest, GroupKind, Policy, Violation

_NAMESPACE = GroupKind("", "Namespace", "namespaces")


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    labels: Annotated[
        dict[str, str],
        Meta(
            description="Labels by which the controller gives a namespace a LimitRange once it exists: a file's "
            "Namespace that carries them passes."
        ),
    ] = msgspec.field(default_factory=lambda: {"forestall.dev/defaults": "true"})


_HARM = "containers without a limit of their own can take their node's whole memory"
_AMOUNTS = "default: {memory: 512Mi} and defaultRequest: {memory: 256Mi}"


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    if (request.group, request.kind) != (_NAMESPACE.group, _NAMESPACE.kind) or request.object is None:
        return
    metadata = mapping(request.object, "metadata", "")
    if metadata.get("deletionTimestamp"):
        return
    given = facts.of(LIMIT_RANGES).get(request.name, ())
    defaults = [limit_range for limit_range in given if limit_range.default is not None]
    if zero := [limit_range for limit_range in defaults if not limit_range.default]:
        # A second LimitRange is no remedy: of two defaults Kubernetes takes either.
        wrong = f"LimitRange {_names(zero)} of namespace {request.name!r} gives a memory default of 0, which means none"
        yield Violation("metadata.name", request.name, f"{wrong}: {_HARM}: set {_AMOUNTS} in it")
    if defaults:
        return
    labels = mapping(metadata, "labels", "metadata")
    # The controller acts on the label. One that is there already is judged by what it has.
    if not metadata.get("uid") and params.labels and params.labels.items() <= labels.items():
        return
    if unreadable := facts.unreadable_in(LIMIT_RANGES, request.name):
        raise FactsUnavailable(
            f"cannot tell whether namespace {request.name!r} has a LimitRange with a memory default: "
            f"{unreadable[0]} can't be read"
        )
    wrong = f"namespace {request.name!r} has no LimitRange with a memory default"
    if given:
        wrong += f", only {_names(given)} without one"
    advice = f"create a LimitRange of type Container in it with {_AMOUNTS}"
    if params.labels:
        shown = ",".join(f"{key}={value}" for key, value in sorted(params.labels.items()))
        advice += f", or have Forestall do it with the label {shown}"
    if LIMIT_RANGES not in facts.known:
        wrong += " among these files"
    yield Violation(
        "metadata.name",
        request.name,
        f"{wrong}: {_HARM}: {advice}",
        # The cluster's LimitRanges were not read, and one of them may give a default.
        at_most="deny" if LIMIT_RANGES in facts.known else "warn",
    )


def _names(ranges: Iterable[LimitRange]) -> str:
    return ", ".join(sorted({limit_range.name for limit_range in ranges}))


POLICY = Policy(
    id="namespace-defaults",
    summary="Every namespace that workloads run in has a LimitRange with a memory default.",
    examine=examine,
    params=Params,
    incidents=(
        "NU.nl 2019: ElastAlert pods without memory limits took node after node, in a namespace without defaults",
    ),
    workloads=False,
    kinds=(_NAMESPACE,),
    operations=(),
    facts=(LIMIT_RANGES,),
    observe=observe,
    lives=LIVE_WORKLOADS,
    mode="audit",
    otherwise="warn",
)
