"""The configuration: what is refused, with which words, and its schema."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.builders import config
from tests.growth import Call, assert_linear, measure
from webhook.config import read_config
from webhook.config_schema import config_schema
from webhook.errors import BadConfig
from webhook.loader import load_policies
from webhook.objects.quantities import Memory


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "mode: denny",
            "1: mode: 'denny' is not one of off, audit, warn, patch, deny: did you mean 'deny'?",
            id="mode",
        ),
        pytest.param("mode:", "1: mode: nothing is not one of off, audit, warn, patch, deny", id="nothing"),
        pytest.param("\nmodes: deny", "2: modes: unknown field: did you mean 'mode'?", id="unknown-field"),
        pytest.param(
            "policies:\n  memory-limit: {}",
            "2: policies.memory-limit: there is no policy 'memory-limit': did you mean 'memory-limits'?",
            id="unknown-policy",
        ),
        pytest.param(
            "policies:\n  memory-limits:\n    params: {defaultlimit: 1Gi}",
            "3: policies.memory-limits.params.defaultlimit: unknown field: did you mean 'defaultLimit'?",
            id="unknown-parameter",
        ),
        pytest.param(
            "policies:\n  memory-limits:\n    params: {defaultLimit: 1GB}",
            "3: policies.memory-limits.params.defaultLimit: '1GB' is not a quantity: write 1G or 1Gi",
            id="not-a-quantity",
        ),
        pytest.param(
            "policies:\n  memory-limits:\n    params: {defaultLimit: {}}",
            "3: policies.memory-limits.params.defaultLimit: a map is not an amount of memory such as 512Mi",
            id="a-map-for-a-quantity",
        ),
        pytest.param(
            "policies: {memory-limits: {otherwise: patch}}",
            "1: policies.memory-limits.otherwise: 'patch' is not one of warn, deny",
            id="otherwise",
        ),
        pytest.param("policies: []", "1: policies: a list is not a map", id="a-list-for-a-map"),
        pytest.param("overrides: {}", "1: overrides: a map is not a list", id="a-map-for-a-list"),
        pytest.param("ratchet: maybe", "1: ratchet: 'maybe' is not true or false", id="boolean"),
        pytest.param("mode: deny\nmode: warn", "2: mode: is given twice", id="twice"),
        pytest.param("mode: [", "2: not YAML: did not find expected node content", id="not-yaml"),
        pytest.param("- mode", "1: a list is not a map", id="a-list"),
        pytest.param(
            "exemptions:\n  - {policy: memory-limits, match: {namespaces: [a]}, owner: sre, until: 2027-01-01}",
            "2: exemptions[0]: reason is missing",
            id="an-exemption-needs-a-reason",
        ),
        pytest.param(
            "exemptions:\n  - {policy: zonal-volumes, match: {namespaces: []}, owner: o, reason: r, until: 2027-01-01}",
            "2: exemptions[0].match: namespaces is empty: name at least one ('*' is all)",
            id="and-a-namespace",
        ),
        pytest.param(
            "exemptions: [{policy: memory-limits, match: {namespaces: [a]}, owner: '', reason: r, until: 2027-01-01}]",
            "1: exemptions[0]: owner is empty",
            id="and-an-owner",
        ),
        pytest.param(
            "exemptions:\n  - {policy: memory-limits, match: {namespaces: [a]}, owner: sre, reason: r, until: soon}",
            "2: exemptions[0].until: 'soon' is not a date such as 2027-03-31",
            id="and-a-date",
        ),
        pytest.param(
            "exemptions:\n  - {policy: memory-limits, match: {names: [a]}, owner: sre, reason: r, until: 2027-01-01}",
            "2: exemptions[0].match: namespaces is missing",
            id="and-namespaces",
        ),
        pytest.param(
            "overrides:\n  - match: {namespaces: []}\n    policies: {memory-limits: {mode: warn}}",
            "2: overrides[0].match: namespaces is empty: name at least one ('*' is all)",
            id="at-least-one-namespace",
        ),
        pytest.param(
            "overrides:\n  - match: {namespaces: [a]}\n    policies: {memory: {mode: warn}}",
            "3: overrides[0].policies.memory: there is no policy 'memory': did you mean 'memory-limits'?",
            id="an-override-of-no-policy",
        ),
        pytest.param(
            "mode: deny\npolicies: {{ .Values.policies }}",
            "2: policies: a map cannot be a key: is a template unfilled?",
            id="an-unfilled-template",
        ),
        pytest.param("[a]: b", "1: a list cannot be a key: is a template unfilled?", id="a-list-as-a-key"),
        pytest.param("a: &a [*a]", "1: the document contains itself, by an alias (*)", id="an-endless-alias"),
        pytest.param(
            "x: &x 1\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("xabcdefg")),
            "1: the document repeats values, 6,053,453 in all, by an alias (*)",
            id="aliases-of-aliases",
        ),
        pytest.param(
            "certificates: {caLife: 30}",
            "1: certificates.caLife: '30' is not a length of time such as 90d, 12h, 30m or 10s",
            id="a-duration-needs-a-unit",
        ),
        pytest.param(
            "certificates: {caLife: 30d}",
            "1: certificates: servingLife 90d is above caLife 30d",
            id="a-CA-outlives-its-certificates",
        ),
        pytest.param(
            "webhooks: {timeoutSeconds: 30}",
            "1: webhooks: timeoutSeconds 30 is not between 1 and 5",
            id="a-small-timeout",
        ),
        pytest.param(
            "limitRanges:\n  - {default: {memory: 1GB}, namespaces: [a]}",
            "2: limitRanges[0].default.memory: '1GB' is not a quantity: write 1G or 1Gi",
            id="limit-range-quantity",
        ),
        pytest.param(
            "limitRanges: [{default: {memory: 1Gi}}]",
            "1: limitRanges[0]: name either namespaces or a namespaceSelector",
            id="limit-range-of-no-namespace",
        ),
        pytest.param(
            "exemptions:\n  - {policy: zonal, match: {namespaces: [a]}, owner: sre, reason: r, until: 2027-01-01}",
            "2: exemptions[0].policy: there is no policy 'zonal': did you mean 'zonal-volumes'?",
            id="an-exemption-from-no-policy",
        ),
        pytest.param(
            'kinds: [{group: "*", kind: A, resource: as}]',
            "1: kinds[0].group: '*' is not an API group, such as example.com",
            id="a-group-is-no-glob",
        ),
        pytest.param(
            "kinds: [{group: example.com/v1, kind: A, resource: as}]",
            "1: kinds[0].group: 'example.com/v1' is not an API group, such as example.com: did you mean 'example.com'?",
            id="a-group-has-no-version",
        ),
        pytest.param(
            "kinds: [{group: apps, kind: Deployment, resource: deployments, podSpec: spec.foo}]",
            "1: kinds[0]: Deployment is judged without being named here",
            id="a-built-in-kind-stays-as-it-is",
        ),
        pytest.param(
            "controllers: [jane@example.com, 'system:serviceaccount:operators']",
            "1: controllers[1]: 'system:serviceaccount:operators' is no ServiceAccount: "
            "system:serviceaccount:NAMESPACE:NAME",
            id="a-service-account-has-a-namespace",
        ),
        pytest.param(
            "controllers: ['system:serviceaccount:Team_A:operator']",
            "1: controllers[0]: 'system:serviceaccount:Team_A:operator' is no ServiceAccount: "
            "system:serviceaccount:NAMESPACE:NAME",
            id="a-service-account-has-a-name-that-can-be",
        ),
        pytest.param(
            "excludeNamespaces: [a, '*']",
            "1: excludeNamespaces[1]: '*' is every namespace, and nothing would be judged: use mode: off",
            id="no-namespace-is-left",
        ),
        pytest.param(
            'kinds: [{kind: "*", resource: as}]',
            "1: kinds[0].kind: '*' is not a kind, such as Deployment",
            id="a-kind-is-no-glob",
        ),
        pytest.param(
            "kinds: [{kind: A, resource: As}]",
            "1: kinds[0].resource: 'As' is not a kind's plural, such as deployments: did you mean 'as'?",
            id="a-plural",
        ),
        pytest.param(
            "kinds: [{kind: A, resource: as, podSpec: spec..x}]",
            "1: kinds[0].podSpec: 'spec..x' is not a path of field names, such as spec.template.spec, where [*] is "
            "every item of a list",
            id="a-path",
        ),
        pytest.param(
            'kinds: [{kind: A, resource: as, podSpec: "spec.templates[0].spec"}]',
            "1: kinds[0].podSpec: 'spec.templates[0].spec' is not a path of field names, such as spec.template.spec, "
            "where [*] is every item of a list",
            id="a-path-has-no-indices",
        ),
        pytest.param(
            "certificates: {servingLife: 11s}",
            "1: certificates: servingLife 11s is too short to be renewed in time: 12s or more",
            id="a-life-too-short",
        ),
        pytest.param(
            "certificates: {caLife: 999999999999d}",
            "1: certificates: caLife 999999999999d is more than certificates can say: 1000000d or less",
            id="a-life-too-long",
        ),
        pytest.param(
            "limitRanges: [{namespaces: [a], default: {memory: 1Gi}, defaultRequest: {memory: 2Gi}}]",
            "1: limitRanges[0]: defaultRequest.memory 2Gi is above default.memory 1Gi",
            id="limit-range-that-contradicts-itself",
        ),
        pytest.param(
            "limitRanges: [{namespaces: [a], default: {mem: 1Gi}}]",
            "1: limitRanges[0].default.mem: 'mem' is not a resource that a container can have: did you mean 'memory'?",
            id="limit-range-of-no-resource",
        ),
        pytest.param(
            "limitRanges: [{namespaces: [a], default: {memory: -1Gi}}]",
            "1: limitRanges[0].default.memory: '-1Gi' is negative: an amount is 0 or more",
            id="limit-range-below-nothing",
        ),
        pytest.param(
            "limitRanges:\n  - namespaces: [a]\n    name: Foo_Bar\n    default: {memory: 1Gi}",
            "3: limitRanges[0].name: 'Foo_Bar' is not an object's name, such as shop-2: did you mean 'foo-bar'?",
            id="limit-range-name",
        ),
        pytest.param(
            "overrides: [{match: {namespaces: [a], kinds: [Pods]}, policies: {}}]",
            "1: overrides[0].match.kinds[0]: no policy judges a kind 'Pods': did you mean 'Pod'?",
            id="a-plural-for-a-kind",
        ),
        pytest.param(
            "controllers: [x]\noverrides: [{match: {namespaces: [a], kinds: [deployment]}, policies: {}}]",
            "2: overrides[0].match.kinds[0]: no policy judges a kind 'deployment': did you mean 'Deployment'?",
            id="a-kind-in-lower-case",
        ),
        pytest.param(
            "controllers: [elastic]\noverrides: [{match: {namespaces: [a], kinds: [Elasticsearch]}, policies: {}}]",
            "2: overrides[0].match.kinds[0]: no policy judges a kind 'Elasticsearch': did you mean 'ReplicaSet'?",
            id="an-operator-s-kind-that-is-not-judged",
        ),
        pytest.param(
            "exemptions:\n  - policy: memory-limits\n    match: {namespaces: [a], kinds: [Deploymnt]}\n    "
            "owner: o\n    reason: r\n    until: 2027-01-01",
            "3: exemptions[0].match.kinds[0]: no policy judges a kind 'Deploymnt': did you mean 'Deployment'?",
            id="an-unknown-kind",
        ),
        pytest.param(
            'overrides: [{match: {namespaces: ["A_b*"]}, policies: {}}]',
            "1: overrides[0].match.namespaces[0]: 'A_b*' is not a namespace's name or a glob of such, as team-*: "
            "did you mean 'a-b*'?",
            id="a-glob-that-no-namespace-matches",
        ),
        pytest.param(
            "excludeNamespaces: [a.b]",
            "1: excludeNamespaces[0]: 'a.b' is not a namespace's name or a glob of such, as team-*",
            id="namespaces-have-no-dots",
        ),
        pytest.param(
            'controllers: ["*"]',
            "1: controllers[0]: '*' is not the name of one user: globs are none",
            id="users-are-no-globs",
        ),
        pytest.param(
            "policies: {zonal-volumes: {params: {replacement: {emptyDir: true, sizeLimit: 5X}}}}",
            "1: policies.zonal-volumes.params.replacement.sizeLimit: '5X' is not a quantity: write a number and "
            "a suffix, such as 512Mi",
            id="a-size-limit",
        ),
        pytest.param(
            'policies: {zonal-volumes: {params: {replacement: {storageClass: "A B"}}}}',
            "1: policies.zonal-volumes.params.replacement.storageClass: 'A B' is not an object's name, such as "
            "shop-2: did you mean 'a-b'?",
            id="a-storage-class",
        ),
        pytest.param(
            "policies: {memory-limits: {params: {defaultLimit: 128Mi, defaultRequest: 200Mi}}}",
            "1: policies.memory-limits.params: defaultRequest 200Mi is above defaultLimit 128Mi",
            id="a-request-above-the-limit",
        ),
    ],
)
def test_refusals(text: str, error: str) -> None:
    with pytest.raises(BadConfig) as caught:
        config(text)
    assert str(caught.value) == f"config.yaml:{error}"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere.yaml: No such file or directory$"):
        read_config(str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "policies:\n", "policies: {memory-limits: }"])
def test_what_is_not_said_is_the_default(text: str) -> None:
    parsed = config(text)
    assert parsed.mode == "deny"
    declared = {name: loaded.policy for name, loaded in load_policies().items()}
    assert {name: (active.mode, active.otherwise, active.on_error) for name, active in parsed.policies.items()} == {
        name: (policy.mode, policy.otherwise, "ignore") for name, policy in declared.items()
    }


@pytest.mark.parametrize(
    ("text", "on_error"),
    [
        pytest.param("onError: deny", "deny", id="for-every-policy"),
        pytest.param("{onError: deny, policies: {memory-limits: }}", "deny", id="also-for-one-that-is-named"),
        pytest.param("{onError: deny, policies: {memory-limits: {onError: ignore}}}", "ignore", id="but-its-own"),
        pytest.param("policies: {memory-limits: {onError: deny}}", "deny", id="its-own-alone"),
        pytest.param("policies: {zonal-volumes: {onError: deny}}", "ignore", id="not-another-s"),
    ],
)
def test_on_error_has_a_default_for_all_policies(text: str, on_error: str) -> None:
    assert config(text).policies["memory-limits"].on_error == on_error


def test_every_error_of_a_file_is_told() -> None:
    text = """
