"""What a worker counts, and what happens when it can't be written down."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from webhook.server import metrics as metrics_module
from webhook.server.metrics import Metrics, print_metrics


def test_what_cannot_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for level in ("warning", "info"):
        monkeypatch.setattr(metrics_module.log, level, lambda event, **more: said.append((event, more)), raising=False)
    metrics = Metrics(tmp_path, 0, set(), [])

    def refuse(_path: Path, _data: bytes) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", refuse)
        for status in (400, 404, 404):
            metrics.count_refusal(status)
            metrics.write()
    metrics.write()
    text = print_metrics(tmp_path, 1).decode()
    assert 'forestall_refused_requests_total{code="404"} 2.0' in text
    assert "forestall_unwritten_metrics_total 3.0" in text
    assert "forestall_dropped_log_lines_total 0.0" in text
    assert said == [
        ("metrics are not written", {"error": "[Errno 24] Too many open files"}),
        ("metrics are written again", {"failures": 3}),
    ]
