"""Reviews over TLS, in pieces, behind and before each other: each gets the answer that is decided without a server."""

from __future__ import annotations

import itertools
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.builders import KINDS
from tests.fuzz.reviews import make_bytes
from tests.served import Server, post, review, served
from webhook.config import Config, load_config
from webhook.engine import decide
from webhook.errors import BadReview
from webhook.files.facts import read_facts
from webhook.objects.facts import ClusterFacts
from webhook.policy import Stage
from webhook.server.review import read_review, render_review

_LENGTH = re.compile(rb"Content-Length: ([0-9]+)")


class _Running(NamedTuple):
    """A server, and what it decides by."""

    server: Server
    config: Config
    facts: ClusterFacts


_running: list[_Running] = []


@contextmanager
def a_server() -> Iterator[None]:
    """A server that check_connection talks to."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        config = load_config(server.config.read_bytes(), str(server.config))
        _running.append(_Running(server, config, read_facts(server.folder / "facts.yaml", KINDS)))
        try:
            yield
        finally:
            _running.clear()


def make_connection(dice: random.Random) -> bytes:
    """Requests behind each other, of which some are mutated reviews; the last line says where they are cut."""
    requests = []
    for number in range(dice.randrange(1, 5)):
        body = make_bytes(dice) if dice.random() < 0.5 else review(f"u-{number}")
        requests.append(post(body, dice.choice(["/mutate", "/validate?timeout=5s"])))
    data = b"".join(requests)
    cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randrange(6)))
    return data + b"\n" + b",".join(b"%d" % at for at in cuts)


def check_connection(data: bytes) -> None:
    (running,) = _running
    server = running.server
    sent, _, line = data.rpartition(b"\n")
    cuts = [0, *(int(at) for at in line.split(b",") if at), len(sent)]
    with server.client() as client:
        for begin, end in itertools.pairwise(cuts):
            client.send(sent[begin:end])
        for path, body in _requests(sent):
            answer = client.receive()
            assert answer is not None, "no answer"
            expected = _decided(running, body, "mutate" if path == b"/mutate" else "validate")
            if expected is None:
                assert answer.status == 400, "no refusal of what is no review"
            else:
                assert (answer.status, answer.body) == (200, expected), "the server says otherwise"
    after = server.ask(post(review("after"), "/validate"))
    assert after.response["uid"] == "after"
    assert server.logged("a request could not be answered") == []


def _requests(sent: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Path and body of each request."""
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        length = int(_LENGTH.findall(head)[0])
        yield head.split()[1], rest[:length]
        sent = rest[length:]


def _decided(running: _Running, body: bytes, stage: Stage) -> bytes | None:
    """The answer to a review, as the server's own parts make it; None if it is none."""
    try:
        request = read_review(body, running.config.object_fields)
    except BadReview:
        return None
    today = datetime.now(UTC).date()
    decision = decide(request, running.facts, running.config, today=today, stage=stage)
    return render_review(request, decision, stage, running.config)
