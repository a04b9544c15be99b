"""Properties of fixes, over generated workloads, the corpus and the recordings, changed at random; and of what can't be
read.

The patched object passes, patching it again changes nothing, no fix lowers a value or puts a limit below a request, and
the API server takes the pods: within every LimitRange, and within what the pod itself has. Replicas stay as they are.
On an update nothing is set below what the old object had. What the API server refuses stays refused. The only
exceptions are an amount of our default's that follows what somebody wrote beside it. A field of the wrong kind is never
told as a failure of ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache, reduce
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.builders import (
    ROOT,
    SHARED,
    TODAY,
    config,
    container,
    custom,
    facts,
    limit_range,
    recordings,
    request,
    sized,
    workload,
)
from webhook.config import Config
from webhook.engine import decide
from webhook.errors import UNREADABLE
from webhook.files.manifests import read_manifests
from webhook.messages import denial, warnings
from webhook.objects.facts import ClusterFacts
from webhook.objects.facts.limit_ranges import Item, read_items
from webhook.objects.limit_range_validation import wrong_with
from webhook.objects.limitranger import Refusal, refusals
from webhook.objects.pods import read_workload
from webhook.objects.predecessors import predecessors
from webhook.objects.quantities import is_fraction_of_byte, parse_memory
from webhook.policy import Decision, Object, Verdict

CONFIG = config("""
policies:
  memory-limits: {params: {images: {"fluent*": 64Mi}, containers: {istio-proxy: 128Mi}}}
  prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}
  volume-handover: {mode: patch}
  metrics-durability: {mode: patch, params: {remoteWrite: "https://example.com/push", emptyDirSize: 20Gi}}
""")

UNREAD_CONFIG = config("""
policies:
  memory-limits: {params: {images: {"fluent*": 64Mi}}}
  prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}
  zonal-volumes: {mode: patch, params: {zones: [a, b], workloads: {labels: [{app: x}]}, replacement: {emptyDir: true}}}
  volume-handover: {mode: patch}
  metrics-durability: {mode: patch, params: {remoteWrite: "https://example.com/push", emptyDirSize: 20Gi}}
exemptions:
  - policy: memory-limits
    match: {namespaces: [shop], labels: {app: x}, images: ["x*"]}
    owner: sre
    reason: moving
    until: 2999-12-31
""")

amounts = st.sampled_from(
    [None, "0", "1", "512m", "64Mi", "100M", "256Mi", "512Mi", "1Gi", "3Gi", "0.3Gi", "8Gi", 134217728, "1e3"]
)
resources = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"memory": amounts, "cpu": st.just("1")})),
        "requests": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"memory": amounts, "cpu": st.just("1")})),
    },
)
images = st.sampled_from(["nginx:1.27", "quay.io/prometheus/prometheus:v3.9.1", "fluent/fluent-bit:3.2", "busybox"])


ACCESS_MODES = {"one-node": "ReadWriteOnce", "one-pod": "ReadWriteOncePod", "shared": "ReadWriteMany"}
"""By a claim's name; every other claim is ReadWriteOnce."""
shares = st.sampled_from([None, 0, 1, 2, "0%", "25%", "100%"])
updating = st.fixed_dictionaries({}, optional={"maxSurge": shares, "maxUnavailable": shares})
rollouts = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.sampled_from([None, 0, 1, 2, 3, 10]),
        "strategy": st.one_of(
            st.sampled_from([None, {}, {"type": "Recreate"}]),
            st.fixed_dictionaries(
                {"type": st.just("RollingUpdate")},
                optional={"rollingUpdate": updating},
            ),
        ),
    },
)


@st.composite
def containers(draw: st.DrawFn) -> list[Object]:
    names = draw(st.lists(st.sampled_from(["a", "b", "c", "istio-proxy"]), min_size=1, max_size=3, unique=True))
    return [
        container(
            name, draw(images), **draw(st.sampled_from([{}, {"resources": None}, {"resources": draw(resources)}]))
        )
        for name in names
    ]


@st.composite
def objects(draw: st.DrawFn) -> Object:
    kind = draw(st.sampled_from(["Pod", "Deployment", "StatefulSet", "CronJob", "Prometheus", "Alertmanager"]))
    if kind in ("Prometheus", "Alertmanager"):
        spec: dict[str, Any] = {"resources": draw(resources)}
        if draw(st.booleans()):
            spec["containers"] = [
                {**container, "name": name}
                for container, name in zip(draw(containers()), ["prometheus", "x", "y"], strict=False)
            ]
        return custom(kind, spec)
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["initContainers"] = [
            {**container, "name": f"init-{container['name']}"} for container in draw(containers())
        ]
    if draw(st.integers(0, 2)) == 0:
        fields["resources"] = draw(resources)
    claims = draw(st.lists(st.sampled_from(sorted(ACCESS_MODES)), max_size=2, unique=True))
    if claims:
        fields["volumes"] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    obj = workload(kind, *draw(containers()), **fields)
    if kind == "Deployment":
        obj["spec"] |= draw(rollouts)
    return obj


