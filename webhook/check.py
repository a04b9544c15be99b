"""The engine's decision for files: what would become of their objects if they were created as they stand.

Prints nothing: formats.py renders what `check_files` returns.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from webhook.cluster.lookups import LookUp, decide_looking
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import UNREADABLE, BadManifest, BadObject
from webhook.files.dump import Identity, Member, Members, identity_of, is_judged_elsewhere, member_of
from webhook.files.manifests import STDIN, Manifest, take_file
from webhook.files.templates import fill
from webhook.findings import Finding, JudgedObject, Place, bugs_of, findings_of, object_of
from webhook.halves import in_two, is_worth_two, split
from webhook.objects.facts import LIMIT_RANGES, ClusterFacts, read_fact
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.fields import mapping
from webhook.objects.limit_range_validation import wrong_with_items
from webhook.objects.limitranger import refusals
from webhook.objects.owners import controller_of, metadata_of
from webhook.objects.pods import is_validated, read_workload
from webhook.objects.unjudged import Unjudged, unjudged_kind
from webhook.policy import AdmissionRequest, Decision, FactKind, FactReference, Object, Outcome, Violation, weakest
from webhook.scope import facts_of, locate_pod_spec, stored_kinds

Progress = Callable[[float], None]
"""A function that is called with the fraction of the files that has been read, from 0 to 1."""


@dataclass(slots=True)
class Report:
    """The result of `forestall check`. `objects` counts all objects that were read, `judged` are those of judged
    kinds."""

    files: int = 0
    objects: int = 0
    judged: list[JudgedObject] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    errors: list[BadManifest] = field(default_factory=list)
    foreign: list[BadManifest] = field(default_factory=list)
    """Documents that hold something else than a Kubernetes object, and that aren't errors."""
    unjudged: Counter[Unjudged] = field(default_factory=Counter)
    """Objects of kinds that aren't judged although pods come of them."""
    bugs: dict[str, str] = field(default_factory=dict)
    """Policy id -> the object that the policy failed on first, and the traceback."""

    def count(self, outcome: Outcome) -> int:
        return sum(finding.verdict.outcome == outcome for finding in self.findings)

    @property
    def used_exemptions(self) -> set[int]:
        exemptions = (finding.verdict.exemption for finding in self.findings)
        return {exemption for exemption in exemptions if exemption is not None}

    def exit_code(self, *, strict: bool) -> int:
        """The exit code of check: 0 if nothing would be denied, 1 if something would, 2 if something can't be read.

        `strict`: 1 if there is any finding that needs action.
        """
        if self.errors:
            return 2
        return int(any(finding.needs_action and (finding.verdict.denies or strict) for finding in self.findings))


def check_files(
    files: Sequence[str],
    config: Config,
    facts: ClusterFacts,
    *,
    today: date,
    namespace: str = "default",
    only_in: Mapping[FactKind[Any, Any], Collection[str]] = MappingProxyType({}),
    may_be_foreign: Container[str] = (),
    look_up: Callable[[], LookUp] | None = None,
    stdin_name: str = "<stdin>",
    progress: Progress = lambda _done: None,
) -> Report:
    """Judge every object in `files`. What cluster objects they hold counts as facts for all of them.

    `namespace` is for objects that carry none. Of the kinds in `only_in`, `facts` holds what these namespaces have, and
    nothing is known of others. `look_up` returns what reads the cluster's objects that are looked up one by one; each
    process calls it for itself, since no two may share a connection. `may_be_foreign` are files in which it is no error
    if there is no object, `stdin_name` is what findings name for standard input.
    """
    run = _Run(config, facts, today, namespace, only_in, stdin_name, look_up)
    check = _check_in_two if STDIN not in files and is_worth_two(files) else _check_in_one
    report = check(files, run, progress)
    report.files = len(files)
    report.foreign = [error for error in report.errors if error.is_foreign and error.file in may_be_foreign]
    report.errors = [error for error in report.errors if error not in report.foreign]
    return report


def _check_in_one(files: Sequence[str], run: _Run, progress: Progress) -> Report:
    read = run.read(files, progress)
    run.learn(read.shared.cluster_objects)
    return run.judge(read, read.shared.members)


def _check_in_two(files: Sequence[str], run: _Run, progress: Progress) -> Report:
    """As _check_in_one, with half of the files in a second process. Both get the other's facts and workloads."""

    def finish(read: _Read, theirs: _Shared) -> Report:
        run.learn(_in_order(files, [*read.shared.cluster_objects, *theirs.cluster_objects]))
        return run.judge(read, {**theirs.members, **read.shared.members})

    ours, theirs = split(files)
    reports = in_two(
        lambda: run.read(ours, progress),
        lambda: run.read(theirs, lambda _done: None),
        lambda read: read.shared,
        finish,
    )
    return _merge(files, *reports)


