"""Mutations of JSON values and of bytes."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

Slot = tuple[Any, Any]
"""A map or list, and the key or index of one of its values."""

_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**30, 1e300),
    *("", "0", "1", "-1", "512m", "1Gi", "3Gi", "64Gi", "1e400", "0.3Gi", "9" * 400, "Mi", "NaN", " ", "*", "a.b[0]"),
    *(
        "x" * 2_000,
        "\x00",
        "\ud800",
        "\u2028",
        "zone-a",
        "data",
        "web",
        "Always",
        "In",
        "metrics",
        "9100",
        "30s",
        "1m",
        "9" * 30 + "y",
        "/",
        "/metrics?a",
        "Recreate",
        "50%",
        "None",
        "nginx@sha256:" + "0" * 64,
    ),
    *([], {}, [None], [[]], [{}], {"": None}, {"a": {}}, ["a", "a"]),
]
_KEYS = [
    *("metadata", "spec", "template", "labels", "annotations", "ownerReferences", "deletionTimestamp", "name"),
    *("containers", "initContainers", "resources", "limits", "requests", "memory", "restartPolicy", "image", "args"),
    *("volumes", "volumeMounts", "persistentVolumeClaim", "claimName", "ephemeral", "volumeClaimTemplate", "emptyDir"),
    *("volumeClaimTemplates", "storageClassName", "storage", "replicas", "shards", "nodeSelector", "affinity"),
    *("nodeAffinity", "nodeSelectorTerms", "matchExpressions", "values", "tolerations", "thanos", "jobTemplate"),
    *("ports", "port", "targetPort", "containerPort", "portNumber", "selector", "matchLabels", "namespaceSelector"),
    *("endpoints", "podMetricsEndpoints", "path", "interval", "scrapeTimeout", "scrapeInterval", "prober", "data"),
    *("strategy", "type", "rollingUpdate", "maxUnavailable", "accessModes", "volumeDevices", "mountPath", "subPath"),
    *("remoteWrite", "retention", "sizeLimit", "medium", "configMap", "env", "command", "prometheus.io/port"),
]


def mutated(value: Any, dice: random.Random) -> Any:
    """A copy with one to four changes, which mostly are about what policies read."""
    holder = [copy.deepcopy(value)]
    for _ in range(dice.randrange(1, 5)):
        slots = list(_slots(holder))
        parent, key = dice.choice(slots)
        match dice.randrange(7):
            case 0:
                parent[key] = copy.deepcopy(dice.choice(_ODD))
            case 1 if parent is not holder:
                del parent[key]
            case 2:
                other, its_key = dice.choice(slots)
                parent[key] = copy.deepcopy(other[its_key])
            case 3 if isinstance(parent, list) and parent is not holder:
                parent[key:key] = copy.deepcopy(parent[key : key + 1]) * dice.choice([1, 1, 3, 20])
            case 4 if isinstance(parent, dict):
                parent[dice.choice(_KEYS)] = parent.pop(key)
            case 5 if isinstance(parent, dict):
                other, its_key = dice.choice(slots)
                parent[dice.choice(_KEYS)] = copy.deepcopy(dice.choice([dice.choice(_ODD), other[its_key]]))
            case _:
                parent[key] = {dice.choice(_KEYS): parent[key]} if dice.random() < 0.5 else [parent[key]] * 2
    return holder[0]


def _slots(holder: list[Any]) -> Iterator[Slot]:
    waiting: list[Any] = [holder]
    while waiting:
        parent = waiting.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            yield parent, key
            if isinstance(parent[key], (dict, list)):
                waiting.append(parent[key])


_FRAGMENTS = [
    *(b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\0", b"\x1f", b"\xef\xbb\xbf", b"\xf0\x9f\x98", rb"\ud800", rb"\udc00"),
    *(rb"\u0000", b"\\", b'"', b'"a":', b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e400", b"-", b"1" * 400, b"e"),
    *(b"[" * 50, b'{"a":' * 50, b"[" * 5_000, b"{}", b"[]", b'"object":{', b'"status":', b'"managedFields":'),
    *(b"\n", b"\t", b"---\n", b"{{ .Values.x }}", b"&a ", b"*a", b"!!python/object:x", b"<<: ", b"? ", b"|\n", b"#"),
]


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """The bytes with one to six changes: something put in, left out, moved or repeated."""
    for _ in range(dice.randrange(1, 7)):
        at = dice.randrange(len(data) + 1)
        end = min(len(data), at + dice.choice([0, 1, 1, 2, 8, 64]))
        match dice.randrange(5):
            case 0:
                data = data[:at] + dice.choice(_FRAGMENTS) + data[end:]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
            case 3:
                to = dice.randrange(len(data) + 1)
                data = data[:to] + data[at:end] + data[to:]
            case _:
                data = data[: at if dice.random() < 0.1 else len(data)] + dice.choice(_FRAGMENTS) * dice.choice([0, 1])
    return data
