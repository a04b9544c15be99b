"""The Helm values that messages name: what the chart renders with one of them no longer violates the policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import yaml

from tests.builders import DATA, config, facts_of, request
from tests.test_durable_volumes import charts, needs_corpus
from webhook.fixes import apply_sets
from webhook.policy import Object, Set

AFTER = yaml.safe_load((DATA / "helm_after.yaml").read_text())
Way = tuple[str, str, str]
"""A rendered chart, an object in it, and the Helm value that a message names."""


def name_of(obj: Object) -> str:
    return f"{obj['kind']}/{obj['metadata']['name']}"


def violated(policy: str, objects: Sequence[Object], place: str) -> dict[str, list[str]]:
    """What the policy finds in the object Kind/name of a chart: path -> the Helm values that its message names."""
    active = config().policies[policy]
    obj = next(obj for obj in objects if name_of(obj) == place)
    found = active.policy.examine(request(obj), facts_of(objects), active.params)
    return {violation.path: violation.hint.split(", or ") if violation.hint else [] for violation in found}


def renderings(policy: str) -> Iterator[tuple[Way, list[Object]]]:
    """What a chart renders once a value is set, by hand or from another file of the corpus."""
    for after in (after for after in AFTER if after["policy"] == policy):
        for file in after["files"]:
            objects = charts()[after.get("rendered", file)]
            place = after.get("of", after["object"])
            sets = [Set(path, value) for path, value in after.get("sets", {}).items()]
            yield (
                (file, after["object"], after["value"]),
                [apply_sets(obj, sets)[1] if name_of(obj) == place else obj for obj in objects],
            )


@needs_corpus
@pytest.mark.parametrize("policy", sorted({after["policy"] for after in AFTER}))
def test_the_values_that_messages_name_mend_the_charts(policy: str) -> None:
    rendered = dict(renderings(policy))
    named = {
        (file, name_of(obj), value): path
        for file, objects in charts().items()
        for obj in objects
        for path, values in violated(policy, objects, name_of(obj)).items()
        for value in values
    }
    assert named.keys() == rendered.keys()
    for (file, place, value), path in named.items():
        assert path not in violated(policy, rendered[file, place, value], place), f"{file}: {value}"
