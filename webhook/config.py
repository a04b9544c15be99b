"""The configuration: one YAML file, typed, the same for server, command line and CI.

`load_config` reads it; every refusal names file, line, field and value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml
from msgspec import Meta

from webhook.errors import BadConfig
from webhook.files.typed_yaml import (
    YamlNode,
    all_of,
    check_text,
    compose,
    convert,
    convert_struct,
    each_of,
    suggest,
)
from webhook.loader import load_policies
from webhook.objects.names import LabelKey, NamespaceGlob, UserName
from webhook.objects.pods import WORKLOADS
from webhook.policy import GroupKind, Mode, Policy, is_weaker
from webhook.sections import (
    Certificates,
    Exemption,
    Kind,
    LimitRangeDefaults,
    Notifications,
    OnError,
    OperatorMade,
    Otherwise,
    Override,
    PolicyId,
    PolicySection,
    Section,
    Webhooks,
)

CONTACT_LENGTH = 80
"""Characters of `contact`: a warning has 256, and needs most of them for what is wrong and what to do."""


class _Contact:
    """A line that a warning has room for."""

    @staticmethod
    def parse(text: str) -> str:
        if len(text) > CONTACT_LENGTH:
            raise ValueError(f"it is longer than the {CONTACT_LENGTH} characters that a warning has room for")
        if not text.isprintable():
            raise ValueError("it is more than one line")
        return text


class _Excluded:
    """A glob that leaves some namespace to be judged."""

    @staticmethod
    def parse(text: str) -> str:
        if not text.strip("*"):
            raise ValueError(f"{text!r} is every namespace, and nothing would be judged: use mode: off")
        return text


class ConfigFile(Section, frozen=True):
    """The configuration file."""

    mode: Annotated[
        Mode, Meta(description="The strongest mode that any policy may take, whatever else is said here.")
    ] = "deny"
    on_error: Annotated[
        OnError,
        Meta(
            description="What becomes of an object that a policy could not decide about, because it failed or because "
            "what it needs could not be read: 'ignore' admits it with a warning, 'deny' refuses it. It holds for every "
            "policy that names no onError of its own."
        ),
    ] = "ignore"
    contact: Annotated[
        str,
        Meta(
            max_length=CONTACT_LENGTH,
            description="A line of your own, such as 'Ask #platform, https://wiki.example.com/forestall', that stands "
            "in every denial and warning: whom to ask, and where to read on.",
        ),
        _Contact,
    ] = ""
    pages: Annotated[
        str,
        Meta(
            title="an address: it begins with https:// and holds no spaces",
            pattern=r"^(https?://\S+)?$",
            description="The address under which people find the policies' pages: a denial then links to "
            "ADDRESS/POLICY, where it otherwise names the command `forestall explain POLICY`.",
        ),
    ] = ""
    policies: dict[str, Any] = msgspec.field(default_factory=dict)
    overrides: Annotated[
        tuple[Override, ...],
        Meta(description="Other modes for some requests; where several match, the last one counts."),
    ] = ()
    exemptions: Annotated[
        tuple[Exemption, ...], Meta(description="Violations that may pass until a day, and who answers for it.")
    ] = ()
    controllers: Annotated[
        tuple[UserName, ...],
        Meta(
            description="Users, such as the ServiceAccounts of operators: what they make for an owner passes, whatever "
            "operatorMade says."
        ),
    ] = ()
    operator_made: Annotated[
        OperatorMade,
        Meta(
            description="What becomes of a violation in an object that an operator makes for a resource of its own: "
            "'warn' admits it with a warning that names the owner, 'patch' mends it first, 'deny' is 'warn' for the "
            "ServiceAccounts of other namespaces, and judges those of the object's own namespace like persons."
        ),
    ] = "warn"
    kinds: Annotated[
        tuple[Kind, ...], Meta(description="Further kinds that carry a pod, to be judged as a Deployment is.")
    ] = ()
    exclude_namespaces: Annotated[
        tuple[Annotated[NamespaceGlob, _Excluded], ...],
        Meta(description="Globs over the names of namespaces in which nothing is judged."),
    ] = ()
    ratchet: Annotated[
        bool,
        Meta(description="Whether an update is only warned of what the object had before: neither denied nor patched."),
    ] = True
    patch_existing: Annotated[
        bool,
        Meta(
            description="Whether an update is patched although the object had the violation before, which restarts the "
            "pods of a workload."
        ),
    ] = False
    patch_owned_pods: Annotated[
        bool,
        Meta(
            description="Whether pods that a controller makes get the policies' defaults, not only sizes that the "
            "configuration names for them."
        ),
    ] = False
    webhooks: Webhooks = Webhooks()
    certificates: Certificates = msgspec.field(default_factory=Certificates)
    limit_ranges: tuple[LimitRangeDefaults, ...] = ()
    notifications: Annotated[
        Notifications | None,
        Meta(description="Whom the auditor tells what changes and what is broken; where it isn't given, nobody."),
    ] = None
    team_label: Annotated[
        LabelKey,
        Meta(
            description="Label of a workload, or of its namespace, whose value names the team that it belongs to: "
            "`forestall audit` groups by it; where it isn't given or empty, by namespace."
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """A policy as the configuration wants it enforced."""

    policy: Policy
    mode: Mode
    otherwise: Otherwise
    on_error: OnError
    params: Any


class JudgedKind(NamedTuple):
    """A kind, and the policies that judge it."""

    kind: GroupKind
    policies: list[ActivePolicy]


@dataclass(frozen=True)
class Config:
    """The configuration as it is in force: everything that the file leaves out has its default."""

    mode: Mode
    contact: str
    pages: str
    policies: Mapping[str, ActivePolicy]
    overrides: tuple[Override, ...]
    exemptions: tuple[Exemption, ...]
    controllers: frozenset[str]
    operator_made: OperatorMade
    pod_spec_paths: Mapping[tuple[str, str], tuple[str, ...]]
    """(group, kind) -> paths, of the kinds that only the configuration knows."""
    kinds: tuple[GroupKind, ...]
    exclude_namespaces: tuple[str, ...]
    ratchet: bool
    patch_existing: bool
    patch_owned_pods: bool
    webhooks: Webhooks
    certificates: Certificates
    limit_ranges: tuple[LimitRangeDefaults, ...]
    notifications: Notifications | None
    team_label: str

    @cached_property
    def object_fields(self) -> tuple[str, ...]:
        """The fields of an object's root from which these paths lead to a pod spec."""
        paths = [path for paths in self.pod_spec_paths.values() for path in paths]
        return tuple(sorted({path.partition(".")[0].removesuffix("[*]") for path in paths}))

    @cached_property
    def workloads(self) -> tuple[GroupKind, ...]:
        """Every kind that carries a pod: the built-in ones, then those that only the configuration knows."""
        return (*WORKLOADS, *self.kinds)

    @cached_property
    def workload_keys(self) -> frozenset[tuple[str, str]]:
        """(group, kind) of every kind that carries a pod."""
        return frozenset((kind.group, kind.kind) for kind in self.workloads)

    @cached_property
    def judged(self) -> Mapping[tuple[str, str], JudgedKind]:
        """(group, kind) -> the kind and the policies that judge it, whatever their mode."""
        judged: dict[tuple[str, str], JudgedKind] = {}
        for active in self.policies.values():
            policy = active.policy
            workloads = self.workloads if policy.workloads else ()
            for kind in dict.fromkeys((*policy.kinds, *policy.unasked, *workloads)):
                judged.setdefault((kind.group, kind.kind), JudgedKind(kind, [])).policies.append(active)
        return judged

    @cached_property
    def names_sizes(self) -> bool:
        """Whether there may be sizes for single images or containers: they reach what controllers make, too."""
        return any(active.policy.names_sizes(active.params) for active in self.policies.values())


