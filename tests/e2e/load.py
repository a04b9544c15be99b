"""A load of dry-run creates through the API server, and what became of each; the API server's own count beside it."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from tests.cluster_fixture import ControlPlane
from tests.e2e.guarded import deployment, memory_of
from tests.e2e.test_policies import TOO_LITTLE, prometheus

Outcome = Literal["answered", "refused by the API server", "failed by admission", "unchecked"]
OUTCOMES: tuple[Outcome, ...] = ("answered", "refused by the API server", "failed by admission", "unchecked")
How = Literal["patched", "warned", "unjudged"]
_PATCHED: tuple[How, ...] = ("patched",)

_SECONDS = 90.0
"""For one request: the API server itself ends it after a minute."""
_PAUSE = 0.02
_CLIENTS = 3
_SHOWN = 5


class Load:
    """Clients that create, in turn, a Deployment that is to be patched and one that is to be denied.

    `admitted` says how the first may come back: by one configuration in one way, while it changes in either.
    """

    def __init__(self, plane: ControlPlane, namespace: str, admitted: Collection[How] = _PATCHED) -> None:
        self.strange: list[str] = []
        """The first of what wasn't answered, in the API server's words."""
        self._plane = plane
        self._admitted = admitted
        self._path = f"/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All"
        self._patched = json.dumps(deployment("web", namespace, {"name": "web", "image": "nginx:1.27"}))
        self._denied = json.dumps(prometheus(namespace, TOO_LITTLE))
        self.counted: Counter[Outcome] = Counter()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="load", daemon=True) for _ in range(_CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with Client(self._plane) as client:
            self._create(client)

    def _create(self, client: Client) -> None:
        while not self._ended.wait(_PAUSE):
            for body, judge in ((self._patched, self._judge_patched), (self._denied, _judge_denied)):
                outcome, what = self._try(client, body, judge)
                with self._lock:
                    self.counted[outcome] += 1
                    if outcome != "answered" and len(self.strange) < _SHOWN:
                        self.strange.append(f"{time.strftime('%T')} {outcome}: {what[:500]}")
                if outcome == "refused by the API server":
                    # One that isn't ready would be sent nothing, were there others.
                    client.wait_until_ready(self._ended)

    def _try(self, client: Client, body: str, judge: Callable[[Answer], Outcome]) -> tuple[Outcome, str]:
        try:
            answer = client.request("POST", self._path, body)
        except (OSError, http.client.HTTPException) as error:
            return "refused by the API server", repr(error)
        return judge(answer), f"{answer.status} {answer.body}"

    def _judge_patched(self, answer: Answer) -> Outcome:
        if answer.status != http.client.CREATED:
            # Also where we denied what /mutate, had it been asked, would have patched.
            return _judge_no(answer) or "failed by admission"
        how: How = "unjudged"
        if memory_of(json.loads(answer.body))[1] == "512Mi":
            how = "patched"
        elif "memory-limits" in answer.warnings:
            how = "warned"
        return "answered" if how in self._admitted else "unchecked"


def _judge_denied(answer: Answer) -> Outcome:
    return "unchecked" if answer.status == http.client.CREATED else _judge_no(answer) or "answered"


def _judge_no(answer: Answer) -> Outcome | None:
    """Why it wasn't created; None if we denied it.

    What the API server says of a webhook names it, be it our answer or that there was none.
    """
    if answer.message.startswith('admission webhook "validate.forestall.dev" denied the request: '):
        return None
    return "failed by admission" if "webhook" in answer.message else "refused by the API server"


class Answer(NamedTuple):
    status: int
    warnings: str
    body: str

    @property
    def message(self) -> str:
        """Of a Status; what is none comes from the API server's outermost layers, as it is."""
        is_status = self.body.startswith('{"kind":"Status"')
        return str(json.loads(self.body)["message"]) if is_status else self.body


class Client:
    """One connection of the administrator's, opened again when it breaks."""

    def __init__(self, plane: ControlPlane) -> None:
        config = json.loads(plane.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        host = cluster["server"].removeprefix("https://")
        self._connection = http.client.HTTPSConnection(host, timeout=_SECONDS, context=trust)
        self._headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: str | None = None) -> Answer:
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            warnings = "\n".join(response.headers.get_all("Warning") or ())
            return Answer(response.status, warnings, response.read().decode())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def wait_until_ready(self, ended: threading.Event) -> None:
        while not ended.wait(0.1):
            try:
                if self.request("GET", "/readyz").status == http.client.OK:
                    return
            except (OSError, http.client.HTTPException):
                continue


class Calls(NamedTuple):
    """What the API server has counted of its calls to the judging webhooks, since it started."""

    asked: int = 0
    """/validate was asked, and answered or not."""
    failed_open: int = 0
    failed_closed: int = 0
    """Refused for want of an answer, not by one."""

    def __add__(self, other: Calls) -> Calls:
        return Calls(*map(sum, zip(self, other, strict=True)))

    def __sub__(self, other: Calls) -> Calls:
        return Calls(*(mine - its for mine, its in zip(self, other, strict=True)))


_SAMPLE = re.compile(r"^apiserver_admission_webhook_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def read_calls(plane: ControlPlane) -> Calls:
    with Client(plane) as client:
        text = client.request("GET", "/metrics").body
    samples = [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(float(value)))
        for name, labels, value in _SAMPLE.findall(text)
    ]
    ours = [sample for sample in samples if sample[1].get("name") in ("mutate.forestall.dev", "validate.forestall.dev")]
    return Calls(
        sum(value for name, labels, value in ours if name == "request_total" and labels["type"] == "validating"),
        sum(value for name, _, value in ours if name == "fail_open_count"),
        sum(value for name, labels, value in ours if name == "rejection_count" and labels["error_type"] != "no_error"),
    )


class Row(NamedTuple):
    event: str
    counted: Counter[Outcome]
    calls: Calls

    @property
    def lost(self) -> tuple[int, int, int, int]:
        """Counts that have to be 0: requests that failed by admission or passed unchecked, and failed calls."""
        counted, calls = self.counted, self.calls
        return counted["failed by admission"], counted["unchecked"], calls.failed_open, calls.failed_closed


def show(rows: Iterable[Row]) -> str:
    """The table, as Markdown."""
    titles = ("event", "requests", *OUTCOMES, "/validate called", "failed open", "failed closed")
    lines = [
        (row.event, row.counted.total(), *(row.counted[outcome] for outcome in OUTCOMES), *row.calls) for row in rows
    ]
    return show_table(titles, lines)


def show_table(titles: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """As Markdown, for people to read."""
    lines = list(lines)
    widths = [max(len(f"{line[column]}") for line in (titles, *lines)) for column in range(len(titles))]
    table: list[Sequence[Any]] = [titles, ["-" * width for width in widths], *lines]
    return "\n".join(
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    )
