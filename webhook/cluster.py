"""The Kubernetes API: lists, watches and look-ups of the objects that facts are made of; reads and writes of any.

Importing this takes a quarter of a second and 19 MB, nearly all of it the kubernetes package: import it where a cluster
is really needed, and before a fork, which shares the memory. The package finds and refreshes the credentials and makes
the connections; its model objects are never built, as they are heavy.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import ssl
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from webhook.errors import BadObject, BadQuantity, ClusterRefused, Conflict, FactsUnavailable
from webhook.objects.facts import FACT_FIELDS, FACT_KINDS, NO_FACTS, ClusterFacts, decode_fact, drop_fact, put_fact
from webhook.policy import Object, Reference

_log = logging.getLogger(__name__)

_PREFIXES = {"StorageClass": "/apis/storage.k8s.io/v1"}
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")

_WARNING = re.compile(r'299 [^ ]+ "((?:[^"\\]|\\.)*)"')

_PAGE = 500
_PAGE_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
_WATCH_SECONDS = (240, 300)
_GRACE_SECONDS = 15.0
_GOOD_SECONDS = 10.0
_COALESCE_SECONDS = 0.1
_LONGEST_PAUSE = {False: 10.0, True: 60.0}
"""By whether it is refused: that lasts until somebody changes the cluster's RBAC."""
_FORGET_AFTER = 7
_RECONNECT_SECONDS = 10.0
_LOOK_UPS_AT_ONCE = 8
_CALL_SECONDS = 10.0
_STATUS_BYTES = 1 << 16
"""Of a refusal that is read: an admission webhook's message, the longest there is, may quote many containers."""

_NO_FILES = dict.fromkeys(("ca_certs", "ca_cert_data", "cert_file", "key_file"))

# A dead connection says nothing: the kernel asks after 30 s of silence, and gives up 30 s later.
_KEEPALIVE = tcp_keepalive_socket_options(idle=30, interval=10, count=3)


class _Load(Protocol):
    def __call__(self, *, client_configuration: Configuration) -> None: ...


