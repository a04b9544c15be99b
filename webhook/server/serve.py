"""`forestall serve`: reviews in, answers out, over HTTPS.

bytes -> read_review -> Judge -> bytes, and what is read again when files change. Processes are in workers, connections
in connection.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from webhook import log as logs
from webhook.certs import CertificateFiles, ServingCertificate, load_certificate, make_self_signed, new_context
from webhook.config import Config
from webhook.errors import (
    BadConfig,
    BadReview,
)
from webhook.files.facts import read_facts
from webhook.installation import PROBES_PORT, REVIEWS_PORT
from webhook.loader import fact_kinds, load_policies, watched_kinds
from webhook.objects.facts import ClusterFacts, Found
from webhook.policy import FactKind, FactReference, Stage
from webhook.reloading import FileContents, Reloaded, follow_config
from webhook.scope import exclude_own_namespace, needed_facts
from webhook.server.connection import Request, Response, refusal
from webhook.server.judge import FactsSource, Judge
from webhook.server.metrics import Metrics, count_facts, expected_violations
from webhook.server.probes import Probes
from webhook.server.readiness import Readiness
from webhook.server.shared import Shared
from webhook.server.workers import Replica

if TYPE_CHECKING:
    from webhook.cluster.client import Cluster
    from webhook.cluster.facts import Watch

_LONGEST = 10.0
"""Seconds for one review at most, whatever timeout the query names: a decision takes microseconds, and others wait for
it."""

_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # the options' numbers in malloc.h

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_STAGES: dict[str, Stage] = {"/mutate": "mutate", "/validate": "validate"}

log = structlog.get_logger()


@dataclass(frozen=True)
class ServerSettings:
    """The options of `forestall serve`. `facts` excludes `kubeconfig` and `context`; without them the cluster is the
    one that the server runs in.

    A port of 0 lets the system choose; the log says which. `bind` is an address; None is all of them.
    """

    config: Path | None = None
    facts: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    self_signed: bool = False
    client_ca: Path | None = None
    port: int = REVIEWS_PORT
    metrics_port: int = PROBES_PORT
    bind: str | None = None
    workers: int = 2
    drain_delay: float = 5.0
    log_level: str = "info"


@dataclass(frozen=True)
class FixedFacts:
    """Facts from a file: they never change, and no more of them can be looked up."""

    facts: ClusterFacts
    can_look_up: bool = False

    def unlisted(self, _kinds: Collection[FactKind[Any, Any]]) -> Mapping[str, str]:
        return {}

    def look_up(self, _references: Collection[FactReference], _timeout: float) -> Found:
        return Found([], [])


@dataclass(frozen=True)
class LiveFacts:
    """Facts of the cluster, kept current by watches."""

    cluster: Cluster
    watch: Watch
    can_look_up: bool = True

    @property
    def facts(self) -> ClusterFacts:
        return self.watch.facts

    def unlisted(self, kinds: Collection[FactKind[Any, Any]]) -> Mapping[str, str]:
        resources = sorted({kind.full_resource for kind in kinds} - self.watch.listed)
        return {resource: self.watch.unread.get(resource, "not listed yet") for resource in resources}

    def look_up(self, references: Collection[FactReference], timeout: float) -> Found:
        return self.cluster.look_up(references, timeout)


class App:
    """Answers requests on the TLS port."""

    def __init__(self, judge: Judge, metrics: Metrics) -> None:
        self._judge = judge
        self._metrics = metrics

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        stage = _STAGES.get(request.path)
        if stage is None:
            return self._refuse(request, _NO_SUCH_PATH)
        if request.method != "POST":
            return self._refuse(request, _NOT_POSTED)
        deadline = request.began + self.seconds_for(request.query)
        try:
            review = self._judge.read(request.body, deadline, request.dropped)
        except BadReview as error:
            return self._refuse(request, refusal(400, str(error)))
        answer = self._judge.answer(review, stage, request.began, deadline)
        return _answered(answer) if isinstance(answer, bytes) else _answered_later(answer)

    def seconds_for(self, query: bytes) -> float:
        return _seconds_for(query)

    def _refuse(self, request: Request, refusal: Response) -> Response:
        self.refused(refusal, request.path[:100], request.client)
        return refusal

    def refused(self, refusal: Response, path: str, client: str) -> None:
        reason = refusal.body.decode().strip()
        log.warning("refused", status=refusal.status, reason=reason, path=path, client=client)
        self._metrics.count_refusal(refusal.status)


_NO_SUCH_PATH = refusal(404, "no such path: reviews go to /mutate and /validate")
_NOT_POSTED = refusal(405, "reviews are posted", (("Allow", "POST"),))


def _answered(answer: bytes) -> Response:
    return Response(200, answer, "application/json")


async def _answered_later(answer: Awaitable[bytes]) -> Response:
    return _answered(await answer)


@lru_cache(maxsize=64)
def _seconds_for(query: bytes) -> float:
    """How long the answer may take, by the query's `timeout`, less a margin for its way back."""
    seconds = _LONGEST
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"timeout":
            seconds = min(parse_duration(value.decode("latin-1")) or _LONGEST, _LONGEST)
    return seconds - min(0.1, seconds / 10)


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration: "3s" -> 3, "1m30s" -> 90, "500ms" -> 0.5; None for anything else.

    Source: Go's time.ParseDuration; the API server writes whole seconds.
    """
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


class Reviewing:
    """What a worker on the TLS port serves."""

    def __init__(
        self,
        config: Shared[Config],
        certificate: Shared[ServingCertificate | None],
        source: Callable[[], FactsSource],
        metrics: Path,
        clients: ssl.VerifyMode,
    ) -> None:
        self._config = config
        self._certificate = certificate
        self._has_synced = False
        # Without a certificate every handshake fails.
        self._no_certificate = new_context(clients)
        self._open_source = source
        self._directory = metrics

    def start(self, slot: int) -> App:
        self._metrics = Metrics(self._directory, slot, _kinds(self._config.value), load_policies())
        self._source = self._open_source()
        judge = Judge(lambda: self._config.value, self._source, self._metrics, self._config.reloaded.earlier)
        return App(judge, self._metrics)

    def tick(self) -> bool:
        # The memory of a burst of large reviews is free, but in scattered pieces: glibc returns it only when asked.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        self._config.follow()
        self._certificate.follow()
        config, certificate = self._config.reloaded, self._certificate.reloaded
        facts, needed, serving = self._source.facts, needed_facts(config.value), certificate.value
        unlisted = self._source.unlisted(needed)
        self._metrics.gauges = {
            "forestall_facts_synced": float(not unlisted),
            "forestall_facts_timestamp_seconds": facts.read_at.timestamp() if facts.read_at else 0,
            "forestall_certificate_expiry_timestamp_seconds": serving.expires.timestamp() if serving else 0,
            "forestall_certificate_last_reload_successful": float(not certificate.error),
            "forestall_config_last_reload_successful": float(not config.error),
            "forestall_config_last_reload_success_timestamp_seconds": config.read_at,
        }
        self._metrics.facts = count_facts(facts, needed)
        self._metrics.expect(expected_violations(config.value))
        # Only at start: a kind that can't be read later leaves the server the facts that it has.
        self._has_synced = self._has_synced or not unlisted
        waits = [] if self._has_synced else [f"{resource} can't be read: {why}" for resource, why in unlisted.items()]
        self._metrics.waits = waits if serving else [*waits, "there is no certificate yet"]
        logs.flush()
        self._metrics.count_dropped_lines(logs.take_dropped())
        self._metrics.write()
        return not self._metrics.waits

    def context(self) -> ssl.SSLContext:
        serving = self._certificate.value
        return serving.context if serving else self._no_certificate


class Probing:
    """What the worker on the metrics port serves."""

    def __init__(self, readiness: Readiness, metrics: Path) -> None:
        self._probes = Probes(readiness, metrics)

    def start(self, _slot: int) -> Probes:
        return self._probes

    def tick(self) -> bool:
        return True

    def context(self) -> None:
        return None


def serve(settings: ServerSettings) -> int:
    """Serve until SIGTERM has drained everything; returns the process's exit code.

    Raises BadConfig, BadCertificate or FactsUnavailable if it cannot begin.
    """
    logs.configure(settings.log_level)
    _give_memory_back()
    config = Shared("configuration", follow_config(settings.config, _without_ourselves))
    certificate = Shared("certificate", _follow_certificate(settings))
    clients = ssl.CERT_REQUIRED if settings.client_ca else ssl.CERT_NONE
    source = _facts_source(settings)
    readiness = Readiness(settings.workers)
    directory = Path(tempfile.mkdtemp(prefix="forestall-", dir=_memory_directory()))
    parent = os.getpid()
    try:
        Replica(
            Reviewing(config, certificate, source, directory, clients),
            Probing(readiness, directory),
            readiness,
            binds=_binds(settings),
            drain_delay=settings.drain_delay,
            log_level=settings.log_level,
            on_tick=partial(_reload, (config, certificate)),
            on_death=readiness.clear,
        ).run()
    except SystemExit as end:
        # Workers are forked within run(), and come through here as well: they must only end, and clean up nothing.
        if os.getpid() != parent:
            raise
        return int(end.code or 0)
    finally:
        if os.getpid() == parent:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def _give_memory_back() -> None:
    """Have glibc return the memory of large reviews and lists to the system; it would keep it, in an arena for each
    thread."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # a C library other than glibc
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, 2**20), (_TRIM_THRESHOLD, 4 * 2**20)):
        mallopt(option, value)


