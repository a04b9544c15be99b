"""The Helm chart: what it renders, with real helm, for every Kubernetes version and variant."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from charts.generate import CHART, read_values
from tests.builders import ROOT, TODAY
from webhook import __version__
from webhook.auditor.facts import facts_to_watch
from webhook.auditor.inventory import kinds_to_judge
from webhook.check import check_files
from webhook.cli import cli
from webhook.config import Config, load_config
from webhook.loader import load_policies
from webhook.objects.facts import NO_FACTS
from webhook.observing.run import needed_lives, observers
from webhook.policy import Object
from webhook.scope import judged_kinds, looked_up_facts
from webhook.server import workers
from webhook.server.serve import ServerSettings

VERSIONS = [f"1.{minor}" for minor in range(29, 37)]
VARIANTS = {"defaults": None} | {
    f"{file.parent.name}/{file.stem.removesuffix('-values')}": file
    for folder in ("ci", "presets")
    for file in sorted((CHART / folder).glob("*.yaml"))
}
_ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere"))
HELM = shutil.which("helm", path=f"{_ASSETS}:{os.environ['PATH']}")

needs_helm = pytest.mark.skipif(HELM is None, reason="neither KUBEBUILDER_ASSETS nor PATH has helm")


# Generated files ------------------------------------------------------------------------------------------------------


def test_every_value_has_a_comment() -> None:
    text = (CHART / "values.yaml").read_text()
    values = {value.path: value for value in read_values(text)}

    def leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, inner in data.items():
            value = values.get(prefix + key)
            if value is not None and value.is_section:
                yield from leaves(inner, f"{prefix}{key}.")
            else:
                yield prefix + key

    assert [path for path in leaves(yaml.safe_load(text)) if path not in values or not values[path].comment] == []


def test_schema_is_a_schema_and_admits_the_defaults() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(values)] == []
    # What is in the one is in the other, but for what Helm adds.
    assert set(values) == set(schema["properties"]) - {"global"}


def off_by_themselves() -> list[str]:
    return [name for name, loaded in sorted(load_policies().items()) if loaded.policy.mode == "off"]


def test_the_enforce_preset_denies_by_every_policy_that_warns() -> None:
    preset = yaml.safe_load((CHART / "presets/enforce.yaml").read_text())["config"]
    assert preset["policies"] == {name: {"mode": "deny"} for name in off_by_themselves()}


def test_default_configuration_is_the_configuration_s_own() -> None:
    """Nothing that the configuration's types have a default for is said otherwise, but for the LimitRange, and for the
    policies that are off by themselves, which warn."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    assert values.pop("limitRanges")
    assert values.pop("policies") == {name: {"mode": "warn"} for name in off_by_themselves()}
    assert load_config(yaml.safe_dump(values).encode(), "values.yaml") == load_config(b"", "nothing")


def test_chart_has_the_version_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


# Rendering ------------------------------------------------------------------------------------------------------------


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert HELM
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=False)


@cache
def render(variant: str = "defaults", *arguments: str) -> list[Object]:
    file = VARIANTS[variant]
    given = [*arguments, *(("--values", str(file)) if file else ())]
    done = helm("template", "forestall", CHART, "--namespace", "forestall-system", *given)
    assert done.returncode == 0, done.stderr
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def config_of(objects: list[Object]) -> Config:
    text = of_kind(objects, "ConfigMap")["forestall-config"]["data"]["config.yaml"]
    return load_config(text.encode(), "config.yaml")


def pods_of(objects: list[Object]) -> dict[str, Object]:
    """Name of the Deployment or Job -> its pods' template."""
    found = of_kind(objects, "Deployment") | of_kind(objects, "Job")
    return {name: deployment["spec"]["template"] for name, deployment in found.items()}


def containers_of(objects: list[Object]) -> list[Object]:
    return [container for template in pods_of(objects).values() for container in template["spec"]["containers"]]


