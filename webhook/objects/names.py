"""The names that Kubernetes allows, as types of the configuration: an entry with any other name could match nothing."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_FIELD = "[A-Za-z][A-Za-z0-9]*"

_LONGEST_NAME = 253

ObjectName = Annotated[str, Meta(title="an object's name, such as shop-2", pattern=f"^{_SUBDOMAIN}$")]
Group = Annotated[str, Meta(title="an API group, such as example.com", pattern=f"^({_SUBDOMAIN})?$")]
KindName = Annotated[str, Meta(title="a kind, such as Deployment", pattern="^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$")]
Plural = Annotated[str, Meta(title="a kind's plural, such as deployments", pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$")]
FieldPath = Annotated[
    str,
    Meta(
        title="a path of field names, such as spec.template.spec, where [*] is every item of a list",
        pattern=rf"^({_FIELD}(\[\*\])?\.)*{_FIELD}$",
    ),
]
NamespaceGlob = Annotated[
    str,
    Meta(
        title="a namespace's name or a glob of such, as team-*",
        pattern=r"^[a-z0-9*?\[]([-a-z0-9*?\[\]!]*[a-z0-9*?\]])?$",
    ),
]
LabelKey = Annotated[
    str,
    Meta(
        title="a label's key, such as team or example.com/team",
        pattern=rf"^(({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    ),
]
SERVICE_ACCOUNT = "system:serviceaccount:"
"""How the name begins that a ServiceAccount has as a user."""


class _User:
    """A user's name, which is free but for those of ServiceAccounts."""

    @staticmethod
    def parse(text: str) -> str:
        if text.startswith(SERVICE_ACCOUNT) and not re.fullmatch(rf"{SERVICE_ACCOUNT}{_LABEL}:{_SUBDOMAIN}", text):
            raise ValueError(f"{text!r} is no ServiceAccount: {SERVICE_ACCOUNT}NAMESPACE:NAME")
        return text


UserName = Annotated[str, Meta(title="the name of one user: globs are none", pattern="^[^*?]+$"), _User]
ResourceName = Annotated[
    str,
    Meta(
        title="a resource that a container can have",
        pattern=rf"^(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9.]+|{_SUBDOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$",
        examples=["cpu", "memory", "ephemeral-storage"],
    ),
]


def is_object_name(text: str) -> bool:
    """Whether an object can have this name: then it is a single part of a path, too."""
    return len(text) <= _LONGEST_NAME and re.fullmatch(_SUBDOMAIN, text) is not None
