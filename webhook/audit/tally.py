"""The counts of an audit: objects and findings, by policy, by team, by exemption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from webhook.findings import Finding, JudgedObject
from webhook.objects.owners import metadata_of
from webhook.policy import AdmissionRequest, Outcome


@dataclass(slots=True)
class Tally:
    """Counts of objects that were judged, and of what was found on them.

    `refused` and `refused_others` are workloads and other objects that could not be created again.
    """

    workloads: int = 0
    containers: int = 0
    others: int = 0
    refused: int = 0
    refused_others: int = 0
    by_policy: dict[str, Counter[Outcome]] = field(default_factory=dict)
    by_team: dict[str, Counter[Outcome]] = field(default_factory=dict)
    exempted: Counter[int] = field(default_factory=Counter)
    """Index of an exemption -> the violations that it covers."""
    needed: Counter[int] = field(default_factory=Counter)
    """Index of an exemption -> the violations that it covers and that would be denied without it."""
    urgent: int = 0
    """Findings that need action, whatever becomes of them."""
    added: dict[str, Decimal] = field(default_factory=dict)
    """Resource -> what the requests that would be patched in reserve, of all pods together."""

    def add(self, requests: Mapping[str, Decimal]) -> None:
        for resource, amount in requests.items():
            self.added[resource] = self.added.get(resource, Decimal(0)) + amount

    def count(self, judged: JudgedObject, team: str, findings: list[Finding], *, is_refused: bool) -> None:
        """`is_refused`: it could not be created again."""
        if judged.is_workload:
            self.workloads += 1
            self.containers += judged.containers
            self.refused += is_refused
        else:
            self.others += 1
            self.refused_others += is_refused
        for finding in findings:
            verdict = finding.verdict
            self.by_policy.setdefault(verdict.policy, Counter())[verdict.outcome] += 1
            self.by_team.setdefault(team, Counter())[verdict.outcome] += 1
            self.urgent += finding.needs_action
            if verdict.exemption is not None:
                self.exempted[verdict.exemption] += 1
                self.needed[verdict.exemption] += verdict.mode == "deny"

    def outcomes(self) -> Counter[Outcome]:
        return sum(self.by_policy.values(), Counter())

    def policies(self) -> dict[str, Counter[Outcome]]:
        """Policy id -> its findings, in the order of the ids."""
        return dict(sorted(self.by_policy.items()))

    def teams(self) -> dict[str, Counter[Outcome]]:
        """Team -> its findings, the one with most that would be denied first."""
        return dict(sorted(self.by_team.items(), key=lambda item: (-item[1]["denied"], -item[1].total(), item[0])))


def team_of(request: AdmissionRequest, label: str, namespaces: Mapping[str, Mapping[str, str]]) -> str:
    """The team that a stored object belongs to: the label's value on it or on its namespace, else its namespace."""
    labels = metadata_of(request.object).get("labels") or {}
    team = label and (labels.get(label) or namespaces.get(request.namespace, {}).get(label))
    return str(team or f"namespace {request.namespace}")
