"""Forty real charts, judged; the tables beside them are the oracle."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

from tests.builders import DATA, SHARED, config, facts, request
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import BadQuantity
from webhook.files.manifests import Manifest, read_manifests
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.objects.pods import read_workload
from webhook.objects.quantities import parse_memory
from webhook.policy import AdmissionRequest, Violation

from tests.builders import TODAY  # isort: skip

CORPUS = SHARED / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of rendered charts beside the checkout")

Row = tuple[str, str, str, str]
"""File, kind, name and container."""


@cache
def index() -> list[dict[str, str]]:
    with (CORPUS / "index.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@cache
def manifests() -> list[Manifest]:
    found: list[Manifest] = []
    for path in sorted(CORPUS.glob("*/*.yaml")):
        read, errors = read_manifests(path.read_bytes(), str(path.relative_to(CORPUS)))
        assert errors == []
        found += read
    return found


def violations(policy: str, facts: ClusterFacts = NO_FACTS) -> Iterator[tuple[Manifest, Violation]]:
    active = config().policies[policy]
    for manifest in manifests():
        for violation in active.policy.examine(request(manifest.object), facts, active.params):
            yield manifest, violation


def row(manifest: Manifest, container: str) -> Row:
    return manifest.file, manifest.object["kind"], manifest.object["metadata"]["name"], container


def expected(rows: list[dict[str, str]]) -> Counter[Row]:
    return Counter((row["file"], row["kind"], row["name"], row["container"]) for row in rows)


def test_every_container_is_seen() -> None:
    seen = Counter(
        row(manifest, container.name)
        for manifest in manifests()
        if (workload := read_workload(request(manifest.object)))
        for container in workload.containers
    )
    assert seen == expected(index())
    assert seen.total() == 257


def test_memory_limits_finds_exactly_the_containers_without_a_limit() -> None:
    found = Counter(row(manifest, violation.subject) for manifest, violation in violations("memory-limits"))
    assert found == expected([row for row in index() if row["memory_limit"] == "-"])
    assert found.total() == 203


def bytes_of(quantity: str) -> int:
    try:
        return parse_memory(quantity)
    except BadQuantity:
        return 0  # "-": not set


def test_prometheus_memory_finds_exactly_the_undersized_servers() -> None:
    found = {row(manifest, violation.subject) for manifest, violation in violations("prometheus-memory")}
    servers = [row for row in index() if row["image"].partition("@")[0].rpartition(":")[0].endswith("/prometheus")]
    small = [
        row
        for row in servers
        if bytes_of(row["memory_request"]) < 4 * 2**30 or bytes_of(row["memory_limit"]) < 6 * 2**30
    ]
    assert found == set(expected(small))
    assert (len(servers), len(small)) == (18, 14)


PATCHING = "policies: {prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}}"


def patched_twice(req: AdmissionRequest, cfg: Config) -> None:
    """The patched object passes but for what can't be fixed, and patching it again changes nothing."""
    first = decide(req, NO_FACTS, cfg, today=TODAY, stage="mutate")
    assert first.failures == {}
    if not first.patch:
        return
    assert first.object is not None
    again = request(first.object)
    assert decide(again, NO_FACTS, cfg, today=TODAY, stage="mutate").patch == ()
    left = {verdict.policy for verdict in decide(again, NO_FACTS, cfg, today=TODAY, stage="validate").denied}
    assert left <= {"zonal-volumes"}


def test_every_patched_object_passes() -> None:
    cfg = config(PATCHING)
    for manifest in manifests():
        patched_twice(request(manifest.object), cfg)


def test_what_check_says_is_what_both_hooks_do() -> None:
    """`check` on a file, and /mutate then /validate on the same object, deny and warn the same."""
    for cfg in (config(), config(PATCHING), config("mode: audit")):
        for manifest in manifests():
            req = request(manifest.object)
            checked = decide(req, NO_FACTS, cfg, today=TODAY)
            mutated = decide(req, NO_FACTS, cfg, today=TODAY, stage="mutate")
            validated = decide(request(mutated.object or manifest.object), NO_FACTS, cfg, today=TODAY, stage="validate")
            assert checked.patch == mutated.patch
            assert checked.allowed == validated.allowed
            told = Counter((verdict.policy, verdict.outcome, verdict.violation.path) for verdict in checked.verdicts)
            done = [*mutated.verdicts, *validated.verdicts]
            assert told == Counter((verdict.policy, verdict.outcome, verdict.violation.path) for verdict in done)


def verdicts() -> list[dict[str, str]]:
    """The corpus' verdicts as a person has read them, with the reason of each; "passes" is an object that was looked
    at and has none."""
    with (DATA / "corpus_verdicts.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("policy", sorted({row["policy"] for row in verdicts()}))
def test_verdicts_are_those_that_a_person_has_read(policy: str) -> None:
    """Each chart is judged by itself, as check judges its file; `at_most` is the strongest that a verdict may be."""
    active, found = config().policies[policy], set()
    for manifest in manifests():
        known = facts(*(other.object for other in manifests() if other.file == manifest.file))
        for violation in active.policy.examine(request(manifest.object), known, active.params):
            outcome = "unknown" if violation.is_unknown else violation.at_most
            found.add((*row(manifest, violation.path), outcome))
    read = [row for row in verdicts() if row["policy"] == policy]
    said = {(row["file"], row["kind"], row["name"], row["path"], row["outcome"]) for row in read}
    assert found == {one for one in said if one[4] != "passes"}
    objects = {row(manifest, "-")[:3] for manifest in manifests()}
    assert {one[:3] for one in said} <= objects
    assert all(row["reason"] for row in read)
