"""What people read: the text of a denial, kubectl's warnings, the API server's audit annotations.

The order is always: what is wrong, where, what to do and to set, how to type it, why. It can be followed: the commands
and sets of a denial, done in their order, mend the object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile, zip_longest
from typing import Any

import msgspec

from webhook.config import Config
from webhook.fixes import can_change, fails_again, sets_of
from webhook.loader import load_policies
from webhook.objects.commands import kubectl
from webhook.objects.containers import Container
from webhook.objects.pods import readable_workload
from webhook.objects.topology import as_yaml
from webhook.objects.wording import shortened
from webhook.policy import AdmissionRequest, Brief, Decision, Set, Verdict, Violation

# Violations that a denial tells of: kubectl would print more, but nobody reads them, and the status would be large.
_DENIALS = 20
# Characters of a value in a denial: longer lists and maps are left out, since nobody could read them there.
_VALUE_LENGTH = 200
# The API server's limits: once 4096 characters are spent it cuts further warnings to 256, and later drops them. All
# webhooks of a request share them, and two are ours.
_WARNING_LENGTH = 256
_WARNINGS_LENGTH = 4096 // 2
_MOST_WARNINGS = 15
_ANNOTATION_LENGTH = 1024
_NAME_LENGTH = 40
# Characters of what is wrong that a warning keeps at least, however long its remedy is.
_WRONG_LENGTH = 40


def denial(request: AdmissionRequest, decision: Decision, config: Config) -> str:
    """The text of a denial: every violation of the request that is denied, in several lines."""
    denied = decision.denied
    count = "1 violation" if len(denied) == 1 else f"{len(denied)} violations"
    parts = [f"{count} in {request.kind} {request.namespace}/{object_name(request)}"]
    # One remedy for each field: what may be applied counts for more than what is only advised.
    fixed = {fix.path for verdict in denied for fix in sets_of(verdict.violation)}
    advised = [_advice(verdict, request, config.pages, fixed) for verdict in denied[:_DENIALS]]
    parts += [
        _paragraph(verdict, lines, following)
        for verdict, lines, following in zip_longest(denied[:_DENIALS], advised, advised[1:])
    ]
    if len(denied) > _DENIALS:
        parts.append(f"and {len(denied) - _DENIALS} more")
    return "\n\n".join([*parts, *filter(None, [config.contact])])


def object_name(request: AdmissionRequest) -> str:
    """The object's name, or its generateName where the API server hasn't given it a name yet."""
    metadata = (request.object or {}).get("metadata") or {}
    return request.name or str(metadata.get("name") or metadata.get("generateName") or "")


_Lines = list[tuple[str, str]]
"""Lines with their labels: ("set", "spec.replicas: 2")."""


def _paragraph(verdict: Verdict, lines: _Lines, following: _Lines | None) -> str:
    """One violation's lines, without those that the next violation repeats, such as a fix for both, or the incident."""
    path = verdict.violation.path
    labelled = [("where", path)] if path else []
    labelled += [line for line in lines if line not in (following or ())]
    return "\n".join([headline(verdict), *(f"  {label:<6}{text}" for label, text in labelled)])


def headline(verdict: Verdict) -> str:
    """The policy, what is wrong, and why it isn't enforced or what enforcing it would do."""
    return f"{verdict.policy}: {told(verdict)}"


def told(verdict: Verdict) -> str:
    """What is wrong, and why the outcome is weaker than the policy's mode, or what the policy would do if it were
    enforced."""
    message, aside = verdict.violation.message, verdict.note or _enforced(verdict)
    return f"{message} ({aside})" if aside else message


def advice(verdict: Verdict) -> _Lines:
    """What to do, with labels: commands ("run"), what to set, how (a Helm value) and why; what doesn't apply is left
    out."""
    violation = verdict.violation
    return [*_deletions(violation, ""), *map(_set_line, shown_sets(violation)), *_how_and_why(verdict, "")]


