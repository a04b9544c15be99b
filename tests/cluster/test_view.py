"""What check --cluster sees: the configuration in force, and facts as far as rights go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from tests.builders import KINDS, TODAY, limit_range, workload
from tests.memory_cluster import MemoryCluster
from webhook.check import check_files
from webhook.cluster.client import Cluster
from webhook.cluster.view import ClusterView, view_cluster
from webhook.config import load_config
from webhook.errors import BadConfig, ClusterRefused
from webhook.installation import CONFIG, CONFIG_KEY, NAMESPACE
from webhook.objects.facts import LIMIT_RANGES, NODES
from webhook.policy import Object

DEFAULTS = load_config(b"", "defaults")
HELP = (
    "to see all: ClusterRole forestall-reader, and Role forestall-reader of namespace forestall-system, "
    "which the chart makes"
)


def in_force(text: str) -> Object:
    metadata = {"name": CONFIG, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {CONFIG_KEY: text}}


def refused(what: str) -> list[Exception]:
    return [ClusterRefused(403, "Forbidden", f"{what} is forbidden")]


def view(api: MemoryCluster, namespace: str = "shop") -> ClusterView:
    return view_cluster(cast("Cluster", api), lambda _in_force: [LIMIT_RANGES, NODES], namespace)


def stored_range(namespace: str) -> Object:
    return limit_range(namespace=namespace, default="512Mi")


def test_all_is_seen() -> None:
    seen = view(MemoryCluster(in_force("mode: warn"), stored_range("shop")))
    assert seen.config is not None
    assert (seen.config.mode, seen.unseen, seen.only_in) == ("warn", (), {})
    assert seen.facts.known == {LIMIT_RANGES, NODES}


def test_no_configuration_is_no_trouble() -> None:
    seen = view(MemoryCluster())
    assert (seen.config, seen.unseen) == (None, ())


def test_a_configuration_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(BadConfig, match=r"^ConfigMap forestall-config:1: mode: 'wran' is not one of"):
        view(MemoryCluster(in_force("mode: wran")))


def test_rights_in_one_namespace() -> None:
    api = MemoryCluster(stored_range("shop"), stored_range("other"))
    api.fail["get", f"{NAMESPACE}/configmaps/{CONFIG}"] = refused("configmaps")
    api.fail["list", "/api/v1/limitranges"] = refused("limitranges")
    api.fail["list", "/api/v1/nodes"] = refused("nodes")
    seen = view(api)
    assert seen.unseen == (
        "not seen: the configuration, ConfigMap forestall-system/forestall-config: configmaps is forbidden (403)",
        "not seen: limitranges: limitranges is forbidden (403); seen in namespace shop alone",
        "not seen: nodes: nodes is forbidden (403)",
        HELP,
    )
    assert (seen.facts.known, seen.only_in) == ({LIMIT_RANGES}, {LIMIT_RANGES: frozenset({"shop"})})
    assert list(seen.facts.of(LIMIT_RANGES)) == ["shop"]


@pytest.mark.parametrize(
    ("namespace", "outcomes"),
    [
        pytest.param("shop", [], id="where-it-was-seen"),
        pytest.param("other", [("memory-limits", "unknown")], id="elsewhere-nothing-is-known"),
    ],
)
def test_what_was_seen_of_one_namespace_says_nothing_of_others(
    tmp_path: Path, namespace: str, outcomes: list[tuple[str, str]]
) -> None:
    api = MemoryCluster(stored_range("shop"))
    api.fail["list", "/api/v1/limitranges"] = refused("limitranges")
    seen = view_cluster(cast("Cluster", api), lambda _in_force: KINDS, "shop")
    file = tmp_path / "web.yaml"
    obj = workload()
    file.write_text(json.dumps({**obj, "metadata": {**obj["metadata"], "namespace": namespace}}))
    report = check_files([str(file)], DEFAULTS, seen.facts, today=TODAY, only_in=seen.only_in)
    found = [(finding.verdict.policy, finding.verdict.outcome) for finding in report.findings]
    assert [one for one in found if one[0] == "memory-limits"] == outcomes
