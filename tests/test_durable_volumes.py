"""metrics-durability and zonal-volumes hand in hand: what the one's message asks for, the other doesn't forbid."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import pytest

from policies.metrics_durability import policy as durability
from policies.zonal_volumes import policy as zonal
from policies.zonal_volumes.replacement import Replacement
from tests.builders import SHARED, custom, facts_of, request
from tests.test_zonal_volumes import THREE_ZONES, storage_class
from webhook.files.manifests import read_manifests
from webhook.fixes import apply_sets
from webhook.objects.mounts import mount_at
from webhook.objects.pods import read_workload
from webhook.objects.prometheus import flag_value, series_containers
from webhook.policy import Object, Violation

CORPUS = SHARED / "corpus"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts beside the checkout")
ZRS = storage_class("zrs", "disk.csi.azure.com", parameters={"skuName": "Premium_ZRS"})
EMPTY = {"emptyDir": {"sizeLimit": "50Gi"}}
REMOTE = [{"url": "https://example.com/push"}]


class Chart:
    """A rendered chart in a cluster of three zones, whose classes make zonal disks, and which has these besides."""

    def __init__(self, objects: list[Object], *classes: Object) -> None:
        self.objects, self.classes = copy.deepcopy(objects), classes

    def prometheuses(self) -> Iterator[int]:
        """Where each workload stands that keeps series."""
        for index, obj in enumerate(self.objects):
            found = read_workload(request(obj))
            if found is not None and series_containers(found):
                yield index

    def violations(self, index: int) -> list[Violation]:
        known = facts_of([*THREE_ZONES, *self.classes, *self.objects])
        asked = request(self.objects[index])
        found = [*durability.examine(asked, known, durability.Params()), *zonal.examine(asked, known, zonal.Params())]
        return [violation for violation in found if violation.at_most != "audit"]

    def with_remote_write(self, index: int) -> Chart:
        """The series are sent elsewhere, and on an emptyDir with a limit."""
        changed = Chart(self.objects, *self.classes)
        obj = changed.objects[index]
        found = read_workload(request(obj))
        assert found is not None
        if found.is_operated:
            obj["spec"] |= {"remoteWrite": REMOTE, "storage": EMPTY}
            return changed
        (server,) = series_containers(found)
        mount = mount_at(server, flag_value(server, "storage.tsdb.path") or "")
        assert mount is not None
        spec = obj["spec"]["template"]["spec"]
        others = [volume for volume in spec["volumes"] if volume["name"] != mount.volume]
        spec["volumes"] = [*others, {"name": mount.volume, **EMPTY}]
        obj["spec"].pop("volumeClaimTemplates", None)
        for config in changed.objects:
            if config["kind"] == "ConfigMap" and "prometheus.yml" in (config.get("data") or {}):
                config["data"]["prometheus.yml"] += f"\nremote_write: {REMOTE}\n"
        return changed

    def with_advice(self, index: int, violation: Violation) -> Chart:
        """What the violation's message says is set, in the object and in the claims that it names."""
        changed = Chart(self.objects, *self.classes)
        for advised in violation.advice:
            at = self._claim(advised.of.partition("/")[2]) if advised.of else index
            _, changed.objects[at] = apply_sets(changed.objects[at], [advised])
        return changed

    def _claim(self, name: str) -> int:
        return next(
            index
            for index, obj in enumerate(self.objects)
            if obj["kind"] == "PersistentVolumeClaim" and obj["metadata"]["name"] == name
        )


@cache
def charts() -> dict[str, list[Object]]:
    return {
        str(path.relative_to(CORPUS)): [found.object for found in read_manifests(path.read_bytes(), path.name)[0]]
        for path in sorted(CORPUS.glob("*/*.yaml"))
    }


