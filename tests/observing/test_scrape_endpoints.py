"""Observations of scrape-endpoints in a running cluster."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from policies.scrape_endpoints.policy import POLICY, Params
from tests.builders import config, facts_of
from tests.observing.living import LIVE_KINDS, ago, live, scaled, told
from tests.test_scrape_endpoints import annotated, monitor, port, service
from webhook.observing.run import Observer, observe
from webhook.policy import Object, Observation

ANNOTATED = service(scrape="true", port="9102")
WEB = annotated()


def endpoints(*ready: bool | None, changed: str = ago(minutes=11), name: str = "web-x") -> Object:
    """An EndpointSlice of Service web; None is an endpoint whose readiness isn't known."""
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": changed}
    labels = {"kubernetes.io/service-name": "web"}
    metadata = {"name": name, "namespace": "shop", "labels": labels, "annotations": annotations}
    metadata["creationTimestamp"] = ago(days=9)
    found = [{"conditions": {} if is_ready is None else {"ready": is_ready}} for is_ready in ready]
    return {"kind": "EndpointSlice", "metadata": metadata, "endpoints": found or None}


def observed(known: Iterable[Object], *living: Object, unseen: Iterable[str] = ()) -> list[Observation]:
    assert POLICY.observe is not None
    run = POLICY.observe
    observer = Observer(POLICY.id, POLICY.lives, lambda seen, facts: run(seen, facts, Params()))
    result = observe([observer], live(*living, unseen=unseen), facts_of(known), config())
    assert (result.bugs, result.unknown) == ({}, {})
    return [found.observation for found in result.observed]


NONE_READY = (
    "Service 'web' has no ready endpoint, so that nothing of it is scraped (its annotations ask for it): "
    "none of its 2 pods is ready"
)
NO_PODS = NONE_READY.replace("none of its 2 pods is ready", "no pod has its labels (app=web)")
UP = scaled("Deployment", desired=2, there=2)


@pytest.mark.parametrize(
    ("known", "living", "text"),
    [
        pytest.param([ANNOTATED, WEB], [UP, endpoints(True, False)], "", id="one-is-ready"),
        pytest.param([ANNOTATED, WEB], [UP, endpoints(None)], "", id="not-known-is-ready"),
        pytest.param(
            [ANNOTATED, WEB], [UP, endpoints(False), endpoints(True, name="web-y")], "", id="one-of-another-slice"
        ),
        pytest.param(
            [ANNOTATED, WEB],
            [UP, endpoints(False, False)],
            f"error Deployment shop/web: {NONE_READY}",
            id="none-is-ready",
        ),
        pytest.param([ANNOTATED, WEB], [UP, endpoints(False, changed=ago(minutes=9))], "", id="for-a-moment"),
        pytest.param([ANNOTATED, WEB], [UP, endpoints()], f"error Deployment shop/web: {NO_PODS}", id="no-endpoint"),
        pytest.param([ANNOTATED], [endpoints()], f"error Service shop/web: {NO_PODS}", id="of-nobody"),
        pytest.param([ANNOTATED], [], f"error Service shop/web: {NO_PODS}", id="without-a-slice"),
        pytest.param([ANNOTATED, WEB], [scaled("Deployment", desired=0), endpoints()], "", id="scaled-down"),
        pytest.param([service(), WEB], [UP, endpoints(False)], "", id="not-to-be-scraped"),
        pytest.param([service(scrape="true", selector={})], [endpoints(False)], "", id="endpoints-of-its-own"),
        pytest.param(
            [service("web", port("metrics", 80)), WEB, monitor()],
            [UP, endpoints(False, False)],
            "error Deployment shop/web: "
            + NONE_READY.replace("its annotations ask for it", "ServiceMonitor shop/web selects it"),
            id="of-a-monitor",
        ),
    ],
)
def test_services(known: list[Object], living: list[Object], text: str) -> None:
    assert told(observed(known, *living)) == text


def test_what_to_look_at() -> None:
    [observation] = observed([ANNOTATED], endpoints(False))
    assert observation.run == (
        "kubectl -n shop get pods -l app=web",
        "kubectl -n shop get endpointslices -l kubernetes.io/service-name=web",
    )


def test_endpoints_that_cannot_be_seen_are_not_missing() -> None:
    assert "EndpointSlice" in LIVE_KINDS
    assert observed([ANNOTATED], unseen=["EndpointSlice"]) == []


def made(obj: Object, created: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "creationTimestamp": created}}


@pytest.mark.parametrize(
    ("known", "text"),
    [
        pytest.param([monitor(), service()], "", id="a-service"),
        pytest.param(
            [made(monitor(), ago(minutes=11))],
            "warning ServiceMonitor shop/web: ServiceMonitor 'web' selects no Services (app=web in namespace shop), "
            "and nothing is scraped: select by labels that they have, in the namespaces where they are",
            id="none",
        ),
        pytest.param([made(monitor(), ago(minutes=9))], "", id="none-for-a-moment"),
        pytest.param([made(monitor(kind="PodMonitor"), ago(days=1)), WEB], "", id="pods"),
        pytest.param(
            [made(monitor(kind="PodMonitor", namespaceSelector={"any": True}), ago(days=1))],
            "warning PodMonitor shop/web: PodMonitor 'web' selects no pods (app=web in any namespace), and nothing is "
            "scraped: select by labels that they have, in the namespaces where they are",
            id="no-pods",
        ),
        pytest.param(
            [made(monitor(namespaceSelector={"matchNames": list("abcdefg")}), ago(days=1))],
            "warning ServiceMonitor shop/web: ServiceMonitor 'web' selects no Services (app=web in namespace a, b, c, "
            "d, e and 2 more), and nothing is scraped: select by labels that they have, in the namespaces where they "
            "are",
            id="of-many-namespaces-five-are-named",
        ),
        pytest.param([made(monitor(kind="Probe"), ago(days=1))], "", id="a-probe-selects-neither"),
    ],
)
def test_monitors(known: list[Object], text: str) -> None:
    assert told(observed(known, UP, endpoints(True))) == text


def test_where_to_look_for_what_a_monitor_selects() -> None:
    named = monitor(namespaceSelector={"matchNames": ["a", "b"]}, kind="ServiceMonitor")
    [observation] = observed([named])
    assert observation.run == ("kubectl get services -n a -l app=web", "kubectl get services -n b -l app=web")