def _merge(files: Sequence[str], one: Report, other: Report) -> Report:
    order = {file: index for index, file in enumerate(files)}
    return Report(
        objects=one.objects + other.objects,
        judged=sorted(one.judged + other.judged, key=lambda judged: order[judged.place.file]),
        findings=sorted(one.findings + other.findings, key=lambda finding: order[finding.place.file]),
        errors=sorted(one.errors + other.errors, key=lambda error: order.get(error.file, -1)),
        unjudged=one.unjudged + other.unjudged,
        bugs={**other.bugs, **one.bugs},
    )


class _ClusterObject(NamedTuple):
    """An object that facts are made of, its record, and where it came from."""

    file: str
    reference: FactReference
    record: Any


def _in_order(files: Sequence[str], objects: list[_ClusterObject]) -> list[_ClusterObject]:
    order = {file: index for index, file in enumerate(files)}
    return sorted(objects, key=lambda found: order.get(found.file, len(order)))


@dataclass(slots=True)
class _Shared:
    """The objects of some files that bear on the verdicts about others: those that facts are made of, and workloads."""

    cluster_objects: list[_ClusterObject] = field(default_factory=list)
    members: dict[Identity, Member] = field(default_factory=dict)


@dataclass(slots=True)
class _Read:
    """The content of some files: the number of objects, those to judge, and those that bear on other files."""

    objects: int = 0
    judged: list[Manifest] = field(default_factory=list)
    shared: _Shared = field(default_factory=_Shared)
    errors: list[BadManifest] = field(default_factory=list)
    unjudged: Counter[Unjudged] = field(default_factory=Counter)


class _Run:
    """One run of `forestall check`: its configuration, and the facts that grow by what the files hold."""

    def __init__(
        self,
        config: Config,
        facts: ClusterFacts,
        today: date,
        namespace: str,
        only_in: Mapping[FactKind[Any, Any], Collection[str]],
        stdin_name: str,
        look_up: Callable[[], LookUp] | None,
    ) -> None:
        self.config = config
        self.fact_kinds = facts_of(config)
        self.judged = {(kind.group, kind.kind) for kind in stored_kinds(config)}
        self.facts = facts
        self.today = today
        self.namespace = namespace
        self.only_in = only_in
        self.stdin_name = stdin_name
        self._begin_to_look_up = look_up

    @cached_property
    def _look_up(self) -> LookUp | None:
        return self._begin_to_look_up() if self._begin_to_look_up else None

    def read(self, files: Sequence[str], progress: Progress) -> _Read:
        read = _Read()
        for index, file in enumerate(files):
            read.errors += take_file(file, lambda manifest: self._sort_in(manifest, read), self.stdin_name)
            progress((index + 1) / len(files))
        return read

    def _sort_in(self, manifest: Manifest, read: _Read) -> None:
        read.objects += 1
        obj = manifest.object
        key = _group(obj), obj["kind"]
        try:
            if (fact := self._fact(obj, is_workload=key in self.config.workload_keys)) is not None:
                _validate_fact(obj, fact[0].kind)
                read.shared.cluster_objects.append(_ClusterObject(manifest.file, *fact))
            if key in self.config.workload_keys:
                read.shared.members[identity_of(obj, self._namespace(obj))] = member_of(manifest, obj)
        except UNREADABLE as error:
            read.errors.append(_refused(manifest, error))
            return
        if key in self.judged:
            read.judged.append(manifest.packed())
        elif (unjudged := unjudged_kind(*key, obj)) is not None:
            read.unjudged[unjudged] += 1

    def _fact(self, obj: Object, *, is_workload: bool) -> tuple[FactReference, Any] | None:
        """The object as a fact for the others. What is wrong with a workload is told where it is judged."""
        try:
            return read_fact(obj, self.fact_kinds, namespace=self.namespace)
        except UNREADABLE:
            if is_workload:
                return None
            raise

    def _namespace(self, obj: Object) -> str:
        metadata = metadata_of(obj)
        if _is_namespace(obj):
            return str(metadata.get("name") or "")  # as the API server fills it in
        return str(metadata.get("namespace") or self.namespace)

    def learn(self, objects: Iterable[_ClusterObject]) -> None:
        self.facts = self.facts.with_facts((found.reference, found.record) for found in objects)

    def judge(self, read: _Read, members: Members) -> Report:
        report = Report(objects=read.objects, errors=read.errors, unjudged=read.unjudged)
        for manifest in read.judged:
            obj = manifest.object
            try:
                # Two files may hold an object of one name: its own reference counts.
                if not (
                    controller_of(obj)
                    and is_judged_elsewhere(identity_of(obj, self._namespace(obj)), member_of(manifest, obj), members)
                ):
                    self._judge_one(manifest, obj, report)
            except UNREADABLE as error:
                report.errors.append(_refused(manifest, error))
        report.errors.sort(key=lambda error: (error.file, error.line))
        return report

    def _request(self, obj: Object) -> AdmissionRequest:
        metadata = metadata_of(obj)
        request = AdmissionRequest(
            operation="CREATE",
            group=_group(obj),
            version=obj["apiVersion"].rpartition("/")[2],
            kind=obj["kind"],
            namespace=self._namespace(obj),
            name=str(metadata.get("name") or metadata.get("generateName") or ""),
            object=obj,
        )
        return locate_pod_spec(request, self.config)

    def _facts_for(self, request: AdmissionRequest) -> ClusterFacts:
        hidden = [kind for kind, namespaces in self.only_in.items() if request.namespace not in namespaces]
        return self.facts.without(hidden) if hidden else self.facts

    def _decide(self, request: AdmissionRequest) -> Decision:
        def by(facts: ClusterFacts) -> Decision:
            return decide(request, facts, self.config, today=self.today)

        return decide_looking(by, self._facts_for(request), self._look_up)

    def _judge_one(self, manifest: Manifest, obj: Object, report: Report) -> None:
        request = self._request(obj)
        if not manifest.open:
            read_workload(request)
        decision = self._decide(request)
        if decision.skipped:
            return
        if manifest.open:
            decision = self._left_open(manifest.open, request, decision)
        else:
            _raise_unreadable(decision)
            report.errors += [_refused(manifest, error) for error in _wrong_with(request, decision)]
        judged = object_of(request, Place(manifest.file, manifest.line))
        report.judged.append(judged)
        report.findings += findings_of(
            request,
            decision,
            self.config,
            judged,
            lambda path: Place(manifest.file, manifest.line_of(path)),
        )
        manifest.forget_lines()
        for policy_id, bug in bugs_of(decision).items():
            report.bugs.setdefault(policy_id, f"{judged}: {''.join(traceback.format_exception(bug))}")

    def _left_open(self, parameters: frozenset[str], request: AdmissionRequest, decision: Decision) -> Decision:
        """The decision, with a "cannot tell" for each finding that depends on a Template's parameter without a value:
        one that there would be if the container were a Prometheus. An amount that is such a parameter needs none here:
        the decision says that it can't be read."""
        probe = fill(request.object, dict.fromkeys(parameters, "prometheus"), set())
        found = {(verdict.policy, verdict.violation.path) for verdict in decision.verdicts}
        probed = msgspec.structs.replace(request, object=probe)
        other = self._decide(probed)
        depending = {
            (verdict.policy, verdict.violation.subject): verdict
            for verdict in reversed(other.verdicts)
            if (verdict.policy, verdict.violation.path) not in found and verdict.outcome != "exempted"
        }
        names = " and ".join(f"${{{name}}}" for name in sorted(parameters))
        message = f"cannot tell: it depends on {names}, which the Template gives no value"
        unknown = [
            msgspec.structs.replace(
                verdict,
                mode=weakest(verdict.mode, "warn"),
                outcome="unknown",
                violation=Violation(verdict.violation.path, subject, message, is_unknown=True),
            )
            for (_, subject), verdict in depending.items()
        ]
        return msgspec.structs.replace(decision, verdicts=(*decision.verdicts, *unknown))