def _advice(verdict: Verdict, request: AdmissionRequest, pages: str, fixed: Collection[str]) -> _Lines:
    """As `advice`, for a denial: long values are left out, and where a field can't be changed, the command that deletes
    the object comes first."""
    violation = verdict.violation
    sets = [fix for fix in shown_sets(violation) if sets_of(violation) or fix.path not in fixed]
    if any(len(_shown(fix.value)) > _VALUE_LENGTH for fix in sets):
        sets = []
    own = [fix for fix in sets if not fix.of]
    lines = list(_deletions(violation, request.namespace))
    if own and not request.subresource and not can_change(request, own):
        lines.append(("run", _deletion(request)))
    return [*lines, *map(_set_line, sets), *_how_and_why(verdict, pages)]


def shown_sets(violation: Violation) -> Sequence[Set]:
    """The sets that mend the violation: its fix, or, where it has none, its advice."""
    return sets_of(violation) or violation.advice


def _deletions(violation: Violation, namespace: str) -> Iterator[tuple[str, str]]:
    place = ["-n", namespace] if namespace else []
    for reference in violation.deletes:
        yield "run", kubectl("delete", reference, *place, "--ignore-not-found")


def _deletion(request: AdmissionRequest) -> str:
    """The command without which a field that can't be changed can't be set; the pods of a StatefulSet live on."""
    kept = ["--cascade=orphan"] if request.kind == "StatefulSet" else []
    return kubectl("delete", f"{request.kind.lower()}/{object_name(request)}", "-n", request.namespace, *kept)


def _set_line(fix: Set) -> tuple[str, str]:
    return "set", f"{fix.of} {fix.path}: {_shown(fix.value)}".strip()


def _how_and_why(verdict: Verdict, pages: str) -> Iterator[tuple[str, str]]:
    if verdict.violation.hint:
        yield "how", f"Helm value {verdict.violation.hint}"
    if why := incident(verdict.policy):
        page = f"{pages}/{verdict.policy}" if pages else f"forestall explain {verdict.policy}"
        yield "why", f"{why} ({page})"


def in_full(verdict: Verdict) -> str:
    """The violation's message and advice, a line each, without its path."""
    return "\n".join([told(verdict), *advice_lines(verdict)])


def advice_lines(verdict: Verdict) -> list[str]:
    """The advice as lines without columns: "set spec.replicas: 2", "how: Helm value replicas"."""
    return [f"{label} {text}" if label in ("set", "run") else f"{label}: {text}" for label, text in advice(verdict)]


