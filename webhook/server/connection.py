"""One client's connection: HTTP/1.1, parsed by httptools, as far as the API server, probes and browsers speak it.

Requests are read as a whole, within bounds of size and time, and answered in order. An application that knows its
answer gives it at once, without a task of its own: that would take longer than most decisions do.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time
from collections import deque
from collections.abc import Awaitable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, NoReturn, Protocol

import httptools
import structlog

from webhook.server.turns import Turns

BODY_BYTES = 20 * 2**20
"""Bytes of the largest body that is read: an object of 1.5 MiB can be stored; as JSON in a review it may be six times
as long, and the old one comes with it."""

LARGE_BYTES = 2**20
"""Bodies above this size are received one after the other."""

BEGINNING_BYTES = 2**18
"""Bytes that are kept of a body that isn't read: what the API server knows of the request stands before the object."""

HELD_BYTES = BODY_BYTES + 12 * LARGE_BYTES
"""Bytes that all connections of a worker may hold together, of bodies that have not arrived as a whole."""

_WAIT_SECONDS = 4.0
"""Seconds that a large body waits for its turn at most; less where the API server waits for less."""

_HEAD_BYTES = 16 * 1024
_TARGET_BYTES = 8 * 1024
_HEADERS = 100

_TEXT = "text/plain; charset=utf-8"

log = structlog.get_logger()


_TOO_LARGE = f"it is larger than {BODY_BYTES >> 20} MiB"
_TOO_SLOW = "it is large, and arrived so slowly that others had to wait"
_TOO_LATE = "other large reviews did not leave the time to read it"


class Request(NamedTuple):
    """A request that has arrived. `began` is when its first byte did (time.monotonic).

    Where a body was not kept, it holds only the beginning, and `dropped` says why.
    """

    method: str
    path: str
    query: bytes
    body: bytes | bytearray
    client: str
    began: float
    dropped: str = ""


class Response(NamedTuple):
    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


class Application(Protocol):
    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request: at once, or later if something has to be waited for."""

    def seconds_for(self, query: bytes) -> float:
        """How long the answer to a request may take, from its first byte on."""

    def refused(self, refusal: Response, path: str, client: str) -> None:
        """A request was refused before it had arrived."""


class Host(Protocol):
    """The worker that a connection belongs to, as the connection sees it: what all connections of a worker share."""

    loop: asyncio.AbstractEventLoop
    application: Application
    is_draining: bool
    date: str
    held_bytes: int
    """Bytes that all connections hold of bodies that have not arrived as a whole."""
    turns: Turns
    """Whose turn it is to send a large body."""

    def admit(self, connection: Connection) -> None:
        """Take in a new connection, which may cost another one its place."""

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection that has ended."""

    def make_room(self) -> None:
        """Cut connections that hold parts of bodies, until all of them hold no more than HELD_BYTES."""


class _Stop(Exception):  # noqa: N818 - an answer, not an error of ours
    """Raised within httptools to end the parsing of a request that is refused."""


