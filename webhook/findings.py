"""Findings: violations that were met on objects, what becomes of them, and where to look.

`forestall check` meets them in files, audits and `forestall doctor` in the cluster; messages and formats put them into
words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from webhook.config import Config
from webhook.errors import NOT_OURS, UNREADABLE
from webhook.objects.owners import operator_of
from webhook.objects.pods import readable_workload
from webhook.policy import AdmissionRequest, Decision, Reference, Verdict

Enforcement = Literal["deny", "patch", "nothing"]


class Place(NamedTuple):
    """Where to look: a line of a file; without a file, the object in the cluster."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "in the cluster"


IN_CLUSTER = Place()


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """An object that was judged. `place` is where it begins; `containers` counts those judged; `owner` is the resource
    of an operator that it names as its controller, such as "Observatory obs": nobody could mend it at the object."""

    place: Place
    api_version: str
    kind: str
    namespace: str
    name: str
    containers: int = 0
    is_workload: bool = False
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(filter(None, (self.namespace, self.name)))}"

    @property
    def reference(self) -> Reference:
        return Reference(self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation that was met on an object, and what becomes of it.

    place      where to look for the violation
    container  the name of the container that it is about, if it is about one
    ratcheted  an update that leaves the object as it is would be spared: neither denied nor patched for this violation
    """

    object: JudgedObject
    verdict: Verdict
    place: Place = IN_CLUSTER
    container: str | None = None
    ratcheted: bool = False

    @property
    def needs_action(self) -> bool:
        """Whether somebody has to do something about it: it is neither exempted nor only noted."""
        return self.verdict.outcome != "exempted" and self.verdict.violation.at_most != "audit"

    @property
    def enforcement(self) -> Enforcement:
        """What becomes of the violation where its policy is enforced, as it is now or would be."""
        if self.verdict.denies or self.verdict.enforced == "deny":
            return "deny"
        return "patch" if self.verdict.outcome == "patched" or self.verdict.enforced else "nothing"


def object_of(request: AdmissionRequest, place: Place = IN_CLUSTER) -> JudgedObject:
    """The object that the request is about."""
    workload = readable_workload(request)
    # The API server gives the request for a Namespace that namespace's own name.
    is_namespace = (request.group, request.kind) == ("", "Namespace")
    return JudgedObject(
        place,
        f"{request.group}/{request.version}" if request.group else request.version,
        request.kind,
        "" if is_namespace else request.namespace,
        request.name,
        len(workload.containers) if workload else 0,
        is_workload=workload is not None,
        owner=_owner(request),
    )


def _owner(request: AdmissionRequest) -> str:
    try:
        return operator_of(request.object)
    except UNREADABLE:
        return ""


def findings_of(
    request: AdmissionRequest,
    decision: Decision,
    config: Config,
    judged: JudgedObject | None = None,
    place_of: Callable[[str], Place] = lambda _path: IN_CLUSTER,
) -> list[Finding]:
    """The decision's verdicts as findings on the request's object; `place_of` turns a path in it into a place to look
    at."""
    judged = judged or object_of(request)
    workload = readable_workload(request)
    findings = []
    for verdict in decision.verdicts:
        container = workload.container_of(verdict.violation) if workload else None
        findings.append(
            Finding(
                judged,
                verdict,
                place_of(verdict.violation.path),
                container.name if container else None,
                _is_ratcheted(verdict, decision, config),
            )
        )
    return findings


def bugs_of(decision: Decision) -> dict[str, BaseException]:
    """The policies that failed by a bug of theirs, and not for what could not be read, with what they raised."""
    return {policy: error for policy, error in decision.failures.items() if not isinstance(error, NOT_OURS)}


def _is_ratcheted(verdict: Verdict, decision: Decision, config: Config) -> bool:
    is_compared = config.ratchet and verdict.policy not in decision.failures
    return is_compared and not (verdict.outcome == "patched" and config.patch_existing)
