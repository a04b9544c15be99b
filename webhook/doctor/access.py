"""What the installation's own ServiceAccounts may do, as the API server says, and which bindings are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from webhook.auditor.facts import facts_to_watch
from webhook.auditor.inventory import kinds_to_judge
from webhook.auditor.places import CUSTOM
from webhook.cluster.served import served_versions
from webhook.config import Config
from webhook.controller.registration import STAGES, configuration_path
from webhook.installation import AUDITOR, CONTROLLER, LIMIT_RANGES_RECORD, NAME, SECRET, SERVER, STATE
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.observing.run import needed_lives, observers
from webhook.policy import Object, full_resource
from webhook.scope import judged_kinds, looked_up_facts, needed_facts

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

_AUDITOR = "auditor"
"""The container's name."""

Who = Literal["servers", "controllers", "auditors"]


class Need(NamedTuple):
    """Verbs on a resource: in all namespaces where none is named, on all of its objects where no name is given."""

    verbs: tuple[str, ...]
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def full_resource(self) -> str:
        """The plural as kubectl takes it: "storageclasses.storage.k8s.io"."""
        return full_resource(self.group, self.resource)


class MissingRight(NamedTuple):
    """A right that a ServiceAccount in the installation's namespace needs and lacks."""

    account: str
    who: Who
    need: Need
    """The need, with only the verbs that are missing."""


class Binding(NamedTuple):
    """A binding of the chart's: its ServiceAccount has that name, too, unless the Deployment names another.

    The controllers' is the auditors', too, which run in their pods.
    """

    kind: Literal["ClusterRoleBinding", "RoleBinding"]
    name: str
    who: Who


BINDINGS = (
    Binding("ClusterRoleBinding", SERVER, "servers"),
    Binding("ClusterRoleBinding", CONTROLLER, "controllers"),
    Binding("RoleBinding", CONTROLLER, "controllers"),
)


def missing_bindings(cluster: Cluster, namespace: str) -> list[Binding]:
    """The bindings of the chart that don't exist. Raises ClusterRefused or FactsUnavailable."""
    api = "/apis/rbac.authorization.k8s.io/v1"
    paths = {
        "ClusterRoleBinding": f"{api}/clusterrolebindings",
        "RoleBinding": f"{api}/namespaces/{namespace}/rolebindings",
    }
    return [binding for binding in BINDINGS if cluster.get(f"{paths[binding.kind]}/{binding.name}") is None]


def missing_rights(cluster: Cluster, namespace: str, config: Config) -> list[MissingRight]:
    """What servers, controllers and auditors need and may not do. Raises ClusterRefused or FactsUnavailable."""
    served = served_versions(cluster)
    controllers = _account(cluster, namespace, CONTROLLER, CONTROLLER)
    accounts: list[tuple[str, Who, Iterable[Need]]] = [
        (_account(cluster, namespace, NAME, SERVER), "servers", needs_of_servers(config)),
        (controllers, "controllers", needs_of_controllers(config, namespace)),
    ]
    if has_auditor(cluster, namespace):
        accounts.append((controllers, "auditors", needs_of_auditors(config, namespace)))
    found: list[MissingRight] = []
    asked: set[tuple[str, Need]] = set()
    for account, who, need in ((account, who, need) for account, who, needs in accounts for need in needs):
        if need.group not in served:
            continue
        # What both controllers and auditors need is asked for once.
        single = {verb: (account, need._replace(verbs=(verb,))) for verb in need.verbs}
        verbs = tuple(verb for verb, one in single.items() if one not in asked)
        asked.update(single.values())
        if missing := tuple(_refused(cluster, namespace, account, need._replace(verbs=verbs))):
            found.append(MissingRight(account, who, need._replace(verbs=missing)))
    return found


def has_auditor(cluster: Cluster, namespace: str) -> bool:
    """Whether the controllers' pods have an auditor; also where there is no Deployment that tells.

    Raises ClusterRefused or FactsUnavailable.
    """
    containers = _pod_spec(cluster, namespace, CONTROLLER).get("containers")
    return containers is None or any(container.get("name") == _AUDITOR for container in containers)


