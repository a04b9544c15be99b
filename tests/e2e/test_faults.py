"""What an attacker, or a bad day, does to a server while it is asked: nobody is refused for it, nothing is unchecked.

SOAK_SECONDS repeats all of it for so long (make soak); memory then has to stay where the first round left it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from charts.generate import CHART
from tests.builders import limit_range
from tests.cluster_fixture import control_plane
from tests.e2e.guarded import CONFIG, Guarded, Server, claim, deployment, prepare
from tests.e2e.load import Load, show_table
from tests.e2e.test_hostile_bytes import DENIED, FIELDS_V1, PATCHED, VALUES, send, with_bytes, workload
from tests.e2e.test_policies import TOO_LITTLE, prometheus
from tests.loopback import eventually
from tests.served import Client
from webhook.objects.quantities import parse_memory

DEPLOYMENTS, CLAIMS, LIMIT_RANGES, PODS = (
    "/apis/apps/v1/namespaces/attacked/deployments",
    "/api/v1/namespaces/attacked/persistentvolumeclaims",
    "/api/v1/namespaces/attacked/limitranges",
    "/api/v1/namespaces/attacked/pods",
)
ATTACKER = "127.0.0.2"
"""The API server's own address is another one."""
_ROUND_SECONDS = 3.0
_MEGABYTE = 1_000_000
_SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with control_plane(tmp_path) as plane:
        server = Server(plane.folder, prepare(plane))
        server.start()
        try:
            made = Guarded(plane, server)
            made.install()
            for name in ("shop", "attacked"):
                made.make_namespace(name)
            yield made
        finally:
            server.stop()


def create(guarded: Guarded, path: str, body: bytes, status: int = 201) -> None:
    assert send(guarded, path, body).status == status, path


def for_a_while(attack: Callable[[], object]) -> None:
    end = time.monotonic() + _ROUND_SECONDS
    while time.monotonic() < end:
        attack()


# Faults


def nothing(_: Guarded) -> None:
    time.sleep(_ROUND_SECONDS)


def bytes_that_are_no_utf_8(guarded: Guarded) -> None:
    _hostile_fields(guarded, VALUES["no-utf-8-in-a-key"])


def deep_managed_fields(guarded: Guarded) -> None:
    _hostile_fields(guarded, VALUES["deep-maps"])


def _hostile_fields(guarded: Guarded, value: bytes) -> None:
    path = f"{DEPLOYMENTS}?dryRun=All"
    bodies = [
        (expected, with_bytes(workload("Deployment", "attacked", "web", image), FIELDS_V1, value))
        for expected, image in ((PATCHED, "nginx:1.27"), (DENIED, "prom/prometheus:v3.1.0"))
    ]

    def attack() -> None:
        for expected, body in bodies:
            assert send(guarded, path, body) == expected

    for_a_while(attack)


