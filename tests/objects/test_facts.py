import dataclasses
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.builders import DATA, KINDS, facts_of
from webhook.errors import BadObject, BadQuantity, ForestallError
from webhook.objects import facts as objects_facts
from webhook.objects.facts import (
    CLAIMS,
    LIMIT_RANGES,
    NAMESPACES,
    NO_FACTS,
    NODES,
    STORAGE_CLASSES,
    VOLUMES,
    Claim,
    Node,
    Requirement,
    StorageClass,
    Taint,
    Volume,
    claim_class,
    decode_fact,
    read_fact,
    read_terms,
    zone_of,
)
from webhook.objects.facts.decoding import Wire, WirePart
from webhook.policy import FactKey, FactKind, FactReference, Object

ZONE = "topology.kubernetes.io/zone"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"


def an(kind: str, name: str = "x", namespace: str | None = None, **fields: Any) -> Object:
    metadata = {"name": name} | ({} if namespace is None else {"namespace": namespace}) | fields.pop("metadata", {})
    version = "storage.k8s.io/v1" if kind == "StorageClass" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def claim(name: str = "data", namespace: str | None = "shop", **spec: Any) -> Object:
    return an("PersistentVolumeClaim", name, namespace, spec=spec)


def limits(*items: Object, name: str = "limits", namespace: str | None = "shop") -> Object:
    return an("LimitRange", name, namespace, spec={"limits": list(items)})


def item(kind: str = "Container", **sizes: Any) -> Object:
    return {"type": kind} | {name: {"memory": size} for name, size in sizes.items()}


def storage_class(**fields: Any) -> StorageClass:
    defaults: dict[str, Any] = {
        "name": "x",
        "provisioner": "ebs.csi.aws.com",
        "parameters": {},
        "binding_mode": "Immediate",
        "allowed_topologies": (),
        "is_default": False,
        "created": "",
    }
    return StorageClass(**(defaults | fields))


def volume(**fields: Any) -> Volume:
    defaults: dict[str, Any] = {
        "name": "x",
        "source": "",
        "driver": "",
        "attributes": {},
        "node_affinity": (),
        "zone_label": "",
        "storage_class": "",
    }
    return Volume(**(defaults | fields))


def in_zones(*zones: str) -> Object:
    expression = {"key": ZONE, "operator": "In", "values": list(zones)}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


