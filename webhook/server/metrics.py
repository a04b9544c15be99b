"""Prometheus metrics, correct over several worker processes.

A worker counts in plain dictionaries, which costs a tenth of what prometheus-client's shared files do, and writes them
down every second; the process that answers scrapers adds the workers up when it is asked, and prometheus-client prints
the sums.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from webhook import __version__
from webhook.config import Config
from webhook.objects.facts import ClusterFacts
from webhook.policy import OPERATIONS, AdmissionRequest, Decision, FactKind, Mode, Stage
from webhook.scope import modes_of

log = structlog.get_logger()

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from a tenth of a millisecond, which is an ordinary decision, to the API server's default timeout."""

_COUNTERS: dict[str, tuple[str, list[str]]] = {
    "forestall_reviews": (
        "Admission reviews that were answered, dry runs aside, by the strongest thing that was done to the object.",
        ["stage", "operation", "kind", "outcome"],
    ),
    "forestall_violations": (
        "Violations of a policy in reviewed objects, dry runs aside, by the mode that applied and what became of them.",
        ["policy", "mode", "outcome", "namespace"],
    ),
    "forestall_dry_run_reviews": (
        "Admission reviews of dry runs that were answered, by the strongest thing that was done to the object.",
        ["stage", "outcome"],
    ),
    "forestall_policy_errors": (
        "Reviews in which a policy could not decide, so that its onError did: a bug in it, or facts that are missing.",
        ["policy"],
    ),
    "forestall_undecided_reviews": (
        "Reviews of an object that could not be read, so that the onError of every policy decided.",
        ["stage"],
    ),
    "forestall_refused_requests": ("Requests that were answered by an HTTP error, as they were no reviews.", ["code"]),
    "forestall_dropped_log_lines": ("Log lines that were dropped, as nobody read the server's output.", []),
    "forestall_unwritten_metrics": (
        "Times that a worker could not write its metrics to memory, so that they were reported later.",
        [],
    ),
}
_OUTCOMES: dict[Stage, tuple[str, ...]] = {
    "mutate": ("allowed", "patched", "warned"),
    "validate": ("allowed", "denied", "warned"),
}
_NAMESPACES = 200
"""Namespaces with a label of their own in each worker's count of violations, the first that it meets: more labels would
be a burden to Prometheus."""

OTHER_NAMESPACES = "(other)"
"""The label that stands for all further namespaces; no namespace can have this name."""

Expected = tuple[str, Mode, str]
"""Policy, mode and outcome of violations that the configuration may lead to."""

_HISTOGRAMS = {
    "forestall_decision_seconds": "Seconds that deciding on a review took, without receiving and sending it.",
    "forestall_request_seconds": "Seconds from the first byte of a review's request to its answer.",
}
GAUGES = {
    "forestall_facts_synced": "1 once every worker has listed every kind of object that policies need, else 0.",
    "forestall_facts_timestamp_seconds": "Unix time as of which the cluster's facts are known; 0 while they are not.",
    "forestall_certificate_expiry_timestamp_seconds": "Unix time at which the serving certificate in use expires.",
    "forestall_certificate_last_reload_successful": (
        "1 while the certificate in the files is the one in use; 0 after the files' content was refused."
    ),
    "forestall_config_last_reload_successful": (
        "1 while the configuration in the file is the one in use; 0 after the file's content was refused."
    ),
    "forestall_config_last_reload_success_timestamp_seconds": ("Unix time at which the configuration in use was read."),
}


_FACTS = {
    "forestall_facts_known": (
        "Whether the kind's objects are known: 0 where policies that are on need them and they can't be read.",
        min,
    ),
    "forestall_unreadable_objects": ("Objects of the kind that are passed over because they can't be read.", max),
}
"""Gauges by kind of fact: their help, and the function that picks the worst of the workers' values."""