def container_of(objects: list[Object], deployment: str, name: str) -> Object:
    (found,) = (
        container for container in pods_of(objects)[deployment]["spec"]["containers"] if container["name"] == name
    )
    return found


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_lint(variant: str) -> None:
    file = VARIANTS[variant]
    done = helm("lint", "--strict", CHART, *(("--values", file) if file else ()))
    assert (done.returncode, "[WARNING]" in done.stdout) == (0, False), done.stdout


@needs_helm
@pytest.mark.parametrize("version", VERSIONS)
def test_output_is_valid(version: str) -> None:
    """By the API's own published schemas; kinds of others' have none there."""
    for variant in VARIANTS:
        for obj in render(variant, "--kube-version", f"{version}.0"):
            if obj["apiVersion"].partition("/")[0] not in ("monitoring.coreos.com", "cert-manager.io"):
                kubernetes_validate.validate(obj, version, strict=True)


@needs_helm
def test_older_kubernetes_is_refused() -> None:
    done = helm("template", "forestall", CHART, "--kube-version", "1.28.9")
    assert "incompatible with Kubernetes v1.28.9" in done.stderr


@needs_helm
@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        pytest.param("confg.mode=audit", "'confg' not allowed", id="top"),
        pytest.param("config.mod=audit", "'mod' not allowed", id="config"),
        pytest.param("config.mode=adit", "value must be one of", id="mode"),
        pytest.param("config.policies.memory-limit.mode=warn", "'memory-limit' not allowed", id="policy"),
        pytest.param("config.policies.memory-limits.params.limit=1Gi", "'limit' not allowed", id="parameter"),
        pytest.param("config.webhooks.timeoutSeconds=30", "maximum", id="range"),
        pytest.param("config.certificates.caLife=ten years", "does not match pattern", id="duration"),
        pytest.param("config.policies.memory-limits.params.defaultLimit=1GB", "does not match pattern", id="quantity"),
        pytest.param("config.limitRanges[0].default.memory=1GB", "does not match pattern", id="amount"),
        pytest.param("config.limitRanges[0].default.mem=1Gi", "does not match pattern", id="resource"),
        pytest.param("config.excludeNamespaces[0]=Team_A", "does not match pattern", id="namespace"),
        pytest.param("server.resources.limits.memory=1GB", "does not match pattern", id="own-limit"),
        pytest.param("server.resources.limits.memory=384m", "does not match pattern", id="own-limit-in-milli"),
        pytest.param("server.resources.limits.memory=384", "want string", id="own-limit-in-bytes"),
        pytest.param("networkPolicy.apiServerCIDRs={10.0.0.0/33}", "does not match pattern", id="cidr"),
        pytest.param("networkPolicy.apiServerCIDRs={10.0.0.256/24}", "does not match pattern", id="cidr-s-octet"),
        pytest.param("networkPolicy.apiServerCIDRs={fd00::/129}", "does not match pattern", id="cidr-of-ipv6"),
        pytest.param(
            "server.podDisruptionBudget.maxUnavailable=150%", "does not match pattern", id="more-than-all-of-them"
        ),
        pytest.param(
            "config.exemptions[0].policy=zonal,config.exemptions[0].owner=a,config.exemptions[0].reason=b,"
            "config.exemptions[0].until=2027-01-01,config.exemptions[0].match.namespaces[0]=a",
            "value must be one of 'memory-limits'",
            id="an-exemption-from-no-policy",
        ),
        pytest.param("config.mode=true", "value must be one of", id="no-mode"),
        pytest.param("server.port=84430", "maximum", id="port"),
        pytest.param(
            "server.metricsPort=8443", "server.port and server.metricsPort are both 8443", id="one-port-for-two"
        ),
        pytest.param("audit.metricsPort=8081", "audit.metricsPort is 8081", id="the-console-s-port"),
        pytest.param("audit.resources.limits.memory=null", "missing property 'memory'", id="audit-without-a-limit"),
        pytest.param("server.replicas=two", "want integer", id="type"),
        pytest.param("server.replica=3", "'replica' not allowed", id="server"),
        pytest.param("server.resources.limits.memory=null", "missing property 'memory'", id="no-memory-limit"),
        pytest.param("image.digest=latest", "does not match pattern", id="digest"),
        pytest.param("limitRangeNamespaces[0]=team-*,config.limitRanges=null", "no entry", id="no-amounts"),
    ],
)
def test_refused(setting: str, refusal: str) -> None:
    done = helm("install", "forestall", CHART, "--dry-run=client", "--set", setting)
    assert (done.returncode, refusal in done.stderr) == (1, True), done.stderr