def _raise_unreadable(decision: Decision) -> None:
    """Raise the error that kept a policy from reading the object, if there was one."""
    for failure in decision.failures.values():
        if isinstance(failure, UNREADABLE):
            raise failure


def _validate_fact(obj: Object, kind: FactKind[Any, Any]) -> None:
    """Raise BadObject for a LimitRange that the API server refuses: no verdict may rest on what can't exist."""
    if kind == LIMIT_RANGES:
        for path, wrong in wrong_with_items(read_items(mapping(obj, "spec", ""))):
            raise BadObject(f"{path}: {wrong}, which the API server refuses")


def _wrong_with(request: AdmissionRequest, decision: Decision) -> Iterator[BadObject]:
    """Why the API server refuses the patched object for its containers, or their amounts; empty if it doesn't."""
    if not is_validated(request.group, request.kind):
        return
    patched = request if decision.object is None else msgspec.structs.replace(request, object=decision.object)
    workload = read_workload(patched)
    if workload and not any(container.role == "container" for container in workload.containers):
        yield BadObject(f"{workload.spec_path}.containers: a pod without containers, which the API server refuses")
    for refusal in refusals(workload, ()) if workload else ():
        who = f"container {refusal.container!r}" if refusal.container else "the pod"
        yield BadObject(
            f"{refusal.path}: {who}: {refusal.wrong}, which the API server refuses: set it to {refusal.advice}"
        )


def _group(obj: Object) -> str:
    return str(obj["apiVersion"]).rpartition("/")[0]


def _is_namespace(obj: Object) -> bool:
    return obj["kind"] == "Namespace" and not _group(obj)


def _refused(manifest: Manifest, error: Exception) -> BadManifest:
    """The object's line, or that of the field which the message begins with: "spec.containers is a string, …"."""
    field_path = str(error).partition(" ")[0].removesuffix(":")
    return BadManifest(manifest.file, manifest.line_of(field_path), f"{manifest.object['kind']}: {error}")