RECORDS = [
    pytest.param(
        an("StorageClass", provisioner="ebs.csi.aws.com"),
        FactReference(STORAGE_CLASSES, "", "x"),
        storage_class(),
        id="class-binds-immediately-unless-it-says-otherwise",
    ),
    pytest.param(
        an(
            "StorageClass",
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "tagSpecification_1": None},
            volumeBindingMode="WaitForFirstConsumer",
            allowedTopologies=[{"matchLabelExpressions": [{"key": ZONE, "values": ["a", "b"]}]}],
            metadata={
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                "creationTimestamp": "2026-01-02T03:04:05Z",
            },
        ),
        FactReference(STORAGE_CLASSES, "", "x"),
        storage_class(
            parameters={"type": "gp3", "tagSpecification_1": ""},
            binding_mode="WaitForFirstConsumer",
            allowed_topologies=((Requirement(ZONE, "In", ("a", "b")),),),
            is_default=True,
            created="2026-01-02T03:04:05Z",
        ),
        id="class-in-full",
    ),
    pytest.param(
        an(
            "StorageClass",
            provisioner="ebs.csi.aws.com",
            metadata={"annotations": {"storageclass.beta.kubernetes.io/is-default-class": "true"}},
        ),
        FactReference(STORAGE_CLASSES, "", "x"),
        storage_class(is_default=True),
        id="class-default-by-the-beta-annotation",
    ),
    pytest.param(
        an(
            "PersistentVolume",
            spec={
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": "shop", "name": "data", "uid": "u"},
                "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1", "volumeAttributes": {"a": "b"}},
                "nodeAffinity": in_zones("a"),
                "storageClassName": "gp3",
                "volumeMode": "Filesystem",
            },
        ),
        FactReference(VOLUMES, "", "x"),
        volume(
            source="csi",
            driver="ebs.csi.aws.com",
            attributes={"a": "b"},
            node_affinity=((Requirement(ZONE, "In", ("a",)),),),
            storage_class="gp3",
            claim=("shop", "data"),
        ),
        id="csi-volume",
    ),
    pytest.param(
        an("PersistentVolume", metadata={"labels": {OLD_ZONE: "a__b"}}, spec={"csi": None, "gcePersistentDisk": {}}),
        FactReference(VOLUMES, "", "x"),
        volume(source="gcePersistentDisk", zone_label="a__b"),
        id="in-tree-volume-with-a-null-beside-it",
    ),
    pytest.param(
        an("PersistentVolume", spec={"claimRef": {"name": "data", "namespace": None}, "nfs": {}}),
        FactReference(VOLUMES, "", "x"),
        volume(source="nfs"),
        id="volume-kept-for-a-claim-of-no-namespace",
    ),
    pytest.param(
        claim(volumeName="pv-1", storageClassName="gp3"),
        FactReference(CLAIMS, "shop", "data"),
        Claim("shop", "data", "pv-1", "gp3"),
        id="bound-claim",
    ),
    pytest.param(
        claim(namespace=None),
        FactReference(CLAIMS, "default", "data"),
        Claim("default", "data", "", None),
        id="claim-without-namespace-or-class",
    ),
    pytest.param(
        claim(storageClassName=""),
        FactReference(CLAIMS, "shop", "data"),
        Claim("shop", "data", "", ""),
        id="claim-that-wants-no-class",
    ),
    pytest.param(
        claim(selector={"matchLabels": {"a": "b"}}),
        FactReference(CLAIMS, "shop", "data"),
        Claim("shop", "data", "", None, has_selector=True),
        id="claim-that-picks-its-volume",
    ),
    pytest.param(
        an("Node", metadata={"labels": {ZONE: "a"}}, status={"allocatable": {"memory": "62Gi"}}),
        FactReference(NODES, "", "x"),
        Node("x", {ZONE: "a"}, (), 62 * 2**30),
        id="node",
    ),
    pytest.param(
        an("Node", spec={"taints": [{"key": "db", "effect": "NoSchedule"}, {"key": "a", "value": "b", "effect": "c"}]}),
        FactReference(NODES, "", "x"),
        Node("x", {}, (Taint("db", "", "NoSchedule"), Taint("a", "b", "c")), 0),
        id="tainted-node-that-does-not-say-its-memory",
    ),
    pytest.param(
        an("Namespace", metadata={"labels": {"team": "sre"}}),
        FactReference(NAMESPACES, "", "x"),
        {"team": "sre", "kubernetes.io/metadata.name": "x"},
        id="namespace-has-its-name-as-a-label",
    ),
    pytest.param(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": None},
        FactReference(NAMESPACES, "", ""),
        {"kubernetes.io/metadata.name": ""},
        id="null-metadata",
    ),
    pytest.param(
        claim("data", spec=None) | {"spec": None, "metadata": {"generateName": "data-", "labels": None}},
        FactReference(CLAIMS, "default", "data-"),
        Claim("default", "data-", "", None),
        id="nulls-and-a-generated-name",
    ),
]


@pytest.mark.parametrize(("obj", "reference", "fact"), RECORDS)
def test_records(obj: Object, reference: FactReference, fact: object) -> None:
    assert read_fact(obj, KINDS) == (reference, fact)
    # The items of the API server's lists say neither their kind nor its version.
    bare = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    assert decode_fact(reference.kind, json.dumps(bare).encode()) == (reference, fact)


MI = 2**20


@pytest.mark.parametrize(
    ("written", "default", "request_", "least", "most"),
    [
        pytest.param({"default": "512Mi", "defaultRequest": "256Mi"}, 512, 256, None, None, id="as-written"),
        pytest.param({"default": "512Mi"}, 512, 512, None, None, id="the-request-from-the-default"),
        pytest.param({"max": "1Gi"}, 1024, 1024, None, 1024, id="the-default-from-the-maximum"),
        pytest.param({"min": "64Mi"}, None, 64, 64, None, id="the-request-from-the-minimum"),
        pytest.param({"default": "512Mi", "max": "1Gi", "min": "1Mi"}, 512, 512, 1, 1024, id="the-default-goes-first"),
        pytest.param({"default": "0", "max": "1Gi"}, 0, 0, None, 1024, id="zero-is-a-value"),
        pytest.param({"default": 536870912}, 512, 512, None, None, id="a-number"),
    ],
)
def test_limits_of_a_container_are_defaulted_as_the_api_does(
    written: Object, default: int | None, request_: int | None, least: int | None, most: int | None
) -> None:
    sizes = [None if size is None else size * MI for size in (default, request_, least, most)]
    (reference, (found,)) = read_fact(limits(item(**written)), KINDS) or pytest.fail("no fact")
    assert reference == FactReference(LIMIT_RANGES, "shop", "limits")
    assert [found.default, found.default_request, found.min, found.max, found.max_ratio] == [*sizes, None]