bounds = st.sampled_from(["64Mi", "256Mi", "512Mi", "1Gi", "8Gi"])
ratios = st.sampled_from(["1", "1.5", "2", "4"])
giving = st.fixed_dictionaries(
    {},
    optional={
        "min": bounds,
        "max": bounds,
        "default": st.one_of(bounds, st.just("0")),
        "defaultRequest": bounds,
        "maxLimitRequestRatio": ratios,
    },
)
bounding = st.fixed_dictionaries({}, optional={"min": bounds, "max": bounds, "maxLimitRequestRatio": ratios})


def is_taken(obj: Object) -> bool:
    """Whether the API server takes this LimitRange."""
    return not any(wrong_with(item) for item in read_items(obj["spec"]))


def typed(kind: str, name: str, item: Object) -> Object:
    made = limit_range(name, **item)
    made["spec"]["limits"][0]["type"] = kind
    return made


ranges = st.tuples(
    st.lists(giving, max_size=2).map(lambda items: [typed("Container", f"c{i}", item) for i, item in enumerate(items)]),
    st.lists(bounding, max_size=1).map(lambda items: [typed("Pod", "pod", item) for item in items]),
).map(lambda both: [made for made in (*both[0], *both[1]) if is_taken(made)])


def memory(obj: Object) -> dict[tuple[str, str], tuple[int | None, int | None]]:
    """Request and limit of every container in bytes; what counts as missing is None."""
    found = read_workload(request(obj))
    assert found is not None
    return {
        (container.path.rpartition("[")[0], container.name): (
            counted(container.memory("requests")),
            counted(container.memory("limits")),
        )
        for container in found.containers
    }


def counted(quantity: Any) -> int | None:
    return (
        None
        if quantity is None or is_fraction_of_byte(quantity) or not parse_memory(quantity)
        else parse_memory(quantity)
    )


def violations(obj: Object, cluster: ClusterFacts) -> set[tuple[str, str, str]]:
    """What /validate finds, as policy, subject and path."""
    decision = decide(request(obj), cluster, CONFIG, today=TODAY, stage="validate")
    return {(verdict.policy, verdict.violation.subject, verdict.violation.path) for verdict in decision.verdicts}


def refused_with(obj: Object, items: list[Item]) -> list[Refusal]:
    """Why the API server refuses the memory of the object's pods."""
    found = read_workload(request(obj))
    assert found is not None
    return [refusal for refusal in refusals(found, items) if refusal.resource == "memory"]


def check_admission(obj: Object, items: list[Item], changed: set[str], *, alone: bool) -> None:
    """The API server takes the memory of the containers that were `changed`, and of their pod."""
    refused = refused_with(obj, items)
    assert [str(refusal) for refusal in refused if refusal.container in changed] == []
    # What two policies set at once, neither has added up.
    assert not alone or [str(refusal) for refusal in refused if not refusal.container] == []


def claims_of(obj: Object) -> Iterator[Object]:
    """The claims that the object's pods mount."""
    found = read_workload(request(obj))
    for volume in (found.spec.get("volumes") or ()) if found else ():
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            metadata = {"name": name, "namespace": obj["metadata"].get("namespace", "default")}
            spec = {"accessModes": [ACCESS_MODES.get(name, "ReadWriteOnce")]}
            yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def handover_of(obj: Object) -> tuple[Any, Any]:
    """Replicas and strategy of a Deployment; of another kind there are none that a policy may change."""
    return (obj["spec"].get("replicas"), obj["spec"].get("strategy")) if obj["kind"] == "Deployment" else (None, None)


def check_handover(old: Object, new: Object, decision: Decision) -> None:
    """Replicas stay as they are, and a strategy is replaced as a whole, where a message says so."""
    (replicas, strategy), (kept, made) = handover_of(old), handover_of(new)
    told = [one for one in decision.verdicts if one.policy == "volume-handover" and one.outcome == "patched"]
    assert kept == replicas, "replicas were changed"
    assert made == ({"type": "Recreate"} if told else strategy)


