"""Types that are decoded by several threads, worked out by msgspec before there are any.

msgspec works out a struct's fields when it is first used. Two threads that use one for the first time at once read what
is only half there, and the process ends by a segmentation fault (seen with msgspec 0.19 to 0.21).
"""

from __future__ import annotations

from typing import Any

import msgspec


def prepare(*types: Any) -> None:
    """Have msgspec work out these types, and those of their fields; to be called where they are declared."""
    for type_ in types:
        msgspec.json.Decoder(type_)
