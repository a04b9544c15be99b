"""What the installation's own ServiceAccounts may do, as the API server says, and which bindings are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from webhook.cluster.stored import served_versions
from webhook.config import Config
from webhook.controller.registration import STAGES, configuration_path
from webhook.installation import CONTROLLER, LIMIT_RANGES_RECORD, NAME, SECRET, SERVER, STATE
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.scope import judged_kinds, looked_up_facts, needed_facts

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Who = Literal["servers", "controllers"]


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
        return f"{self.resource}.{self.group}" if self.group else self.resource


class MissingRight(NamedTuple):
    """A right that a ServiceAccount in the installation's namespace needs and lacks."""

    account: str
    who: Who
    need: Need
    """The need, with only the verbs that are missing."""


class Binding(NamedTuple):
    """A binding of the chart's: its ServiceAccount has that name, too, unless the Deployment names another."""

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
    """What servers and controllers need and may not do. Raises ClusterRefused or FactsUnavailable."""
    served = served_versions(cluster)
    accounts: list[tuple[str, Who, Iterable[Need]]] = [
        (_account(cluster, namespace, NAME, SERVER), "servers", needs_of_servers(config)),
        (_account(cluster, namespace, CONTROLLER, CONTROLLER), "controllers", needs_of_controllers(config, namespace)),
    ]
    return [
        MissingRight(account, who, need._replace(verbs=tuple(missing)))
        for account, who, needs in accounts
        for need in needs
        if need.group in served and (missing := list(_refused(cluster, namespace, account, need)))
    ]


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


def _account(cluster: Cluster, namespace: str, deployment: str, usual: str) -> str:
    """The ServiceAccount that the Deployment's pods run as."""
    obj = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}") or {}
    template = (obj.get("spec") or {}).get("template") or {}
    return str((template.get("spec") or {}).get("serviceAccountName") or usual)


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
