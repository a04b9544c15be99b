"""The Helm value behind a container's resources or a volume's class, where the chart is known.

What is known stands in charts.json, read on first use:

charts     chart -> component (its label; or the object's kind; "*" is any) -> what -> name -> value,
           where a name is a container's, a volume's or ("claim") a PersistentVolumeClaim's, and may be a glob
umbrellas  chart -> the charts that it brings along, each with the value that its own values stand under, and the
           release names that tell such an installation from one of the subchart alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

from webhook.objects.pods import mapping
from webhook.policy import Object

Value = Literal["resources", "storageClass"]

_VERSION = re.compile(r"-v?\d+\.\d.*$")


class _Umbrella(msgspec.Struct, frozen=True):
    releases: tuple[str, ...]
    subcharts: Mapping[str, str]


class _Charts(msgspec.Struct, frozen=True):
    charts: Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]
    umbrellas: Mapping[str, _Umbrella]


@cache
def _read_charts() -> _Charts:
    return msgspec.json.decode(files("webhook.objects").joinpath("helm_values.json").read_bytes(), type=_Charts)


def helm_value(obj: Object, name: str, what: Value) -> str | None:
    """The values path to set ("server.resources") for the container, volume or claim `name` of `obj`.

    None unless the labels prove the chart, and, for a chart that others bring along (grafana in
    kube-prometheus-stack), how it was installed: a wrong value is worse advice than none.
    """
    metadata = mapping(obj, "metadata", "")
    labels, annotations = mapping(metadata, "labels", "metadata"), mapping(metadata, "annotations", "metadata")
    chart = _VERSION.sub("", _first(labels, "helm.sh/chart", "chart"))
    release = _first(annotations, "meta.helm.sh/release-name") or _first(
        labels, "app.kubernetes.io/instance", "release"
    )
    # Kubecost strips the chart from its subcharts' labels; `app` still names it.
    above = _values_above(chart or _first(labels, "app"), release, is_labelled=bool(chart))
    if above is None:
        return None
    component = _first(labels, "app.kubernetes.io/component", "component")
    value = _find(chart or _first(labels, "app"), (component, obj.get("kind", ""), "*"), name, _key(obj, what))
    return f"{above}{value}" if value else None


def _first(labels: Mapping[str, Any], *keys: str) -> str:
    """The first of these that says something; YAML that nobody has admitted yet may hold numbers there."""
    return next((str(labels[key]) for key in keys if labels.get(key)), "")


def _key(obj: Object, what: Value) -> str:
    return "claim" if what == "storageClass" and obj.get("kind") == "PersistentVolumeClaim" else what


def _values_above(chart: str, release: str, *, is_labelled: bool) -> str | None:
    """What the chart's values stand under, with its dot; empty for a chart installed by itself; None if unsure."""
    umbrellas = [umbrella for umbrella in _read_charts().umbrellas.values() if chart in umbrella.subcharts]
    prefixes = {umbrella.subcharts[chart] for umbrella in umbrellas if release in umbrella.releases}
    if prefixes:
        return f"{prefixes.pop()}." if len(prefixes) == 1 else None
    is_alone = not umbrellas or release == chart or release.startswith(f"{chart}-") or release.endswith(f"-{chart}")
    return "" if is_labelled and is_alone else None


def _find(chart: str, components: tuple[str, ...], name: str, what: str) -> str | None:
    known = _read_charts().charts.get(chart, {})
    for component in components:
        values = known.get(component, {}).get(what, {})
        for pattern, value in values.items():
            if fnmatchcase(name, pattern):
                return value
    return None
