"""What SECURITY.md says of ControllerRevisions: a StatefulSet's pods come from them, and nobody judges those."""

from __future__ import annotations

import json

from tests.e2e.guarded import Guarded, Object, deployment, memory_of

EDITOR = "jane"


def stateful_set(namespace: str, image: str) -> Object:
    """Whose only pod keeps the revision that it has."""
    obj = deployment("db", namespace, {"name": "web", "image": image})
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    return obj | {"kind": "StatefulSet", "spec": obj["spec"] | {"updateStrategy": strategy}}


def test_two_rights_on_controller_revisions_suffice(cluster: Guarded, namespace: str) -> None:
    """To delete one, and to create another of its name: no right to any status."""
    as_editor = (f"--as={EDITOR}", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "edit", "--clusterrole=edit", f"--user={EDITOR}", "-n", namespace)
    can = cluster.try_kubectl("auth", "can-i", "create", "controllerrevisions.apps", *as_editor).stdout.strip()
    assert can == "no", "the role edit has the rights by itself"
    cluster.kubectl(
        "create", "role", "revise", "--verb=create,delete", "--resource=controllerrevisions.apps", "-n", namespace
    )
    cluster.kubectl("create", "rolebinding", "revise", "--role=revise", f"--user={EDITOR}", "-n", namespace)

    cluster.apply(stateful_set(namespace, "nginx:1.27"))
    assert [memory_of(pod) for pod in cluster.running(namespace)] == [("256Mi", "512Mi")]
    current = cluster.get("statefulset", "db", namespace)["status"]["currentRevision"]
    cluster.apply(stateful_set(namespace, "nginx:1.28"))

    revision = cluster.get("controllerrevision", current, namespace)
    kept = {key: revision["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    revision["data"]["spec"]["template"]["spec"]["containers"] = [{"name": "web", "image": "nginx:1.27"}]
    cluster.kubectl("delete", "controllerrevision", current, *as_editor)
    cluster.kubectl("create", "-f", "-", *as_editor, input=json.dumps({**revision, "metadata": kept}))
    cluster.kubectl("delete", "pod", "db-0", *as_editor)
    assert [memory_of(pod) for pod in cluster.running(namespace)] == [(None, None)]