def load_config(text: bytes, file: str, *, is_values: bool = False) -> Config:
    """Read a configuration file's text, or what a values file of the chart has at `config`; empty text is the defaults.

    Raises BadConfig, whatever the text is, with every error that it finds.
    """
    try:
        root = compose(text, file)
        if is_values and root is not None and not root.is_null:
            root = _at_config(root)
        return _config(ConfigFile(), {}) if root is None or root.is_null else _load(root)
    except BadConfig:
        raise
    except Exception as error:  # a bug of Forestall's: it must end neither a running server nor the controller
        raise BadConfig(f"{file}: {UNEXPECTED}: {error!r}") from error


UNEXPECTED = "the configuration could not be read, which is a bug in Forestall or in a policy's parameters"


def _at_config(values: YamlNode) -> YamlNode | None:
    """What the chart's values have at `config`. Raises BadConfig for fields of the configuration that stand beside it,
    where the chart takes none."""
    entries = dict(values.entries())
    for field in msgspec.structs.fields(ConfigFile):
        if misplaced := entries.get(field.encode_name):
            raise misplaced.error(
                "the chart's values have this below `config`; check a configuration itself without --values"
            )
    return entries.get("config")


def _load(root: YamlNode) -> Config:
    entries = dict(root.entries())
    if "apiVersion" in entries:
        raise entries["apiVersion"].error(
            "this is a Kubernetes object; the configuration is the text that its data holds"
        )
    if values := entries.get("config"):
        raise values.error(
            "unknown field: is this a values file of the chart? `forestall config check --values` reads one"
        )
    reads = (
        partial(_read_policies, entries.get("policies")),
        partial(convert_struct, _without(root, "policies"), ConfigFile),
    )
    sections, parsed = all_of(*reads)
    config = _config(parsed, sections)
    each_of(_kinds_matched(entries), partial(_check_kind, config))
    return config


