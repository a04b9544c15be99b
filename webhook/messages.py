"""What people read: the text of a denial, kubectl's warnings, the API server's audit annotations.

The order is always: what is wrong, where, what to set, how to type it, why.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from webhook.fixes import sets_of
from webhook.loader import load_policies
from webhook.policy import AdmissionRequest, Decision, Verdict, Violation

# kubectl prints all of a denial, but nobody reads more than this; the limit keeps a status small.
_DENIALS = 20
# The API server's limits: 256 characters each once 4096 are spent, and what comes later is dropped.
_WARNING_LENGTH = 256
_WARNINGS_LENGTH = 4096
_ANNOTATION_LENGTH = 1024


def denial(request: AdmissionRequest, decision: Decision) -> str:
    """Everything that is wrong, in one text of several lines."""
    denied = decision.denied
    count = "1 violation" if len(denied) == 1 else f"{len(denied)} violations"
    parts = [f"{count} in {request.kind} {request.namespace}/{object_name(request)}"]
    shown = denied[:_DENIALS]
    parts += [_paragraph(verdict, following) for verdict, following in zip_longest(shown, shown[1:])]
    if len(denied) > _DENIALS:
        parts.append(f"and {len(denied) - _DENIALS} more")
    return "\n\n".join(parts) + "\n"


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
    lines = [("where", violation.path)] if violation.path else []
    lines += [("set", f"{fix.path}: {fix.value}") for fix in sets_of(violation) if isinstance(fix.value, (str, int))]
    if violation.hint:
        lines.append(("how", f"Helm value {violation.hint}"))
    lines.append(("why", f"{incident(policy_id)} (forestall explain {policy_id})"))
    return lines


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
    violation = verdict.violation
    where = f" ({violation.path})" if violation.path else ""
    if verdict.outcome == "patched":
        # The value is in the first 120 characters, which is all that some clients show.
        where = f" (patched: {', '.join(f'{fix.path}={fix.value}' for fix in sets_of(violation))})"
    note = f"; {verdict.note}" if verdict.note else ""
    text = " ".join(f"{verdict.policy}: {violation.message}{where}{note}".split())
    return text if len(text) <= _WARNING_LENGTH else f"{text[: _WARNING_LENGTH - 1]}…"


def audit_annotations(decision: Decision) -> dict[str, str]:
    """Audit annotations, one an outcome: "denied": "memory-limits spec.containers[0].resources.limits.memory"."""
    by_outcome: dict[str, list[str]] = {}
    for verdict in decision.verdicts:
        note = f" ({verdict.note})" if verdict.outcome == "exempted" else ""
        by_outcome.setdefault(verdict.outcome, []).append(f"{verdict.policy} {verdict.violation.path}{note}".strip())
    return {outcome: _cut(texts) for outcome, texts in by_outcome.items()}


def _cut(texts: Iterable[str]) -> str:
    text = "; ".join(texts)
    return text if len(text) <= _ANNOTATION_LENGTH else f"{text[: _ANNOTATION_LENGTH - 1]}…"
