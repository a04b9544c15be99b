"""Connections over loopback, to an application of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from webhook.server import connection, turns
from webhook.server.connection import Connection, Request, Response
from webhook.server.fairness import greediest_holder
from webhook.server.turns import Turns

DATE = "Wed, 25 Nov 2026 21:59:57 GMT"


class Echo:
    """Answers with the path: "/later" when told to, "/never" not at all, "/fail" by an exception."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.told: list[tuple[int, str]] = []
        self.go_on = asyncio.Event()

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        self.asked.append(request)
        if request.path == "/fail":
            raise ValueError("a bug")
        return self.later(request) if request.path == "/later" else Response(200, request.path.encode())

    async def later(self, request: Request) -> Response:
        await self.go_on.wait()
        return Response(200, request.path.encode())

    def seconds_for(self, query: bytes) -> float:
        return float(query or 9)

    def refused(self, refusal: Response, path: str, _client: str) -> None:
        self.told.append((refusal.status, path))


class Host:
    is_draining = False
    date = DATE
    held_bytes = 0
    address: tuple[str, int]

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.application = Echo()
        self.turns = Turns(self.loop)
        self.connections: set[Connection] = set()

    def admit(self, connection: Connection) -> None:
        self.connections.add(connection)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def make_room(self) -> None:
        while self.held_bytes > connection.HELD_BYTES and (holder := greediest_holder(self.connections)):
            holder.make_way()


