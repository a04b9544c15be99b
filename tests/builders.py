"""Objects and requests for tests: a test shows only what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from webhook.config import Config, load_config
from webhook.loader import load_policies, watched_kinds
from webhook.objects import facts as objects_facts
from webhook.objects.config_maps import CONFIG_MAPS
from webhook.objects.facts import NAMESPACES, NO_FACTS, ClusterFacts
from webhook.policy import AdmissionRequest, Object

TODAY = date(2026, 11, 21)
ROOT = Path(__file__).resolve().parents[1]
KINDS = tuple(dict.fromkeys((*watched_kinds(), NAMESPACES)))
"""The kinds of facts that are listed: those that policies read, and the one that the controller reads in any case."""
FILE_KINDS = (*KINDS, CONFIG_MAPS)
"""Those that files may hold besides."""
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared"


def container(name: str = "web", image: str = "nginx:1.27", **fields: Any) -> Object:
    return {"name": name, "image": image, **fields}


def sized(limit: str | int | None, request: str | int | None = None) -> Object:
    resources: Object = {}
    if limit is not None:
        resources["limits"] = {"memory": limit}
    if request is not None:
        resources["requests"] = {"memory": request}
    return {"resources": resources}


def pod_spec(*containers: Object, **fields: Any) -> Object:
    return {"containers": list(containers) or [container()], **fields}


def workload(kind: str = "Deployment", *containers: Object, name: str = "web", **fields: Any) -> Object:
    """A workload with these containers; `fields` go into the pod spec."""
    spec = pod_spec(*containers, **fields)
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    metadata = {"name": name, "namespace": "shop"}
    versions = {
        "Pod": "v1",
        "PodTemplate": "v1",
        "ReplicationController": "v1",
        "CronJob": "batch/v1",
        "Job": "batch/v1",
        "DeploymentConfig": "apps.openshift.io/v1",
        "Rollout": "argoproj.io/v1alpha1",
    }
    top = {"apiVersion": versions.get(kind, "apps/v1"), "kind": kind, "metadata": metadata}
    match kind:
        case "Pod":
            return {**top, "spec": spec}
        case "PodTemplate":
            return {**top, "template": template}
        case "CronJob":
            return {**top, "spec": {"jobTemplate": {"spec": {"template": template}}}}
        case _:
            return {**top, "spec": {"template": template}}


def custom(kind: str, spec: Object, name: str = "main") -> Object:
    """A resource of the Prometheus operator."""
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": metadata, "spec": spec}


def request(obj: Object, old: Object | None = None, **fields: Any) -> AdmissionRequest:
    """A CREATE of the object, or an UPDATE where the old one is given."""
    group, _, version = str(obj["apiVersion"]).rpartition("/")
    metadata = obj["metadata"]
    given: dict[str, Any] = {
        "operation": "UPDATE" if old else "CREATE",
        "group": group,
        "version": version,
        "kind": obj["kind"],
        "namespace": metadata.get("namespace", "default"),
        "name": metadata.get("name", ""),
        "object": obj,
        "old_object": old,
        "user": "jane",
    }
    return AdmissionRequest(**{**given, **fields})


def facts(*objects: Object) -> ClusterFacts:
    """The facts in these objects, as from files: no kind counts as known."""
    return NO_FACTS.with_objects(objects, FILE_KINDS)


def facts_of(objects: Iterable[Object], read_at: datetime | None = None) -> ClusterFacts:
    """A cluster that holds these objects and no others."""
    return objects_facts.facts_of(objects, FILE_KINDS, read_at=read_at)


def config_map(name: str = "prometheus", namespace: str = "shop", **texts: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key.replace("_", "."): text for key, text in texts.items()},
    }


def limit_range(name: str = "defaults", namespace: str = "shop", **item: Any) -> Object:
    """A LimitRange of type Container; `item` in the API's names, memory amounts alone: default="512Mi"."""
    limits = {key: {"memory": value} for key, value in item.items()}
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": metadata,
        "spec": {"limits": [{"type": "Container", **limits}]},
    }


def kubeconfig(cluster: Mapping[str, str], user: Mapping[str, str] | None = None, name: str = "test") -> str:
    """The text of one with a single context: `cluster` says the server and its authority, `user` the credentials."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(document)


def config(text: str = "") -> Config:
    return load_config(text.encode(), "config.yaml")


def every_policy(settings: str = "mode: 'off'", **others: str) -> str:
    """The configuration's entry that gives all policies these settings, but those named ("memory_limits") others."""
    given = {name: others.get(name.replace("-", "_"), settings) for name in load_policies()}
    return f"policies: {{{', '.join(f'{name}: {{{text}}}' for name, text in given.items())}}}"


def recordings(*files: str) -> Iterable[dict[str, Any]]:
    """Reviews that a real API server sent, each with its scenario and path."""
    for file in files:
        for line in (SHARED / "recordings" / file).read_text().splitlines():
            yield json.loads(line)
