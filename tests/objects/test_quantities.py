"""Quantities: against what a real API server made of them, and against what people write."""

import json
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import DATA
from webhook.errors import BadQuantity
from webhook.objects.quantities import (
    MAX_BYTES,
    MOST,
    Memory,
    Quantity,
    format_memory,
    is_fraction_of_byte,
    parse_memory,
    parse_quantity,
)

ORACLE = [
    (json.loads(value), memory, exact)
    for value, memory, exact in (
        line.split("\t") for line in (DATA / "quantities.tsv").read_text(encoding="utf-8").splitlines()
    )
]
# 10**21 has no suffix, and the API server writes it without one: as "1". So it does with what ends in many zeros.
MISPRINTED = ("1000E", "999999999999999999.999999999k", 10**400)


def canonical_amount(text: str) -> Fraction:
    """Read the API server's own spelling: an integer with a suffix or an exponent."""
    match = re.fullmatch(r"(-?[0-9]+)(?:e(-?[0-9]+)|([numkMGTPE])|([KMGTPE])i)?", text)
    assert match is not None, text
    number, exponent, decimal, binary = match.groups()
    if binary:
        return Fraction(int(number) * 1024 ** " KMGTPE".index(binary))
    power = 3 * ("num kMGTPE".index(decimal) - 3) if decimal else int(exponent or 0)
    return int(number) * Fraction(10) ** power


def away_from_zero(amount: Fraction) -> int:
    return math.ceil(amount) if amount > 0 else math.floor(amount)


def within_most(amount: Fraction) -> Fraction:
    return max(Fraction(-MOST), min(Fraction(MOST), amount))


def is_accepted(value: Any) -> bool:
    try:
        parse_quantity(value)
    except BadQuantity:
        return False
    return True


def test_oracle_has_both_verdicts() -> None:
    refused = sum(memory == "REFUSED" for _, memory, _ in ORACLE)
    assert len(ORACLE) > 4000
    assert 1000 < refused < 2000


def test_accepts_what_the_api_server_accepts() -> None:
    assert [value for value, memory, _ in ORACLE if is_accepted(value) != (memory != "REFUSED")] == []


def test_amounts_are_the_api_servers() -> None:
    wrong = []
    for value, memory, exact in ORACLE:
        if memory != "REFUSED" and value not in MISPRINTED:
            amount = Fraction(parse_quantity(value))
            if Fraction(away_from_zero(amount * 1000), 1000) != within_most(canonical_amount(memory)):
                wrong.append((value, amount, memory))
            if exact and amount != within_most(canonical_amount(exact)):
                wrong.append((value, amount, exact))
    assert wrong == []


def test_bytes_are_the_api_servers() -> None:
    wrong = []
    for value, memory, _ in ORACLE:
        if memory != "REFUSED" and value not in MISPRINTED:
            expected = max(-MAX_BYTES, min(MAX_BYTES, away_from_zero(canonical_amount(memory))))
            if parse_memory(value) != expected:
                wrong.append((value, parse_memory(value), memory))
    assert wrong == []


def test_whatever_is_accepted_can_be_used() -> None:
    for value in (value for value, memory, _ in ORACLE if memory != "REFUSED"):
        amount = parse_quantity(value)
        for number in (amount, amount * amount, -amount, amount + 1, Decimal(parse_memory(value))):
            assert math.isfinite(float(number)), value
            assert len(str(int(number))) < 300, value
            assert len(f"{number.normalize():f}") < 300, value
            Fraction(str(float(number)))
        assert parse_memory(format_memory(parse_memory(value))) == parse_memory(value)