def check_fixes(obj: Object, limit_ranges: list[Object]) -> None:
    cluster = facts(*limit_ranges, *claims_of(obj))
    submitted = copy.deepcopy(obj)
    first = decide(request(obj), cluster, CONFIG, today=TODAY, stage="mutate")
    assert obj == submitted, "the submitted object was changed"
    assert first.failures == {}
    if not first.patch:
        return
    assert first.object is not None
    assert decide(request(first.object), cluster, CONFIG, today=TODAY, stage="mutate").patch == (), "not idempotent"
    for verdict in decide(request(first.object), cluster, CONFIG, today=TODAY, stage="validate").verdicts:
        is_left = verdict.policy == "zonal-volumes" or verdict.violation.subject in refused_by_itself(first.object)
        assert verdict.violation.fix is None or is_left, f"{verdict} was fixable and is left"
    patched = {
        (verdict.policy, verdict.violation.subject, verdict.violation.path)
        for verdict in first.verdicts
        if verdict.outcome == "patched"
    }
    items = [item for limit_range in limit_ranges for item in read_items(limit_range["spec"])]
    check_handover(obj, first.object, first)
    had, has = violations(obj, cluster), violations(first.object, cluster)
    # What LimitRanges gave, and the API server then refuses, is nothing that a fix could take away.
    beyond = {refusal.container for refusal in refused_with(obj, items)}
    assert {refusal for refusal in has - had if "" not in beyond and refusal[1] not in beyond} == set(), (
        "a fix made it worse"
    )
    assert not has & patched, "what was patched is denied"
    check_refusals(obj, first)
    before, after = memory(obj), memory(first.object)
    changed = {key[1] for key, sizes in after.items() if sizes != before[key]}
    of_memory = {policy for policy, _, _ in patched} - {"metrics-durability", "volume-handover"}
    check_admission(first.object, items, changed, alone=len(of_memory) == 1)
    for key, (request_, limit) in after.items():
        old_request, old_limit = before.get(key, (None, None))
        assert old_request is None or (request_ or 0) >= old_request, "a request was lowered"
        assert old_limit is None or (limit or 0) >= old_limit, "a limit was lowered"
        if (request_, limit) != (old_request, old_limit) and limit is not None:
            assert limit >= (request_ or 0), "a limit was put below a request"


def refused_by_itself(obj: Object) -> set[str]:
    """The containers, or "" for the pod, whose memory the API server refuses whatever the namespace says."""
    found = read_workload(request(obj))
    assert found is not None
    return {refusal.container for refusal in refusals(found, ()) if refusal.resource == "memory"}


def follows(verdict: Verdict) -> bool:
    """Whether an amount of the default's was moved after what somebody wrote beside it."""
    return verdict.outcome == "patched" and ", which is the default's, " in verdict.violation.message


def check_refusals(obj: Object, decision: Decision) -> None:
    """What the API server would refuse, it still refuses, but for what follows."""
    assert decision.object is not None
    follow = {verdict.violation.subject for verdict in decision.verdicts if follows(verdict)}
    assert refused_by_itself(obj) - follow <= refused_by_itself(decision.object), "a refusal was mended away"


def check_update(old: Object, new: Object, limit_ranges: list[Object], cfg: Config = CONFIG) -> None:
    asked = request(new, old)
    cluster = facts(*limit_ranges, *claims_of(new))
    decision = decide(asked, cluster, cfg, today=TODAY, stage="mutate")
    assert decision.failures == {}
    if not decision.patch or decision.object is None:
        return
    again = decide(request(decision.object, old), cluster, cfg, today=TODAY, stage="mutate")
    assert again.patch == (), "not idempotent"
    check_handover(new, decision.object, decision)
    check_refusals(new, decision)
    may_fall = {verdict.violation.path: verdict.violation.subject for verdict in decision.verdicts if follows(verdict)}
    before = predecessors(asked)
    submitted, result = (read_workload(request(obj)) for obj in (new, decision.object))
    assert submitted is not None
    assert result is not None
    for was, now in zip(submitted.containers, result.containers, strict=True):
        parts: tuple[Literal["requests", "limits"], ...] = ("requests", "limits")
        for part in parts:
            amount, written = counted(now.memory(part)), counted(was.memory(part))
            if amount == written:
                continue
            assert amount is not None
            if was.memory_path(part) in may_fall:
                other = parts[part == "requests"]
                assert amount == now.amount(other) or amount > (written or 0), "it doesn't follow"
                continue
            assert written is None or amount >= written, "a value was lowered"
            had = counted(before[was.path].memory(part)) if was.path in before else None
            assert had is None or amount >= had, "set below what it had"


