"""Judging all that a cluster stores, beside msgspec decoding the same list pages; the memory of the whole command."""

# ruff: noqa: S603 - it runs what is measured
from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import msgspec

from bench.figures import Figure, interleaved
from bench.inputs import ROOT, read_recordings, small_cluster
from webhook.audit.judge import GC_THRESHOLDS, audit
from webhook.cluster.lists import PAGE
from webhook.cluster.paths import path_of
from webhook.config import Config, load_config
from webhook.loader import fact_kinds
from webhook.objects.facts import CLAIMS, ClusterFacts, facts_of

_COPIES = 20
_ROUNDS = 7
_WORKLOADS = 50_000
_TODAY = date(2026, 1, 2)
_DECODING = "msgspec.json.decode of the same pages"

Pages = Mapping[str, list[bytes]]
"""API path of a collection -> its pages."""

# In a process of its own: what it costs to list must not count for who reads the lists.
_API = """
import sys
from pathlib import Path
from bench.audit import many
from tests.fake_api import FakeApi
api = FakeApi()
api.groups = ("apps", "batch", "monitoring.coreos.com")
api.objects.update(many(int(sys.argv[2])))
api.objects["configmaps"] = []
print(api.kubeconfig(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""

# The command, which then says the most memory that it had, in kB.
_COMMAND = """
import re, sys
from webhook.cli import main
main(sys.argv[1:])
print(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def measure() -> list[Figure]:
    return [*_time(), _memory()]


def _time() -> Iterator[Figure]:
    config, facts = load_config(b"", "defaults"), facts_of(small_cluster(), fact_kinds())
    mix = _recorded(config)
    sound = {path: _without_findings(path, _mended(objects), config, facts) for path, objects in mix.items()}
    for what, lists, most in (("the corpus' mix", mix, 4), ("where nothing violates", sound, 2)):
        cluster = _Stored({path: list(_pages(objects, _COPIES)) for path, objects in lists.items() if objects})
        measures: dict[str, Callable[[], None]] = {
            "audit": partial(_audit, cluster, config, facts),
            "decode": cluster.decode,
        }
        collectors = {"audit": GC_THRESHOLDS, "decode": gc.get_threshold()}
        found = interleaved({name: partial(_ms, job, collectors[name]) for name, job in measures.items()}, _ROUNDS)
        yield Figure(f"{what}; {_DECODING}", found["audit"], "ms", found["decode"], ratio_at_most=most)


def _audit(cluster: _Stored, config: Config, facts: ClusterFacts) -> None:
    audit(cluster, config, facts, lambda request: request.namespace, today=_TODAY)


def _ms(job: Callable[[], None], collector: tuple[int, int, int]) -> float:
    """Milliseconds of one run with the collector's thresholds that its process has."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*collector)
    began = process_time()
    job()
    taken = process_time() - began
    gc.set_threshold(*before)
    return taken * 1000


def _recorded(config: Config) -> dict[str, list[Any]]:
    """API path of a collection -> the corpus' objects in it, as the API server stores them."""
    lists = defaultdict(list)
    for line in read_recordings("charts.jsonl"):
        request = line["review"]["request"]
        group, kind, version = request["kind"]["group"], request["kind"]["kind"], request["kind"]["version"]
        if line["path"].startswith("/validate") and request["operation"] == "CREATE" and (group, kind) in config.judged:
            lists[path_of(config.judged[group, kind].kind, version)].append(request["object"])
    return lists


def _mended(obj: Any) -> Any:
    """The object with a size that no policy minds in every container."""
    if isinstance(obj, list):
        return [_mended(item) for item in obj]
    if not isinstance(obj, dict):
        return obj
    mended = {key: _mended(value) for key, value in obj.items()}
    if "image" in mended and "name" in mended:
        mended["resources"] = {part: {"memory": "8Gi"} for part in ("limits", "requests")}
    return mended


def _without_findings(path: str, objects: list[Any], config: Config, facts: ClusterFacts) -> list[Any]:
    def is_sound(obj: Any) -> bool:
        cluster = _Stored({path: list(_pages([obj], 1))})
        return not len(audit(cluster, config, facts, lambda _request: "", today=_TODAY).findings)

    return [obj for obj in objects if is_sound(obj)]


def many(workloads: int) -> dict[str, list[Any]]:
    """By plural, the corpus' objects again and again under other names, until there are so many workloads."""
    config = load_config(b"", "defaults")
    lists = _recorded(config)
    claims = f"/{CLAIMS.resource}"
    copies = -(-workloads // sum(len(objects) for path, objects in lists.items() if not path.endswith(claims)))
    return {path.rpartition("/")[2]: list(_copies(objects, copies)) for path, objects in lists.items()}


def _copies(objects: list[Any], copies: int) -> Iterator[Any]:
    """The objects, so many times under other names, as an API server lists them: without their kind."""
    for number in range(copies * len(objects)):
        obj = {key: value for key, value in objects[number % len(objects)].items() if key not in ("apiVersion", "kind")}
        name = f"{obj['metadata'].get('name')}-{number}"
        yield obj | {"metadata": obj["metadata"] | {"name": name, "uid": f"uid-{name}"}}


def _memory() -> Figure:
    with tempfile.TemporaryDirectory() as name, _api(Path(name)) as kubeconfig:
        command = [sys.executable, "-c", _COMMAND, "audit", "--kubeconfig", kubeconfig, "--output=csv"]
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
        )
    return Figure(f"memory, {_WORKLOADS:,} workloads", int(done.stderr.split()[-1]) / 1000, "MB", at_most=150)


@contextmanager
def _api(folder: Path) -> Iterator[str]:
    """A kubeconfig for an API server that holds many workloads."""
    command = [sys.executable, "-c", _API, str(folder), str(_WORKLOADS)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as api:
        assert api.stdout  # noqa: S101 - a pipe, as asked for
        yield api.stdout.readline().strip()


def _pages(objects: list[Any], copies: int) -> Iterator[bytes]:
    listed = list(_copies(objects, copies))
    for start in range(0, len(listed), PAGE):
        metadata = {"resourceVersion": "1", "continue": str(start + PAGE) if start + PAGE < len(listed) else ""}
        page = {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": listed[start : start + PAGE]}
        yield msgspec.json.encode(page)


class _Stored:
    """A cluster that holds these pages."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def read(self, path: str, query: Mapping[str, str], _timeout: float, _most: int | None = None) -> bytes:
        pages = self._pages.get(path) or [b'{"metadata":{}}']
        return pages[int(query.get("continue", 0)) // PAGE]

    def get(self, path: str) -> dict[str, Any] | None:
        if path != "/apis":
            return None
        served = {tuple(path.split("/")[2:4]) for path in self._pages if path.startswith("/apis/")}
        return {"groups": [{"name": group, "preferredVersion": {"version": version}} for group, version in served]}

    def decode(self) -> None:
        for pages in self._pages.values():
            for page in pages:
                msgspec.json.decode(page)
