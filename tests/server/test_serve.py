"""The server as the API server meets it: a real process, real TLS, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.builders import KINDS, ROOT, SHARED, request, workload
from tests.loopback import eventually
from tests.served import Client, Server, post, review, served
from webhook import log as logs
from webhook.certs import make_self_signed
from webhook.config import Config, load_config
from webhook.engine import decide
from webhook.errors import FactsUnavailable
from webhook.files.facts import read_facts
from webhook.installation import PROBE_LABEL
from webhook.log import ReviewLine
from webhook.objects.facts import CLAIMS, NO_FACTS, STORAGE_CLASSES, Claim, ClusterFacts, Found
from webhook.policy import AdmissionRequest, Decision, FactReference, Object, Verdict, Violation
from webhook.server import judge as judge_module
from webhook.server import serve as server_module
from webhook.server.judge import Judge
from webhook.server.metrics import Metrics
from webhook.server.review import read_review, render_review
from webhook.server.serve import parse_duration

QUICK = "workers.READ_SECONDS = 0.8; workers._IDLE_SECONDS = 0.3; workers.BEAT_SECONDS = 0.1\n"
"""Deadlines that a test can wait for."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server"), QUICK) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """For tests that change or end it."""
    with served(tmp_path, QUICK) as running:
        yield running


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"POST /validate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def headed(head: str) -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n"


# Answers -------------------------------------------------------------------------------------------------------------


def test_denies(server: Server) -> None:
    response = server.ask(post(review("a-1"))).json
    assert response["apiVersion"] == "admission.k8s.io/v1"
    assert response["kind"] == "AdmissionReview"
    assert response["response"]["uid"] == "a-1"
    assert response["response"]["allowed"] is False
    assert response["response"]["status"]["code"] == 403
    assert response["response"]["status"]["reason"] == "Forbidden"
    assert "memory-limits" in response["response"]["status"]["message"]
    assert "patch" not in response["response"]


def test_patches(server: Server) -> None:
    response = server.ask(post(review("a-2"), "/mutate?timeout=5s")).response
    assert (response["uid"], response["allowed"], response["patchType"]) == ("a-2", True, "JSONPatch")
    assert "status" not in response


def test_several_requests_on_one_connection(server: Server) -> None:
    with server.client() as client:
        uids = [client.ask(post(review(str(number)))).response["uid"] for number in range(5)]
    assert uids == ["0", "1", "2", "3", "4"]


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with server.client() as client:
        client.send(b"".join(post(review(str(number))) for number in range(4)))
        assert [client.receive().response["uid"] for _ in range(4)] == ["0", "1", "2", "3"]


def test_chunked_body(server: Server) -> None:
    body = review("chunks")
    assert server.ask(chunked(body[:10], body[10:500], body[500:])).response["uid"] == "chunks"


def test_expect_continue(server: Server) -> None:
    body = review("waited")
    with server.client() as client:
        client.send(headed(f"POST /validate HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: {len(body)}"))
        assert client.receive().status == 100
        assert client.ask(body).response["uid"] == "waited"


def test_http2_is_not_negotiated(server: Server) -> None:
    with server.client(alpn=["h2", "http/1.1"]) as client:
        assert client.socket.selected_alpn_protocol() == "http/1.1"
        assert client.socket.version() == "TLSv1.3"


def test_one_log_line_per_review_without_the_object(server: Server) -> None:
    server.ask(
        post(review("logged", name="", object=workload(image="secret/image:1", metadata={"generateName": "web-"})))
    )
    (line,) = eventually(lambda: [entry for entry in server.logged("review") if entry["uid"] == "logged"])
    assert line.pop("milliseconds") > 0
    assert line.pop("time")
    assert line == {
        "event": "review",
        "level": "info",
        "stage": "validate",
        "uid": "logged",
        "operation": "CREATE",
        "kind": "Deployment",
        "subresource": "",
        "namespace": "shop",
        "name": "web",
        "user": "ann",
        "dry_run": False,
        "allowed": False,
        "violated": ["memory-limits"],
        "patched": [],
        "exempted": [],
        "violations": [
            {
                "policy": "memory-limits",
                "outcome": "denied",
                "field": "spec.template.spec.containers[0].resources.limits.memory",
                "container": "web",
            }
        ],
    }
    assert "secret/image" not in json.dumps(server.log())


