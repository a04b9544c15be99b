"""When each finding was seen first, remembered beyond a restart, and which findings are new or mended."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

import structlog

from webhook.auditor.in_turn import InTurn
from webhook.auditor.kept import Kept
from webhook.cluster.client import Cluster
from webhook.cluster.record import Record, Recorded
from webhook.findings import Finding
from webhook.installation import SEEN
from webhook.policy import Reference

_MOST = 40_000
"""Findings that are remembered beyond a restart, the oldest; each takes 16 of the bytes that a ConfigMap has."""
_DIGEST, _TIME = 8, 4
"""Bytes of a finding's digest, and of the time when it was seen first, as the record holds them."""
_INDEX = re.compile(r"\[\d+\]")
_WRITE_EVERY = timedelta(minutes=1)
_MOST_NEWS = 300
"""New findings that are kept until somebody has told of them."""

log = structlog.get_logger()


def digest_of(finding: Finding) -> bytes:
    """What a finding is known by as long as it lasts: its object, policy, field and container, not its words. It stays
    the same where containers change places."""
    judged, violation = finding.object, finding.verdict.violation
    group, _, _ = judged.api_version.rpartition("/")
    parts = (group, judged.kind, judged.namespace, judged.name, finding.verdict.policy, violation.subject)
    text = "\0".join((*parts, _INDEX.sub("[]", violation.path)))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST).digest()


@dataclass
class News:
    """What has changed since somebody was last told; nothing of what the first audit of an installation has met, or of
    a leader whose record was lost.

    findings  new ones, of each namespace in turn, and the last of them where there are many
    added     policy -> how many are new
    mended    how many are no longer found
    """

    findings: InTurn[Finding] = field(default_factory=lambda: InTurn(_MOST_NEWS))
    added: Counter[str] = field(default_factory=Counter)
    mended: int = 0

    def take(self) -> News:
        """The news, which are then no longer news."""
        taken = News(self.findings, self.added, self.mended)
        self.findings, self.added, self.mended = InTurn(_MOST_NEWS), Counter(), 0
        return taken

    def add(self, finding: Finding) -> None:
        if finding.needs_action:
            self.findings.add(finding.object.namespace, finding)
            self.added[finding.verdict.policy] += 1

    def __bool__(self) -> bool:
        return bool(self.added or self.mended)


class Seen:
    """Knows when each finding was seen first. Its `take` has to run before that of whoever asks it.

    since_record  what is new or mended compared with the record, whoever has led meanwhile
    since_start   the same, without what changed before this leader's first audit had ended
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._record: Record[bytes] = Record(cluster, namespace, SEEN, "findings", bytes)
        self._recorded: Recorded[bytes] | None = None
        self._stored: dict[bytes, int] | None = None
        """What was remembered, until the first findings are taken."""
        self._is_first = False
        self._times: dict[str, dict[bytes, int]] = {}
        """Namespace -> digest -> seconds since 1970."""
        self._is_dirty = False
        self._write_at: datetime | None = None
        self.since_record, self.since_start = News(), News()

    @property
    def is_read(self) -> bool:
        """Whether it is known when findings were first seen."""
        return self._recorded is not None and self._stored is None

    def since(self, finding: Finding, namespace: str, now: datetime) -> int:
        """When the finding was seen first, in seconds since 1970."""
        return self._times.get(namespace, {}).get(digest_of(finding), int(now.timestamp()))

    def take(self, kept: Kept, now: datetime) -> None:
        """Take in the findings of the namespaces that have changed. Raises ClusterRefused or FactsUnavailable, before
        anything is taken in, if the record can't be read."""
        if self._recorded is None:
            self._read()
        stored, self._stored = self._stored, None
        changed = {*kept.by_namespace, *kept.changed} if stored is not None else kept.changed
        for namespace in changed:
            self._take(kept.by_namespace.get(namespace, {}), namespace, stored, now)
        if stored is not None:
            self._is_dirty |= self._is_first
            found = {digest for times in self._times.values() for digest in times}
            self._mended(() if self._is_first else (self.since_record,), len(stored.keys() - found))
        self._is_first = False
        if self._is_dirty and (self._write_at is None or now >= self._write_at):
            self._write_at = now + _WRITE_EVERY
            self._write()

    def _take(
        self,
        findings: Mapping[Reference, Iterable[Finding]],
        namespace: str,
        stored: Mapping[bytes, int] | None,
        now: datetime,
    ) -> None:
        known = self._times.get(namespace, {}) if stored is None else stored
        news = () if self._is_first else (self.since_record, *(() if stored is not None else (self.since_start,)))
        times: dict[bytes, int] = {}
        for finding in chain.from_iterable(findings.values()):
            digest = digest_of(finding)
            if digest not in known and digest not in times:
                for told in news:
                    told.add(finding)
            times[digest] = known.get(digest, int(now.timestamp()))
        if stored is None:
            self._mended(news, len(known.keys() - times.keys()))
        if times != known:
            self._is_dirty = True
        self._times[namespace] = times
        if not times:
            del self._times[namespace]

    def _mended(self, news: Iterable[News], count: int) -> None:
        self._is_dirty |= bool(count)
        for told in news:
            told.mended += count

    def _read(self) -> None:
        self._recorded = self._record.read()
        stored = dict(_entries(self._recorded.value))
        # Of a record that was full, or is lost, what is missing says nothing.
        self._is_first = self._recorded.object is None or bool(self._recorded.lost) or len(stored) >= _MOST
        if self._recorded.lost:
            log.warning("when findings were first seen is forgotten: they count from now", error=self._recorded.lost)
        self._stored = stored

    def _write(self) -> None:
        assert self._recorded  # noqa: S101 - for types
        entries = sorted((time, digest) for times in self._times.values() for digest, time in times.items())[:_MOST]
        value = b"".join(digest + time.to_bytes(_TIME, "big") for time, digest in sorted(entries, key=lambda of: of[1]))
        self._recorded = self._record.overwrite(self._recorded, value)
        self._is_dirty = False


def _entries(value: bytes) -> Iterator[tuple[bytes, int]]:
    size = _DIGEST + _TIME
    for begin in range(0, len(value) - len(value) % size, size):
        yield value[begin : begin + _DIGEST], int.from_bytes(value[begin + _DIGEST : begin + size], "big")
