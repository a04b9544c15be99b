"""ConfigMaps: what is read of them, and which file a container finds in one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import config_map, container, facts, request, workload
from webhook.objects.config_maps import CONFIG_MAPS, ConfigMap, File, mounted_file
from webhook.objects.facts import ClusterFacts, read_fact
from webhook.objects.pods import read_workload
from webhook.policy import FactReference, Object

SEEN = facts(config_map(prometheus_yml="a: 1", other_yml="b: 2"), config_map("other", rules_yml="c: 3"))
OF = FactReference(CONFIG_MAPS, "shop", "prometheus")
ETC = {"name": "config", "mountPath": "/etc/config"}


def volume(name: str = "config", **source: Any) -> Object:
    return {"name": name, **source}


def named(name: str = "prometheus", **fields: Any) -> Object:
    return volume(configMap={"name": name, **fields})


def found(volumes: list[Object], mounts: list[Object], path: str, known: ClusterFacts = SEEN) -> File:
    read = read_workload(request(workload("Deployment", container(volumeMounts=mounts), volumes=volumes)))
    assert read is not None
    return mounted_file(read, read.containers[0], path, known)


def projected(*names: str) -> Object:
    return volume(projected={"sources": [{"configMap": {"name": name}} for name in names]})


PROJECTED = volume(projected={"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "prometheus"}}]})


@pytest.mark.parametrize(
    ("volumes", "mounts", "path"),
    [
        pytest.param([named()], [ETC], "/etc/config/prometheus.yml", id="by-its-key"),
        pytest.param([named()], [ETC], "/etc/config/./x/../prometheus.yml", id="by-a-path-that-is-not-clean"),
        pytest.param(
            [named(items=[{"key": "prometheus.yml", "path": "a/b.yml"}])], [ETC], "/etc/config/a/b.yml", id="by-an-item"
        ),
        pytest.param(
            [named()],
            [{"name": "config", "mountPath": "/p.yml", "subPath": "prometheus.yml"}],
            "/p.yml",
            id="by-a-sub-path",
        ),
        pytest.param([PROJECTED], [ETC], "/etc/config/prometheus.yml", id="in-a-projected-volume"),
        pytest.param(
            [projected("other", "late", "prometheus")], [ETC], "/etc/config/prometheus.yml", id="in-the-third"
        ),
        pytest.param(
            [named("absent", optional=True), {**named(), "name": "inner"}],
            [{"name": "inner", "mountPath": "/etc/config/in"}, ETC],
            "/etc/config/in/prometheus.yml",
            id="the-deeper-mount-hides-the-other",
        ),
    ],
)
def test_the_file_that_is_mounted(volumes: list[Object], mounts: list[Object], path: str) -> None:
    assert found(volumes, mounts, path) == File("a: 1", "prometheus")


@pytest.mark.parametrize(
    ("volumes", "path", "known", "why", "unseen"),
    [
        pytest.param([named()], "/etc/other.yml", SEEN, "is not in a volume", (), id="of-the-image"),
        pytest.param(
            [named()],
            "/etc/config/x.yml",
            SEEN,
            "is missing in ConfigMap 'prometheus'",
            (),
            id="no-such-key",
        ),
        pytest.param(
            [named()],
            "/etc/config/x",
            facts({**config_map(), "binaryData": {"x": "aGk="}}),
            "is binary in ConfigMap 'prometheus'",
            (),
            id="binary",
        ),
        pytest.param(
            [named("late")],
            "/etc/config/x",
            SEEN,
            "is in ConfigMap 'late', which was not seen",
            (FactReference(CONFIG_MAPS, "shop", "late"),),
            id="not-seen",
        ),
        pytest.param(
            [named()],
            "/etc/config/x",
            ClusterFacts(absent=frozenset({OF})),
            "is in ConfigMap 'prometheus', which does not exist",
            (),
            id="not-there",
        ),
        pytest.param(
            [projected("prometheus", "late")],
            "/etc/config/x",
            SEEN,
            "is in ConfigMap 'late', which was not seen",
            (FactReference(CONFIG_MAPS, "shop", "late"),),
            id="in-another-that-was-not-seen",
        ),
        pytest.param(
            [volume(secret={"secretName": "s"})],
            "/etc/config/x",
            SEEN,
            "is in Secret 's', which is not read",
            (),
            id="in-a-secret",
        ),
        pytest.param(
            [volume(emptyDir={})],
            "/etc/config/x",
            SEEN,
            "is in volume 'config', which is made from no ConfigMap",
            (),
            id="written-by-another-container",
        ),
        pytest.param(
            [], "/etc/config/x", SEEN, "is in volume 'config', which the pod doesn't have", (), id="no-such-volume"
        ),
    ],
)
def test_why_the_text_is_not_known(
    volumes: list[Object], path: str, known: ClusterFacts, why: str, unseen: tuple[FactReference, ...]
) -> None:
    assert found(volumes, [ETC], path, known) == File(why=why, unseen=unseen)


def test_texts_are_kept_and_nothing_else() -> None:
    obj = {**config_map(a_yml="x"), "binaryData": {"b.gz": "aGk="}}
    obj["data"]["port"] = 80  # the API server refuses it; a rendered chart may hold it
    assert read_fact(obj, [CONFIG_MAPS]) == (OF, ConfigMap("shop", "prometheus", {"a.yml": "x"}, frozenset({"b.gz"})))


def test_no_more_than_what_was_applied_is_known_of_a_kind_that_is_looked_up() -> None:
    """A dump of ConfigMaps is never complete: one that isn't in it may be in the cluster."""
    assert (CONFIG_MAPS in SEEN.known, CONFIG_MAPS.is_watched) == (False, False)