@pytest.mark.parametrize("exponent", [101, 400, 5_000, 999_999, 2**31 - 1])
def test_amounts_end_somewhere(exponent: int) -> None:
    """The exponent costs nothing, however large: none of these numbers is written out."""
    assert parse_quantity(f"1e{exponent}") == MOST
    assert parse_quantity(f"-1e{exponent}") == -MOST
    assert parse_quantity(f"1e-{exponent}") == Decimal("1e-9")
    assert parse_memory(f"1e{exponent}") == MAX_BYTES


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        pytest.param("128974848", "128974848", id="plain"),
        pytest.param("129e6", "129000000", id="exponent"),
        pytest.param("123Mi", "128974848", id="binary"),
        pytest.param("512m", "0.512", id="milli"),
        pytest.param("1E", "1000000000000000000", id="E-alone-is-exa"),
        pytest.param("1E3", "1000", id="E-and-digits-is-an-exponent"),
        pytest.param(".5Gi", "536870912", id="no-leading-digit"),
        pytest.param("5.Gi", "5368709120", id="no-trailing-digit"),
        pytest.param("+01Gi", "1073741824", id="sign-and-zero"),
        pytest.param("-1Gi", "-1073741824", id="negative-parses"),
        pytest.param("Mi", "0", id="no-digits"),
        pytest.param(" 1Gi ", "1073741824", id="spaces-around"),
        pytest.param("0.1n", "1e-9", id="up-to-nano"),
        pytest.param("-0.1n", "-1e-9", id="away-from-zero"),
        pytest.param("9007199254740993", "9007199254740993", id="above-float"),
        pytest.param("1.0000000001Ei", "1152921504722139126.460684698", id="more-than-28-digits"),
        pytest.param("12345678901234567890Ki", "9223372036854775807", id="clamped"),
        pytest.param("1e30", "1e30", id="decimal-is-not-clamped"),
        pytest.param("1e4294967297", "10", id="exponent-is-cut-to-int32"),
        pytest.param("1e2147483647", "1e100", id="no-exponent-is-written-out"),
        pytest.param("1e-2147483648", "1e-9", id="tiny"),
        pytest.param("9" * 5000, "1e100", id="more-digits-than-int-reads"),
        pytest.param("1e" + "0" * 5000 + "3", "1000", id="long-exponent"),
        pytest.param(536870912, "536870912", id="int"),
        pytest.param(10**5000, "1e5000", id="int-of-more-digits-than-str-writes"),
        pytest.param(0.1, "0.1", id="float-as-written"),
        pytest.param(1e22, "1e22", id="large-float"),
    ],
)
def test_parse_quantity(value: Any, amount: str) -> None:
    assert parse_quantity(value) == min(Decimal(amount), MOST)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1GB", "'1GB' is not a quantity: write 1G or 1Gi"),
        ("1K", "'1K' is not a quantity: write 1k or 1Ki"),
        ("512MB", "'512MB' is not a quantity: write 512M or 512Mi"),
        ("1g", "'1g' is not a quantity: write 1G or 1Gi"),
        ("1Gib", "'1Gib' is not a quantity: write 1Gi"),
        ("512mi", "'512mi' is not a quantity: write 512Mi"),
        ("512 Mi", "'512 Mi' is not a quantity: write 512Mi"),
        ("512Mi\n", "'512Mi\\n' is not a quantity: write 512Mi"),
        ("512 m", "'512 m' is not a quantity: write 512M or 512Mi"),
        ("100 bytes", "'100 bytes' is not a quantity: write 100"),
        ("1e3Mi", "'1e3Mi' is not a quantity: write 1000Mi"),
        ("1e", "'1e' is not a quantity: write 1E or 1Ei"),
        ("1,5Gi", "'1,5Gi' is not a quantity: write 1.5Gi"),
        ("1,024,000", "'1,024,000' is not a quantity: write 1024000"),
        ("1_000", "'1_000' is not a quantity: write 1000"),
        ("0x10", "'0x10' is not a quantity: write 16"),
        ("-1g", "'-1g' is not a quantity: write -1G or -1Gi"),
        ("", "'' is not a quantity: write a number and a suffix, such as 512Mi"),
        ("max", "'max' is not a quantity: write a number and a suffix, such as 512Mi"),
        ("1.2.3Gi", "'1.2.3Gi' is not a quantity: write a number and a suffix, such as 512Mi"),
        (f"1e{2**63}", "'1e9223372036854775808' is not a quantity: write a number and a suffix, such as 512Mi"),
        ("9" * 99 + "x", f"'{'9' * 59}… is not a quantity: write a number and a suffix, such as 512Mi"),
        (float("inf"), "'inf' is not a quantity: write a number and a suffix, such as 512Mi"),
        (True, "True is not a quantity: write a number and a suffix, such as 512Mi"),
        (None, "None is not a quantity: write a number and a suffix, such as 512Mi"),
        ({}, "{} is not a quantity: write a number and a suffix, such as 512Mi"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    for parse in (parse_quantity, parse_memory, is_fraction_of_byte, Memory.parse):
        with pytest.raises(BadQuantity) as caught:
            parse(value)
        assert str(caught.value) == message


def test_one_and_true_are_not_the_same() -> None:
    assert parse_memory(1) == 1
    with pytest.raises(BadQuantity):
        parse_memory(True)


def test_every_spelling_that_is_proposed_is_right() -> None:
    proposals = []
    for value, memory, _ in ORACLE:
        if memory == "REFUSED":
            with pytest.raises(BadQuantity) as caught:
                parse_quantity(value)
            message = str(caught.value)
            assert "\n" not in message
            proposals += message.rpartition(": write ")[2].removeprefix("a number and a suffix, such as ").split(" or ")
    assert len(set(proposals)) > 50
    assert [proposal for proposal in proposals if not is_accepted(proposal)] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("512Mi", 536870912),
        ("0.5Gi", 536870912),
        ("512m", 1),
        ("0.3Gi", 322122548),
        ("-0.3Gi", -322122548),
        ("1.0000000001", 2),
        ("0", 0),
        (0.5, 1),
        ("1e30", MAX_BYTES),
        ("-1e30", -MAX_BYTES),
        ("1e2147483647", MAX_BYTES),
    ],
)
def test_parse_memory(value: Any, expected: int) -> None:
    assert parse_memory(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("512m", True, id="half-a-byte"),
        pytest.param("0.5", True, id="half-a-byte-as-decimal"),
        pytest.param(0.5, True, id="half-a-byte-as-number"),
        pytest.param("1n", True, id="nano"),
        pytest.param("1500m", True, id="one-and-a-half-bytes"),
        pytest.param("1.5", True, id="the-same-before-the-api-server-rewrote-it"),
        pytest.param("1048576m", True, id="1Ti-in-the-wrong-unit"),
        pytest.param("0", False, id="nothing"),
        pytest.param("0m", False, id="nothing-in-milli"),
        pytest.param("1000m", False, id="whole"),
        pytest.param("128974848000m", False, id="large-and-whole"),
        pytest.param("0.3Gi", False, id="large"),
        pytest.param("322122547200m", False, id="0.3Gi-as-the-api-server-rewrites-it"),
        pytest.param("512Mi", False, id="usual"),
        pytest.param("-512m", False, id="negative"),
    ],
)
def test_is_fraction_of_byte(value: Any, expected: bool) -> None:
    assert is_fraction_of_byte(value) is expected