def _without(root: YamlNode, key: str) -> YamlNode:
    """The root without the entry `policies`, which is converted by the policies' own types."""
    entries = [(name, value) for name, value in root.yaml.value if name.value != key]
    kept = yaml.MappingNode(root.yaml.tag, entries, root.yaml.start_mark, root.yaml.end_mark)
    return root._replace(yaml=kept)


def _check_kind(config: Config, node: YamlNode) -> None:
    """Raise BadConfig for a match's kind that is never judged: owners that are trusted are of judged kinds, too."""
    plurals = {judged.kind.kind: judged.kind.resource for judged in config.judged.values()}
    kind = str(node.yaml.value)
    if kind not in plurals:
        spellings = {spelling: name for name, plural in plurals.items() for spelling in (name.casefold(), plural)}
        meant = spellings.get(kind.casefold())
        remedy = f": did you mean {meant!r}?" if meant else suggest(kind, plurals)
        raise node.error(f"no policy judges a kind {kind!r}{remedy}")


def _kinds_matched(entries: Mapping[str, YamlNode]) -> Iterator[YamlNode]:
    for section in ("overrides", "exemptions"):
        for entry in entries[section].items() if section in entries else ():
            match = dict(dict(entry.entries())["match"].entries())
            yield from match["kinds"].items() if "kinds" in match else ()


class _PolicyRead(NamedTuple):
    """What the file says of one policy."""

    section: PolicySection
    params: Any


def _read_policies(section: YamlNode | None) -> dict[str, _PolicyRead]:
    if section is None or section.is_null:
        return {}
    return dict(each_of(section.entries(), lambda entry: (entry[0], _read_policy(*entry))))


def _read_policy(name: str, node: YamlNode) -> _PolicyRead:
    check_text(node, name, PolicyId)
    policy = load_policies()[name].policy
    if node.is_null:
        return _PolicyRead(PolicySection(), policy.params())
    params = dict(node.entries()).get("params")
    read_params = partial(convert, params, policy.params) if params else policy.params
    section, values = all_of(partial(convert_struct, _without(node, "params"), PolicySection), read_params)
    return _PolicyRead(section, values)


def _activate(policy: Policy, read: _PolicyRead, on_error: OnError) -> ActivePolicy:
    section = read.section
    otherwise: Otherwise = "warn" if (section.otherwise or policy.otherwise) != "deny" else "deny"
    return ActivePolicy(policy, section.mode or policy.mode, otherwise, section.on_error or on_error, read.params)


def _config(parsed: ConfigFile, sections: Mapping[str, _PolicyRead]) -> Config:
    declared = {name: loaded.policy for name, loaded in load_policies().items()}
    return Config(
        mode=parsed.mode,
        contact=parsed.contact.strip(),
        pages=parsed.pages.rstrip("/"),
        policies={
            name: _activate(
                policy, sections.get(name) or _PolicyRead(PolicySection(), policy.params()), parsed.on_error
            )
            for name, policy in declared.items()
        },
        overrides=parsed.overrides,
        exemptions=parsed.exemptions,
        controllers=frozenset(parsed.controllers),
        operator_made=parsed.operator_made,
        pod_spec_paths=_pod_spec_paths(parsed.kinds),
        kinds=tuple(dict.fromkeys(GroupKind(kind.group, kind.kind, kind.resource) for kind in parsed.kinds)),
        exclude_namespaces=parsed.exclude_namespaces,
        ratchet=parsed.ratchet,
        patch_existing=parsed.patch_existing,
        patch_owned_pods=parsed.patch_owned_pods,
        webhooks=parsed.webhooks,
        certificates=parsed.certificates,
        limit_ranges=parsed.limit_ranges,
        notifications=parsed.notifications,
        team_label=parsed.team_label,
    )


def _pod_spec_paths(kinds: Iterable[Kind]) -> Mapping[tuple[str, str], tuple[str, ...]]:
    paths: dict[tuple[str, str], tuple[str, ...]] = {}
    for kind in kinds:
        key = kind.group, kind.kind
        paths[key] = tuple(dict.fromkeys((*paths.get(key, ()), kind.pod_spec)))
    return paths


def read_config(path: str) -> Config:
    """The configuration in the file; raises BadConfig, also if it cannot be read."""
    return load_config(read_text(path), path)


def read_text(path: str) -> bytes:
    """What the file holds, for load_config; raises BadConfig if it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path is all that is needed here
            return file.read()
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from error


def capped_overrides(config: Config) -> Iterator[tuple[str, Mode]]:
    """Modes of overrides that the configuration's own mode keeps from counting, with their paths in the file."""
    for index, override in enumerate(config.overrides):
        for policy, section in override.policies.items():
            if section.mode and is_weaker(config.mode, section.mode):
                yield f"overrides[{index}].policies.{policy}.mode", section.mode


def iter_expired(config: Config, today: date) -> Iterator[tuple[int, Exemption]]:
    """The exemptions that no longer count, with their index."""
    return ((index, exemption) for index, exemption in enumerate(config.exemptions) if exemption.until < today)
