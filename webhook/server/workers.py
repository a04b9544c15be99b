"""The processes of one replica, on gunicorn: an arbiter, workers that answer reviews over TLS, and one that answers
probes and scrapers.

Gunicorn keeps the processes and their event loops. Added here is how they serve connections: deadlines for slow
requests, a bound on connections, a certificate that is replaced while connections live on, and an end that cuts no
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, Protocol

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.util import parse_address
from gunicorn.workers.gasgi import ASGIWorker

from webhook.certs import new_context
from webhook.errors import SystemRefused
from webhook.log import GunicornLogger
from webhook.server import connection as connections
from webhook.server.connection import Application, Connection
from webhook.server.fairness import count_shares, greediest, greediest_holder
from webhook.server.readiness import Readiness
from webhook.server.turns import Turns

READ_SECONDS = 5.0
"""Seconds within which a request must have arrived as a whole, and an answer be taken; as long stays a connection that
has never been used."""

BEAT_SECONDS = 1.0
"""Seconds between two rounds of a worker's regular work: taking over what the parent has read, cutting slow clients,
writing metrics."""

# Go's transport, which the API server uses, gives up an idle connection after 90 s. If we did so first, a request could
# be on its way to a connection that is being closed.
_KEEP_ALIVE_SECONDS = 120

CONNECTIONS = 250
"""Connections that one worker holds open at most: an API server has as many as it has requests at once, and one may
take 256 KB to read."""

HANDSHAKES = 250
"""Connections of one worker that have not finished their handshake, at most: beyond that the oldest is cut. A handshake
takes milliseconds, so that a client that goes on with it is not among the oldest."""

_OWN_DESCRIPTORS = 50
"""Files that a process has open for itself: listeners, pipes, shared memory, connections to the API server."""

_ACCEPT_PAUSE = 0.001

_GRACE_SECONDS = 15
"""Seconds for the answers that are under way when draining begins: no review takes longer than 10 s (see serve.py)."""

_IDLE_SECONDS = 1.0
"""Seconds for which draining leaves idle connections open, for a request or handshake that is already on its way."""

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class _Handshake:
    """A connection that has been accepted and whose TLS handshake isn't finished."""

    client: str
    task: asyncio.Task[None]


def _forget(handshakes: dict[_Handshake, None], handshake: _Handshake, _task: asyncio.Task[None]) -> None:
    handshakes.pop(handshake, None)


class Service(Protocol):
    """What one kind of worker serves."""

    def start(self, slot: int) -> Application:
        """Called once in the new process; returns what answers requests."""

    def tick(self) -> bool:
        """Called every second between requests; whether this worker is ready."""

    def context(self) -> ssl.SSLContext | None:
        """The TLS context for the next handshake; None for plain HTTP."""