mode: dney
polices: {}
policies:
  memory-limit: {mode: warn}
  memory-limits: {mode: wran, params: {defaultLimit: 1GB, foo: 1}}
exemptions:
  - {policy: zonal, match: {namespaces: [A]}, owner: sre, reason: r}
overrides:
  - {match: {namespaces: [a]}, policies: {memory-limt: {}}}
controllers: ['system:serviceaccount:a', 'system:serviceaccount:b']
excludeNamespaces: ['*']
contact: "a\\nb"
pages: wiki
"""
    with pytest.raises(BadConfig) as raised:
        config(text)
    assert [
        error.split(": ", 2)[0].rpartition(":")[2] + " " + error.split(": ")[1] for error in raised.value.errors
    ] == [
        "5 policies.memory-limit",
        "6 policies.memory-limits.mode",
        "6 policies.memory-limits.params.defaultLimit",
        "6 policies.memory-limits.params.foo",
        "2 mode",
        "3 polices",
        "8 exemptions[0].policy",
        "8 exemptions[0].match.namespaces[0]",
        "8 exemptions[0]",
        "10 overrides[0].policies.memory-limt",
        "11 controllers[0]",
        "11 controllers[1]",
        "12 excludeNamespaces[0]",
        "13 contact",
        "14 pages",
    ]


@pytest.mark.parametrize("written", ["off", "false", '"off"'])
def test_a_mode_is_off_whatever_yaml_makes_of_that(written: str) -> None:
    found = config(f"mode: {written}\npolicies: {{memory-limits: {{mode: {written}}}}}")
    assert (found.mode, found.policies["memory-limits"].mode) == ("off", "off")
    jsonschema.validate(
        yaml.safe_load(f"mode: {written}\npolicies: {{memory-limits: {{mode: {written}}}}}"), config_schema()
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("certificates: {servingLife: 12s, caLife: 1000000d}", id="lives"),
        pytest.param(
            "overrides: [{match: {namespaces: [a], kinds: [Pod, Namespace]}, policies: {}}]", id="known-kinds"
        ),
        pytest.param(
            "kinds: [{kind: Batch, resource: batches}]\n"
            "overrides: [{match: {namespaces: [a], kinds: [Batch]}, policies: {}}]",
            id="a-kind-of-the-file",
        ),
        pytest.param("excludeNamespaces: [a, 'a-*', '[!a-c]x?', '?']", id="globs"),
        pytest.param(
            "limitRanges: [{namespaces: [a], default: {cpu: 0.5, nvidia.com/gpu: 1, memory: 1073741824}}]", id="amounts"
        ),
        pytest.param(
            "policies: {memory-limits: {params: {defaultLimit: 128Mi}}}", id="a-limit-below-the-usual-request"
        ),
    ],
)
def test_what_can_be_used(text: str) -> None:
    config(text)
    jsonschema.validate(yaml.safe_load(text), config_schema())


def test_off_is_a_mode_and_no_boolean() -> None:
    assert config("mode: off").mode == "off"
    assert config("policies: {memory-limits: {mode: off}}").policies["memory-limits"].mode == "off"


def test_parameters_are_typed() -> None:
    params = config("policies: {memory-limits: {params: {defaultLimit: 1Gi, images: {nginx: 64Mi}}}}").policies
    assert params["memory-limits"].params.default_limit == Memory.parse("1Gi")
    assert params["memory-limits"].params.images == {"nginx": 64 * 2**20}
    assert params["memory-limits"].params.default_request == Memory.parse("256Mi")


EXAMPLE = """
mode: deny
policies:
  memory-limits: {mode: patch, params: {defaultLimit: 512Mi}}
  zonal-volumes: {mode: deny}
