"""Paths of the Kubernetes API, under which the API server has its kinds and their objects."""

from __future__ import annotations

from typing import Any

from webhook.policy import FactKind, GroupKind


def api_path(group: str, version: str, resource: str = "", namespace: str = "", name: str = "") -> str:
    """The path of a group's version, of a collection in it (in a namespace or in all of them), or of an object."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    within = f"namespaces/{namespace}" if namespace else ""
    return "/".join(filter(None, (root, within, resource, name)))


def path_of(kind: GroupKind, version: str, namespace: str = "", name: str = "") -> str:
    """The path of a kind's collection, in a namespace or in all of them, or of one object."""
    return api_path(kind.group, version, kind.resource, namespace, name)


def fact_path(kind: FactKind[Any, Any], namespace: str = "", name: str = "") -> str:
    """The same for a kind that policies read, in the version in which they do."""
    return api_path(kind.group, kind.version, kind.resource, namespace, name)


def config_map_path(namespace: str, name: str) -> str:
    return api_path("", "v1", "configmaps", namespace, name)
