"""Rows of CSV, as spreadsheets read them."""

from __future__ import annotations

import csv
import io

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters that a spreadsheet takes for the beginning of a formula."""


def csv_row(*values: object) -> str:
    """A line of CSV. What a spreadsheet would take for a formula begins with an apostrophe, which makes it text."""
    text = io.StringIO()
    csv.writer(text).writerow(
        [f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value for value in values]
    )
    return text.getvalue()