class _Histogram(msgspec.Struct):
    counts: list[int]
    """How many values fell into every bucket; the last bucket has no upper bound."""
    sum: float = 0.0

    def add(self, other: _Histogram) -> None:
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


def _new_histogram() -> _Histogram:
    return _Histogram([0] * (len(BUCKETS) + 1))


class Spell(NamedTuple):
    """The times of the first and the last of several reviews that passed undecided, in seconds since 1970."""

    began: float
    ended: float


_APART = 60.0
"""Seconds without an undecided review that end a spell."""

_TOLD = 600.0
"""Seconds for which a spell is reported to the controller, whose probes ask every ten seconds."""


FactCounts = dict[str, dict[str, int]]
"""Name of a metric -> kind of fact -> value."""


def count_facts(facts: ClusterFacts, needed: Iterable[FactKind[Any, Any]]) -> FactCounts:
    """The values of the gauges by kind, for the kinds that policies need and for others that the facts hold."""
    unreadable = Counter(str(reference.kind) for reference in facts.unreadable)
    known = {str(kind): int(kind in facts.known) for kind in {*needed, *facts.known}}
    return {
        "forestall_facts_known": known,
        "forestall_unreadable_objects": {kind: unreadable[kind] for kind in known},
    }


class _Page(msgspec.Struct):
    """A worker's counts (metric -> label values -> count), and the gauges that it last set."""

    counters: dict[str, dict[tuple[str, ...], int]]
    histograms: dict[str, dict[str, _Histogram]]
    gauges: dict[str, float]
    undecided: dict[str, Spell]
    facts: FactCounts
    waits: list[str]


class _WrittenPage(msgspec.Struct):
    """A page as it is written to its file: JSON has no tuples as keys."""

    counters: list[tuple[str, tuple[str, ...], int]]
    histograms: list[tuple[str, str, _Histogram]]
    gauges: dict[str, float]
    undecided: dict[str, Spell]
    facts: FactCounts
    waits: list[str]


