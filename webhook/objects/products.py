"""Which product an image is, whoever distributes it.

Registries get mirrored, and distributors write their own names: bitnami/grafana-loki, ose-prometheus-rhel9,
prometheus-fips, mirrored-prometheus-prometheus, quay.io_prometheus_prometheus. What is known of them is data, in
products.json, whose "about" says how to add a product or a distributor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from webhook.errors import BadImage
from webhook.objects.images import parse_image

ProductRole = Literal["monitoring", "collector", "lookalike", "other"]

_SEPARATORS = re.compile(r"[._-]+")
# A mirror that flattens a path leaves its parts recognisable if it joins them by these: names have neither.
_FLATTENED = re.compile(r"_+|--+")


class Product(NamedTuple):
    """What an image is. `name` is its publisher's own ("prometheus", "loki"), empty for what isn't monitoring."""

    name: str
    role: ProductRole


class _Table(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The content of products.json, whose "about" explains each list."""

    about: tuple[str, ...]
    names: frozenset[str]
    words: frozenset[str]
    publishers: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    collectors: frozenset[str]
    agents: frozenset[str]
    lookalikes: tuple[str, ...]
    distributors: frozenset[str]
    registries: tuple[str, ...]
    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]
    marks: tuple[str, ...]


_TABLE = msgspec.json.decode(Path(__file__).with_name("products.json").read_bytes(), type=_Table)
AGENTS = _TABLE.agents
"""Names of the products that forward what they collect, and keep a write-ahead log of it."""
WORDS = _TABLE.words
"""Names of products that others call their own software: they need more to tell."""

_OTHER, _LOOKALIKE = Product("", "other"), Product("", "lookalike")


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(sorted((re.escape(_SEPARATORS.sub("-", text)) for text in texts), key=len, reverse=True))


_REGISTRY = re.compile(rf"(?:{_alternatives(_TABLE.registries)})-")
_PREFIX = re.compile(rf"(?:{_alternatives(_TABLE.prefixes)})-")
_SUFFIX = re.compile(rf"-(?:{'|'.join(_TABLE.suffixes)})$")
_MARK = re.compile("|".join(_TABLE.marks))
"""The prefixes and suffixes that only a distributor of known products writes."""
_FLAT = {f"{publisher}-{name}": name for publisher, names in _TABLE.publishers.items() for name in names}
"""What a mirror that flattens paths, or Bitnami, calls a publisher's product."""
_LOOKALIKE_STARTS = tuple(name[:-1] for name in _TABLE.lookalikes if name.endswith("*"))
_LOOKALIKE_ENDS = tuple(name[1:] for name in _TABLE.lookalikes if name.startswith("*"))


class _Reading(NamedTuple):
    """One reading of an image's path: the part above the name, the name, and whether a distributor's mark was taken
    off."""

    above: tuple[str, ...]
    name: str
    is_distributed: bool = False


@lru_cache(maxsize=4096)
def product_of(image: str) -> Product:
    """The product that the image is; of role "other" where its name says nothing."""
    try:
        parsed = parse_image(image)
    except BadImage:
        return _OTHER
    *above, base = f"{parsed.registry or ''}/{parsed.repository}".split("/")
    found = (_found(reading) for reading in _readings([_plain(part) for part in above], base))
    return next(filter(None, found), _OTHER)


def _plain(segment: str) -> str:
    return _SEPARATORS.sub("-", segment)


def _readings(above: list[str], base: str) -> Iterator[_Reading]:
    """What the image's path may mean, the plainest reading first."""
    name = _plain(base)
    # docker.io-grafana/loki
    above += [_REGISTRY.sub("", part, count=1) for part in above]
    yield _Reading(tuple(above), name)
    yield _Reading(tuple(above), *_bare(name))
    if len(parts := _FLATTENED.split(base)) > 2 and ("." in parts[0] or _REGISTRY.match(name)):
        # quay.io_openshift_origin-prometheus: its parts are told apart as those of a path are.
        yield _Reading(tuple(_plain(part) for part in parts[:-1]), *_bare(_plain(parts[-1])))


def _bare(name: str) -> tuple[str, bool]:
    """The name without what mirrors and distributors put round it, and whether some of that proves a distributor."""
    is_distributed = False
    while name not in _FLAT and name not in _TABLE.names:
        match = _REGISTRY.match(name) or _PREFIX.match(name) or _SUFFIX.search(name)
        if match is None:
            break
        is_distributed |= _MARK.fullmatch(match[0].strip("-")) is not None
        name = name[: match.start()] + name[match.end() :]
    return name, is_distributed


def _found(reading: _Reading) -> Product | None:
    above, name, is_distributed = reading
    if name in _TABLE.lookalikes or name.startswith(_LOOKALIKE_STARTS) or name.endswith(_LOOKALIKE_ENDS):
        return _LOOKALIKE
    is_distributed |= not _TABLE.distributors.isdisjoint(above)
    if not (
        name in _TABLE.names
        or name in _FLAT
        or (is_distributed and name in _TABLE.words)
        or any(name in _TABLE.publishers.get(part, ()) for part in above)
    ):
        return None
    name = _FLAT.get(name, name)
    name = _TABLE.aliases.get(name, name)
    return Product(name, "collector" if name in _TABLE.collectors else "monitoring")