ROLLING: Object = workload(
    "Deployment",
    container(image="quay.io/prometheus/prometheus:v3.9.1"),
    volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "one-node"}}],
)
ROLLING["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}


def test_several_policies_mend_one_object_at_once() -> None:
    """The premise of what follows: there is something for each of them to do."""
    decision = decide(request(ROLLING), facts(*claims_of(ROLLING)), CONFIG, today=TODAY, stage="mutate")
    patched = {verdict.policy for verdict in decision.verdicts if verdict.outcome == "patched"}
    assert patched >= {"prometheus-memory", "volume-handover"}


@settings(max_examples=300, deadline=None)
@given(objects(), ranges)
@example(ROLLING, [])
@example(workload("Pod", container(resources=None)), [])
@example(workload("Deployment", container(**sized("0", "64Mi"))), [])
@example(
    workload("Pod", container(resources={"requests": {"memory": "0.3Gi"}}), resources={}),
    [limit_range(maxLimitRequestRatio="1")],
)
def test_fixes_of_generated_objects(obj: Object, limit_ranges: list[Object]) -> None:
    check_fixes(obj, limit_ranges)


@cache
def corpus() -> list[Object]:
    found = []
    for path in sorted((SHARED / "corpus").glob("*/*.yaml")):
        for manifest in read_manifests(path.read_bytes(), path.name)[0]:
            group = str(manifest.object["apiVersion"]).rpartition("/")[0]
            if (group, manifest.object["kind"]) in CONFIG.workload_keys:
                found.append(manifest.object)
    return found


def resized(draw: st.DrawFn, obj: Object, *, rename: bool = False) -> Object:
    """A copy in which some containers have other resources, or another name."""
    obj = copy.deepcopy(obj)
    obj["metadata"]["namespace"] = "shop"
    obj["metadata"].pop("ownerReferences", None)  # whom it belongs to is another question
    found = read_workload(request(obj))
    assert found is not None
    for index, written in enumerate(found.containers):
        if isinstance(written.spec, dict) and written.spec:
            if draw(st.booleans()):
                written.spec["resources"] = draw(st.one_of(st.none(), resources))
            if rename and draw(st.integers(0, 3)) == 0 and not found.is_operated:
                written.spec["name"] = f"renamed-{index}"
    return obj


@st.composite
def updates(draw: st.DrawFn) -> tuple[Object, Object]:
    old = draw(objects())
    old["metadata"]["namespace"] = "shop"
    return resized(draw, old), resized(draw, old, rename=True)


PATCHING = [
    CONFIG,
    config(
        "patchExisting: true\npolicies: {prometheus-memory: {mode: patch, params: {largestNode: 64Gi}}, "
        "volume-handover: {mode: patch}}"
    ),
]


@pytest.mark.parametrize("cfg", PATCHING, ids=["ratchet", "patchExisting"])
@settings(max_examples=300, deadline=None)
@given(updates(), ranges)
def test_updates_of_generated_objects(cfg: Config, pair: tuple[Object, Object], limit_ranges: list[Object]) -> None:
    check_update(*pair, limit_ranges, cfg)


@cache
def recorded() -> list[Object]:
    """The workloads of the cases and of what a real API server sent, old and new."""
    found = []
    for path in sorted((SHARED / "cases").glob("*/*.yaml")):
        if path.name not in {"case.yaml", "config.yaml"}:
            found += [manifest.object for manifest in read_manifests(path.read_bytes(), path.name)[0]]
    for line in recordings("people.jsonl", "charts.jsonl"):
        asked = line["review"]["request"]
        found += [obj for obj in (asked["object"], asked.get("oldObject")) if obj]
    groups = ((str(obj["apiVersion"]).rpartition("/")[0], obj) for obj in found)
    return [obj for group, obj in groups if (group, obj["kind"]) in CONFIG.workload_keys]


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="needs the cases and recordings beside the checkout")
@pytest.mark.parametrize("source", [corpus, recorded], ids=["corpus", "cases-and-recordings"])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), ranges)
def test_updates_of_what_is_there(
    source: Callable[[], list[Object]], data: st.DataObject, limits: list[Object]
) -> None:
    obj = data.draw(st.sampled_from(source()))
    old, new = resized(data.draw, obj), resized(data.draw, obj, rename=True)
    check_update(old, new, limits)
    check_fixes(new, limits)


@cache
def policies_files() -> list[Object]:
    files = sorted((ROOT / "policies").glob("*/*/*.yaml"))
    return [manifest.object for path in files for manifest in read_manifests(path.read_bytes(), path.name)[0]]


def paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of everything inside an object."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*above, key)
        yield from paths(child, (*above, key))


WRONG = st.sampled_from([True, 5, 1.5, None, [], ["x"], [None], {}, {"memory": True}, "x", ""])


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_of_the_wrong_kind_is_no_failure_of_ours(data: st.DataObject) -> None:
    obj = copy.deepcopy(data.draw(st.sampled_from(policies_files())))
    asked = request(obj)
    *above, last = data.draw(st.sampled_from(sorted(paths(obj), key=str)))
    reduce(lambda parent, key: parent[key], above, obj)[last] = data.draw(WRONG)
    try:
        decision = decide(asked, facts(), UNREAD_CONFIG, today=TODAY)
    except UNREADABLE:  # as the engine looked whose object it is
        return
    assert [error for error in decision.failures.values() if not isinstance(error, UNREADABLE)] == []
    denial(asked, decision, config())
    warnings(asked, decision, config())
