"""The corpus of rendered charts on a cluster: a namespace for each file, with all that its pods need to get a node."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.builders import request
from tests.e2e.followed import Key, key_of
from tests.e2e.guarded import OPERATOR, UNGUARDED, Guarded, Object, guarded_plane, storage_class, volume
from tests.loopback import eventually
from tests.test_corpus import manifests
from webhook.cluster.client import Cluster
from webhook.objects.facts import claim_class
from webhook.objects.pods import read_workload

ZONES = {f"node-{index}": zone for index, zone in enumerate(("zone-a", "zone-b", "zone-c"))}
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}
# The classes that the corpus names, as they are where it comes from.
CLASSES = [storage_class(name, "ebs.csi.aws.com") for name in ("gp2", "gp3", "standard", "thin-disk", "managedssd")]
_SCHEDULED_SECONDS = 60.0
_AT_ONCE = 30


@contextmanager
def corpus_cluster(folder: Path) -> Iterator[Guarded]:
    """A guarded cluster with the storage classes that the corpus names, and room for all of it."""
    with guarded_plane(folder) as guarded:
        guarded.kubectl("delete", "storageclass", "ebs", "ebs-regional")
        default, *others = CLASSES
        guarded.apply({**default, "metadata": {**default["metadata"], "annotations": DEFAULT}}, *others)
        room = {"cpu": "1000", "memory": "4Ti", "pods": "2000"}
        status = json.dumps({"status": {"allocatable": room, "capacity": room}})
        guarded.kubectl("patch", "nodes", *ZONES, "--subresource=status", "-p", status)
        yield guarded


class Estate:
    """The corpus in one situation: a namespace for each file, with its workloads and what they need.

    What makes disks, and the Prometheus operator, are played.
    """

    def __init__(self, guarded: Guarded, prefix: str, *, bound: bool = False) -> None:
        """With `bound`, all claims are there, and their disks are in zone-b."""
        self.guarded, self.prefix, self.is_bound = guarded, prefix, bound
        self.cluster = Cluster.from_kubeconfig(guarded.plane.kubeconfig)
        self.files: dict[str, str] = {}
        """By namespace, the file that it holds."""
        self.accounts: list[Object] = []
        self.claims: list[Object] = []
        self.workloads: list[Object] = []
        for manifest in manifests():
            name = re.sub("[^a-z0-9]+", "-", manifest.file.removesuffix(".yaml"))
            obj = moved(manifest.object, f"{prefix}-{name}")
            self.files[f"{prefix}-{name}"] = manifest.file
            if obj["kind"] == "ServiceAccount":
                self.accounts.append(obj)
            elif obj["kind"] == "PersistentVolumeClaim":
                self.claims.append(obj)
            elif read_workload(request(obj)):
                self.workloads.append(obj)

    @property
    def namespaces(self) -> list[str]:
        return sorted({obj["metadata"]["namespace"] for obj in self.workloads})

    def enter(self) -> None:
        """Make the namespaces; their objects aren't judged yet."""
        labels = {UNGUARDED: "", "situation": self.prefix}
        top = {"apiVersion": "v1", "kind": "Namespace"}
        self.guarded.apply(*({**top, "metadata": {"name": name, "labels": labels}} for name in self.namespaces))
        eventually(lambda: {key.namespace for key in self.all("serviceaccounts")} >= {*self.namespaces})
        self.guarded.apply(*self.accounts)

    def store_claims(self) -> None:
        """Make the claims; with `bound` those of templates, too, and the disks of all."""
        made = [claim for obj in self.workloads for claim in claims_of(obj)] if self.is_bound else []
        claims = list({key_of(claim): claim for claim in [*self.claims, *made]}.values())
        self.guarded.apply(*claims)
        if self.is_bound:
            self.guarded.apply(*(disk(claim, ["zone-b"]) for claim in claims))
            eventually(lambda: len(self.bound()) == len(claims), f"of {len(claims)} claims not all are bound")

    def guard(self) -> None:
        """From now on what happens there is judged."""
        self.guarded.kubectl("label", "namespace", "-l", f"situation={self.prefix}", f"{UNGUARDED}-")
        self.guarded.guard(self.namespaces[-1])

    def leave(self) -> None:
        self.guarded.kubectl("delete", "namespace", "-l", f"situation={self.prefix}", "--wait=false")

    def applied(self, objects: list[Object], *arguments: str) -> str:
        """What kubectl prints of it, some at a time: it is given a minute."""
        chunks = (objects[start : start + _AT_ONCE] for start in range(0, len(objects), _AT_ONCE))
        return "".join(self.guarded.try_apply(*chunk, arguments=arguments).stderr for chunk in chunks)

    def all(self, resource: str, group: str = "api/v1") -> dict[Key, Object]:
        """What there is of it in our namespaces."""
        listed: Any = self.cluster.get(f"/{group}/{resource}")
        found = ({**obj, "kind": listed["kind"].removesuffix("List")} for obj in listed["items"])
        return {key_of(obj): obj for obj in found if obj["metadata"]["namespace"].startswith(f"{self.prefix}-")}

    def bound(self) -> set[str]:
        """The uids of the claims that have a volume."""
        claims = self.all("persistentvolumeclaims").values()
        return {claim["metadata"]["uid"] for claim in claims if claim["status"].get("phase") == "Bound"}

    def provision(self) -> None:
        """Make the disks of claims whose pod has a node, in its zone, and those that are made by hand."""
        for claim in self.all("persistentvolumeclaims").values():
            node = claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
            is_by_hand = bool(claim["spec"].get("volumeName")) and claim["status"].get("phase") == "Pending"
            if (node and not claim["spec"].get("volumeName")) or is_by_hand:
                spans = claim["spec"].get("storageClassName") == "regional"
                made = disk(claim, [ZONES[node]] if node and not spans else list(ZONES.values()))
                if not self.cluster.get(f"/api/v1/persistentvolumes/{made['metadata']['name']}"):
                    self.cluster.create("/api/v1/persistentvolumes", made)

    def run(self, objects: list[Object]) -> None:
        """What makes pods where the control plane's own controllers don't: an operator, or the clock."""
        made = [as_operator(self.guarded.get(obj["kind"], *place_of(obj))) for obj in objects if is_operated(obj)]
        if made:
            documents = "\n".join(map(json.dumps, made))
            self.guarded.kubectl(
                *("apply", "-f", "-", f"--as={OPERATOR}", "--as-group=system:masters"), input=documents
            )
        for obj in objects:
            if obj["kind"] == "CronJob":
                name, namespace = place_of(obj)
                self.guarded.kubectl("create", "job", f"{name[:50]}-now", f"--from=cronjob/{name}", "-n", namespace)

    def unscheduled(self, objects: list[Object]) -> dict[Key, str]:
        """Of these workloads, those of which no pod gets a node, and why."""
        waiting = {key_of(obj) for obj in objects}

        def all_run() -> bool:
            self.provision()
            waiting.difference_update(key for above, pod in self.pods() if pod["spec"].get("nodeName") for key in above)
            return not waiting or time.sleep(0.5) is not None

        try:
            eventually(all_run, seconds=_SCHEDULED_SECONDS)
        except AssertionError:
            return {key: f"admitted, but not scheduled: {self._why(key)}" for key in waiting}
        return {}

    def pods(self) -> list[tuple[set[Key], Object]]:
        """The pods that are not being deleted, and all that each belongs to."""
        owned = {**self.all("pods"), **self.all("jobs", "apis/batch/v1")}
        owned |= {**self.all("replicasets", "apis/apps/v1"), **self.all("statefulsets", "apis/apps/v1")}
        above = {key: {owner_of(key, owner) for owner in owners_of(obj)} for key, obj in owned.items()}
        pods = [(key, obj) for key, obj in owned.items() if key.kind == "pod"]
        return [(_all_above(key, above), pod) for key, pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def _why(self, key: Key) -> str:
        pods = [pod for above, pod in self.pods() if key in above]
        conditions = [condition for pod in pods for condition in pod["status"].get("conditions", [])]
        return next((one["message"] for one in conditions if one.get("message")), f"{len(pods)} pods")


def moved(given: Object, namespace: str) -> Object:
    """The object in this namespace, as far as it must differ where all charts share three nodes.

    No pod has a node's port; none is cleared away before it is seen; each workload has a pod; the one zone that a chart
    names is ours.
    """
    obj: Object = json.loads(json.dumps(given).replace("us-east-1a", "zone-c"))
    obj["metadata"]["namespace"] = namespace
    spec = obj.get("spec") or {}
    if spec.get("replicas") == 0:
        spec["replicas"] = 1
    if volume_name := obj["kind"] == "PersistentVolumeClaim" and spec.get("volumeName"):
        spec["volumeName"] = f"{namespace}-{volume_name}"
    spec.pop("ttlSecondsAfterFinished", None)
    pod = (spec.get("template") or {}).get("spec") or {}
    pod.pop("hostNetwork", None)
    for container in pod.get("containers") or ():
        for port in container.get("ports") or ():
            port.pop("hostPort", None)
    return obj


def _all_above(key: Key, above: Mapping[Key, set[Key]]) -> set[Key]:
    return {key}.union(*(_all_above(owner, above) for owner in above.get(key, ())))


def owners_of(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def owner_of(key: Key, owner: Object) -> Key:
    return key._replace(kind=owner["kind"].lower(), name=owner["name"])


def place_of(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["name"], obj["metadata"]["namespace"]


def is_operated(obj: Object) -> bool:
    return str(obj["apiVersion"]).startswith("monitoring.coreos.com/")


def claims_of(obj: Object) -> list[Object]:
    """The claims that are made of the workload's templates."""
    made = as_operator(obj) if is_operated(obj) else obj
    templates = made["spec"].get("volumeClaimTemplates") or []
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": f"{template['metadata']['name']}-{made['metadata']['name']}-{ordinal}",
                "namespace": obj["metadata"]["namespace"],
                "labels": template["metadata"].get("labels") or {},
            },
            "spec": template["spec"],
        }
        for template in templates
        for ordinal in range(made["spec"].get("replicas", 1))
    ]