def refusal(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A refusal with this status: the text as one line."""
    line = " ".join(text.split())[:500]
    return Response(status, f"{line}\n".encode("utf-8", "replace"), headers=headers)


class Connection(asyncio.Protocol):
    """One client's connection: reads requests, has the application answer them, writes the answers in their order."""

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parser = httptools.HttpRequestParser(self)  # the parser calls the on_ methods
        self._begin()
        self._refusal: Response | None = None
        """The answer to the request that is arriving, if it is refused; what the client sends after it is ignored."""
        self._waiting: deque[tuple[Request, bool]] = deque()
        """Requests that arrived behind one that is still being answered, and whether the connection outlives them."""
        self.is_answering = False
        self._is_writable = self._is_reading = True
        self._began = 0.0
        """When the first byte of the request came that is arriving."""
        self._waits = False
        """Whether this connection waits for its turn to receive a large body."""
        self._wait_end: asyncio.TimerHandle | None = None
        self._is_refused = False
        """Whether whatever arrives is thrown away: if the connection were closed at once, it would be reset, and our
        answer lost."""
        self.reading_since: float | None = None
        """When the request that has not arrived as a whole began; None between requests and while one is answered."""
        self.used_at = time.monotonic()
        """When the connection was made, or its last answer written (time.monotonic)."""
        self.requests = 0

    def _begin(self) -> None:
        self._target = b""
        self._headers = self._head_bytes = 0
        self._expects_continue = False
        self._body: bytes | bytearray = b""
        self._received = 0
        """Bytes of the body, kept or not."""
        self._dropped = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else ""
        self._host.admit(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._let_go()
        self._host.turns.give_back(self)
        self._waiting.clear()
        self._host.forget(self)
        # The parser refers to this object: without the cycle, memory is freed at once, as the collector runs rarely.
        del self._parser

    # Requests

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        before = self.reading_since, self.requests, self._received
        try:
            self._parser.feed_data(data)
            # httptools doesn't report a header field that has no end, before or after the body: its bytes are counted
            # here.
            if before == (self.reading_since, self.requests, self._received):
                self._count_head(len(data))
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as any other; the bytes after it aren't HTTP
        except (httptools.HttpParserError, _Stop) as error:
            self._refusal = self._refusal or refusal(400, f"not HTTP/1.1: {error}")
        self._answer()

    def _stop(self, status: int, text: str) -> NoReturn:
        self._refusal = refusal(status, text)
        raise _Stop

    def on_message_begin(self) -> None:
        self._begin()
        self._began = self.reading_since = self.reading_since or time.monotonic()

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > _TARGET_BYTES:
            self._stop(414, "the path is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._count_head(len(name) + len(value))
        if len(name) == 14 and name.lower() == b"content-length":
            if int(value) > BODY_BYTES:
                self._drop(_TOO_LARGE)
        elif len(name) == 6 and name.lower() == b"expect":
            self._expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._expects_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > BODY_BYTES:
            self._drop(_TOO_LARGE)
        if self._dropped:
            chunk = chunk[: max(0, BEGINNING_BYTES - len(self._body))]
        if not self._body:
            self._body = chunk
        elif isinstance(self._body, bytearray):
            self._body += chunk
        else:
            self._body = bytearray(self._body) + chunk
        self._host.held_bytes += len(chunk)
        if self._host.held_bytes > HELD_BYTES:
            self._host.make_room()
            if self._is_refused:
                raise _Stop
        if len(self._body) > LARGE_BYTES and not self._waits and not self._host.turns.take(self):
            self._wait()

    def _drop(self, reason: str) -> None:
        """Drop the body that is arriving but for its beginning; `why` becomes the request's `dropped`."""
        self._dropped = self._dropped or reason
        beginning = bytes(self._body[:BEGINNING_BYTES])
        self._host.held_bytes -= len(self._body) - len(beginning)
        self._body = beginning
        self._host.turns.give_back(self)

    def _wait(self) -> None:
        """Stop reading until it is this connection's turn to send a large body, or the answer is due."""
        self._waits = True
        seconds = min(self._host.application.seconds_for(self._query), _WAIT_SECONDS)
        left = self._began + seconds - time.monotonic()
        self._wait_end = self._host.loop.call_later(left, self._answer_early)
        self._go_on()

    def go_on(self) -> None:
        """Read the large body: this connection's turn has come."""
        self._end_wait()
        self._go_on()

    def lose_turn(self) -> None:
        """Drop the large body that is arriving: this connection's turn has ended before all of it came."""
        if self.reading_since is not None:
            self._drop(_TOO_SLOW)

    def _end_wait(self) -> None:
        self._waits = False
        if self._wait_end:
            self._wait_end.cancel()
            self._wait_end = None

    def _answer_early(self) -> None:
        """Answer a request before its body has arrived as a whole, and throw the rest of the body away."""
        self._drop(_TOO_LATE)
        self._waiting.append((self._request(), True))
        self._is_refused = True
        self._let_go()
        self._answer()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._headers > _HEADERS or self._head_bytes > _HEAD_BYTES:
            self._stop(431, "the header is too large")

    def on_message_complete(self) -> None:
        parser = self._parser
        is_last = not parser.should_keep_alive() or parser.should_upgrade() or parser.get_http_version() != "1.1"
        self._waiting.append((self._request(), is_last))
        self._let_go()
        self.reading_since = None
        self.requests += 1

    def _request(self) -> Request:
        path, _, query = self._target.partition(b"?")
        method = self._parser.get_method().decode()
        return Request(method, path.decode("latin-1"), query, self._body, self.client, self._began, self._dropped)

    @property
    def _query(self) -> bytes:
        return self._target.partition(b"?")[2]

    def _let_go(self) -> None:
        """Stop counting the body's bytes as held and end the turn for it: it has arrived as a whole, or was dropped."""
        self._host.held_bytes -= len(self._body)
        self._body = b""
        if self._waits:
            self._end_wait()
            self._host.turns.give_back(self)

    # Answers

    def _answer(self) -> None:
        """Answer the first request that has arrived. Requests that arrived with it wait until other connections were
        served."""
        if self.is_answering or not self._is_writable or self.transport.is_closing():
            return
        if not self._waiting:
            if self._refusal and not self._is_refused:
                self._refuse(self._refusal)
                self._go_on()
            return
        request, is_last = self._waiting.popleft()
        try:
            answer = self._host.application(request)
        except Exception as error:
            answer = self._failed(error)
        if isinstance(answer, Response):
            self._write(answer, request, is_last=is_last)
        else:
            self.is_answering = True
            self._host.loop.create_task(self._answer_later(answer, request, is_last=is_last))
        self._go_on()

    def _go_on(self) -> None:
        """Answer the next request that has arrived; if none has, go on reading."""
        if self.transport.is_closing():
            return
        is_free = self._is_writable and not self.is_answering and not self._waits
        if is_free and (self._waiting or (self._refusal and not self._is_refused)):
            self._host.loop.call_soon(self._answer)
            is_free = False
        if is_free != self._is_reading:
            self._is_reading = is_free
            if not is_free:
                self.transport.pause_reading()  # what the client sends next waits in the system
                return
            if self.reading_since is not None:  # reading was paused while requests waited
                self.reading_since = time.monotonic()
            self.transport.resume_reading()

    async def _answer_later(self, answer: Awaitable[Response], request: Request, *, is_last: bool) -> None:
        try:
            response = await answer
        except Exception as error:
            response = self._failed(error)
        self.is_answering = False
        if not self.transport.is_closing():
            self._write(response, request, is_last=is_last)
            self._go_on()

    def _failed(self, error: Exception) -> Response:
        log.error("a request could not be answered", error=str(error), exc_info=error)
        return refusal(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)

    def _write(self, response: Response, request: Request | None, *, is_last: bool) -> None:
        # "Connection: close" keeps the client from sending a request that would be lost.
        is_last = is_last or self._host.is_draining
        head = _head(response.status, response.content_type, response.headers, is_last)
        date, length = self._host.date, len(response.body)
        body = b"" if request and request.method == "HEAD" else response.body
        self.transport.write(f"{head}Date: {date}\r\nContent-Length: {length}\r\n\r\n".encode("latin-1") + body)
        self.used_at = time.monotonic()
        self._host.turns.give_back(self)
        if is_last and request and not self._is_refused:
            self.transport.close()

    def _refuse(self, refusal: Response) -> None:
        """Answer a request that won't be read to its end, and close the connection a while after."""
        self._is_refused = True
        # What the client still sends is thrown away until the worker cuts a request that takes this long.
        self.reading_since = self.reading_since or time.monotonic()
        self._let_go()
        self._host.application.refused(refusal, self._target[:100].decode("latin-1"), self.client)
        self._write(refusal, None, is_last=True)

    def pause_writing(self) -> None:
        """asyncio's: write no further answers, as the client doesn't read those that were written."""
        self._is_writable = False
        self._go_on()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._go_on()

    # Called by the worker

    def cut(self) -> None:
        """Close the connection, whose request takes too long to arrive; the client is told why, if it wasn't before."""
        if not self._is_reading:
            return
        if not self._is_refused:
            self._refuse(refusal(408, "the request did not arrive in time"))
        self.transport.close()

    @property
    def is_stuck(self) -> bool:
        """Whether the client doesn't take what was written to it, or doesn't answer that the connection ends."""
        return not self._is_writable or self.transport.is_closing()

    @property
    def held_bytes(self) -> int:
        """Bytes of a body that has not arrived as a whole, and can be let go."""
        return 0 if self.is_answering or self._waiting or self._is_refused else len(self._body)

    def make_way(self) -> None:
        """Refuse the request that is arriving, and free the bytes that were kept of it."""
        self._refuse(refusal(503, "too many large requests at once, and this one was slow to arrive"))
        self._go_on()

    @property
    def usefulness(self) -> int:
        """How much would be lost with this connection: 0 where a request has been arriving for over a second, 1 where
        none ever came, 2 between two requests, 3 where one has just begun to arrive or is being answered."""
        if self.reading_since is None:
            return 2 if self.requests else 1
        return 0 if self.reading_since < time.monotonic() - 1 else 3

    def close_if_idle(self) -> None:
        """Close between two requests, unless the next one has already reached this machine.

        HTTP/1.1 knows no way to tell a client beforehand. What remains is a request that crosses our closing on the
        wire, after the connection has been idle for seconds; Go's transport sends such a request again if it had
        written nothing of it.
        """
        if not self.is_answering and self.reading_since is None and not self._has_unread():
            self.transport.close()

    def _has_unread(self) -> bool:
        connected = self.transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:  # the client has closed the connection
            return False
        (count,) = struct.unpack("i", fcntl.ioctl(connected.fileno(), termios.FIONREAD, b"\0\0\0\0"))
        return bool(count)


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, headers: tuple[tuple[str, str], ...], is_last: bool) -> str:
    fields = [("Content-Type", content_type), *headers, *([("Connection", "close")] if is_last else [])]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}"