class _ApiError(Exception):
    """The API server's answer wasn't the one hoped for."""

    def __init__(self, status: int, message: str, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(f"{message} ({status})" if message else f"HTTP status {status}")
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after = retry_after

    @property
    def is_refusal(self) -> bool:
        """We may not read it, or the cluster doesn't have it: waiting for it makes no sense."""
        return self.status in (403, 404)

    @property
    def is_expired(self) -> bool:
        """The version is too old, or, after etcd was restored from a backup, too new: only a new list helps."""
        return self.status in (400, 410, 504)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    metadata: _ListMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""
    reason: str = ""


class _ObjectPage(msgspec.Struct):
    metadata: _ListMeta
    items: list[Object] | None = None


Objects = list[Object]
_Found = tuple[list[Object], list[Reference]]


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
        self.unread: Mapping[str, str] = {}
        """Plural -> why read_facts could not read it."""
        self._connect()

    @classmethod
    def from_kubeconfig(cls, path: str | None = None) -> Cluster:
        """The current context of a kubeconfig, by default the one that kubectl takes. Raises FactsUnavailable."""

        def load(*, client_configuration: Configuration) -> None:
            load_kube_config(path, client_configuration=client_configuration, persist_config=False)  # type: ignore[no-untyped-call]

        return cls(load, f"kubeconfig {path}" if path else "the default kubeconfig")

    @classmethod
    def in_cluster(cls) -> Cluster:
        """The cluster that this pod runs in, as its service account. Raises FactsUnavailable."""
        return cls(load_incluster_config, "the pod's service account")

    def read_facts(self, plurals: Collection[str] = tuple(FACT_KINDS.values())) -> ClusterFacts:
        """List what there is. Kinds that we may not read are left out of `known` and explained in `unread`.

        Raises FactsUnavailable if the cluster cannot be reached or doesn't know us.
        """
        fields: dict[str, Any] = {}
        known, unread = set(), {}
        for kind, plural in FACT_KINDS.items():
            if plural not in plurals:
                continue
            try:
                fields[FACT_FIELDS[kind]], _ = self.list_kind(kind)
                known.add(plural)
            except _ApiError as answer:
                if not answer.is_refusal:
                    raise FactsUnavailable(f"{self.host} does not list {plural}: {_one_line(answer)}") from answer
                unread[plural] = _one_line(answer)
            except (urllib3.exceptions.HTTPError, OSError, msgspec.DecodeError) as error:
                raise FactsUnavailable(f"cannot read {plural} from {self.host}: {_one_line(error)}") from error
        self.unread = unread
        return ClusterFacts(**fields, known=frozenset(known), read_at=datetime.now(UTC))

    def watch(self, plurals: Collection[str]) -> Watch:
        """Facts of these kinds that stay current; start() it."""
        return Watch(self, plurals)

    def look_up(self, references: Collection[Reference], timeout: float) -> _Found:
        """The objects that exist and the references that provably don't, as far as known within `timeout` seconds.

        What could not be told in time, or may not be read, is in neither. Blocks for no longer, whatever the network
        does.
        """
        deadline = time.monotonic() + timeout
        pending: dict[Future[Object | None], Reference] = {}
        absent = []
        for reference in dict.fromkeys(references):
            # The name is what somebody wrote into a pod: it must not lead to another path.
            if _is_name(reference.name) and (not reference.namespace or _is_name(reference.namespace)):
                pending[self._look_ups.submit(self._look_up, reference, deadline)] = reference
            else:
                absent.append(reference)
        wait(pending, max(0.0, deadline - time.monotonic()))
        found = []
        for future, reference in pending.items():
            if future.cancel() or not future.done() or future.exception() is not None:
                continue
            if (obj := future.result()) is None:
                absent.append(reference)
            else:
                found.append(obj)
        return found, absent

    def _look_up(self, reference: Reference, deadline: float) -> Object | None:
        path = _path(reference.kind, reference.namespace, reference.name)
        try:
            obj = msgspec.json.decode(self.read(path, {}, deadline - time.monotonic()), type=dict[str, Any])
        except _ApiError as answer:
            if answer.status == 404:
                return None
            raise
        return obj

    def list_kind(self, kind: str) -> tuple[dict[Any, Any], str]:
        """All of one kind, keyed as the field of ClusterFacts is, and the version from which to watch it.

        Raises _ApiError, or what a broken connection raises.
        """
        path, limit, token = _path(kind), str(_PAGE), ""
        records: dict[Any, Any] = {}
        while True:
            query = {"limit": limit} | ({"continue": token} if token else {})
            try:
                page = msgspec.json.decode(self.read(path, query, _PAGE_SECONDS), type=_Page)
            except _ApiError as answer:
                if answer.status != 410 or not token:
                    raise
                # We were too slow for paging. As client-go does, take it all at once, which cannot expire.
                limit, token = "0", ""
                records.clear()
                continue
            for item in page.items or ():
                _put(records, kind, item)
            token = page.metadata.continue_
            if not token:
                return records, page.metadata.resource_version

    def get(self, path: str, *, timeout: float = _CALL_SECONDS) -> Object | None:
        """The object at an API path such as /api/v1/namespaces/x/secrets/y, or None if there is none.

        Like the methods below: raises ClusterRefused for an answer that says no, FactsUnavailable for no answer.
        """
        try:
            return self._call("GET", path, timeout=timeout).object
        except ClusterRefused as answer:
            if answer.status == 404:
                return None
            raise

    def list(self, path: str, *, labels: str = "", timeout: float = _PAGE_SECONDS) -> Objects:
        """All objects of the collection at an API path, or those that a label selector ("app=web") selects.

        Each is as the API gives it, without kind and apiVersion.
        """
        items: Objects = []
        token = ""
        while True:
            query = {"limit": str(_PAGE), "labelSelector": labels, "continue": token}
            with self._said(f"GET {path}"):
                body = self.read(path, {key: value for key, value in query.items() if value}, timeout)
                page = msgspec.json.decode(body, type=_ObjectPage)
            items += page.items or ()
            token = page.metadata.continue_
            if not token:
                return items

    def create(self, path: str, obj: Object, *, dry_run: bool = False, timeout: float = _CALL_SECONDS) -> Written:
        """Create the object in the collection at an API path; raises Conflict if there is one of that name."""
        return self._call("POST", path, {"dryRun": "All"} if dry_run else {}, obj, timeout)

    def replace(self, path: str, obj: Object, *, timeout: float = _CALL_SECONDS) -> Object:
        """Replace the object at an API path, and return it as it then is.

        Raises Conflict if it is no longer the version that its metadata.resourceVersion names.
        """
        if not obj["metadata"].get("resourceVersion"):
            raise ValueError(f"{path}: a write has to say which version it was decided on")
        return self._call("PUT", path, {}, obj, timeout).object

    def delete(self, path: str, uid: str = "", version: str = "", *, timeout: float = _CALL_SECONDS) -> None:
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
            self._call("DELETE", path, {}, options, timeout)
        except ClusterRefused as answer:
            if answer.status != 404:
                raise

    def now(self) -> datetime:
        """What the API server's clock says, to the second: the Date of an answer, which everybody is given."""
        with self._said("GET /version"), self.open("/version", {}, _CALL_SECONDS) as response:
            response.read()
            date = response.headers.get("Date", "")
        try:
            return parsedate_to_datetime(date)
        except ValueError as error:
            raise FactsUnavailable(f"{self.host} gives no date: {date!r}") from error

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        timeout: float = _CALL_SECONDS,
    ) -> Written:
        with self._said(f"{method} {path}"), self.open(path, query or {}, timeout, method, body) as response:
            obj = msgspec.json.decode(response.read(), type=dict[str, Any])
            return Written(obj, tuple(_warnings(response.headers.getlist("Warning"))))

    @contextlib.contextmanager
    def _said(self, call: str) -> Iterator[None]:
        """Tell "no" from no answer."""
        try:
            yield
        except _ApiError as answer:
            kind = Conflict if answer.status == 409 else ClusterRefused
            raise kind(
                answer.status, answer.reason, answer.message or f"{call}: HTTP status {answer.status}"
            ) from answer
        except (urllib3.exceptions.HTTPError, OSError, msgspec.DecodeError) as error:
            raise FactsUnavailable(f"{call}: no answer from {self.host}: {_one_line(error)}") from error

    def read(self, path: str, query: Mapping[str, str], timeout: float) -> bytearray:
        """The body of the answer, if all of it arrives within `timeout` seconds.

        Raises _ApiError for any status but 200, or what a broken or slow connection raises.
        """
        deadline = time.monotonic() + timeout
        body = bytearray()
        with contextlib.closing(self.open(path, query, timeout)) as response:
            while chunk := response.read1(1 << 20):
                body += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} took longer than {timeout:.3g} s")
        return body

    def open(
        self,
        path: str,
        query: Mapping[str, str],
        read_timeout: float,
        method: str = "GET",
        body: Object | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, with the body still to be read; at no point does it wait longer than `read_timeout` seconds.

        Raises _ApiError for any status but 2xx, or what a broken connection raises.
        """
        pool, configuration = self._connection
        if read_timeout <= 0:
            raise TimeoutError(f"no time left for {path}")
        try:
            with self._lock:  # an expired token may be fetched anew here, once is enough
                authorization = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            response: urllib3.BaseHTTPResponse = pool.request(
                method,
                configuration.host + path + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else msgspec.json.encode(body),
                headers={"Accept": "application/json", "User-Agent": "forestall"}
                | ({} if body is None else {"Content-Type": "application/json"})
                | ({"Authorization": authorization} if authorization else {}),
                timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, read_timeout), read=read_timeout),
                retries=False,
                preload_content=False,
            )
        except urllib3.exceptions.SSLError:
            self._reconnect()
            raise
        if 200 <= response.status < 300:
            return response
        with contextlib.closing(response):
            if response.status == 401:
                self._reconnect()
            said = _status(response)
            raise _ApiError(response.status, said.message, said.reason, _retry_after(response))

    def _connect(self) -> None:
        configuration = Configuration()
        try:
            self._load(client_configuration=configuration)
            configuration.socket_options = _KEEPALIVE
            pool = RESTClientObject(configuration).pool_manager
            if configuration.host.startswith("https"):
                pool.connection_pool_kw.update(_NO_FILES, ssl_context=_ssl_context(configuration))
        except Exception as error:  # the package lets a KeyError or a TypeError out for a malformed kubeconfig
            raise FactsUnavailable(f"cannot use {self._source}: {_one_line(error)}") from error
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
                _log.warning("%s", error)

    @property
    def host(self) -> str:
        return str(self._connection[1].host)


class _Kind:
    """One watched kind; `records` is keyed as the field of ClusterFacts is, and guarded by the watch's lock."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.plural = FACT_KINDS[kind]
        self.records: dict[Any, Any] = {}
        self.is_listed = False
        self.is_changed = False
        self.is_refused = False
        self.version = ""
        """Where to watch from; empty if it has to be listed."""
        self.heard_at: datetime | None = None
        self.trouble = ""
        self.response: urllib3.BaseHTTPResponse | None = None


class Watch:
    """Facts that stay current: `facts` is always a whole, frozen value, which nothing waits for.

    Each kind has a thread that lists and then watches it, for ever, whatever happens to the connection; another one
    turns what they heard into the next value, at most ten times a second.
    """

    def __init__(self, cluster: Cluster, plurals: Collection[str]) -> None:
        self.facts: ClusterFacts = NO_FACTS
        """As of the kind that was last heard of the longest time ago, in `read_at`."""
        self.synced = False
        """Whether every kind was listed once, or was refused: a missing right must not hold up the rest for ever."""
        self.unread: Mapping[str, str] = {}
        """Plural -> what is wrong with reading it just now; what was seen before still stands in `facts`."""
        self._cluster = cluster
        self._kinds = [_Kind(kind) for kind, plural in FACT_KINDS.items() if plural in plurals]
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; they don't survive a fork."""
        self._changed.set()
        jobs = [(self._publish_changes, ())] + [(self._keep, (each,)) for each in self._kinds]
        for job, arguments in jobs:
            thread = threading.Thread(target=job, args=arguments, name=f"watch {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads, which takes a moment at most; `facts` stays as it is."""
        self._stopped.set()
        self._changed.set()
        for each in self._kinds:
            if (response := each.response) is not None:
                _hang_up(response)
        deadline = time.monotonic() + 2
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _publish_changes(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            self._publish()
            self._stopped.wait(_COALESCE_SECONDS)

    def _publish(self) -> None:
        fields: dict[str, Any] = {}
        with self._lock:
            for each in self._kinds:
                if each.is_changed:
                    fields[FACT_FIELDS[each.kind]] = dict(each.records)
                    each.is_changed = False
            known = frozenset(each.plural for each in self._kinds if each.is_listed)
            heard_at = [each.heard_at for each in self._kinds if each.heard_at is not None]
            self.unread = {each.plural: each.trouble for each in self._kinds if each.trouble}
            synced = all(each.is_listed or each.is_refused for each in self._kinds)
        self.facts = replace(self.facts, **fields, known=known, read_at=min(heard_at, default=None))
        # Never before the facts themselves, and never back: what was seen once is still there.
        self.synced = self.synced or synced

    def _keep(self, each: _Kind) -> None:
        """List and watch one kind until stopped. Nothing may end this thread: its facts would be frozen for good."""
        failures = 0
        while not self._stopped.is_set():
            began, pause = time.monotonic(), 0.0
            try:
                if not each.version:
                    self._list(each)
                self._follow(each)
            except _ApiError as answer:
                pause = answer.retry_after
                self._failed(each, answer, answer.is_refusal, forget=answer.is_refusal and failures >= _FORGET_AFTER)
                if answer.is_expired:
                    each.version = ""
            except Exception as error:
                self._failed(each, error)
            lasted = time.monotonic() - began
            failures = 0 if lasted > _GOOD_SECONDS else failures + 1
            if failures:
                self._stopped.wait(max(pause, _backoff(failures, _LONGEST_PAUSE[each.is_refused])))

    def _list(self, each: _Kind) -> None:
        records, version = self._cluster.list_kind(each.kind)
        with self._lock:
            each.records, each.is_listed, each.is_changed = records, True, True
        each.version = version
        self._heard(each)

    def _follow(self, each: _Kind) -> None:
        """Take in what changes until the API server ends it, as it does after a while; raise for any other end."""
        seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311  # so that kinds and replicas don't come back at once
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": each.version,
            "timeoutSeconds": str(seconds),
        }
        with contextlib.closing(self._cluster.open(_path(each.kind), query, seconds + _GRACE_SECONDS)) as response:
            each.response = response
            if self._stopped.is_set():  # stop() may have looked a moment too early
                return
            self._heard(each)  # it may stay silent for a minute
            for line in _lines(response):
                event = msgspec.json.decode(line, type=_Event)
                if event.type == "ERROR":
                    status = msgspec.json.decode(event.object, type=_Status)
                    raise _ApiError(status.code, status.message)
                self._take_in(each, event)
                each.version = msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version
                self._heard(each)

    def _take_in(self, each: _Kind, event: _Event) -> None:
        if event.type == "BOOKMARK":
            return
        with self._lock:
            if event.type == "DELETED":
                _drop(each.records, each.kind, event.object)
            else:
                _put(each.records, each.kind, event.object)
            each.is_changed = True

    def _heard(self, each: _Kind) -> None:
        if each.trouble:
            _log.info("reading %s again", each.plural)
        each.heard_at, each.trouble, each.is_refused = datetime.now(UTC), "", False
        self._changed.set()

    def _failed(self, each: _Kind, error: Exception, is_refused: bool = False, *, forget: bool = False) -> None:
        if self._stopped.is_set():
            return
        trouble = _one_line(error)
        if not each.trouble:
            _log.warning("cannot read %s: %s", each.plural, trouble)
        each.trouble, each.is_refused = trouble, is_refused
        if forget and each.is_listed:
            # A starting API server refuses for seconds what it allows after; one that goes on means it, and what was
            # seen before it took the right away is no longer worth judging by.
            with self._lock:
                each.records, each.is_listed, each.is_changed = {}, False, True
            each.version, each.heard_at = "", None
        self._changed.set()


def _path(kind: str, namespace: str = "", name: str = "") -> str:
    parts = [_PREFIXES.get(kind, "/api/v1"), *(("namespaces", namespace) if namespace else ()), FACT_KINDS[kind]]
    return "/".join([*parts, name] if name else parts)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _put(records: dict[Any, Any], kind: str, body: msgspec.Raw) -> None:
    try:
        put_fact(records, *decode_fact(kind, body))
    except (BadObject, BadQuantity) as error:
        # The API server validates what it stores, but one odd object must not keep us from the others.
        _log.warning("passed over: %s", error)


def _drop(records: dict[Any, Any], kind: str, body: msgspec.Raw) -> None:
    with contextlib.suppress(BadObject, BadQuantity):
        drop_fact(records, decode_fact(kind, body)[0])


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Lines as soon as they are whole."""
    rest = b""
    while chunk := response.read1(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)


def _hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """End another thread's read."""
    with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has ended by itself
        response.shutdown()


def _backoff(failures: int, longest: float) -> float:
    return min(longest, 0.1 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311


def _status(response: urllib3.BaseHTTPResponse) -> _Status:
    """What the API server says; as message the beginning of the body if something else answered in its place."""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        body = response.read(_STATUS_BYTES)
        try:
            return msgspec.json.decode(body, type=_Status)
        except msgspec.DecodeError:
            return _Status(message=body[:200].decode(errors="replace"))
    return _Status()


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


def _one_line(error: BaseException) -> str:
    if len(error.args) == 2 and isinstance(error.args[1], Exception):  # urllib3's ProtocolError wraps the cause so
        error = error.args[1]
    return " ".join(str(error).split()) or type(error).__name__


def _ssl_context(configuration: Configuration) -> ssl.SSLContext:
    """What the package would make anew for each connection, made once.

    So nobody needs the temporary files of inline certificates after this.
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
