"""In which version a kind is served, and how often the API server is asked that."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from webhook.cluster.served import served_versions
from webhook.policy import GroupKind, Object

GROUP = "monitoring.coreos.com"
SERVED: dict[str, Object] = {
    "/apis": {
        "groups": [
            {
                "name": GROUP,
                "preferredVersion": {"version": "v1"},
                "versions": [{"version": "v1"}, {"version": "v1alpha1"}],
            },
            {"name": "apps", "preferredVersion": {"version": "v1"}, "versions": [{"version": "v1"}]},
        ]
    },
    f"/apis/{GROUP}/v1": {"resources": [{"name": "servicemonitors"}]},
    f"/apis/{GROUP}/v1alpha1": {"resources": [{"name": "scrapeconfigs"}]},
}


class Discovery:
    """An API server that tells what it serves, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get(self, path: str) -> Object | None:
        self.asked.append(path)
        return SERVED.get(path)

    def read(self, path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "version", "asked"),
    [
        pytest.param(GroupKind(GROUP, "ServiceMonitor", "servicemonitors"), "v1", 1, id="the-preferred-one"),
        pytest.param(GroupKind(GROUP, "ScrapeConfig", "scrapeconfigs"), "v1alpha1", 2, id="the-only-one-that-has-it"),
        pytest.param(GroupKind(GROUP, "Probe", "probes"), "v1", 2, id="in-none"),
        pytest.param(GroupKind("apps", "Deployment", "deployments"), "v1", 0, id="built-in"),
        pytest.param(GroupKind("argoproj.io", "Rollout", "rollouts"), None, 0, id="no-such-group"),
    ],
)
def test_the_version_in_which_a_kind_is_served(kind: GroupKind, version: str | None, asked: int) -> None:
    cluster = Discovery()
    versions = served_versions(cluster)
    assert [versions.of(kind), versions.of(kind)] == [version, version]
    assert len(cluster.asked) - 1 == asked
