"""The memory that the containers of pods use now, where the cluster serves metrics.k8s.io."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from webhook.cluster.lists import Reader, read_bodies
from webhook.cluster.paths import path_of
from webhook.cluster.unseen import Unreadable, unreadable
from webhook.errors import UNREADABLE
from webhook.objects.quantities import parse_memory
from webhook.objects.wire import UNDECODABLE
from webhook.policy import GroupKind
from webhook.prepared import prepare

POD_METRICS = GroupKind("metrics.k8s.io", "PodMetrics", "pods")


class _Usage(msgspec.Struct):
    memory: str | int | float = 0


class _Container(msgspec.Struct):
    name: str
    usage: _Usage


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""


class _PodMetrics(msgspec.Struct):
    metadata: _Metadata
    containers: list[_Container]


prepare(_PodMetrics)


class PodsUse(NamedTuple):
    """Namespace and name of a pod -> bytes of memory that its containers use, and the objects that can't be read."""

    memory: dict[tuple[str, str], dict[str, int]]
    unreadable: list[Unreadable]


def read_pods(cluster: Reader, version: str, namespace: str = "") -> PodsUse:
    """The memory that the pods of a namespace, or of all, use. Raises ClusterRefused or FactsUnavailable."""
    found = PodsUse({}, [])
    for body in read_bodies(cluster, path_of(POD_METRICS, version, namespace)):
        try:
            pod = msgspec.json.decode(body, type=_PodMetrics)
            used = {container.name: parse_memory(container.usage.memory) for container in pod.containers}
        except (*UNDECODABLE, *UNREADABLE) as error:
            found.unreadable.append(unreadable(POD_METRICS.kind, body, error))
        else:
            found.memory[pod.metadata.namespace, pod.metadata.name] = used
    return found
