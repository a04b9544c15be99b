"""How a notification reaches its receiver: one POST to the URL that the configuration, or a Secret, names."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
import urllib3

from webhook import __version__
from webhook.auditor.notices import SCHEMA, Notice
from webhook.cluster.paths import api_path
from webhook.errors import BadConfig, Undelivered
from webhook.policy import Object
from webhook.sections import URL, Notifications

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = 10.0


class _Reader(Protocol):
    def get(self, path: str) -> Object | None: ...


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
        raise BadConfig(f"{where} holds no URL under the key {secret.key}")
    return url


def body_of(notice: Notice, notifications: Notifications) -> bytes:
    """The notification as the receiver takes it."""
    if notifications.form == "slack":
        return msgspec.json.encode({"text": _plain(notice.text)})
    return msgspec.json.encode({"schema": SCHEMA, **msgspec.to_builtins(notice)})


def _plain(text: str) -> str:
    """The text without what Slack and Mattermost take for a link or a call: names in it may be anybody's."""
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        text = text.replace(character, escaped)
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