class Worker(ASGIWorker):  # type: ignore[misc]
    """A process that serves one port."""

    alive: bool
    application: Application
    turns: Turns
    slot: int
    """Its place among the workers, which the arbiter gives to the next one when this one dies."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.replica: Replica = self.app
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.held_bytes = 0
        # The system's limit of open files may allow fewer: half of them for connections, half for handshakes.
        self._room = max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN_DESCRIPTORS) // 2)

    @property
    def service(self) -> Service:
        return self.replica.reviews

    def load_wsgi(self) -> None:
        self.application = self.service.start(self.slot)

    def handle_exit_signal(self) -> None:
        self.is_draining = True
        self._woken.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._woken.set()

    async def _serve(self) -> None:
        self.turns = Turns(self.loop)
        self._woken = asyncio.Event()
        self.loop.set_exception_handler(_log_connection_error)
        accepting = self.loop.create_task(self._accept())
        while self.alive and not self.is_draining:
            await self._beat(BEAT_SECONDS)
        accepting.cancel()
        await self._drain()
        self.alive = False

    async def _accept(self) -> None:
        """Take connections one by one, with a pause in which another worker takes the next.

        The worker that wakes first would otherwise take all that wait, and have to answer them alone until they close.
        """
        listener, tls = self.sockets[0].sock, self._tls()
        listener.setblocking(False)
        handshakes: dict[_Handshake, None] = {}  # the one that was accepted first
        while True:
            try:
                client, address = await self.loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or the client has left already
                log.warning("connection not accepted", error=str(error))
                await asyncio.sleep(0.1)
            else:
                if len(handshakes) >= min(HANDSHAKES, self._room):
                    oldest = greediest(handshakes)[0]
                    oldest.task.cancel()
                    del handshakes[oldest]
                handshake = _Handshake(str(address[0]), self.loop.create_task(self._welcome(client, tls)))
                handshakes[handshake] = None
                handshake.task.add_done_callback(partial(_forget, handshakes, handshake))
            await asyncio.sleep(_ACCEPT_PAUSE)

    async def _welcome(self, client: socket.socket, tls: dict[str, Any]) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), client, **tls)
        except OSError as error:  # ssl.SSLError is one
            log.debug("connection failed", error=str(error))

    def _tls(self) -> dict[str, Any]:
        first = self.service.context()
        if first is None:
            return {}
        # A new certificate cannot be loaded into a context in use: OpenSSL keeps one for each type of key, and an RSA
        # one would live on beside the ECDSA one that replaced it. So every handshake is given the current context,
        # with all but its verify_mode, which OpenSSL has taken by then from where the handshake began.
        entrance = new_context(first.verify_mode)
        entrance.sni_callback = self._give_certificate
        return {"ssl": entrance, "ssl_handshake_timeout": READ_SECONDS, "ssl_shutdown_timeout": READ_SECONDS}

    def _give_certificate(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if context := self.service.context():
            connection.context = context

    async def _beat(self, seconds: float) -> None:
        """A worker's regular work, then a pause of BEAT_SECONDS, which a signal ends early."""
        self.notify()
        if self.ppid != os.getppid():
            log.error("the parent process has ended")
            self.is_draining = True
        is_ready = self.service.tick()
        self.replica.readiness.beat(self.slot, ready=is_ready and not self.is_draining)
        self._close_old()
        self.date = formatdate(usegmt=True)
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)

    def _close_old(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            idle_seconds = now - connection.used_at
            if connection.is_stuck and idle_seconds > READ_SECONDS:
                connection.transport.abort()
            elif (connection.reading_since or now) < now - READ_SECONDS:
                connection.cut()
            elif idle_seconds > (_KEEP_ALIVE_SECONDS if connection.requests else READ_SECONDS):
                connection.close_if_idle()

    def admit(self, connection: Connection) -> None:
        """Take in a new connection; beyond the limit the least useful one is closed.

        Of two that are equally useful it is the one whose client has more connections, then the one that has sent
        fewer requests.
        """
        self.connections.add(connection)
        if len(self.connections) <= min(CONNECTIONS, self._room):
            return
        shares = count_shares(self.connections)

        def worth(other: Connection) -> tuple[float, ...]:
            return other.usefulness, -shares[other.client], other.requests, other.reading_since or 0

        waiting = [other for other in self.connections if other is not connection and not other.is_answering]
        min(waiting, key=worth, default=connection).transport.abort()

    def make_room(self) -> None:
        """Cut connections with half-sent bodies until there is room: the oldest of the client that holds most bytes."""
        while self.held_bytes > connections.HELD_BYTES and (holder := greediest_holder(self.connections)):
            holder.make_way()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)

    async def _drain(self) -> None:
        """Answer the requests under way with "Connection: close", then close the idle connections."""
        began = self.loop.time()
        while self.alive and self.loop.time() < began + _GRACE_SECONDS - 1:
            waited = self.loop.time() - began
            if waited >= _IDLE_SECONDS:
                for connection in list(self.connections):
                    connection.close_if_idle()
                if not self.connections:
                    return
            await self._beat(0.1)
        if self.connections:
            log.warning("connections cut at the end of the grace period", connections=len(self.connections))


