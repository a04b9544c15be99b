"""Reports of what the audit knows, an object for each namespace, where other tools read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec
import structlog
from prometheus_client import Counter

from webhook.auditing.kept import Kept
from webhook.auditing.report import report_content
from webhook.auditing.seen import Seen
from webhook.auditing.watching import MetadataReader
from webhook.cluster import Cluster
from webhook.errors import ClusterRefused, Conflict
from webhook.findings import Finding
from webhook.installation import LABELS, NAME, REPORT_LABEL
from webhook.policy import Object
from webhook.stored import read_objects, readable

_LOOK_EVERY = 60.0
"""Seconds after which it is looked again whether somebody has changed a report, or the kinds that are served."""
_NAMESPACE_EVERY = 5.0
"""Seconds between two writes of a namespace's report at least."""
_AGAIN_AFTER = 60.0
"""Seconds after which a report that was refused is tried again."""
_PER_SECOND = 10
"""Reports that are written in a second at most."""
_SELECTOR = f"{REPORT_LABEL}=true"

log = structlog.get_logger()

writes = Counter("forestall_audit_report_writes", "Reports that were created, replaced or deleted.", ["action"])
written_bytes = Counter("forestall_audit_report_written_bytes", "Bytes of the reports that were written.")


class Form(Protocol):
    """A kind of object that reports are kept in."""

    @property
    def name(self) -> str:
        """The kind as a person names it."""

    def is_served(self, cluster: Cluster) -> bool: ...
    def collections(self) -> list[str]:
        """The API paths under which all of them are listed."""

    def path(self, namespace: str) -> str:
        """The API path of a namespace's report."""

    def namespace_of(self, report: Object) -> str | None:
        """The namespace that a listed report is about, by its name; None for one that isn't ours."""

    def fill(self, namespace: str, content: Object) -> Object:
        """A new report."""


class Custom(NamedTuple):
    """PolicyReport and ClusterPolicyReport, or Report and ClusterReport."""

    group: str
    version: str
    kind: str
    resource: str

    @property
    def name(self) -> str:
        return f"{self.kind} ({self.group})"

    @property
    def _root(self) -> str:
        return f"/apis/{self.group}/{self.version}"

    def is_served(self, cluster: Cluster) -> bool:
        served = {resource["name"] for resource in (cluster.get(self._root) or {}).get("resources") or ()}
        return {self.resource, f"cluster{self.resource}"} <= served

    def collections(self) -> list[str]:
        return [f"{self._root}/{self.resource}", f"{self._root}/cluster{self.resource}"]

    def path(self, namespace: str) -> str:
        if not namespace:
            return f"{self._root}/cluster{self.resource}/{NAME}"
        return f"{self._root}/namespaces/{namespace}/{self.resource}/{NAME}"

    def namespace_of(self, report: Object) -> str | None:
        metadata = report["metadata"]
        return metadata.get("namespace") or "" if metadata["name"] == NAME else None

    def fill(self, namespace: str, content: Object) -> Object:
        metadata = {"name": NAME, "labels": {**LABELS, REPORT_LABEL: "true"}}
        return {
            "apiVersion": f"{self.group}/{self.version}",
            "kind": self.kind if namespace else f"Cluster{self.kind}",
            "metadata": metadata | ({"namespace": namespace} if namespace else {}),
            **content,
        }


class InConfigMaps(NamedTuple):
    """ConfigMaps of Forestall's own namespace, with the same content as JSON, where no kind of report is served."""

    own: str

    @property
    def name(self) -> str:
        return f"ConfigMap of namespace {self.own}"

    def is_served(self, cluster: Cluster) -> bool:  # noqa: ARG002
        return True

    def collections(self) -> list[str]:
        return [f"/api/v1/namespaces/{self.own}/configmaps"]

    def path(self, namespace: str) -> str:
        return f"{self.collections()[0]}/{_PREFIX}{namespace or _CLUSTER}"

    def namespace_of(self, report: Object) -> str | None:
        prefix, about = report["metadata"]["name"][: len(_PREFIX)], report["metadata"]["name"][len(_PREFIX) :]
        return None if prefix != _PREFIX else "" if about == _CLUSTER else about

    def fill(self, namespace: str, content: Object) -> Object:
        name = f"{_PREFIX}{namespace or _CLUSTER}"
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.own, "labels": {**LABELS, REPORT_LABEL: "true"}},
            "data": {"report.json": msgspec.json.encode(content, order="sorted").decode()},
        }


