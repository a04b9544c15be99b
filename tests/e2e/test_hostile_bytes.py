"""What the API server's decoder takes and another might not, sent as raw bytes: nothing of it leads past a policy."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.e2e.guarded import Guarded, deployment, memory_of
from tests.loopback import eventually
from webhook.objects.repair import repair
from webhook.objects.wire import MANAGED_FIELDS, cut

Object = dict[str, Any]

DEEP = 9_900
"""Levels of nesting in a value: the API server takes 10,000 in all."""

TEXTS = {
    "plain": b"a",
    "no-utf-8": b"a\xff",
    "overlong": b"\xc0\x80",
    "half-a-pair-in-utf-8": b"\xed\xa0\x80",
    "cut-off-utf-8": b"a\xf0\x9f",
    "first-half-of-a-pair": rb"a\ud800",
    "second-half-of-a-pair": rb"\udc00a",
    "nul": rb"a\u0000b",
    "delete-and-byte-order-mark": b"a\x7f\xef\xbb\xbf",
    "line-separators": rb"\u2028\r\n\u0085",
    "escaped-quotes": rb"\"object\":{\"status\":",
    "escaped-six-times": b"<" * 150_000,
}
VALUES = {
    "deep-lists": b"[" * DEEP + b"]" * DEEP,
    "deep-maps": b'{"f:a":' * DEEP + b"{}" + b"}" * DEEP,
    "no-utf-8-in-a-key": b'{"f:\xff":{}}',
    "half-a-pair-in-a-key": rb'{"f:\ud800":{}}',
    "a-key-twice": b'{"f:a":{},"f:a":{}}',
    "above-what-floats-hold": b'{"f:a":1e400}',
    "400-digits": b'{"f:a":' + b"1" * 400 + b"}",
    "minus-zero": b'{"f:a":-0}',
    "many-maps": b"{" + b",".join(b'"f:%d":{}' % number for number in range(40_000)) + b"}",
}

PLACES = {
    "annotation": ("metadata", "annotations", "note"),
    "template-annotation": ("spec", "template", "metadata", "annotations", "note"),
    "command": ("spec", "template", "spec", "containers", 0, "command", 0),
    "argument": ("spec", "template", "spec", "containers", 0, "args", 0),
    "environment-variable": ("spec", "template", "spec", "containers", 0, "env", 0, "value"),
    "working-directory": ("spec", "template", "spec", "containers", 0, "workingDir"),
    "volume-path": ("spec", "template", "spec", "volumes", 0, "hostPath", "path"),
    "mount-path": ("spec", "template", "spec", "containers", 0, "volumeMounts", 0, "subPath"),
    "hook-command": ("spec", "template", "spec", "containers", 0, "lifecycle", "preStop", "exec", "command", 0),
    "probe-header": (
        "spec",
        "template",
        "spec",
        "containers",
        0,
        "livenessProbe",
        "httpGet",
        "httpHeaders",
        0,
        "value",
    ),
    "manager": ("metadata", "managedFields", 0, "manager"),
    "status": ("status", "conditions", 0, "message"),
    "unknown-field": ("spec", "unknown"),
}
FIELDS_V1 = ("metadata", "managedFields", 0, "fieldsV1")


# The kinds by a name of their own: built in, and one whose unknown fields are stored, and judged at spec.template.spec.
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Rollout": "/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts",
}
ROLLOUTS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rollouts.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "names": {"kind": "Rollout", "plural": "rollouts"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class Verdict(NamedTuple):
    """The API server's answer, the memory limit that was patched in, and the policies that our denial names."""

    status: int
    limit: str | None
    policies: list[str]


PATCHED = Verdict(201, "512Mi", [])
REFUSED = Verdict(400, None, [])
"""By the API server itself."""
DENIED = Verdict(403, None, ["prometheus-memory"])


@pytest.fixture(scope="module")
def rollouts(cluster: Guarded) -> None:
    cluster.apply(ROLLOUTS)
    eventually(lambda: cluster.try_kubectl("get", "rollouts").returncode == 0, "the API server serves no rollouts")


def send(cluster: Guarded, path: str, body: bytes, method: str = "POST", kind: str = "application/json") -> Verdict:
    user = json.loads(cluster.plane.kubeconfig.read_text())["users"][0]["user"]
    headers = {"Content-Type": kind, "Authorization": f"Bearer {user['token']}"}
    request = urllib.request.Request(cluster.plane.server + path, body, headers, method=method)
    context = ssl.create_default_context(cafile=str(cluster.plane.folder / "certs/apiserver.crt"))
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            obj = msgspec.json.decode(repair(cut(answer.read(), MANAGED_FIELDS)))
            return Verdict(answer.status, memory_of(obj)[1] if obj["kind"] in KINDS else None, [])
    except urllib.error.HTTPError as error:
        with error:
            message = str(json.load(error)["message"])
        return Verdict(
            error.code, None, re.findall(r"(?<=docs/)\S+|prometheus-memory(?=:)|.* is invalid.*", message)[:1]
        )


