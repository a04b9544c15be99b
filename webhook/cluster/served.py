"""Which kinds the API server serves, and in which versions."""

from __future__ import annotations

from collections.abc import Iterable

from webhook.cluster.lists import Reader
from webhook.cluster.paths import api_path
from webhook.errors import ClusterRefused, FactsUnavailable, ForestallError
from webhook.policy import GroupKind, Object, is_custom


class Versions(dict[str, str]):
    """API group -> the version that the API server prefers."""

    def __init__(self, cluster: Reader | None = None, groups: Iterable[Object] = ()) -> None:
        super().__init__({"": "v1"} if cluster else {})
        self._cluster = cluster
        self._others: dict[str, list[str]] = {}
        self._resources: dict[str, frozenset[str]] = {}
        for group in groups:
            self[group["name"]] = preferred = group["preferredVersion"]["version"]
            found = [served["version"] for served in group.get("versions") or () if served["version"] != preferred]
            if found and is_custom(group["name"]):
                self._others[group["name"]] = found

    def of(self, kind: GroupKind) -> str | None:
        """The version in which the kind is served, None if its group isn't: the preferred one, if that has it, since of
        the operator's group ScrapeConfigs have another than ServiceMonitors.

        Raises ClusterRefused or FactsUnavailable.
        """
        preferred = self.get(kind.group)
        versions = [preferred, *self._others[kind.group]] if preferred and kind.group in self._others else ()
        return next((version for version in versions if kind.resource in self._served(kind.group, version)), preferred)

    def _served(self, group: str, version: str) -> frozenset[str]:
        path = api_path(group, version)
        if path not in self._resources:
            found = (self._cluster.get(path) if self._cluster else None) or {}
            self._resources[path] = frozenset(resource["name"] for resource in found.get("resources") or ())
        return self._resources[path]


def served_versions(cluster: Reader) -> Versions:
    """The versions that the API server serves. Raises ClusterRefused or FactsUnavailable."""
    return Versions(cluster, (cluster.get("/apis") or {}).get("groups") or ())


def is_served(cluster: Reader, kind: GroupKind, version: str, error: ForestallError) -> bool:
    """Whether the API server has the kind, as far as can be told: what may not be listed need not be there."""
    if not isinstance(error, ClusterRefused) or error.status not in (403, 404):
        return True
    if error.status == 404:
        return False
    try:
        served = cluster.get(api_path(kind.group, version))
    except (ClusterRefused, FactsUnavailable):
        return True
    resources = (served or {}).get("resources")
    return resources is None or any(resource.get("name") == kind.resource for resource in resources)
