"""Reviews over TLS, in pieces, behind and before each other: each gets its own answer, whatever else is sent."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fuzz.reviews import make_bytes
from tests.served import Server, post, review, served

_running: list[Server] = []


@contextmanager
def a_server() -> Iterator[None]:
    """A server that check_connection talks to."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        _running.append(server)
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
    (server,) = _running
    sent, _, line = data.rpartition(b"\n")
    cuts = [0, *(int(at) for at in line.split(b",") if at), len(sent)]
    with server.client() as client:
        for begin, end in itertools.pairwise(cuts):
            client.send(sent[begin:end])
        for _ in range(sent.count(b"POST /")):
            answer = client.receive()
            assert answer is not None, "no answer"
            assert answer.status in (200, 400), "neither an answer nor a refusal"
            assert answer.status == 400 or answer.response["uid"], "no uid"
    after = server.ask(post(review("after"), "/validate"))
    assert after.response["uid"] == "after"
    assert server.logged("a request could not be answered") == []
