"""How work grows with its input: counted in steps of the interpreter and bytes, which no busy machine changes."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

Call = Callable[[], object]


class Work(NamedTuple):
    steps: int
    """Lines that ran, calls and returns."""
    size: int
    """Bytes at the peak."""


def measure(call: Call) -> Work:
    """The lines that a call runs, and its peak of memory; the call is made twice."""
    tracemalloc.start()
    try:
        call()
        size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    steps = 0

    def trace(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return Work(steps, size)


def assert_linear(make: Callable[[int], Call], size: int) -> None:
    """That what `make` makes for twice the size takes at most 2.2 times the steps and bytes, and so twice over."""
    once, later = measure(make(size)), measure(make(4 * size))
    assert later.steps <= 2.2**2 * once.steps, f"{once.steps} steps become {later.steps}"
    assert later.size <= 2.2**2 * once.size, f"{once.size} bytes become {later.size}"