Talk = Callable[[Host, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(about: Talk) -> None:
    """Have a client talk to a server, for ten seconds at most; afterwards nothing may be held of it."""

    async def run() -> None:
        host = Host()
        server = await host.loop.create_server(lambda: Connection(host), "127.0.0.1", 0)
        host.address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*host.address)
        async with asyncio.timeout(10):
            await about(host, reader, writer)
            writer.close()
            while host.connections:
                await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()
        assert host.held_bytes == 0

    asyncio.run(run())


def get(path: str, method: str = "GET", headers: str = "", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode()


def ok(path: str, more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n{more}Date: {DATE}\r\n"
    return f"{head}Content-Length: {len(path)}\r\n\r\n{path}".encode()


def test_answers() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /a%20b?timeout=1s&x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" + get("/b"))
        assert await reader.readexactly(len(ok("/a%20b") + ok("/b"))) == ok("/a%20b") + ok("/b")
        first, second = host.application.asked
        assert first[:5] == ("POST", "/a%20b", b"timeout=1s&x", b"{}", "127.0.0.1")
        assert second[:4] == ("GET", "/b", b"", b"")

    talk(about)


def test_what_is_answered_later_holds_up_what_comes_behind_it() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/later") + get("/b"))
        writer.write(get("/c"))
        await asyncio.sleep(0.05)
        assert [request.path for request in host.application.asked] == ["/later"]
        host.application.go_on.set()
        answers = ok("/later") + ok("/b") + ok("/c")
        assert await reader.readexactly(len(answers)) == answers

    talk(about)


def test_garbage_behind_what_is_answered_later_is_refused_after_it() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/later") + b"garbage\r\n\r\n")
        await asyncio.sleep(0.05)
        host.application.go_on.set()
        assert await reader.readexactly(len(ok("/later"))) == ok("/later")
        assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
        assert host.application.told == [(400, "")]

    talk(about)


def test_what_follows_a_refused_request_is_not_answered() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/a", headers="a: b\r\n" * 200) + get("/b"))
        assert await reader.readline() == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        (client,) = host.connections
        client.cut()
        assert (await reader.read()).count(b"HTTP/1.1") == 0
        assert (host.application.asked, host.application.told) == ([], [(431, "/a")])

    talk(about)


def test_a_request_that_is_half_there_waits_for_the_one_before_it() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/later") + get("/b")[:-10])
        await asyncio.sleep(0.05)
        (client,) = host.connections
        client.reading_since, began = 1.0, time.monotonic()
        client.cut()
        host.application.go_on.set()
        assert await reader.readexactly(len(ok("/later"))) == ok("/later")
        assert client.reading_since > began
        writer.write(get("/b")[-10:])
        assert await reader.readexactly(len(ok("/b"))) == ok("/b")

    talk(about)


def test_large_requests_may_be_pipelined() -> None:
    """The end of a body and the beginning of the next header in one read."""
    body = b"x" * 50_000
    whole = f"POST /a HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def about(_host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole + whole[:20])
        assert await reader.readexactly(len(ok("/a"))) == ok("/a")
        writer.write(whole[20:])
        assert await reader.readexactly(len(ok("/a"))) == ok("/a")

    talk(about)


def test_a_header_without_an_end_is_refused() -> None:
    async def about(_host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\na: ")
        while not reader._buffer:  # type: ignore[attr-defined]
            writer.write(b"b" * 1000)
            await asyncio.sleep(0.001)
        assert await reader.readline() == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"

    talk(about)


def test_what_is_sent_meanwhile_stays_with_the_client() -> None:
    async def about(host: Host, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/later"))
        await asyncio.sleep(0.05)
        writer.write(get("/b") * 500_000)
        await asyncio.sleep(0.1)
        (client,) = host.connections
        assert len(client._waiting) == 0
        writer.transport.abort()
        host.application.go_on.set()

    talk(about)


def test_a_client_that_takes_no_answers_gets_no_more_of_them() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        path = "/" + "a" * 8000
        writer.write(get(path) * 3000)
        asked = -1
        while asked != len(host.application.asked):
            asked = len(host.application.asked)
            await asyncio.sleep(0.3)
        assert asked < 2500
        (client,) = host.connections
        assert client.transport.get_write_buffer_size() < 200_000
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        while len(host.application.asked) < 3000:
            await reader.read(2**20)

    talk(about)


def test_a_burst_of_requests_takes_turns_with_others() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turns = 0
        writer.write(get("/a") * 100)
        while len(host.application.asked) < 100:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 50
        assert await reader.readexactly(100 * len(ok("/a"))) == ok("/a") * 100

    talk(about)


def test_a_trailer_without_an_end_is_refused() -> None:
    async def about(_host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\na: ")
        while not reader._buffer:  # type: ignore[attr-defined]
            writer.write(b"b" * 1000)
            await asyncio.sleep(0.001)
        assert await reader.readline() == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"

    talk(about)


def test_what_follows_the_last_request_is_no_request() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/a", headers="Connection: close\r\n") + get("/b"))
        assert await reader.read() == ok("/a", "Connection: close\r\n")
        assert host.application.told == []

    talk(about)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", id="both-lengths"),
        pytest.param("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", id="both-the-other-way-round"),
        pytest.param("Content-Length: 1\r\nContent-Length: 2\r\n", id="two-lengths"),
        pytest.param("Content-Length: \r\n", id="no-length"),
        pytest.param("Content-Length: 1\n", id="a-bare-line-feed"),
        pytest.param("a: b\r\n Content-Length: 1\r\n", id="folded"),
        pytest.param("Transfer-Encoding: xchunked\r\n", id="another-coding"),
    ],
)
def test_nothing_is_smuggled(head: str) -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"POST /a HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + get("/b"))
        assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
        assert host.application.asked == []

    talk(about)


def test_half_a_body_is_let_go_with_its_client() -> None:
    async def about(host: Host, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 50)
        await asyncio.sleep(0.05)
        assert host.held_bytes == 50

    talk(about)


def test_a_client_that_leaves_takes_nothing_with_it() -> None:
    async def about(host: Host, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/later"))
        await asyncio.sleep(0.05)
        writer.transport.abort()
        host.application.go_on.set()

    talk(about)


def test_a_failure_is_answered_and_the_next_request_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def about(_host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("/fail") + get("/b"))
        assert (await reader.readuntil(b"Error\n")).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert await reader.readexactly(len(ok("/b"))) == ok("/b")

    talk(about)
    assert "a bug" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        pytest.param(get("/a", "HEAD"), ok("/a")[:-2], id="no-body-for-HEAD"),
        pytest.param(get("/a", headers="Connection: close\r\n"), ok("/a", "Connection: close\r\n"), id="close"),
        pytest.param(get("/a", version="1.0"), ok("/a", "Connection: close\r\n"), id="http-1.0"),
        pytest.param(
            get("/a", headers="Connection: keep-alive\r\n", version="1.0"),
            ok("/a", "Connection: close\r\n"),
            id="http-1.0-that-would-stay",
        ),
        pytest.param(
            get("/a", headers="Connection: upgrade\r\nUpgrade: h2c\r\n") + b"whatever",
            ok("/a", "Connection: close\r\n"),
            id="no-upgrade",
        ),
    ],
)
def test_endings(request_: bytes, answer: bytes) -> None:
    async def about(_host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request_)
        assert await reader.readexactly(len(answer)) == answer
        if b"close" in answer:
            assert await reader.read() == b""

    talk(about)


def test_draining_tells_every_client() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.is_draining = True
        writer.write(get("/a"))
        assert await reader.read() == ok("/a", "Connection: close\r\n")

    talk(about)


def test_bodies_that_are_half_there_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELD_BYTES", 100)

    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.held_bytes += 60
        writer.write(b"POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 50)
        assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
        assert host.held_bytes == 60
        host.held_bytes = 0
        # What it goes on sending is swallowed, so that it comes to read the answer.
        writer.write(b"x" * 950 + get("/b"))
        await asyncio.sleep(0.05)
        (client,) = host.connections
        client.cut()
        assert (await reader.read()).endswith(b"too many large requests at once, and this one was slow to arrive\n")
        assert host.application.told == [(503, "/a")]

    talk(about)


def test_who_holds_a_body_back_makes_way_for_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELD_BYTES", 100_000)

    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(posted("/held", 90_000, 89_999))
        await asyncio.sleep(0.05)
        other, to_other = await asyncio.open_connection(*host.address)
        to_other.write(posted("/b", 50_000))
        assert await other.readexactly(len(ok("/b"))) == ok("/b")
        assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
        assert [request.path for request in host.application.asked] == ["/b"]
        assert host.application.told == [(503, "/held")]
        to_other.close()
        writer.write(b"x")

    talk(about)


def posted(path: str, size: int, sent: int | None = None) -> bytes:
    """A request with a body of this size, of which only the beginning is sent where `sent` says so."""
    return f"POST {path} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * (size if sent is None else sent)


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("BODY_BYTES", 200_000), ("LARGE_BYTES", 1_000), ("BEGINNING_BYTES", 10)):
        monkeypatch.setattr(connection, name, size)


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(posted("/a", 200_001), id="announced"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"186a0\r\n" + b"x" * 100_000 + b"\r\n") * 30
            + b"0\r\n\r\n",
            id="in-chunks",
        ),
    ],
)
def test_of_a_body_that_is_too_large_the_beginning_is_kept(request_: bytes) -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request_ + get("/b"))
        assert await reader.readexactly(len(ok("/a") + ok("/b"))) == ok("/a") + ok("/b")
        request, following = host.application.asked
        assert (bytes(request.body), request.dropped) == (b"x" * 10, "it is larger than 20 MiB")
        assert following.dropped == ""

    talk(about)