def disk(claim: Object, zones: list[str]) -> Object:
    (name, namespace), spec = place_of(claim), claim["spec"]
    class_name = claim_class(claim["metadata"], spec)
    class_name = CLASSES[0]["metadata"]["name"] if class_name is None else class_name
    made = volume(spec.get("volumeName") or f"{namespace}-{name}", namespace, name, zones, class_name)
    made["spec"] |= {"accessModes": spec["accessModes"], "capacity": spec["resources"]["requests"]}
    return made


def as_operator(obj: Object) -> Object:
    """The StatefulSet that the Prometheus operator makes of one of its resources, as far as pods and disks go."""
    kind, name, spec = obj["kind"].lower(), obj["metadata"]["name"], obj["spec"]
    full, labels = f"{kind}-{name}", {"operated": f"{kind}-{name}"[:63]}
    container = {"name": kind, "image": spec.get("image") or kind, "resources": spec.get("resources") or {}}
    pod: dict[str, Any] = {field: spec[field] for field in ("nodeSelector", "affinity", "tolerations") if field in spec}
    pod["containers"] = [container, *spec.get("containers", [])]
    made = {"replicas": spec.get("replicas", 1), "serviceName": full, "selector": {"matchLabels": labels}}
    made["template"] = {"metadata": {"labels": labels}, "spec": pod}
    if template := (spec.get("storage") or {}).get("volumeClaimTemplate"):
        made["volumeClaimTemplates"] = [{"metadata": {"name": f"{full}-db"}, "spec": template["spec"]}]
    uid = obj["metadata"].get("uid")
    owner = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": name, "uid": uid, "controller": True}
    metadata = {"name": full, "namespace": obj["metadata"]["namespace"], "ownerReferences": [owner] if uid else []}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": made}