def test_the_log_says_where_tls_is_spoken(server: Server) -> None:
    (line,) = [str(entry["event"]) for entry in server.log() if "Listening at" in str(entry["event"])]
    assert re.fullmatch(rf"Listening at: https://\S+:{server.port},http://\S+:{server.metrics_port} \(\d+\)", line)


@pytest.mark.skipif(not (SHARED / "recordings").is_dir(), reason="no ../shared/recordings")
@pytest.mark.parametrize("file", ["people.jsonl", "charts.jsonl"])
def test_every_recorded_review_gets_the_verdict_of_decide(server: Server, file: Path) -> None:
    config, facts = load_config(b"", ""), read_facts(server.folder / "facts.yaml", KINDS)
    today = datetime.now(UTC).date()
    with server.client() as client:
        for line in (SHARED / "recordings" / file).read_text().splitlines():
            recorded = json.loads(line)
            body = json.dumps(recorded["review"]).encode()
            stage = "mutate" if recorded["path"].startswith("/mutate") else "validate"
            request = read_review(body)
            expected = render_review(request, decide(request, facts, config, today=today, stage=stage), stage, config)
            assert client.ask(post(body, recorded["path"])).body == expected, recorded["scenario"]


# Hostile input -------------------------------------------------------------------------------------------------------

MIB = 2**20


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        pytest.param(post(b""), 400, "not an AdmissionReview", id="empty"),
        pytest.param(post(b"{"), 400, "not an AdmissionReview", id="not-json"),
        pytest.param(post(b"\xff\xfe\x00"), 400, "not an AdmissionReview", id="binary"),
        pytest.param(post(b"[]"), 400, "not an AdmissionReview", id="a-list"),
        pytest.param(post(b"[" * 200_000), 400, "got `array`", id="deep-list"),
        pytest.param(post(b'{"request":' * 200_000), 400, "not an AdmissionReview", id="deep-mapping"),
        pytest.param(post(review().replace(b"k8s.io/v1", b"k8s.io/v1beta1")), 400, "v1beta1", id="v1beta1"),
        pytest.param(post(review().replace(b'"AdmissionReview"', b'"Review"')), 400, "'Review'", id="another-kind"),
        pytest.param(
            post(b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}'), 400, "no request", id="no"
        ),
        pytest.param(post(review(uid="")), 400, "uid", id="no-uid"),
        pytest.param(post(review(object=None)), 400, "CREATE without an object", id="no-object"),
        pytest.param(post(review(), "/"), 404, "no such path", id="wrong-path"),
        pytest.param(post(review(), "/validate/"), 404, "no such path", id="path-with-more"),
        pytest.param(post(review(), "/metrics"), 404, "no such path", id="path-of-the-other-port"),
        pytest.param(headed("GET /validate HTTP/1.1\nHost: x"), 405, "reviews are posted", id="get"),
        pytest.param(
            headed("GET /validate HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket"),
            405,
            "reviews are posted",
            id="websocket",
        ),
        pytest.param(headed("PUT /mutate HTTP/1.1\nHost: x\nContent-Length: 0"), 405, "reviews are posted", id="put"),
        pytest.param(post(b" " * (21 * MIB)), 400, "it is larger than 20 MiB", id="too-large-and-no-review"),
        pytest.param(headed("POST /validate HTTP/1.1\nHost: x\nContent-Length: -1"), 400, "", id="negative-length"),
        pytest.param(headed("POST /validate HTTP/1.1\nHost: x\nContent-Length: 1e3"), 400, "", id="length-in-words"),
        pytest.param(
            headed("POST /validate HTTP/1.1\nHost: x\nContent-Length: 5\nTransfer-Encoding: chunked"),
            400,
            "",
            id="both",
        ),
        pytest.param(
            headed("POST /validate HTTP/1.1\nHost: x\n" + "a: b\n" * 200 + "c: d"), 431, "", id="many-headers"
        ),
        pytest.param(headed("POST /validate HTTP/1.1\nHost: x\na: " + "b" * 20_000), 431, "", id="long-header"),
        pytest.param(headed("POST /" + "a" * 20_000 + " HTTP/1.1\nHost: x"), 414, "", id="long-path"),
        pytest.param(b"\x16\x03\x01 hello\r\n\r\n", 400, "", id="garbage"),
    ],
)
def test_refused_in_one_line(server: Server, data: bytes, status: int, text: str) -> None:
    with server.client() as client:
        with contextlib.suppress(OSError):
            client.send(data)
        answer = client.receive()
        assert answer is not None
        assert (answer.status, text in answer.body.decode()) == (status, True), answer
        assert answer.body.decode().count("\n") <= 1
        if status == 405:
            assert answer.headers["allow"] == "POST"
    assert server.ask(post(review("after"))).response["uid"] == "after"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(
            review(object={"metadata": [1]}), "got `array` - at `$.request.object.metadata`", id="odd-metadata"
        ),
        pytest.param(review().replace(b'"spec"', b'"spec": nul, "x"', 1), "JSON is malformed", id="malformed"),
    ],
)
def test_an_unreadable_object_is_undecided(server: Server, body: bytes, text: str) -> None:
    undecided = server.metric('forestall_undecided_reviews_total{stage="validate"')
    for path in ("/mutate", "/validate"):
        response = server.ask(post(body, path)).response
        assert (response["uid"], response["allowed"], "patch" in response) == ("1", True, False)
        assert any("the object can't be read" in warning and text in warning for warning in response["warnings"])
    eventually(lambda: server.metric('forestall_undecided_reviews_total{stage="validate"') == undecided + 1)
    (line,) = [
        line for line in server.logged("review undecided") if text in line["reason"] and line["stage"] == "validate"
    ]
    assert (line["uid"], line["kind"], line["namespace"], line["name"], line["user"], line["allowed"]) == (
        *("1", "Deployment", "shop", "web", "ann", True),
    )


