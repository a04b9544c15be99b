"""The checks of the configuration, and of what it says of the objects that are stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import config, container
from tests.doctor.surveys import FORBIDDEN, NOW, healthy, said, template
from tests.memory_cluster import MemoryCluster
from webhook.cluster.unseen import Unseen
from webhook.doctor.survey import StoredObjects, _stored
from webhook.errors import BadConfig
from webhook.loader import load_policies
from webhook.objects.facts import NO_FACTS
from webhook.policy import AdmissionRequest

USED, UNUSED = StoredObjects(used_exemptions={0}), StoredObjects()


class TestConfiguration:
    def test_mode_and_policies(self) -> None:
        modes = (
            f"{name} {loaded.policy.mode}" for name, loaded in load_policies().items() if loaded.policy.mode != "off"
        )
        assert said("configuration", healthy()) == [("ok", f"mode deny; {', '.join(modes)}")]

    def test_one_that_cannot_be_used(self) -> None:
        assert said("configuration", healthy(config=BadConfig("config.yaml:3: no policy x"))) == [
            ("fail", "config.yaml:3: no policy x")
        ]
        assert said("rules", healthy(config=BadConfig("no policy x"))) == [("unknown", "cannot tell: no policy x")]


EXEMPTION = "{policy: zonal-volumes, match: {namespaces: [a]%s}, owner: sre, reason: x, until: %s}"
NAMED = "exemptions[0] (zonal-volumes, owner sre)"


@pytest.mark.parametrize(
    ("match", "until", "stored", "expected"),
    [
        pytest.param("", "2026-11-20", UNUSED, [("warn", f"{NAMED} expired on 2026-11-20")], id="expired"),
        pytest.param("", "2026-11-21", USED, [("warn", f"{NAMED} ends today, on 2026-11-21")], id="today"),
        pytest.param("", "2026-12-05", USED, [("warn", f"{NAMED} ends in 14 days, on 2026-12-05")], id="soon"),
        pytest.param("", "2026-12-06", USED, [], id="later"),
        pytest.param(
            "", "2027-12-06", UNUSED, [("warn", f"{NAMED} covers nothing that is in the cluster")], id="unused"
        ),
        pytest.param("", "2027-12-06", FORBIDDEN, [("unknown", f"cannot tell whether {NAMED} is used")], id="not-seen"),
        pytest.param(
            "",
            "2027-12-06",
            StoredObjects(unseen=Unseen({"pods": "it is forbidden"})),
            [("unknown", f"cannot tell whether {NAMED} is used")],
            id="not-all-seen",
        ),
        pytest.param(", groups: [oncall]", "2027-12-06", UNUSED, [], id="by-who-asks"),
        pytest.param(", kinds: [Pod]", "2027-12-06", UNUSED, [], id="of-pods"),
    ],
)
def test_exemptions(match: str, until: str, stored: Any, expected: list[tuple[str, str]]) -> None:
    text = f"exemptions: [{EXEMPTION % (match, until)}]"
    found = said("configuration", healthy(config=config(text), stored=stored))
    assert found[:-1] == expected
    assert found[-1][0] == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "{mode: audit, overrides: [{match: {namespaces: [a]}, policies: {memory-limits: {mode: deny}}}]}",
            [("warn", "overrides[0].policies.memory-limits.mode is deny, capped by mode: audit")],
            id="capped",
        ),
        pytest.param(
            "overrides: [{match: {namespaces: [a]}, policies: {memory-limits: {mode: deny}}}]", [], id="not-capped"
        ),
    ],
)
def test_overrides(text: str, expected: list[tuple[str, str]]) -> None:
    assert said("configuration", healthy(config=config(text)))[:-1] == expected


def put(cluster: MemoryCluster, request: AdmissionRequest, **metadata: Any) -> None:
    obj = request.object or {}
    metadata = {**obj["metadata"], **metadata}
    cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", **obj, "metadata": metadata})


def test_which_exemptions_cover_something_that_is_stored() -> None:
    one = "{policy: memory-limits, match: {namespaces: [%s]}, owner: sre, reason: x, until: 2099-01-01}"
    cluster = MemoryCluster()
    put(cluster, template("web", "shop", container()))
    stored = _stored(cluster, config(f"exemptions: [{one % 'a'}, {one % 'shop'}]"), NO_FACTS, NOW)
    assert stored.used_exemptions == {1}


OWNER = {"apiVersion": "obs.example.com/v1", "kind": "Observatory", "name": "obs", "controller": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "",
            [
                (
                    "warn",
                    (
                        "what an operator makes for Observatory resources, written by obs-operator, is warned of: "
                        "Deployment shop/web"
                    ),
                )
            ],
            id="lacks-it",
        ),
        pytest.param(
            "controllers: ['system:serviceaccount:obs:obs-operator']",
            [("ok", "nothing that operators made is warned of")],
            id="has-it",
        ),
        pytest.param("mode: audit", [("ok", "nothing that operators made is warned of")], id="nothing-is-printed"),
    ],
)
def test_what_operators_made(text: str, expected: list[tuple[str, str]]) -> None:
    cluster = MemoryCluster()
    fields = [{"manager": "kubelet", "subresource": "status"}, {"manager": "obs-operator"}]
    put(cluster, template("web", "shop", container()), ownerReferences=[OWNER], managedFields=fields)
    put(cluster, template("own", "shop", container()))
    stored = _stored(cluster, config(text), NO_FACTS, NOW)
    assert said("operators", healthy(config=config(text), stored=stored)) == expected


def test_what_operators_made_can_not_be_told() -> None:
    survey = healthy(stored=StoredObjects(unseen=Unseen({"deployments.apps": "it is forbidden"})))
    assert said("operators", survey) == [
        ("unknown", "cannot tell: what operators made of deployments.apps: it is forbidden")
    ]
