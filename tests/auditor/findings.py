"""Findings, and what an auditor keeps of them, for the tests of those that show and tell them."""

from __future__ import annotations

from typing import Any

from webhook.auditor.kept import Kept
from webhook.findings import IN_CLUSTER, Finding, JudgedObject
from webhook.policy import Mode, Outcome, Reference, Verdict, Violation


def finding(
    name: str = "web",
    outcome: Outcome = "audited",
    enforced: Mode | None = "deny",
    *,
    namespace: str = "shop",
    policy: str = "memory-limits",
    subject: str = "app",
    **of_violation: Any,
) -> Finding:
    """A finding on a Deployment, without a namespace on a Namespace."""
    violation = Violation(
        **{"path": f"spec.{subject}.memory", "subject": subject, "message": "no limit", **of_violation}
    )
    verdict = Verdict(policy, "audit", outcome, violation, enforced=enforced)
    kind, version = ("Deployment", "apps/v1") if namespace else ("Namespace", "v1")
    return Finding(JudgedObject(IN_CLUSTER, version, kind, namespace, name), verdict, container=subject)


def put(kept: Kept, *findings: Finding, team: str = "red") -> None:
    """Have the audit find these on their objects, and nothing else on those."""
    by_object: dict[Reference, list[Finding]] = {}
    for one in findings:
        by_object.setdefault(one.object.reference, []).append(one)
    for reference, found in by_object.items():
        kept.put(reference, "apps" if reference.namespace else "", team, found)


def drop(kept: Kept, name: str = "web", namespace: str = "shop") -> None:
    """Have nothing found on an object any more."""
    kind, group = ("Deployment", "apps") if namespace else ("Namespace", "")
    kept.drop(Reference(kind, namespace, name), group)
