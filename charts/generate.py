"""What in the chart follows from elsewhere; `make docs` writes it.

values.schema.json   from the configuration's types and from those below, described by the values' own comments
README.md            from the values' comments
_policies.tpl        from the policies' declarations: what each reads and judges, so that the roles allow just that
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import yaml
from msgspec import UNSET, Meta, UnsetType

from webhook.config_schema import config_schema
from webhook.loader import load_policies
from webhook.objects.facts.deployments import DEPLOYMENTS
from webhook.objects.names import NamespaceGlob
from webhook.objects.pods import WORKLOADS
from webhook.objects.quantities import Quantity
from webhook.observing import monitoring
from webhook.policy import FactKind, Policy

CHART = Path(__file__).parent / "forestall"

# The values' types. Their defaults are in values.yaml, beside what there is to say of them.


class _Values(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    pass


_Port = Annotated[int, Meta(ge=1, le=65535)]
_Level = Literal["debug", "info", "warning", "error"]
_Count = Annotated[int, Meta(ge=1)]
_Texts = dict[str, str]
_Quantities = dict[str, float | Annotated[str, Meta(pattern=Quantity.PATTERN)]]
_Anything = dict[str, Any]
_OCTET = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_CIDR = Annotated[
    str,
    Meta(
        pattern=rf"^({_OCTET}(\.{_OCTET}){{3}}/(3[0-2]|[12]?[0-9])"
        r"|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$"
    ),
]
_MEMORY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Mi|Gi|M|G)$"}
"""What a program's memory can be: 384, and 384m, are below the least that a container starts with."""


class Image(_Values):
    repository: Annotated[str, Meta(min_length=1)]
    tag: str
    digest: Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64})?$")]
    pull_policy: Literal["IfNotPresent", "Always", "Never"]


class Resources(_Values):
    # Our own policies hold for us, too.
    limits: Annotated[_Quantities, Meta(extra_json_schema={"required": ["memory"], "properties": {"memory": _MEMORY}})]
    requests: Annotated[_Quantities, Meta(extra_json_schema={"properties": {"memory": _MEMORY}})] | UnsetType = UNSET


class DisruptionBudget(_Values):
    max_unavailable: int | Annotated[str, Meta(pattern=r"^(100|[1-9]?[0-9])%$")]


class Autoscaling(_Values):
    enabled: bool
    min_replicas: _Count
    max_replicas: _Count
    target_cpu: Annotated[int, Meta(ge=1)] = msgspec.field(name="targetCPUUtilizationPercentage")


class _Component(_Values):
    replicas: _Count
    log_level: _Level
    metrics_port: _Port
    resources: Resources
    pod_annotations: _Texts
    pod_labels: _Texts


class Controller(_Component):
    console_port: _Port


class Server(_Component):
    port: _Port
    workers: Annotated[int, Meta(ge=1, le=64)]
    host_network: bool
    client_ca: str = msgspec.field(name="clientCAConfigMap")
    spread_nodes: Literal["DoNotSchedule", "ScheduleAnyway"]
    pod_disruption_budget: DisruptionBudget
    autoscaling: Autoscaling


class FlowSchema(_Values):
    enabled: bool
    priority_level: Annotated[str, Meta(min_length=1)]
    matching_precedence: Annotated[int, Meta(ge=1, le=10000)]


class Audit(_Values):
    enabled: bool
    log_level: _Level
    metrics_port: _Port
    report_results: Annotated[int, Meta(ge=1, le=500)]
    keep_reports: bool
    resources: Resources
    flow_schema: FlowSchema


class CertManager(_Values):
    issuer_ref: _Texts


class NetworkPolicy(_Values):
    enabled: bool
    api_servers: list[_CIDR] = msgspec.field(name="apiServerCIDRs")
    metrics_from: list[_Anything]
    console_from: list[_Anything]


class ServiceMonitor(_Values):
    enabled: bool
    interval: Annotated[str, Meta(pattern=r"^(\d+(ms|s|m|h))+$")]
    labels: _Texts


