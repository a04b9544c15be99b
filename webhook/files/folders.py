"""Which files are meant by files, folders, globs and "-"."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from webhook.errors import BadManifest
from webhook.files.manifests import STDIN

SUFFIXES: Final = (".yaml", ".yml", ".json")


def find_files(paths: Sequence[str]) -> list[str]:
    """Return the files meant by files, folders, globs and "-", each once, in the order given; folders are sorted.

    A folder that can't be read is among them, for `read_file` to say so: it must not hide what can be. Raises
    BadManifest for what doesn't exist, or holds no manifests: a typo must not pass as "no violations".
    """
    return list(dict.fromkeys(file for path in paths for file in _files_of(path)))


def _files_of(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if os.path.isdir(path):  # noqa: PTH112 - pathlib would drop the "./" that the user typed
        return _files_in(path)
    if os.path.exists(path):  # noqa: PTH110
        return [path]
    if any(sign in path for sign in "*?["):
        import glob  # noqa: PLC0415 - hardly ever needed, and start-up counts

        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if "**" in path:  # It meets every folder by the way, empty ones too, and their files besides.
            matches = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
        if not matches:
            raise BadManifest(path, 1, "no file matches this pattern")
        return [file for match in matches for file in _files_of(match)]
    raise BadManifest(path, 1, "no such file or folder")


def _files_in(folder: str) -> list[str]:
    found: list[str] = []

    def keep(error: OSError) -> None:
        found.append(error.filename)

    for parent, folders, names in os.walk(folder, onerror=keep):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)  # noqa: PTH118
            for name in names
            if name.endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not found:
        raise BadManifest(folder, 1, "no *.yaml, *.yml or *.json file in this folder")
    return sorted(found)
