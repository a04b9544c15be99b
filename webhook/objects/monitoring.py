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
from webhook.objects.images import parse_image
from webhook.objects.pods import Container, Workload, items, mapping

_CHART_VERSION = re.compile(r"-v?\d+\..*")
# The series of a Prometheus resource are in the container of this name, whatever image the resource names.
_OPERATED_SERVER = "prometheus"
_SHELLS = frozenset({"ash", "bash", "dash", "sh"})
_SHELL_SCRIPT = re.compile(r"-[a-z]*c")
# In a script: the server by name or path, and its arguments up to where the command ends or a comment begins.
_SERVER_CALL = re.compile(r"(?:^|[\s/])prometheus(?=\s|$)((?:\\\n|[^#;&|\n])*)")
_MAJOR = re.compile(r"v?(\d{1,4})(?:[.+-]|$)")
_FIRST_WITHOUT_AGENT_FEATURE = 3


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
    return _label_of(workload.labels) or is_monitoring_claim(mapping(workload.object, "metadata", ""))


def is_monitoring_claim(metadata: Mapping[str, Any]) -> str | None:
    """What tells by an object's own labels that it belongs to monitoring software: "label app=prometheus"; or None."""
    return _label_of(mapping(metadata, "labels", "metadata"))


def _label_of(labels: Mapping[str, Any]) -> str | None:
    # Older charts say `app: prometheus` of everything, and only `component` tells the exporter from the server.
    if not labels or str(labels.get("component")) in _NAMES.not_components:
        return None
    return next((f"label {key}={labels[key]}" for key, tells in _SIGNS if key in labels and tells(labels[key])), None)


def _is_named(name: Any) -> bool:
    return isinstance(name, str) and (name in _NAMES.names or name.startswith(_NAME_STARTS))


def _is_component(component: Any) -> bool:
    return str(component) in _NAMES.components


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
    return [
        each
        for each in workload.containers
        if _is_operated_server(workload, each)
        or (each.role != "init" and _is_server_image(each.image) and not _runs_promtool(each))
    ]


def _is_operated_server(workload: Workload, container: Container) -> bool:
    is_server = workload.is_operated and workload.kind in ("Prometheus", "PrometheusAgent")
    return is_server and container.name == _OPERATED_SERVER and container.role == "container"


def _runs_promtool(container: Container) -> bool:
    """The server's image brings promtool, which checks rules in Jobs and holds nothing."""
    command, script = _strings(container.spec.get("command")), _script_of(container)
    if script is None:
        return bool(command) and _base(command[0]) == "promtool"
    # A script may check the rules first and then start the server.
    return _base(next(iter(script.split()), "")) == "promtool" and not _SERVER_CALL.search(script)


def is_agent(workload: Workload, container: Container) -> bool:
    """Whether this Prometheus runs as an agent: it forwards what it scrapes and keeps no series to query."""
    is_operated_server = _is_operated_server(workload, container)
    if is_operated_server and workload.kind == "PrometheusAgent":
        return True
    if (script := _script_of(container)) is not None:
        call = _SERVER_CALL.search(script)
        return call is not None and _asks_for_agent(call[1].split(), container.image)
    command, arguments = _strings(container.spec.get("command")), _strings(container.spec.get("args"))
    if is_operated_server and not arguments:  # an amendment's would replace those that the operator makes
        arguments = _operated_arguments(workload.spec)
    return _asks_for_agent([*command, *arguments], container.image)


def _script_of(container: Container) -> str | None:
    """What a shell is given behind -c; None if the container's command is no shell."""
    command = _strings(container.spec.get("command"))
    if not command or _base(command[0]) not in _SHELLS:
        return None
    words = [*command[1:], *_strings(container.spec.get("args"))]
    return next((following for flag, following in pairwise(words) if _SHELL_SCRIPT.fullmatch(flag)), "")


def _operated_arguments(spec: Mapping[str, Any]) -> list[str]:
    """What an operator's resource adds to the command line of its Prometheus."""
    features = ",".join(_strings(spec.get("enableFeatures")))
    additional = items(spec, "additionalArgs", "spec")
    arguments = [(f"--{each.get('name')}", each.get("value")) for each in additional]
    return [f"--enable-feature={features}", *(f"{name}={value}" if value else name for name, value in arguments)]


def _strings(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _base(program: str) -> str:
    return program.rpartition("/")[2]


def _asks_for_agent(words: list[str], image: str) -> bool:
    for flag, following in pairwise([*words, ""]):
        name, equals, value = flag.partition("=")
        if name == "--agent":
            return True
        is_named = name == "--enable-feature" and "agent" in (value if equals else following).split(",")
        if is_named and _knows_agent_feature(image):
            return True
    return False


def _knows_agent_feature(image: str) -> bool:
    """Whether `--enable-feature=agent` means anything: Prometheus 3.0 dropped it for --agent, and only warns of it."""
    try:
        major = _MAJOR.match(parse_image(image).tag or "")
    except BadImage:
        return False
    return major is not None and int(major[1]) < _FIRST_WITHOUT_AGENT_FEATURE
