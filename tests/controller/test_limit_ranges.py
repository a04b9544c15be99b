"""LimitRange defaults: what is done, on an API that keeps versions and UIDs and counts, and on a real control plane."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders import config, container, sized, workload
from tests.cluster_fixture import ControlPlane, control_plane
from tests.controller.test_dangers import AFTER, C0, GREEDY, seen
from tests.controller.test_limit_plan import CONFIG, DIGEST, FORCED, LABEL, LABELS, NAME, OURS, RULE, namespace
from tests.loopback import eventually
from tests.memory_cluster import MemoryCluster
from webhook.cluster.client import Cluster
from webhook.cluster.facts import Watch
from webhook.cluster.stored import read_objects, readable
from webhook.controller.contents import Contents
from webhook.controller.dangers import dangers
from webhook.controller.limit_plan import Skip, wanted
from webhook.controller.limit_ranges import Limits, report_skips
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable
from webhook.installation import LIMIT_RANGES_RECORD
from webhook.objects.facts import LIMIT_RANGES, NAMESPACES, ClusterFacts
from webhook.policy import Object

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Api(MemoryCluster):
    """A cluster with our namespace."""

    def __init__(self, *objects: Object, **options: Any) -> None:
        super().__init__(*objects, namespace(OURS, {}), **options)

    def limit_range(self, name: str = "shop") -> Object | None:
        return self.objects.get(f"/api/v1/namespaces/{name}/limitranges/{NAME}")

    def told(self) -> list[tuple[str, str, str]]:
        return [(obj["metadata"]["namespace"], obj["reason"], obj["note"]) for obj in self.events()]

    def state(self) -> Any:
        return self.data(OURS, LIMIT_RANGES_RECORD)


def run(api: Api, limits: Limits | None = None, cfg: Any = CONFIG, now: datetime = NOW) -> Limits:
    limits = limits or Limits(api, OURS)
    limits.reconcile(cfg, now)
    return limits


def default_of(obj: Object | None) -> str:
    return str(obj["spec"]["limits"][0]["default"]["memory"]) if obj else "none"


def test_it_is_made_recorded_and_left_alone() -> None:
    api = Api(namespace())
    limits = run(api)
    obj = api.limit_range()
    assert obj is not None
    assert obj["spec"]["limits"] == [
        {"type": "Container", "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "256Mi"}}
    ]
    assert obj["metadata"]["labels"] == LABELS
    assert api.state()["made"] == {f"shop/{NAME}": [obj["metadata"]["uid"], DIGEST]}
    api.verbs()
    run(api, limits)
    assert api.verbs() == {"get": 1, "list": 2}
    assert api.told() == []


def test_without_rules_one_call_a_pass() -> None:
    api = Api(namespace())
    run(api, cfg=config())
    assert api.verbs() == {"get": 1}


def test_a_field_edited_by_hand_comes_back_with_an_event() -> None:
    api = Api(namespace())
    limits = run(api)
    obj = api.limit_range()
    assert obj is not None
    obj["spec"]["limits"][0]["default"]["memory"] = "8Gi"
    api.put(obj)
    run(api, limits)
    assert default_of(api.limit_range()) == "512Mi"
    assert api.told() == [
        (
            "shop",
            "LimitRangeRestored",
            (
                "forestall-defaults was edited by hand: restored. It had default.memory 8Gi, not 512Mi. Change it in "
                "limitRanges of Forestall's configuration instead."
            ),
        )
    ]


def test_it_goes_with_its_label_and_comes_back_with_it() -> None:
    api = Api(namespace())
    limits = run(api)
    api.put(namespace(labels={}))
    run(api, limits)
    assert api.limit_range() is None
    assert api.state()["made"] == {}
    api.put(namespace())
    run(api, limits)
    assert api.limit_range()


def test_what_was_made_anew_since_it_was_read_stays() -> None:
    api = Api(namespace())
    limits = run(api)
    there, read = api.limit_range(), api.read
    assert there is not None

    def stale(path: str, query: Mapping[str, str], timeout: float, most: int | None = None) -> bytes:
        found = read(path, query, timeout)
        if path == "/api/v1/limitranges":
            api.put({**there, "metadata": {**there["metadata"], "uid": "theirs"}})
        return found

    api.read = stale  # type: ignore[assignment, method-assign]
    run(api, limits, cfg=config())
    assert api.limit_range()


def test_another_controller_goes_on_where_this_one_ended() -> None:
    """The record is written before the first LimitRange, so that it is ours although we never heard of it."""
    api = Api(namespace())
    api.fail["create", "/limitranges"] = [FactsUnavailable("no answer")]
    with pytest.raises(FactsUnavailable):
        run(api)
    api.put(wanted(CONFIG.limit_ranges[0], "shop"))  # it had arrived all the same
    run(api)
    obj = api.limit_range()
    assert obj is not None
    assert api.state()["made"] == {f"shop/{NAME}": [obj["metadata"]["uid"], DIGEST]}
    run(api, cfg=config())
    assert api.limit_range() is None


def test_a_stale_leader_makes_nothing() -> None:
    """The record that precedes it carries the version that was read."""
    api = Api(namespace(), namespace("other"))
    run(api)
    api.put(namespace("new"))
    api.fail["replace", LIMIT_RANGES_RECORD] = [Conflict(409, "Conflict", "the object has been modified")]
    with pytest.raises(Conflict):
        run(api)
    assert api.limit_range("new") is None


def test_what_is_replaced_but_not_recorded_is_still_restored() -> None:
    """Two controllers in turn: the second finds what the first wrote, and knows it for what was asked."""
    api = Api(namespace())
    run(api)
    larger = config(f"limitRanges: [{RULE.replace('512Mi', '2Gi')}]")
    api.fail["replace", LIMIT_RANGES_RECORD] = [Conflict(409, "Conflict", "the object has been modified")]
    with pytest.raises(Conflict):
        run(api, cfg=larger)
    assert default_of(api.limit_range()) == "2Gi"
    run(api, cfg=larger)
    obj = api.limit_range()
    assert obj is not None
    obj["spec"]["limits"][0]["default"]["memory"] = "8Gi"
    api.put(obj)
    run(api, cfg=larger)
    assert default_of(api.limit_range()) == "2Gi"
    assert [told[1] for told in api.told()] == ["LimitRangeRestored"]


@pytest.mark.parametrize(
    "answer",
    [
        Conflict(409, "AlreadyExists", "already exists"),
        ClusterRefused(404, "NotFound", "namespaces not found"),
        ClusterRefused(
            403, "Forbidden", "unable to create new content in namespace shop because it is being terminated"
        ),
    ],
    ids=lambda answer: str(answer.reason),
)
def test_races_are_nothing(answer: ClusterRefused) -> None:
    api = Api(namespace(), namespace("other"))
    api.fail["create", "/shop/limitranges"] = [answer]
    limits = run(api)
    assert limits.skips == ()
    assert api.limit_range("other")
    run(api, limits)
    assert api.limit_range("shop")


def test_a_refusal_is_told_and_stops_no_other() -> None:
    api = Api(namespace(), namespace("other"))
    api.fail["create", "/shop/limitranges"] = [ClusterRefused(422, "Invalid", "default exceeds max")]
    limits = run(api)
    assert limits.skips == (Skip("shop", NAME, "the API server refuses it: default exceeds max (422)"),)
    assert api.limit_range("other")


def with_pods(*objects: Object) -> Api:
    return Api(namespace(), *objects)


def greedy() -> Object:
    return workload("Deployment", container(**GREEDY))


def test_an_unsafe_one_is_not_made_until_it_is_mended() -> None:
    api = with_pods(greedy())
    limits = run(api)
    assert api.limit_range() is None
    text = (
        "Deployment web: would be refused: container 'web': its request for memory, 1Gi, is above the limit 512Mi: "
        f"set {C0}.limits.memory to 1Gi or more"
    )
    why = "pods would be refused or killed at their next start"
    assert api.state()["report"] == {
        "notMade": 1,
        "limitRanges": [{"namespace": "shop", "name": NAME, "why": why, "workloads": [text]}],
    }
    assert api.told() == [
        (
            "shop",
            "LimitRangeNotMade",
            (
                f"forestall-defaults is not made: {why}. {text}. See ConfigMap {OURS}/{LIMIT_RANGES_RECORD}; force: "
                "true makes it nevertheless."
            ),
        )
    ]
    api.put(workload("Deployment", container(**sized("1Gi", "1Gi"))))
    api.verbs()
    run(api, limits, now=NOW + timedelta(minutes=4))
    assert api.verbs() == {"get": 1, "list": 2}  # not looked at again so soon, nor told again
    assert [skip.name for skip in limits.skips] == [NAME]
    run(api, limits, now=NOW + timedelta(minutes=5))
    assert api.limit_range()
    assert limits.skips == ()
    assert api.state()["report"] == {"notMade": 0, "limitRanges": []}


def test_another_leader_tells_the_same_no_second_time() -> None:
    api = with_pods(greedy())
    run(api)
    run(api)
    assert len(api.told()) == 1


def test_a_new_configuration_is_looked_at_at_once() -> None:
    api = with_pods(greedy())
    limits = run(api)
    run(api, limits, cfg=config(f"limitRanges: [{RULE.replace('512Mi', '2Gi')}]"))
    assert default_of(api.limit_range()) == "2Gi"


def owned(obj: Object, kind: str, name: str, **status: Any) -> Object:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}, "status": status}


def metrics(name: str, **memory: str) -> Object:
    containers = [{"name": name, "usage": {"memory": amount}} for name, amount in memory.items()]
    return {
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "containers": containers,
    }


@pytest.mark.parametrize(
    ("objects", "owners"),
    [
        pytest.param([workload("ReplicationController", container(**GREEDY))], ["ReplicationController web"], id="rc"),
        pytest.param([workload("Pod", container(**GREEDY))], ["Pod web"], id="bare-pod"),
        pytest.param([workload("ReplicaSet", container(**GREEDY))], ["ReplicaSet web"], id="bare-replicaset"),
        pytest.param(
            [
                workload("Deployment"),
                owned(workload("ReplicaSet", container(**GREEDY), name="web-1"), "Deployment", "web"),
            ],
            [],
            id="an-old-replicaset-of-a-deployment",
        ),
        pytest.param(
            [
                {
                    **workload("Job", container(**GREEDY)),
                    "status": {"conditions": [{"type": "Complete", "status": "True"}]},
                }
            ],
            [],
            id="a-job-that-is-done",
        ),
        pytest.param(
            [{**workload("Pod", container(**GREEDY)), "status": {"phase": "Succeeded"}}], [], id="a-pod-that-is-done"
        ),
        pytest.param(
            [owned(workload("Pod", container(**GREEDY)), "Workflow", "nightly", phase="Running")],
            ["Workflow nightly"],
            id="a-pod-of-a-kind-that-nobody-knows",
        ),
        pytest.param(
            [
                workload("Deployment"),
                owned(workload("ReplicaSet", name="web-1"), "Deployment", "web"),
                owned(workload("Pod", name="web-1-a"), "ReplicaSet", "web-1", phase="Running"),
                metrics("web-1-a", web="700Mi"),
            ],
            ["Deployment web"],
            id="use-of-its-pods",
        ),
    ],
)
def test_what_is_looked_at(objects: list[Object], owners: list[str]) -> None:
    api = Api(namespace(), *objects, groups={"apps": "v1", "batch": "v1", "metrics.k8s.io": "v1beta1"})
    (*skips,) = run(api).skips
    assert [danger.owner for skip in skips for danger in skip.dangers] == owners
    assert (api.limit_range() is None) == bool(owners)


@pytest.mark.parametrize(
    ("objects", "asked"),
    [
        pytest.param([], False, id="an-empty-namespace"),
        pytest.param([workload("Pod", container(**sized("1Gi")))], False, id="all-have-limits"),
        pytest.param([workload("Deployment")], False, id="no-pods"),
        pytest.param([workload("Pod")], True, id="a-pod-without-limit"),
    ],
)
def test_use_is_asked_for_only_where_it_matters(objects: list[Object], asked: bool) -> None:
    api = Api(namespace(), *objects, groups={"metrics.k8s.io": "v1beta1"})
    api.fail["list", "metrics.k8s.io/v1beta1/namespaces/shop/pods"] = [
        ClusterRefused(503, "ServiceUnavailable", "down")
    ]
    limits = run(api)
    assert [skip.why for skip in limits.skips] == ["cannot tell whether pods could start: down (503)"] * asked
    run(api, limits, now=NOW + timedelta(minutes=1))
    assert api.limit_range()


def test_use_that_is_no_amount_is_not_taken_for_none() -> None:
    pod = {**workload("Pod"), "status": {"phase": "Running"}}
    api = Api(namespace(), pod, metrics("web", web="much"), groups={"metrics.k8s.io": "v1beta1"})
    wrong = "PodMetrics shop/web can't be read: 'much' is not a quantity: write a number and a suffix, such as 512Mi"
    assert [skip.why for skip in run(api).skips] == [f"cannot tell whether pods could start: {wrong}"]
    assert api.limit_range() is None


def test_many_new_namespaces_are_taken_some_at_a_time() -> None:
    api = Api(*(namespace(f"n{index}") for index in range(25)))
    limits = Limits(api, OURS)
    counts = []
    for _ in range(4):
        run(api, limits)
        calls = api.verbs()
        counts.append((calls["create"], calls["list"], calls["replace"]))
    # Eight kinds in each namespace; the record before and after.
    assert counts == [(11, 82, 1), (10, 82, 2), (5, 42, 2), (0, 2, 0)]
    assert all(api.limit_range(f"n{index}") for index in range(25))


def test_the_report_is_bounded() -> None:
    found = dangers(
        Contents(tuple(seen(workload("Deployment", container(**GREEDY), name=f"w{i}")) for i in range(9))), (), AFTER
    )
    text = report_skips([Skip(f"n{index}", NAME, "why", found) for index in range(1000)])
    assert (text["notMade"], len(text["limitRanges"]), len(text["limitRanges"][0]["workloads"])) == (1000, 100, 5)
    assert text["limitRanges"][0]["more"] == 4


class Watched:
    """A watch that has heard of all there is, until it is told that there is news."""

    def __init__(self) -> None:
        self.hear()

    def hear(self) -> None:
        self.facts = ClusterFacts({NAMESPACES: {}, LIMIT_RANGES: {}}, known=frozenset({NAMESPACES, LIMIT_RANGES}))


def test_with_a_watch_nothing_is_read_until_there_is_news() -> None:
    api, watch = Api(namespace()), Watched()
    limits = Limits(api, OURS, watch)
    run(api, limits)
    api.verbs()
    run(api, limits, now=NOW + timedelta(seconds=59))
    assert api.verbs() == {}
    api.put(namespace("new"))
    watch.hear()
    run(api, limits, now=NOW + timedelta(seconds=59))
    assert api.limit_range("new")
    api.verbs()
    run(api, limits, now=NOW + timedelta(seconds=119))
    assert api.verbs() == {"get": 1, "list": 2}


# On a real control plane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), nodes=0) as running:
        running.kubectl("create", "namespace", OURS)
        running.kubectl("apply", "-f", "-", input="\n".join(map(json.dumps, RIGHTS)))
        running.write_kubeconfig("limits", running.kubectl("-n", OURS, "create", "token", "limits").strip())
        yield running


def rule(group: str, resources: str, verbs: str, *names: str) -> Object:
    given = {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
    return {**given, "resourceNames": list(names)} if names else given


def role(kind: str, *rules: Object) -> list[Object]:
    """A role for the service account that Limits runs as, and its binding."""
    metadata = {"name": "limits"} if kind == "ClusterRole" else {"name": "limits", "namespace": OURS}
    api = "rbac.authorization.k8s.io"
    top = {"apiVersion": f"{api}/v1", "metadata": metadata}
    subject = {"kind": "ServiceAccount", "name": "limits", "namespace": OURS}
    reference = {"apiGroup": api, "kind": kind, "name": "limits"}
    return [
        {**top, "kind": kind, "rules": list(rules)},
        {**top, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]},
    ]


# All that it needs.
RIGHTS = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "limits", "namespace": OURS}},
    *role(
        "ClusterRole",
        rule("", "namespaces", "list watch"),
        rule("", "limitranges", "list watch create update delete"),
        rule("", "pods replicationcontrollers", "list"),
        rule("apps", "daemonsets deployments replicasets statefulsets", "list"),
        rule("batch", "cronjobs jobs", "list"),
        rule("metrics.k8s.io", "pods", "list"),
        rule("events.k8s.io", "events", "create"),
    ),
    *role("Role", rule("", "configmaps", "create"), rule("", "configmaps", "get update", LIMIT_RANGES_RECORD)),
]


def list_all(cluster: Cluster, path: str, kind: str) -> list[Object]:
    return list(readable(read_objects(cluster, path, kind)))


def names_of(objects: list[Object]) -> set[str]:
    return {obj["metadata"]["name"] for obj in objects}


class Counted:
    """A cluster, and what it was asked."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, verb: str) -> Any:
        def call(path: str, *arguments: Any) -> Any:
            self.calls.append(("list" if verb == "read" else verb, path))
            return getattr(self._cluster, verb)(path, *arguments)

        return call

    def verbs(self, plural: str = "") -> Counter[str]:
        return Counter(verb for verb, path in self.calls if path.endswith(plural))


