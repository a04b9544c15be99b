"""`forestall check` on what people really have: what the API server refuses, dumps of clusters, folders of anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import DATA, container, limit_range, sized, workload
from tests.command import Run, Write, judged
from webhook.policy import Object

# --- What the API server refuses

REFUSALS: list[Any] = json.loads((DATA / "refusals.json").read_text())


@pytest.mark.parametrize(
    ("obj", "refused"),
    [
        pytest.param(case["object"], bool(case["refused"]), id=f"{case['object']['kind']}-{index}")
        for index, case in enumerate(REFUSALS)
    ],
)
def test_what_the_api_server_refuses_is_reported(write: Write, run: Run, obj: Object, refused: bool) -> None:
    write("config.yaml", "mode: audit")
    write("a.yaml", obj)
    errors = judged(run, "a.yaml", "--config", "config.yaml")["errors"]
    assert bool(errors) == refused
    assert all("which the API server refuses" in error["message"] for error in errors)


def test_a_request_above_its_limit(write: Write, run: Run) -> None:
    write("a.yaml", workload("Deployment", container(**sized("512Mi", "1Gi"))))
    ended = run("check", "a.yaml")
    path = "spec.template.spec.containers[0].resources.limits.memory"
    assert ended.code == 2
    assert ended.err == (
        f"error: a.yaml:22: Deployment: {path}: container 'web': its request for memory, 1Gi, is above the limit 512Mi"
        ", which the API server refuses: set it to 1Gi or more\n"
    )


def test_what_only_its_controller_refuses_is_no_error(write: Write, run: Run) -> None:
    rollout = {**workload("Deployment", container(**sized("512Mi", "1Gi"))), "apiVersion": "argoproj.io/v1alpha1"}
    write("a.yaml", {**rollout, "kind": "Rollout"})
    assert run("check", "a.yaml").code == 0


def test_a_limit_range_that_cannot_exist_gives_nothing(write: Write, run: Run) -> None:
    twice = limit_range()
    twice["spec"]["limits"] = [{"type": "Container", "default": {"memory": "1Gi"}}] * 2
    write("a.yaml", twice, workload("Pod"))
    document = judged(run, "a.yaml")
    (error,) = document["errors"]
    assert error["message"] == (
        "LimitRange: spec.limits[1].type: a second item of type Container, of which there may be one, which the API "
        "server refuses"
    )
    assert [result["outcome"] for result in document["results"]] == ["patched"]
