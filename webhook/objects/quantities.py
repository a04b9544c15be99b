"""Kubernetes quantities, read as the API server reads them: exactly, and with its oddities.

tests/data/quantities.tsv holds what a real API server made of some thousand inputs.
"""

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_UP, Context, Decimal
from functools import lru_cache
from typing import ClassVar, Self

from webhook.errors import BadQuantity

MAX_BYTES = 2**63 - 1
"""More than this is read as this, as in apimachinery."""

MOST = Decimal(10) ** 100
"""More than this of anything is read as this: the API server takes "1e5000", and nobody can print or multiply that."""

# "E" before digits is an exponent, alone it is exa: hence the exponent first.
_GRAMMAR = re.compile(r"([+-]?[0-9]*+(?:\.[0-9]*+)?)(?:[eE]([+-]?)0*([0-9]{1,19})|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{prefix}i": Decimal(2 ** (10 * power)) for power, prefix in enumerate("KMGTPE", 1)}
_BINARY_UNITS = ("", *_BINARY)
_DECIMAL_UNITS = ("", "k", "M", "G", "T", "P", "E")

# Go's strings.TrimSpace, without the control characters: in JSON those come escaped, and are refused.
_SPACES = (
    " \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# The default context would round to 28 digits: 1.0000000001Ei has more.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NANO = Decimal("1e-9")
_PAGE = 4096


def parse_quantity(value: str | int | float) -> Decimal:
    """Return the exact amount: "512Mi" -> 536870912, "100m" -> 0.1, "1E" -> 10**18, "1E3" -> 1000, "Mi" -> 0.

    Below nano it is rounded away from zero; with a binary suffix it stops at ±MAX_BYTES. Decimal amounts go on, as in
    the API ("1e30" is 10**30), up to ±MOST: its square still is an ordinary int, float and Decimal.
    Negative amounts parse; it is validation that refuses them, later. Raises BadQuantity, also for None and bool.
    Source: k8s.io/apimachinery/pkg/api/resource/quantity.go, ParseQuantity and UnmarshalJSON.
    """
    return _read(value)[0]


def parse_memory(value: str | int | float) -> int:
    """Return a quantity in bytes, rounded away from zero and kept within ±MAX_BYTES: "512Mi" -> 536870912, "512m" -> 1.

    Raises BadQuantity as parse_quantity does.
    """
    return _read(value)[1]


def is_fraction_of_byte(value: str | int | float) -> bool:
    """Return whether an amount of memory can only be a slip, such as "512m", half a byte, for "512Mi".

    That is so if it isn't whole bytes and would not fill one page. The suffix says nothing: the API server rewrites an
    honest "0.3Gi" to "322122547200m" before a webhook sees it, and "0.5" to "500m".
    Raises BadQuantity as parse_quantity does.
    """
    amount, rounded_up = _read(value)
    return 0 < amount < _PAGE and amount != rounded_up


# The same few sizes are told again and again.
@lru_cache(maxsize=1024)
def format_memory(amount: int) -> str:
    """Return bytes as a person writes them, exactly: "6Gi", "1536Mi", and "4G" rather than 3906250Ki."""
    if amount == 0:
        return "0"
    lowest_bit = (amount & -amount).bit_length() - 1
    power = min(lowest_bit // 10, len(_BINARY))
    binary = str(int(amount) >> (10 * power))
    digits = str(int(amount))
    thousands = min((len(digits) - len(digits.rstrip("0"))) // 3, len(_DECIMAL_UNITS) - 1)
    decimal = digits[: len(digits) - 3 * thousands]
    if thousands > 1 and len(decimal) < len(binary):
        return f"{decimal}{_DECIMAL_UNITS[thousands]}"
    return f"{binary}{_BINARY_UNITS[power]}"


class Quantity(str):
    """An amount of any resource that a configuration names, as it is written there."""

    PATTERN: ClassVar[str] = r"^[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?0*[0-9]{1,18}|[numkMGTPE]|[KMGTPE]i)?$"
    """What `parse` takes, for JSON Schemas: read so by RE2, too."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadQuantity, also for an amount that is negative or has no digits."""
        parse_quantity(text)
        if text.strip(_SPACES).startswith("-"):
            raise BadQuantity(f"{_shown(text)} is negative: an amount is 0 or more")
        if not re.fullmatch(cls.PATTERN, text, re.ASCII):
            raise BadQuantity(_complaint(text))
        return cls(text)


class Memory(int):
    """An amount of bytes that a configuration names; as text it is what format_memory makes of it."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: str | int | float) -> Self:
        """Read a quantity; raise BadQuantity for a negative one, a fraction of a byte or one without digits, too."""
        amount = parse_memory(value)
        if amount < 0:
            raise BadQuantity(f"{_shown(value)} is negative: memory is 0 or more")
        if is_fraction_of_byte(value):
            milli = isinstance(value, str) and value.endswith("m")
            remedy = f"write {str(value)[:-1]}Mi" if milli else "write whole bytes, or a suffix such as Mi"
            raise BadQuantity(f"{_shown(value)} is a fraction of a byte: {remedy}")
        if amount == 0 and "0" not in str(value):
            raise BadQuantity(f"{_shown(value)} has no number: write 0, or an amount such as 512Mi")
        if isinstance(value, str):
            Quantity.parse(value)
        return cls(amount)

    def __str__(self) -> str:
        return format_memory(self)


def _read(value: str | int | float) -> tuple[Decimal, int]:
    """The exact amount, and the same in whole units as parse_memory rounds it."""
    text = value if isinstance(value, str) else _as_text(value)
    # No amount needs a longer text, and long ones would fill the cache's memory.
    return _read_cached(text) if len(text) <= 32 else _read_text(text)


def _as_text(value: object) -> str:
    """A number as it stands in JSON or YAML."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(Decimal(value))  # str(int) refuses more than 4300 digits
    raise BadQuantity(_complaint(value))


def _read_text(text: str) -> tuple[Decimal, int]:
    trimmed = text.strip(_SPACES)
    match = _GRAMMAR.fullmatch(trimmed)
    if match is None or not trimmed:
        raise BadQuantity(_complaint(text))
    number, sign, digits, suffix = match.groups()
    exponent = _DECIMAL.get(suffix, 0) if digits is None else _exponent(text, int(sign + digits))
    if number.strip("+-."):
        amount = Decimal(number)
    elif suffix in {"Pi", "Ei"} or exponent < -9:
        raise BadQuantity(_complaint(text))
    else:
        amount = Decimal(0)  # "Mi", "+" and "." are 0 to the API server; of the largest and smallest it wants digits.
    if suffix in _BINARY:
        amount = _within(_EXACT.multiply(amount, _BINARY[suffix]), Decimal(MAX_BYTES))
    elif exponent:
        amount = amount.scaleb(exponent, _EXACT)
    if amount.as_tuple().exponent < -9:  # type: ignore[operator]  # neither infinite nor NaN by the grammar
        amount = amount.quantize(_NANO, ROUND_UP, _EXACT)
    return _within(amount, MOST), int(_within(amount, Decimal(MAX_BYTES)).to_integral_value(ROUND_UP))


def _within(amount: Decimal, most: Decimal) -> Decimal:
    return min(max(amount, -most), most)


_read_cached = lru_cache(maxsize=4096)(_read_text)


def _exponent(text: str, exponent: int) -> int:
    """apimachinery parses an exponent as int64 and then cuts it to int32: "1e4294967297" is 10."""
    if not -(2**63) <= exponent < 2**63:
        raise BadQuantity(_complaint(text))
    return (exponent + 2**31) % 2**32 - 2**31


_MISSPELT = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(e[+-]?[0-9]{1,2})?(?:([kmgtpe])(i?))?(?:b|bytes?)?", re.ASCII | re.IGNORECASE
)
_THOUSANDS = re.compile(r",(?=[0-9]{3}(?![0-9]))")


def _complaint(value: object) -> str:
    """One line that names the value and, where it can be guessed, what was meant."""
    spellings = _spellings(value) if isinstance(value, str) and len(value) <= 40 else []
    remedy = " or ".join(spellings) or "a number and a suffix, such as 512Mi"
    return f"{_shown(value)} is not a quantity: write {remedy}"


def _spellings(text: str) -> list[str]:
    tight = _THOUSANDS.sub("", "".join(text.split()).replace("_", "")).replace(",", ".")
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,15}", tight):
        return [str(int(tight, 16))]
    match = _MISSPELT.fullmatch(tight)
    if match is None:
        return []
    number, exponent, letter, binary = match.groups()
    if exponent:  # it excludes a suffix: 1e3Mi
        number = format(Decimal(number + exponent), "f")
        if len(number) > 40:  # nobody meant that
            return []
    if letter is None:
        return [number]
    decimal_suffix = "k" if letter in "kK" else letter.upper()
    binary_suffix = f"{letter.upper()}i"
    return [f"{number}{suffix}" for suffix in ((binary_suffix,) if binary else (decimal_suffix, binary_suffix))]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
