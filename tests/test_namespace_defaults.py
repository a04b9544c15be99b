"""namespace-defaults: what it says of a Namespace, and that nobody is ever asked at admission."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from policies.namespace_defaults.policy import Params, examine
from tests.builders import TODAY, config, facts_of, limit_range, request, workload
from webhook.check import Report, check_files
from webhook.engine import decide
from webhook.objects.facts import NO_FACTS, ClusterFacts
from webhook.policy import Object

LABEL = {"forestall.dev/defaults": "true"}
NOTHING_KNOWN, EMPTY_CLUSTER = NO_FACTS, facts_of([])


def namespace(name: str = "shop", **metadata: object) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}}


def cluster(**item: object) -> ClusterFacts:
    return facts_of([limit_range("limits", **item)])


@pytest.mark.parametrize(
    ("obj", "facts", "params", "found"),
    [
        pytest.param(namespace(), cluster(default="512Mi"), Params(), [], id="has-a-default"),
        pytest.param(namespace(), cluster(max="2Gi"), Params(), [], id="a-maximum-is-the-default"),
        pytest.param(namespace(), EMPTY_CLUSTER, Params(), ["deny"], id="has-none"),
        pytest.param(namespace(), cluster(min="64Mi"), Params(), ["deny"], id="has-one-without-a-default"),
        pytest.param(namespace(), cluster(default="0"), Params(), ["deny"], id="a-default-of-0-is-none"),
        pytest.param(namespace(), cluster(default=None), Params(), ["deny"], id="null-is-0"),
        pytest.param(
            namespace(labels=LABEL),
            facts_of([limit_range("a", default="512Mi"), limit_range("b", default="0")]),
            Params(),
            ["deny"],
            id="of-two-either-counts",
        ),
        pytest.param(namespace("other"), cluster(default="512Mi"), Params(), ["deny"], id="another-namespace-s"),
        pytest.param(namespace(), NOTHING_KNOWN, Params(), ["warn"], id="the-cluster-was-not-seen"),
        pytest.param(namespace(labels=LABEL), EMPTY_CLUSTER, Params(), [], id="left-to-the-controller"),
        pytest.param(namespace(labels=LABEL, uid="1"), EMPTY_CLUSTER, Params(), ["deny"], id="but-not-given"),
        pytest.param(namespace(labels={"team": "a"}), EMPTY_CLUSTER, Params(), ["deny"], id="another-label"),
        pytest.param(namespace(labels={"team": "a"}), EMPTY_CLUSTER, Params({"team": "a"}), [], id="own-label"),
        pytest.param(namespace(), EMPTY_CLUSTER, Params({}), ["deny"], id="no-label-means-not-all"),
        pytest.param(namespace(labels=None), EMPTY_CLUSTER, Params(), ["deny"], id="null-labels"),
        pytest.param(
            namespace(deletionTimestamp="2026-11-21T00:00:00Z"), EMPTY_CLUSTER, Params(), [], id="a-namespace-that-goes"
        ),
        pytest.param(workload("Deployment"), EMPTY_CLUSTER, Params(), [], id="a-workload"),
        pytest.param(
            {**namespace(), "apiVersion": "example.com/v1"}, EMPTY_CLUSTER, Params(), [], id="another-group-s-namespace"
        ),
    ],
)
def test_violations(obj: Object, facts: ClusterFacts, params: Params, found: list[str]) -> None:
    violations = list(examine(request(obj), facts, params))
    assert [violation.at_most for violation in violations] == found
    assert {(violation.path, violation.subject) for violation in violations} <= {
        ("metadata.name", obj["metadata"]["name"])
    }


@pytest.mark.parametrize(
    ("facts", "params", "message"),
    [
        pytest.param(
            EMPTY_CLUSTER,
            Params(),
            "namespace 'shop' has no LimitRange with a memory default: containers without a limit of their own can "
            "take their node's whole memory: create a LimitRange of type Container in it with default: {memory: 512Mi} "
            "and defaultRequest: {memory: 256Mi}, or have Forestall do it with the label forestall.dev/defaults=true",
            id="none",
        ),
        pytest.param(
            cluster(min="64Mi"),
            Params({}),
            "namespace 'shop' has no LimitRange with a memory default, only limits without one: containers without a "
            "limit of their own can take their node's whole memory: create a LimitRange of type Container in it with "
            "default: {memory: 512Mi} and defaultRequest: {memory: 256Mi}",
            id="one-without",
        ),
        pytest.param(
            cluster(default="0"),
            Params(),
            "LimitRange limits of namespace 'shop' gives a memory default of 0, which means none: containers without "
            "a limit of their own can take their node's whole memory: set default: {memory: 512Mi} and "
            "defaultRequest: {memory: 256Mi} in it",
            id="one-of-0",
        ),
        pytest.param(
            NOTHING_KNOWN,
            Params({}),
            "namespace 'shop' has no LimitRange with a memory default among these files: containers without a "
            "limit of their own can take their node's whole memory: create a LimitRange of type Container in it with "
            "default: {memory: 512Mi} and defaultRequest: {memory: 256Mi}",
            id="not-seen",
        ),
    ],
)
def test_message(facts: ClusterFacts, params: Params, message: str) -> None:
    (violation,) = examine(request(namespace()), facts, params)
    assert violation.message == message


STRICT = "policies: {namespace-defaults: {mode: deny}}"


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_admission_never_asks(operation: str) -> None:
    cfg = config(STRICT)
    asked = request(namespace(), namespace() if operation == "UPDATE" else None, namespace="shop")
    assert decide(asked, EMPTY_CLUSTER, cfg, today=TODAY, stage="mutate").verdicts == ()
    validated = decide(asked, EMPTY_CLUSTER, cfg, today=TODAY, stage="validate")
    assert (validated.allowed, validated.verdicts) == (True, ())


Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        (tmp_path / "all.yaml").write_text(text)
        return str(tmp_path / "all.yaml")

    return write


def checked(file: str, text: str = "", facts: ClusterFacts = EMPTY_CLUSTER) -> Report:
    return check_files([file], config(text), facts, today=TODAY)


SHOP = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
WORKLOAD = """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec: {template: {spec: {containers: [{name: web, image: web, resources: {limits: {memory: 1Gi}}}]}}}
"""


@pytest.mark.parametrize(
    ("text", "cfg", "outcomes", "code"),
    [
        pytest.param(SHOP, "", ["audited"], 0, id="noted-by-default"),
        pytest.param(SHOP, STRICT, ["denied"], 1, id="or-denied"),
        pytest.param(
            SHOP + WORKLOAD.replace("NAME", "a") + WORKLOAD.replace("NAME", "b"), STRICT, ["denied"], 1, id="one-each"
        ),
        pytest.param(WORKLOAD.replace("NAME", "a"), STRICT, [], 0, id="a-chart-without-its-namespace"),
        pytest.param(SHOP.replace("shop", "kube-system"), STRICT, [], 0, id="kube-system"),
        pytest.param(SHOP, f"{STRICT}\nexcludeNamespaces: [sho*]", [], 0, id="excluded-by-its-own-name"),
        pytest.param(
            SHOP,
            STRICT + "\nexemptions: [{policy: namespace-defaults, match: {namespaces: [shop]}, owner: sre, reason: "
            "holds no pods, until: 2027-01-01}]",
            ["exempted"],
            0,
            id="exempted-by-its-own-name",
        ),
        pytest.param(SHOP, "policies: {namespace-defaults: {mode: off}}", [], 0, id="off"),
    ],
)
def test_check(write: Write, text: str, cfg: str, outcomes: list[str], code: int) -> None:
    report = checked(write(text), cfg)
    assert [finding.verdict.outcome for finding in report.findings] == outcomes
    assert report.exit_code(strict=False) == code


def test_a_namespace_is_in_no_namespace(write: Write) -> None:
    assert [str(judged) for judged in checked(write(SHOP)).judged] == ["Namespace shop"]
