"""What the auditor's parts log, whatever other tests have made of the log."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from webhook.auditor import broken, delivery, history, inventory, notifications, pace, reports, seen


class Logged:
    """The log's lines."""

    def __init__(self) -> None:
        self.lines: list[MutableMapping[str, Any]] = []

    def take(self, _logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
        self.lines.append(event)
        raise structlog.DropEvent

    def count(self, event: str) -> int:
        """The lines that begin with these words."""
        return sum(str(line["event"]).startswith(event) for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    told = Logged()
    logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[told.take])
    for module in (broken, delivery, history, inventory, notifications, pace, reports, seen):
        monkeypatch.setattr(module, "log", logger)
    return told