@pytest.mark.parametrize(
    ("items", "facts"),
    [
        pytest.param(
            [item("Pod", max="1Gi")],
            [("Pod", None, 1024 * MI, None)],
            id="a-pods-maximum-is-nobodys-default",
        ),
        pytest.param(
            [item("PersistentVolumeClaim", max="no quantity"), item("openshift.io/Image")], [], id="other-types"
        ),
        pytest.param(
            [item(maxLimitRequestRatio="1500m")],
            [("Container", None, None, 1.5)],
            id="a-ratio-is-a-quantity",
        ),
        pytest.param(
            [{"type": "Container", "default": {"cpu": "1"}, "max": None}],
            [("Container", None, None, None)],
            id="of-cpu-only",
        ),
    ],
)
def test_limit_range_items(items: list[Object], facts: list[tuple[str, int | None, int | None, float | None]]) -> None:
    (reference, found) = read_fact(limits(*items), KINDS) or pytest.fail("no fact")
    assert reference == FactReference(LIMIT_RANGES, "shop", "limits")
    assert [
        (limit_range.type, limit_range.default, limit_range.max, limit_range.max_ratio) for limit_range in found
    ] == facts


def test_of_a_limit_range_with_thousands_of_resources_few_are_kept() -> None:
    amounts = {f"hugepages-{number}Ki": "1" for number in range(3000)} | {"memory": "1Gi"}
    (_, (found,)) = read_fact(limits({"type": "Container", "max": amounts}), KINDS) or pytest.fail("no fact")
    assert (found.max, found.default, len(found.item.max)) == (1 << 30, 1 << 30, 101)


NULLS = json.loads((DATA / "nulls.json").read_text())


@pytest.mark.parametrize(
    "case",
    [case for case in NULLS if case["sent"]["kind"] == "LimitRange" and not isinstance(case["create"], str)],
    ids=lambda case: json.dumps(case["create"]),
)
def test_null_amounts_are_read_as_the_api_server_reads_them(case: Any) -> None:
    stored = {**case["sent"], "spec": {"limits": [case["create"]]}}
    assert read_fact(case["sent"], KINDS) == read_fact(stored, KINDS)


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(
            {"apiVersion": "longhorn.io/v1beta2", "kind": "Node", "metadata": {"name": "a"}}, id="longhorns-node"
        ),
        pytest.param({"apiVersion": "v1", "kind": "StorageClass", "metadata": {"name": "a"}}, id="no-core-class"),
        pytest.param({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, id="secret"),
        pytest.param({"kind": "Node", "metadata": {"name": "a"}} | {"apiVersion": "x/v1"}, id="another-group"),
        pytest.param({}, id="nothing"),
    ],
)
def test_other_kinds_are_no_facts(obj: Object) -> None:
    assert read_fact(obj, KINDS) is None
    assert NO_FACTS.with_objects([obj], KINDS) is NO_FACTS


