"""scrape-endpoints beside what other linters' own public tests say of such objects.

Every row is a case of theirs, written anew: who it is from, their verdict, ours (in mode deny, of the objects as files
that are checked together), and, where the two differ, why. Theirs look at any Service; ours only at those that are to
be scraped, so that the Services of these cases are annotated.

kube-linter    tests/checks/dangling-service.yml, dangling-servicemonitor.yml
kics           assets/queries/k8s/service_does_not_target_pod: positive and negative cases
operator       pkg/prometheus, validateScrapeIntervalAndTimeout: what its resource selector passes over; and the
               manifests of its user guides
istio          samples/addons/extras/prometheus-operator.yaml
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TODAY, config, every_policy, facts, request, workload
from tests.test_scrape_endpoints import monitor, port, prometheus, service
from webhook.engine import decide
from webhook.policy import Object

CONFIG = config(every_policy(scrape_endpoints="mode: deny"))
DANGLING = "dangling"
UNSEEN = "what isn't in the files may be in the cluster: with its facts it is a warning"
OWN_NAMESPACE = "without a namespaceSelector a monitor looks in its own namespace alone, and the Service is in another"
SELECTS_ALL = "an empty selector selects every Service of its namespaces"
NUMBER = "a port needs no declaration to be listened on: only a name has to be declared"
FRONTEND = {"matchLabels": {"team": "frontend"}}
ANY_POD = {
    "selector": {"matchExpressions": [{"key": "istio-prometheus-ignore", "operator": "DoesNotExist"}]},
    "namespaceSelector": {"any": True},
}
PILOT = {
    "selector": {"matchExpressions": [{"key": "istio", "operator": "In", "values": ["pilot"]}]},
    "namespaceSelector": {"any": True},
}
SCRAPED = {"scrape": "true", "port": "8080"}


def made(kind: str, name: str, label: str, number: int = 8080, port_name: str = "") -> Object:
    obj = workload(
        kind, {"name": "web", "image": "nginx:1.27", "ports": [{"name": port_name, "containerPort": number}]}
    )
    obj["metadata"]["name"] = name
    template = obj if kind == "Pod" else obj["spec"]["template"]
    template["metadata"]["labels"] = {"app": label}
    return obj


def serving(selected: str, target: int | str | None = None, **keys: str) -> Object:
    return service("web", port("http", 8080, target), selector={"app": selected}, **(keys or SCRAPED))


def monitoring(app: str | None, *namespaces: str, **endpoint: Any) -> Object:
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": app}} if app else {}}
    if namespaces:
        spec["namespaceSelector"] = {"matchNames": list(namespaces)}
    return monitor({"port": "http", **endpoint}, **spec)


def elsewhere(namespace: str) -> Object:
    return service("web", port("http", 8080), namespace=namespace)


@pytest.mark.parametrize(
    ("peer", "obj", "others", "theirs", "ours", "why"),
    [
        pytest.param("kube-linter", serving("a"), [made("Deployment", "a", "a")], "", [], "", id="a-service"),
        pytest.param(
            "kube-linter",
            serving("a"),
            [made("Deployment", "b", "b")],
            DANGLING,
            ["unknown"],
            UNSEEN,
            id="a-dangling-service",
        ),
        pytest.param(
            "kube-linter",
            serving("a", scrape="false"),
            [made("Deployment", "b", "b")],
            DANGLING,
            [],
            "nobody scrapes it: what else uses it isn't this policy's",
            id="a-dangling-service-that-is-not-scraped",
        ),
        pytest.param(
            "kube-linter", monitoring("web"), [elsewhere("shop")], "", [], "", id="a-monitor-of-its-own-namespace"
        ),
        pytest.param(
            "kube-linter",
            monitoring("web"),
            [elsewhere("dontfire")],
            "",
            ["unknown"],
            OWN_NAMESPACE,
            id="a-monitor-without-namespace-selector",
        ),
        pytest.param(
            "kube-linter", monitoring(None, "dontfire"), [elsewhere("dontfire")], "", [], "", id="a-namespace-alone"
        ),
        pytest.param(
            "kube-linter", monitoring("web", "dontfire"), [elsewhere("dontfire")], "", [], "", id="both-selectors"
        ),
        pytest.param(
            "kube-linter", monitoring("app"), [elsewhere("shop")], DANGLING, ["unknown"], UNSEEN, id="other-labels"
        ),
        pytest.param(
            "kube-linter",
            monitoring(None, "test2"),
            [elsewhere("test1")],
            DANGLING,
            ["unknown"],
            UNSEEN,
            id="another-namespace",
        ),
        pytest.param(
            "kube-linter",
            monitoring("web", "test2"),
            [elsewhere("test1")],
            DANGLING,
            ["unknown"],
            UNSEEN,
            id="right-labels-in-another-namespace",
        ),
        pytest.param("kube-linter", monitoring(None), [elsewhere("shop")], DANGLING, [], SELECTS_ALL, id="no-selector"),
        pytest.param("kics", serving("a", 8080), [made("Deployment", "a", "a")], "", [], "", id="a-declared-number"),
        pytest.param(
            "kics",
            serving("a", 8089, scrape="true", port="8089"),
            [made("Deployment", "a", "a", 808)],
            DANGLING,
            [],
            NUMBER,
            id="an-undeclared-number",
        ),
        pytest.param(
            "kics",
            serving("a", "web", scrape="true"),
            [made("StatefulSet", "a", "a", 8080, "web")],
            "",
            [],
            "",
            id="a-declared-name",
        ),
        pytest.param(
            "kics",
            serving("a", "web", scrape="true"),
            [made("DaemonSet", "a", "a", 8080, "http")],
            DANGLING,
            ["warned"],
            "",
            id="an-undeclared-name",
        ),
        pytest.param("kics", serving("a"), [made("Pod", "a", "a")], "", [], "", id="a-pod"),
        pytest.param("kics", serving("a"), [made("Rollout", "a", "a")], "", [], "", id="a-rollout"),
        pytest.param("kics", serving("a"), [made("ReplicaSet", "a", "a")], "", [], "", id="a-replica-set"),
        pytest.param(
            "operator",
            monitor({"port": "web"}, kind="PodMonitor", labels={"team": "frontend"}),
            [made("Deployment", "web", "web", 8080, "web"), prometheus(podMonitorSelector=FRONTEND)],
            "",
            [],
            "",
            id="its-guide-s-pod-monitor",
        ),
        pytest.param(
            "operator",
            monitor({"port": "web"}, labels={"team": "frontend"}),
            [service("web", port("web", 8080)), prometheus(serviceMonitorSelector=FRONTEND)],
            "",
            [],
            "",
            id="its-guide-s-service-monitor",
        ),
        pytest.param(
            "operator",
            prometheus(
                additionalScrapeConfigs={"name": "additional-scrape-configs", "key": "prometheus-additional.yaml"}
            ),
            [],
            "",
            ["unknown"],
            "the jobs are in a Secret, which is not read",
            id="its-additional-scrape-configs",
        ),
        pytest.param(
            "istio",
            monitor({"path": "/stats/prometheus", "interval": "15s"}, kind="PodMonitor", **ANY_POD),
            [made("Deployment", "web", "web"), prometheus()],
            "",
            [],
            "",
            id="istio-s-pod-monitor",
        ),
        pytest.param(
            "istio",
            monitor({"port": "http-monitoring", "interval": "15s"}, **PILOT),
            [prometheus()],
            "",
            ["unknown"],
            UNSEEN,
            id="istio-s-service-monitor",
        ),
        pytest.param("kics", serving("a"), [made("Job", "a", "a")], "", [], "", id="a-job"),
        pytest.param(
            "kube-linter", serving("app"), [made("DeploymentConfig", "a", "app")], "", [], "", id="a-deployment-config"
        ),
        pytest.param(
            "operator",
            monitoring("web", scrapeTimeout="10s"),
            [elsewhere("shop"), prometheus(scrapeInterval="30s")],
            "",
            [],
            "",
            id="an-inherited-interval",
        ),
        pytest.param(
            "operator",
            monitoring("web", scrapeTimeout="40s"),
            [elsewhere("shop"), prometheus(scrapeInterval="30s")],
            "rejected",
            ["denied"],
            "",
            id="longer-than-an-inherited-interval",
        ),
        pytest.param(
            "operator",
            monitoring("web", interval="10s"),
            [elsewhere("shop"), prometheus(scrapeInterval="30s", scrapeTimeout="20s")],
            "",
            [],
            "",
            id="an-inherited-timeout-is-cut",
        ),
        pytest.param(
            "operator",
            monitoring("web", interval="10s", scrapeTimeout="20s"),
            [elsewhere("shop"), prometheus()],
            "rejected",
            ["denied"],
            "",
            id="longer-than-its-own-interval",
        ),
    ],
)
def test_verdicts(peer: str, obj: Object, others: list[Object], theirs: str, ours: list[str], why: str) -> None:
    decision = decide(request(obj), facts(obj, *others), CONFIG, today=TODAY)
    assert [verdict.outcome for verdict in decision.verdicts] == ours
    assert peer in str(__doc__)
    agrees = bool(theirs) == bool(ours) and "unknown" not in ours
    assert bool(why) != agrees
