"""What the installation's own ServiceAccounts may read, as the API server says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from webhook.config import Config
from webhook.installation import CONTROLLER, NAME, SERVER
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES
from webhook.policy import FactKind
from webhook.scope import needed_facts

if TYPE_CHECKING:
    from webhook.cluster import Cluster

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class MissingRight(NamedTuple):
    """Something that a ServiceAccount of the installation's namespace needs and may not do."""

    account: str
    who: str
    """Whose ServiceAccount it is: "servers" or "controllers"."""
    verbs: tuple[str, ...]
    resource: str
    """The plural as kubectl takes it: "storageclasses.storage.k8s.io"."""


def missing_rights(cluster: Cluster, namespace: str, config: Config) -> list[MissingRight]:
    """What servers and controllers need for their facts and may not do. Raises ClusterRefused or FactsUnavailable."""
    servers = _account(cluster, namespace, NAME, SERVER), "servers"
    controllers = _account(cluster, namespace, CONTROLLER, CONTROLLER), "controllers"
    needs: list[tuple[tuple[str, str], tuple[str, ...], set[FactKind[Any, Any]]]] = [
        (servers, ("get", "list", "watch"), needed_facts(config)),
        (controllers, ("list", "watch"), {LIMIT_RANGES, NAMESPACES}),
    ]
    return [
        MissingRight(account, who, tuple(missing), kind.full_resource)
        for (account, who), verbs, kinds in needs
        for kind in sorted(kinds, key=_resource)
        if (missing := list(_refused(cluster, namespace, account, verbs, kind)))
    ]


def _resource(kind: FactKind[Any, Any]) -> str:
    return kind.full_resource


def _account(cluster: Cluster, namespace: str, deployment: str, usual: str) -> str:
    """The ServiceAccount that the Deployment's pods run as."""
    obj = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}") or {}
    template = (obj.get("spec") or {}).get("template") or {}
    return str((template.get("spec") or {}).get("serviceAccountName") or usual)


def _refused(
    cluster: Cluster, namespace: str, account: str, verbs: Iterable[str], kind: FactKind[Any, Any]
) -> Iterator[str]:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    for verb in verbs:
        attributes = {"group": kind.group, "resource": kind.resource, "verb": verb}
        user = f"system:serviceaccount:{namespace}:{account}"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        }
        if not (cluster.create(_REVIEWS, review).object.get("status") or {}).get("allowed"):
            yield verb
