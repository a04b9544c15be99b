"""Which containers hold Prometheus' time series, and which only forward what they collect.

An image's name tells first; a mirror may have taken that away (a digest of a release payload), and then Prometheus' own
flags tell, or a label together with the container's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

from webhook.objects.containers import Container
from webhook.objects.fields import items
from webhook.objects.pods import Workload
from webhook.objects.products import AGENTS, product_of
from webhook.objects.quantities import Memory

# The series of a Prometheus resource are in the container of this name, whatever image the resource names.
_OPERATED_SERVER = "prometheus"
SERVER_NAMES = frozenset({"prometheus", "prometheus-server"})
"""What charts and operators call the server's container, and its pods by their labels."""
LEAST_REQUEST, LEAST_LIMIT = Memory.parse("4Gi"), Memory.parse("6Gi")
"""What ended the incident of a Prometheus with 2Gi and 3Gi."""
_NAME_LABELS = ("app.kubernetes.io/name", "app", "k8s-app")
# Thanos says --tsdb.path, and Mimir -blocks-storage.tsdb.dir.
_OWN_FLAG = re.compile(r"(?<!\S)--storage\.(?:tsdb|agent)\.[a-z.-]+")
_AGENT_FLAG = "--storage.agent."

_SHELLS = frozenset({"ash", "bash", "dash", "sh"})
_SHELL_SCRIPT = re.compile(r"-[a-z]*c")
# A command's end, a comment, or a word as the shell reads it; words hold their quotes.
_SHELL_TOKEN = re.compile(
    r"(?P<end>[;&|()\n]+)|(?<!\S)\#[^\n]*"
    r"|(?P<word>(?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|[^\s;&|()'\"\\])++)",
    re.DOTALL,
)
_SHELL_QUOTES = re.compile(r"\\\n|['\"]|\\(?=.)")
_ALL_ARGUMENTS = frozenset({"$@", "$*"})

_SWITCHES = frozenset(
    {
        "agent",
        "alertmanager.drain-notification-queue-on-shutdown",
        "auto-gomaxprocs",
        "auto-gomemlimit",
        "export.debug.disable-auth",
        "export.disable",
        "scrape.adjust-timestamps",
        "storage.agent.no-lockfile",
        "storage.agent.wal-compression",
        "storage.tsdb.allow-overlapping-blocks",
        "storage.tsdb.allow-overlapping-compaction",
        "storage.tsdb.no-lockfile",
        "storage.tsdb.wal-compression",
        "version",
        "web.enable-admin-api",
        "web.enable-lifecycle",
        "web.enable-otlp-receiver",
        "web.enable-remote-write-receiver",
    }
)
"""Prometheus' flags that take no value (docs/command-line/prometheus.md, those whose default is true or false, those of
Prometheus 2, and two of Google's build); after any other one a word is its value."""


def series_containers(workload: Workload) -> list[Container]:
    """The containers that hold Prometheus' time series, in agent mode too (`is_agent` tells)."""
    return [container for container in workload.containers if holds_series(workload, container)]


def holds_series(workload: Workload, container: Container) -> bool:
    """Whether the container is one of the workload's series_containers."""
    return _is_operated_server(workload, container) or (
        container.role != "init" and _is_server(workload, container) and not _runs_promtool(container)
    )


def find_flag(container: Container, flag: re.Pattern[str]) -> str | None:
    """What of the container's command line is such a flag, in a script, too; None if nothing is."""
    for part in ("command", "args"):
        words = container.spec.get(part)
        for word in words if words and isinstance(words, list) else ():
            if found := flag.search(str(word)):
                return found[0]
    return None


def flag_value(container: Container, *names: str) -> str | None:
    """The value that the container's command line gives one of these flags ("config.file"), in a script, too; the last
    one, if there are several."""
    words = "\n".join(word for part in ("command", "args") for word in _strings(container.spec.get(part)))
    found = _flag_pattern(names).findall(words)
    return str(found[-1]).strip("'\"") if found else None


@lru_cache(maxsize=128)
def _flag_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\S)--?(?:{'|'.join(map(re.escape, names))})(?:=|\s+)(\S+)")


def sends_elsewhere(spec: Mapping[str, Any]) -> bool:
    """Whether the Prometheus of an operator's resource sends its series elsewhere."""
    thanos = spec.get("thanos")
    has_objects = isinstance(thanos, dict) and any(thanos.get(field) for field in _OBJECT_STORAGE)
    return bool(spec.get("remoteWrite")) or has_objects