class Metrics:
    """What one worker counts, kept in a file so that it outlives the process and others can read it."""

    def __init__(self, directory: Path, slot: int, kinds: Collection[str], policies: Collection[str]) -> None:
        """`kinds` have a label of their own; all other kinds share one, since there must never be many labels."""
        self._file = directory / str(slot)
        self._kinds = kinds
        self.gauges: dict[str, float] = {}
        self.facts: FactCounts = {}
        self.waits: list[str] = []
        """Why this worker isn't ready; empty if it is."""
        self._failed_writes = 0
        """Writes that have failed since the last one that succeeded."""
        # A worker takes over the counts of the one that died in its slot, so that no counter falls.
        page = _read(self._file) or _Page({}, {}, {}, {}, {}, [])
        self._counters = {name: defaultdict(int, page.counters.get(name, {})) for name in _COUNTERS}
        self._histograms = {name: defaultdict(_new_histogram, page.histograms.get(name, {})) for name in _HISTOGRAMS}
        self._reviews = self._counters["forestall_reviews"]
        self._violations = self._counters["forestall_violations"]
        self._errors = self._counters["forestall_policy_errors"]
        self._dry_runs = self._counters["forestall_dry_run_reviews"]
        self._undecided = self._counters["forestall_undecided_reviews"]
        self._spells = page.undecided
        self._decisions = self._histograms["forestall_decision_seconds"]
        self._requests = self._histograms["forestall_request_seconds"]
        self._namespaces = {namespace for *_, namespace in self._violations} | {""}
        self._expected: Collection[Expected] = ()
        # Prometheus sees no increase in a series that begins at 1: each begins at 0.
        for stage, outcomes in _OUTCOMES.items():
            for outcome in outcomes:
                self._dry_runs[stage, outcome] += 0
                for kind in (*kinds, "other"):
                    for operation in OPERATIONS:
                        self._reviews[stage, operation, kind, outcome] += 0
        for policy in policies:
            self._errors[(policy,)] += 0
        for name in ("forestall_dropped_log_lines", "forestall_unwritten_metrics"):
            self._counters[name][()] += 0
        for stage in _OUTCOMES:
            self._undecided[(stage,)] += 0

    def expect(self, expected: Collection[Expected]) -> None:
        """Begin the counters of these violations at 0, in each namespace that was or will be met."""
        if expected != self._expected:
            self._expected = expected
            for namespace in self._namespaces:
                self._begin(namespace)

    def _begin(self, namespace: str) -> None:
        for policy, mode, outcome in self._expected:
            self._violations[policy, mode, outcome, namespace] += 0

    def _label(self, namespace: str) -> str:
        if namespace in self._namespaces:
            return namespace
        label = namespace if len(self._namespaces) <= _NAMESPACES else OTHER_NAMESPACES
        if label not in self._namespaces:
            self._namespaces.add(label)
            self._begin(label)
        return label

    def count_review(
        self, request: AdmissionRequest, decision: Decision, stage: str, deciding: float, whole: float
    ) -> None:
        """Count one answered review and the seconds that it took."""
        if request.dry_run:
            self._dry_runs[stage, outcome_of(decision)] += 1
        else:
            kind = request.kind if request.kind in self._kinds else "other"
            self._reviews[stage, request.operation, kind, outcome_of(decision)] += 1
            namespace = self._label(request.namespace)
            for verdict in decision.verdicts:
                self._violations[verdict.policy, verdict.mode, verdict.outcome, namespace] += 1
        if is_undecided(request, decision):
            self._undecided[(stage,)] += 1
            if decision.allowed:
                self._passed(stage, time.time())
        for policy in decision.failures:
            self._errors[(policy,)] += 1
        for histogram, seconds in ((self._decisions[stage], deciding), (self._requests[stage], whole)):
            histogram.counts[bisect_left(BUCKETS, seconds)] += 1
            histogram.sum += seconds

    def _passed(self, stage: str, now: float) -> None:
        before = self._spells.get(stage)
        goes_on = before is not None and 0 <= now - before.ended < _APART
        self._spells[stage] = Spell(before.began if before and goes_on else now, now)

    def undecided(self, stage: str, now: float) -> list[Spell]:
        """The recent times at which reviews passed this stage undecided, in this worker or another one of the
        replica."""
        files = (file for file in self._file.parent.iterdir() if file.name.isdecimal() and file != self._file)
        pages = [page.undecided for file in files if (page := _read(file))]
        found = [page[stage] for page in (self._spells, *pages) if stage in page]
        return [spell for spell in found if now - spell.ended < _TOLD]

    def count_refusal(self, status: int) -> None:
        self._counters["forestall_refused_requests"][(str(status),)] += 1

    def count_dropped_lines(self, count: int) -> None:
        self._counters["forestall_dropped_log_lines"][()] += count

    def write(self) -> None:
        """Write the page to its file; a reader sees the whole of it, or the whole of the one before."""
        lines = _WrittenPage(
            [(name, labels, n) for name, counter in self._counters.items() for labels, n in counter.items()],
            [(name, stage, spread) for name, spreads in self._histograms.items() for stage, spread in spreads.items()],
            self.gauges,
            self._spells,
            self.facts,
            self.waits,
        )
        new = self._file.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(lines))
            new.replace(self._file)
        except OSError as error:  # as where descriptors or memory have run out: reviews are answered without it
            if not self._failed_writes:
                log.warning("metrics are not written", error=str(error))
            self._failed_writes += 1
            self._counters["forestall_unwritten_metrics"][()] += 1
        else:
            if self._failed_writes:
                log.info("metrics are written again", failures=self._failed_writes)
            self._failed_writes = 0


def _read(file: Path) -> _Page | None:
    try:
        lines = msgspec.json.decode(file.read_bytes(), type=_WrittenPage)
    except FileNotFoundError:
        return None
    page = _Page({}, {}, lines.gauges, lines.undecided, lines.facts, lines.waits)
    for name, labels, count in lines.counters:
        page.counters.setdefault(name, {})[labels] = count
    for name, stage, histogram in lines.histograms:
        page.histograms.setdefault(name, {})[stage] = histogram
    return page