def test_a_probe_is_told_of_undecided_reviews(own_server: Server) -> None:
    config_map = {"group": "", "version": "v1", "kind": "ConfigMap"}
    labelled = {"metadata": {"labels": {PROBE_LABEL: "n-1"}}}
    probe = post(review(kind=config_map, object=labelled, dryRun=True))
    assert own_server.ask(probe).response["warnings"] == ["forestall probe n-1 validate"]
    now = int(time.time())
    own_server.ask(post(review(object=[])))
    # Of either worker.
    told = eventually(lambda: own_server.ask(probe).response["warnings"][1:])
    _, _, stage, began, ended = told[0].split()
    assert stage == "validate"
    assert now <= int(began) <= int(ended) <= time.time()


def test_the_largest_review_is_read(server: Server) -> None:
    body = review("large")
    response = server.ask(post(body + b" " * (20 * MIB - len(body)), "/mutate")).response
    assert (response["uid"], "patch" in response) == ("large", True)


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_a_larger_review_is_undecided(server: Server, path: str) -> None:
    body = review("larger", object={**workload(), "status": "<" * (20 * MIB)})
    response = server.ask(post(body, path)).response
    assert (response["uid"], response["allowed"], "patch" in response) == ("larger", True, False)
    assert "could not decide: the object can't be read: it is larger than 20 MiB" in response["warnings"][0]


def test_on_error_decides_about_a_larger_review(own_server: Server) -> None:
    own_server.config.write_text("policies: {memory-limits: {mode: deny, onError: deny}}\n")
    eventually(lambda: own_server.logged("configuration reloaded"))
    body = review("larger", object={**workload(), "status": "<" * (20 * MIB)})
    eventually(lambda: not own_server.ask(post(body)).response["allowed"])
    response = own_server.ask(post(body, "/mutate")).response
    assert (response["allowed"], "patch" in response) == (True, False)


def test_more_than_announced_is_another_request(server: Server) -> None:
    with server.client() as client:
        body = review("first")
        client.send(post(body) + b"surplus\r\n\r\n")
        assert client.receive().response["uid"] == "first"
        assert client.receive().status == 400
        assert client.receive() is None


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST /validate HTTP/1.1\r\nHost: x\r\nContent-", id="half-a-header"),
        pytest.param(post(review())[:-10], id="half-a-body"),
        pytest.param(chunked(review())[:-10], id="half-a-chunk"),
        pytest.param(post(review()) + b"POST /validate HT", id="half-a-second-request"),
    ],
)
def test_half_a_request_is_cut_off_and_holds_up_nobody(server: Server, part: bytes) -> None:
    slow = [server.client() for _ in range(30)]
    began = time.monotonic()
    for client in slow:
        client.send(part)
    assert server.ask(post(review("meanwhile"))).response["uid"] == "meanwhile"
    for client in slow:
        answers = list(iter(client.receive, None))
        assert [answer.status for answer in answers if answer.status != 408] in ([], [200])
        client.close()
    assert time.monotonic() - began < 10


