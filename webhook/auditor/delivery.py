"""How a notification reaches its receiver: one POST to the URL that the configuration, or a Secret, names."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
import urllib3

from webhook import __version__
from webhook.auditor.notices import SCHEMA, Notice
from webhook.auditor.pace import Troubles
from webhook.cluster.paths import api_path
from webhook.errors import BadConfig, FactsUnavailable, ForestallError, Undelivered
from webhook.policy import Object
from webhook.sections import URL, Notifications

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECONDS = 10.0
_APART = "\u200b"
"""A space of no width."""
_NOT_PLAIN = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "@": f"@{_APART}",
    "](": f"]{_APART}(",
    "://": f":{_APART}//",
}
"""Seconds that a receiver has for its answer."""
SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
"""Seconds until what failed is tried again: twice as many after each failure."""

log = structlog.get_logger()


class _Reader(Protocol):
    def get(self, path: str) -> Object | None: ...


class Delivery:
    """Sends one notification at a time, in a thread of its own; what fails is tried again, ever more rarely."""

    def __init__(self, cluster: _Reader, own: str, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._own = own
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._delivered: set[str] = set()
        self._failures = 0
        self._not_before = 0.0
        self._urls: dict[str, str] = {}
        """Secret and key -> the URL that was last read there, for when the API server doesn't answer."""
        self._troubles = Troubles("no notification")

    def send(self, notice: Notice, to: Notifications) -> None:
        """Begin to send it, unless one is being sent, or it is too early to try again."""
        with self._lock:
            is_delivered = notice.id in self._delivered
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy or is_delivered or self._clock() < self._not_before:
            return
        self._thread = threading.Thread(target=self._send, args=(notice, to), name="notification", daemon=True)
        self._thread.start()

    def delivered(self) -> set[str]:
        """The ids of what was sent since this was last asked."""
        with self._lock:
            delivered, self._delivered = self._delivered, set()
        return delivered

    def _send(self, notice: Notice, to: Notifications) -> None:
        try:
            post(self._url(to), body_of(notice, to))
        except ForestallError as error:
            self._failed(error)
        except Exception as error:
            log.exception("a notification failed")
            self._failed(error)
        else:
            log.info("notified", kind=notice.kind, id=notice.id)
            self._failures, self._not_before = 0, 0.0
            self._troubles.over("receiver")
            with self._lock:
                self._delivered.add(notice.id)

    def _failed(self, error: Exception) -> None:
        pause = min(_LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = self._clock() + pause
        self._troubles.tell("receiver", error)

    def _url(self, to: Notifications) -> str:
        of = str(to.secret)
        try:
            self._urls[of] = read_url(to, self._cluster, self._own)
        except FactsUnavailable:
            if of not in self._urls:
                raise
        return self._urls[of]


def read_url(notifications: Notifications, cluster: _Reader, namespace: str) -> str:
    """The receiver's URL. Raises BadConfig for a Secret that holds none, ClusterRefused or FactsUnavailable."""
    secret = notifications.secret
    if secret is None:
        return notifications.url
    where = f"Secret {namespace}/{secret.name}"
    stored = cluster.get(api_path("", "v1", "secrets", namespace, secret.name))
    if stored is None:
        raise BadConfig(f"there is no {where}, which notifications.secret names")
    data: Mapping[str, Any] = stored.get("data") or {}
    if secret.key not in data:
        raise BadConfig(f"{where} has no key {secret.key}, which notifications.secret names")
    try:
        url = base64.b64decode(data[secret.key]).decode().strip()
    except (binascii.Error, UnicodeDecodeError, TypeError):
        url = ""
    if not re.fullmatch(URL, url) or not url:
        raise BadConfig(f"{where} holds no URL under the key {secret.key}: it begins with https:// or http://")
    return url


def body_of(notice: Notice, notifications: Notifications) -> bytes:
    """The notification as the receiver takes it."""
    if notifications.form == "slack":
        return msgspec.json.encode({"text": _plain(notice.text)})
    return msgspec.json.encode({"schema": SCHEMA, **msgspec.to_builtins(notice)})


def _plain(text: str) -> str:
    """The text without what Slack and Mattermost take for a link, an image or a call: names in it may be anybody's."""
    for taken, escaped in _NOT_PLAIN.items():
        text = text.replace(taken, escaped)
    return text


def post(url: str, body: bytes) -> int:
    """Send it, and return the HTTP status. Raises Undelivered."""
    host = urlsplit(url).hostname or "?"
    headers = {"Content-Type": "application/json", "User-Agent": f"forestall/{__version__}"}
    try:
        with (
            urllib3.PoolManager() as pool,
            pool.request(
                "POST",
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=_SECONDS),
                retries=False,
                redirect=False,
                preload_content=False,
            ) as response,
        ):
            status = response.status
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        # urllib3's own texts quote the URL's path.
        raise Undelivered(f"no answer from {host}: {_why(error)}") from error
    if not 200 <= status < 300:
        raise Undelivered(f"{host} answered HTTP status {status}")
    return status


def _why(error: BaseException) -> str:
    names = {
        urllib3.exceptions.NameResolutionError: "its name can't be resolved",
        urllib3.exceptions.NewConnectionError: "it can't be connected to",
        urllib3.exceptions.ConnectTimeoutError: "it can't be connected to in time",
        urllib3.exceptions.ReadTimeoutError: f"none within {_SECONDS:.0f} s",
        urllib3.exceptions.SSLError: "its certificate isn't trusted, or it speaks no TLS",
    }
    return next((text for kind, text in names.items() if isinstance(error, kind)), type(error).__name__)