class _Sums(Collector):
    """The sums over all workers; of a gauge the least value, since the worker that lags behind is the one to know
    of."""

    def __init__(self, directory: Path, workers: int) -> None:
        self._files = [directory / str(slot) for slot in range(workers)]

    def collect(self) -> Iterator[Metric]:
        pages = [page for file in self._files if (page := _read(file))]
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            totals: defaultdict[tuple[str, ...], int] = defaultdict(int)
            for page in pages:
                for values, count in page.counters.get(name, {}).items():
                    totals[values] += count
            for values, count in sorted(totals.items()):
                counter.add_metric(values, count)
            yield counter
        for name, text in _HISTOGRAMS.items():
            yield _sum_histograms(name, text, pages)
        for name, text in GAUGES.items():
            if said := [page.gauges[name] for page in pages if name in page.gauges]:
                yield GaugeMetricFamily(name, text, min(said))
        for name, (text, worst) in _FACTS.items():
            yield _worst_by_kind(name, text, worst, pages)
        build = GaugeMetricFamily("forestall_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build


def _worst_by_kind(
    name: str, text: str, worst: Callable[[Iterable[int]], int], pages: list[_Page]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["kind"])
    said: defaultdict[str, list[int]] = defaultdict(list)
    for page in pages:
        for kind, value in page.facts.get(name, {}).items():
            said[kind].append(value)
    for kind, values in sorted(said.items()):
        family.add_metric([kind], worst(values))
    return family


def _sum_histograms(name: str, text: str, pages: list[_Page]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["stage"])
    totals: defaultdict[str, _Histogram] = defaultdict(_new_histogram)
    for page in pages:
        for stage, histogram in page.histograms.get(name, {}).items():
            totals[stage].add(histogram)
    for stage, total in sorted(totals.items()):
        bounds = [*map(str, BUCKETS), "+Inf"]
        reached = [sum(total.counts[: place + 1]) for place in range(len(bounds))]
        family.add_metric([stage], list(zip(bounds, reached, strict=True)), total.sum)
    return family


def read_waits(directory: Path, slot: int) -> list[str]:
    """Why a worker said that it isn't ready."""
    page = _read(directory / str(slot))
    return page.waits if page else []


def print_metrics(directory: Path, workers: int) -> bytes:
    """All workers' metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Sums(directory, workers))
    return generate_latest(registry)


def expected_violations(config: Config) -> set[Expected]:
    """The policy, mode and outcome of violations that the configuration may lead to, without exemptions and
    failures."""
    return {
        (active.policy.id, mode, _BECOMES[mode])
        for active in config.policies.values()
        for strongest in modes_of(active, config)
        for mode in _TAKEN[strongest]
        if mode != "deny" or config.mode == "deny"
    }


_BECOMES: dict[Mode, str] = {"audit": "audited", "warn": "warned", "patch": "patched", "deny": "denied"}

_TAKEN: dict[Mode, tuple[Mode, ...]] = {
    "off": (),
    "audit": ("audit",),
    "warn": ("warn",),
    "patch": ("patch", "warn", "deny"),
    "deny": ("warn", "deny"),
}
"""Policy's mode -> the modes that its violations may take: one that the object had before only warns, and not every one
has a fix."""


def is_undecided(request: AdmissionRequest, decision: Decision) -> bool:
    """Whether policies would have judged the object if it could be read."""
    return bool(request.unreadable and decision.failures)


def outcome_of(decision: Decision) -> str:
    """The decision's label in metrics and log: its strongest outcome."""
    if not decision.allowed:
        return "denied"
    if decision.patch:
        return "patched"
    if any(verdict.is_printed for verdict in decision.verdicts):
        return "warned"
    return "allowed"
