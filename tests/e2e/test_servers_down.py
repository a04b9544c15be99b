"""No server answers: what works all the same, how to get out, and how what came in is found afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.builders import ROOT
from tests.e2e.guarded import Object, deployment, memory_of
from tests.e2e.replicas import FORESTALL, HOOKS, SYSTEM, Replicated, installed
from tests.loopback import eventually
from tests.test_readme import blocks
from webhook.controller.registration import STAGES

EMERGENCY_EXIT, *_ = blocks(ROOT / "docs" / "operations.md", "sh")
WEB = {"name": "web", "image": "nginx:1.27"}
NO_ANSWER = 'failed calling webhook "validate.forestall.dev"'


def run(installation: Replicated, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command with kubectl and forestall on the PATH."""
    environment = installation.plane.environment
    path = {"PATH": f"{FORESTALL.parent}{os.pathsep}{environment['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        env=environment | path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def web(namespace: str) -> Object:
    """A Deployment without limits."""
    return deployment("web", namespace, WEB)


def create(installation: Replicated, obj: Object, *arguments: str) -> subprocess.CompletedProcess[str]:
    return installation.plane.try_kubectl("create", "--filename=-", *arguments, input=json.dumps(obj))


def metric(installation: Replicated, sample: str) -> float:
    (controller,) = installation.controllers
    (value,) = re.findall(rf"^{re.escape(sample)} (\S+)$", controller.get("/metrics"), re.MULTILINE)
    return float(value)


def events(installation: Replicated) -> Counter[str]:
    """Why, and how often."""
    listed = json.loads(installation.plane.kubectl("get", "events", f"--namespace={SYSTEM}", "--output=json"))
    return Counter(item["reason"] for item in listed["items"] if item["involvedObject"]["name"] == "forestall-state")


def doctor(installation: Replicated, check: str) -> list[Any]:
    done = run(installation, "forestall doctor --output=json")
    return [found for found in json.loads(done.stdout)["checks"] if found["name"] == check]


# Fail


def test_failing_closed(tmp_path: Path) -> None:
    values = ("config.webhooks.failurePolicy=Fail", "config.excludeNamespaces={networking}")
    with installed(tmp_path, *values) as installation:
        (server,), plane = installation.servers, installation.plane
        for namespace in ("networking", "shop"):
            plane.kubectl("create", "namespace", namespace)
        server.kill()
        assert NO_ANSWER in create(installation, web("shop")).stderr

        the_cluster_s_own_parts_work(installation)
        assert create(installation, web("networking")).returncode == 0
        plane.kubectl("rollout", "status", "deployment/web", "--namespace=networking", "--timeout=60s")

        assert run(installation, EMERGENCY_EXIT).returncode == 0
        eventually(lambda: create(installation, web("shop")).returncode == 0, seconds=5)
        server.start()
        eventually(server.is_ready)
        it_stays_off(installation)

        assert run(installation, "forestall hooks on").stdout.startswith("on: ")
        eventually(lambda: plane.try_kubectl("get", HOOKS, "forestall").returncode == 0)
        plane.kubectl("delete", "deployment", "web", "--namespace=shop")
        eventually(
            lambda: ": patched to limits.memory=512Mi" in create(installation, web("shop"), "--dry-run=server").stderr
        )
        assert sum(off(installation)) == 0


def the_cluster_s_own_parts_work(installation: Replicated) -> None:
    plane = installation.plane
    pod = {"metadata": {"name": "dns", "namespace": "kube-system"}, "spec": {"containers": [WEB]}}
    assert create(installation, {"apiVersion": "v1", "kind": "Pod", **pod}).returncode == 0
    plane.kubectl("wait", "pod/dns", "--namespace=kube-system", "--for=condition=Ready", "--timeout=60s")
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    for namespace in ("kube-system", "shop"):
        made = {**lease, "metadata": {"name": "leader", "namespace": namespace}, "spec": {"holderIdentity": "me"}}
        assert create(installation, made).returncode == 0
    heartbeat = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "TestBeats"}]}}
    plane.kubectl("patch", "node", "node-0", "--subresource=status", f"--patch={json.dumps(heartbeat)}")
    plane.kubectl("label", "node", "node-0", "rack=7")


def it_stays_off(installation: Replicated) -> None:
    """A server is ready, the controller looks every five seconds, and says what it sees instead of mending it."""
    eventually(lambda: sum(off(installation)) == 2)
    seen_at = metric(installation, _HOOKS_LOOKED_AT)
    eventually(lambda: metric(installation, _HOOKS_LOOKED_AT) >= seen_at + 5)
    assert installation.plane.kubectl("get", HOOKS, "--output=name") == ""
    assert events(installation)["HooksOff"] == 2
    assert [check["status"] for check in doctor(installation, "hooks")] == ["fail", "fail"]


_HOOKS_LOOKED_AT = 'forestall_controller_last_success_timestamp_seconds{part="hooks"}'


def off(installation: Replicated) -> list[float]:
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    return [metric(installation, f'forestall_hooks_off{{configuration="{kind}"}}') for kind in kinds]


# Ignore


def test_what_came_in_is_found_within_a_minute(tmp_path: Path) -> None:
    with installed(tmp_path) as installation:
        (server,), plane = installation.servers, installation.plane
        plane.kubectl("create", "namespace", "shop")
        eventually(lambda: ": patched to " in create(installation, web("shop"), "--dry-run=server").stderr)
        # There is one from before the configurations were written.
        eventually(lambda: in_gap(installation) == [0, 0])
        gaps_before, events_before = gaps(installation), events(installation)
        server.kill()
        eventually(lambda: is_unpatched(create(installation, web("shop"), "--dry-run=server", "--output=json")))
        assert create(installation, web("shop")).returncode == 0
        eventually(lambda: in_gap(installation) == [1, 1])

        server.start()
        eventually(server.is_ready)
        recovered_at = time.monotonic()
        eventually(lambda: in_gap(installation) == [0, 0])
        (gap,) = gaps(installation)[len(gaps_before) :]
        assert (gap["stages"], gap["reason"]) == (["mutate", "validate"], "no answer")
        assert gap["began"] < gap["ended"]
        assert events(installation) - events_before == {"GapBegan": 1, "GapEnded": 1}
        assert all(metric(installation, f'forestall_gap_seconds_total{{stage="{stage}"}}') > 0 for stage in STAGES)
        found = [check["seen"] for check in doctor(installation, "gaps")]
        assert len([seen for seen in found if seen.startswith("Deployment shop/web")]) == 1, found
        assert time.monotonic() - recovered_at < 60


def is_unpatched(done: subprocess.CompletedProcess[str]) -> bool:
    return memory_of(json.loads(done.stdout)) == (None, None)


def gaps(installation: Replicated) -> list[Any]:
    state = installation.cluster.get(f"/api/v1/namespaces/{SYSTEM}/configmaps/forestall-state")
    found: list[Any] = json.loads(((state or {}).get("data") or {}).get("gaps", "{}")).get("gaps", [])
    return found


def in_gap(installation: Replicated) -> list[float]:
    return [metric(installation, f'forestall_gap{{stage="{stage}"}}') for stage in STAGES]