@pytest.mark.usefixtures("small_sizes")
def test_large_bodies_wait_for_one_another() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(posted("/a", 150_000, 149_999))
        await asyncio.sleep(0.05)
        other, to_other = await asyncio.open_connection(*host.address)
        to_other.write(posted("/b", 150_000))
        third, to_third = await asyncio.open_connection(*host.address)
        to_third.write(posted("/small", 1_000))
        assert await third.readexactly(len(ok("/small"))) == ok("/small")
        writer.write(b"x")
        assert await reader.readexactly(len(ok("/a"))) == ok("/a")
        assert await other.readexactly(len(ok("/b"))) == ok("/b")
        assert [(request.path, len(request.body), request.dropped) for request in host.application.asked] == [
            ("/small", 1_000, ""),
            ("/a", 150_000, ""),
            ("/b", 150_000, ""),
        ]
        to_other.close()
        to_third.close()

    talk(about)


@pytest.mark.usefixtures("small_sizes")
def test_who_keeps_others_waiting_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.1)

    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(posted("/slow", 150_000, 149_999))
        await asyncio.sleep(0.15)
        other, to_other = await asyncio.open_connection(*host.address)
        to_other.write(posted("/b", 150_000))
        assert await other.readexactly(len(ok("/b"))) == ok("/b")
        writer.write(b"x")
        assert await reader.readexactly(len(ok("/slow"))) == ok("/slow")
        prompt, slow = host.application.asked
        assert (prompt.path, len(prompt.body), prompt.dropped) == ("/b", 150_000, "")
        assert (slow.path, len(slow.body)) == ("/slow", 10)
        assert slow.dropped == "it is large, and arrived so slowly that others had to wait"
        to_other.close()

    talk(about)


@pytest.mark.usefixtures("small_sizes")
def test_who_waits_is_answered_when_its_time_is_up() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        holder, to_holder = await asyncio.open_connection(*host.address)
        to_holder.write(posted("/a", 150_000, 149_999))
        await asyncio.sleep(0.05)
        writer.write(posted("/b?0.1", 150_000, 140_000))
        answer = ok("/b", "Connection: close\r\n")
        assert await reader.readexactly(len(answer)) == answer
        (late,) = host.application.asked
        assert late.dropped == "other large reviews did not leave the time to read it"
        writer.write(b"x" * 10_000)  # swallowed
        to_holder.write(b"x")
        assert await holder.readexactly(len(ok("/a"))) == ok("/a")
        to_holder.close()

    talk(about)


@pytest.mark.usefixtures("small_sizes")
def test_who_leaves_gives_its_turn_back() -> None:
    async def about(host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for path in ("/a", "/b"):  # the one that has its turn, then one that waits for it
            _, leaving = await asyncio.open_connection(*host.address)
            leaving.write(posted(path, 150_000, 149_999))
            await asyncio.sleep(0.05)
            if path == "/a":
                first = leaving
        leaving.close()
        await asyncio.sleep(0.05)
        writer.write(posted("/c", 150_000))
        await asyncio.sleep(0.05)
        first.close()
        assert await reader.readexactly(len(ok("/c"))) == ok("/c")

    talk(about)
