"""Changes around a server: the API server restarts, the server dies and comes back, its certificate changes."""

from __future__ import annotations

import json

from tests.e2e.guarded import Guarded, claim, deployment
from tests.e2e.test_policies import prometheus
from tests.e2e.texts import patched, told
from tests.loopback import eventually

WEB = {"name": "web", "image": "nginx:1.27"}


def test_facts_come_back_when_the_api_server_restarts(cluster: Guarded, namespace: str) -> None:
    cluster.plane.restart_api_server()
    limits = [{"type": "Container", "default": {"memory": "512Mi"}}]
    metadata = {"name": "defaults", "namespace": namespace}
    limit_range = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
    web = json.dumps(deployment("web", namespace, WEB))
    dry_run = ("apply", "--dry-run=server", "-f", "-")
    assert cluster.try_kubectl(*dry_run, input=web).stderr == patched("web")
    cluster.apply(limit_range)
    eventually(lambda: cluster.try_kubectl(*dry_run, input=web).stderr == "", "the LimitRange is not seen")
    cluster.apply(claim("data", namespace))
    assert told(cluster.try_apply(prometheus(namespace, claim_name="data")).stderr)


def test_nothing_slips_by_while_it_is_dead_and_it_comes_back(cluster: Guarded, namespace: str) -> None:
    cluster.server.kill()
    try:
        done = cluster.try_apply(deployment("web", namespace, WEB))
        assert done.returncode == 1
        # What /mutate would have patched is for /validate to refuse: it alone fails closed.
        assert 'failed calling webhook "validate.forestall.dev"' in done.stderr
    finally:
        cluster.server.start()
    assert cluster.apply(deployment("web", namespace, WEB)) == patched("web")
    cluster.running(namespace)


def test_it_ends_when_told_to(cluster: Guarded, namespace: str) -> None:
    assert cluster.server.stop() == 0
    cluster.server.start()
    assert cluster.apply(deployment("web", namespace, WEB)) == patched("web")


def test_no_policy_failed_and_no_request_was_refused(cluster: Guarded) -> None:
    """Over everything that this session has sent."""
    lines = [json.loads(line) for line in cluster.server.log_file.read_text().splitlines()]
    # What a test has made too large on purpose is undecided, and no policy can decide it.
    too_large = {line["uid"] for line in lines if line.get("reason") == "it is larger than 20 MiB"}
    serious = [line for line in lines if line["level"] in ("warning", "error") and line.get("uid") not in too_large]
    events = {line["event"] for line in serious}
    expected = ("configuration refused, the last good one stays", "cannot read", "look-up failed")
    assert [event for event in events if not event.startswith(expected)] == []