@pytest.mark.parametrize(
    ("obj", "error", "message"),
    [
        pytest.param(
            claim(volumeName=5),
            BadObject,
            "PersistentVolumeClaim shop/data: spec.volumeName is 5: expected `str | null`, got `int`",
            id="number-for-text",
        ),
        pytest.param(
            an("Node") | {"metadata": []},
            BadObject,
            "Node: metadata is []: expected `object | null`, got `array`",
            id="list-for-map",
        ),
        pytest.param(
            an("StorageClass", "fast", parameters={"numberOfReplicas": 3}),
            BadObject,
            "StorageClass fast: parameters.numberOfReplicas is 3, not a string: write it in quotes",
            id="unquoted-parameter",
        ),
        pytest.param(
            an("Namespace", metadata={"labels": {"on": True}}),
            BadObject,
            "Namespace x: metadata.labels.on is True, not a string: write it in quotes",
            id="unquoted-label",
        ),
        pytest.param(
            an("PersistentVolume", spec={"csi": "ebs"}),
            BadObject,
            "PersistentVolume x: spec.csi is 'ebs': expected `object | null`, got `str`",
            id="text-for-a-volumes-source",
        ),
        pytest.param(
            an("PersistentVolume", spec={"nodeAffinity": {"required": {"nodeSelectorTerms": [{}, 7]}}}),
            BadObject,
            "PersistentVolume x: spec.nodeAffinity.required.nodeSelectorTerms[1] is 7: expected `object`, got `int`",
            id="number-for-a-term",
        ),
        pytest.param(
            limits(item(), item(max="1GB")),
            BadQuantity,
            "LimitRange shop/limits: spec.limits[1].max.memory: '1GB' is not a quantity: write 1G or 1Gi",
            id="limit-range-quantity",
        ),
        pytest.param(
            limits(item(maxLimitRequestRatio="two")),
            BadQuantity,
            "LimitRange shop/limits: spec.limits[0].maxLimitRequestRatio.memory: 'two' is not a quantity: "
            "write a number and a suffix, such as 512Mi",
            id="ratio",
        ),
        pytest.param(
            an("Node", status={"allocatable": {"memory": ["64Gi"]}}),
            BadQuantity,
            "Node x: status.allocatable.memory: ['64Gi'] is not a quantity: write a number and a suffix, such as 512Mi",
            id="node-memory",
        ),
    ],
)
def test_a_malformed_object_names_itself_the_field_and_the_value(
    obj: Object, error: type[ForestallError], message: str
) -> None:
    with pytest.raises(error) as raised:
        NO_FACTS.with_objects([obj], KINDS)
    assert str(raised.value) == message
    with pytest.raises(error) as raised:
        decode_fact(next(kind for kind in KINDS if kind.kind == obj["kind"]), json.dumps(obj).encode())
    assert str(raised.value) == message


def test_a_dump_knows_every_kind() -> None:
    read_at = datetime(2026, 11, 21, tzinfo=UTC)
    facts = facts_of([an("Node", "a"), an("Namespace", "b"), claim(), an("Secret")], read_at=read_at)
    assert facts.known == set(KINDS)
    found = {kind: set(facts.of(kind)) for kind in facts.known if facts.of(kind)}
    assert found == {NODES: {"a"}, NAMESPACES: {"b"}, CLAIMS: {("shop", "data")}}
    assert facts.read_at == read_at


def test_facts_pass_from_one_process_to_another() -> None:
    facts = facts_of([an("Node", "a"), claim(), limits(item(max="1Mi"))])
    there = pickle.loads(pickle.dumps(facts))
    assert (there.known, there.of(NODES), there.of(CLAIMS)) == (facts.known, facts.of(NODES), facts.of(CLAIMS))


# A kind of fact that none of our policies reads -----------------------------------------------------------------------


class Engine(msgspec.Struct, frozen=True):
    name: str
    size: int


class _Spec(WirePart):
    size: int | None = None


class _Engine(Wire):
    spec: _Spec | None = None


def engines(key: FactKey = "name") -> FactKind[Any, Any]:
    def read(reference: FactReference, _: object, wired: _Engine) -> Any:
        engine = Engine(reference.name, (wired.spec and wired.spec.size) or 0)
        return (engine,) if key == "namespace" else engine

    group, resource = "longhorn.io", "engines"
    return FactKind(group=group, kind="Engine", resource=resource, wire=_Engine, read=read, key=key, version="v1beta2")


def engine(name: str, size: int = 1, namespace: str = "shop") -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "longhorn.io/v1beta2", "kind": "Engine", "metadata": metadata, "spec": {"size": size}}


