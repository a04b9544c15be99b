"""Which workloads are monitoring software, and which of their containers hold Prometheus' time series.

What counts is data, in monitoring.json, from the strongest sign to the weakest: the kind of a custom resource, the last
segment of an image's repository (registries get mirrored), `app.kubernetes.io/name`, the older `app` and `component`,
the chart's name. Exporters, adapters, reloaders and the operator share names and labels with what they serve, and are
not it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from webhook.errors import BadImage
from webhook.images import parse_image
from webhook.pods import Container, Workload

_CHART_VERSION = re.compile(r"-v?\d+\..*")
# The series of a Prometheus resource are in the container of this name, whatever image the resource names.
_OPERATED_SERVER = "prometheus"


class _Names(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """monitoring.json; its "about" says what each list is."""

    about: tuple[str, ...]
    kinds: frozenset[str]
    images: frozenset[str]
    qualified: frozenset[str]
    collectors: frozenset[str]
    qualified_collectors: frozenset[str]
    lookalikes: frozenset[str]
    series: frozenset[str]
    names: frozenset[str]
    components: frozenset[str]
    charts: frozenset[str]
    not_components: frozenset[str]


_NAMES = msgspec.json.decode(Path(__file__).with_name("monitoring.json").read_bytes(), type=_Names)


def _starts(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name[:-1] for name in names if name.endswith("*"))


def _ends(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name[1:] for name in names if name.startswith("*"))


_NAME_STARTS = _starts(_NAMES.names)
_LOOKALIKE_STARTS, _LOOKALIKE_ENDS = _starts(_NAMES.lookalikes), _ends(_NAMES.lookalikes)

_Role = Literal["monitoring", "collector", "lookalike", "other"]


@lru_cache(maxsize=4096)
def _role_of(image: str) -> _Role:
    try:
        repository = parse_image(image).repository
    except BadImage:
        return "other"
    *_, owner, base = ("", *repository.split("/"))
    qualified = f"{owner}/{base}"
    if base in _NAMES.images or qualified in _NAMES.qualified:
        return "monitoring"
    if base in _NAMES.collectors or qualified in _NAMES.qualified_collectors:
        return "collector"
    if base in _NAMES.lookalikes or base.startswith(_LOOKALIKE_STARTS) or base.endswith(_LOOKALIKE_ENDS):
        return "lookalike"
    return "other"


@lru_cache(maxsize=4096)
def _is_server_image(image: str) -> bool:
    try:
        return parse_image(image).base in _NAMES.series
    except BadImage:
        return False


def is_monitoring(workload: Workload) -> str | None:
    """What tells that the workload is monitoring software: "image grafana/grafana:12.3.1"; None if it is not."""
    if f"{workload.group}/{workload.kind}" in _NAMES.kinds:
        return f"kind {workload.kind}"
    containers = [each for each in workload.containers if each.role != "init"]
    roles = [_role_of(each.image) for each in containers]
    if "monitoring" in roles:
        return f"image {containers[roles.index('monitoring')].image}"
    if "other" not in roles:
        # Beside an application a collector is its sidecar, and a look-alike alone is no more than that.
        return f"image {containers[roles.index('collector')].image}" if "collector" in roles else None
    return _label_of(workload.labels) or is_monitoring_claim(workload.object.get("metadata") or {})


def is_monitoring_claim(metadata: Mapping[str, Any]) -> str | None:
    """What tells by an object's own labels that it belongs to monitoring software: "label app=prometheus"; or None."""
    return _label_of(metadata.get("labels") or {})


def _label_of(labels: Mapping[str, Any]) -> str | None:
    # Older charts say `app: prometheus` of everything, and only `component` tells the exporter from the server.
    if not labels or labels.get("component") in _NAMES.not_components:
        return None
    return next((f"label {key}={labels[key]}" for key, tells in _SIGNS if key in labels and tells(labels[key])), None)


def _is_named(name: Any) -> bool:
    return isinstance(name, str) and (name in _NAMES.names or name.startswith(_NAME_STARTS))


def _is_component(component: Any) -> bool:
    return component in _NAMES.components


def _is_chart(chart: Any) -> bool:
    return _CHART_VERSION.sub("", str(chart)) in _NAMES.charts


_SIGNS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("app.kubernetes.io/name", _is_named),
    ("app.kubernetes.io/component", _is_component),
    ("app", _is_named),
    ("helm.sh/chart", _is_chart),
    ("chart", _is_chart),
)
"""Labels that tell, from the strongest."""


def series_containers(workload: Workload) -> list[Container]:
    """The containers that hold Prometheus' time series, in agent mode too (`is_agent` tells)."""
    if workload.is_operated:
        if workload.kind not in ("Prometheus", "PrometheusAgent"):
            return []
        return [each for each in workload.containers if each.name == _OPERATED_SERVER and each.role == "container"]
    return [
        each
        for each in workload.containers
        if each.role != "init" and _is_server_image(each.image) and not _runs_promtool(each)
    ]


def _runs_promtool(container: Container) -> bool:
    """The server's image brings promtool, which checks rules in Jobs and holds nothing."""
    return any(word.endswith("promtool") for word in _words(container.spec.get("command")))


def is_agent(workload: Workload, container: Container) -> bool:
    """Whether this Prometheus runs as an agent: it forwards what it scrapes and keeps no series to query."""
    if workload.is_operated:
        spec = workload.spec
        if workload.kind == "PrometheusAgent" or "agent" in (spec.get("enableFeatures") or ()):
            return True
        arguments = [each for each in spec.get("additionalArgs") or () if isinstance(each, dict)]
        words = [word for each in arguments for word in (f"--{each.get('name')}", str(each.get("value") or ""))]
        return _asks_for_agent([*words, *_words(container.spec.get("args"))])
    return _asks_for_agent([*_words(container.spec.get("command")), *_words(container.spec.get("args"))])


def _words(arguments: Any) -> list[str]:
    """The words of a command line, also of one that is wrapped in a shell."""
    return [word for argument in arguments or () for word in str(argument).split()]


def _asks_for_agent(words: list[str]) -> bool:
    for flag, following in pairwise([*words, ""]):
        name, equals, value = flag.partition("=")
        if name == "--agent":
            return True
        if name == "--enable-feature" and "agent" in (value if equals else following).split(","):
            return True
    return False
