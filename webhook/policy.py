"""What a policy is, and what passes between policies and the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from webhook.prepared import prepare

Object = dict[str, Any]
"""A Kubernetes object, as it arrived."""

Mode = Literal["off", "audit", "warn", "patch", "deny"]
MODES: tuple[Mode, ...] = ("off", "audit", "warn", "patch", "deny")
"""From weakest to strongest."""
OTHERWISE: tuple[Mode, ...] = ("warn", "deny")
"""What may become of a violation that mode "patch" has no fix for."""
OPERATIONS = ("CREATE", "UPDATE")
"""The operations that have an object to judge."""
_STRENGTH = {mode: strength for strength, mode in enumerate(MODES)}

Stage = Literal["mutate", "validate"]
"""The call by which the API server asks: /mutate patches and never denies, /validate judges the patched object."""

Outcome = Literal["denied", "patched", "warned", "audited", "exempted", "unknown", "failed"]


class GroupKind(NamedTuple):
    """A kind whatever its version, with the plural that webhook rules and RBAC name."""

    group: str
    kind: str
    resource: str

    @property
    def full_resource(self) -> str:
        return full_resource(self.group, self.resource)


def full_resource(group: str, resource: str) -> str:
    """A plural as kubectl takes it: "pods", "deployments.apps"."""
    return f"{resource}.{group}" if group else resource


SUBRESOURCES: Mapping[str, GroupKind] = {
    "resize": GroupKind("", "Pod", "pods"),
    "scale": GroupKind("apps", "Deployment", "deployments"),
}
"""The subresources that can be judged, and of which kind: pods/resize, deployments/scale."""

FactKey = Literal["name", "namespace and name", "namespace"]
FACT_KEYS: tuple[FactKey, ...] = ("name", "namespace and name", "namespace")

RecordKey = TypeVar("RecordKey")
FactRecord = TypeVar("FactRecord")


def _as_written(record: FactRecord, _seen: FactRecord | None) -> FactRecord:
    return record


@dataclass(frozen=True, slots=True, eq=False)
class FactKind(Generic[RecordKey, FactRecord]):
    """A kind of cluster object that policies read, and the slim record that is kept of one such object.

    A policy names the kinds that it reads in its declaration; what the server watches, its RBAC, and what `--facts` and
    `--cluster` take in follow from that. Each kind is declared once, and whoever reads it imports that one.

    group     the API group, empty for the core group
    resource  the plural that URLs and RBAC name: "persistentvolumeclaims"
    wire      the msgspec.Struct that an object's JSON is decoded into: the fields that are read, and no others
    read      (reference, metadata, wire) -> record, None of an object that nothing has to be known of; raises BadObject
              or BadQuantity with the path of the field
    key       what a record is looked for by: its name, where the kind is not namespaced, its namespace and name, or its
              namespace alone: the records of all objects in a namespace then stand in one tuple, `read` returns those
              of one object as a tuple, and each has the object's `name`
    applied   (record, seen) -> record: what becomes of an object from a file once it is applied to a cluster that has
              `seen`, a record or None, under the same key
    version   the API version that it is listed by
    allowed_by empty for a kind whose objects are listed and watched. Those of another kind are looked up one by one,
              as the judged object names them, within the deadline that the server gives claims, and only where a
              policy's user allows it: by this parameter, a bool of every policy that reads the kind
    on_servers whether servers watch the kind as well; if not, check and audit alone read it
    spans     whether such an object matters to objects of other namespaces: where only some namespaces were listed, the
              kind isn't known
    """

    group: str
    kind: str
    resource: str
    wire: type[Any]
    read: Callable[[FactReference, Any, Any], FactRecord | None]
    key: FactKey = "name"
    applied: Callable[[FactRecord, FactRecord | None], FactRecord] = _as_written
    version: str = "v1"
    allowed_by: str = ""
    on_servers: bool = True
    spans: bool = False

    def __post_init__(self) -> None:
        prepare(self.wire)

    # Two kinds are equal if they name the same resource: a kind that came from another process is another Python
    # object.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, FactKind) and (self.group, self.resource) == (other.group, other.resource)

    def __hash__(self) -> int:
        return hash(self.resource)

    def __str__(self) -> str:
        return self.kind

    @property
    def full_resource(self) -> str:
        """The plural as kubectl takes it: "nodes", "storageclasses.storage.k8s.io"."""
        return full_resource(self.group, self.resource)

    @property
    def is_namespaced(self) -> bool:
        return self.key != "name"

    @property
    def is_watched(self) -> bool:
        return not self.allowed_by

    @property
    def is_served(self) -> bool:
        """Whether servers watch the kind."""
        return self.is_watched and self.on_servers

    @property
    def is_custom(self) -> bool:
        """Whether the kind comes with a CustomResourceDefinition, which a cluster need not have."""
        return is_custom(self.group)


def is_custom(group: str) -> bool:
    """Whether the kinds of an API group come with CustomResourceDefinitions."""
    return "." in group and not group.endswith(".k8s.io")


class Reference(NamedTuple):
    """A cluster object by name; `namespace` is empty for kinds that are not namespaced."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As a person names it: "PersistentVolumeClaim web/data"; "?" stands for a name that isn't known."""
        return f"{self.kind} {'/'.join(filter(None, (self.namespace, self.name or '?')))}"