class Kept:
    """Limits on a real cluster, in a loop such as the controller's, until the block ends."""

    def __init__(self, plane: ControlPlane, cfg: Any = CONFIG, seconds: float = 0.5) -> None:
        self.cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        ours = Cluster.from_kubeconfig(str(plane.folder / "limits.kubeconfig"))
        self.api = Counted(ours)
        self.quiet = 0
        """Passes in a row that asked nothing."""
        self.errors: list[Exception] = []
        self._config, self._seconds = cfg, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._watch = Watch(ours, [NAMESPACES, LIMIT_RANGES])

    def __enter__(self) -> Kept:
        self._watch.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)
        self._watch.stop()

    def _loop(self) -> None:
        limits = Limits(self.api, OURS, self._watch)
        while not self._ended.wait(self._seconds):
            before = len(self.api.calls)
            try:
                limits.reconcile(self._config, datetime.now(UTC))
            except Exception as error:
                self.errors.append(error)
            self.quiet = self.quiet + 1 if len(self.api.calls) == before else 0

    def default(self, name: str) -> str:
        obj = self.cluster.get(f"/api/v1/namespaces/{name}/limitranges/{NAME}")
        return default_of(obj)


def test_namespaces_made_and_deleted_in_a_loop(plane: ControlPlane) -> None:
    stay, go = [f"stay-{index}" for index in range(40)], [f"go-{index}" for index in range(40)]
    with Kept(plane) as kept:
        cluster = kept.cluster
        for one, other in zip(stay, go, strict=True):
            for name in (one, other):
                new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABEL}}
                cluster.create("/api/v1/namespaces", new)
            # Some have theirs by then, some not.
            time.sleep(0.05)
            cluster.delete(f"/api/v1/namespaces/{other}")
        last = time.monotonic()
        for name in stay:
            eventually(lambda name=name: kept.default(name) == "512Mi", f"no LimitRange in {name}")
        took = time.monotonic() - last
        eventually(lambda: not names_of(list_all(cluster, "/api/v1/namespaces", "Namespace")) & {*go}, "go")
        state = f"/api/v1/namespaces/{OURS}/configmaps/{LIMIT_RANGES_RECORD}"
        names = [f"{name}/{NAME}" for name in sorted(stay)]
        eventually(lambda: list(json.loads((cluster.get(state) or {})["data"]["made"])) == names, "the record")
        eventually(lambda: kept.quiet >= 10, "it goes on asking")
        events = list_all(cluster, "/apis/events.k8s.io/v1/events", "Event")
    assert kept.errors == []
    creates, replaces = kept.api.verbs("/limitranges")["create"], kept.api.verbs(NAME)["replace"]
    assert 40 <= creates <= 80  # once for each: of those that went, as many as were seen in time
    assert (replaces, kept.api.verbs(NAME)["delete"]) == (0, 0)
    assert [event for event in events if event["reason"].startswith("LimitRange")] == []
    namespaces_seen = kept.api.verbs("/pods")["list"]
    passes = kept.api.verbs("/api/v1/namespaces")["list"]
    # Three readings a pass that had news, two writes of the record, eight lists and a create for each namespace.
    asked = len(kept.api.calls)
    assert asked <= 5 * passes + 9 * namespaces_seen + 1
    assert namespaces_seen <= 80
    print(
        f"\n80 namespaces made, 40 of them deleted: {asked} requests ({dict(sorted(kept.api.verbs().items()))}) in "
        f"{passes} passes that had news, none once there was none; {creates} LimitRanges made, none missed, none made "
        f"or changed twice, the last {took:.1f} s after the loop"
    )


