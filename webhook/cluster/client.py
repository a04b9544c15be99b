"""The Kubernetes API: connections, and reads, look-ups and writes of single objects.

Importing this takes a quarter of a second and 19 MB, nearly all of it the kubernetes package: import it where a cluster
is really needed, and before a fork, which shares the memory. The package finds and refreshes the credentials and makes
the connections; its model objects are never built, as they are heavy.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlencode

import msgspec
import structlog
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from webhook.cluster.paths import fact_path
from webhook.errors import ClusterRefused, Conflict, FactsUnavailable, TooLarge, one_line
from webhook.objects.facts import Found, decode_fact
from webhook.objects.names import is_object_name
from webhook.objects.wire import UNDECODABLE, read_object
from webhook.policy import FactReference, Object
from webhook.prepared import prepare

log = structlog.get_logger()


_WARNING = re.compile(r'299 [^ ]+ "((?:[^"\\]|\\.)*)"')

_NOT_IN_KUBECONFIG = re.compile("Expected object with name (.*) in .*/(context|cluster|user)s list$")

_DEFAULT_KUBECONFIG = "the default kubeconfig (KUBECONFIG, else ~/.kube/config; --kubeconfig names another)"

_CONNECT_SECONDS = 5.0
_RECONNECT_SECONDS = 10.0
_LOOK_UPS_AT_ONCE = 8
_CONNECTIONS = 64
"""Connections that are kept: each kind that is watched has one."""
_CALL_SECONDS = 10.0
_STATUS_BYTES = 1 << 16
"""Bytes of a refusal that are read: an admission webhook's message, the longest there is, may quote many containers."""

_NO_FILES = dict.fromkeys(("ca_certs", "ca_cert_data", "cert_file", "key_file"))

# A dead connection says nothing: the kernel asks after 30 s of silence, and gives up 30 s later.
_KEEPALIVE = tcp_keepalive_socket_options(idle=30, interval=10, count=3)


class _Load(Protocol):
    def __call__(self, *, client_configuration: Configuration) -> None: ...


class _ListMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


prepare(_Status)

_Fact = tuple[FactReference, Any]


class Call(NamedTuple):
    """A call of the Kubernetes API; at no point does it wait longer than `seconds` for the API server."""

    path: str
    query: Mapping[str, str]
    seconds: float
    method: str = "GET"
    body: Object | None = None
    accept: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Written(NamedTuple):
    """What a create made, or with dry_run would have made, and what the API server's Warning headers said of it."""

    object: Object
    warnings: tuple[str, ...]