_PREFIX = "forestall-report."
_CLUSTER = "of.cluster"
"""No namespace's name has a dot."""
CUSTOM = (
    Custom("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
    Custom("openreports.io", "v1alpha1", "Report", "reports"),
)


def forms(own: str) -> list[Form]:
    """Where reports may be kept, the preferred first. `own` is Forestall's namespace."""
    return [*CUSTOM, InConfigMaps(own)]


class Reports:
    """Keeps a report of every namespace that has findings, and of the objects without a namespace.

    `most` is how many results a report has at most.
    """

    def __init__(
        self, cluster: Cluster, own: str, seen: Seen, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._own = own
        self._seen = seen
        self._most = most
        self._clock = clock
        self._form: Form | None = None
        self._look_at = 0.0
        self._versions: dict[str, str] = {}
        """Namespace -> the resourceVersion of its report, as we left it."""
        self._pending: set[str] = set()
        self._not_before: dict[str, float] = {}
        """Namespace -> when its report may be written again."""
        self._refused: set[str] = set()

    def take(self, kept: Kept, now: datetime) -> None:
        """Write the reports that are due. Raises ClusterRefused or FactsUnavailable; what is left is written later."""
        self._pending |= kept.changed
        if self._clock() >= self._look_at:
            self._look(kept)
            self._look_at = self._clock() + _LOOK_EVERY
        budget = _PER_SECOND
        for namespace in sorted(self._pending):
            if self._clock() < self._not_before.get(namespace, 0.0):
                continue
            budget -= self._take(namespace, kept, now)
            if not budget:
                break
        self._not_before = {of: at for of, at in self._not_before.items() if at > self._clock()}

    def _look(self, kept: Kept) -> None:
        """Learn where reports are kept, and which of them aren't as we left them."""
        served = [form for form in forms(self._own) if form.is_served(self._cluster)]
        form = served[0]
        if form != self._form:
            log.info("reports are kept", where=form.name)
            self._form, self._versions = form, {}
            self._pending |= {*kept.by_namespace}
        for old in served[1:]:
            delete_reports(self._cluster, old)
        there = dict(_versions(self._cluster, form))
        self._pending |= {of for of, version in there.items() if self._versions.get(of) != version}
        self._pending |= {of for of in self._versions if of not in there}

    def _take(self, namespace: str, kept: Kept, now: datetime) -> bool:
        """Bring a namespace's report up to date; whether anything was written."""
        assert self._form  # noqa: S101 - for types
        try:
            is_written = self._write(self._form, namespace, kept, now)
        except Conflict:
            return True  # somebody wrote it in between: it is looked at again
        except ClusterRefused as answer:
            if answer.status not in (403, 404, 422):
                raise
            # The namespace is being deleted, or the kind is gone.
            self._not_before[namespace] = self._clock() + _AGAIN_AFTER
            if namespace not in self._refused:
                self._refused.add(namespace)
                log.warning("no report", namespace=namespace, error=str(answer))
            if not kept.by_namespace.get(namespace):
                self._pending.discard(namespace)
            return True
        self._pending.discard(namespace)
        self._refused.discard(namespace)
        if is_written:
            self._not_before[namespace] = self._clock() + _NAMESPACE_EVERY
        return is_written

    def _write(self, form: Form, namespace: str, kept: Kept, now: datetime) -> bool:
        path = form.path(namespace)
        there = self._cluster.get(path)
        if there is not None and not _is_ours(there):
            if namespace not in self._refused:
                self._refused.add(namespace)
                log.warning("no report, as somebody else's has its name", path=path)
            return False
        findings = kept.by_namespace.get(namespace)
        if not findings:
            self._versions.pop(namespace, None)
            if there is None:
                return False
            metadata = there["metadata"]
            self._cluster.delete(path, metadata.get("uid", ""), metadata.get("resourceVersion", ""))
            writes.labels("delete").inc()
            return True

        def since(finding: Finding) -> int:
            return self._seen.since(finding, namespace, now)

        report = form.fill(namespace, report_content(findings, kept.teams(namespace), since, self._most))
        if there is None:
            made = self._cluster.create(path.rpartition("/")[0], report).object
        elif not _differs(there, report):
            self._versions[namespace] = there["metadata"]["resourceVersion"]
            return False
        else:
            made = self._cluster.replace(path, _over(there, report))
        writes.labels("replace" if there else "create").inc()
        written_bytes.inc(len(msgspec.json.encode(report)))
        self._versions[namespace] = made["metadata"]["resourceVersion"]
        return True


def delete_reports(cluster: Cluster, form: Form) -> int:
    """Delete all reports of ours of a form; returns how many. Raises ClusterRefused or FactsUnavailable."""
    count = 0
    for collection in form.collections():
        for report in list(_listed(cluster, collection)):
            if (namespace := form.namespace_of(report)) is not None:
                cluster.delete(form.path(namespace), report["metadata"]["uid"])
                writes.labels("delete").inc()
                count += 1
    return count


def _versions(cluster: Cluster, form: Form) -> Iterator[tuple[str, str]]:
    for collection in form.collections():
        for report in _listed(cluster, collection):
            if (namespace := form.namespace_of(report)) is not None:
                yield namespace, report["metadata"]["resourceVersion"]


def _listed(cluster: Cluster, collection: str) -> Iterator[Object]:
    return readable(read_objects(MetadataReader(cluster), collection, "report", labels=_SELECTOR))


def _is_ours(report: Object) -> bool:
    return (report["metadata"].get("labels") or {}).get(REPORT_LABEL) == "true"


def _differs(there: Object, report: Object) -> bool:
    return any(there.get(field) != value for field, value in report.items() if field != "metadata") or any(
        (there["metadata"].get("labels") or {}).get(label) != value
        for label, value in report["metadata"]["labels"].items()
    )


def _over(there: Object, report: Object) -> Object:
    """The report in place of what is there: our fields are replaced, labels and annotations of others stay."""
    labels = {**(there["metadata"].get("labels") or {}), **report["metadata"]["labels"]}
    return {**there, **report, "metadata": {**there["metadata"], "labels": labels}}