def needs_of_servers(config: Config) -> Iterator[Need]:
    for resource, group in sorted((kind.resource, kind.group) for kind in needed_facts(config)):
        yield Need(("get", "list", "watch"), resource, group)
    for resource, group in sorted((kind.resource, kind.group) for kind in looked_up_facts(config)):
        yield Need(("get",), resource, group)


def needs_of_controllers(config: Config, namespace: str) -> Iterator[Need]:
    """What the controller reads and writes in any case, and what it needs where LimitRanges are to be made."""
    for kind in (LIMIT_RANGES, NAMESPACES):
        yield Need(("list", "watch"), kind.resource)
    for stage in STAGES:
        _, _, group, _, resource, name = configuration_path(stage).split("/")
        yield Need(("create",), resource, group)
        yield Need(("get", "update", "delete"), resource, group, name=name)
    yield Need(("get",), "clusterroles", "rbac.authorization.k8s.io", name=CONTROLLER)
    yield Need(("create",), "events", "events.k8s.io")
    own = {"namespace": namespace}
    yield Need(("create",), "leases", "coordination.k8s.io", **own)
    yield Need(("get", "update"), "leases", "coordination.k8s.io", **own, name=CONTROLLER)
    yield Need(("get",), "services", **own, name=NAME)
    yield Need(("list",), "endpointslices", "discovery.k8s.io", **own)
    yield Need(("create",), "configmaps", **own)
    for name in (STATE, LIMIT_RANGES_RECORD):
        yield Need(("get", "update"), "configmaps", **own, name=name)
    is_own = config.certificates.mode == "selfManaged"
    yield Need(("get", "update") if is_own else ("get",), "secrets", **own, name=SECRET)
    if is_own:
        yield Need(("create",), "secrets", **own)
    if config.limit_ranges:
        yield Need(("create", "update", "delete"), "limitranges")
        for resource, group in sorted((kind.resource, kind.group) for kind in judged_kinds(config)):
            yield Need(("list",), resource, group)


def needs_of_auditors(config: Config, namespace: str) -> Iterator[Need]:
    """What the auditor reads, and what it writes its reports, Events, history and records with."""
    read: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for judged in kinds_to_judge(config):
        read[judged.resource, judged.group] |= {"get", "list", "watch"}
    for kind in {*facts_to_watch(config), *needed_lives(observers(config))}:
        read[kind.resource, kind.group] |= {"list", "watch"}
    for resource, group in sorted(read):
        yield Need(tuple(sorted(read[resource, group])), resource, group)
    for form in CUSTOM:
        yield Need(("get", "list", "create", "update", "delete"), form.resource, form.group)
    yield Need(("create",), "events", "events.k8s.io")
    own = {"namespace": namespace}
    yield Need(("create",), "leases", "coordination.k8s.io", **own)
    yield Need(("get", "update"), "leases", "coordination.k8s.io", **own, name=AUDITOR)
    yield Need(("create",), "configmaps", **own)
    yield Need(("get", "list", "update", "delete"), "configmaps", **own)
    if config.notifications is not None and config.notifications.secret is not None:
        yield Need(("get",), "secrets", **own, name=config.notifications.secret.name)


def _account(cluster: Cluster, namespace: str, deployment: str, usual: str) -> str:
    """The ServiceAccount that the Deployment's pods run as."""
    return str(_pod_spec(cluster, namespace, deployment).get("serviceAccountName") or usual)


def _pod_spec(cluster: Cluster, namespace: str, deployment: str) -> Object:
    """The spec of the Deployment's pods, empty if there is no such Deployment."""
    obj = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}") or {}
    spec: Object = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    return spec


def _refused(cluster: Cluster, namespace: str, account: str, need: Need) -> Iterator[str]:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    where = {"group": need.group, "resource": need.resource, "namespace": need.namespace, "name": need.name}
    for verb in need.verbs:
        attributes = {"verb": verb} | {key: value for key, value in where.items() if value}
        user = f"system:serviceaccount:{namespace}:{account}"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        }
        if not (cluster.create(_REVIEWS, review).object.get("status") or {}).get("allowed"):
            yield verb
