"""Where containers and their resources are found, in each kind. The policies' verdicts have tests of their own."""

from __future__ import annotations

import copy
import json
from functools import reduce
from typing import Any

import msgspec
import pytest

from tests.builders import DATA, container, custom, request, sized, workload
from webhook.errors import BadObject
from webhook.objects.pods import WORKLOADS, Workload, read_workload
from webhook.policy import AdmissionRequest, Object


def read(obj: Object) -> Workload:
    found = read_workload(request(obj))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "version",
    ["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2", "apps/v1", "apps/v9"],
)
def test_a_kind_is_known_whatever_its_version(version: str) -> None:
    found = read({**workload(), "apiVersion": version})
    assert [container.path for container in found.containers] == ["spec.template.spec.containers[0]"]


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("argoproj.io/v1alpha1", "Rollout"),
        ("apps.kruise.io/v1alpha1", "CloneSet"),
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("apps.openshift.io/v1", "DeploymentConfig"),
    ],
)
def test_kinds_of_others_that_ship_built_in(version: str, kind: str) -> None:
    assert len(read({**workload(), "apiVersion": version, "kind": kind}).containers) == 1


@pytest.mark.parametrize(
    ("group", "kind"), [("example.com", "Deployment"), ("", "Service"), ("apps", "Scale"), ("", "Deployment")]
)
def test_other_kinds_are_none(group: str, kind: str) -> None:
    obj = {**workload(), "apiVersion": f"{group}/v1" if group else "v1", "kind": kind}
    assert read_workload(request(obj)) is None


def test_every_kind_has_a_plural_and_is_there_once() -> None:
    assert len({(kind.group, kind.kind) for kind in WORKLOADS}) == len(WORKLOADS)
    assert all(kind.resource.islower() for kind in WORKLOADS)


def test_roles_and_their_order() -> None:
    pod = workload(
        "Pod", container("app"), initContainers=[container("init"), container("side", restartPolicy="Always")]
    )
    assert [(container.name, container.role) for container in read(pod).containers] == [
        ("init", "init"),
        ("side", "sidecar"),
        ("app", "container"),
    ]


@pytest.mark.parametrize(
    "obj",
    [
        workload("Pod", initContainers=None, volumes=None, resources=None),
        workload("Pod", container(resources={"limits": None, "requests": None})),
        {**workload(), "spec": {"template": None}},
        {**workload(), "spec": None},
    ],
)
def test_nulls_read_as_absent(obj: Object) -> None:
    assert all(container.memory("limits") is None for container in read(obj).containers)


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        ({**workload("Pod"), "spec": "x"}, "spec is a string ('x'), not a map"),
        (workload("Pod", initContainers={}), "spec.initContainers is a map, not a list"),
        (workload("Pod", initContainers=["x"]), "spec.initContainers[0] is a string ('x'), not a map"),
        (workload("Pod", container(resources=1)), "spec.containers[0].resources is a number, not a map"),
        (workload("Pod", container(True)), "spec.containers[0].name is a boolean, not a string"),
        (workload("Pod", container(image=1.27)), "spec.containers[0].image is a number, not a string"),
        (custom("Prometheus", {"containers": [{"name": []}]}), "spec.containers[0].name is a list, not a string"),
        (
            custom("Prometheus", {"containers": [{"name": "prometheus", "image": True}]}),
            "spec.containers[0].image is a boolean, not a string",
        ),
        (
            workload("Pod", container(resources={"limits": True})),
            "spec.containers[0].resources.limits is a boolean, not a map",
        ),
        ({**workload(), "spec": {"template": []}}, "spec.template is a list, not a map"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(obj: Object, error: str) -> None:
    with pytest.raises(BadObject) as caught:
        read(obj)
    assert str(caught.value) == error


NULLS = json.loads((DATA / "nulls.json").read_text())


def put(obj: Object, path: list[str | int], value: Any) -> Object:
    """A copy with another value at the path."""
    changed = copy.deepcopy(obj)
    *parents, last = path
    reduce(lambda parent, key: parent[key], parents, changed)[last] = value
    return changed


def amounts(obj: Object, sent: Any) -> list[tuple[str, int | None]]:
    """Of the parts that were sent, what the container or the pod has."""
    found = read(obj)
    (container,) = found.containers
    return [
        (part, container.amount(part) if container.resources else found.amount(part))
        for part in ("limits", "requests")
        if part in (sent or {})
    ]


@pytest.mark.parametrize(
    "case",
    [case for case in NULLS if case["sent"]["kind"] != "LimitRange" and not isinstance(case["create"], str)],
    ids=lambda case: f"{case['sent']['kind']}-{case['path'][-2]}-{json.dumps(case['create'])}",
)
def test_null_amounts_are_read_as_the_api_server_reads_them(case: dict[str, Any]) -> None:
    sent = reduce(lambda parent, key: parent[key], case["path"], case["sent"])
    assert amounts(case["sent"], sent) == amounts(put(case["sent"], case["path"], case["create"]), sent)


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_a_limit_of_null_is_one_of_0(kind: str) -> None:
    """Which the API server says as it refuses a request above it."""
    refused = [case for case in NULLS if case["sent"]["kind"] == kind and isinstance(case["create"], str)]
    assert len(refused) == 2
    for case in refused:
        assert "must be less than or equal to memory limit of 0" in case["create"]
        sent = reduce(lambda parent, key: parent[key], case["path"], case["sent"])
        assert amounts(case["sent"], sent) == [("limits", 0), ("requests", 2**30)]


def test_amounts() -> None:
    (found,) = read(workload("Pod", container(**sized("1Gi", 1024)))).containers
    assert (found.memory("limits"), found.amount("limits"), found.amount("requests")) == ("1Gi", 2**30, 1024)
    assert read(workload("Pod", resources={"limits": {"memory": "2Gi"}})).amount("limits") == 2**31


@pytest.mark.parametrize(
    ("spec", "name", "limit", "path"),
    [
        pytest.param(sized("1Gi"), "prometheus", "1Gi", "spec.resources.limits.memory", id="the-resource's-own"),
        pytest.param(
            {**sized("1Gi"), "containers": [container("prometheus", **sized("2Gi"))]},
            "prometheus",
            "2Gi",
            "spec.containers[0].resources.limits.memory",
            id="amended",
        ),
        pytest.param(
            {**sized("1Gi"), "containers": [container("x"), container("prometheus", **sized(None, "2Gi"))]},
            "prometheus",
            "1Gi",
            "spec.resources.limits.memory",
            id="amended-elsewhere",
        ),
        pytest.param(
            {**sized("1Gi"), "containers": [container("prometheus", resources={"limits": {"memory": None}})]},
            "prometheus",
            "1Gi",
            "spec.resources.limits.memory",
            id="amended-by-null",
        ),
        pytest.param(
            {"thanos": sized("1Gi")}, "thanos-sidecar", "1Gi", "spec.thanos.resources.limits.memory", id="thanos"
        ),
    ],
)
def test_where_an_operator_s_container_has_its_memory(spec: Object, name: str, limit: str, path: str) -> None:
    (found,) = [container for container in read(custom("Prometheus", spec)).containers if container.name == name]
    assert (found.memory("limits"), found.memory_path("limits")) == (limit, path)


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        pytest.param(
            "Prometheus",
            {"thanos": {}, "containers": [container("thanos-sidecar")]},
            ["prometheus", "thanos-sidecar"],
            id="thanos-is-amended",
        ),
        pytest.param(
            "Prometheus",
            {"containers": [container("thanos-sidecar")]},
            ["thanos-sidecar", "prometheus"],
            id="no-thanos-to-amend",
        ),
        pytest.param(
            "Alertmanager",
            {"thanos": {}, "containers": [container("thanos-sidecar")]},
            ["thanos-sidecar", "alertmanager"],
            id="thanos-elsewhere",
        ),
        pytest.param(
            "Alertmanager",
            {
                "initContainers": [container("config-reloader"), container("init-config-reloader")],
                "containers": [container("config-reloader"), container("init-config-reloader")],
            },
            ["config-reloader", "init-config-reloader", "alertmanager"],
            id="a-reloader-is-amended-in-its-own-list",
        ),
    ],
)
def test_what_only_amends_an_operator_s_container(kind: str, spec: Object, expected: list[str]) -> None:
    assert [container.name for container in read(custom(kind, spec)).containers] == expected


