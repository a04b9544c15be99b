"""One decision, without any server around it: by the default configuration, with all policies on, and with one."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from statistics import median
from time import perf_counter_ns
from typing import Any

import msgspec

from bench.figures import Figure, interleaved
from bench.inputs import large_cluster, read_recordings, small_cluster
from webhook.config import Config, load_config
from webhook.engine import decide
from webhook.loader import fact_kinds
from webhook.objects.facts import ClusterFacts, facts_of
from webhook.policy import AdmissionRequest, Stage
from webhook.server.review import read_review, render_review

_ROUNDS = 7
_DECODING = "msgspec.json.decode"
_CALLS = 100

_CONFIG = load_config(b"", "defaults")
_ALL_ON = load_config(
    json.dumps(
        {"policies": {name: {"mode": "warn"} for name, active in _CONFIG.policies.items() if active.mode == "off"}}
    ).encode(),
    "all policies on",
)
_FACTS = facts_of(small_cluster(), fact_kinds())
_TODAY = datetime.now(UTC).date()
_STAGES: tuple[Stage, ...] = ("mutate", "validate")


def measure() -> list[Figure]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # as the server sets it
    recorded = {stage: _recorded_deployment(stage) for stage in _STAGES}
    return [
        *_of_recorded(recorded),
        *_of_policies(recorded["validate"]),
        *_of_growth(recorded["mutate"]),
        *_of_clusters(recorded["validate"]),
    ]


def _recorded_deployment(stage: Stage) -> bytes:
    """What the API server posted for a person's Deployment of two containers, one of them without a limit."""
    return next(
        json.dumps(line["review"], separators=(",", ":")).encode()
        for line in read_recordings("people.jsonl")
        if line["path"].startswith(f"/{stage}") and _is_created_pair(line["review"]["request"])
    )


def _is_created_pair(request: dict[str, Any]) -> bool:
    return (
        request["kind"]["kind"] == "Deployment"
        and request["operation"] == "CREATE"
        and len(request["object"]["spec"]["template"]["spec"]["containers"]) == 2
    )


def _of_recorded(recorded: dict[Stage, bytes]) -> list[Figure]:
    figures = []
    for stage, body in recorded.items():
        found = interleaved(
            {
                "decide": partial(_decide_microseconds, body, stage),
                "answer": partial(_microseconds, partial(_answer, body, stage)),
                "decode": partial(_microseconds, partial(msgspec.json.decode, body)),
            },
            _ROUNDS,
        )
        figures += [
            Figure(f"decide, {stage}; {_DECODING}", found["decide"], "µs", found["decode"], ratio_at_most=13),
            Figure(f"bytes to bytes, {stage}; {_DECODING}", found["answer"], "µs", found["decode"], ratio_at_most=26),
        ]
    return figures


def _of_policies(body: bytes) -> list[Figure]:
    """What each policy adds to a decision, and what those that are off by themselves add together."""
    none = replace(_ALL_ON, policies={})
    alone = {name: replace(_ALL_ON, policies={name: active}) for name, active in _ALL_ON.policies.items()}
    configs = {"default": _CONFIG, "all": _ALL_ON, "": none, **alone}
    measures = {name: partial(_decide_microseconds, body, "validate", config) for name, config in configs.items()}
    found = interleaved(measures, _ROUNDS)
    what = "decide, validate, all policies on; those that are on by themselves"
    return [
        Figure(what, found["all"], "µs", found["default"], ratio_at_most=1.3),
        *(Figure(f"{name} alone, what it adds to a decision", found[name] - found[""], "µs") for name in alone),
    ]


def _of_growth(body: bytes) -> list[Figure]:
    """Microseconds for each container, in pods of ten and of five hundred: equal if the time grows linearly."""
    figures = []
    for state, limit in (("limits there", "64Mi"), ("limits missing", None)):
        for stage in _STAGES:
            measures = {
                count: partial(_container_microseconds, _with_containers(body, count, limit), count, stage)
                for count in (10, 500)
            }
            found = interleaved(measures, _ROUNDS)
            what = f"a container among 500, {stage}, {state}; among 10"
            figures.append(Figure(what, found[500], "µs", found[10], ratio_at_most=1.5))
    return figures


def _of_clusters(body: bytes) -> list[Figure]:
    """Microseconds for monitoring software on a bound volume, in clusters of 1,000 and of 3 nodes: about equal."""
    mounting = read_review(_with_claim(body))
    clusters = {
        size: facts_of([item for some in large_cluster(*size).values() for item in some], fact_kinds())
        for size in ((10, 3), (10_000, 1_000))
    }
    measures = {size: partial(_microseconds, partial(_decided, mounting, known)) for size, known in clusters.items()}
    found = interleaved(measures, _ROUNDS)
    what = "decide, a bound volume among 10,000, and 1,000 nodes; among 10, and 3"
    return [Figure(what, found[10_000, 1_000], "µs", found[10, 3], ratio_at_most=2)]


def _with_claim(body: bytes) -> bytes:
    review = json.loads(body)
    review["request"]["namespace"] = "team-1"
    spec = review["request"]["object"]["spec"]["template"]["spec"]
    spec["containers"][0]["image"] = "prom/prometheus:v3.5.0"
    spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data-app-1-0"}}]
    return json.dumps(review, separators=(",", ":")).encode()


def _decided(request: AdmissionRequest, known: ClusterFacts) -> object:
    return decide(request, known, _CONFIG, today=_TODAY, stage="validate")


def _container_microseconds(body: bytes, count: int, stage: Stage) -> float:
    return _microseconds(partial(_answer, body, stage), max(3, 300 // count)) / count


def _with_containers(body: bytes, count: int, limit: str | None) -> bytes:
    review = json.loads(body)
    spec = review["request"]["object"]["spec"]["template"]["spec"]
    model = spec["containers"][0] | {"resources": {"limits": {"memory": limit}} if limit else {}}
    spec["containers"] = [copy.deepcopy(model) | {"name": f"container-{index}"} for index in range(count)]
    return json.dumps(review, separators=(",", ":")).encode()


def _answer(body: bytes, stage: Stage) -> bytes:
    request = read_review(body)
    return render_review(request, decide(request, _FACTS, _CONFIG, today=_TODAY, stage=stage), stage, _CONFIG)


def _microseconds(call: Callable[[], object], calls: int = _CALLS) -> float:
    """The median time of several calls."""
    times = []
    for _ in range(calls):
        began = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - began)
    return median(times) / 1000


def _decide_microseconds(body: bytes, stage: Stage, config: Config = _CONFIG) -> float:
    times = []
    for _ in range(_CALLS):
        # A new request each time, since a request keeps what was once read from it.
        request = read_review(body)
        began = perf_counter_ns()
        decide(request, _FACTS, config, today=_TODAY, stage=stage)
        times.append(perf_counter_ns() - began)
    return median(times) / 1000
