"""What `forestall doctor` looks at, read once: each part as it is, or why it could not be read."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, Union

from webhook.cluster.facts import list_facts
from webhook.cluster.gap_record import Gap, GapRecord, read_record
from webhook.cluster.in_force import config_in_force
from webhook.cluster.lists import Reader
from webhook.cluster.stored import Stored, read_objects, readable
from webhook.cluster.unseen import Unreadable, Unseen, is_forbidden, unreadable_facts
from webhook.config import Config, read_config
from webhook.controller.endpoints import ServerEndpoint, list_endpoints
from webhook.controller.gaps import Unchecked, admitted_unchecked
from webhook.controller.registration import STAGES, configuration_path, service_port
from webhook.controller.rotation import read_served, service_names
from webhook.doctor.access import Binding, MissingRight, has_auditor, missing_bindings, missing_rights
from webhook.engine import decide
from webhook.errors import BadConfig, ForestallError
from webhook.findings import JudgedObject, findings_of
from webhook.installation import AUDITOR, CONFIG, CONTROLLER, LIMIT_RANGES_RECORD, NAME, SECRET, STATE
from webhook.loader import watched_kinds
from webhook.objects.facts import NAMESPACES, ClusterFacts
from webhook.objects.owners import operator_of
from webhook.policy import AdmissionRequest, Object, Stage
from webhook.scope import exclude_own_namespace, judged_kinds

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

T = TypeVar("T")
OrError: TypeAlias = Union[T, ForestallError]  # noqa: UP007 - generic aliases need it until Python 3.12
"""What was read, or why it was not."""

RECENT = timedelta(days=7)
"""For how long a gap is of interest after it has ended."""


def seen(answer: OrError[T]) -> T:
    """The value that was read; raises the error where it could not be read."""
    if isinstance(answer, ForestallError):
        raise answer
    return answer


@dataclass(frozen=True)
class Templates:
    """The templates that pods are made from, in the namespaces that have LimitRanges."""

    requests: Sequence[AdmissionRequest] = ()
    unseen: Unseen = field(default_factory=Unseen)


@dataclass(frozen=True)
class Slipped:
    """The objects that were admitted in recent gaps: how many, and those with findings."""

    count: int = 0
    violating: Sequence[Unchecked] = ()
    unseen: Unseen = field(default_factory=Unseen)


@dataclass(frozen=True)
class StoredObjects:
    """The stored objects, held against the configuration: which exemptions cover one, and what operators made.

    Read only where somebody asks for it; `operated` are objects that are warned of, by the resource they belong to.
    """

    used_exemptions: Set[int] = frozenset()
    operated: Mapping[OperatorsKind, Sequence[JudgedObject]] = field(default_factory=dict)
    unseen: Unseen = field(default_factory=Unseen)


class OperatorsKind(NamedTuple):
    """A kind of resource that an operator makes objects for; `manager` is who wrote them, by their managedFields."""

    kind: str
    manager: str


@dataclass(frozen=True)
class Survey:
    """A cluster at one moment, by this machine's clock `now`."""

    namespace: str
    now: datetime
    api_time: OrError[datetime]
    version: OrError[Object]
    config: OrError[Config]
    hooks: Mapping[Stage, OrError[list[Object]]]
    """All webhook configurations of the cluster, ours among them."""
    state: OrError[Object | None]
    service: OrError[Object | None]
    replicas: OrError[list[ServerEndpoint]]
    secret: OrError[Mapping[str, bytes] | None]
    lease: OrError[Object | None]
    audit_lease: OrError[Object | None]
    """The auditor's, which also tells of its audit."""
    has_auditor: OrError[bool]
    """Whether the controllers' pods have one."""
    nodes: OrError[int]
    facts: OrError[ClusterFacts]
    limit_ranges: OrError[list[Object]]
    templates: OrError[Templates]
    slipped: OrError[Slipped]
    missing_rights: OrError[list[MissingRight]]
    bindings: OrError[list[Binding]]
    """The bindings of the chart that don't exist."""
    limit_ranges_record: OrError[Object | None]
    stored: OrError[StoredObjects]

    def registered(self, stage: Stage) -> Object | None:
        """Our own webhook configuration."""
        return next(
            (configuration for configuration in seen(self.hooks[stage]) if configuration["metadata"]["name"] == NAME),
            None,
        )

    def unreadable(self) -> Iterator[Unreadable]:
        """The objects that could not be read, of all that was looked at; some may come twice."""
        if not isinstance(self.facts, ForestallError):
            yield from unreadable_facts(self.facts.unreadable)
        for answer in (self.templates, self.slipped):
            if not isinstance(answer, ForestallError):
                yield from answer.unseen.objects

    def is_installed(self) -> bool:
        """Whether any object of an installation exists, or may exist but can't be read."""
        answers = (self.service, self.lease, self.state, self.secret, *map(self._our_hook, STAGES))
        return any(answer is not None for answer in answers)

    def _our_hook(self, stage: Stage) -> OrError[Object | None]:
        return _try(lambda: self.registered(stage))

    def service_port(self) -> int:
        return service_port(seen(self.service))


