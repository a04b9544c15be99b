"""One review, answered: decided within its time, with the cluster objects that must be looked up, logged and
counted."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog

from webhook import log as logs
from webhook.config import Config
from webhook.engine import undecided
from webhook.errors import NOT_OURS, TimeUp
from webhook.messages import container_of, object_name
from webhook.objects.facts import ClusterFacts, Found
from webhook.policy import AdmissionRequest, Decision, FactKind, FactReference, Stage, Verdict
from webhook.server.metrics import Metrics, is_undecided
from webhook.server.review import probe_nonce, read_review, render_probe, render_review
from webhook.server.transition import decide_in_transition

_LOOK_UP = 0.5
"""Seconds within which everything that one review needs is looked up in the cluster."""

_LOGGED = 253
"""Characters of a name that the log shows: the API allows most names to be as long as that."""
_VIOLATIONS = 20
"""Violations of a review that are logged one by one."""
_VALUE = 100
"""Characters of a value that are logged."""

_ALARM = 0.05
"""Seconds between two looks at whether a decision takes too long."""

T = TypeVar("T")

log = structlog.get_logger()


class FactsSource(Protocol):
    """Where the facts come from, in a worker."""

    @property
    def facts(self) -> ClusterFacts:
        """What is known of the cluster now; never waits."""

    def unlisted(self, kinds: Collection[FactKind[Any, Any]]) -> Mapping[str, str]:
        """The kinds, by what kubectl calls them, that were never listed, and why."""

    @property
    def can_look_up(self) -> bool:
        """Whether look_up can fetch more objects from a cluster."""

    def look_up(self, references: Collection[FactReference], timeout: float) -> Found:
        """Fetch objects from the cluster: the facts of those that exist, and the references that provably don't. Called
        in a thread."""


class Alarm:
    """Ends a synchronous call in the main thread that runs too long, by TimeUp raised inside it.

    A policy may come from another package, and nothing else stops an endless loop in it. A thread watches, rather than
    a timer set for every call, which would cost each of them two system calls.
    """

    def __init__(self) -> None:
        self._deadline = math.inf
        signal.signal(signal.SIGALRM, self._ring)
        threading.Thread(target=self._watch, name="alarm", daemon=True).start()

    def call(self, function: Callable[[], T], deadline: float) -> T:
        """Call the function; raises TimeUp when it still runs at `deadline` (time.monotonic)."""
        self._deadline = deadline
        try:
            return function()
        finally:
            self._deadline = math.inf

    def _watch(self) -> None:
        while True:
            time.sleep(_ALARM)
            # TimeUp is raised again and again: a policy may catch every exception.
            if time.monotonic() > self._deadline:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        # The call may have ended since the deadline was compared.
        if time.monotonic() > self._deadline:
            raise TimeUp("the API server's timeout passed")


class _Underway(NamedTuple):
    """A review on its way to an answer; times are time.monotonic's."""

    request: AdmissionRequest
    stage: Stage
    config: Config
    arrived: float
    began: float
    deadline: float