def test_a_fraction_of_a_byte_is_one_however_the_api_server_spells_it() -> None:
    assert [
        (value, exact)
        for value, _, exact in ORACLE
        if exact and value not in MISPRINTED and is_fraction_of_byte(value) != is_fraction_of_byte(exact)
    ] == []


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1000, "1000"),
        (1024, "1Ki"),
        (1025 * 1024, "1025Ki"),
        (512 * 2**20, "512Mi"),
        (1536 * 2**20, "1536Mi"),
        (6 * 2**30, "6Gi"),
        (512_000_000, "512M"),
        (322122548, "322122548"),
        (2**62, "4Ei"),
        (2**80, "1048576Ei"),
        (MAX_BYTES, "9223372036854775807"),
        (4 * 10**9, "4G"),
        (-4 * 10**9, "-4G"),
        (6500 * 10**6, "6500M"),
        (16273408 * 1000, "15892000Ki"),
        (5 * 10**18, "5E"),
        (-(2**30), "-1Gi"),
    ],
)
def test_format_memory(amount: int, text: str) -> None:
    assert format_memory(amount) == text


@given(st.integers(-MAX_BYTES, MAX_BYTES) | st.integers(-(2**13), 2**13).map(lambda number: number * 2**40))
def test_format_memory_loses_nothing(amount: int) -> None:
    assert parse_memory(format_memory(amount)) == amount


@given(st.text(alphabet="0123456789.+-eEinumkKMGTP ", max_size=40) | st.text() | st.integers() | st.floats())
def test_any_text_parses_or_is_refused(value: Any) -> None:
    if is_accepted(value):
        assert abs(parse_memory(value)) <= MAX_BYTES
        assert is_fraction_of_byte(value) in (True, False)


@pytest.mark.parametrize(
    "text", ["9" * 200_000 + "x", "1" * 200_000 + ".Mi", "1e" + "0" * 200_000 + "x", " " * 200_000]
)
def test_long_texts_take_no_more_than_their_length(text: str) -> None:
    # Quadratic backtracking would take minutes here.
    assert is_accepted(text) is text.endswith("Mi")


QUANTITIES = st.from_regex(r"[ +-]?[0-9]{0,3}\.?[0-9]{0,3}([eE][+-]?[0-9]{1,3}|[numkKMGTPE]?i?)?[B ]?", fullmatch=True)


@given(QUANTITIES | st.text(alphabet="0123456789.+-eEinumkKMGTP ", max_size=12) | st.text())
@settings(max_examples=1000)
def test_a_schema_takes_what_a_configuration_may_name(text: str) -> None:
    is_matched = re.fullmatch(Quantity.PATTERN, text) is not None
    assert is_matched == is_nameable(text)
    # Of what the API server takes, only what nobody writes on purpose is missing.
    assert is_matched == (is_accepted(text) and bool(re.match(r"\+?\.?[0-9]", text)) and text == text.strip())


def is_nameable(text: str) -> bool:
    try:
        Quantity.parse(text)
    except BadQuantity:
        return False
    return True


def test_memory_from_a_configuration() -> None:
    memory = Memory.parse("1.5Gi")
    assert memory == 1610612736
    assert isinstance(memory, int)
    assert (str(memory), f"{memory}") == ("1536Mi", "1536Mi")
    assert Memory.parse(0) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("512m", "'512m' is a fraction of a byte: write 512Mi"),
        (0.5, "0.5 is a fraction of a byte: write whole bytes, or a suffix such as Mi"),
        ("-1Gi", "'-1Gi' is negative: memory is 0 or more"),
        ("Mi", "'Mi' has no number: write 0, or an amount such as 512Mi"),
    ],
)
def test_memory_that_a_configuration_may_not_name(value: Any, message: str) -> None:
    with pytest.raises(BadQuantity) as caught:
        Memory.parse(value)
    assert str(caught.value) == message