def survey_installation(cluster: Cluster, namespace: str, config: Path | None, now: Callable[[], datetime]) -> Survey:
    """Read everything that the checks need. Raises FactsUnavailable if no cluster answers, ClusterRefused if the user
    is unknown to it."""
    # Every known user may read /version.
    version = _try(lambda: cluster.get("/version") or {})
    if isinstance(version, ForestallError) and not is_forbidden(version):
        raise version
    own, before = f"/api/v1/namespaces/{namespace}", now()
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    api_time = _try(cluster.now)
    moment = before + (now() - before) / 2
    given = _try(lambda: exclude_own_namespace(_config(cluster, namespace, config), namespace))
    state = _try(lambda: cluster.get(f"{own}/configmaps/{STATE}"))
    # Namespaces besides: their labels ask for LimitRanges, whatever policies read.
    facts = _try(lambda: list_facts(cluster, {*watched_kinds(), NAMESPACES}).facts)
    limit_ranges = _try(lambda: list(readable(read_objects(cluster, "/api/v1/limitranges", "LimitRange"))))
    return Survey(
        namespace=namespace,
        now=moment,
        api_time=api_time,
        version=version,
        config=given,
        hooks={stage: _try(_lister(cluster, stage)) for stage in STAGES},
        state=state,
        service=_try(lambda: cluster.get(f"{own}/services/{NAME}")),
        replicas=_try(lambda: _endpoints(cluster, namespace)),
        secret=_try(lambda: _secret(cluster, own)),
        lease=_try(lambda: cluster.get(f"{leases}/{CONTROLLER}")),
        audit_lease=_try(lambda: cluster.get(f"{leases}/{AUDITOR}")),
        has_auditor=_try(lambda: has_auditor(cluster, namespace)),
        nodes=_try(lambda: sum(1 for _ in read_objects(cluster, "/api/v1/nodes", "Node"))),
        facts=facts,
        limit_ranges=limit_ranges,
        templates=_try(lambda: _templates(cluster, seen(given), seen(limit_ranges))),
        slipped=_try(
            lambda: _slipped(cluster, seen(given), seen(facts), recent_gaps(read_record(seen(state)), moment))
        ),
        missing_rights=_try(lambda: missing_rights(cluster, namespace, seen(given))),
        bindings=_try(lambda: missing_bindings(cluster, namespace)),
        limit_ranges_record=_try(lambda: cluster.get(f"{own}/configmaps/{LIMIT_RANGES_RECORD}")),
        stored=_try(lambda: _stored(cluster, seen(given), seen(facts), moment)),
    )


def recent_gaps(record: GapRecord, now: datetime) -> list[Gap]:
    return [gap for gap in record.gaps if gap.ended is None or now - gap.ended < RECENT]


def _try(read: Callable[[], T]) -> OrError[T]:
    try:
        return read()
    except ForestallError as error:
        return error


def _lister(cluster: Cluster, stage: Stage) -> Callable[[], list[Object]]:
    path = configuration_path(stage).rpartition("/")[0]
    return lambda: list(readable(read_objects(cluster, path, STAGES[stage])))


def _config(cluster: Cluster, namespace: str, file: Path | None) -> Config:
    config = config_in_force(cluster, namespace) if file is None else read_config(str(file))
    if config is None:
        raise BadConfig(f"there is no ConfigMap {CONFIG}")
    return config


def _endpoints(cluster: Cluster, namespace: str) -> list[ServerEndpoint]:
    """The servers' endpoints, with what each presents."""
    endpoints = list(list_endpoints(cluster, namespace))
    served = read_served([listed.endpoint for listed in endpoints], service_names(namespace)[0])
    return [replace(listed, served=leaf) for listed, leaf in zip(endpoints, served, strict=True)]


def _secret(cluster: Cluster, own: str) -> Mapping[str, bytes] | None:
    obj = cluster.get(f"{own}/secrets/{SECRET}")
    return obj and {name: base64.b64decode(value) for name, value in (obj.get("data") or {}).items()}


def _templates(cluster: Reader, config: Config, limit_ranges: Sequence[Object]) -> Templates:
    """The templates of pods, without objects that controllers made: theirs are copies, and many."""
    namespaces = {limit_range["metadata"]["namespace"] for limit_range in limit_ranges}
    kinds = {kind for kind in judged_kinds(config) if kind.kind not in ("Pod", "ReplicaSet", "Job")}
    stored = Stored(cluster, kinds if namespaces else ())
    return Templates([request for request in stored if request.namespace in namespaces], stored.unseen)


def _stored(cluster: Reader, config: Config, facts: ClusterFacts, now: datetime) -> StoredObjects:
    """The stored objects, without Pods and others that built-in controllers make, which are judged at their owner."""
    kinds = {kind for kind in judged_kinds(config) if kind.kind not in ("Pod", "ReplicaSet")}
    stored = Stored(cluster, kinds)
    used: set[int] = set()
    operated: dict[OperatorsKind, list[JudgedObject]] = defaultdict(list)
    for request in stored:
        decision = decide(request, facts, config, today=now.date())
        used |= {verdict.exemption for verdict in decision.verdicts if verdict.exemption is not None}
        if not decision.verdicts or not (owner := operator_of(request.object)):
            continue
        findings = findings_of(request, decision, config)
        if any(finding.needs_action and finding.verdict.mode != "audit" for finding in findings):
            operated[OperatorsKind(owner.partition(" ")[0], _manager(request.object))].append(findings[0].object)
    return StoredObjects(used, operated, stored.unseen)


def _manager(obj: Object | None) -> str:
    entries = ((obj or {}).get("metadata") or {}).get("managedFields") or ()
    return next((str(entry.get("manager") or "") for entry in entries if not entry.get("subresource")), "")


def _slipped(cluster: Reader, config: Config, facts: ClusterFacts, gaps: Sequence[Gap]) -> Slipped:
    stored = Stored(cluster, judged_kinds(config) if gaps else ())
    today = datetime.now(UTC).date()
    found = list(admitted_unchecked(gaps, stored, config, partial(decide, facts=facts, config=config, today=today)))
    violating = [unchecked for unchecked in found if any(finding.needs_action for finding in unchecked.findings)]
    return Slipped(len(found), violating, stored.unseen)
