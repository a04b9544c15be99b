"""Whether a Prometheus takes a monitor, and what a Prometheus selects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from policies.scrape_endpoints import prometheuses
from policies.scrape_endpoints.monitors import MONITORS, Monitor
from policies.scrape_endpoints.prometheuses import (
    Prometheus,
    all_prometheuses,
    namespace_field,
    selector_field,
    takes,
    takes_namespace,
)
from policies.scrape_endpoints.telling import violation
from webhook.objects.facts import ClusterFacts
from webhook.objects.label_selectors import Selector
from webhook.policy import Mode, Set, Violation, join_path

_RELEASE = "release"
_ELSEWHERE, _NOTHING = 100, 1000


class _Reason(NamedTuple):
    """Why a Prometheus doesn't take a monitor.

    distance  how far it is from taking it: the labels that the monitor lacks; a namespace in which it doesn't look is
              further than any of these, and a Prometheus that selects nothing furthest
    """

    distance: int
    path: str
    wrong: str
    remedy: str
    advice: tuple[Set, ...] = ()
    hint: str | None = None


def examine_taking(monitor: Monitor, facts: ClusterFacts) -> Iterator[Violation]:
    """A monitor that no Prometheus takes, and why the one that is nearest to it doesn't."""
    is_known = prometheuses.are_known(facts)
    reasons = [_reason(prometheus, monitor, facts) for prometheus in all_prometheuses(facts)]
    # Other programs than the operator's Prometheus read monitors, too: Alloy, the OpenTelemetry Collector.
    at_most: Mode = "warn" if reasons else "audit"
    if not reasons and not is_known:
        return
    if not reasons:
        reasons = [
            _Reason(0, "metadata.labels", "there is no Prometheus or PrometheusAgent", "see that something reads it")
        ]
    nearest = min(reasons, key=lambda reason: reason.distance)
    unsure = "" if is_known else " that is seen here"
    yield violation(
        nearest.path,
        monitor.name,
        f"no Prometheus{unsure} takes this {monitor.kind}: {nearest.wrong}",
        nearest.remedy,
        at_most=at_most,
        advice=nearest.advice,
        hint=nearest.hint,
        is_unknown=not is_known,
    )


def _reason(prometheus: Prometheus, monitor: Monitor, facts: ClusterFacts) -> _Reason:
    kind, labels = monitor.kind, prometheus.selections[monitor.kind].labels
    field = selector_field(kind)
    if labels is None:
        wrong = f"{prometheus} has no {field}, and without one it takes none"
        return _Reason(_NOTHING, "metadata.labels", wrong, f"give it one; {{}} takes all {kind}s")
    if not takes_namespace(prometheus, kind, monitor.namespace, facts):
        only = prometheus.selections[kind].namespaces
        where = f"namespaces with {only}" if only is not None else "its own namespace"
        wrong = f"{prometheus} looks for {kind}s only in {where}"
        remedy = f"move it there, or let {namespace_field(kind)} select namespace {monitor.namespace!r}"
        return _Reason(_ELSEWHERE + len(list(labels.lacking(monitor.labels))), "metadata.namespace", wrong, remedy)
    lacking = list(labels.lacking(monitor.labels))
    wrong = f"{prometheus} selects by labels, of which this {kind} lacks {', '.join(lacking)}"
    missing = [(key, value) for key, value in labels.labels.items() if monitor.labels.get(key) != value]
    advice = tuple(Set(join_path("metadata.labels", key), value) for key, value in missing)
    is_advised = len(advice) == len(lacking)
    remedy = f"give the {kind} {'that label' if len(lacking) == 1 else 'those labels'}"
    return _Reason(len(lacking), "metadata.labels", wrong, remedy, advice if is_advised else (), _hint(labels, kind))


def _hint(selector: Selector, kind: str) -> str | None:
    """The value with which kube-prometheus-stack takes every monitor, where its usual selector is what keeps it."""
    if selector.labels.keys != (_RELEASE,):
        return None
    value = f"prometheus.prometheusSpec.{selector_field(kind).removeprefix('spec.')}NilUsesHelmValues: false"
    return f"{value} (of kube-prometheus-stack, which then takes every one)"


def examine_selections(prometheus: Prometheus, facts: ClusterFacts) -> Iterator[Violation]:
    """Selectors of a Prometheus that match none of the monitors that there are."""
    for kind, selection in prometheus.selections.items():
        known = facts.of(MONITORS[kind])
        if selection.labels is None or selection.labels.is_everything or not known:
            continue
        if any(takes(prometheus, monitor, facts) for monitor in known.values()):
            continue
        is_known = facts.knows_all(MONITORS[kind])
        others = "in the cluster" if is_known else "that are seen here"
        yield violation(
            selector_field(kind),
            kind,
            f"{prometheus} takes none of the {kind}s {others} ({len(known)}), since it selects {selection.labels}",
            f"select by labels that they have; {{}} takes all {kind}s",
            value=str(selection.labels),
            is_unknown=not is_known,
        )
