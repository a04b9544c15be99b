"""OpenShift Templates: the objects in them, with the parameters' values put in, as `oc process` does.

"${NAME}" is put into text, "${{NAME}}" stands for a value that is no text, and a name that is no parameter's stays as
it is. Source: github.com/openshift/library-go, pkg/template/templateprocessing/template.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from webhook.files.kubectl_yaml import UnreadableError
from webhook.policy import Object

_WHOLE = re.compile(r"\$\{\{([A-Za-z0-9_]+)\}\}")
_PART = re.compile(r"\$\{([A-Za-z0-9_]+)\}")


def is_template(obj: Object) -> bool:
    return obj["kind"] == "Template" and obj["apiVersion"].rpartition("/")[0] in ("", "template.openshift.io")


class Unfolded(NamedTuple):
    """An object of a Template, and the parameters without a value that are in it, as they are written there."""

    object: Any
    open: frozenset[str]


def unfold(template: Object) -> Iterator[Unfolded]:
    """The Template's objects, in their order. A parameter that is generated, or has no value, is left open."""
    values: dict[str, str | None] = {}
    for parameter in _list(template, "parameters"):
        if isinstance(parameter, dict) and isinstance(name := parameter.get("name"), str):
            value = parameter.get("value")
            values[name] = None if value in (None, "") or parameter.get("generate") else str(value)
    for obj in _list(template, "objects"):
        left: set[str] = set()
        filled = fill(obj, values, left)
        yield Unfolded(filled, frozenset(left))


def _list(template: Object, field: str) -> list[Any]:
    found = template.get(field)
    if found is None:
        return []
    if not isinstance(found, list):
        raise UnreadableError(f"{field!r} of Template is not a list")
    return found


def fill(value: Any, values: Mapping[str, str | None], left: set[str]) -> Any:
    """The value with the parameters' values put in; those whose value is None stay, and are added to `left`."""
    if isinstance(value, dict):
        return {fill(key, values, left): fill(child, values, left) for key, child in value.items()}
    if isinstance(value, list):
        return [fill(child, values, left) for child in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if (whole := _WHOLE.fullmatch(value)) and whole[1] in values:
        given = values[whole[1]]
        if given is None:
            left.add(whole[1])
            return value
        return _read_json(given)

    def put_in(found: re.Match[str]) -> str:
        given = values.get(found[1], found[0])
        if given is None:
            left.add(found[1])
        return found[0] if given is None else given

    return _PART.sub(put_in, value)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
