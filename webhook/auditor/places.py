"""Where the audit's reports are stored: as the kind that the cluster serves, else in Forestall's own namespace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from webhook.cluster.lists import MetadataReader
from webhook.cluster.paths import api_path
from webhook.cluster.stored import read_objects, readable
from webhook.errors import ClusterRefused
from webhook.installation import LABELS, NAME, REPORT_LABEL
from webhook.policy import Object

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster

LEFT_OUT = "forestall.dev/left-out"
"""Annotation that says how many findings have no result in the report, for want of room."""
_PREFIX = "forestall-report."
_CLUSTER = "of.cluster"
"""No namespace's name has a dot."""
_KEY = "report.json"
_SELECTOR = f"{REPORT_LABEL}=true"


class Form(NamedTuple):
    """A kind of object that reports are kept in: of a namespace's findings, or of those without a namespace, or both,
    as ConfigMaps."""

    group: str
    version: str
    kind: str
    resource: str
    is_namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        """The API path of its objects in a namespace, or of all, or of one."""
        return api_path(self.group, self.version, self.resource, namespace, name)

    @property
    def root(self) -> str:
        """The API path that says which kinds the group serves."""
        return api_path(self.group, self.version)

    @property
    def is_config_map(self) -> bool:
        return not self.group


CONFIG_MAP = Form("", "v1", "ConfigMap", "configmaps", is_namespaced=True)
CUSTOM = (
    Form("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports", is_namespaced=True),
    Form("wgpolicyk8s.io", "v1alpha2", "ClusterPolicyReport", "clusterpolicyreports", is_namespaced=False),
    Form("openreports.io", "v1alpha1", "Report", "reports", is_namespaced=True),
    Form("openreports.io", "v1alpha1", "ClusterReport", "clusterreports", is_namespaced=False),
)
"""The preferred kinds first."""


class Place(NamedTuple):
    """Where a report is stored.

    namespace  the namespace that it is about; empty for objects that have none
    within     the namespace that it is in; empty for a report that has none
    """

    form: Form
    namespace: str
    within: str
    name: str

    @property
    def collection(self) -> str:
        return self.form.path(self.within)

    @property
    def path(self) -> str:
        return self.form.path(self.within, self.name)

    @property
    def metadata(self) -> Object:
        """The name and the namespace of a new report."""
        return {"name": self.name} | ({"namespace": self.within} if self.within else {})


class StoredReport(NamedTuple):
    """A report that is stored, and where."""

    place: Place
    uid: str
    version: str


def served_forms(cluster: Cluster) -> tuple[Form, ...]:
    """The kinds that the cluster serves, the preferred ones first, ConfigMaps last.

    Raises ClusterRefused or FactsUnavailable.
    """
    served: dict[str, set[str]] = {}
    for form in CUSTOM:
        if form.root not in served:
            resources = (cluster.get(form.root) or {}).get("resources") or ()
            served[form.root] = {str(resource["name"]) for resource in resources}
    return (*(form for form in CUSTOM if form.resource in served[form.root]), CONFIG_MAP)


def place_of(form: Form, namespace: str, own: str) -> Place | None:
    """Where a report of this form about the namespace is stored; None if the form isn't for it."""
    if form.is_config_map:
        return Place(form, namespace, own, f"{_PREFIX}{namespace or _CLUSTER}")
    if form.is_namespaced != bool(namespace):
        return None
    return Place(form, namespace, namespace, NAME)


def stored_reports(cluster: Cluster, forms: Sequence[Form], own: str) -> Iterator[StoredReport]:
    """Forestall's reports of these kinds. Raises ClusterRefused or FactsUnavailable; a kind that has just ceased to be
    served has none."""
    for form in forms:
        path = form.path(own if form.is_config_map else "")
        # Of others that bear the label there may be any number.
        fields = "" if form.is_config_map else f"metadata.name={NAME}"
        found = read_objects(MetadataReader(cluster), path, form.kind, labels=_SELECTOR, fields=fields)
        try:
            for report in readable(found):
                if stored := _as_stored(form, report["metadata"], own):
                    yield stored
        except ClusterRefused as answer:
            if answer.status != 404:
                raise


def _as_stored(form: Form, metadata: Object, own: str) -> StoredReport | None:
    """The report; None for an object to which somebody copied the label."""
    namespace = metadata.get("namespace") or ""
    if form.is_config_map:
        namespace = metadata["name"].removeprefix(_PREFIX)
        namespace = "" if namespace == _CLUSTER else namespace
    place = place_of(form, namespace, own)
    if place is None or place.name != metadata["name"]:
        return None
    return StoredReport(place, metadata["uid"], metadata["resourceVersion"])


def filled(place: Place, there: Object | None, content: Object) -> Object:
    """The report as it is to be stored, in place of what is there: labels and annotations of others stay."""
    metadata: Object = dict(there["metadata"]) if there else place.metadata
    metadata["labels"] = {**(metadata.get("labels") or {}), **LABELS, REPORT_LABEL: "true"}
    annotations = {key: text for key, text in (metadata.pop("annotations", None) or {}).items() if key != LEFT_OUT}
    if left_out := sum(content["summary"].values()) - len(content["results"]):
        annotations[LEFT_OUT] = str(left_out)
    if annotations:
        metadata["annotations"] = annotations
    form = place.form
    if form.is_config_map:
        said: Object = {"data": {_KEY: msgspec.json.encode({"source": NAME, **content}, order="sorted").decode()}}
    else:
        said = {**({"source": NAME} if form.group == "openreports.io" else {}), **content}
    api_version = f"{form.group}/{form.version}".removeprefix("/")
    return {**(there or {}), "apiVersion": api_version, "kind": form.kind, "metadata": metadata, **said}
