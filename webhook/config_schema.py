"""The JSON Schema of the configuration file, with the parameters of every installed policy."""

from __future__ import annotations

from typing import Any

import msgspec

from webhook.config import ConfigFile
from webhook.files.typed_yaml import Duration
from webhook.loader import load_policies
from webhook.objects.quantities import Memory, Quantity
from webhook.sections import PolicySection


def config_schema() -> dict[str, Any]:
    """As draft 2020-12, for editors and for the values of the chart."""
    params = [_for_schema(loaded.policy.params, name) for name, loaded in load_policies().items()]
    (root, section, *schemas), components = msgspec.json.schema_components(
        [ConfigFile, PolicySection, *params], schema_hook=_schema_of, ref_template="#/$defs/{name}"
    )
    definitions = dict(components)
    installed = {"enum": list(load_policies())}
    definitions["Override"]["properties"]["policies"]["propertyNames"] = installed
    definitions["Exemption"]["properties"]["policy"] |= installed
    base = definitions.pop(section["$ref"].rpartition("/")[2])
    sections = {}
    for (name, loaded), schema in zip(load_policies().items(), schemas, strict=True):
        properties = {**base["properties"], "params": schema}
        sections[name] = {**base, "title": name, "description": loaded.policy.summary, "properties": properties}
    top = definitions.pop(root["$ref"].rpartition("/")[2])
    top["properties"]["policies"] = {"type": "object", "properties": sections, "additionalProperties": False}
    _let_off_be_false([top, definitions])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Forestall's configuration",
        **{key: value for key, value in top.items() if key not in ("title", "description")},
        "$defs": definitions,
    }


def _let_off_be_false(schema: Any) -> None:
    """Wherever a mode may be "off", it may be what YAML 1.1 makes of an off without quotes."""
    if isinstance(schema, dict) and "off" in schema.get("enum", ()) and False not in schema["enum"]:
        schema["enum"] = [*schema["enum"], False]
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _let_off_be_false(child)


def _for_schema(params: type[msgspec.Struct], policy_id: str) -> type[msgspec.Struct]:
    """A copy of a policy's parameter type for the JSON Schema: under the policy's name, with defaults that JSON can
    hold."""
    fields = [
        (field.name, field.type, str(field.default) if isinstance(field.default, Memory) else _default(field))
        for field in msgspec.structs.fields(params)
    ]
    return msgspec.defstruct(policy_id, fields, rename="camel", forbid_unknown_fields=True)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return field.default


def _schema_of(wanted: type) -> dict[str, Any]:
    if wanted is Memory:
        amounts = {"pattern": Quantity.PATTERN, "minimum": 0}
        return {"type": ["string", "integer"], **amounts, "description": "An amount of memory, such as 512Mi."}
    if wanted is Quantity:
        return {"type": ["string", "number"], "pattern": Quantity.PATTERN, "minimum": 0}
    if wanted is Duration:
        return {"type": "string", "pattern": Duration.PATTERN, "description": "A length of time, such as 90d or 12h."}
    raise NotImplementedError(wanted)