class Values(_Values):
    image: Image
    image_pull_secrets: list[_Texts]
    config: _Anything
    limit_range_namespaces: list[NamespaceGlob]
    server: Server
    controller: Controller
    audit: Audit
    priority_class_name: str
    tolerations: list[_Anything]
    affinity: _Anything
    cert_manager: CertManager
    network_policy: NetworkPolicy
    service_monitor: ServiceMonitor
    flow_schema: FlowSchema
    uninstall_timeout_seconds: Annotated[int, Meta(ge=10)]
    # Taken away by null, as Helm would merge an empty one with the default.
    node_selector: _Texts | UnsetType = UNSET
    # What Helm hands over to every subchart.
    global_: _Anything | UnsetType = msgspec.field(default=UNSET, name="global")


class ValuesEntry(NamedTuple):
    """An entry of values.yaml: its path, the comment above it, and its default."""

    path: str
    comment: str
    default: Any
    is_section: bool


def generated() -> dict[Path, str]:
    """What each generated file has to hold."""
    values = list(read_values((CHART / "values.yaml").read_text()))
    return {
        CHART / "values.schema.json": json.dumps(values_schema(values), indent=2) + "\n",
        CHART / "README.md": render_readme(values),
        CHART / "templates" / "_policies.tpl": render_policies(),
    }


def read_values(text: str) -> Iterator[ValuesEntry]:
    """Every entry of a values file that has a comment, and the sections that lead to it."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101
    yield from _values_in(root, text.splitlines(), yaml.safe_load(text), "")


def _values_in(node: yaml.MappingNode, lines: list[str], data: Mapping[str, Any], prefix: str) -> Iterator[ValuesEntry]:
    for key, child in node.value:
        path, default = prefix + key.value, data[key.value]
        inner: list[ValuesEntry] = []
        if isinstance(child, yaml.MappingNode):
            inner = list(_values_in(child, lines, default, f"{path}."))
        comment = _comment_above(key.start_mark.line, lines)
        if comment or inner:
            yield ValuesEntry(path, comment, default, bool(inner))
        yield from inner


def _comment_above(line: int, lines: list[str]) -> str:
    words: list[str] = []
    while line and (match := re.fullmatch(r" *# (.+)", lines[line - 1])):
        words.insert(0, match[1])
        line -= 1
    return " ".join(words)


def values_schema(values: list[ValuesEntry]) -> dict[str, Any]:
    """The JSON Schema by which Helm refuses a typo; draft 7, which every Helm 3 understands as well."""
    (root,), definitions = msgspec.json.schema_components([Values], ref_template="#/$defs/{name}")
    config = config_schema()
    top = definitions.pop(root["$ref"].rpartition("/")[2])
    top["properties"]["config"] = {key: value for key, value in config.items() if key not in ("$schema", "$defs")}
    definitions.update(config["$defs"])
    comments = {value.path: value.comment for value in values if value.comment}
    _describe(top, definitions, comments, "")
    return {"$schema": "http://json-schema.org/draft-07/schema#", **top, "title": "Values", "$defs": definitions}


def _describe(schema: dict[str, Any], definitions: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> None:
    """Give the values' comments to their fields; the configuration's have descriptions of their own."""
    for name, field in schema.get("properties", {}).items():
        path = prefix + name
        if inner := definitions.get(field.get("$ref", "").rpartition("/")[2]):
            _describe(inner, definitions, comments, f"{path}.")
        elif path in comments:
            field["description"] = comments[path]


def render_policies() -> str:
    """What the roles depend on, as templates that hold JSON."""
    policies = {
        name: {
            "mode": loaded.policy.mode,
            "facts": _by_group((kind.group, kind.resource) for kind in loaded.policy.facts if kind.is_served),
            "lookedUp": _looked_up(loaded.policy),
            "kinds": _by_group((kind.group, kind.resource) for kind in loaded.policy.kinds),
            "lives": _by_group((kind.group, kind.resource) for kind in _audited(loaded.policy)),
        }
        for name, loaded in load_policies().items()
    }
    # No API server that is still maintained serves "extensions".
    workloads = _by_group((kind.group, kind.resource) for kind in WORKLOADS if kind.group != "extensions")
    lives = _by_group((kind.group, kind.resource) for kind in monitoring.LIVES)
    return "".join(
        [
            '{{- /* Generated by "make docs". */ -}}\n',
            _define("policies", policies),
            _define("workloads", workloads),
            _define("lives", lives),
        ]
    )


def _audited(policy: Policy) -> set[FactKind[Any, Any]]:
    """What audits read for the policy and servers don't: what lives, and facts that come and go all the time."""
    return {*policy.lives, *(kind for kind in policy.facts if kind.is_watched and not kind.on_servers)}