class Judge:
    """Answers one review: decides within its time, looks up what the decision could not see, logs and counts."""

    def __init__(
        self,
        config: Callable[[], Config],
        source: FactsSource,
        metrics: Metrics,
        earlier: Callable[[], Sequence[Config]] = tuple,
    ) -> None:
        """`earlier` are the configurations that other servers may still judge by."""
        self._config = config
        self._earlier = earlier
        self._source = source
        self._metrics = metrics
        self._alarm = Alarm()
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="look-up")
        self._logs_reviews = log.bind().is_enabled_for(logging.INFO)

    def read(self, body: bytes | bytearray, deadline: float, unreadable: str = "") -> AdmissionRequest:
        """The review in a request's body, of which only the beginning is there if it is `unreadable`.

        Raises BadReview if it is none.
        """
        fields = self._config().object_fields
        for config in self._earlier():
            fields += config.object_fields
        try:
            return self._alarm.call(partial(read_review, body, fields, unreadable), deadline)
        except TimeUp as error:
            return read_review(body, unreadable=str(error))

    def answer(
        self, request: AdmissionRequest, stage: Stage, arrived: float, deadline: float
    ) -> bytes | Awaitable[bytes]:
        """The answer to a review that began to arrive at `arrived`: at once, unless something has to be looked up."""
        if nonce := probe_nonce(request):
            return render_probe(request, nonce, stage, self._metrics.undecided(stage, time.time()))
        case = _Underway(request, stage, self._config(), arrived, time.monotonic(), deadline)
        decision = self._decide(case, self._source.facts)
        if decision.unseen and self._source.can_look_up:
            return self._answer_later(case, decision)
        return self._render(case, decision)

    async def _answer_later(self, case: _Underway, decision: Decision) -> bytes:
        return self._render(case, await self._look_closer(case, decision))

    def _render(self, case: _Underway, decision: Decision) -> bytes:
        deciding = time.monotonic() - case.began
        try:
            answer = render_review(case.request, decision, case.stage, case.config)
        except Exception as error:
            decision = undecided(case.request, case.config, case.stage, error)
            answer = render_review(case.request, decision, case.stage, case.config)
        self._record(case, decision, deciding)
        return answer

    def _decide(self, case: _Underway, facts: ClusterFacts) -> Decision:
        call = partial(
            decide_in_transition,
            case.request,
            facts,
            case.config,
            earlier=self._earlier(),
            today=_today(),
            stage=case.stage,
            deadline=case.deadline,
        )
        try:
            return self._alarm.call(call, case.deadline)
        except Exception as error:
            return undecided(case.request, case.config, case.stage, error)

    async def _look_closer(self, case: _Underway, decision: Decision) -> Decision:
        """Fetch the objects that the decision lacked and decide again; what can't be fetched leaves the verdict as it
        was."""
        facts = self._source.facts
        end = min(time.monotonic() + _LOOK_UP, case.deadline)
        asked: set[FactReference] = set()
        # A claim names its volume or class: an object that was fetched may name the next one to fetch.
        while wanted := decision.unseen - asked:
            left = end - time.monotonic()
            if left <= 0:
                break
            asked |= wanted
            try:
                found = await asyncio.wait_for(self._in_thread(wanted, left), left)
                facts = facts.with_facts(found.facts, absent=found.absent)
            except Exception as error:  # the first decision stands, made without what could not be looked up
                log.warning("look-up failed", uid=case.request.uid, error=str(error)[:500] or "time is up")
                break
            decision = self._decide(case, facts)
        return decision

    def _in_thread(self, wanted: Collection[FactReference], seconds: float) -> Awaitable[Found]:
        look_up = partial(self._source.look_up, sorted(wanted, key=str), seconds)
        return asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    def _record(self, case: _Underway, decision: Decision, deciding: float) -> None:
        request, stage, whole = case.request, case.stage, time.monotonic() - case.arrived
        exempted = {verdict.policy for verdict in decision.verdicts if verdict.outcome == "exempted"}
        violated = {verdict.policy for verdict in decision.verdicts if verdict.outcome != "exempted"}
        patched = {verdict.policy for verdict in decision.verdicts if verdict.outcome == "patched"}
        if self._logs_reviews:
            logs.write_review(
                logs.ReviewLine(
                    datetime.now(UTC),
                    "info",
                    "review",
                    stage,
                    request.uid,
                    request.operation,
                    request.kind,
                    request.subresource,
                    request.namespace,
                    object_name(request)[:_LOGGED],
                    request.user[:_LOGGED],
                    request.dry_run,
                    decision.allowed,
                    sorted(violated),
                    sorted(patched),
                    sorted(exempted),
                    [_violation(request, verdict) for verdict in decision.verdicts[:_VIOLATIONS]],
                    round(whole * 1000, 3),
                )
            )
        if is_undecided(request, decision):
            log.warning(
                "review undecided",
                stage=stage,
                uid=request.uid,
                operation=request.operation,
                kind=request.kind,
                namespace=request.namespace,
                name=object_name(request)[:_LOGGED],
                user=request.user[:_LOGGED],
                allowed=decision.allowed,
                reason=request.unreadable[:500],
            )
        for policy, error in decision.failures.items():
            if isinstance(error, NOT_OURS):
                log.warning("policy could not decide", policy=policy, uid=request.uid, error=str(error)[:500])
            else:
                log.error("policy failed", policy=policy, uid=request.uid, exception=logs.describe(error))
            # The traceback's frames hold the request and form a cycle, which only the collector would free, and it runs
            # rarely.
            traceback.clear_frames(error.__traceback__)
        self._metrics.count_review(request, decision, stage, deciding, whole)


def _today() -> date:
    return datetime.now(UTC).date()


def _violation(request: AdmissionRequest, verdict: Verdict) -> logs.ViolationLine:
    violation = verdict.violation
    container = container_of(request, violation)
    value = violation.value[:_VALUE] if isinstance(violation.value, str) else violation.value
    name = container.name if container else ""
    return logs.ViolationLine(verdict.policy, verdict.outcome, violation.path[:_LOGGED], name[:_LOGGED], value)