# What is rendered -----------------------------------------------------------------------------------------------------


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_configuration_can_be_used(variant: str) -> None:
    config_of(render(variant))


@needs_helm
@pytest.mark.parametrize(
    ("variant", "settings", "mode", "failure_policy"),
    [
        pytest.param("defaults", (), "deny", "Ignore", id="defaults"),
        pytest.param("defaults", ("--set", "config.mode=audit"), "audit", "Ignore", id="audit-by-one-value"),
        pytest.param("presets/audit", (), "audit", "Ignore", id="audit"),
        pytest.param("presets/warn", (), "warn", "Ignore", id="warn"),
        pytest.param("presets/enforce", (), "deny", "Fail", id="enforce"),
    ],
)
def test_presets(variant: str, settings: tuple[str, ...], mode: str, failure_policy: str) -> None:
    config = config_of(render(variant, *settings))
    assert (config.mode, config.webhooks.failure_policy) == (mode, failure_policy)


@needs_helm
@pytest.mark.parametrize("preset", ["audit", "warn", "enforce"])
def test_no_preset_drops_the_rules_for_limit_ranges(preset: str) -> None:
    """An upgrade that keeps the values and sets the mode would go on without them."""
    assert config_of(render(f"presets/{preset}")).limit_ranges == config_of(render()).limit_ranges


@needs_helm
@pytest.mark.parametrize(
    ("deployment", "value", "arguments"),
    [
        pytest.param("forestall", "server.workers=4", ["--workers=4", "--log-level=info"], id="workers"),
        pytest.param("forestall", "server.logLevel=debug", ["--workers=2", "--log-level=debug"], id="servers-log"),
        pytest.param("forestall-controller", "controller.logLevel=error", ["--log-level=error"], id="controllers-log"),
    ],
)
def test_workers_and_log_levels(deployment: str, value: str, arguments: list[str]) -> None:
    found = [
        obj
        for obj in render("defaults", "--set", value)
        if (obj["kind"], obj["metadata"]["name"]) == ("Deployment", deployment)
    ]
    args = found[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [argument for argument in args if argument.startswith(("--workers", "--log-level"))] == arguments


@needs_helm
def test_limit_ranges() -> None:
    (labelled,) = config_of(render()).limit_ranges
    assert labelled.namespace_selector == {"forestall.dev/defaults": "true"}
    assert (labelled.default, labelled.default_request) == ({"memory": "512Mi"}, {"memory": "256Mi"})
    labelled, listed = config_of(render("defaults", "--set", "limitRangeNamespaces={shop,team-*}")).limit_ranges
    assert (listed.namespaces, listed.namespace_selector) == (("shop", "team-*"), {})
    assert (listed.default, listed.default_request) == (labelled.default, labelled.default_request)


@needs_helm
def test_what_is_written_in_values_arrives() -> None:
    """Dates and large numbers are what YAML's readers change most gladly."""
    config = config_of(render("ci/everything"))
    assert str(config.exemptions[0].until) == "2099-03-31"
    assert config.policies["memory-limits"].params.images == {"fluent/fluent-bit": 128 * 2**20}


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_names_that_scripts_rely_on(variant: str) -> None:
    objects = render(variant)
    (port,) = of_kind(objects, "Service")["forestall"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "webhook")
    assert set(of_kind(objects, "ServiceAccount")) == {"forestall-server", "forestall-controller"}
    assert set(of_kind(objects, "ConfigMap")) == {"forestall-config"}
    assert set(of_kind(objects, "Deployment")) == {"forestall", "forestall-controller"}
    assert all(obj["metadata"]["labels"]["app.kubernetes.io/name"] == "forestall" for obj in objects)
    # The controller alone makes these.
    assert not {"Secret", "Lease", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} & {
        obj["kind"] for obj in objects
    }


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_services_lead_to_pods(variant: str) -> None:
    objects = render(variant)
    pods = [template for name, template in pods_of(objects).items() if name != "forestall-uninstall"]
    for service in of_kind(objects, "Service").values():
        port, *of_auditors = service["spec"]["ports"]
        wanted = service["spec"]["selector"].items()
        chosen = [pod for pod in pods if wanted <= pod["metadata"]["labels"].items()]
        assert chosen
        for pod in chosen:
            assert port["targetPort"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for port in of_auditors:
            assert port["targetPort"] == container_of(objects, "forestall-controller", "auditor")["ports"][0]["name"]


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_passes_our_own_policies(variant: str, tmp_path: Path) -> None:
    (tmp_path / "rendered.yaml").write_text(yaml.safe_dump_all(render(variant)))
    files = [str(tmp_path / "rendered.yaml")]
    report = check_files(files, load_config(b"", "defaults"), NO_FACTS, today=TODAY, namespace="default")
    assert (report.errors, report.exit_code(strict=True)) == ([], 0)
    assert report.objects


@needs_helm
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "ci/host-network"])
def test_restricted_pod_security(variant: str) -> None:
    """On the real API server it is enforced in tests/e2e; this also covers variants that aren't installed there."""
    for template in pods_of(render(variant)).values():
        spec = template["spec"]
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert not spec.get("hostNetwork")
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


