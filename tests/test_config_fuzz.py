"""Mutations of valid configurations are read, or refused as BadConfig that names a line: none meets a bug of ours."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import ROOT, TODAY, facts, request, workload
from webhook.config import UNEXPECTED, load_config
from webhook.engine import decide
from webhook.errors import BadConfig

EVERYTHING = """
mode: deny
policies:
  memory-limits: {mode: patch, otherwise: deny, onError: deny, params: {defaultLimit: 512Mi, images: {"a*": 64Mi}}}
  prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}
  zonal-volumes: {mode: patch, params: {zones: [a, b], workloads: {labels: [{app: x}]}, replacement: {emptyDir: true}}}
  namespace-defaults:
overrides:
  - match: {namespaces: [legacy-*], kinds: [Deployment], names: [a*], labels: {app: x}, images: ["x*"], groups: [dev]}
    policies: {memory-limits: {mode: audit, otherwise: warn}}
exemptions:
  - policy: memory-limits
    match: {namespaces: [shop]}
    owner: sre
    reason: moving
    until: 2999-12-31
controllers: ["system:serviceaccount:operators:op"]
kinds: [{group: example.com, kind: Web, resource: webs, podSpec: spec.pod}]
excludeNamespaces: [infra-*]
teamLabel: example.com/team
ratchet: true
patchExisting: false
patchOwnedPods: true
webhooks: {failurePolicy: Fail, timeoutSeconds: 5}
certificates: {mode: selfManaged, caLife: 3650d, servingLife: 90d}
limitRanges:
  - name: defaults
    namespaces: [a]
    default: {memory: 512Mi, cpu: "1"}
    defaultRequest: {memory: 256Mi}
    max: {memory: 1Gi}
    min: {memory: 4Mi}
    maxLimitRequestRatio: {memory: "4"}
"""

# Fragments that break a file, or turn one value into another kind of value.
TEXTS = st.sampled_from(
    [
        *("{{ .Values.x }}", "{", "}", "[", "]", "[*a]", "&a", "*a", "? ", "<<: ", ": ", "- ", "\t", "\n", "\n---\n"),
        *(
            "!!binary x",
            "!!set",
            "!x ",
            "~",
            "null",
            "'",
            '"',
            "|",
            ">",
            "#",
            "%",
            "\0",
            "\x85",
            "\ud7ff",
            "é",
            "1e400",
        ),
        *(
            "0",
            "-1",
            "9" * 500,
            ".inf",
            ".nan",
            "0x1F",
            "1_000",
            "2026-02-30",
            "0000-01-01",
            "1Gi",
            "1e999",
            "99999999d",
        ),
        *("*", "[a-", "[!]", "a" * 300, "٣", "true", "off", "deny"),
    ]
)
VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 10**400, 1.5, float("inf"), "", "x", "1e5000", "1e-5000", "9" * 5000 + "d", "[a-", "*", "\0",
     "\u2028", [], ["x"], [None], [[]], {}, {"x": "y"}, {"namespaces": ["*"]}]
)  # fmt: skip


def sample_files() -> list[str]:
    presets = sorted((ROOT / "charts/forestall/presets").glob("*.yaml"))
    return [EVERYTHING, *(yaml.safe_dump(yaml.safe_load(path.read_text())["config"]) for path in presets)]


def paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*above, key)
        yield from paths(child, (*above, key))


def use(text: str) -> None:
    """Read it; what can be read must also be of use."""
    refusal = ""
    try:
        config = load_config(text.encode("utf-8", "surrogatepass"), "config.yaml")
    except BadConfig as error:
        refusal = str(error)
    else:
        assert decide(request(workload()), facts(), config, today=TODAY).failures == {}
    assert not refusal or re.match(r"config\.yaml:\d+: ", refusal), refusal


def test_the_whole_file_is_valid() -> None:
    assert load_config(EVERYTHING.encode(), "config.yaml").patch_owned_pods


def test_our_own_bug_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.config.compose", lambda *_: 1 / 0)
    with pytest.raises(BadConfig, match=f"^config.yaml: {UNEXPECTED}: ZeroDivisionError"):
        load_config(b"", "config.yaml")


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_text(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(sample_files()))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(TEXTS) + text[end:]
    use(text)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    document = copy.deepcopy(yaml.safe_load(EVERYTHING))
    *above, last = data.draw(st.sampled_from(sorted(paths(document), key=str)))
    reduce(lambda parent, key: parent[key], above, document)[last] = data.draw(VALUES)
    use(yaml.safe_dump(document) if data.draw(st.booleans()) else json.dumps(document, default=str))
