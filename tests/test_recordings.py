"""What a real API server sent: every review is answered, and server, `decide` and `check` say the same of it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.builders import KINDS, ROOT, SHARED, TODAY, config, limit_range
from tests.served import Client, Server, post, served
from webhook.check import check_files
from webhook.engine import decide
from webhook.files.facts import read_facts
from webhook.messages import denial, warnings
from webhook.objects.facts import ClusterFacts
from webhook.policy import AdmissionRequest, Decision, Stage
from webhook.scope import scope_of
from webhook.server.review import read_review, render_review

Review = dict[str, Any]

SELECTION = ROOT / "tests" / "data" / "recordings" / "people.jsonl"
"""What each kind of request looks like, once."""
is_missing = pytest.mark.skipif(not (SHARED / "recordings").is_dir(), reason="needs the recordings beside the checkout")
FILES = [
    pytest.param(SELECTION, id="selection"),
    *(
        pytest.param(SHARED / "recordings" / f"{name}.jsonl", marks=is_missing, id=name)
        for name in ("people", "charts")
    ),
]
CONFIG = config("mode: deny")  # as the server has it
ZONES = ("zone-a", "zone-b", "zone-c")
OBJECTS = [
    *(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{zone}", "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"allocatable": {"memory": "64Gi"}},
        }
        for zone in ZONES
    ),
    {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "ebs.csi.aws.com",
        "volumeBindingMode": "WaitForFirstConsumer",
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "prometheus-server", "namespace": "monitoring"},
        "spec": {"volumeName": "disk"},
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "disk", "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "disk"}},
    },
    limit_range(namespace="defaulted", default="512Mi", defaultRequest="256Mi"),
]
STAGES: tuple[tuple[str, Stage], ...] = (("/mutate?timeout=5s", "mutate"), ("/validate?timeout=5s", "validate"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("recordings")
    facts = folder / "recorded-facts.json"
    facts.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    with served(folder, facts=facts) as running:
        yield running


@pytest.fixture(scope="module")
def facts(server: Server) -> ClusterFacts:
    return read_facts(server.folder / "recorded-facts.json", KINDS)


@pytest.mark.parametrize("file", FILES)
def test_the_server_answers_what_decide_says(server: Server, facts: ClusterFacts, file: Path) -> None:
    with server.client() as client:
        for review in reviews(file):
            request = read(review)
            for path, stage in STAGES:
                decision = judge(request, facts, stage)
                assert decision.failures == {}
                assert ask(client, review, path) == render_review(request, decision, stage, config())


@pytest.mark.parametrize("file", FILES)
def test_check_says_what_both_stages_say_together(server: Server, facts: ClusterFacts, file: Path) -> None:
    with server.client() as client:
        for review in creations(file):
            request = read(review)
            decision = judge(request, facts, "check")
            text = "" if decision.allowed else denial(request, decision, config())
            refused, told = answered(client, review)
            assert (text, sorted(warnings(request, decision, config()))) == (refused, sorted(told))


@pytest.mark.parametrize("file", FILES)
def test_check_says_of_a_file_what_it_says_of_the_request(facts: ClusterFacts, file: Path, tmp_path: Path) -> None:
    """But for what controllers create: a file doesn't say who will send it."""
    manifest = tmp_path / "manifest.json"
    judged = 0
    for review in creations(file):
        request = read(review)
        owner = scope_of(request, CONFIG, "check").owner
        if owner and owner.maker == "controller":
            continue
        manifest.write_text(json.dumps(request.object))
        report = check_files([str(manifest)], CONFIG, facts, today=TODAY, namespace=request.namespace)
        decision = judge(request, facts, "check")
        assert report.errors == []
        assert [finding.verdict for finding in report.findings] == list(decision.verdicts)
        assert report.exit_code(strict=False) == (0 if decision.allowed else 1)
        judged += 1
    assert judged > 10


@cache
def reviews(file: Path) -> list[Review]:
    return [json.loads(line)["review"] for line in file.read_text().splitlines()]


def creations(file: Path) -> Iterator[Review]:
    return (review for review in reviews(file) if review["request"]["operation"] == "CREATE")


def read(review: Review) -> AdmissionRequest:
    return read_review(json.dumps(review).encode())


def judge(request: AdmissionRequest, facts: ClusterFacts, stage: Stage) -> Decision:
    return decide(request, facts, CONFIG, today=TODAY, stage=stage)


def ask(client: Client, review: Review, path: str) -> bytes:
    answer = client.ask(post(json.dumps(review).encode(), path))
    assert answer.status == 200, answer
    return answer.body


def answered(client: Client, review: Review) -> tuple[str, list[str]]:
    """What the API server, which calls both, passes on: the denial, if there is one, and all warnings."""
    (mutate, _), (validate, _) = STAGES
    first = json.loads(ask(client, review, mutate))["response"]
    obj = review["request"]["object"]
    if "patch" in first:
        obj = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(first["patch"])))
    final = {**review, "request": {**review["request"], "object": obj}}
    second = json.loads(ask(client, final, validate))["response"]
    return second.get("status", {}).get("message", ""), first.get("warnings", []) + second.get("warnings", [])


def test_verdicts(facts: ClusterFacts) -> None:
    """Agreement alone could be reached by saying nothing. Each creation is there twice, as each stage got it."""
    verdicts = Counter(
        f"{request.operation} {request.kind} {verdict.outcome}"
        for request in map(read, reviews(SELECTION))
        for verdict in judge(request, facts, "check").verdicts
    )
    assert verdicts == {
        "CREATE CronJob patched": 2,
        "CREATE DaemonSet patched": 2,
        "CREATE Deployment denied": 6,  # a Prometheus: request, limit, volume
        "CREATE Deployment patched": 2,
        "CREATE Job patched": 2,  # kubectl create job --from: that it names a CronJob proves nothing
        "CREATE PodTemplate patched": 2,
        "CREATE ReplicationController patched": 2,
        "CREATE StatefulSet patched": 2,
        "UPDATE Deployment warned": 6,
    }