def _shown(value: Any) -> str:
    return as_yaml(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def incident(policy_id: str) -> str:
    return "; ".join(load_policies()[policy_id].policy.incidents)


def warnings(request: AdmissionRequest, decision: Decision, config: Config) -> list[str]:
    """The warnings that kubectl and helm print beside the result: on patches, violations, and what could not be seen.

    The worst come first; where there is no room for all, the last one says how many are left out.
    """
    shown = [verdict for verdict in decision.verdicts if verdict.is_printed]
    if not shown:
        return []
    texts = list(dict.fromkeys(_warning(request, verdict, config) for verdict in sorted(shown, key=_rank)))
    kept: list[str] = []
    for text in texts:
        rest = f"{_who(request)}: and {len(texts) - len(kept)} more warnings of Forestall"
        if len(kept) == _MOST_WARNINGS or sum(map(len, kept)) + len(text) > _WARNINGS_LENGTH - len(rest):
            return [*kept, rest]
        kept.append(text)
    return kept


def _rank(verdict: Verdict) -> int:
    """A warning's place: what would be denied comes first, then what would be patched, what could not be decided, other
    violations, what was patched, and what the object had before."""
    if verdict.outcome == "patched":
        return 4
    if verdict.note:
        return 5
    if verdict.outcome in ("unknown", "failed"):
        return 2
    return {"deny": 0, "patch": 1}.get(verdict.enforced or "", 3)


def _warning(request: AdmissionRequest, verdict: Verdict, config: Config) -> str:
    """A warning's text: object and container, what is wrong, what to do, what enforcement would do, and whom to ask.

    Where there is no room for all, the Helm value goes, then the end of what is wrong: the remedy stays whole.
    """
    violation, container = verdict.violation, container_of(request, verdict.violation)
    wrong, remedy = violation.brief or Brief(violation.message)
    if verdict.outcome == "patched":
        remedy = f"patched to {_changed(sets_of(violation), container)}"
        if fails_again(request, sets_of(violation)):
            remedy += "; applying it again fails until the manifest says the same"
    end = [remedy and f": {remedy}", *(f"; {text}" for text in (verdict.note, _enforced(verdict)) if text)]
    how = _helm_value(violation.hint or "") if verdict.outcome != "patched" else ""
    asked = f"; {config.contact}" if config.contact else ""
    begin = f"{_who(request, container)}: {verdict.policy}: "
    wrong, tail = _spaced(wrong), _spaced("".join(end))
    if len(violation.subject) > _NAME_LENGTH:
        wrong = wrong.replace(violation.subject, shortened(violation.subject, _NAME_LENGTH))
    # Both that may be long are somebody's names: the least is what the reader can't do without.
    tail = cut(tail, _WARNING_LENGTH - len(begin) - len(asked) - _WRONG_LENGTH)
    room = _WARNING_LENGTH - len(begin) - len(tail) - len(asked)
    if len(wrong) + len(how) > room:
        how = ""
    return f"{begin}{cut(wrong, room)}{tail}{how}{asked}"


def _helm_value(hint: str) -> str:
    """The Helm value's name, as the end of a warning: the remedy says already what to set it to."""
    return f"; Helm value {hint.partition(': ')[0].partition('[')[0]}" if hint else ""


def _who(request: AdmissionRequest, container: Container | None = None) -> str:
    """The object, and the container if there is one: "Deployment web, container app"."""
    who = f"{request.kind} {shortened(object_name(request), _NAME_LENGTH)}"
    return f"{who}, container {shortened(container.name, _NAME_LENGTH)}" if container else who


def container_of(request: AdmissionRequest, violation: Violation) -> Container | None:
    """The container that the violation is about; None if it is about none, or the object can't be read."""
    workload = readable_workload(request)
    return workload.container_of(violation) if workload else None


def _enforced(verdict: Verdict) -> str:
    """What would become of the violation if its policy were enforced; empty if nothing else than now."""
    if verdict.enforced != "patch":
        return "would be denied" if verdict.enforced else ""
    value = next((fix.value for fix in sets_of(verdict.violation)), None)
    return f"would be patched to {value}" if isinstance(value, str | int) else "would be patched"


def _changed(sets: Sequence[Set], container: Container | None = None) -> str:
    """What was set, the path that all share said once: "limits.memory=1Gi, requests.memory=1Gi in spec.resources"; of a
    container's resources it isn't said at all."""
    if container:
        above = f"{container.resources_path}."
        sets = [msgspec.structs.replace(fix, path=fix.path.removeprefix(above)) for fix in sets]
    paths = [fix.path.split(".") for fix in sets]
    above_all = zip(*(path[:-1] for path in paths), strict=False) if len(paths) > 1 else ()
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, above_all)]
    texts = []
    for path, fix in zip(paths, sets, strict=True):
        value = f"={fix.value}" if isinstance(fix.value, (str, int)) else ""
        texts.append(".".join(path[len(shared) :]) + value)
    return ", ".join(texts) + (f" in {'.'.join(shared)}" if shared else "")


def audit_annotations(decision: Decision) -> dict[str, str]:
    """Audit annotations, one an outcome: "denied": "memory-limits spec.containers[0].resources.limits.memory"."""
    by_outcome: dict[str, list[str]] = {}
    for verdict in decision.verdicts:
        aside = verdict.note if verdict.outcome == "exempted" else _enforced(verdict)
        note = f" ({aside})" if aside else ""
        by_outcome.setdefault(verdict.outcome, []).append(f"{verdict.policy} {verdict.violation.path}{note}".strip())
    return {outcome: cut("; ".join(texts), _ANNOTATION_LENGTH) for outcome, texts in by_outcome.items()}


def cut(text: str, length: int) -> str:
    """The beginning of a text that has more characters than this, with "…" as its last one."""
    return text if len(text) <= length else f"{text[: max(length - 1, 0)]}…"


def _spaced(text: str) -> str:
    """The text in one line, with single spaces."""
    return " ".join(text.split()) if "\n" in text or "  " in text else text