def _looked_up(policy: Policy) -> dict[str, dict[str, list[str]]]:
    """What it looks up one by one, by the parameter that has to allow it; "" where none has to."""
    by_parameter = {
        parameter: _by_group((kind.group, kind.resource) for kind in policy.facts if kind.allowed_by == parameter)
        for parameter in sorted({kind.allowed_by for kind in policy.facts} - {""})
    }
    if "scale" in policy.subresources:
        by_parameter[""] = _by_group([(DEPLOYMENTS.group, DEPLOYMENTS.resource)])
    return by_parameter


def _by_group(resources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for group, plural in sorted(resources):
        grouped.setdefault(group, []).append(plural)
    return grouped


def _define(name: str, entries: Mapping[str, Any]) -> str:
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return f'\n{{{{- define "forestall.{name}" -}}}}\n{{\n{lines}\n}}\n{{{{- end }}}}\n'


_README = """\
# Forestall's Helm chart

<!-- Generated by "make docs" from values.yaml. -->

```sh
helm install forestall charts/forestall --namespace forestall-system --create-namespace \\
  --set image.repository=registry.example.com/forestall
```

installs a highly available Forestall, from an image of yours, with certificates that look after themselves.
[docs/install.md](../../docs/install.md) goes through it, from the image to seeing it work, and
[docs/operations.md](../../docs/operations.md) is about running it: `failurePolicy`, the way out in an emergency,
upgrades, private networks. Kubernetes 1.29 or later, Helm 3.14 or later.

| preset | |
| --- | --- |
| [audit](presets/audit.yaml) | everything is admitted as it is, violations are counted and logged |
| [warn](presets/warn.yaml) | and kubectl and helm print them |
| [enforce](presets/enforce.yaml) | violations are patched or refused, and nothing passes unchecked |

Without a preset violations are patched or refused, and what Forestall can't be asked about passes. To begin with one:

```sh
helm install forestall charts/forestall --namespace forestall-system --create-namespace \\
  --set image.repository=registry.example.com/forestall --values charts/forestall/presets/audit.yaml
```

Names don't depend on the release's: there is one Forestall in a cluster. The two webhook configurations are no
templates of this chart: the controller writes them, once a certificate and a ready server exist.

## Values
"""


def render_readme(values: list[ValuesEntry]) -> str:
    sections: dict[str, list[ValuesEntry]] = {"": []}
    intros = {}
    for value in values:
        top, _, rest = value.path.partition(".")
        if not rest and value.is_section:
            sections[top] = []
            intros[top] = value.comment
        elif not value.is_section:
            sections[top if rest else ""].append(value)
    parts = [_README]
    for name, rows in sections.items():
        title = f"\n### {name}\n\n{intros[name]}\n\n".replace("\n\n\n\n", "\n\n") if name else "\n"
        parts.append(title + "| value | default | |\n| --- | --- | --- |\n" + "".join(map(_row, rows)))
    return "".join(parts)


def _row(value: ValuesEntry) -> str:
    shown = value.default if isinstance(value.default, str) else json.dumps(value.default)
    default = f"`{shown}`" if value.default not in ("", [], {}) else ""
    comment = value.comment.replace("|", r"\|")
    return f"| `{value.path}` | {default} | {comment} |\n"
