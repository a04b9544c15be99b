"""What people read: the text of a denial, kubectl's warnings, the API server's audit annotations.

The order is always: what is wrong, where, what to set, how to type it, why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile, zip_longest
from typing import Any

import msgspec

from webhook.fixes import sets_of
from webhook.loader import load_policies
from webhook.policy import AdmissionRequest, Decision, Set, Verdict, Violation

# kubectl prints all of a denial, but nobody reads more than this; the limit keeps a status small.
_DENIALS = 20
# The API server's limits: 256 characters each once 4096 are spent, and what comes later is dropped.
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
    lines = [f"{verdict.policy}: {verdict.violation.message}"]
    repeated = details(following.policy, following.violation) if following else []
    for label, text in details(verdict.policy, verdict.violation):
        if label == "where" or (label, text) not in repeated:
            lines.append(f"  {label:<6}{text}")
    return "\n".join(lines)


def details(policy_id: str, violation: Violation) -> list[tuple[str, str]]:
    """Where, what to set, how and why, each with its label; what doesn't apply is left out."""
    where = [("where", violation.path)] if violation.path else []
    fix = {each.path: each.value for each in sets_of(violation) if isinstance(each.value, (str, int))}
    return where + advice(policy_id, fix, violation.hint, incident(policy_id))


def advice(policy_id: str, fix: Mapping[str, Any], hint: str | None, incident: str) -> list[tuple[str, str]]:
    """What to set (path -> value), how (`hint`, a Helm value) and why, each with its label; what doesn't apply is left
    out."""
    lines = [("set", f"{path}: {_shown(value)}") for path, value in fix.items()]
    if hint:
        lines.append(("how", f"Helm value {hint}"))
    if incident:
        lines.append(("why", f"{incident} (forestall explain {policy_id})"))
    return lines


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else msgspec.json.encode(value).decode()


def incident(policy_id: str) -> str:
    return "; ".join(load_policies()[policy_id].policy.incidents)


def warnings(decision: Decision) -> list[str]:
    """What kubectl and helm print beside the result: patches explained, warnings, what could not be seen."""
    shown = [verdict for verdict in decision.verdicts if verdict.mode in ("warn", "patch") and _is_told(verdict)]
    texts = list(dict.fromkeys(_one_line(verdict) for verdict in shown))
    kept: list[str] = []
    for text in texts:
        if sum(map(len, kept)) + len(text) > _WARNINGS_LENGTH - _WARNING_LENGTH:
            kept.append(f"forestall: and {len(texts) - len(kept)} more warnings")
            break
        kept.append(text)
    return kept


def _is_told(verdict: Verdict) -> bool:
    return verdict.outcome in ("warned", "patched", "unknown", "failed")


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
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)) if len(paths) > 1 else ()
    shared = [parts[0] for parts in alike]
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