class Cluster:
    """A cluster to read from and to write to, for any number of threads.

    Make it after a fork rather than before: threads and connections don't survive one, and a kubeconfig's inline
    certificates are temporary files to the kubernetes package, which the first fork that ends removes for all.
    """

    def __init__(self, load: _Load, source: str) -> None:
        self._load = load
        self._source = source
        self._lock = threading.Lock()
        self._look_ups = ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, "look-up")
        self._connect()

    @classmethod
    def from_kubeconfig(cls, path: Path | str | None = None, context: str | None = None) -> Self:
        """A context of a kubeconfig, by default the current one of kubectl's. Raises FactsUnavailable."""

        def load(*, client_configuration: Configuration) -> None:
            load_kube_config(  # type: ignore[no-untyped-call]
                None if path is None else str(path),
                context=context,
                client_configuration=client_configuration,
                persist_config=False,
            )

        return cls(load, f"kubeconfig {path}" if path else _DEFAULT_KUBECONFIG)

    @classmethod
    def named(cls, kubeconfig: Path | None, context: str | None) -> Self:
        """The cluster that a kubeconfig or a context of it names, without both the one that this process runs in.

        Raises FactsUnavailable.
        """
        if kubeconfig is None and context is None:
            return cls.in_cluster()
        return cls.from_kubeconfig(kubeconfig, context)

    @classmethod
    def in_cluster(cls) -> Self:
        """The cluster that this pod runs in, as its service account. Raises FactsUnavailable."""
        return cls(load_incluster_config, "the pod's service account")

    def look_up(self, references: Collection[FactReference], timeout: float) -> Found:
        """The facts of objects that exist, and the references that provably don't, as known within `timeout` seconds.

        What could not be told in time, or may not be read, is in neither. Blocks for no longer, whatever the network
        does.
        """
        deadline = time.monotonic() + timeout
        pending: dict[Future[_Fact | None], FactReference] = {}
        absent = []
        for reference in dict.fromkeys(references):
            # The name is what somebody wrote into a pod: it must not lead to another path.
            if is_object_name(reference.name) and (not reference.namespace or is_object_name(reference.namespace)):
                pending[self._look_ups.submit(self._look_up, reference, deadline)] = reference
            else:
                absent.append(reference)
        wait(pending, max(0.0, deadline - time.monotonic()))
        found = []
        for future, reference in pending.items():
            if future.cancel() or not future.done() or future.exception() is not None:
                continue
            if (fact := future.result()) is None:
                absent.append(reference)
            else:
                found.append(fact)
        return Found(found, absent)

    def _look_up(self, reference: FactReference, deadline: float) -> _Fact | None:
        path = fact_path(reference.kind, reference.namespace, reference.name)
        try:
            return decode_fact(reference.kind, self.read(path, {}, deadline - time.monotonic()))
        except ClusterRefused as answer:
            if answer.status == 404:
                return None
            raise

    def get(self, path: str, *, timeout: float = _CALL_SECONDS) -> Object | None:
        """The object at an API path such as /api/v1/namespaces/x/secrets/y, or None if there is none.

        Like the methods below: raises ClusterRefused for an answer that says no, FactsUnavailable for no answer.
        """
        try:
            return self._call(Call(path, {}, timeout)).object
        except ClusterRefused as answer:
            if answer.status == 404:
                return None
            raise

    def create(self, path: str, obj: Object, *, dry_run: bool = False, timeout: float = _CALL_SECONDS) -> Written:
        """Create the object in the collection at an API path; raises Conflict if there is one of that name."""
        return self._call(Call(path, {"dryRun": "All"} if dry_run else {}, timeout, "POST", obj))

    def replace(self, path: str, obj: Object, *, timeout: float = _CALL_SECONDS) -> Object:
        """Replace the object at an API path, and return it as it then is.

        Raises Conflict if it is no longer the version that its metadata.resourceVersion names.
        """
        if not obj["metadata"].get("resourceVersion"):
            raise ValueError(f"{path}: a write has to say which version it was decided on")
        # The API server keeps its managedFields where none are sent; of ours most is missing (wire.read_object).
        metadata = {field: value for field, value in obj["metadata"].items() if field != "managedFields"}
        return self._call(Call(path, {}, timeout, "PUT", {**obj, "metadata": metadata})).object

    def delete(self, path: str, uid: str = "", version: str = "") -> None:
        """Delete the object at an API path, if it is still there.

        Raises Conflict if it is another one than `uid` says, or no longer the resourceVersion `version`.
        """
        conditions = {"uid": uid, "resourceVersion": version}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {key: value for key, value in conditions.items() if value},
        }
        try:
            self._call(Call(path, {}, _CALL_SECONDS, "DELETE", options))
        except ClusterRefused as answer:
            if answer.status != 404:
                raise

    def now(self) -> datetime:
        """The API server's time, to the second: the Date header of an answer, for which no right is needed."""
        call = Call("/version", {}, _CALL_SECONDS)
        with self.open(call) as response, self._answering(call):
            response.read()
            date = response.headers.get("Date", "")
        try:
            return parsedate_to_datetime(date)
        except ValueError as error:
            raise FactsUnavailable(f"{self.host} gives no date: {date!r}") from error

    def _call(self, call: Call) -> Written:
        with self.open(call) as response, self._answering(call):
            return Written(read_object(response.read()), tuple(_warnings(response.headers.getlist("Warning"))))

    def read(
        self,
        path: str,
        query: Mapping[str, str],
        timeout: float,
        most: int | None = None,
        accept: str = "application/json",
    ) -> bytearray:
        """The body of the answer, if all of it arrives within `timeout` seconds.

        Raises ClusterRefused for any status but 2xx, FactsUnavailable for what a broken or slow connection does,
        TooLarge once more than `most` bytes have arrived.
        """
        deadline = time.monotonic() + timeout
        body = bytearray()
        call = Call(path, query, timeout, accept=accept)
        with self.open(call) as response, self._answering(call):
            while chunk := response.read1(1 << 20):
                body += chunk
                if most is not None and len(body) > most:
                    response.close()
                    raise TooLarge(f"{call}: the answer has more than {most} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took longer than {timeout:.3g} s")
        return body

    def open(self, call: Call) -> urllib3.BaseHTTPResponse:
        """The answer, with the body still to be read: every call goes through here.

        Raises ClusterRefused for any status but 2xx, FactsUnavailable for what a broken connection does.
        """
        pool, configuration = self._connection
        with self._answering(call):
            if call.seconds <= 0:
                raise TimeoutError("no time is left")
            with self._lock:  # the package may renew an expired token here; after one failure it isn't tried again
                authorization = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            response: urllib3.BaseHTTPResponse = pool.request(
                call.method,
                configuration.host + call.path + (f"?{urlencode(call.query)}" if call.query else ""),
                body=None if call.body is None else msgspec.json.encode(call.body),
                headers={"Accept": call.accept, "User-Agent": "forestall"}
                | ({} if call.body is None else {"Content-Type": "application/json"})
                | ({"Authorization": authorization} if authorization else {}),
                timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, call.seconds), read=call.seconds),
                retries=False,
                preload_content=False,
            )
        if 200 <= response.status < 300:
            return response
        with contextlib.closing(response):
            if response.status == 401:
                self._reconnect()
            raise _refusal(response, call)

    @contextlib.contextmanager
    def _answering(self, call: Call) -> Iterator[None]:
        """Turns every error that keeps a call from being answered into FactsUnavailable, in one line that names the
        call."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError, *UNDECODABLE) as error:
            if isinstance(error, urllib3.exceptions.SSLError):
                self._reconnect()
            raise FactsUnavailable(f"{call}: no answer from {self.host}: {one_line(error)}") from error

    def _connect(self) -> None:
        configuration = Configuration()
        try:
            self._load(client_configuration=configuration)
            configuration.socket_options = _KEEPALIVE
            configuration.connection_pool_maxsize = _CONNECTIONS
            pool = RESTClientObject(configuration).pool_manager
            if configuration.host.startswith("https"):
                pool.connection_pool_kw.update(_NO_FILES, ssl_context=_ssl_context(configuration))
        except Exception as error:  # the package lets a KeyError or a TypeError out for a malformed kubeconfig
            raise FactsUnavailable(f"cannot use {self._source}: {_why_unusable(error)}") from error
        self._connection = pool, configuration
        self._connected_at = time.monotonic()

    def _reconnect(self) -> None:
        """Read credentials and CA again: a token, a client certificate or a CA may have been replaced in its file."""
        with self._lock:
            if time.monotonic() - self._connected_at < _RECONNECT_SECONDS:
                return
            try:
                self._connect()
            except FactsUnavailable as error:
                log.warning("credentials not read again", error=str(error))

    @property
    def host(self) -> str:
        return str(self._connection[1].host)


def _why_unusable(error: Exception) -> str:
    """What is wrong with a kubeconfig, or with the environment of what should be a pod, in the package's words only
    where they say it."""
    if isinstance(error, (AttributeError, IndexError, KeyError, TypeError)):
        return "it is no kubeconfig"
    text = one_line(error)
    if absent := _NOT_IN_KUBECONFIG.search(text):
        return f"it has no {absent[2]} {absent[1]!r}"
    if "No configuration found" in text:
        return "there is none"
    if "host/port is not set" in text:
        return "this runs in no cluster: name one with --kubeconfig"
    return text


def _refusal(response: urllib3.BaseHTTPResponse, call: Call) -> ClusterRefused:
    """The API server's refusal; its message is the beginning of the body if a proxy answered in the API server's
    place."""
    said = _Status()
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        body = response.read(_STATUS_BYTES)
        try:
            said = msgspec.json.decode(body, type=_Status)
        except UNDECODABLE:
            said = _Status(message=body[:200].decode(errors="replace"))
    return (Conflict if response.status == 409 else ClusterRefused)(
        response.status,
        said.reason,
        said.message or f"{call}: HTTP status {response.status}",
        retry_after=_retry_after(response),
        token=said.metadata.token,
    )


def _warnings(headers: Iterable[str]) -> Iterator[str]:
    """The texts of Warning headers: `299 - "say \\"why\\""` -> `say "why"`.

    Source: RFC 9111, 5.5 (as RFC 7234 had it); code 299 is the only one that the API server sends.
    """
    for header in headers:
        for quoted in _WARNING.findall(header):
            yield re.sub(r"\\(.)", r"\1", quoted)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isascii() and value.isdigit() else 0.0


def _ssl_context(configuration: Configuration) -> ssl.SSLContext:
    """The TLS settings of all connections; the package would make them for each. The temporary files of inline
    certificates aren't needed after this.
    """
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    # As kubectl does: many a cluster's CA lacks the extensions that newer Pythons ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context