_OBJECT_STORAGE = ("objectStorageConfig", "objectStorageConfigFile")


def _is_operated_server(workload: Workload, container: Container) -> bool:
    if not workload.is_operated or workload.kind not in ("Prometheus", "PrometheusAgent"):
        return False
    return container.name == _OPERATED_SERVER and container.role == "container"


def _is_server(workload: Workload, container: Container) -> bool:
    product = product_of(container.image)
    if product.role != "other":
        return product.name == "prometheus"
    if find_flag(container, _OWN_FLAG) is not None:
        return True
    labels = workload.labels
    return container.name in SERVER_NAMES and any(str(labels.get(label)) in SERVER_NAMES for label in _NAME_LABELS)


def _runs_promtool(container: Container) -> bool:
    """Whether the container runs promtool, which is in the server's image, checks rules and holds no series."""
    command, shell = _strings(container.spec.get("command")), _shell_words(container)
    if shell is None:
        return bool(command) and _base(command[0]) == "promtool"
    # A script may check the rules first and then start the server.
    first = next(chain.from_iterable(_commands(shell)), "")
    return _base(first) == "promtool" and next(_server_calls(shell), None) is None


def is_agent(workload: Workload, container: Container) -> bool:
    """Whether the container forwards what it collects and keeps nothing to query, only a write-ahead log.

    That is Prometheus in agent mode, vmagent, Grafana's Alloy and Agent.
    """
    if product_of(container.image).name in AGENTS:
        return True
    is_operated_server = _is_operated_server(workload, container)
    if is_operated_server and workload.kind == "PrometheusAgent":
        return True
    if (shell := _shell_words(container)) is not None:
        return any(_asks_for_agent(arguments) for arguments in _server_calls(shell))
    command, arguments = _strings(container.spec.get("command")), _strings(container.spec.get("args"))
    if is_operated_server and not arguments:  # an amendment's would replace those that the operator makes
        arguments = _operated_arguments(workload.spec)
    return _asks_for_agent([*command, *arguments])


def _shell_words(container: Container) -> list[str] | None:
    """What a shell is given from its script on: the script, $0, $1, …; None if the container's command is no shell."""
    command = _strings(container.spec.get("command"))
    if not command or _base(command[0]) not in _SHELLS:
        return None
    words = [*command[1:], *_strings(container.spec.get("args"))]
    script = next((place for place, flag in enumerate(words, 1) if _SHELL_SCRIPT.fullmatch(flag)), len(words))
    return words[script:]


def _server_calls(shell: list[str]) -> Iterator[list[str]]:
    """The arguments of each call of the server, by name or path, that the shell's script makes."""
    for command in _commands(shell):
        program = next((place for place, word in enumerate(command, 1) if _base(word) == "prometheus"), None)
        if program is not None:
            yield command[program:]


def _commands(shell: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for token in _SHELL_TOKEN.finditer(shell[0] if shell else ""):
        if token["end"]:
            yield command
            command = []
        elif token["word"]:
            word = _SHELL_QUOTES.sub("", token["word"])
            command += shell[2:] if word in _ALL_ARGUMENTS else [word]
    yield command


def _operated_arguments(spec: Mapping[str, Any]) -> list[str]:
    """What an operator's resource adds to the command line of its Prometheus."""
    features = ",".join(_strings(spec.get("enableFeatures")))
    additional = items(spec, "additionalArgs", "spec")
    arguments = [(f"--{argument.get('name')}", argument.get("value")) for argument in additional]
    return [f"--enable-feature={features}", *(f"{name}={value}" if value else name for name, value in arguments)]


def _strings(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _base(program: str) -> str:
    return program.rpartition("/")[2]


def _asks_for_agent(words: Iterable[str]) -> bool:
    """Whether Prometheus runs as an agent with these words: in server mode it refuses --storage.agent.…"""
    return any(
        name == "--agent"
        or name.startswith(_AGENT_FLAG)
        or (name == "--enable-feature" and "agent" in value.split(","))
        for name, value in _flags([*words])
    )


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    """The flags and their values: a flag that takes one takes the next word, if it has none itself."""
    is_value = False
    for word, following in pairwise([*words, ""]):
        if is_value or not word.startswith("--"):
            is_value = False
            continue
        name, equals, value = word.partition("=")
        is_value = not equals and name[2:].removeprefix("no-") not in _SWITCHES
        yield name, following if is_value else value