@pytest.mark.parametrize(
    ("kind", "records"),
    [
        pytest.param(engines("name"), {"a": Engine("a", 3), "b": Engine("b", 2)}, id="by-name"),
        pytest.param(
            engines("namespace and name"),
            {("shop", "a"): Engine("a", 3), ("shop", "b"): Engine("b", 2)},
            id="by-namespace-and-name",
        ),
        pytest.param(engines("namespace"), {"shop": (Engine("b", 2), Engine("a", 3))}, id="all-of-a-namespace"),
    ],
)
def test_records_are_found_by_the_key_of_their_kind(kind: FactKind[Any, Any], records: Any) -> None:
    before = objects_facts.facts_of([engine("a"), engine("b", 2)], [kind])
    after = before.with_objects([engine("a", 3)], [kind])
    assert (after.of(kind), after.known) == (records, {kind})


@pytest.mark.parametrize("key", ["name", "namespace and name", "namespace"])
def test_nothing_has_to_be_known_of_an_object(key: FactKey) -> None:
    some = engines(key)
    large = dataclasses.replace(some, read=lambda *of: some.read(*of) if of[2].spec.size > 1 else None)
    known = objects_facts.facts_of([engine("a"), engine("b", 2)], [large])
    assert len(known.of(large)) == 1
    gone = known.with_objects([engine("b", 1)], [large])
    assert (dict(gone.of(large)), gone.known) == ({}, {large})


class TestFactKind:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            pytest.param(NODES, "nodes", id="core"),
            pytest.param(STORAGE_CLASSES, "storageclasses.storage.k8s.io", id="with-its-group"),
        ],
    )
    def test_kubectl_takes_its_full_resource(self, kind: FactKind[Any, Any], name: str) -> None:
        assert kind.full_resource == name

    def test_kinds_of_one_name_in_two_groups_are_two(self) -> None:
        other: FactKind[str, None] = FactKind(
            group="longhorn.io", kind="Node", resource="nodes", wire=Wire, read=lambda *_: None
        )
        assert NODES not in {other}
        facts = objects_facts.facts_of([an("Node", "a")], [other, NODES])
        assert (set(facts.of(NODES)), set(facts.of(other))) == ({"a"}, set())


class TestWithObjects:
    def test_only_what_is_touched_is_copied(self) -> None:
        before = facts_of([an("Node", "a"), claim()])
        after = before.with_objects([an("Node", "b")], KINDS)
        assert (set(before.of(NODES)), set(after.of(NODES))) == ({"a"}, {"a", "b"})
        assert after.of(CLAIMS) is before.of(CLAIMS)
        assert after.known == before.known

    def test_what_kinds_were_seen_does_not_change(self) -> None:
        assert NO_FACTS.with_objects([an("Node", "a")], KINDS).known == frozenset()

    def test_a_limit_range_is_replaced_by_name(self) -> None:
        before = facts_of(
            [
                limits(item(max="1Mi"), item("Pod", max="8Mi"), name="a"),
                limits(item(max="2Mi"), name="b"),
                limits(item(max="3Mi"), name="a", namespace="other"),
            ]
        )
        after = before.with_objects([limits(item(max="4Mi"), name="a")], KINDS)
        assert [(limit_range.name, limit_range.max) for limit_range in after.of(LIMIT_RANGES)["shop"]] == [
            ("b", 2 * MI),
            ("a", 4 * MI),
        ]
        assert after.of(LIMIT_RANGES)["other"] == before.of(LIMIT_RANGES)["other"]
        assert len(before.of(LIMIT_RANGES)["shop"]) == 3

    def test_a_limit_range_without_items_leaves_none(self) -> None:
        assert facts_of([limits(item(max="1Mi"))]).with_objects([limits()], KINDS).of(LIMIT_RANGES) == {"shop": ()}

    def test_absent_is_remembered_until_it_turns_up(self) -> None:
        gone = FactReference(CLAIMS, "shop", "data")
        other = FactReference(STORAGE_CLASSES, "", "fast")
        facts = NO_FACTS.with_facts([], absent=[gone, other])
        assert facts.absent == {gone, other}
        assert facts.with_objects([claim()], KINDS).absent == {other}

    @pytest.mark.parametrize(
        ("seen", "applied", "expected"),
        [
            pytest.param({"volumeName": "pv"}, {}, ("pv", None), id="applying-a-claim-does-not-unbind-it"),
            pytest.param({"volumeName": "pv", "storageClassName": "a"}, {}, ("pv", "a"), id="nor-take-its-class"),
            pytest.param({"storageClassName": "a"}, {"storageClassName": ""}, ("", ""), id="but-a-class-is-a-class"),
            pytest.param({"volumeName": "pv"}, {"volumeName": "other"}, ("other", None), id="and-a-volume-a-volume"),
        ],
    )
    def test_a_claim_that_is_there(self, seen: Object, applied: Object, expected: tuple[str, str | None]) -> None:
        found = facts_of([claim(**seen)]).with_objects([claim(**applied)], KINDS).of(CLAIMS)["shop", "data"]
        assert (found.volume, found.storage_class) == expected

    def test_a_namespace_keeps_the_labels_that_it_has(self) -> None:
        facts = facts_of([an("Namespace", metadata={"labels": {"a": "1", "b": "1"}})])
        after = facts.with_objects([an("Namespace", metadata={"labels": {"b": "2"}})], KINDS)
        assert after.of(NAMESPACES)["x"] == {"a": "1", "b": "2", "kubernetes.io/metadata.name": "x"}

    def test_a_class_that_is_yet_to_be_made_is_the_newest(self) -> None:
        old = an("StorageClass", "old", metadata={"creationTimestamp": "2020-01-01T00:00:00Z"})
        facts = facts_of([old]).with_objects([an("StorageClass", "old"), an("StorageClass", "new")], KINDS)
        assert facts.of(STORAGE_CLASSES)["old"].created == "2020-01-01T00:00:00Z"
        assert max(facts.of(STORAGE_CLASSES).values(), key=lambda storage_class: storage_class.created).name == "new"