@needs_corpus
@pytest.mark.parametrize("classes", [(), (ZRS,)], ids=["zonal-disks-alone", "a-class-that-spans-zones"])
def test_every_message_names_a_change_that_satisfies_both(classes: tuple[Object, ...]) -> None:
    """Series that are sent elsewhere satisfy both policies. What a message has set does, too, or it names that."""
    looked_at, told = 0, 0
    for name, objects in charts().items():
        chart = Chart(objects, *classes)
        for index in chart.prometheuses():
            looked_at += 1
            assert chart.with_remote_write(index).violations(index) == [], name
            for violation in chart.violations(index):
                if violation.path.endswith(".sizeLimit"):
                    continue  # it says what to do if the emptyDir stays: it stays above
                told += 1
                by_advice = bool(violation.advice) and chart.with_advice(index, violation).violations(index) == []
                assert by_advice or "remote_write" in violation.message, f"{name}: {violation.message}"
                assert by_advice or not violation.advice, f"{name}: followed, it is refused again"
    assert (looked_at, told) == (18, 17)


EMPTY_DIR = zonal.Params(replacement=Replacement(empty_dir=True))
TEMPLATE = {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "50Gi"}}}}}


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        pytest.param(
            custom("Prometheus", {"storage": TEMPLATE}),
            "use an emptyDir with a sizeLimit, and have the series sent elsewhere by remote_write",
            id="it-keeps-its-series",
        ),
        pytest.param(
            custom("Prometheus", {"storage": TEMPLATE, "remoteWrite": REMOTE}),
            "use an emptyDir with a sizeLimit",
            id="it-sends-them",
        ),
        pytest.param(
            custom("PrometheusAgent", {"storage": TEMPLATE}), "use an emptyDir with a sizeLimit", id="an-agent"
        ),
        pytest.param(custom("Alertmanager", {"storage": TEMPLATE}), "use an emptyDir with a sizeLimit", id="no-series"),
    ],
)
def test_an_empty_dir_for_a_zonal_volume_costs_the_series(obj: Object, words: str) -> None:
    (violation,) = zonal.examine(request(obj), facts_of(THREE_ZONES), EMPTY_DIR)
    assert violation.message.rpartition(", or ")[2] == words


PIN = 'spec.nodeSelector["topology.kubernetes.io/zone"]'


@pytest.mark.parametrize(
    ("nodes", "classes", "words", "advice"),
    [
        pytest.param(
            THREE_ZONES,
            [],
            "on a persistent volume, with its pods pinned to one zone (nodeSelector topology.kubernetes.io/zone: "
            "us-east-1a)",
            {"spec.storage": None, PIN: "us-east-1a"},
            id="zonal-disks-alone",
        ),
        pytest.param(
            THREE_ZONES, [ZRS], "on a persistent volume of class zrs", {"spec.storage": "zrs"}, id="a-class-that-spans"
        ),
        pytest.param(
            [*THREE_ZONES[:1], *THREE_ZONES[3:]],
            [],
            "on a persistent volume of class gp2",
            {"spec.storage": "gp2"},
            id="one-zone-is-reached-by-every-disk",
        ),
        pytest.param(
            [],
            [storage_class("efs", "efs.csi.aws.com")],
            "on a persistent volume that its pods reach in every zone",
            {"spec.storage": None},
            id="prometheus-keeps-nothing-on-a-file-share",
        ),
    ],
)
def test_the_volume_is_one_that_the_pods_reach(
    nodes: list[Object], classes: list[Object], words: str, advice: dict[str, str | None]
) -> None:
    [violation] = durability.examine(
        request(custom("Prometheus", {"storage": EMPTY})), facts_of([*nodes, *classes]), durability.Params()
    )
    assert violation.message.endswith(f", or keep them {words}")
    found: dict[str, str | None] = {}
    for advised in violation.advice:
        is_storage = advised.path == "spec.storage"
        value = advised.value
        found[advised.path] = value["volumeClaimTemplate"]["spec"].get("storageClassName") if is_storage else value
    assert found == advice


def test_what_is_no_prometheus_may_be_on_a_file_share() -> None:
    known = facts_of([*THREE_ZONES, storage_class("efs", "efs.csi.aws.com")])
    [violation] = durability.examine(request(custom("Alertmanager", {"storage": EMPTY})), known, durability.Params())
    assert violation.message.endswith(", or keep them on a persistent volume of class efs")