@pytest.mark.parametrize(
    ("spec", "mounts"),
    [
        ({"volumeMounts": [{"name": "own"}]}, ["own"]),
        ({"volumeMounts": [{"name": "own"}], "containers": [{"name": "prometheus"}]}, ["own"]),
        (
            {
                "volumeMounts": [{"name": "own"}],
                "containers": [{"name": "prometheus", "volumeMounts": [{"name": "more"}]}],
            },
            ["own", "more"],
        ),
        ({"containers": [{"name": "prometheus", "volumeMounts": None}]}, []),
    ],
)
def test_an_amended_container_has_the_mounts_of_both(spec: Object, mounts: list[str]) -> None:
    (found,) = read(custom("Prometheus", spec)).containers
    assert [mount["name"] for mount in found.spec["volumeMounts"]] == mounts


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({}, "quay.io/prometheus/prometheus"),
        ({"version": "v3.1.0"}, "quay.io/prometheus/prometheus:v3.1.0"),
        ({"baseImage": "mirror/prometheus", "tag": "v2", "version": "v3.1.0"}, "mirror/prometheus:v2"),
        ({"version": "v3.1.0", "sha": "0" * 64}, "quay.io/prometheus/prometheus"),
        ({"image": "mirror/prometheus:v3", "version": "v2.1.0"}, "mirror/prometheus:v3"),
        ({"image": "x", "containers": [{"name": "prometheus", "image": "y"}]}, "y"),
    ],
)
def test_an_operator_s_image(spec: Object, image: str) -> None:
    (found,) = read(custom("Prometheus", spec)).containers
    assert found.image == image


def test_a_workload_is_read_once_and_kept_with_its_request_alone() -> None:
    first, second = request(workload(name="a")), request(workload(name="b"))
    found = read_workload(first)
    assert [read_workload(pod).name for pod in (first, second, first)] == ["a", "b", "a"]
    assert read_workload(first) is found
    patched = msgspec.structs.replace(first, object=second.object)
    assert read_workload(patched).object is second.object
    assert read_workload(AdmissionRequest("DELETE", "apps", "v1", "Deployment", "shop", "web", None)) is None
