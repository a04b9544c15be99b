"""Tries mutations for so many seconds, and says what was tried: python -m tests.fuzz SECONDS [TARGET...]

Each target's inputs follow from a seed, which is printed; FUZZ_SEED in the environment repeats a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tests.builders import DATA
from tests.fuzz import connections, reviews, texts

FOUND = DATA / "fuzz"
"""Inputs that broke something once, by target."""


class Target(NamedTuple):
    make: Callable[[random.Random], bytes]
    check: Callable[[bytes], None]
    """Raises whatever is wrong."""
    around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext


TARGETS = {
    "decisions": Target(reviews.make_case, reviews.check_case),
    "reviews": Target(reviews.make_bytes, reviews.check_bytes),
    "connections": Target(connections.make_connection, connections.check_connection, connections.a_server),
    "configurations": Target(texts.make_config, texts.check_config),
    "files": Target(texts.make_file, texts.check_file),
    "facts": Target(texts.make_fact, texts.check_fact),
    "json": Target(texts.make_json, texts.check_json),
    "quantities": Target(texts.make_quantity, texts.check_quantity),
}


def fuzz(name: str, seed: int, seconds: float, most: int = sys.maxsize) -> tuple[int, list[str]]:
    """How many inputs were tried, and what was found; each kind of finding is kept once."""
    target, dice = TARGETS[name], random.Random(f"{name} {seed}")
    found: dict[str, str] = {}
    tried = 0
    end = time.monotonic() + seconds
    with target.around():
        while time.monotonic() < end and tried < most:
            data = target.make(dice)
            tried += 1
            try:
                target.check(data)
            except Exception as error:
                if (kind := _kind(error)) not in found:
                    found[kind] = f"{kind}: {_keep(name, data)}"
    return tried, list(found.values())


def _kind(error: BaseException) -> str:
    """What went wrong and where, which is the same for all inputs that it goes wrong with."""
    error = error.__cause__ or error
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{where}: {type(error).__name__}: {str(error)[:200]}"


def _keep(name: str, data: bytes) -> str:
    file = FOUND / name / hashlib.sha256(data).hexdigest()[:16]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return str(file)


def main(seconds: float, names: list[str]) -> int:
    seed = int(os.environ.get("FUZZ_SEED") or time.time_ns())
    print(f"{'target':<16}{'inputs':>10}{'found':>8}   seed {seed}")
    failed = False
    for name in names:
        tried, found = fuzz(name, seed, seconds / len(names))
        print(f"{name:<16}{tried:>10}{len(found):>8}", *found, sep="\n    " if found else "", flush=True)
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:] or list(TARGETS)))
