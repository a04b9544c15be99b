"""What the API server calls a webhook about, by the webhook's rules."""

from __future__ import annotations

from collections.abc import Iterable

from webhook.policy import Object

Asked = tuple[str, str, str]
"""Group, resource, operation; "*" is all."""


def asked_about(webhook: Object) -> set[Asked]:
    return {
        (group, resource, operation)
        for rule in webhook.get("rules") or ()
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for operation in rule.get("operations") or ()
    }


def covers(asked: Iterable[Asked], wanted: Asked) -> bool:
    group, resource, operation = wanted
    return any(
        question[0] in ("*", group) and _covers_resource(question[1], resource) and question[2] in ("*", operation)
        for question in asked
    )


def _covers_resource(pattern: str, resource: str) -> bool:
    """ "pods/*" is the pod and its subresources, "*" no subresource, "*/*" everything (the API's reference, Rule)."""
    kind, _, part = resource.partition("/")
    wanted_kind, slash, wanted_part = pattern.partition("/")
    if wanted_kind not in ("*", kind):
        return False
    return wanted_part in ("*", part) if slash else not part


def show_asked(asked: Asked) -> str:
    return f"{asked[2]} of {show_resource(asked)}"


def show_resource(asked: Asked) -> str:
    group, resource, _ = asked
    return f"{resource}.{group}" if group else resource
