"""The files that the arguments of `forestall check` mean: files, folders, globs and "-"."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from webhook.errors import BadManifest
from webhook.files.kubectl_yaml import Builder, UnreadableError, compose
from webhook.files.manifests import STDIN

SUFFIXES: Final = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")


@dataclass(slots=True)
class Files:
    """The files that are meant, once for all paths, in the order given; those of a folder are sorted.

    found   those of them that nobody named: they stand in a folder, where other things stand, too
    notes   what of the folders was left out, and how to judge it
    errors  paths that mean nothing
    """

    files: dict[str, None] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    errors: list[BadManifest] = field(default_factory=list)


def find_files(paths: Sequence[str], exclude: Sequence[str] = ()) -> Files:
    """The files meant by files, folders, globs and "-", without those that a glob in `exclude` fits.

    A folder that can't be read is among them, for `read_file` to say so: it must not hide what can be. A path that
    doesn't exist, or holds no manifests, is an error: a typo must not pass as "no violations".
    """
    search = _Search(exclude)
    for path in paths:
        try:
            search.add(path)
        except BadManifest as error:
            search.meant.errors.append(error)
    return search.meant


class _Search:
    def __init__(self, exclude: Sequence[str]) -> None:
        self.exclude = exclude
        self.meant = Files()

    def add(self, path: str) -> None:
        if path == STDIN:
            self.meant.files[path] = None
        elif os.path.isdir(path):  # noqa: PTH112 - pathlib would drop the "./" that the user typed
            self._add_folder(path)
        elif os.path.exists(path):  # noqa: PTH110
            if not self._is_excluded(path):
                self.meant.files[path] = None
                self.meant.found.discard(path)
                folder, name = os.path.split(path)
                if name in _KUSTOMIZATIONS:
                    self._note_kustomization(f"{path} is a kustomization", folder or ".")
        elif any(sign in path for sign in "*?["):
            self._add_glob(path)
        else:
            raise BadManifest(path, 1, "no such file or folder")

    def _is_excluded(self, path: str) -> bool:
        name = os.path.basename(path)  # noqa: PTH119
        whole = os.path.normpath(path)
        return any(fnmatchcase(name, glob) or fnmatchcase(whole, os.path.normpath(glob)) for glob in self.exclude)

    def _note_kustomization(self, what: str, folder: str) -> None:
        self.meant.notes.append(f"{what}: kustomize build {folder} | forestall check -")

    def _add_glob(self, pattern: str) -> None:
        import glob  # noqa: PLC0415 - hardly ever needed, and start-up counts

        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        if "**" in pattern:  # "**" matches every folder, too, and the files in it are matched by themselves.
            matches = [match for match in matches if not os.path.isdir(match)]  # noqa: PTH112
        if not matches:
            raise BadManifest(pattern, 1, "no file matches this pattern")
        for match in matches:
            self.add(match)

    def _add_folder(self, folder: str) -> None:
        found: list[str] = []
        patches: set[str] = set()
        notes = len(self.meant.notes)
        is_cut = False

        def keep(error: OSError) -> None:
            found.append(error.filename)

        for parent, folders, names in os.walk(folder, onerror=keep):
            if "Chart.yaml" in names:
                folders.clear()
                self.meant.notes.append(f"{parent} is a chart: helm template {parent} | forestall check -")
                continue
            folders[:] = [name for name in folders if not name.startswith(".")]
            if self.exclude:
                kept = [name for name in folders if not self._is_excluded(f"{parent}{os.sep}{name}")]
                is_cut, folders[:] = is_cut or kept != folders, kept
            for name in names:
                path = os.path.join(parent, name)  # noqa: PTH118
                if name in _KUSTOMIZATIONS and (patched := _patches(path)) is not None:
                    patches |= patched
                    if patched:
                        self._note_kustomization(f"{parent} has patches", parent)
                elif not name.endswith(SUFFIXES) or name.startswith("."):
                    continue
                elif self.exclude and self._is_excluded(path):
                    is_cut = True
                else:
                    found.append(path)
        if patches:
            found = [path for path in found if os.path.normpath(path) not in patches]
        if not found and not is_cut and len(self.meant.notes) == notes:
            raise BadManifest(folder, 1, "no *.yaml, *.yml or *.json file in this folder")
        found.sort()
        self.meant.found.update(path for path in found if path not in self.meant.files)
        self.meant.files.update(dict.fromkeys(found))


def _patches(kustomization: str) -> set[str] | None:
    """The files, as normal paths, of a kustomization's patches, which are parts of objects; an inline one is that of
    the kustomization itself. None if it can't be read."""
    try:
        with open(kustomization, "rb") as file:  # noqa: PTH123
            text = file.read()
        root = compose(text)
        read = Builder().build_document(root, len(text)) if root else None
    except (OSError, ValueError, yaml.YAMLError, UnreadableError):
        return None
    folder = os.path.dirname(kustomization)  # noqa: PTH120
    named = _named(read) if isinstance(read, dict) else ()
    return {os.path.normpath(os.path.join(folder, path)) for path in named}  # noqa: PTH118


def _named(kustomization: dict[str, Any]) -> Iterator[str]:
    for key in ("patches", "patchesStrategicMerge", "patchesJson6902"):
        patches = kustomization.get(key)
        for patch in patches if isinstance(patches, list) else ():
            path = patch.get("path") if isinstance(patch, dict) else patch
            yield path if isinstance(path, str) and "\n" not in path else _KUSTOMIZATIONS[0]
