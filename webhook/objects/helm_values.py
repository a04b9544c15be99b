"""The Helm value behind resources, a class, a strategy, a database and so on, where the chart is known.

What is known stands in helm_values.json, read on first use:

charts     chart -> component (its label; or the object's kind; "*" is any) -> what -> name -> value,
           where a name is a container's, a volume's or ("claim") a PersistentVolumeClaim's, and may be a glob;
           a value may have what to set it to behind it ("persistence.enabled: true")
before     chart -> version -> the same, for the chart before that version, where a value has been renamed since
umbrellas  chart -> the charts that it brings along, each with the value that its own values stand under, and the
           release names that tell such an installation from one of the subchart alone; none if nothing tells it
alone      chart -> release names that it is given where it is installed by itself, besides its own
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any, Literal

import msgspec

from webhook.objects.containers import Container
from webhook.objects.fields import mapping
from webhook.policy import Object, Set

Value = Literal[
    "resources",
    "storageClass",
    "nodeSelector",
    "strategy",
    "database",
    "persistence",
    "remoteWrite",
    "sizeLimit",
    "size",
    "scrapeTimeout",
]

_VERSION = re.compile(r"-v?(\d+)\.(\d+)(?:\.(\d+))?.*$")
_Parts = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Component -> what -> name -> value."""


class _Umbrella(msgspec.Struct, frozen=True):
    releases: tuple[str, ...]
    subcharts: Mapping[str, str]


class _Charts(msgspec.Struct, frozen=True):
    charts: Mapping[str, _Parts]
    before: Mapping[str, Mapping[str, _Parts]]
    umbrellas: Mapping[str, _Umbrella]
    alone: Mapping[str, tuple[str, ...]]


@cache
def _read_charts() -> _Charts:
    return msgspec.json.decode(files("webhook.objects").joinpath("helm_values.json").read_bytes(), type=_Charts)


def helm_value(obj: Object, name: str, what: Value) -> str | None:
    """The values path to set ("server.resources") for the container, volume or claim `name` of `obj`.

    None unless the labels prove the chart, and, for a chart that others bring along (grafana in
    kube-prometheus-stack), how it was installed: a wrong value is worse advice than none.
    """
    metadata = mapping(obj, "metadata", "")
    labels = mapping(metadata, "labels", "metadata")
    labelled = _first(labels, "helm.sh/chart", "chart")
    named = _VERSION.sub("", labelled)
    # Kubecost strips the chart from its subcharts' labels; `app` still names it.
    chart = named or _first(labels, "app")
    if chart not in _read_charts().charts:
        return None
    annotations = mapping(metadata, "annotations", "metadata")
    release = _first(annotations, "meta.helm.sh/release-name") or _first(
        labels, "app.kubernetes.io/instance", "release"
    )
    above = _values_above(chart, release, is_labelled=bool(named))
    if above is None:
        return None
    component = _first(labels, "app.kubernetes.io/component", "component")
    known = _known(chart, _version(labelled))
    value = _find(known, (component, obj.get("kind", ""), "*"), name, _key(obj, what))
    return f"{above}{value}" if value else None


def resources_value(obj: Object, container: Container, sets: Iterable[Set]) -> str | None:
    """The value of a container's resources, with what to set in it: "server.resources: {limits: {memory: 6Gi}}"."""
    found = helm_value(obj, container.name, "resources")
    above = f"{container.resources_path}."
    paths = [(fix.path.removeprefix(above).split("."), fix.value) for fix in sets if fix.path.startswith(above)]
    told = ", ".join(f"{part}: {{{resource}: {value}}}" for (part, resource), value in paths)
    return f"{found}: {{{told}}}" if found and told else found


def _version(chart: str) -> tuple[int, ...]:
    """The three numbers of a chart's version, as its label ends in it ("grafana-6.56.6"); empty if it has none."""
    found = _VERSION.search(chart)
    return tuple(int(number or 0) for number in found.groups()) if found else ()


def _known(chart: str, version: tuple[int, ...]) -> list[_Parts]:
    """The tables for a chart in that version, or the newest for an empty one; the first that names the value counts."""
    charts = _read_charts()
    older = charts.before.get(chart, {}) if version else {}
    return [*(parts for end, parts in older.items() if version < _version(f"-{end}")), charts.charts.get(chart, {})]


def _first(labels: Mapping[str, Any], *keys: str) -> str:
    """The first of these labels that has a value. In a file that no API server has checked a label may be a number."""
    return next((str(labels[key]) for key in keys if labels.get(key)), "")


def _key(obj: Object, what: Value) -> str:
    return "claim" if what == "storageClass" and obj.get("kind") == "PersistentVolumeClaim" else what


def _values_above(chart: str, release: str, *, is_labelled: bool) -> str | None:
    """The parent chart's prefix of this chart's values, with its dot; empty for a chart installed by itself; None if
    the labels don't tell."""
    umbrellas = [umbrella for umbrella in _read_charts().umbrellas.values() if chart in umbrella.subcharts]
    prefixes = {umbrella.subcharts[chart] for umbrella in umbrellas if release in umbrella.releases}
    if prefixes:
        return f"{prefixes.pop()}." if len(prefixes) == 1 else None
    is_own = release == chart or release.startswith(f"{chart}-") or release.endswith(f"-{chart}")
    is_alone = not umbrellas or is_own or release in _read_charts().alone.get(chart, ())
    return "" if is_labelled and is_alone else None


def _find(known: list[_Parts], components: tuple[str, ...], name: str, what: str) -> str | None:
    for parts, component in product(known, components):
        for pattern, value in parts.get(component, {}).get(what, {}).items():
            if fnmatchcase(name, pattern):
                return value
    return None