def _without_ourselves(config: Config, own_namespace: Path = _OWN_NAMESPACE) -> Config:
    """The configuration, this pod's own namespace excluded: Forestall must not keep itself from starting."""
    if not own_namespace.exists():
        return config
    return exclude_own_namespace(config, own_namespace.read_text().strip())


def _follow_certificate(settings: ServerSettings) -> Reloaded[ServingCertificate | None]:
    cert, key = settings.tls_cert, settings.tls_key
    if settings.self_signed:
        return Reloaded((), make_self_signed, lambda pair: load_certificate(pair[0], pair[1], "self-signed"))
    if cert is None or key is None:
        raise BadConfig("no certificate: give --tls-cert and --tls-key, or --self-signed to try things out")
    files = CertificateFiles(cert, key, settings.client_ca)

    def load(contents: FileContents) -> ServingCertificate | None:
        return files.load(contents) if contents else None

    # In a cluster the controller makes the first certificate while servers start. A folder that isn't there is a
    # mistake.
    if cert.parent.is_dir() and key.parent.is_dir() and _is_empty(cert) and _is_empty(key):
        log.warning("waiting for a certificate", file=str(cert))
        return Reloaded(files.paths, files.read, load, first=())
    return Reloaded(files.paths, files.read, load)


def _is_empty(file: Path) -> bool:
    """Whether the file isn't there or holds nothing, as the keys of a Secret do while a lost CA is being replaced."""
    return not file.exists() or not file.stat().st_size