def test_a_request_in_drops_is_cut_off(server: Server) -> None:
    with server.client() as client:
        for byte in post(review()):
            if select.select([client.socket], [], [], 0.01)[0]:
                break
            client.send(bytes([byte]))
        else:
            pytest.fail("all of it was taken")
        assert client.receive().status == 408
        assert client.receive() is None


def test_idle_connections_stay(server: Server) -> None:
    with server.client() as client:
        client.ask(post(review()))
        time.sleep(1.7)  # more than twice what half a request is given
        assert client.ask(post(review("later"))).response["uid"] == "later"


def test_connections_are_bounded(tmp_path: Path) -> None:
    with served(tmp_path, "workers.CONNECTIONS = 8", workers=1) as running, running.client() as used:
        for _ in range(5):
            used.ask(post(review()))
        silent = [running.client() for _ in range(10)]
        idle = []
        for _ in range(10):
            idle.append(running.client())
            assert idle[-1].ask(post(review())).status == 200
        assert used.ask(post(review("used"))).response["uid"] == "used"  # the one that asks most often stays
        for client in silent:
            assert client.receive() is None  # all of them had to go
        for client in silent + idle:
            client.close()


def test_the_connection_of_a_client_that_has_few_stays(tmp_path: Path) -> None:
    with (
        served(tmp_path, "workers.CONNECTIONS = 8", workers=1) as running,
        running.client(address="127.0.0.2") as used,
        contextlib.ExitStack() as stack,
    ):
        assert used.ask(post(review())).status == 200
        for _ in range(20):
            greedy = stack.enter_context(running.client())
            for _ in range(3):
                assert greedy.ask(post(review())).status == 200
        assert used.ask(post(review("used"))).response["uid"] == "used"


FEW_DESCRIPTORS = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))"


def test_connections_without_a_handshake_make_way(tmp_path: Path) -> None:
    """More of them than the process has descriptors, from one address: another one's handshake succeeds."""
    with served(tmp_path, FEW_DESCRIPTORS, workers=1) as running, contextlib.ExitStack() as stack:
        children = running.children()
        for _ in range(10):
            for _ in range(50):
                stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10))
            with running.client(address="127.0.0.2") as client:
                assert client.ask(post(review("meanwhile"))).response["uid"] == "meanwhile"
        assert running.metric("forestall_unwritten_metrics_total") == 0
        assert (running.children(), running.logged("connection not accepted")) == (children, [])


def test_who_holds_bodies_back_costs_no_other_review(tmp_path: Path) -> None:
    patch = "from webhook.server import connection; connection.HELD_BYTES = 3_000_000"
    body = review("large")
    body += b" " * (900_000 - len(body))
    with served(tmp_path, patch, workers=1) as running, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(running.client()).send(post(body)[:-10])
        assert {running.ask(post(body)).status for _ in range(20)} == {200}


class Pipe:
    """A server's output, which goes into its log file as long as somebody reads."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._end, self.stdout = os.pipe()
        self.is_read = threading.Event()
        self.is_read.set()
        self._thread = threading.Thread(target=self._copy)
        self._thread.start()

    def _copy(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while part := os.read(self._end, 2**16):
                log.write(part)
                self.is_read.wait()

    def close(self) -> None:
        self.is_read.set()
        os.close(self.stdout)
        self._thread.join()
        os.close(self._end)


def test_a_log_that_nobody_reads_stops_no_answer(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "log")
    with contextlib.closing(pipe), served(tmp_path, "logs._KEPT_BYTES = 50_000", stdout=pipe.stdout) as running:
        pipe.is_read.clear()
        with running.client() as one, running.client() as other:
            for _ in range(300):
                for client in (one, other):
                    assert client.ask(post(review(name="n" * 253))).status == 200
        eventually(lambda: running.metric("forestall_dropped_log_lines_total") > 0)
        running.configure("mode: audit\n")  # the parent logs as well, and goes on
        eventually(lambda: _verdicts(running) == {True})
        pipe.is_read.set()
        (line, *_) = eventually(lambda: running.logged("log lines dropped: nobody took them"))
        assert line["lines"] > 0


def test_probes_survive_half_a_request(server: Server) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.metrics_port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHo")
    assert server.get("/healthz") == (200, "ok\n")
    for connection in slow:
        connection.close()


def test_no_tls_is_no_harm(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.settimeout(10)
        assert b"HTTP" not in plain.recv(100)
    assert server.ask(post(review("after"))).response["uid"] == "after"


# Time ----------------------------------------------------------------------------------------------------------------

RUNAWAY = """
import time
def runaway(*args, **kwargs):
    while True:
        time.sleep(0)
