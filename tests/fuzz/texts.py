"""Texts that people and clusters write: configurations, manifests, facts, quantities."""

from __future__ import annotations

import json
import random
import re
import tempfile
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from tests.builders import ROOT, TODAY, config, facts_of
from tests.fuzz.mutation import mutated, mutated_bytes
from tests.fuzz.reviews import CONFIGS, FACTS
from tests.oracle.quantities import ALPHABET, EXPONENTS, NUMBERS, ODD, SUFFIXES
from webhook.check import check_files
from webhook.config import load_config
from webhook.errors import UNREADABLE, BadConfig, BadQuantity
from webhook.objects.facts import NO_FACTS
from webhook.objects.facts.limit_ranges import read_items
from webhook.objects.limit_range_validation import wrong_with
from webhook.objects.limitranger import show_amount
from webhook.objects.quantities import (
    Memory,
    Quantity,
    format_memory,
    is_fraction_of_byte,
    parse_memory,
    parse_quantity,
)
from webhook.objects.repair import repair
from webhook.objects.wire import MANAGED_FIELDS, UNDECODABLE, cut

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def make_config(dice: random.Random) -> bytes:
    return mutated_bytes(dice.choice(CONFIGS[1:]).encode(), dice)


def check_config(data: bytes) -> None:
    try:
        load_config(data, "config.yaml")
    except BadConfig as error:
        assert str(error).startswith("config.yaml:"), "no line is named"


@cache
def _manifests() -> list[bytes]:
    return [file.read_bytes() for file in sorted(ROOT.glob("policies/*/*/*.yaml"))]


def make_file(dice: random.Random) -> bytes:
    return mutated_bytes(b"---\n".join(dice.choices(_manifests(), k=dice.randrange(1, 4))), dice)


def check_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        report = check_files([file.name], config(CONFIGS[-2]), NO_FACTS, today=TODAY)
    assert report.exit_code(strict=True) in (0, 1, 2)


def make_fact(dice: random.Random) -> bytes:
    # Without the ConfigMap: a name may be swapped for its text of several lines, which no API server takes.
    facts = [fact for fact in FACTS if fact["kind"] != "ConfigMap"]
    return json.dumps(mutated(dice.choice(facts), dice)).encode()


def check_fact(data: bytes) -> None:
    obj = msgspec.json.decode(repair(data))
    try:
        facts_of([obj] if isinstance(obj, dict) else [])
    except UNREADABLE as error:
        assert "\n" not in str(error)


def make_json(dice: random.Random) -> bytes:
    return mutated_bytes(json.dumps(dice.choice(FACTS)).encode(), dice)


def check_json(data: bytes) -> None:
    """What is decoded as it stands means the same once it is repaired."""
    mended = repair(cut(data, MANAGED_FIELDS))
    try:
        plain = msgspec.json.decode(data)
    except UNDECODABLE:
        return
    assert repair(mended) == mended
    assert b"managedFields" in data or _with_floats(msgspec.json.decode(mended)) == _with_floats(plain)


def _with_floats(value: Any) -> Any:
    """The value with every number, and every string that is one, as a float: repair writes large numbers as strings."""
    if isinstance(value, dict):
        return {key: _with_floats(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_with_floats(child) for child in value]
    is_number = isinstance(value, (int, float, str)) and not isinstance(value, bool) and _NUMBER.fullmatch(str(value))
    return float(str(value)) if is_number else value


def make_quantity(dice: random.Random) -> bytes:
    text = dice.choice([*NUMBERS, *map(str, ODD), str(dice.randrange(10 ** dice.randrange(1, 40)))])
    text += dice.choice([*SUFFIXES, *EXPONENTS, f"e{dice.randrange(-(10**12), 10**12)}"])
    for _ in range(dice.randrange(3)):
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(ALPHABET) * dice.choice([0, 1, 1, 300]) + text[at + dice.randrange(2) :]
    return text.encode()


def check_quantity(data: bytes) -> None:
    text = data.decode()
    try:
        amount, size = parse_quantity(text), parse_memory(text)
    except BadQuantity as error:
        assert len(str(error)) < 300
        return
    assert parse_memory(format_memory(size)) == size
    assert (amount > 0) == (size > 0)
    assert is_fraction_of_byte(text) <= (amount > 0)
    float(amount * amount), int(amount), show_amount("memory", amount), show_amount("cpu", amount)
    for part in ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio"):
        for item in read_items({"limits": [{"type": "Container", "max": {"memory": "1Gi"}, part: {"memory": text}}]}):
            wrong_with(item)
    assert parse_quantity(str(Decimal(size))) == size
    for read in (Memory.parse, Quantity.parse):
        try:
            read(text)
        except BadQuantity:
            continue