overrides:
  - match: {namespaces: [legacy-*]}
    policies: {memory-limits: {mode: audit}}
exemptions:
  - policy: zonal-volumes
    match: {namespaces: [monitoring], names: [prometheus-*]}
    owner: sre
    reason: moving to regional disks
    until: "2027-03-31"
kinds:
  - {group: example.com, kind: Worker, resource: workers, podSpec: spec.pod}
"""


def test_the_schema_takes_what_the_reader_takes() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    config(EXAMPLE)
    jsonschema.validate(yaml.safe_load(EXAMPLE), schema)
    jsonschema.validate({}, schema)
    json.dumps(schema)


@pytest.mark.parametrize(
    "document",
    [
        {"modes": "deny"},
        {"mode": "denny"},
        {"policies": {"memory-limit": {}}},
        {"policies": {"memory-limits": {"params": {"defaultlimit": "1Gi"}}}},
        {"exemptions": [{"policy": "memory-limits"}]},
        {"overrides": [{"match": {"namespaces": []}, "policies": {}}]},
        {"overrides": [{"match": {"namespaces": ["A_b"]}, "policies": {}}]},
        {"kinds": [{"kind": "*", "resource": "as"}]},
        {"controllers": ["*"]},
        {"limitRanges": [{"namespaces": ["a"], "default": {"mem": "1Gi"}}]},
        {"limitRanges": [{"namespaces": ["a"], "default": {"memory": "1GB"}}]},
        {"policies": {"memory-limits": {"params": {"defaultLimit": "1GB"}}}},
        {"policies": {"memory-limits": {"params": {"images": {"nginx": -1}}}}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(document: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, config_schema())
    with pytest.raises(BadConfig):
        config(json.dumps(document))


def test_reading_takes_time_in_proportion_to_the_file() -> None:
    entry = (
        "- {policy: memory-limits, match: {namespaces: [shop], names: [web-*]}, owner: a, reason: b, until: 2030-01-01}"
    )

    def make(count: int) -> Call:
        text = "\n".join(["exemptions:", *[entry] * count])
        return lambda: config(text)

    make(1)()  # what is kept of types
    assert_linear(make, 50)
    assert measure(make(100)).steps < 100 * 2_000


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("contact: " + "x" * 81, "contact: it is longer than the 80 characters that a warning has room for"),
        ('contact: "a\\nb"', "contact: it is more than one line"),
        ("pages: wiki.example.com", "pages: 'wiki.example.com' is not an address: it begins with https"),
        ("pages: https://a b", "pages: 'https://a b' is not an address: it begins with https"),
    ],
)
def test_what_denials_quote_is_checked(text: str, wrong: str) -> None:
    with pytest.raises(BadConfig, match=wrong):
        config(text)