@pytest.mark.parametrize(
    ("labels", "zone"),
    [
        pytest.param({ZONE: "a", OLD_ZONE: "b"}, "a", id="the-new-label-first"),
        pytest.param({ZONE: "", OLD_ZONE: "b"}, "b", id="an-empty-one-says-nothing"),
        pytest.param({}, "", id="none"),
    ],
)
def test_zone_of(labels: dict[str, str], zone: str) -> None:
    assert zone_of(labels) == zone


@pytest.mark.parametrize(
    ("metadata", "spec", "name"),
    [
        pytest.param({}, {}, None, id="the-default"),
        pytest.param({}, {"storageClassName": None}, None, id="null-is-the-default"),
        pytest.param({}, {"storageClassName": ""}, "", id="none-on-purpose"),
        pytest.param(
            {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}},
            {"storageClassName": "new"},
            "old",
            id="the-annotation-wins",
        ),
        pytest.param({"annotations": None}, {"storageClassName": "new"}, "new", id="null-annotations"),
    ],
)
def test_claim_class(metadata: Object, spec: Object, name: str | None) -> None:
    assert claim_class(metadata, spec) == name


def test_terms_hold_labels_and_fields() -> None:
    term = {
        "matchExpressions": [{"key": ZONE, "operator": "NotIn", "values": ["a"]}, {"key": "gpu", "operator": "Exists"}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}],
    }
    assert read_terms({"nodeSelectorTerms": [term, {"matchExpressions": None}]}, "required") == (
        (
            Requirement(ZONE, "NotIn", ("a",)),
            Requirement("gpu", "Exists", ()),
            Requirement("metadata.name", "In", ("node-1",)),
        ),
        (),
    )
    with pytest.raises(BadObject, match=r"^required\.nodeSelectorTerms\[0\]\.matchFields is 'x': expected"):
        read_terms({"nodeSelectorTerms": [{"matchFields": "x"}]}, "required")


def test_what_repeats_is_kept_once() -> None:
    def disk(name: str) -> Object:
        attributes = {"storage.kubernetes.io/csiProvisionerIdentity": "1-ebs"}
        source = {"driver": "ebs.csi.aws.com", "volumeAttributes": attributes}
        return an("PersistentVolume", name, spec={"csi": source, "nodeAffinity": in_zones("zone-a")})

    bodies = [json.dumps(disk(name)).encode() for name in ("a", "b")]
    (_, first), (_, second) = (decode_fact(VOLUMES, body) for body in bodies)
    assert isinstance(first, Volume)
    assert isinstance(second, Volume)
    assert first.node_affinity is second.node_affinity
    assert first.attributes is second.attributes
    assert first.driver is second.driver