def _log_connection_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log as debug what clients do wrong, as speaking no TLS or leaving in the middle, and all else as an error."""
    if isinstance(context.get("exception"), OSError):  # ssl.SSLError is one
        log.debug("connection failed", error=str(context["exception"]))
    else:
        loop.default_exception_handler(context)


class ReviewWorker(Worker):
    """Serves /mutate and /validate on the first port."""

    def __init__(self, age: int, ppid: int, sockets: list[Any], *args: Any) -> None:
        super().__init__(age, ppid, sockets[:1], *args)


class ProbeWorker(Worker):
    """Serves /healthz, /readyz and /metrics on the second port."""

    def __init__(self, age: int, ppid: int, sockets: list[Any], *args: Any) -> None:
        super().__init__(age, ppid, sockets[1:], *args)

    @property
    def service(self) -> Service:
        return self.replica.probes


class Replica(BaseApplication):  # type: ignore[misc]
    """One replica: what gunicorn calls an application, with its settings.

    `workers` processes answer reviews, one more serves `probes`; `drain_delay` is how many seconds pass between the
    first failing readiness probe and the end. `on_tick` and `on_death` are called in the parent: every second, and
    with the slot of a worker that has died.
    """

    def __init__(
        self,
        reviews: Service,
        probes: Service,
        readiness: Readiness,
        *,
        binds: tuple[str, str],
        drain_delay: float,
        log_level: str,
        on_tick: Callable[[], None],
        on_death: Callable[[int], None],
    ) -> None:
        self.reviews = reviews
        self.probes = probes
        self.readiness = readiness
        self.binds = binds
        self.drain_delay = drain_delay
        self.on_tick = on_tick
        self._settings = {
            "bind": list(binds),
            "workers": readiness.workers + 1,
            "worker_class": ReviewWorker,
            "logger_class": GunicornLogger,
            "loglevel": log_level,
            "graceful_timeout": _GRACE_SECONDS,
            "asgi_loop": "uvloop",
            "control_socket_disable": True,
            # Heartbeats are file times: a disk that stalls must not cost a worker its life.
            "worker_tmp_dir": "/dev/shm",  # noqa: S108 - an unlinked file in memory
            "pre_fork": _give_slot,
            "child_exit": lambda _arbiter, worker: on_death(worker.slot),
            "when_ready": _announce,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """Loads nothing: every kind of worker starts its own service."""

    def run(self) -> None:
        """Serve until told to end; leaves by SystemExit, in this process and in every worker forked from it.

        Raises SystemRefused where a port is taken.
        """
        # Workers share the memory of what is loaded by now until it is written to. The collector would write to each
        # object's header.
        gc.collect()
        gc.freeze()
        # Reviews are trees without cycles: the collector finds nothing to free in them, however often it runs.
        gc.set_threshold(10_000, 10, 10)
        for bind in self.binds:
            _try_port(*parse_address(bind))
        ReplicaArbiter(self).run()


def _try_port(address: str, port: int) -> None:
    """Raise SystemRefused if the port can't be had; gunicorn would try for five seconds, and log every time."""
    is_ipv6 = ":" in address
    try:
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        socket.create_server((address, port), family=family, dualstack_ipv6=is_ipv6).close()
    except OSError as error:
        raise SystemRefused(f"port {port}: {os.strerror(error.errno or 0)}") from error


def _give_slot(arbiter: Arbiter, worker: Worker) -> None:
    taken = {other.slot for other in arbiter.WORKERS.values()}
    last = arbiter.num_workers - 1
    worker.slot = last if isinstance(worker, ProbeWorker) else next(slot for slot in range(last) if slot not in taken)


def _announce(arbiter: Arbiter) -> None:
    port, metrics_port = (listener.getsockname()[1] for listener in arbiter.LISTENERS)
    log.info("serving", port=port, metrics_port=metrics_port, workers=arbiter.num_workers - 1)


class ReplicaArbiter(Arbiter):  # type: ignore[misc]
    """Keeps the workers alive, one of them for the probes, and ends them so that no request is cut."""

    app: Replica
    _end: float | None = None
    """When draining is over (time.monotonic); None before it has begun."""

    def spawn_worker(self) -> Any:
        has_probes = any(isinstance(worker, ProbeWorker) for worker in self.WORKERS.values())
        self.worker_class = ReviewWorker if has_probes else ProbeWorker
        return super().spawn_worker()

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        self.app.on_tick()
        timeout = min(timeout, BEAT_SECONDS)
        if self._end is not None:
            timeout = min(timeout, max(0.0, self._end - time.monotonic()))
        signals: list[int] = super().wait_for_signals(timeout)
        if self._end is not None and time.monotonic() >= self._end:
            raise StopIteration
        return signals

    def handle_term(self) -> None:
        """Fail readiness first: until every node knows that this replica has left the Service, requests arrive."""
        if self._end is not None:  # a second SIGTERM ends the delay, but cuts no request that is under way
            raise StopIteration
        log.info("draining", seconds=self.app.drain_delay)
        self.app.readiness.drain()
        self._end = time.monotonic() + self.app.drain_delay

    def handle_hup(self) -> None:
        """Do nothing on SIGHUP: files are read again when they change, without new processes."""

    handle_usr2 = handle_ttin = handle_ttou = handle_hup