def put(obj: Any, path: tuple[str | int, ...], value: object) -> Any:
    """The object with the value at the path, and whatever is missing on the way."""
    if not path:
        return value
    key, *further = path
    if isinstance(key, int):
        return [put((obj or [{}])[0], tuple(further), value)]
    return {**(obj or {}), key: put((obj or {}).get(key), tuple(further), value)}


def with_bytes(obj: Object, path: tuple[str | int, ...], value: bytes) -> bytes:
    mark = "here it goes"
    return json.dumps(put(obj, path, mark)).encode().replace(f'"{mark}"'.encode(), value)


def workload(kind: str, namespace: str, name: str, image: str) -> Object:
    """Something with a container that has no limits."""
    container = {
        "name": "web",
        "image": image,
        "env": [{"name": "NAME"}],
        "livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "Name", "value": ""}]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    obj = deployment(name, namespace, container, replicas=0, volumes=[{"name": "data", "hostPath": {"path": "/data"}}])
    version = "apps/v1" if kind == "Deployment" else "argoproj.io/v1alpha1"
    entry = {"manager": "me", "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": {}}
    obj["metadata"]["managedFields"] = [entry]
    return {**obj, "apiVersion": version, "kind": kind}


def verdicts(
    cluster: Guarded, namespace: str, kind: str, value: bytes, places: dict[str, tuple[str | int, ...]]
) -> dict[str, tuple[Verdict, Verdict]]:
    """By place: of a workload that is patched, and of one that is denied."""
    path = KINDS[kind].format(namespace)
    return {
        name: tuple(
            send(cluster, path, with_bytes(workload(kind, namespace, name, image), place, value))
            for image in ("nginx:1.27", "prom/prometheus:v3.1.0")
        )
        for name, place in places.items()
    }


@pytest.fixture
def none_undecided(cluster: Guarded) -> Iterator[None]:
    before = len(cluster.server.log("review undecided"))
    yield
    assert cluster.server.log("review undecided")[before:] == []
    assert cluster.server.log("refused") == []


@pytest.mark.usefixtures("rollouts", "none_undecided")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_text(cluster: Guarded, namespace: str, kind: str, text: bytes) -> None:
    places = {
        name: place for name, place in PLACES.items() if kind == "Deployment" or name in ("annotation", "argument")
    }
    found = verdicts(cluster, namespace, kind, b'"' + text + b'"', places)
    assert found == dict.fromkeys(places, (PATCHED, DENIED))


@pytest.mark.usefixtures("rollouts", "none_undecided")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in VALUES.items()])
def test_value(cluster: Guarded, namespace: str, kind: str, value: bytes) -> None:
    places = {"fields": FIELDS_V1, "spec": ("spec", "unknown"), "status": ("status", "unknown"), "root": ("unknown",)}
    # What a custom resource holds the API server decodes as values, whichever field it is: no float holds these.
    is_taken = kind == "Deployment" or value not in (VALUES["above-what-floats-hold"], VALUES["400-digits"])
    found = verdicts(cluster, namespace, kind, value, places)
    assert found == dict.fromkeys(places, (PATCHED, DENIED) if is_taken else (REFUSED, REFUSED))


@pytest.mark.usefixtures("none_undecided")
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in VALUES.items()])
def test_what_was_stored_before_shields_no_change(cluster: Guarded, old_namespace: str, value: bytes) -> None:
    path = KINDS["Deployment"].format(old_namespace)
    body = with_bytes(workload("Deployment", old_namespace, "web", "nginx:1.27"), FIELDS_V1, value)
    assert send(cluster, path, body) == Verdict(201, None, [])
    cluster.guard(old_namespace)
    change = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "prom/prometheus:v3.1.0"}]}}}}
    merge = "application/strategic-merge-patch+json"
    assert send(cluster, f"{path}/web", json.dumps(change).encode(), "PATCH", merge) == DENIED


def test_what_is_too_large_at_mutate_is_judged_as_it_is_stored(cluster: Guarded, namespace: str) -> None:
    """A status is dropped before anything is stored; with it, defaulted, the review has 28 MB."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace}}
    pod["spec"] = {"containers": [{"name": "web", "image": "nginx:1.27"}]}
    body = with_bytes(pod, ("status", "containerStatuses"), b"[" + b",".join([b"{}"] * 300_000) + b"]")
    answer = send(cluster, f"/api/v1/namespaces/{namespace}/pods", body)
    assert answer.status == 403
    (line,) = cluster.server.log("review undecided", namespace=namespace)
    assert (line["stage"], line["kind"], line["name"]) == ("mutate", "Pod", "web")
    assert line["reason"] == "it is larger than 20 MiB"
