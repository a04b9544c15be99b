"""Helpers of tests with real processes: free ports, and waiting until a condition holds."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


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
