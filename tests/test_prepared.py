"""Types that several threads decode at once: msgspec ends the process where it comes to one in two threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
from typing import Any
import msgspec
from webhook.prepared import prepare

sys.setswitchinterval(1e-6)

def declared():
    class Meta(msgspec.Struct):
        name: str = ""
        labels: dict[str, Any] | None = None
        owners: list[dict[str, str]] | None = None

    class Object(msgspec.Struct):
        metadata: Meta

    class Listed(msgspec.Struct):
        metadata: Meta
        items: list[msgspec.Raw] | None = None

    return Object, Listed

BODY = b'{"metadata":{"name":"a","labels":{"a":1},"owners":[{"a":"b"}]},"items":[{}]}'
for _ in range(400):
    types = declared()
    PREPARE
    barrier = threading.Barrier(4)

    def run(type_):
        barrier.wait()
        msgspec.json.decode(BODY, type=type_)

    threads = [threading.Thread(target=run, args=(type_,)) for type_ in types * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_may_decode_what_is_prepared() -> None:
    program = PROGRAM.replace("PREPARE", "prepare(*types)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