class FactReference(NamedTuple):
    """A cluster object of a kind that policies read, by name; `namespace` is empty for kinds that are not namespaced.

    It is all that is needed to look the object up.
    """

    kind: FactKind[Any, Any]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(filter(None, (self.namespace, self.name))) or '?'}"


class AdmissionRequest(msgspec.Struct, frozen=True, dict=True):
    """One create or update, as the API server or a file presents it.

    Of what the API server presents only apiVersion, kind, metadata without managedFields, spec, template and what a
    kind's path in the configuration begins with are there. Where they can't be read no object is, and `unreadable` says
    why.

    `object` is None on DELETE, `old_object` on CREATE. A Scale of a Deployment arrives as a request for the Deployment,
    with the Scale for its object: policies are given the Deployment in its place. A pod of a controller has no `name`
    yet when it reaches /mutate, only metadata.generateName. `pod_spec_paths` say where a kind that only the
    configuration knows keeps its pod specs; a policy is given one of them, without [*]. `dict` keeps what was once read
    from the request, such as its workload (pods.read_workload).
    """

    operation: str
    group: str
    version: str
    kind: str
    namespace: str
    name: str
    object: Object | None
    old_object: Object | None = None
    subresource: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    dry_run: bool = False
    uid: str = ""
    pod_spec_paths: tuple[str, ...] = ()
    unreadable: str = ""

    @property
    def before(self) -> AdmissionRequest | None:
        """A request for the object as it was before the change; None on CREATE. The same one is returned each time."""
        if self.old_object is None:
            return None
        kept: dict[str, AdmissionRequest] = self.__dict__
        if "before" not in kept:
            kept["before"] = msgspec.structs.replace(self, object=self.old_object, old_object=None)
        return kept["before"]


class Set(msgspec.Struct, frozen=True):
    """Put `value` at `path` ("spec.containers[0].resources.limits.memory"), making the maps above it as needed.

    A key with dots stands in brackets and quotes: 'spec.nodeSelector["topology.kubernetes.io/zone"]'. `of` names
    another object than the judged one, as kubectl does ("persistentvolumeclaim/data"): such a set is only shown.
    """

    path: str
    value: Any
    of: str = ""


def join_path(above: str, key: str) -> str:
    """The path of a key below another path, which is empty for the object's root, as a Set has it."""
    if "." in key:
        return f'{above}["{key}"]'
    return f"{above}.{key}" if above else key


class Brief(NamedTuple):
    """A violation's message for a warning of 256 characters: what is wrong, without the evidence, and the first remedy
    alone. `wrong` names no container, since the warning names it before.
    """

    wrong: str
    remedy: str = ""


def printable(text: str) -> str:
    """The text with an escape in place of every character that a terminal would obey, not show: objects hold what
    anybody wrote, and messages quote it. Ends of lines stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


class Violation(msgspec.Struct, frozen=True):
    """One way in which an object breaks a policy.

    path      where, from the object's root and counted from zero
    subject   whom it concerns, a container's or volume's name: the ratchet compares it
    message   what is wrong and what to write instead; kept as `printable`
    value     what was found: an int where more is better, so that "worse than before" can be told
    fix       what mends it, all or nothing
    advice    where nothing may be applied by us, sets that mend it once somebody does them
    deletes   what has to be deleted before the advice, as kubectl names it ("persistentvolumeclaim/data"); it holds no
              data
    brief     the message where room is scarce; without it, its beginning is shown there
    fix_named the fix's size is one that the configuration names for this very image or container, so that it may
              be given to a pod whose owner was let through
    refused   the API server itself refuses what this is about, as it is written: the fix is shown, and not applied
    hint      the Helm value that sets it, where the chart is known: "server.resources", or with what to set it to,
              "persistence.storageClass: regional"
    at_most   the strongest mode that it may take: "warn" for what could not be seen
    is_unknown what is wrong is that it could not be judged: the message says "cannot tell" and why
    unseen    the objects that would have to be seen to judge it; the server looks them up and decides again
    """

    path: str
    subject: str
    message: str
    value: int | str | None = None
    fix: Set | tuple[Set, ...] | None = None
    advice: tuple[Set, ...] = ()
    deletes: tuple[str, ...] = ()
    brief: Brief | None = None
    fix_named: bool = False
    refused: bool = False
    hint: str | None = None
    at_most: Mode = "deny"
    is_unknown: bool = False
    unseen: tuple[FactReference, ...] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "message", printable(self.message))


Severity = Literal["error", "warning"]
"""An observation's severity: "error" if something doesn't work now, "warning" if it is about to fail or has failed
lately."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning")
"""From the worst."""