@needs_helm
def test_tokens_are_only_where_they_are_needed() -> None:
    objects = render()
    assert {account["automountServiceAccountToken"] for account in of_kind(objects, "ServiceAccount").values()} == {
        False
    }
    pods = {name: pod["spec"] for name, pod in pods_of(objects).items()}
    assert {name: (pod["serviceAccountName"], pod["automountServiceAccountToken"]) for name, pod in pods.items()} == {
        "forestall": ("forestall-server", True),
        "forestall-controller": ("forestall-controller", True),
        "forestall-uninstall": ("forestall-controller", True),
    }


@needs_helm
def test_server_gets_no_key_but_its_own_and_waits_for_it() -> None:
    (secret,) = (volume["secret"] for volume in pods_of(render())["forestall"]["spec"]["volumes"] if "secret" in volume)
    keys = [item["key"] for item in secret["items"]]
    assert (secret["secretName"], secret["optional"], keys) == ("forestall-tls", True, ["tls.crt", "tls.key"])


@needs_helm
def test_grace_period_covers_the_drain() -> None:
    grace = pods_of(render())["forestall"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > ServerSettings().drain_delay + workers._GRACE_SECONDS


@needs_helm
def test_selectors_never_change() -> None:
    """They are immutable: a version or a release's name in them would make the next upgrade fail."""
    selectors = [
        deployment["spec"]["selector"]["matchLabels"] for deployment in of_kind(render(), "Deployment").values()
    ]
    assert selectors == [
        {"app.kubernetes.io/name": "forestall", "app.kubernetes.io/component": component}
        for component in ("controller", "server")
    ]


@needs_helm
def test_host_network() -> None:
    objects = render("ci/host-network")
    deployment = of_kind(objects, "Deployment")["forestall"]
    spec = deployment["spec"]["template"]["spec"]
    assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    assert ports == {"webhook": 9443, "metrics": 9080}
    assert {"--port=9443", "--metrics-port=9080"} <= set(spec["containers"][0]["args"])
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@needs_helm
def test_arguments_are_options_of_the_program() -> None:
    for variant in VARIANTS:
        for container in containers_of(render(variant)):
            command: click.Command = cli
            words = list(container["args"])
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            command.make_parser(click.Context(command)).parse_args(words)


@needs_helm
def test_files_in_arguments_are_mounted() -> None:
    for template in pods_of(render("ci/everything")).values():
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
            files = [value for _, is_given, value in (arg.partition("=/") for arg in container["args"]) if is_given]
            assert {f"/{file}".rpartition("/")[0] for file in files} <= mounts


@needs_helm
def test_a_critical_priority_class_is_let_in() -> None:
    quota = of_kind(render("presets/enforce"), "ResourceQuota")["forestall-critical-pods"]
    (scope,) = quota["spec"]["scopeSelector"]["matchExpressions"]
    assert (scope["scopeName"], scope["values"]) == ("PriorityClass", ["system-cluster-critical"])
    assert of_kind(render(), "ResourceQuota") == {}


# Roles ----------------------------------------------------------------------------------------------------------------


def granted(role: Object) -> set[tuple[str, str, str]]:
    """(group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(config: Config) -> set[tuple[str, str, str]]:
    overridden = {
        name
        for override in config.overrides
        for name, section in override.policies.items()
        if section.mode not in (None, "off")
    }
    active = {name for name, policy in config.policies.items() if policy.mode != "off"} | overridden
    kinds = {kind for name in active for kind in config.policies[name].policy.facts if kind.is_served}
    read = {(kind.group, kind.resource, verb) for kind in kinds for verb in ("get", "list", "watch")}
    read |= {(kind.group, kind.resource, "get") for kind in looked_up_facts(config)}
    return set() if config.mode == "off" else read


OFF = {name: {"mode": "off"} for name in load_policies()}
READS = {"params": {"readConfigMaps": True}}


@needs_helm
@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"mode": "off"}, id="ceiling"),
        pytest.param({"policies": OFF}, id="none"),
        *(pytest.param({"policies": OFF | {name: {"mode": "warn"}}}, id=name) for name in OFF),
        *(pytest.param({"policies": OFF | {name: {"onError": "deny"}}}, id=f"{name}-as-declared") for name in OFF),
        *(
            pytest.param({"policies": OFF | {"metrics-durability": READS | {"mode": mode}}}, id=f"config-maps-{mode}")
            for mode in ("warn", "off")
        ),
        pytest.param(
            {
                "policies": OFF,
                "overrides": [
                    {"match": {"namespaces": ["a"]}, "policies": {"zonal-volumes": {"mode": "audit"}}},
                    {"match": {"namespaces": ["b"]}, "policies": {"memory-limits": {"otherwise": "warn"}}},
                ],
            },
            id="by-override",
        ),
    ],
)
def test_server_reads_what_active_policies_declare(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"config": config}))
    objects = render("defaults", "--values", str(tmp_path / "values.yaml"))
    assert granted(of_kind(objects, "ClusterRole")["forestall-server"]) == needed(config_of(objects))
    assert "forestall-server" not in of_kind(objects, "Role")


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_role_is_wide(variant: str) -> None:
    objects = render(variant)
    everywhere = [granted(role) for role in of_kind(objects, "ClusterRole").values()]
    here = [granted(role) for role in of_kind(objects, "Role").values()]
    assert "*" not in {word for role in everywhere + here for grant in role for word in grant}
    for role in everywhere:
        assert not {resource for _, resource, _ in role} & {"secrets", "configmaps", "serviceaccounts", "roles"}
    assert not {verb for role in everywhere + here for *_, verb in role} & {"escalate", "bind", "impersonate"}


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_reader_s_role_lets_see_what_is_judged_and_changes_nothing(variant: str) -> None:
    objects = render(variant)
    seen = granted(of_kind(objects, "ClusterRole")["forestall-reader"])
    config = config_of(objects)
    assert needed(config) <= seen
    judged = {(kind.group, kind.resource, "list") for kind in judged_kinds(config) if kind.group != "extensions"}
    assert judged <= seen
    assert {(kind.group, kind.resource, "list") for kind in needed_lives(observers(config))} <= seen
    assert {verb for *_, verb in seen} <= {"get", "list", "watch"}
    here = granted(of_kind(objects, "Role")["forestall-reader"])
    assert here == {("", "configmaps", "get")}
    assert not [role for role in of_kind(objects, "ClusterRoleBinding") if "reader" in role]


@needs_helm
@pytest.mark.parametrize(
    ("mode", "verbs"),
    [
        pytest.param("selfManaged", {"create", "get", "update"}, id="selfManaged"),
        pytest.param("certManager", {"get"}, id="certManager"),
        pytest.param("provided", {"get"}, id="provided"),
    ],
)
def test_secret_is_written_by_who_makes_certificates(mode: str, verbs: set[str]) -> None:
    role = of_kind(render("defaults", "--set", f"config.certificates.mode={mode}"), "Role")["forestall-controller"]
    assert {verb for _, resource, verb in granted(role) if resource == "secrets"} == verbs


# The audit ------------------------------------------------------------------------------------------------------------


@needs_helm
def test_an_audit_that_is_off_leaves_nothing_behind(tmp_path: Path) -> None:
    objects = render("ci/everything", "--set", "audit.enabled=false")
    assert [container["name"] for container in containers_of(objects)] == ["forestall"] * 3
    for obj in objects:
        named = yaml.safe_dump([obj["metadata"]["name"], obj.get("rules"), obj.get("spec")])
        assert re.findall(r"audit-metrics|8082|forestall-audit\w*|policyreports|openreports", named) == []
    here, there = (
        granted(of_kind(rendered, "ClusterRole")["forestall-controller"])
        for rendered in (objects, render("ci/everything"))
    )
    assert here < there


@needs_helm
@pytest.mark.parametrize(
    ("setting", "is_deleted"),
    [
        pytest.param("audit.enabled=true", True, id="by-default"),
        pytest.param("audit.keepReports=true", False, id="kept"),
        pytest.param("audit.enabled=false", False, id="no-audit"),
    ],
)
def test_uninstalling_deletes_the_reports(setting: str, is_deleted: bool) -> None:
    job = of_kind(render("defaults", "--set", setting), "Job")["forestall-uninstall"]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == ["hooks", "off", "--namespace=forestall-system", *["--with-reports"] * is_deleted]


@needs_helm
@pytest.mark.parametrize(("enabled", "names"), [("true", ["hook"]), ("false", [])], ids=["audit", "no-audit"])
def test_the_auditor_may_read_the_secret_of_its_receiver_and_no_other(enabled: str, names: list[str]) -> None:
    settings = ["config.notifications.secret.name=hook", f"audit.enabled={enabled}"]
    objects = render("defaults", *(argument for setting in settings for argument in ("--set", setting)))
    rules = of_kind(objects, "Role")["forestall-controller"]["rules"]
    of_secrets = [rule for rule in rules if rule["resources"] == ["secrets"]]
    more = [rule for rule in of_secrets if rule.get("resourceNames") not in (["forestall-tls"], None)]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in more] == [(names, ["get"])] * len(names)
    notifications = config_of(objects).notifications
    assert notifications
    assert notifications.secret
    assert (notifications.secret.name, notifications.secret.key) == ("hook", "url")


@needs_helm
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_auditor_may_follow_what_it_judges_and_what_lives(variant: str) -> None:
    objects = render(variant)
    config = config_of(objects)
    kinds = {(kind.group, kind.resource) for kind in kinds_to_judge(config) if kind.group != "extensions"}
    kinds |= {(kind.group, kind.resource) for kind in needed_lives(observers(config))}
    kinds |= {(kind.group, kind.resource) for kind in facts_to_watch(config)}
    allowed = granted(of_kind(objects, "ClusterRole")["forestall-controller"])
    assert {(*kind, verb) for kind in kinds for verb in ("get", "list", "watch")} <= allowed


@needs_helm
@pytest.mark.parametrize(
    ("policy", "resource"),
    [
        pytest.param("zonal-volumes", ("storage.k8s.io", "storageclasses", "watch"), id="facts"),
        pytest.param("volume-handover", ("storage.k8s.io", "volumeattachments", "watch"), id="what-lives"),
        pytest.param("namespace-defaults", ("", "namespaces", "watch"), id="kinds"),
    ],
)
def test_a_policy_that_is_off_takes_its_rights_away(policy: str, resource: tuple[str, str, str]) -> None:
    def rights(mode: str) -> set[tuple[str, str, str]]:
        others = [f"--set=config.policies.{name}.mode=off" for name in OFF if name != policy]
        role = of_kind(render("defaults", *others, f"--set=config.policies.{policy}.mode={mode}"), "ClusterRole")[
            "forestall-controller"
        ]
        rules = [rule for rule in role["rules"] if rule["resources"] != ["namespaces"]]
        return granted({"rules": rules})

    assert (resource in rights("warn"), resource in rights("off")) == (True, False)


@needs_helm
def test_the_audit_s_calls_are_told_apart_from_the_controller_s() -> None:
    (schema,) = of_kind(render(), "FlowSchema").values()
    (rule,) = schema["spec"]["rules"]
    about = {resource for part in rule["resourceRules"] for resource in part["resources"]}
    assert {"deployments", "pods", "replicasets", "nodes"} <= about
    assert not about & {"leases", "secrets", "configmaps", "validatingwebhookconfigurations", "limitranges"}
    both = of_kind(render("defaults", "--set", "flowSchema.enabled=true"), "FlowSchema")
    order = sorted(both, key=lambda name: both[name]["spec"]["matchingPrecedence"])
    assert order == ["forestall-audit", "forestall"]


# Text -----------------------------------------------------------------------------------------------------------------


@needs_helm
@pytest.mark.parametrize(
    ("settings", "is_placeholder"),
    [
        pytest.param((), True, id="placeholder"),
        pytest.param(("--set", "image.repository=registry.corp/forestall"), False, id="own-image"),
    ],
)
def test_notes(settings: tuple[str, ...], is_placeholder: bool) -> None:
    done = helm("install", "forestall", CHART, "--namespace", "forestall-system", "--dry-run=client", *settings)
    notes = done.stdout.partition("NOTES:")[2]
    assert ("WARNING" in notes) == is_placeholder
    for command in ("rollout status", "--dry-run=server", "delete mutatingwebhookconfiguration", "delete limitrange"):
        assert command in notes
    assert re.search(r"\{\{|<no value>|%!", notes) is None


def test_values_name_only_pages_that_exist() -> None:
    text = (CHART / "values.yaml").read_text() + "".join(file.read_text() for file in (CHART / "presets").iterdir())
    for page in re.findall(r"\bdocs/[\w-]+\.md", text):
        assert (ROOT / page).exists()


@needs_helm
@pytest.mark.parametrize(
    ("settings", "webhook", "console"),
    [
        pytest.param((), [{"ports": [{"port": 8443}]}], [], id="by-default"),
        pytest.param(
            ("networkPolicy.apiServerCIDRs={10.0.0.0/28,fd00::/64}",),
            [
                {
                    "ports": [{"port": 8443}],
                    "from": [{"ipBlock": {"cidr": "10.0.0.0/28"}}, {"ipBlock": {"cidr": "fd00::/64"}}],
                }
            ],
            [],
            id="api-servers",
        ),
        pytest.param(
            ("networkPolicy.consoleFrom[0].podSelector.matchLabels.app=proxy",),
            [{"ports": [{"port": 8443}]}],
            [{"ports": [{"port": 8081}], "from": [{"podSelector": {"matchLabels": {"app": "proxy"}}}]}],
            id="console",
        ),
    ],
)
def test_who_may_connect(settings: tuple[str, ...], webhook: list[object], console: list[object]) -> None:
    policies = of_kind(render("defaults", *(f"--set={setting}" for setting in settings)), "NetworkPolicy")
    assert policies["forestall-server"]["spec"]["ingress"] == [*webhook, {"ports": [{"port": 8080}]}]
    of_controllers = {"ports": [{"port": 8080}, {"port": 8082}]}
    assert policies["forestall-controller"]["spec"]["ingress"] == [*console, of_controllers]