judge.decide_in_transition = runaway
"""
SWALLOWING = """
import time
def swallowing(*args, **kwargs):
    for _ in range(3):
        try:
            while True:
                pass
        except Exception:
            pass
    while True:
        pass
judge.decide_in_transition = swallowing
"""


UNREAD = """
from policies.memory_limits import policy
from webhook.errors import FactsUnavailable
def unread(request):
    raise FactsUnavailable("LimitRanges could not be read")
policy.read_workload = unread
"""


def test_facts_that_could_not_be_read_are_told_as_that(tmp_path: Path) -> None:
    with served(tmp_path, UNREAD, workers=1) as running:
        response = running.ask(post(review("unread"))).response
        assert response["warnings"] == [
            "Deployment web: memory-limits: could not decide: LimitRanges could not be read"
        ]
        assert response["auditAnnotations"] == {"unknown": "memory-limits"}
        (line,) = eventually(lambda: running.logged("policy could not decide"))
        assert (line["level"], line["error"]) == ("warning", "LimitRanges could not be read")
        assert running.logged("policy failed") == []


@pytest.mark.parametrize("patch", [pytest.param(RUNAWAY, id="loop"), pytest.param(SWALLOWING, id="swallows-errors")])
def test_time_up_is_answered_as_on_error_says(tmp_path: Path, patch: str) -> None:
    with served(tmp_path, QUICK + patch, workers=1) as running:
        began = time.monotonic()
        response = running.ask(post(review("late"), "/validate?timeout=1s")).response
        assert time.monotonic() - began < 3
        assert (response["uid"], response["allowed"]) == ("late", True)
        assert any("could not decide" in warning for warning in response["warnings"])
        running.configure("policies: {memory-limits: {onError: deny}}")
        eventually(lambda: not running.ask(post(review(), "/validate?timeout=1s")).response["allowed"])
        eventually(lambda: running.metric('forestall_policy_errors_total{policy="memory-limits"}') >= 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("3s", 3, id="seconds"),
        pytest.param("1m30s", 90, id="minutes"),
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("1.5s", 1.5, id="fraction"),
        pytest.param("", None, id="empty"),
        pytest.param("3", None, id="no-unit"),
        pytest.param("-3s", None, id="negative"),
        pytest.param("٣s", None, id="other-digits"),
    ],
)
def test_parse_duration(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (pytest.approx(seconds) if seconds else None)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        pytest.param(b"timeout=3s", 2.9, id="asked"),
        pytest.param(b"timeout=500ms", 0.45, id="small"),
        pytest.param(b"timeout=30s", 9.9, id="never-longer"),
        pytest.param(b"", 9.9, id="not-asked"),
        pytest.param(b"timeout=soon", 9.9, id="nonsense"),
        pytest.param(b"a=b&timeout=1s", 0.9, id="among-others"),
    ],
)
def test_time_for_an_answer(query: bytes, seconds: float) -> None:
    assert server_module._seconds_for(query) == pytest.approx(seconds)


# Looking up what could not be seen -----------------------------------------------------------------------------------

CLAIM, CLASS = FactReference(CLAIMS, "shop", "data"), FactReference(STORAGE_CLASSES, "", "fast")


class Source:
    """Facts that hold nothing, and a cluster that answers as told."""

    facts = NO_FACTS
    can_look_up = True

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[list[FactReference]] = []

    def look_up(self, references: Collection[FactReference], timeout: float) -> Found:
        assert 0 < timeout <= 0.5
        self.asked.append(sorted(references, key=str))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            time.sleep(timeout + 0.3)
            return Found([], [])
        return Found(*answer)


def _decide_by_facts(request: AdmissionRequest, facts: ClusterFacts, config: Config, **_: object) -> Decision:
    """Sees the claim first, then the class that it names."""
    unseen: tuple[FactReference, ...] = ()
    if ("shop", "data") not in facts.of(CLAIMS):
        unseen = () if CLAIM in facts.absent else (CLAIM,)
    elif CLASS not in facts.absent:
        unseen = (CLASS,)
    text = f"claims={len(facts.of(CLAIMS))} absent={len(facts.absent)}"
    verdict = Verdict("memory-limits", "warn", "unknown", Violation("", "", text))
    return Decision(True, (verdict,), unseen=frozenset(unseen))


@pytest.mark.parametrize(
    ("answers", "asked", "text"),
    [
        pytest.param([([], [CLAIM])], [[CLAIM]], "claims=0 absent=1", id="absent"),
        pytest.param(
            [([(CLAIM, Claim("shop", "data", "", "fast"))], []), ([], [CLASS])],
            [[CLAIM], [CLASS]],
            "claims=1 absent=1",
            id="what-is-found-leads-on",
        ),
        pytest.param([([], [])], [[CLAIM]], "claims=0 absent=0", id="not-told"),
        pytest.param([FactsUnavailable("down")], [[CLAIM]], "claims=0 absent=0", id="cluster-down"),
        pytest.param([None], [[CLAIM]], "claims=0 absent=0", id="too-slow"),
    ],
)
def test_look_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: list[Any], asked: list[list[FactReference]], text: str
) -> None:
    monkeypatch.setattr(judge_module, "decide_in_transition", _decide_by_facts)
    source = Source(answers)
    judge = Judge(lambda: load_config(b"", ""), source, Metrics(tmp_path, 0, set(), []))
    now = time.monotonic()
    answer = json.loads(asyncio.run(judge.answer(request(workload()), "validate", now, now + 2)))
    assert source.asked == asked
    assert text in answer["response"]["warnings"][0]
    assert time.monotonic() - now < 0.75


EXEMPTED = b"""
exemptions:
  - {policy: memory-limits, match: {namespaces: [shop], images: [old]}, owner: sre, reason: later, until: 2999-12-31}
