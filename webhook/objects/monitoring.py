"""Which workloads are monitoring software.

The signs, from the strongest to the weakest: the kind of a custom resource, an image (products.py), a flag that only
they have, `app.kubernetes.io/name`, the older `app` and `component`, the chart's name, what it is part of. Exporters,
adapters, reloaders and the operator share names and labels with what they serve, and are not it. Names and labels are
data, in monitoring.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from webhook.objects.containers import Container
from webhook.objects.fields import mapping
from webhook.objects.images import base_of
from webhook.objects.pods import Workload
from webhook.objects.products import WORDS, product_of
from webhook.objects.prometheus import find_flag

# Of Prometheus, Thanos, Mimir and VictoriaMetrics.
_OWN_FLAG = re.compile(
    r"(?<!\S)(?:--storage\.(?:tsdb|agent)\.|--objstore\.config|--?blocks-storage\.|--?storageDataPath\b)[a-z.-]*"
)
_PART_OF = "app.kubernetes.io/part-of"
_CHART_VERSION = re.compile(r"-v?\d+\..*")


class _Names(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The content of monitoring.json, whose "about" explains each list."""

    about: tuple[str, ...]
    kinds: frozenset[str]
    names: frozenset[str]
    components: frozenset[str]
    part_of: frozenset[str]
    databases: frozenset[str]
    purposes: frozenset[str]
    charts: frozenset[str]
    not_components: frozenset[str]


_NAMES = msgspec.json.decode(Path(__file__).with_name("monitoring.json").read_bytes(), type=_Names)
_NAME_STARTS = tuple(name[:-1] for name in _NAMES.names if name.endswith("*"))


def is_monitoring(workload: Workload) -> str | None:
    """The sign that the workload is monitoring software: "image grafana/grafana:12.3.1"; None if it is not."""
    if f"{workload.group}/{workload.kind}" in _NAMES.kinds:
        return f"kind {workload.kind}"
    containers = [container for container in workload.containers if container.role != "init"]
    roles = [product_of(container.image).role for container in containers]
    if "monitoring" in roles:
        return f"image {containers[roles.index('monitoring')].image}"
    if "other" not in roles:
        # A collector beside an application is the application's sidecar, and a name that others use as well proves
        # nothing alone.
        return f"image {containers[roles.index('collector')].image}" if "collector" in roles else None
    for container, role in zip(containers, roles, strict=True):
        if role == "other" and (flag := find_flag(container, _OWN_FLAG)):
            return f"argument {flag}"
    labels = _labels_of(mapping(workload.object, "metadata", ""))
    return _label_of(workload.labels, containers) or _label_of(labels, containers)


def is_monitoring_claim(metadata: Mapping[str, Any]) -> str | None:
    """The label by which an object belongs to monitoring software: "label app=prometheus"; None if there is none."""
    return _label_of(_labels_of(metadata))


def _labels_of(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(metadata, "labels", "metadata")


def _label_of(labels: Mapping[str, Any], containers: Sequence[Container] = ()) -> str | None:
    # Older charts say `app: prometheus` of everything, and only `component` tells the exporter from the server.
    if not labels or str(labels.get("component")) in _NAMES.not_components:
        return None
    for key, tells in _SIGNS:
        if key in labels and tells(labels[key]) and not _is_own_name(key, labels[key], containers):
            return f"label {key}={labels[key]}"
    if (
        _PART_OF in labels
        and str(labels[_PART_OF]) in _NAMES.purposes
        and _NAMES.databases & _last_segments(containers)
    ):
        return f"label {_PART_OF}={labels[_PART_OF]}"
    return None


def _is_own_name(key: str, name: Any, containers: Sequence[Container]) -> bool:
    """Whether the label names somebody's own application, called by a common word such as "tempo", as its image is."""
    return key in _ANYBODYS and name in WORDS and name in _last_segments(containers)


def _last_segments(containers: Sequence[Container]) -> set[str]:
    return {base_of(container.image) for container in containers}


def _is_named(name: Any) -> bool:
    return isinstance(name, str) and (name in _NAMES.names or name.startswith(_NAME_STARTS))


def _is_component(component: Any) -> bool:
    return str(component) in _NAMES.components


def _is_whole(whole: Any) -> bool:
    return str(whole) in _NAMES.part_of


def _is_chart(chart: Any) -> bool:
    return _CHART_VERSION.sub("", str(chart)) in _NAMES.charts


_SIGNS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("app.kubernetes.io/name", _is_named),
    ("app.kubernetes.io/component", _is_component),
    ("app", _is_named),
    ("k8s-app", _is_named),
    ("helm.sh/chart", _is_chart),
    ("chart", _is_chart),
    (_PART_OF, _is_whole),
)
"""Labels that are signs, the strongest first, with the function that says whether a value is one."""
_ANYBODYS = frozenset({"app", "k8s-app"})