def a_claim_and_a_limit_range_that_are_deep(guarded: Guarded) -> None:
    """What is made after them is known all the same."""
    entry = {"manager": "me", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
    for path, obj in ((CLAIMS, claim("deep", "attacked")), (LIMIT_RANGES, limit_range("deep", default="1Gi"))):
        obj["metadata"] |= {"managedFields": [entry], "namespace": "attacked"}
        create(guarded, path, with_bytes(obj, FIELDS_V1, VALUES["deep-maps"]))
    web = json.dumps(deployment("web", "attacked", {"name": "web", "image": "nginx:1.27"})).encode()
    # The LimitRange's own default is enough: nothing is patched any more.
    eventually(lambda: send(guarded, f"{DEPLOYMENTS}?dryRun=All", web).limit is None)
    guarded.kubectl("delete", "limitrange,persistentvolumeclaim", "--all", "-n", "attacked")
    eventually(lambda: send(guarded, f"{DEPLOYMENTS}?dryRun=All", web).limit == "512Mi")


def amounts_from_hell(guarded: Guarded) -> None:
    made = limit_range("hell", maxLimitRequestRatio="1e400", max="1e5000")
    made["metadata"]["namespace"] = "attacked"
    create(guarded, LIMIT_RANGES, json.dumps(made).encode())
    denied = json.dumps(prometheus("attacked", TOO_LITTLE)).encode()
    for_a_while(lambda: create(guarded, f"{DEPLOYMENTS}?dryRun=All", denied, 403))
    guarded.kubectl("delete", "limitrange", "--all", "-n", "attacked")


def a_review_of_28_mb(guarded: Guarded) -> None:
    """By a status, which the API server fills with defaults and then drops."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "large", "namespace": "attacked"}}
    pod["spec"] = {"containers": [{"name": "web", "image": "nginx:1.27"}]}
    body = with_bytes(pod, ("status", "containerStatuses"), b"[" + b",".join([b"{}"] * 300_000) + b"]")
    create(guarded, PODS, body, 403)


def large_reviews(guarded: Guarded) -> None:
    """What is stored has 1.4 MB, of signs that Go writes as six."""
    web = workload("Deployment", "attacked", "web", "prom/prometheus:v3.1.0")
    body = with_bytes(web, ("metadata", "annotations", "note"), b'"' + b"<" * 200_000 + b'"')
    for_a_while(lambda: create(guarded, f"{DEPLOYMENTS}?dryRun=All", body, 403))


def a_thousand_replicas_of_a_long_name(guarded: Guarded) -> None:
    """The API server refuses such a name, but not before /mutate has been asked."""
    template = {"metadata": {"name": "d" * 900_000}, "spec": claim("data", "attacked")["spec"]}
    obj = prometheus("attacked", TOO_LITTLE, replicas=1_000)
    obj = {**obj, "kind": "StatefulSet", "spec": {**obj["spec"], "volumeClaimTemplates": [template]}}
    path = DEPLOYMENTS.replace("deployments", "statefulsets") + "?dryRun=All"
    create(guarded, path, json.dumps(obj).encode(), 422)


def a_configuration_of_unfilled_templates(guarded: Guarded) -> None:
    guarded.server.refuse_configuration("policies: {{ .Values.policies }}\n")
    time.sleep(_ROUND_SECONDS)
    guarded.server.configure(CONFIG)


def bodies_that_are_held_back(guarded: Guarded) -> None:
    head = b"POST /validate?timeout=5s HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(Client(guarded.server.port, address=ATTACKER))
            with contextlib.suppress(OSError):  # cut: there is no room for all of them
                client.send(head + b" " * (8_388_608 - 10))
        time.sleep(_ROUND_SECONDS)


def idle_connections(guarded: Guarded) -> None:
    """Many more than there are descriptors."""
    with limited(guarded, resource.RLIMIT_NOFILE, 100), ExitStack() as stack:
        for _ in range(5):
            for _ in range(200):
                with contextlib.suppress(OSError):
                    connected = socket.create_connection(("127.0.0.1", guarded.server.port), 5, (ATTACKER, 0))
                    stack.enter_context(connected)
            time.sleep(0.5)


def nothing_can_be_written(guarded: Guarded) -> None:
    """No log, no metrics: no file of a worker may grow."""
    with limited(guarded, resource.RLIMIT_FSIZE, 0):
        time.sleep(_ROUND_SECONDS)
    eventually(lambda: guarded.server.metric("forestall_unwritten_metrics_total") > 0)


@contextmanager
def limited(guarded: Guarded, which: int, most: int) -> Iterator[None]:
    """The workers under this limit meanwhile."""
    before = {pid: resource.prlimit(pid, which) for pid in guarded.server.processes[1:]}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, which, (most, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, which, limits)


FAULTS: dict[str, Callable[[Guarded], None]] = {
    "nothing": nothing,
    "bytes that are no UTF-8 in managedFields": bytes_that_are_no_utf_8,
    "managedFields of 9,900 levels": deep_managed_fields,
    "a claim and a LimitRange with such fields": a_claim_and_a_limit_range_that_are_deep,
    "a LimitRange of 1e400 and 1e5000": amounts_from_hell,
    "reviews of 1.2 MB": large_reviews,
    "a review of 28 MB": a_review_of_28_mb,
    "1,000 replicas and a name of 900 kB": a_thousand_replicas_of_a_long_name,
    "a configuration of unfilled templates": a_configuration_of_unfilled_templates,
    "8 bodies of 8 MiB, held back": bodies_that_are_held_back,
    "1,000 idle connections, 100 descriptors": idle_connections,
    "no file can be written to": nothing_can_be_written,
}


class Row(NamedTuple):
    fault: str
    requests: int
    failed: int
    """Refused for want of an answer, by the client's own count."""
    unchecked: int
    """Admitted though it was to be patched or denied. What a fault itself sends is asserted where it is sent."""
    megabytes: int
    """What the server's processes hold once it is over: their proportional set size."""


def suffer(guarded: Guarded, name: str, strange: list[str]) -> Row:
    with Load(guarded.plane, "shop") as load:
        FAULTS[name](guarded)
        time.sleep(1)
    counted = load.counted
    strange += load.strange
    failed = counted.total() - counted["answered"] - counted["unchecked"]
    memory = sum(map(pss_of, guarded.server.processes))
    return Row(name, counted.total(), failed, counted["unchecked"], round(memory / _MEGABYTE))


def pss_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def test_no_fault_costs_anybody_else_an_answer(guarded: Guarded, capsys: pytest.CaptureFixture[Any]) -> None:
    rows: list[Row] = []
    strange: list[str] = []
    processes = guarded.server.processes
    end = time.monotonic() + _SOAK_SECONDS
    try:
        while not rows or time.monotonic() < end:
            rows.extend(suffer(guarded, name, strange) for name in FAULTS)  # one by one: the table may end early
    finally:
        with capsys.disabled():  # the table is to be seen where all went well, too
            titles = ("fault", "requests", "failed", "unchecked", "memory at the end, MB")
            print("", show_table(titles, rows), *strange, sep="\n")
    assert [row for row in rows if row.failed or row.unchecked] == []
    assert [row for row in rows if row.requests < 10] == [], "there was hardly any load"
    assert guarded.server.processes == processes, "a process died"
    values = yaml.safe_load((CHART / "values.yaml").read_text())["server"]
    most = parse_memory(values["resources"]["limits"]["memory"]) / _MEGABYTE
    assert [row for row in rows if row.megabytes > most] == [], f"the chart gives a server {most:.0f} MB"
    assert rows[-1].megabytes <= 1.2 * rows[len(FAULTS) - 1].megabytes, "it grows from round to round"