class Observation(msgspec.Struct, frozen=True):
    """Something that is broken in a running cluster, whoever asked for it, told about the object that a person made.

    reference  the top-level object: a Deployment, not its pods; a Node; a claim
    subject    what of it is concerned: a container's, pod's or claim's name
    message    what is broken and why, as a denial would say it
    run        what to do, the best first: commands for a shell
    since      when it began, by the cluster's own times; None where nothing tells
    hold       how long it must have been so before anybody is told: rollouts and new nodes pass by themselves
    value      what was found, where a number tells it: restarts, bytes
    hint       the Helm value that mends it, where the chart is known, as of a Violation
    """

    reference: Reference
    subject: str
    message: str
    run: tuple[str, ...] = ()
    since: datetime | None = None
    hold: timedelta = timedelta()
    value: int | str | None = None
    hint: str | None = None
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "message", printable(self.message))


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy's declaration: webhook rules, RBAC, the configuration's schema and the docs are derived from it.

    examine      (request, facts, params) -> violations; a pure function
    observe      (live, facts, params) -> observations of a running cluster; a pure function, if there is one; of a kind
                 that could not be seen there are no records, and what can't be told without them isn't said
    lives        the kinds of living objects that `observe` reads, from webhook.objects.live or of its own package
    params       a frozen msgspec.Struct with a default for every field
    workloads    it judges every kind that carries a pod (and those that the configuration adds)
    kinds        what it judges besides
    unasked      what it judges besides in files and in the audit alone: the API server never asks about them
    subresources "resize" for pods/resize, "scale" for deployments/scale: it is given the Deployment with the replicas
                 of the Scale, and is asked only about more than one, and more than before
    operations   those that the API server asks about; none: only `check` and the audit judge it
    facts        the kinds of cluster objects that it reads, from webhook.objects.facts or of its own package
    names_sizes  whether its violations may be `fix_named` with these params
    elsewhere    what mends it where nobody can change the object, besides its owner and an exemption: "by …"
    patched_kinds the kinds of which nothing is ever denied, and which it patches with these params even where it denies
    mode         the default mode, with `otherwise` for what "patch" cannot mend

    names_sizes, patched_kinds and Violation.fix_named each serve one policy: they say where its parameters let it do
    what the engine's rules forbid the others, and have no more than that in common. A fourth of the kind is a reason to
    change those rules instead.
    """

    id: str
    summary: str
    examine: Callable[[AdmissionRequest, Any, Any], Iterator[Violation]]
    params: type[Any]
    incidents: tuple[str, ...]
    workloads: bool = True
    kinds: tuple[GroupKind, ...] = ()
    unasked: tuple[GroupKind, ...] = ()
    subresources: tuple[str, ...] = ()
    operations: tuple[str, ...] = ("CREATE", "UPDATE")
    facts: tuple[FactKind[Any, Any], ...] = ()
    observe: Callable[[Any, Any, Any], Iterator[Observation]] | None = None
    lives: tuple[FactKind[Any, Any], ...] = ()
    names_sizes: Callable[[Any], bool] = lambda _params: False
    elsewhere: str = ""
    patched_kinds: Callable[[Any], tuple[GroupKind, ...]] = lambda _params: ()
    mode: Mode = "deny"
    otherwise: Mode = "deny"


class Verdict(msgspec.Struct, frozen=True):
    """A violation and what became of it."""

    policy: str
    mode: Mode
    outcome: Outcome
    violation: Violation
    note: str = ""
    """Why the outcome is weaker than the policy's mode: an exemption, the ratchet, the object's owner. Empty if it
    isn't."""
    exemption: int | None = None
    """Index of the configuration's exemption that covers the violation."""
    enforced: Mode | None = None
    """What would become of the violation, "deny" or "patch", if its policy were enforced; None where the policy is
    enforced already, or enforcing it would change nothing."""

    @property
    def denies(self) -> bool:
        return self.mode == "deny" and self.outcome in ("denied", "failed")

    @property
    def is_printed(self) -> bool:
        """Whether kubectl and helm print it as a warning."""
        return self.mode in ("warn", "patch") and self.outcome in ("warned", "patched", "unknown", "failed")


class Decision(msgspec.Struct, frozen=True):
    """What the engine says of one request. `patch` holds RFC 6902 operations, `object` the object after them."""

    allowed: bool
    verdicts: tuple[Verdict, ...] = ()
    patch: tuple[Mapping[str, Any], ...] = ()
    object: Object | None = None
    skipped: str = ""
    """Why nothing was judged: "excluded namespace", "being deleted", …"""
    failures: Mapping[str, BaseException] = msgspec.field(default_factory=dict)
    """Policy id -> what it raised; the shell logs the traceback."""
    unseen: frozenset[FactReference] = frozenset()
    """The cluster objects to look up: with them the request can be decided again."""

    @property
    def denied(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.denies)


ALLOWED = Decision(allowed=True)


def weakest(*modes: Mode) -> Mode:
    return min(modes, key=_STRENGTH.__getitem__)


def is_weaker(mode: Mode, than: Mode) -> bool:
    return _STRENGTH[mode] < _STRENGTH[than]
