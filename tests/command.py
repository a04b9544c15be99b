"""Types of the command line's fixtures (conftest.py), and a reader of the JSON that `forestall check` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Write = Callable[..., Path]
Run = Callable[..., SimpleNamespace]


def judged(run: Run, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("check", "--output", "json", *arguments).out)
    return document
