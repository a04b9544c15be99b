"""A Secret's or a ConfigMap's folder, as a kubelet fills it."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path


class Mount:
    """All files at once, by one renamed link, some time after the write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data: Mapping[str, bytes] | None = None
        self.due = 0.0
        folder.mkdir(parents=True)

    def sync(self, data: Mapping[str, bytes]) -> None:
        """Bring this there, unless the last change was a moment ago."""
        if time.monotonic() < self.due or data == self.data:
            return
        self.due = time.monotonic() + random.uniform(0, 0.8)
        version = self.folder / f"..{time.monotonic_ns()}"
        version.mkdir()
        for name, value in data.items():
            (version / name).write_bytes(value)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        if self.data is None:
            for name in data:
                (self.folder / name).symlink_to(f"..data/{name}")
        self.data = data