def _facts_source(settings: ServerSettings) -> Callable[[], FactsSource]:
    """The source of a worker's facts: a file, which is read here once for all workers, or the cluster."""
    if settings.facts is not None:
        # In a process of its own: reading a large file would leave this one with twice the memory that the facts need.
        with ProcessPoolExecutor(1, get_context("fork")) as reader:
            fixed = FixedFacts(reader.submit(read_facts, settings.facts, fact_kinds()).result())
        return lambda: fixed
    # The import takes a quarter of a second and 19 MB, which workers share if it is done before they are forked.
    from webhook.cluster.client import Cluster  # noqa: PLC0415
    from webhook.cluster.facts import Watch  # noqa: PLC0415

    def connect() -> Cluster:
        return Cluster.named(settings.kubeconfig, settings.context)

    connect()  # missing credentials end the parent, with a message, rather than one worker after the other

    def follow() -> FactsSource:
        cluster = connect()
        # Kinds of policies that are off are read, too: the configuration may turn a policy on without a restart.
        watch = Watch(cluster, [kind for kind in watched_kinds() if kind.on_servers])
        watch.start()
        return LiveFacts(cluster, watch)

    return follow


def _reload(files: Sequence[Shared[Any]]) -> None:
    """In the parent, every second: read what has changed, and say so once for the replica."""
    logs.flush()
    for shared in files:
        if shared.poll():
            if error := shared.reloaded.error:
                log.error(f"{shared.name} refused, the last good one stays", error=error)
            else:
                log.info(f"{shared.name} reloaded")


def _kinds(config: Config) -> set[str]:
    """The names of all kinds that reviews can be about: the values of a metric's label."""
    return {kind for _group, kind in config.judged} | {"Scale"}


def _binds(settings: ServerSettings) -> tuple[str, str]:
    address = settings.bind or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104 - a pod's own address
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{settings.port}", f"{host}:{settings.metrics_port}"


def _memory_directory() -> str | None:
    """A folder whose files are memory, so that counting never waits for a disk; None for the usual temporary folder."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
