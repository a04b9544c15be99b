"""What people read: the text of a denial, kubectl's warnings, the API server's audit annotations.

The order is always: what is wrong, where, what to set, how to type it, why.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile, zip_longest
from typing import Any

import msgspec

from webhook.fixes import sets_of
from webhook.loader import load_policies
from webhook.policy import AdmissionRequest, Decision, Set, Verdict

# kubectl prints all of a denial, but nobody reads more than this; the limit keeps a status small.
_DENIALS = 20
# The API server's limits: once 4096 characters are spent it cuts further warnings to 256, and later drops them.
_WARNING_LENGTH = 256
_WARNINGS_LENGTH = 4096
_ANNOTATION_LENGTH = 1024
# All of a warning that some clients show: the problem and its value have to be in it.
_SHOWN_LENGTH = 120


def denial(request: AdmissionRequest, decision: Decision) -> str:
    """Everything that is wrong, in one text of several lines."""
    denied = decision.denied
    count = "1 violation" if len(denied) == 1 else f"{len(denied)} violations"
    parts = [f"{count} in {request.kind} {request.namespace}/{object_name(request)}"]
    shown = denied[:_DENIALS]
    parts += [_paragraph(verdict, following) for verdict, following in zip_longest(shown, shown[1:])]
    if len(denied) > _DENIALS:
        parts.append(f"and {len(denied) - _DENIALS} more")
    return "\n\n".join(parts)


def object_name(request: AdmissionRequest) -> str:
    """The object's name; what only has a generateName yet is called by that."""
    metadata = (request.object or {}).get("metadata") or {}
    return request.name or str(metadata.get("name") or metadata.get("generateName") or "")


def _paragraph(verdict: Verdict, following: Verdict | None) -> str:
    """One violation; what the next one says as well (a fix that mends both, the incident) is left to it."""
    path = verdict.violation.path
    repeated = advice(following, is_short=True) if following else []
    labelled = [("where", path)] if path else []
    labelled += [line for line in advice(verdict, is_short=True) if line not in repeated]
    return "\n".join([headline(verdict), *(f"  {label:<6}{text}" for label, text in labelled)])


def headline(verdict: Verdict) -> str:
    """The policy, what is wrong, and why the outcome is weaker than the policy's mode."""
    return f"{verdict.policy}: {told(verdict)}"


def told(verdict: Verdict) -> str:
    """What is wrong, and why the outcome is weaker than the policy's mode."""
    message = verdict.violation.message
    return f"{message} ({verdict.note})" if verdict.note else message


def advice(verdict: Verdict, *, is_short: bool = False) -> list[tuple[str, str]]:
    """What to set, how (a Helm value) and why, with labels: ("set", "spec.replicas: 2"); what doesn't apply is left
    out.

    `is_short` leaves out values that are lists or maps, which nobody could read in a denial.
    """
    fixes = [fix for fix in sets_of(verdict.violation) if not is_short or isinstance(fix.value, str | int)]
    lines = [("set", f"{fix.path}: {_shown(fix.value)}") for fix in fixes]
    if verdict.violation.hint:
        lines.append(("how", f"Helm value {verdict.violation.hint}"))
    if why := incident(verdict.policy):
        lines.append(("why", f"{why} (forestall explain {verdict.policy})"))
    return lines


def in_full(verdict: Verdict) -> str:
    """All that there is to say of a violation but where it is, in several lines."""
    return "\n".join([told(verdict), *advice_lines(verdict)])


def advice_lines(verdict: Verdict) -> list[str]:
    """The advice for a reader who has no columns: "set spec.replicas: 2", "how: Helm value replicas"."""
    return [f"{label} {text}" if label == "set" else f"{label}: {text}" for label, text in advice(verdict)]


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else msgspec.json.encode(value).decode()


def incident(policy_id: str) -> str:
    return "; ".join(load_policies()[policy_id].policy.incidents)


def warnings(decision: Decision) -> list[str]:
    """What kubectl and helm print beside the result: patches explained, warnings, what could not be seen."""
    texts = list(dict.fromkeys(_one_line(verdict) for verdict in decision.verdicts if verdict.is_printed))
    kept: list[str] = []
    for text in texts:
        if sum(map(len, kept)) + len(text) > _WARNINGS_LENGTH - _WARNING_LENGTH:
            kept.append(f"forestall: and {len(texts) - len(kept)} more warnings")
            break
        kept.append(text)
    return kept


def _one_line(verdict: Verdict) -> str:
    """What is wrong, then where or what was patched, and why it is no denial: only the first part may be cut."""
    violation = verdict.violation
    where = violation.path
    if verdict.outcome == "patched":
        where = f"patched: {_changed(sets_of(violation))}"
    end = (f" ({where})" if where else "") + (f"; {verdict.note}" if verdict.note else "")
    begin = " ".join(f"{verdict.policy}: {violation.message}".split())
    begin = _cut(begin, max(_WARNING_LENGTH - len(end), _SHOWN_LENGTH))
    return _cut(begin + end, _WARNING_LENGTH)


def _changed(sets: Sequence[Set]) -> str:
    """What was set, the path that all share said once: "limits.memory=1Gi, requests.memory=1Gi in spec.resources"."""
    paths = [fix.path.split(".") for fix in sets]
    above = zip(*(path[:-1] for path in paths), strict=False) if len(paths) > 1 else ()
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, above)]
    texts = []
    for path, fix in zip(paths, sets, strict=True):
        value = f"={fix.value}" if isinstance(fix.value, (str, int)) else ""
        texts.append(".".join(path[len(shared) :]) + value)
    return ", ".join(texts) + (f" in {'.'.join(shared)}" if shared else "")


def audit_annotations(decision: Decision) -> dict[str, str]:
    """Audit annotations, one an outcome: "denied": "memory-limits spec.containers[0].resources.limits.memory"."""
    by_outcome: dict[str, list[str]] = {}
    for verdict in decision.verdicts:
        note = f" ({verdict.note})" if verdict.outcome == "exempted" else ""
        by_outcome.setdefault(verdict.outcome, []).append(f"{verdict.policy} {verdict.violation.path}{note}".strip())
    return {outcome: _cut("; ".join(texts), _ANNOTATION_LENGTH) for outcome, texts in by_outcome.items()}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
