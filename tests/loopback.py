"""Helpers of tests with real processes: free ports, and waiting until a condition holds."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import SystemRandom
from typing import Any

_PORTS = range(10_000, 32_768)
"""Below those that Linux gives to outgoing connections, one of which would take a port before its program starts."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens now."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = SystemRandom().choice(_PORTS)  # what a seeded generator gives, another process gets as well
            listener = held.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                found.append(port)
    return found


def eventually(is_so: Callable[[], Any], what: str = "", seconds: float = 60) -> Any:
    """Wait until it is so, and return what it was; `what` is said if that never comes."""
    deadline = time.monotonic() + seconds
    while not (value := is_so()):
        assert time.monotonic() < deadline, what or f"it never came to that: {value!r}"
        time.sleep(0.02)
    return value


def is_ready(port: int) -> bool:
    """Whether the server with this metrics port says that it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
