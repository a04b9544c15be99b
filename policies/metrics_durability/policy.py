"""What is measured and logged outlives the pod that keeps it: it is sent elsewhere, or its volume stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from policies.metrics_durability.elsewhere import Sent, sent
from policies.metrics_durability.places import Place, place_of
from policies.metrics_durability.pod import Pod
from policies.metrics_durability.remedies import Remedies
from policies.metrics_durability.retention import retention_of
from policies.metrics_durability.space import too_little
from policies.metrics_durability.stores import PROMETHEUS, Kept, kept_by
from webhook.objects.config_maps import CONFIG_MAPS
from webhook.objects.facts import CLAIMS, NODES, STORAGE_CLASSES, ClusterFacts
from webhook.objects.fields import mapping
from webhook.objects.pods import Workload, read_workload
from webhook.objects.quantities import Memory
from webhook.policy import AdmissionRequest, Brief, Policy, Set, Violation


class Params(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    read_config_maps: Annotated[
        bool,
        Meta(
            description="Whether the ConfigMaps that a store's own pod names are looked up, to see whether it sends "
            "its data elsewhere: the servers then need the right to get ConfigMaps, which the chart gives them."
        ),
    ] = False
    remote_write: Annotated[
        str,
        Meta(
            title="an address: it begins with https:// or http:// and holds no spaces",
            pattern=r"^(https?://\S+)?$",
            description="The address to which every Prometheus of this cluster is to send its series: messages name "
            "it, and mode patch gives it to Prometheus resources of the operator.",
        ),
    ] = ""
    empty_dir_size: Annotated[
        Memory | None, Meta(description="The sizeLimit that mode patch gives a store's emptyDir that has none.")
    ] = None
    ingestion_per_day: Annotated[
        Memory | None,
        Meta(
            description="Bytes that a Prometheus writes to its volume in a day: a retention in days is judged by them, "
            "and isn't where none are given."
        ),
    ] = None


def examine(request: AdmissionRequest, facts: ClusterFacts, params: Params) -> Iterator[Violation]:
    workload = read_workload(request)
    if workload is None:
        return
    pod = Pod(workload, facts)
    for kept in kept_by(workload):
        place = place_of(pod, kept)
        if place.lifetime != "unknown":
            yield from _examine_store(pod, kept, place, params)


def _examine_store(pod: Pod, kept: Kept, place: Place, params: Params) -> Iterator[Violation]:
    retention = retention_of(pod, kept) if kept.store is PROMETHEUS else None
    if place.lifetime != "kept":
        way = sent(pod, kept)
        remedies = Remedies(pod, kept, retention, params.remote_write, way.where)
        if way.is_sent is None:
            yield _unknown(kept, place, way, remedies, params)
        elif not way.is_sent:
            yield _lost(kept, place, remedies)
            yield from _replicated(pod.workload, kept, place, remedies)
        yield from _in_memory(kept, place)
        yield from _without_limit(kept, place, remedies, params, is_lost=way.is_sent is False)
    if retention is not None and place.size:
        yield from too_little(pod.workload, kept, place, retention, params.ingestion_per_day)


def _lost(kept: Kept, place: Place, remedies: Remedies) -> Violation:
    wrong = f"keeps {kept.store.data} {place.told}, gone with its {place.owner}, and nowhere else"
    return Violation(
        place.path,
        kept.container.name,
        f"{_named(kept)} {wrong}: {remedies.words}",
        value=place.lifetime,
        fix=remedies.fix,
        advice=() if remedies.fix else remedies.advice,
        brief=Brief(f"{kept.store.name} {wrong}", remedies.brief),
        hint=remedies.hint,
        at_most="deny" if kept.store.grows else "warn",
    )


def _unknown(kept: Kept, place: Place, way: Sent, remedies: Remedies, params: Params) -> Violation:
    keeps = f"keeps {kept.store.data} {place.told}"
    why = in_brief = way.why
    if way.unseen and not params.read_config_maps:
        why += " (parameter readConfigMaps has it looked up)"
        in_brief = f"without readConfigMaps, ConfigMap {way.unseen[0].name!r} is not looked up"
    return Violation(
        place.path,
        kept.container.name,
        f"cannot tell whether {_named(kept)}, which {keeps}, gone with its {place.owner}, has them elsewhere, too: "
        f"{why}; if it doesn't, {remedies.words}",
        value=place.lifetime,
        brief=Brief(f"cannot tell whether {kept.store.name} {keeps} alone", in_brief),
        hint=remedies.hint,
        at_most="warn",
        is_unknown=True,
        unseen=way.unseen if params.read_config_maps else (),
    )


def _replicated(workload: Workload, kept: Kept, place: Place, remedies: Remedies) -> Iterator[Violation]:
    replicas = mapping(workload.object, "spec", "").get("replicas")
    if kept.store is not PROMETHEUS or not isinstance(replicas, int) or replicas < 2:
        return
    wrong = f"{replicas} replicas don't make Prometheus' series durable: each has its own data, {place.told}"
    yield Violation(
        "spec.replicas",
        kept.container.name,
        f"{wrong}, gone with its {place.owner}: {remedies.words}",
        brief=Brief(wrong, remedies.first),
        hint=remedies.hint,
        at_most="warn",
    )


def _in_memory(kept: Kept, place: Place) -> Iterator[Violation]:
    if place.lifetime != "memory":
        return
    wrong = f"keeps {kept.store.data} in memory, which counts against the memory limits of its pod's containers"
    remedy = "take medium: Memory away, so that they are on the node's disk"
    yield Violation(
        place.medium,
        kept.container.name,
        f"{_named(kept)} {wrong}: {remedy}",
        advice=(Set(place.medium, ""),),
        brief=Brief(f"{kept.store.name} {wrong}", remedy),
        at_most="warn",
    )


def _without_limit(
    kept: Kept, place: Place, remedies: Remedies, params: Params, *, is_lost: bool
) -> Iterator[Violation]:
    """An emptyDir without a size limit. With one, its pod alone is evicted when it is full."""
    if place.lifetime != "emptyDir" or place.size is not None or not kept.store.grows:
        return
    size = max(filter(None, (params.empty_dir_size, remedies.known_size)), default=None)
    mend = Set(place.size_path, str(size or remedies.size))
    wrong = f"keeps {kept.store.data} on an emptyDir without sizeLimit, which may fill the node's disk for all its pods"
    remedy = f"set sizeLimit to {size}" if size else f"set sizeLimit to what it is to keep, such as {remedies.size}"
    if is_lost:
        remedy = f"if it stays one, {remedy}"
    yield Violation(
        place.size_path,
        kept.container.name,
        f"{_named(kept)} {wrong}: {remedy}",
        fix=mend if size else None,
        # The operator takes the emptyDir, if there is one, before the volume that the other violation asks for.
        advice=() if size or is_lost else (mend,),
        brief=Brief(f"{kept.store.name} {wrong}", remedy),
        hint=None if is_lost else remedies.size_hint(str(mend.value)),
        at_most="deny" if size else "warn",
    )


def _named(kept: Kept) -> str:
    return f"{kept.store.name} container {kept.container.name!r}"


POLICY = Policy(
    id="metrics-durability",
    summary="Metrics, logs and their programs' state outlive the pod that keeps them.",
    examine=examine,
    params=Params,
    incidents=("Kubecost, a week after incident 3: Prometheus' pod was deleted, and the emptyDir's data with it",),
    facts=(CLAIMS, CONFIG_MAPS, NODES, STORAGE_CLASSES),
    mode="off",
)
