"""How bad a finding is: what a report calls it, and which findings come first where there isn't room for all."""

from __future__ import annotations

from typing import Literal

from webhook.findings import Enforcement, Finding
from webhook.policy import Outcome

Result = Literal["pass", "fail", "warn", "error", "skip"]
RESULTS: tuple[Result, ...] = ("pass", "fail", "warn", "error", "skip")
SEVERITIES: dict[Enforcement, str] = {"deny": "high", "patch": "medium", "nothing": "low"}
"""What enforcement does about the finding -> how severe it is; the worst first."""
_RANK = {"fail": 0, "error": 1, "warn": 2, "skip": 3}


def result_of(outcome: Outcome, enforcement: Enforcement) -> Result:
    """What becomes of the finding where its policy is enforced."""
    match outcome:
        case "exempted":
            return "skip"
        case "unknown" | "failed":
            return "error"
    return "warn" if enforcement == "nothing" else "fail"


def severity(finding: Finding) -> tuple[int, int]:
    """By which findings are sorted, the worst first."""
    result = result_of(finding.verdict.outcome, finding.enforcement)
    return _RANK[result], list(SEVERITIES).index(finding.enforcement)