def test_edited_by_hand_on_a_real_control_plane(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "edited")
    with Kept(plane) as kept:
        plane.kubectl("label", "namespace", "edited", "forestall.dev/defaults=true")
        eventually(lambda: kept.default("edited") == "512Mi", "no LimitRange")
        patch = '[{"op": "replace", "path": "/spec/limits/0/default/memory", "value": "8Gi"}]'
        plane.kubectl("-n", "edited", "patch", "limitrange", NAME, "--type=json", "-p", patch)
        eventually(lambda: kept.default("edited") == "512Mi", "it didn't come back")
        text = eventually(lambda: plane.kubectl("-n", "edited", "get", "events", "--no-headers"), "no event")
        assert "LimitRangeRestored" in text
        assert "default.memory 8Gi, not 512Mi" in text
        plane.kubectl("label", "namespace", "edited", "forestall.dev/defaults-")
        eventually(lambda: kept.default("edited") == "none", "it stayed")
    assert kept.errors == []


# Served by a definition of our own, since no kubelet measures here.
METRICS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "pods", "kind": "PodMetrics", "singular": "podmetrics"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_harm_on_a_real_control_plane(plane: ControlPlane) -> None:
    plane.kubectl("apply", "-f", "-", input=json.dumps(METRICS))
    plane.kubectl("wait", "--for=condition=Established", "crd/pods.metrics.k8s.io", "--timeout=30s")
    for name in ("refused", "killed"):
        plane.kubectl("create", "namespace", name)
        eventually(lambda name=name: "default" in plane.kubectl("-n", name, "get", "serviceaccounts"), "account")
    for name, amounts in (("refused", GREEDY), ("killed", {})):
        obj = workload("Deployment", container(**amounts))
        obj["metadata"]["namespace"] = name
        obj["spec"] |= {"selector": {"matchLabels": {"app": "web"}}, "replicas": 1}
        plane.kubectl("apply", "-f", "-", input=json.dumps(obj))
    pod = eventually(lambda: plane.kubectl("-n", "killed", "get", "pods", "-o", "name"), "no pod").strip()
    measured = {**metrics(pod.removeprefix("pod/"), web="716800Ki"), "kind": "PodMetrics"}
    measured["metadata"]["namespace"] = "killed"
    plane.kubectl("apply", "-f", "-", input=json.dumps(measured))
    with Kept(plane) as kept:
        plane.kubectl("label", "namespace", "refused", "killed", "forestall.dev/defaults=true")

        def told(name: str) -> str:
            return plane.kubectl("-n", name, "get", "events", "--field-selector=reason=LimitRangeNotMade")

        for name, text in (
            ("refused", "Deployment web: would be refused: container 'web': its request for memory, 1Gi, is above"),
            ("killed", "Deployment web: would be killed: container 'web' uses 700Mi, above the default limit 512Mi"),
        ):
            eventually(lambda name=name, text=text: text in told(name), f"{name} isn't told")
            assert kept.default(name) == "none"
    assert kept.errors == []
    with Kept(plane, FORCED) as kept:
        for name in ("refused", "killed"):
            eventually(lambda name=name: kept.default(name) == "512Mi", "force")
    # It had been told right: the API server now refuses the pod.
    plane.kubectl("-n", "refused", "delete", "pods", "--all", "--wait=false")
    eventually(
        lambda: "must be less than or equal to memory limit" in plane.kubectl("-n", "refused", "get", "events"),
        "refused",
    )