"""
OLD, NEW = {"name": "old", "image": "old:1"}, {"name": "new", "image": "new:1"}


@pytest.mark.parametrize(
    ("containers", "violated", "exempted", "outcomes"),
    [
        pytest.param([OLD], [], ["memory-limits"], [("old", "exempted")], id="exempted"),
        pytest.param([NEW], ["memory-limits"], [], [("new", "denied")], id="violated"),
        pytest.param(
            [OLD, NEW], ["memory-limits"], ["memory-limits"], [("old", "exempted"), ("new", "denied")], id="both"
        ),
    ],
)
def test_the_log_tells_exempted_from_violated(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    containers: list[Object],
    violated: list[str],
    exempted: list[str],
    outcomes: list[tuple[str, str]],
) -> None:
    lines: list[ReviewLine] = []
    monkeypatch.setattr(logs, "write_review", lines.append)
    judge = Judge(lambda: load_config(EXEMPTED, ""), Source([]), Metrics(tmp_path, 0, set(), []))
    now = time.monotonic()
    judge.answer(request(workload("Deployment", *containers)), "validate", now, now + 2)
    (line,) = lines
    assert (line.violated, line.exempted) == (violated, exempted)
    assert [(told.container, told.outcome) for told in line.violations] == outcomes


def test_a_probe_is_answered_before_anything_is_decided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judge_module, "decide_in_transition", None)
    judge = Judge(lambda: load_config(b"", ""), Source([]), Metrics(tmp_path, 0, set(), []))
    obj = {"kind": "ConfigMap", "metadata": {"labels": {PROBE_LABEL: "n-1"}}}
    probe = AdmissionRequest("CREATE", "", "v1", "ConfigMap", "forestall-system", "", obj, dry_run=True, uid="7")
    answer = json.loads(judge.answer(probe, "validate", 0, 0))
    assert answer["response"]["warnings"] == ["forestall probe n-1 validate"]


# Changing files ------------------------------------------------------------------------------------------------------


def _rsa_pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now.replace(year=now.year + 1))
    return (
        builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _served_serials(server: Server) -> set[int]:
    serials = set()
    for _ in range(10):  # of either worker
        with server.client() as client:
            serials.add(x509.load_der_x509_certificate(client.socket.getpeercert(binary_form=True)).serial_number)
    return serials


def _serial(chain: bytes) -> int:
    return x509.load_pem_x509_certificate(chain).serial_number


def test_certificate_is_reloaded_without_dropping_connections(own_server: Server) -> None:
    with own_server.client() as old:
        old.ask(post(review()))
        # A key of another type: OpenSSL would keep the old pair beside it.
        for chain, key in (_rsa_pair(), make_self_signed()):
            own_server.write_certificate(chain, key)
            eventually(lambda chain=chain: _served_serials(own_server) == {_serial(chain)})
        own_server.cert.write_bytes(b"nonsense")
        eventually(lambda: own_server.logged("certificate refused, the last good one stays"))
        eventually(lambda: own_server.metric("forestall_certificate_last_reload_successful") == 0)
        assert _served_serials(own_server) == {_serial(chain)}
        assert old.ask(post(review("still"))).response["uid"] == "still"
        own_server.cert.write_bytes(chain)
        eventually(lambda: own_server.metric("forestall_certificate_last_reload_successful") == 1)
    expiry = own_server.metric("forestall_certificate_expiry_timestamp_seconds")
    assert expiry == x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()


def test_waits_for_its_first_certificate(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    cert, key = tmp_path / "tls" / "tls.crt", tmp_path / "tls" / "tls.key"
    with served(tmp_path, QUICK, ready=503, tls_cert=cert, tls_key=key) as server:
        eventually(lambda: server.get("/readyz") == (503, "there is no certificate yet\n"))
        assert server.get("/healthz")[0] == 200
        with pytest.raises(ssl.SSLError):
            server.client()
        chain, private = make_self_signed()
        key.write_bytes(private)
        cert.write_bytes(chain)
        eventually(lambda: server.get("/readyz")[0] == 200)
        assert _served_serials(server) == {_serial(chain)}
        # From now on it is one that may not vanish.
        cert.unlink()
        eventually(lambda: server.logged("certificate refused, the last good one stays"))
        assert _served_serials(server) == {_serial(chain)}


def _verdicts(server: Server) -> set[bool]:
    return {server.ask(post(review())).response["allowed"] for _ in range(10)}


def test_configuration_is_reloaded_and_a_bad_one_refused(own_server: Server) -> None:
    assert _verdicts(own_server) == {False}
    own_server.configure("mode: audit\n")
    eventually(lambda: own_server.logged("configuration reloaded") and _verdicts(own_server) == {True})
    own_server.configure("\nmodus: deny\n")
    (line,) = eventually(lambda: own_server.logged("configuration refused, the last good one stays"))
    assert "config.yaml:2" in line["error"]
    eventually(lambda: own_server.metric("forestall_config_last_reload_successful") == 0)
    assert _verdicts(own_server) == {True}
    # A worker that comes now has never seen the good file: it gets what the others use.
    _kill_reviewers(own_server)
    assert _verdicts(own_server) == {True}
    own_server.configure("mode: deny\n")
    eventually(lambda: _verdicts(own_server) == {False})
    assert own_server.metric("forestall_config_last_reload_successful") == 1


def test_all_workers_follow_the_one_reader(tmp_path: Path) -> None:
    """They look every five seconds here, and have no chance to meet the good file themselves."""
    with served(tmp_path, "workers.BEAT_SECONDS = 5") as server:
        server.configure("mode: audit\n")
        eventually(lambda: server.logged("configuration reloaded"))
        server.configure("modus: deny\n")
        eventually(lambda: server.logged("configuration refused, the last good one stays"))
        eventually(lambda: _verdicts(server) == {True})
        _kill_reviewers(server)
        assert _verdicts(server) == {True}
        assert len(server.logged("configuration refused, the last good one stays")) == 1


def test_goes_on_patching_for_a_while_what_it_patched_before(tmp_path: Path) -> None:
    with served(tmp_path, "reloading.SETTLING = 60") as server:
        server.configure("mode: audit\n")
        eventually(lambda: _verdicts(server) == {True})
        assert all("patch" in server.ask(post(review(), "/mutate")).response for _ in range(10))
        _kill_reviewers(server)  # who comes now knows it as well
        assert all("patch" in server.ask(post(review(), "/mutate")).response for _ in range(10))


def _kill_reviewers(server: Server) -> None:
    """The first child answers probes."""
    before = server.children()
    for pid in before[1:]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(server.children()) == 3 and not set(before[1:]) & set(server.children()))
    eventually(lambda: server.get("/readyz")[0] == 200)


# Processes -----------------------------------------------------------------------------------------------------------


def test_metrics_add_up_over_workers_and_their_deaths(own_server: Server) -> None:
    reviews = "forestall_reviews_total"
    for _ in range(20):
        own_server.ask(post(review()))
    own_server.ask(post(b"{"))
    # Each worker writes in its own time.
    eventually(lambda: (own_server.metric(reviews), own_server.metric("forestall_refused_requests_total")) == (20, 1))
    denied = '{kind="Deployment",operation="CREATE",outcome="denied",stage="validate"}'
    assert f"{reviews}{denied} 20.0" in own_server.get("/metrics")[1]
    assert own_server.metric("forestall_request_seconds_count") == 20
    assert own_server.metric("forestall_facts_synced") == 1
    assert own_server.metric('forestall_policy_errors_total{policy="memory-limits"}') == 0
    _kill_reviewers(own_server)
    own_server.ask(post(review(kind={"group": "x", "version": "v1", "kind": "Strange"})))
    eventually(lambda: own_server.metric(reviews) == 21)
    assert f'{reviews}{{kind="other"' in own_server.get("/metrics")[1]


def test_dead_probes_come_back(own_server: Server) -> None:
    os.kill(own_server.children()[0], signal.SIGKILL)
    eventually(lambda: own_server.get("/readyz") == (200, "ok\n"))
    assert len(eventually(lambda: len(own_server.children()) == 3 and own_server.children())) == 3


def test_workers_end_with_their_parent(own_server: Server) -> None:
    children = own_server.children()
    os.kill(own_server.process.pid, signal.SIGKILL)
    own_server.process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        pytest.param("GET /healthz", 200, "ok\n", id="alive"),
        pytest.param("GET /readyz?verbose", 200, "ok\n", id="ready"),
        pytest.param("HEAD /readyz", 200, "", id="head"),
        pytest.param("GET /", 404, "no such page: /healthz, /readyz, /metrics\n", id="no-page"),
        pytest.param("POST /healthz", 405, "pages are only read\n", id="post"),
    ],
)
def test_probes(server: Server, request_: str, status: int, text: str) -> None:
    with socket.create_connection(("127.0.0.1", server.metrics_port), timeout=10) as plain:
        plain.sendall(headed(f"{request_} HTTP/1.1\nHost: x\nConnection: close"))
        head, _, body = b"".join(iter(lambda: plain.recv(4096), b"")).decode().partition("\r\n\r\n")
    assert (int(head.split()[1]), body) == (status, text)


def test_a_server_loads_nothing_for_people() -> None:
    program = "import sys, webhook.server.serve; print(*sorted({'flask', 'jinja2', 'werkzeug'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        pytest.param({"tls_cert": None, "tls_key": None}, "BadConfig: no certificate", id="no-certificate"),
        pytest.param({"tls_cert": Path("/a/b"), "tls_key": Path("/a/c")}, "BadCertificate: /a/b", id="no-folder"),
        pytest.param({"config": Path("/absent.yaml")}, "BadConfig: /absent.yaml", id="no-config"),
    ],
)
def test_does_not_begin(tmp_path: Path, settings: Mapping[str, Any], error: str) -> None:
    with pytest.raises(AssertionError, match=error), served(tmp_path, **settings):
        pass


# The end -------------------------------------------------------------------------------------------------------------


class Hammer(threading.Thread):
    """Sends reviews over keep-alive without ever trying again; a new connection only after an announced close."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.answered = 0
        self.cut: list[str] = []

    def run(self) -> None:
        while True:
            try:
                client = self.server.client()
            except OSError:
                return  # nobody listens any more: no request was begun
            with client:
                if not self._use(client):
                    return

    def _use(self, client: Client) -> bool:
        while True:
            try:
                client.send(post(review()))
                answer = client.receive()
            except OSError as error:
                self.cut.append(repr(error))
                return False
            if answer is None or answer.status != 200:
                self.cut.append(repr(answer))
                return False
            self.answered += 1
            if answer.headers.get("connection") == "close":
                return True


def test_the_end_cuts_no_request(own_server: Server) -> None:
    idle = own_server.client()
    idle.ask(post(review()))
    hammers = [Hammer(own_server) for _ in range(6)]
    for hammer in hammers:
        hammer.start()
    eventually(lambda: all(hammer.answered > 20 for hammer in hammers))
    os.kill(own_server.process.pid, signal.SIGTERM)
    eventually(lambda: own_server.get("/readyz") == (503, "draining\n"), seconds=2)
    during = [hammer.answered for hammer in hammers]
    for hammer in hammers:
        hammer.join(15)
        assert not hammer.is_alive()
    assert [hammer.cut for hammer in hammers] == [[]] * 6
    assert all(hammer.answered > before for hammer, before in zip(hammers, during, strict=True))
    assert idle.receive() is None  # closed, with a goodbye
    idle.close()
    assert own_server.process.wait(15) == 0


def test_our_own_namespace_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("policies\n")
    config = load_config(b"excludeNamespaces: [tmp-*]", "config.yaml")
    assert server_module._without_ourselves(config, tmp_path / "namespace").exclude_namespaces == ("tmp-*", "policies")
    assert server_module._without_ourselves(config, tmp_path / "nowhere") == config
