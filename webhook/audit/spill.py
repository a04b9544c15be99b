"""Findings of any number in bounded memory: beyond some megabytes they are in a temporary file."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from webhook.findings import Finding
from webhook.policy import Outcome

IN_MEMORY = 8 << 20
"""Bytes of findings that are kept in memory."""

WORST_FIRST: tuple[Outcome, ...] = ("denied", "failed", "unknown", "warned", "patched", "audited", "exempted")


class _Entry(NamedTuple):
    """Where an object's findings are, and what orders them: the rank of the worst, then kind, namespace and name."""

    team: str
    rank: int
    kind: str
    namespace: str
    name: str
    offset: int


class Findings:
    """The findings of many objects, by object."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it lives as long as we do
        weakref.finalize(self, self._file.close)
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        """How many objects have findings."""
        return len(self._entries)

    def add(self, team: str, findings: list[Finding]) -> None:
        """Keep what was found on one object; there is at least one."""
        judged = findings[0].object
        rank = min(WORST_FIRST.index(finding.verdict.outcome) for finding in findings)
        self._file.seek(0, 2)
        entry = _Entry(team, rank, judged.kind, judged.namespace, judged.name, self._file.tell())
        self._entries.append(entry)
        pickle.dump(findings, self._file, pickle.HIGHEST_PROTOCOL)

    def by_team(self, teams: Iterable[str]) -> Iterator[tuple[str, list[Finding]]]:
        """Team and findings of each object, team by team in this order, the worst objects of each first."""
        order = {team: number for number, team in enumerate(teams)}
        for entry in sorted(self._entries, key=lambda entry: (order[entry.team], entry)):
            self._file.seek(entry.offset)
            yield entry.team, pickle.load(self._file)  # noqa: S301 - we alone write the file
